//! Bodies sealed to a recipient's X25519 key alone: asking for its ML-KEM key, and starting a session. No user data.
//!
//! Layout of the 896 bytes: `ephemeral X25519 key 32 | AES-256-GCM of 848 bytes | tag 16`. Every body has a fresh
//! ephemeral key, so its AEAD key is used once. The key is sent as [`elligator`] makes it, so that all of a body looks
//! random to the gateway that delivers it; keys and AAD are made with these bytes, not with the point.
//!
//! Contents, little-endian, padded with zeros:
//! * key request: `1 | wanted 1 (bit 0, 1: halves of the key) | epoch 4 | reply blocks 1 | 326 bytes each`
//! * session start, one of two halves:
//!   `2 | half 1 | epoch 4 | session 16 | X25519 key 32 | half of the ML-KEM ciphertext 544`
//!
//! A body is taken once and in the epoch that it names or the two beside it, so that what must be remembered of those
//! that were taken is bounded: see [`Used`](super::used::Used).

use rand_core::CryptoRng;
use sphinx::{BODY_BYTES, SURB_BYTES};
use zeroize::Zeroizing;

use crate::crypto::{AEAD_TAG_BYTES, agree, open, seal};
use crate::elligator;
use crate::identity::{Identity, KEM_CIPHERTEXT_BYTES};

/// Bytes of content in a sealed body.
pub(crate) const SEALED_BYTES: usize = BODY_BYTES - 32 - AEAD_TAG_BYTES;
/// Half of an ML-KEM-768 ciphertext.
pub(crate) const CIPHERTEXT_HALF_BYTES: usize = KEM_CIPHERTEXT_BYTES / 2;
const CONTEXT: &str = "fogmix client v1 sealed body";
const REQUEST: u8 = 1;
const START: u8 = 2;
const SURBS_MAX: usize = 2;
const _: () = assert!(7 + SURBS_MAX * SURB_BYTES <= SEALED_BYTES);
const _: () = assert!(6 + 16 + 32 + CIPHERTEXT_HALF_BYTES <= SEALED_BYTES);

/// What a sealed body says.
pub(crate) enum Sealed {
    /// Send me halves of your ML-KEM key, one through each reply block.
    KeyRequest {
        /// Bit 0 and 1: which halves.
        wanted: u8,
        /// The epoch that it is sent in.
        epoch: u32,
        /// Reply blocks.
        surbs: Vec<[u8; SURB_BYTES]>,
    },
    /// Half of what it takes to start a session.
    SessionStart {
        /// Which half, 0 or 1.
        half: u8,
        /// The epoch that the session is started in.
        epoch: u32,
        /// Joins the halves; random.
        session: [u8; 16],
        /// The sender's X25519 key of this session.
        ephemeral: [u8; 32],
        /// Half of the ML-KEM ciphertext.
        ciphertext: Box<[u8; CIPHERTEXT_HALF_BYTES]>,
    },
}

impl Sealed {
    /// The epoch that it names.
    pub(crate) fn epoch(&self) -> u32 {
        match self {
            Self::KeyRequest { epoch, .. } | Self::SessionStart { epoch, .. } => *epoch,
        }
    }

    pub(crate) fn encode(&self) -> Zeroizing<[u8; SEALED_BYTES]> {
        let mut bytes = Zeroizing::new([0; SEALED_BYTES]);
        let mut put = Put {
            bytes: &mut bytes[..],
        };
        match self {
            Self::KeyRequest {
                wanted,
                epoch,
                surbs,
            } => {
                let count = surbs.len().min(SURBS_MAX);
                put.bytes(&[REQUEST, *wanted]);
                put.bytes(&epoch.to_le_bytes());
                put.bytes(&[count as u8]);
                surbs.iter().take(count).for_each(|surb| put.bytes(surb));
            }
            Self::SessionStart {
                half,
                epoch,
                session,
                ephemeral,
                ciphertext,
            } => {
                put.bytes(&[START, *half]);
                put.bytes(&epoch.to_le_bytes());
                put.bytes(session);
                put.bytes(ephemeral);
                put.bytes(&ciphertext[..]);
            }
        }
        bytes
    }

    pub(crate) fn decode(bytes: &[u8; SEALED_BYTES]) -> Option<Self> {
        let mut take = Take { bytes };
        match take.array::<2>()? {
            [REQUEST, wanted] if wanted <= 3 => {
                let epoch = take.u32()?;
                let [count] = take.array()?;
                if usize::from(count) > SURBS_MAX {
                    return None;
                }
                let surbs = (0..count).map(|_| take.array()).collect::<Option<_>>()?;
                Some(Self::KeyRequest {
                    wanted,
                    epoch,
                    surbs,
                })
            }
            [START, half] if half <= 1 => Some(Self::SessionStart {
                half,
                epoch: take.u32()?,
                session: take.array()?,
                ephemeral: take.array()?,
                ciphertext: Box::new(take.array()?),
            }),
            _ => None,
        }
    }

    /// Seals to `recipient`; `None` if that key has low order.
    pub(crate) fn seal<R: CryptoRng + ?Sized>(
        &self,
        recipient: &[u8; 32],
        rng: &mut R,
    ) -> Option<[u8; BODY_BYTES]> {
        let (secret, ephemeral) = elligator::draw(rng);
        let shared = agree(&secret, recipient)?;
        let key = derive(&shared, &ephemeral, recipient);
        let mut body = [0; BODY_BYTES];
        body[..32].copy_from_slice(&ephemeral);
        body[32..32 + SEALED_BYTES].copy_from_slice(&self.encode()[..]);
        seal(&key, 0, &ephemeral, &mut body[32..]);
        Some(body)
    }

    /// Opens a body; `None` for whatever was not sealed to `identity`.
    pub(crate) fn open(identity: &Identity, body: &[u8; BODY_BYTES]) -> Option<Self> {
        let ephemeral: [u8; 32] = body.first_chunk().copied()?;
        let shared = identity.agree(&elligator::point_of(&ephemeral))?;
        let key = derive(&shared, &ephemeral, identity.x25519());
        let mut content = Zeroizing::new([0; SEALED_BYTES + AEAD_TAG_BYTES]);
        content.copy_from_slice(&body[32..]);
        if !open(&key, 0, &ephemeral, &mut content[..]) {
            return None;
        }
        Self::decode(content.first_chunk()?)
    }
}

fn derive(shared: &[u8; 32], ephemeral: &[u8; 32], recipient: &[u8; 32]) -> Zeroizing<[u8; 32]> {
    let mut material = Zeroizing::new([0; 96]);
    material[..32].copy_from_slice(shared);
    material[32..64].copy_from_slice(ephemeral);
    material[64..].copy_from_slice(recipient);
    Zeroizing::new(blake3::derive_key(CONTEXT, &material[..]))
}

/// Writes fields one after the other; what does not fit is cut (the callers' constants make it fit).
pub(crate) struct Put<'a> {
    pub(crate) bytes: &'a mut [u8],
}

impl Put<'_> {
    pub(crate) fn bytes(&mut self, field: &[u8]) {
        let rest = core::mem::take(&mut self.bytes);
        let (now, later) = rest.split_at_mut(field.len().min(rest.len()));
        now.copy_from_slice(&field[..now.len()]);
        self.bytes = later;
    }
}

/// Reads fields one after the other; `None` past the end.
pub(crate) struct Take<'a> {
    pub(crate) bytes: &'a [u8],
}

impl<'a> Take<'a> {
    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (now, later) = self.bytes.split_first_chunk()?;
        self.bytes = later;
        Some(*now)
    }

    pub(crate) fn slice(&mut self, length: usize) -> Option<&'a [u8]> {
        let (now, later) = self.bytes.split_at_checked(length)?;
        self.bytes = later;
        Some(now)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }
}

#[cfg(test)]
mod vectors;

#[cfg(test)]
mod tests {
    use super::*;
    use curve25519_dalek::montgomery::MontgomeryPoint;
    use rand_chacha::ChaCha20Rng;
    use rand_core::{Rng, SeedableRng};

    #[test]
    fn a_sealed_body_opens_for_its_recipient_alone() {
        let rng = &mut ChaCha20Rng::seed_from_u64(1);
        let (bob, eve) = (Identity::generate(rng), Identity::generate(rng));
        let sealed = Sealed::KeyRequest {
            wanted: 2,
            epoch: 7,
            surbs: vec![[7; SURB_BYTES]],
        };
        let body = sealed.seal(bob.x25519(), rng).expect("sound key");
        assert!(Sealed::open(&eve, &body).is_none());
        let Some(Sealed::KeyRequest {
            wanted: 2,
            epoch: 7,
            surbs,
        }) = Sealed::open(&bob, &body)
        else {
            panic!("it does not open");
        };
        assert_eq!(surbs, vec![[7; SURB_BYTES]]);
    }

    #[test]
    fn every_altered_byte_of_a_sealed_body_is_refused() {
        let rng = &mut ChaCha20Rng::seed_from_u64(2);
        let bob = Identity::generate(rng);
        let sealed = Sealed::KeyRequest {
            wanted: 3,
            epoch: 7,
            surbs: Vec::new(),
        };
        let body = sealed.seal(bob.x25519(), rng).expect("sound key");
        for position in 0..BODY_BYTES {
            let mut altered = body;
            altered[position] ^= 1 << (rng.next_u32() % 8);
            assert!(Sealed::open(&bob, &altered).is_none(), "byte {position}");
        }
    }

    #[test]
    fn low_order_keys_seal_nothing_and_open_nothing() {
        let rng = &mut ChaCha20Rng::seed_from_u64(3);
        let bob = Identity::generate(rng);
        let sealed = Sealed::KeyRequest {
            wanted: 3,
            epoch: 7,
            surbs: Vec::new(),
        };
        for low in [[0; 32], {
            let mut one = [0; 32];
            one[0] = 1;
            one
        }] {
            assert!(sealed.seal(&low, rng).is_none());
        }
        // Zeros stand for the point of order two: whoever sends them knows the secret without a key.
        let sent = [0; 32];
        assert_eq!(elligator::point_of(&sent), [0; 32]);
        let mut body = [0; BODY_BYTES];
        body[32..32 + SEALED_BYTES].copy_from_slice(&sealed.encode()[..]);
        let key = derive(&[0; 32], &sent, bob.x25519());
        seal(&key, 0, &sent, &mut body[32..]);
        assert!(Sealed::open(&bob, &body).is_none());
    }

    /// Of random bytes every second is a point of the curve, and of those every eighth is of the prime-order group.
    #[test]
    fn an_exit_gateway_tells_no_sealed_body_from_random_bytes() {
        const BODIES: usize = 2_000;
        let rng = &mut ChaCha20Rng::seed_from_u64(4);
        let bob = Identity::generate(rng);
        let sealed = Sealed::KeyRequest {
            wanted: 3,
            epoch: 7,
            surbs: Vec::new(),
        };
        let of_prime_order = |body: [u8; BODY_BYTES]| {
            let u = MontgomeryPoint(body.first_chunk().copied()?);
            u.to_edwards(0).map(|point| point.is_torsion_free())
        };
        let bodies = (0..BODIES).map(|_| sealed.seal(bob.x25519(), rng).expect("sound key"));
        let counted = bodies.filter(|body| of_prime_order(*body) == Some(true));
        let count = counted.count();
        println!("{count} of {BODIES} bodies begin with a point of the prime-order group");
        assert!(count.abs_diff(BODIES / 16) < 60, "{count}");
    }
}
