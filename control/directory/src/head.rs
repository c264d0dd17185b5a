//! A consensus without its nodes: what it follows, and what the authorities brought to it.

use crate::epoch::Parameters;
use crate::signed::AUTHORITIES_MAX;
use crate::wire::{DecodeError, Reader, put_count, put_optional};

/// Most bytes before the records.
pub(crate) const HEAD_BYTES_MAX: usize =
    4 + 16 + 2 + 1 + 25 + 4 + 4 + 32 + 32 + 32 + 1 + AUTHORITIES_MAX * (33 + 33 + 4) + 2;
pub(crate) const MAGIC: &[u8; 4] = b"FXC2";
/// Where the epoch stands: signatures name it, and are checked before anything is parsed.
pub(crate) const EPOCH_OFFSET: usize = 4 + 16 + 2 + 1 + 25;

/// What a document says of the one that it follows; zero before a network's first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Previous {
    /// Its epoch.
    pub epoch: u32,
    /// BLAKE3 of its bytes without signatures.
    pub digest: [u8; 32],
    /// Its beacon.
    pub beacon: [u8; 32],
}

/// What a document says of an authority.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// What it commits to for the next document.
    pub commit: Option<[u8; 32]>,
    /// The value whose commitment stood in the document before.
    pub reveal: Option<[u8; 32]>,
    /// Up to and with this epoch its commitments are left out; 0 for never.
    pub excluded_until: u32,
}

/// All of a document but its nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Which network.
    pub network: [u8; 16],
    /// Of the authority set that signs it.
    pub generation: u16,
    /// How it was computed.
    pub method: u8,
    /// The network's parameters.
    pub parameters: Parameters,
    /// The epoch it is for.
    pub epoch: u32,
    /// The document before.
    pub previous: Previous,
    /// The epoch's public randomness.
    pub beacon: [u8; 32],
    /// One an authority, in the order of its set.
    pub parts: Vec<Part>,
}

impl Head {
    /// The head of a document that follows none and names no authority: all but parameters and epoch is zero.
    pub fn bare(parameters: Parameters, epoch: u32) -> Head {
        Head {
            network: [0; 16],
            generation: 0,
            method: 0,
            parameters,
            epoch,
            previous: Previous::default(),
            beacon: [0; 32],
            parts: Vec::new(),
        }
    }

    /// Whether it is a network's first document.
    pub fn is_first(&self) -> bool {
        self.previous.digest == [0; 32]
    }

    pub(crate) fn encode(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&self.network);
        bytes.extend_from_slice(&self.generation.to_be_bytes());
        bytes.push(self.method);
        self.parameters.encode(bytes);
        bytes.extend_from_slice(&self.epoch.to_be_bytes());
        bytes.extend_from_slice(&self.previous.epoch.to_be_bytes());
        bytes.extend_from_slice(&self.previous.digest);
        bytes.extend_from_slice(&self.previous.beacon);
        bytes.extend_from_slice(&self.beacon);
        put_count(bytes, self.parts.len());
        for part in &self.parts {
            for value in [&part.commit, &part.reveal] {
                put_optional(bytes, value.as_ref().map(<[u8; 32]>::as_slice));
            }
            bytes.extend_from_slice(&part.excluded_until.to_be_bytes());
        }
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Head, DecodeError> {
        reader.magic(MAGIC)?;
        let (network, generation, method) = (reader.array()?, reader.u16()?, reader.u8()?);
        let parameters = Parameters::decode(reader)?;
        let epoch = reader.u32()?;
        let previous = Previous {
            epoch: reader.u32()?,
            digest: reader.array()?,
            beacon: reader.array()?,
        };
        let beacon = reader.array()?;
        let count = reader.count(0, AUTHORITIES_MAX, "authority count")?;
        let parts = (0..count)
            .map(|_| {
                Ok(Part {
                    commit: reader.optional("commit flag")?,
                    reveal: reader.optional("reveal flag")?,
                    excluded_until: reader.u32()?,
                })
            })
            .collect::<Result<_, DecodeError>>()?;
        Ok(Head {
            network,
            generation,
            method,
            parameters,
            epoch,
            previous,
            beacon,
            parts,
        })
    }
}
