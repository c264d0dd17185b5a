//! What a new client starts from: the authorities' keys and a recent consensus, in one file.
//!
//! Encoding: `"FXB1" | authority count 1 | keys 32 each, ascending | signed consensus`.

use std::io;
use std::path::Path;

use crate::consensus::Consensus;
use crate::signed::{Authorities, CONSENSUS_BYTES_MAX, SignedConsensus, VerifyError};
use crate::store::{read_bounded, write_atomic};
use crate::wire::{DecodeError, Reader};

const MAGIC: &[u8; 4] = b"FXB1";
const BYTES_MAX: usize = CONSENSUS_BYTES_MAX + 256;

/// A network to join.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bootstrap {
    /// Whose signatures to believe. Whoever hands out this file is trusted with them.
    pub authorities: Authorities,
    /// A recent document, verified on use.
    pub consensus: SignedConsensus,
}

impl Bootstrap {
    /// Encodes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        self.authorities.encode(&mut bytes);
        bytes.extend_from_slice(&self.consensus.encode());
        bytes
    }

    /// Decodes the canonical bytes; the consensus inside is not verified yet.
    ///
    /// # Errors
    /// Not the canonical encoding, or too large.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.len() > BYTES_MAX {
            let limit_bytes = BYTES_MAX;
            return Err(DecodeError::TooLarge { limit_bytes });
        }
        let mut reader = Reader::new(bytes);
        reader.magic(MAGIC)?;
        let authorities = Authorities::decode(&mut reader)?;
        let consensus = SignedConsensus::decode(reader.rest())?;
        Ok(Self {
            authorities,
            consensus,
        })
    }

    /// Verifies the document under the keys of the file.
    ///
    /// # Errors
    /// As [`SignedConsensus::verify`].
    pub fn verify(&self) -> Result<Consensus, VerifyError> {
        self.consensus.verify(&self.authorities, None)
    }

    /// Reads a bootstrap file.
    ///
    /// # Errors
    /// The file can't be read, or is no bootstrap file (`InvalidData`).
    pub fn read(path: &Path) -> io::Result<Self> {
        let bytes = read_bounded(path, BYTES_MAX)?;
        Self::decode(&bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }

    /// Writes a bootstrap file by atomic rename.
    ///
    /// # Errors
    /// The file system's.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        write_atomic(path, &self.encode())
    }
}
