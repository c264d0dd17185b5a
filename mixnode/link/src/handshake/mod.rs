//! The handshake: Noise IKpsk2 whose psk comes from ML-KEM-768, and cookies as WireGuard gives them (Donenfeld,
//! "WireGuard: Next Generation Kernel Network Tunnel", sections 5.3 and 5.4), but to everyone and at all times: a
//! threshold of load would let forged initiations just below it pass.

mod initiations;
mod initiator;
mod mac;
mod noise;
mod responder;

pub use initiations::Initiations;
pub use initiator::Initiator;
pub use mac::{COOKIE_LIFETIME_NS, Cookie, first_mac, is_bare};
pub use responder::{Arrival, Responder, Response};

use zeroize::Zeroizing;

use crate::keys::KEM_PUBLIC_BYTES;
use crate::{DATAGRAM_BYTES, Malformed};

pub(crate) const MAC_BYTES: usize = 16;
pub(crate) const MAC1_OFFSET: usize = DATAGRAM_BYTES - 2 * MAC_BYTES;
pub(crate) const MAC2_OFFSET: usize = DATAGRAM_BYTES - MAC_BYTES;

const KEM_CIPHERTEXT_BYTES: usize = 1088;
/// The first message's payload: zeros. No clock is in a handshake.
const INITIATION_PAYLOAD_BYTES: usize = 8;

/// First message: type 1 | zero 3 | sender index 4.
const INITIATION_HEADER_BYTES: usize = 8;
/// The first message's Noise part: e 32 | s 32 + 16 | zeros 8 + 16.
const INITIATION_NOISE_BYTES: usize = 32 + 48 + INITIATION_PAYLOAD_BYTES + 16;
const KEM_OFFSET: usize = INITIATION_HEADER_BYTES + INITIATION_NOISE_BYTES;

/// Second message: type 1 | zero 3 | sender index 4 | receiver index 4.
const RESPONSE_HEADER_BYTES: usize = 12;
/// The second message's payload: zeros, up to the macs.
const RESPONSE_PAYLOAD_BYTES: usize = MAC1_OFFSET - RESPONSE_HEADER_BYTES - 32 - 16;

const _: () = assert!(KEM_OFFSET + KEM_CIPHERTEXT_BYTES == MAC1_OFFSET);

const PROLOGUE_LABEL: &[u8; 14] = b"fogmix link v1";
const PSK_CONTEXT: &str = "fogmix link v1 psk";

/// Why a handshake message was refused, or none could be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// Size, type or reserved bytes are wrong.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// A datagram of another type than the one expected here.
    #[error("a datagram of another type than expected")]
    Unexpected,
    /// The first mac does not hold: the sender does not know whom it talks to.
    #[error("the first mac does not hold")]
    Mac,
    /// The message names a session that is not the one it is given to.
    #[error("a receiver index of another handshake")]
    Index,
    /// An authentication tag does not hold: another key, or altered bytes.
    #[error("the message is not authentic")]
    Forged,
    /// A Diffie-Hellman result is all zero: the public key has low order.
    #[error("a public key of low order")]
    LowOrder,
    /// The peer's ML-KEM key is no valid encapsulation key (FIPS 203, section 7.2).
    #[error("an invalid ML-KEM key")]
    KemKey,
    /// The peer is authentic, and nobody whom this responder answers.
    #[error("the peer is none of those who are answered here")]
    Unwelcome,
    /// The Noise state machine refused: a message out of turn.
    #[error("a handshake message out of turn")]
    State,
}

impl From<snow::Error> for HandshakeError {
    fn from(error: snow::Error) -> Self {
        match error {
            snow::Error::Decrypt => Self::Forged,
            snow::Error::Dh => Self::LowOrder,
            _ => Self::State,
        }
    }
}

/// Label ‖ header ‖ ML-KEM ciphertext: everything of the first message that Noise itself does not carry.
fn prologue(
    datagram: &[u8; DATAGRAM_BYTES],
) -> [u8; PROLOGUE_LABEL.len() + 8 + KEM_CIPHERTEXT_BYTES] {
    let mut prologue = [0; PROLOGUE_LABEL.len() + INITIATION_HEADER_BYTES + KEM_CIPHERTEXT_BYTES];
    let (label, rest) = prologue.split_at_mut(PROLOGUE_LABEL.len());
    label.copy_from_slice(PROLOGUE_LABEL);
    rest[..INITIATION_HEADER_BYTES].copy_from_slice(&datagram[..INITIATION_HEADER_BYTES]);
    rest[INITIATION_HEADER_BYTES..].copy_from_slice(&datagram[KEM_OFFSET..MAC1_OFFSET]);
    prologue
}

/// The key of an encapsulation: bound to the ciphertext and to the key it was made for, so that neither can be swapped
/// for another with the same shared secret.
fn kem_key(
    shared: &[u8; 32],
    ciphertext: &[u8],
    key: &[u8; KEM_PUBLIC_BYTES],
) -> Zeroizing<[u8; 32]> {
    let mut hasher = Zeroizing::new(blake3::Hasher::new_derive_key(PSK_CONTEXT));
    hasher.update(shared).update(ciphertext).update(key);
    Zeroizing::new(*hasher.finalize().as_bytes())
}

/// The psk of the second message, bound to its header: Noise carries no associated data there, and an altered index
/// must fail like any altered byte, without using up the handshake.
fn psk(kem_key: &[u8; 32], header: &[u8; RESPONSE_HEADER_BYTES]) -> Zeroizing<[u8; 32]> {
    Zeroizing::new(*blake3::keyed_hash(kem_key, header).as_bytes())
}
