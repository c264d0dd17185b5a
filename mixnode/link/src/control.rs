//! Frames between a client and its gateway that are not packets: attaching, proving an address, and fetching a
//! consensus. Each is the 1,200-byte content of one link frame of kind control and takes one of the client's (or
//! the gateway's) ordinary Poisson slots, so that nothing of it shows on the wire. One more goes from node to node.
//!
//! Layout: `type 1 | zero 1 | chunk 2 | epoch 4 | number 4 | length 2 | zero 2 | data`, integers little-endian, where
//! `number` is the rate of attach frames and the total length of chunk frames. Everything unused is zero.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use arrayvec::ArrayVec;

/// Bytes of a control frame: the content of a link frame.
pub const FRAME_BYTES: usize = crate::CONTENT_BYTES;
const HEAD_BYTES: usize = 16;
/// Bytes of a consensus that one chunk frame carries.
pub const CHUNK_BYTES: usize = FRAME_BYTES - HEAD_BYTES;
/// Longest document that is fetched in chunks: the longest signed consensus, which whoever fetches one checks.
pub const DOCUMENT_BYTES_MAX: usize = 3_091_428;
/// Random bytes of a challenge.
pub const CHALLENGE_BYTES: usize = 8;
/// As an epoch in a fetch: the newest the gateway has.
pub const LATEST: u32 = u32::MAX;
/// As an epoch in a fetch: the chain of authority sets in place of a consensus.
pub const AUTHORITIES: u32 = u32::MAX - 1;

const _: () = assert!(DOCUMENT_BYTES_MAX.div_ceil(CHUNK_BYTES) <= u16::MAX as usize);

/// Why a frame's content is not a control frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// No such type.
    #[error("unknown type of control frame")]
    Type,
    /// The length of the data is not what the type, the total and the chunk's number make it.
    #[error("wrong length of a control frame's data")]
    Length,
    /// A field that this type does not use is not zero.
    #[error("an unused field of a control frame is not zero")]
    Unused,
}

/// A control frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Control {
    /// Client to gateway: deliver to this session, at this rate if allowed.
    Attach {
        /// Rate asked for, packets a second.
        rate_pps: u32,
    },
    /// Gateway to client: attached.
    Attached {
        /// Rate of the gateway's Poisson stream to the client, packets a second.
        rate_pps: u32,
    },
    /// Client to gateway: send me a chunk of the signed consensus.
    Fetch {
        /// Its epoch, or [`LATEST`]; [`AUTHORITIES`] for who signs it.
        epoch: u32,
        /// Which chunk, from 0.
        chunk: u16,
    },
    /// Gateway to client: a chunk; `total_bytes` 0 says that there is no such document.
    Chunk {
        /// The document's epoch, or [`AUTHORITIES`].
        epoch: u32,
        /// Bytes of the whole encoded document.
        total_bytes: u32,
        /// Which chunk.
        chunk: u16,
        /// [`CHUNK_BYTES`] of it, fewer in the last chunk.
        data: Box<ArrayVec<u8, CHUNK_BYTES>>,
    },
    /// Gateway to client, at an address that a frame of the client's came from: are you there?
    Challenge {
        /// What the answer must bring back.
        nonce: [u8; CHALLENGE_BYTES],
    },
    /// Client to gateway, from the address that was challenged.
    Answer {
        /// As challenged.
        nonce: [u8; CHALLENGE_BYTES],
    },
    /// Gateway to client: it is leaving for good. (A restart is not announced.)
    Leaving {
        /// The last epoch in which it serves.
        epoch: u32,
    },
    /// Gateway to client: it has no room for another attachment.
    Full,
    /// Node to node, against the flow of packets: it was restarted and knows nothing of the receiver's sessions to it.
    Restarted,
}

impl Control {
    /// The answer to a fetch: chunk number `chunk` of `document`, or the empty chunk where there is no
    /// such part.
    pub fn chunk_of(epoch: u32, document: &[u8], chunk: u16) -> Self {
        let part = document
            .chunks(CHUNK_BYTES)
            .nth(usize::from(chunk))
            .unwrap_or_default();
        let total = if part.is_empty() { 0 } else { document.len() };
        Self::Chunk {
            epoch,
            total_bytes: u32::try_from(total).unwrap_or(0),
            chunk,
            data: Box::new(part.iter().copied().collect()),
        }
    }

    /// Encodes into the content of a link frame.
    pub fn encode(&self, frame: &mut [u8; FRAME_BYTES]) {
        let (kind, chunk, epoch, number, data): (u8, u16, u32, u32, &[u8]) = match self {
            Self::Attach { rate_pps } => (1, 0, 0, *rate_pps, &[]),
            Self::Attached { rate_pps } => (2, 0, 0, *rate_pps, &[]),
            Self::Fetch { epoch, chunk } => (3, *chunk, *epoch, 0, &[]),
            Self::Chunk {
                epoch,
                total_bytes,
                chunk,
                data,
            } => (4, *chunk, *epoch, *total_bytes, data.as_slice()),
            Self::Challenge { nonce } => (9, 0, 0, 0, nonce),
            Self::Answer { nonce } => (10, 0, 0, 0, nonce),
            Self::Leaving { epoch } => (11, 0, *epoch, 0, &[]),
            Self::Full => (12, 0, 0, 0, &[]),
            Self::Restarted => (13, 0, 0, 0, &[]),
        };
        let length = u16::try_from(data.len()).unwrap_or(0);
        let mut fields = [kind, 0]
            .into_iter()
            .chain(chunk.to_le_bytes())
            .chain(epoch.to_le_bytes())
            .chain(number.to_le_bytes())
            .chain(length.to_le_bytes())
            .chain([0, 0])
            .chain(data.iter().copied());
        frame.fill_with(|| fields.next().unwrap_or(0));
    }

    /// Decodes the content of a link frame.
    ///
    /// # Errors
    /// Not a frame that [`Control::encode`] writes.
    pub fn decode(frame: &[u8; FRAME_BYTES]) -> Result<Self, ControlError> {
        let [
            kind,
            reserved,
            c0,
            c1,
            e0,
            e1,
            e2,
            e3,
            n0,
            n1,
            n2,
            n3,
            l0,
            l1,
            zero0,
            zero1,
            rest @ ..,
        ] = frame;
        let chunk = u16::from_le_bytes([*c0, *c1]);
        let epoch = u32::from_le_bytes([*e0, *e1, *e2, *e3]);
        let number = u32::from_le_bytes([*n0, *n1, *n2, *n3]);
        let length = usize::from(u16::from_le_bytes([*l0, *l1]));
        let (data, unused) = rest.split_at_checked(length).ok_or(ControlError::Length)?;
        let zero = |holds: bool| holds.then_some(()).ok_or(ControlError::Unused);
        zero([*reserved, *zero0, *zero1] == [0; 3] && unused.iter().all(|byte| *byte == 0))?;
        let frame = match kind {
            1 => Self::Attach { rate_pps: number },
            2 => Self::Attached { rate_pps: number },
            3 => Self::Fetch { epoch, chunk },
            4 => {
                check_chunk(number, chunk, length)?;
                return Ok(Self::Chunk {
                    epoch,
                    total_bytes: number,
                    chunk,
                    data: Box::new(data.iter().copied().collect()),
                });
            }
            9 | 10 => {
                let nonce = data.try_into().map_err(|_| ControlError::Length)?;
                zero(chunk == 0 && epoch == 0 && number == 0)?;
                return Ok(match kind {
                    9 => Self::Challenge { nonce },
                    _ => Self::Answer { nonce },
                });
            }
            11 => Self::Leaving { epoch },
            12 => Self::Full,
            13 => Self::Restarted,
            _ => return Err(ControlError::Type),
        };
        zero(length == 0)?;
        // What each of them uses of the head.
        zero(chunk == 0 || *kind == 3)?;
        zero(epoch == 0 || matches!(*kind, 3 | 11))?;
        zero(number == 0 || matches!(*kind, 1 | 2))?;
        Ok(frame)
    }
}

/// The length of a chunk follows from the total and its number.
fn check_chunk(total: u32, chunk: u16, length: usize) -> Result<(), ControlError> {
    let wrong = ControlError::Length;
    let total = usize::try_from(total).map_err(|_| wrong)?;
    if total > DOCUMENT_BYTES_MAX {
        return Err(wrong);
    }
    let start = usize::from(chunk) * CHUNK_BYTES;
    let expected = total.saturating_sub(start).min(CHUNK_BYTES);
    // Past the end only as the "no such document" answer.
    if length == expected && (expected > 0 || total == 0) {
        Ok(())
    } else {
        Err(wrong)
    }
}

/// Puts the chunks of one document together, in any order.
#[derive(Clone, Debug)]
pub struct Assembly {
    epoch: u32,
    chunks: Vec<Option<Box<ArrayVec<u8, CHUNK_BYTES>>>>,
    total_bytes: u32,
}

impl Assembly {
    /// Starts with the first chunk that arrived. `None` if the gateway has no such document.
    pub fn start(first: Control) -> Option<Self> {
        let Control::Chunk {
            epoch, total_bytes, ..
        } = &first
        else {
            return None;
        };
        if *total_bytes == 0 {
            return None;
        }
        let count = usize::try_from(*total_bytes)
            .ok()?
            .min(DOCUMENT_BYTES_MAX)
            .div_ceil(CHUNK_BYTES);
        let mut assembly = Self {
            epoch: *epoch,
            chunks: vec![None; count],
            total_bytes: *total_bytes,
        };
        assembly.accept(first);
        Some(assembly)
    }

    /// The epoch of the document.
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Takes a chunk; those of other documents are passed over. One that gives this document another length begins it anew:
    /// of the two one is wrong, and the document's signature will tell.
    pub fn accept(&mut self, frame: Control) {
        if let Control::Chunk {
            epoch, total_bytes, ..
        } = &frame
            && *epoch == self.epoch
            && *total_bytes != self.total_bytes
        {
            if let Some(anew) = Assembly::start(frame) {
                *self = anew;
            }
            return;
        }
        if let Control::Chunk {
            epoch,
            total_bytes,
            chunk,
            data,
        } = frame
            && epoch == self.epoch
            && total_bytes == self.total_bytes
            && let Some(place) = self.chunks.get_mut(usize::from(chunk))
        {
            *place = Some(data);
        }
    }

    /// The first chunk from `from` on, wrapping around, that is still missing.
    pub fn missing(&self, from: u16) -> Option<u16> {
        let count = self.chunks.len();
        (0..count)
            .map(|offset| (usize::from(from) + offset) % count)
            .find(|position| self.chunks.get(*position).is_some_and(Option::is_none))
            .and_then(|position| u16::try_from(position).ok())
    }

    /// The whole document once nothing is missing.
    pub fn finish(&self) -> Option<Vec<u8>> {
        let parts: Vec<_> = self
            .chunks
            .iter()
            .map(Option::as_ref)
            .collect::<Option<_>>()?;
        Some(
            parts
                .into_iter()
                .flat_map(|part| part.iter().copied())
                .collect(),
        )
    }
}
