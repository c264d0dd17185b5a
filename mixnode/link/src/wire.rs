//! The clear part of a datagram: exact size, type and reserved bytes, and the indices that route it.

use crate::DATAGRAM_BYTES;

/// Type byte of a handshake's first message.
pub(crate) const TYPE_INITIATION: u8 = 1;
/// Type byte of a handshake's second message.
pub(crate) const TYPE_RESPONSE: u8 = 2;
/// Type byte of a cookie reply.
pub(crate) const TYPE_COOKIE_REPLY: u8 = 3;
/// Type byte of a data frame.
pub(crate) const TYPE_DATA: u8 = 4;

/// Length of a data frame's clear part: type 1 | counter 7 | receiver index 4.
pub(crate) const CLEAR_BYTES: usize = 12;

/// What a datagram claims to be. Nothing in it is authenticated yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Datagram {
    /// A data frame.
    Data {
        /// The receiver's index of the session.
        receiver_index: u32,
        /// The frame's number in its session, 56 bits.
        counter: u64,
    },
    /// A handshake's first message.
    Initiation {
        /// The initiator's index of the session to come.
        sender_index: u32,
    },
    /// A handshake's second message.
    Response {
        /// The responder's index of the session.
        sender_index: u32,
        /// The initiator's index of the session.
        receiver_index: u32,
    },
    /// A cookie instead of a response, for who has not shown one.
    CookieReply {
        /// The initiator's index of the session it asked for.
        receiver_index: u32,
    },
}

/// Why a datagram is none of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The length differs from [`DATAGRAM_BYTES`].
    #[error("a datagram of another size than {DATAGRAM_BYTES} bytes")]
    Size,
    /// The type byte is unknown.
    #[error("an unknown type byte")]
    Type,
    /// A reserved byte is not zero.
    #[error("a reserved byte that is not zero")]
    Reserved,
}

/// Reads the clear part of a datagram.
///
/// # Errors
/// [`Malformed`] if size, type or reserved bytes are not as specified.
pub fn peek(datagram: &[u8]) -> Result<Datagram, Malformed> {
    let datagram: &[u8; DATAGRAM_BYTES] = datagram.try_into().map_err(|_| Malformed::Size)?;
    if datagram[0] == TYPE_DATA {
        // The counter shares a little-endian word with the type byte below it.
        let counter = u64::from_le_bytes(read(datagram, 0)) >> 8;
        return Ok(Datagram::Data {
            receiver_index: read_index(datagram, 8),
            counter,
        });
    }
    let header = match datagram[0] {
        TYPE_INITIATION => Datagram::Initiation {
            sender_index: read_index(datagram, 4),
        },
        TYPE_RESPONSE => Datagram::Response {
            sender_index: read_index(datagram, 4),
            receiver_index: read_index(datagram, 8),
        },
        TYPE_COOKIE_REPLY => Datagram::CookieReply {
            receiver_index: read_index(datagram, 4),
        },
        _ => return Err(Malformed::Type),
    };
    if datagram[1..4] != [0; 3] {
        return Err(Malformed::Reserved);
    }
    Ok(header)
}

/// Copies `N` bytes from a constant place of a datagram.
pub(crate) fn read<const N: usize>(datagram: &[u8; DATAGRAM_BYTES], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&datagram[at..at + N]);
    out
}

fn read_index(datagram: &[u8; DATAGRAM_BYTES], at: usize) -> u32 {
    u32::from_le_bytes(read(datagram, at))
}
