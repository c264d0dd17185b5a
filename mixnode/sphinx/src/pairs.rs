//! The scalar multiplications of packets to be wrapped, gathered for one batch.

use crate::geometry::KEM_BYTES;
use crate::header::is_zero;
use crate::keys::{HopKeys, KeyDerivation};
use crate::lanes::{ENCAPSULATE_MAX, Lanes};
use crate::wipe::wipe;
use crate::{HOPS_MAX, PathHop, WrapError};
use arrayvec::ArrayVec;
use rand_core::CryptoRng;

/// One hop's key encapsulation.
pub(crate) struct Encapsulated {
    pub(crate) ciphertext: [u8; KEM_BYTES],
    pub(crate) keys: HopKeys,
}

/// A fresh secret and the public key of each hop of some paths; after [`multiply`](Pairs::multiply), what they give.
/// Wiped when dropped.
pub(crate) struct Pairs {
    count: usize,
    secrets: [[u8; 32]; ENCAPSULATE_MAX],
    points: [[u8; 32]; ENCAPSULATE_MAX],
    shared: [[u8; 32]; ENCAPSULATE_MAX],
    ciphertexts: [[u8; KEM_BYTES]; ENCAPSULATE_MAX],
}

impl Pairs {
    pub(crate) fn new() -> Self {
        let none = [[0; 32]; ENCAPSULATE_MAX];
        Self {
            count: 0,
            secrets: none,
            points: none,
            shared: none,
            ciphertexts: none,
        }
    }

    /// Whether a path of so many hops finds room.
    pub(crate) fn have_room(&self, hops: usize) -> bool {
        self.count + hops <= ENCAPSULATE_MAX
    }

    /// Draws a secret for every hop, in the order of travel, and says where the first is.
    pub(crate) fn draw<R: CryptoRng + ?Sized>(&mut self, rng: &mut R, path: &[PathHop]) -> usize {
        let first = self.count;
        self.count += path.len();
        let places = self.secrets[first..self.count]
            .iter_mut()
            .zip(&mut self.points[first..self.count]);
        for ((secret, point), hop) in places.zip(path) {
            rng.fill_bytes(secret);
            *point = hop.public_key;
        }
        first
    }

    /// All products, in one batch.
    pub(crate) fn multiply(&mut self, lanes: Lanes) {
        lanes.encapsulate(
            &self.secrets[..self.count],
            &self.points[..self.count],
            &mut self.shared[..self.count],
            &mut self.ciphertexts[..self.count],
        );
    }

    /// Ciphertexts and keys of the path whose first pair is `first`.
    pub(crate) fn encapsulated(
        &self,
        first: usize,
        path: &[PathHop],
        derivation: &KeyDerivation,
    ) -> Result<ArrayVec<Encapsulated, HOPS_MAX>, WrapError> {
        let products = self.shared[first..].iter().zip(&self.ciphertexts[first..]);
        let mut hops = ArrayVec::new();
        for (index, (hop, (dh, ciphertext))) in path.iter().zip(products).enumerate() {
            if is_zero(dh) {
                return Err(WrapError::LowOrder(index));
            }
            hops.push(Encapsulated {
                ciphertext: *ciphertext,
                keys: derivation.hop_keys(dh, ciphertext, &hop.public_key),
            });
        }
        Ok(hops)
    }

    /// Forgets all pairs.
    pub(crate) fn clear(&mut self) {
        wipe(self.secrets[..self.count].as_flattened_mut());
        wipe(self.shared[..self.count].as_flattened_mut());
        self.count = 0;
    }
}

impl Drop for Pairs {
    fn drop(&mut self) {
        self.clear();
    }
}
