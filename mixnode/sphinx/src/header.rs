//! The blocks inside the routing block, and the stream that hides them.

use crate::geometry::{
    CIPHER_KEY_BYTES, FINAL_BLOCK_BYTES, HOP_BLOCK_BYTES, KEM_BYTES, MAC_BYTES, STREAM_BYTES, read,
};
use crate::wipe::Wiping;
use crate::{Reject, hctr2};
use subtle::ConstantTimeEq;

/// Names a client to its gateway.
pub type DestinationTag = [u8; 16];
/// Names a reply block to its creator, or a loop to the node that sent it; random where it names nothing.
pub type Id = [u8; 8];

const FORWARD: u8 = 1;
const DELIVER: u8 = 2;
const LOOP: u8 = 3;
const DROP: u8 = 4;

/// What the last hop is told to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Terminal {
    /// Hand `id` and the body to a client, unchecked.
    Deliver {
        /// The client.
        destination: DestinationTag,
        /// A reply block's id, or random: the gateway can't tell which.
        id: Id,
    },
    /// The packet has come back to the node that sent it.
    Loop {
        /// Chosen by that node.
        id: Id,
    },
    /// Cover traffic: check and forget.
    Drop,
}

/// What an opened packet tells the hop to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// The packet's bytes are now the next hop's packet.
    Forward {
        /// Index into the epoch's consensus. The caller holds it against the layer graph.
        next: u16,
    },
    /// The body is now what the client gets.
    Deliver {
        /// The client.
        destination: DestinationTag,
        /// Meant for the client.
        id: Id,
    },
    /// A loop of this node has come back whole.
    Loop {
        /// As it was sent.
        id: Id,
    },
    /// Cover that ends here, whole.
    Drop,
}

/// A hop's block, decrypted and checked.
pub(crate) struct Block {
    pub(crate) command: Command,
    pub(crate) delay_us: u32,
    /// The next hop's MAC and KEM ciphertext; random bytes in a final block.
    pub(crate) next_mac: [u8; MAC_BYTES],
    pub(crate) next_ciphertext: [u8; KEM_BYTES],
}

impl Block {
    /// Checks in the order command, reserved bits, delay.
    pub(crate) fn parse(bytes: &[u8; HOP_BLOCK_BYTES], delay_max_us: u32) -> Result<Self, Reject> {
        let [kind, flags, ..] = *bytes;
        let field: [u8; 2] = read(bytes, 6);
        let tag: DestinationTag = read(bytes, 8);
        let id: Id = read(bytes, 24);
        let zero = |unused: &[u8]| unused.iter().all(|byte| *byte == 0);
        let (command, reserved_is_zero) = match kind {
            FORWARD => (
                Command::Forward {
                    next: u16::from_le_bytes(field),
                },
                true,
            ),
            DELIVER => (
                Command::Deliver {
                    destination: tag,
                    id,
                },
                zero(&field),
            ),
            LOOP => (Command::Loop { id }, zero(&field) && zero(&tag)),
            DROP => (Command::Drop, zero(&field) && zero(&tag) && zero(&id)),
            _ => return Err(Reject::Command),
        };
        if flags != 0 || !reserved_is_zero {
            return Err(Reject::Reserved);
        }
        let delay_us = u32::from_le_bytes(read(bytes, 2));
        if delay_us > delay_max_us {
            return Err(Reject::Delay);
        }
        Ok(Self {
            command,
            delay_us,
            next_mac: tag,
            next_ciphertext: read(bytes, 8 + MAC_BYTES),
        })
    }
}

/// A forwarding hop's block.
pub(crate) fn hop_block(
    delay_us: u32,
    next: u16,
    next_mac: &[u8; MAC_BYTES],
    next_ciphertext: &[u8; KEM_BYTES],
) -> [u8; HOP_BLOCK_BYTES] {
    let mut block = [0; HOP_BLOCK_BYTES];
    block[0] = FORWARD;
    block[2..6].copy_from_slice(&delay_us.to_le_bytes());
    block[6..8].copy_from_slice(&next.to_le_bytes());
    block[8..24].copy_from_slice(next_mac);
    block[24..].copy_from_slice(next_ciphertext);
    block
}

/// The last hop's block.
pub(crate) fn final_block(delay_us: u32, terminal: &Terminal) -> [u8; FINAL_BLOCK_BYTES] {
    let (command, destination, id) = match terminal {
        Terminal::Deliver { destination, id } => (DELIVER, *destination, *id),
        Terminal::Loop { id } => (LOOP, [0; 16], *id),
        Terminal::Drop => (DROP, [0; 16], [0; 8]),
    };
    let mut block = [0; FINAL_BLOCK_BYTES];
    block[0] = command;
    block[2..6].copy_from_slice(&delay_us.to_le_bytes());
    block[8..24].copy_from_slice(&destination);
    block[24..].copy_from_slice(&id);
    block
}

/// The keystream of one hop: AES-128-CTR from a zero counter block. Every key is used once.
pub(crate) fn keystream(key: &[u8; CIPHER_KEY_BYTES]) -> Wiping<STREAM_BYTES> {
    Wiping::new(read(&*hctr2::keystream(key), 0))
}

/// `bytes ^= mask`, as far as the shorter of the two goes.
pub(crate) fn xor(bytes: &mut [u8], mask: &[u8]) {
    for (byte, mask) in bytes.iter_mut().zip(mask) {
        *byte ^= mask;
    }
}

/// Whether all bytes are zero, in time that does not depend on which are not.
pub(crate) fn is_zero<const N: usize>(bytes: &[u8; N]) -> bool {
    bytes.ct_eq(&[0; N]).into()
}
