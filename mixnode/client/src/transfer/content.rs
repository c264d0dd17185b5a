//! What travels inside: fields of a data packet's 872 bytes, and answers of 880 bytes through reply blocks.
//!
//! Nothing in them depends on a clock, or on when and in which order something was done: with a watcher on the wire,
//! that would tell a correspondent which of hundreds of clients he talks to.
//!
//! Little-endian. A data packet: fields, zeros behind the last one. Fields:
//! * manifest, one at most: `1 | transfer 16 | file bytes 8 | BLAKE3 32 | name length 1 | name`
//! * chunk `2 | transfer 16 | index 4 | length 2 | data ≤ 840`
//! * reply block `3 | 326 bytes`
//! * given up, one at most: `4 | transfer 16`
//!
//! An answer: acknowledgement `1 | transfer 16 | state 1 | generation 4 | base 4 | highest send number 8 | packets
//! received 8 | bitmap bytes 2 | bitmap`, or half a key `2 | half 1 | 592 bytes`.

use crate::store::names;
use sphinx::{REPLY_BYTES, SURB_BYTES};

use super::sealed::{Put, Take};
use super::session::CONTENT_BYTES;
use crate::identity::KEM_KEY_BYTES;

/// Bytes of a file in one chunk.
pub const CHUNK_BYTES: usize = 840;
/// Longest file name in bytes.
pub const NAME_BYTES_MAX: usize = 255;
/// Bytes of an acknowledgement's bitmap at most.
pub(crate) const BITMAP_BYTES_MAX: usize = REPLY_BYTES - ACK_HEAD_BYTES;
const ACK_HEAD_BYTES: usize = 1 + 16 + 1 + 4 + 4 + 8 + 8 + 2;
/// Half of an ML-KEM-768 key.
pub(crate) const KEY_HALF_BYTES: usize = KEM_KEY_BYTES / 2;
/// Bytes that a reply block takes among the fields.
pub(crate) const SURB_FIELD_BYTES: usize = 1 + SURB_BYTES;
const CHUNK_HEAD_BYTES: usize = 1 + 16 + 4 + 2;
const _: () = assert!(CHUNK_HEAD_BYTES + CHUNK_BYTES <= CONTENT_BYTES);
const _: () = assert!(58 + NAME_BYTES_MAX + SURB_FIELD_BYTES <= CONTENT_BYTES);

/// Names a transfer: random, the same after a restart.
pub type TransferId = [u8; 16];

/// What a recipient must know of a file before its chunks make sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// The transfer.
    pub transfer: TransferId,
    /// Bytes of the file.
    pub size: u64,
    /// BLAKE3 of the file.
    pub hash: [u8; 32],
    /// The sender's name for it: bytes, mostly UTF-8, not to be trusted.
    pub name: Vec<u8>,
}

impl Manifest {
    /// Chunks of the file; `None` if they are more than indices.
    pub fn chunks(&self) -> Option<u32> {
        u32::try_from(self.size.div_ceil(CHUNK_BYTES as u64)).ok()
    }

    /// Bytes among the fields.
    pub(crate) fn field_bytes(&self) -> usize {
        58 + self.wire_name().len()
    }

    /// The name as it travels: a long one is cut before its extension.
    fn wire_name(&self) -> Vec<u8> {
        names::cut(&self.name, NAME_BYTES_MAX)
    }

    fn write(&self, put: &mut Put<'_>) {
        let name = self.wire_name();
        put.bytes(&[MANIFEST]);
        put.bytes(&self.transfer);
        put.bytes(&self.size.to_le_bytes());
        put.bytes(&self.hash);
        put.bytes(&[name.len() as u8]);
        put.bytes(&name);
    }
}

const MANIFEST: u8 = 1;
const CHUNK: u8 = 2;
const SURB: u8 = 3;
const GIVEN_UP: u8 = 4;

/// One field of a data packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    Manifest(Manifest),
    Chunk {
        transfer: TransferId,
        index: u32,
        data: Vec<u8>,
    },
    Surb(Box<[u8; SURB_BYTES]>),
    /// Nothing more of this transfer is sent: its file has changed.
    GivenUp(TransferId),
}

/// Writes a data packet's content; the caller sees to it that the fields fit.
pub(crate) fn write_content(fields: &[Field], out: &mut [u8; CONTENT_BYTES]) {
    out.fill(0);
    let mut put = Put {
        bytes: &mut out[..],
    };
    for field in fields {
        match field {
            Field::Manifest(manifest) => manifest.write(&mut put),
            Field::Chunk {
                transfer,
                index,
                data,
            } => {
                put.bytes(&[CHUNK]);
                put.bytes(transfer);
                put.bytes(&index.to_le_bytes());
                put.bytes(&(data.len() as u16).to_le_bytes());
                put.bytes(data);
            }
            Field::Surb(surb) => {
                put.bytes(&[SURB]);
                put.bytes(&surb[..]);
            }
            Field::GivenUp(transfer) => {
                put.bytes(&[GIVEN_UP]);
                put.bytes(transfer);
            }
        }
    }
}

/// Reads the fields of a data packet's content strictly.
pub(crate) fn read_content(content: &[u8; CONTENT_BYTES]) -> Option<Vec<Field>> {
    let mut take = Take { bytes: content };
    let mut fields = Vec::new();
    let (mut has_manifest, mut has_given_up) = (false, false);
    loop {
        match take.array::<1>() {
            None => break,
            Some([0]) => {
                if take.bytes.iter().any(|byte| *byte != 0) {
                    return None;
                }
                break;
            }
            // One of each is all that a packet needs: each costs its reader a look at the disk.
            Some([MANIFEST]) if has_manifest => return None,
            Some([GIVEN_UP]) if has_given_up => return None,
            Some([MANIFEST]) => {
                has_manifest = true;
                let (transfer, size, hash) = (take.array()?, take.u64()?, take.array()?);
                let [length] = take.array()?;
                let name = take.slice(usize::from(length))?;
                fields.push(Field::Manifest(Manifest {
                    transfer,
                    size,
                    hash,
                    name: name.to_vec(),
                }));
            }
            Some([CHUNK]) => {
                let (transfer, index, length) = (take.array()?, take.u32()?, take.u16()?);
                let data = take.slice(usize::from(length))?;
                if data.len() > CHUNK_BYTES {
                    return None;
                }
                fields.push(Field::Chunk {
                    transfer,
                    index,
                    data: data.to_vec(),
                });
            }
            Some([SURB]) => fields.push(Field::Surb(Box::new(take.array()?))),
            Some([GIVEN_UP]) => {
                has_given_up = true;
                fields.push(Field::GivenUp(take.array()?));
            }
            Some(_) => return None,
        }
    }
    Some(fields)
}

/// How a transfer stands at its recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum TransferState {
    /// The recipient has no manifest yet.
    Unknown = 0,
    /// Chunks are missing.
    Partial = 1,
    /// The whole file was verified and is in its place.
    Complete = 2,
    /// The recipient does not take this file.
    Refused = 3,
    /// The recipient wants it and can't store it now; chunks are not taken.
    Paused = 4,
}

/// What the recipient of a transfer tells its sender.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ack {
    pub(crate) transfer: TransferId,
    pub(crate) state: TransferState,
    /// Rises when the recipient had to start over; acknowledgements of earlier ones are void.
    pub(crate) generation: u32,
    /// The first chunk that is missing.
    pub(crate) base: u32,
    /// The highest send number of the session that has arrived.
    pub(crate) highest: u64,
    /// How many packets of the session have arrived.
    pub(crate) received: u64,
    /// Bit i, least significant first: chunk base + i is here.
    pub(crate) bitmap: Vec<u8>,
}

/// An answer through a reply block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Ack(Ack),
    KeyHalf {
        half: u8,
        key: Box<[u8; KEY_HALF_BYTES]>,
    },
}

impl Answer {
    pub(crate) fn encode(&self) -> [u8; REPLY_BYTES] {
        let mut bytes = [0; REPLY_BYTES];
        let mut put = Put {
            bytes: &mut bytes[..],
        };
        match self {
            Self::Ack(ack) => {
                let bitmap = &ack.bitmap[..ack.bitmap.len().min(BITMAP_BYTES_MAX)];
                put.bytes(&[1]);
                put.bytes(&ack.transfer);
                put.bytes(&[ack.state as u8]);
                put.bytes(&ack.generation.to_le_bytes());
                put.bytes(&ack.base.to_le_bytes());
                put.bytes(&ack.highest.to_le_bytes());
                put.bytes(&ack.received.to_le_bytes());
                put.bytes(&(bitmap.len() as u16).to_le_bytes());
                put.bytes(bitmap);
            }
            Self::KeyHalf { half, key } => {
                put.bytes(&[2, *half]);
                put.bytes(&key[..]);
            }
        }
        bytes
    }

    pub(crate) fn decode(bytes: &[u8; REPLY_BYTES]) -> Option<Self> {
        let mut take = Take { bytes };
        match take.array()? {
            [1] => {
                let transfer = take.array()?;
                let state = match take.array()? {
                    [0] => TransferState::Unknown,
                    [1] => TransferState::Partial,
                    [2] => TransferState::Complete,
                    [3] => TransferState::Refused,
                    [4] => TransferState::Paused,
                    _ => return None,
                };
                let (generation, base) = (take.u32()?, take.u32()?);
                let (highest, received) = (take.u64()?, take.u64()?);
                let length = usize::from(take.u16()?);
                Some(Self::Ack(Ack {
                    transfer,
                    state,
                    generation,
                    base,
                    highest,
                    received,
                    bitmap: take.slice(length)?.to_vec(),
                }))
            }
            [2] => {
                let [half] = take.array()?;
                (half <= 1).then_some(())?;
                let key = Box::new(take.array()?);
                Some(Self::KeyHalf { half, key })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn fields_of_a_full_packet_survive_the_wire() {
        let fields = vec![
            Field::Manifest(Manifest {
                transfer: [1; 16],
                size: 12,
                hash: [2; 32],
                name: "ä".repeat(60).into(),
            }),
            Field::Surb(Box::new([3; SURB_BYTES])),
            Field::Surb(Box::new([4; SURB_BYTES])),
        ];
        let mut content = [0; CONTENT_BYTES];
        write_content(&fields, &mut content);
        assert_eq!(read_content(&content), Some(fields));
        let fields = vec![Field::Chunk {
            transfer: [1; 16],
            index: 9,
            data: vec![5; CHUNK_BYTES],
        }];
        write_content(&fields, &mut content);
        assert_eq!(read_content(&content), Some(fields));
        // The vector of the specification's layout.
        write_content(&[Field::GivenUp([7; 16])], &mut content);
        assert_eq!((content[0], &content[1..17]), (4, &[7; 16][..]));
        assert!(content[17..].iter().all(|byte| *byte == 0));
        assert_eq!(read_content(&content), Some(vec![Field::GivenUp([7; 16])]));
    }

    #[test]
    fn a_name_that_is_no_text_travels_byte_for_byte() {
        let manifest = Manifest {
            transfer: [1; 16],
            size: 5,
            hash: [2; 32],
            name: b"caf\xe9/\xff".to_vec(),
        };
        let mut content = [0; CONTENT_BYTES];
        write_content(&[Field::Manifest(manifest.clone())], &mut content);
        // The vector of the specification's layout.
        let mut expected = vec![1];
        expected.extend([1; 16]);
        expected.extend([5, 0, 0, 0, 0, 0, 0, 0]);
        expected.extend([2; 32]);
        expected.extend(b"\x06caf\xe9/\xff");
        expected.resize(CONTENT_BYTES, 0);
        assert_eq!(content[..], expected);
        assert_eq!(
            read_content(&content),
            Some(vec![Field::Manifest(manifest)])
        );
    }

    #[test]
    fn bytes_behind_the_last_field_must_be_zero() {
        let mut content = [0; CONTENT_BYTES];
        write_content(&[], &mut content);
        content[CONTENT_BYTES - 1] = 1;
        assert_eq!(read_content(&content), None);
    }

    #[test]
    fn a_packet_of_fourteen_manifests_is_refused() {
        let manifest = |number| {
            Field::Manifest(Manifest {
                transfer: [number; 16],
                size: 12,
                hash: [2; 32],
                name: Vec::new(),
            })
        };
        let mut content = [0; CONTENT_BYTES];
        write_content(&[manifest(1)], &mut content);
        assert!(read_content(&content).is_some());
        for count in [2, 14] {
            let fields: Vec<Field> = (0..count).map(manifest).collect();
            write_content(&fields, &mut content);
            assert_eq!(read_content(&content), None, "{count} manifests");
        }
    }

    #[test]
    fn a_packet_gives_up_one_file_at_most() {
        let mut content = [0; CONTENT_BYTES];
        for count in [1, 2, 51] {
            let fields: Vec<Field> = (0..count).map(|n| Field::GivenUp([n; 16])).collect();
            write_content(&fields, &mut content);
            let read = (count == 1).then_some(fields);
            assert_eq!(read_content(&content), read, "{count} given up");
        }
    }

    #[test]
    fn the_largest_acknowledgement_survives_the_wire() {
        let answer = Answer::Ack(Ack {
            transfer: [9; 16],
            state: TransferState::Partial,
            generation: 3,
            base: 1 << 30,
            highest: 1 << 40,
            received: 1 << 39,
            bitmap: vec![0xa5; BITMAP_BYTES_MAX],
        });
        assert_eq!(Answer::decode(&answer.encode()), Some(answer));
    }

    proptest! {
        #[test]
        fn no_content_and_no_answer_breaks_the_parsers(
            start in proptest::collection::vec(any::<u8>(), 0..CONTENT_BYTES),
            kind in 0u8..5,
        ) {
            let mut content = [0; CONTENT_BYTES];
            content[..start.len()].copy_from_slice(&start);
            content[0] = kind;
            let _ = read_content(&content);
            let mut answer = [0; REPLY_BYTES];
            answer[..start.len()].copy_from_slice(&start);
            answer[0] = kind;
            let _ = Answer::decode(&answer);
        }
    }
}
