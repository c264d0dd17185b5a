//! The verifiable random function that deals mixes to layers: ECVRF-EDWARDS25519-SHA512-TAI of RFC 9381.
//!
//! A node proves the output of its registered key over a beacon that nobody knew when the key was registered; everyone
//! checks the proof, and nobody can choose the output. The key pair is an Ed25519 one (RFC 9381, section 5.5).

use ed25519_dalek::SigningKey;
use rand_core::CryptoRng;
use thiserror::Error;
use vrf_rfc9381::ec::edwards25519::EdVrfProof;
use vrf_rfc9381::ec::edwards25519::tai::{
    EdVrfEdwards25519TaiPublicKey, EdVrfEdwards25519TaiSecretKey,
};
use vrf_rfc9381::{Proof, Prover, Verifier};
use zeroize::Zeroizing;

use crate::VRF_PROOF_BYTES;

/// Bytes of an output β.
pub const VRF_OUTPUT_BYTES: usize = 64;
/// Offset of the scalar s in a proof: after the point Γ and the challenge c.
const S_OFFSET: usize = 48;
/// The order of the group, little-endian: 2^252 + 27742317777372353535851937790883648493 (RFC 8032, section 5.1).
const ORDER: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

/// Why a proof does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum VrfError {
    /// Not a point of the curve, of small order, or not in its one encoding.
    #[error("the VRF key is not a valid point")]
    Key,
    /// Γ is no point, or a field has more than one encoding and this is not the canonical one.
    #[error("the VRF proof is not well formed")]
    Proof,
    /// Well formed, and of another key or input.
    #[error("the VRF proof does not verify")]
    Mismatch,
}

/// The secret half of a VRF key. Wiped on drop, never printed.
pub struct VrfSecret(Zeroizing<[u8; 32]>);

impl VrfSecret {
    /// Makes a new key.
    pub fn generate<R: CryptoRng + ?Sized>(rng: &mut R) -> VrfSecret {
        let mut seed = Zeroizing::new([0; 32]);
        rng.fill_bytes(seed.as_mut());
        VrfSecret(seed)
    }

    /// Restores a key from its 32-byte seed.
    pub fn from_bytes(seed: &[u8; 32]) -> VrfSecret {
        VrfSecret(Zeroizing::new(*seed))
    }

    /// The public key, as it stands in descriptors.
    pub fn public(&self) -> [u8; 32] {
        SigningKey::from_bytes(&self.0).verifying_key().to_bytes()
    }

    /// The proof of this key's output over `alpha`.
    ///
    /// # Errors
    /// No point was found for `alpha` in 256 tries: a chance of 2^-256.
    pub fn prove(&self, alpha: &[u8]) -> Result<[u8; VRF_PROOF_BYTES], VrfError> {
        let prover = EdVrfEdwards25519TaiSecretKey::from_slice(self.0.as_slice())
            .map_err(|_| VrfError::Key)?;
        let proof = prover.prove(alpha).map_err(|_| VrfError::Proof)?;
        let bytes = proof.encode_to_pi();
        bytes.try_into().map_err(|_| VrfError::Proof)
    }
}

impl core::fmt::Debug for VrfSecret {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_tuple("VrfSecret").finish_non_exhaustive()
    }
}

/// The output that `proof` proves for the key `public` over `alpha`.
///
/// Every proof has one encoding here: s below the order, c and Γ as an encoder writes them. (The library reduces s
/// where RFC 9381, section 5.4.4, refuses it.)
///
/// # Errors
/// As each variant of [`VrfError`] says.
pub fn verify(
    public: &[u8; 32],
    alpha: &[u8],
    proof: &[u8; VRF_PROOF_BYTES],
) -> Result<[u8; VRF_OUTPUT_BYTES], VrfError> {
    let (_, s) = proof.split_at(S_OFFSET);
    if !s.iter().rev().lt(ORDER.iter().rev()) {
        return Err(VrfError::Proof);
    }
    let decoded = EdVrfProof::decode_pi(proof).map_err(|_| VrfError::Proof)?;
    if decoded.encode_to_pi() != proof {
        return Err(VrfError::Proof);
    }
    let verifier = EdVrfEdwards25519TaiPublicKey::from_slice(public).map_err(|_| VrfError::Key)?;
    if !is_canonical(public) {
        return Err(VrfError::Key);
    }
    let output = verifier
        .verify(alpha, decoded)
        .map_err(|_| VrfError::Mismatch)?;
    Ok(output.into())
}

/// Whether the y coordinate is below p = 2^255 − 19 (RFC 8032, section 5.1.3).
fn is_canonical(point: &[u8; 32]) -> bool {
    let [low, middle @ .., high] = point;
    !(*low >= 0xed && middle.iter().all(|&byte| byte == 0xff) && high & 0x7f == 0x7f)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes<const N: usize>(hex: &str) -> [u8; N] {
        let digits: Vec<u8> = hex.bytes().collect();
        let pairs = digits
            .chunks(2)
            .map(|pair| u8::from_str_radix(core::str::from_utf8(pair).unwrap(), 16).unwrap());
        pairs.collect::<Vec<_>>().try_into().unwrap()
    }

    /// RFC 9381, appendix B.3: examples 16, 17 and 18. Secret, public, α, π, β.
    const EXAMPLES: [[&str; 5]; 3] = [
        [
            "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            "",
            "8657106690b5526245a92b003bb079ccd1a92130477671f6fc01ad16f26f723f26f8a57ccaed74ee1b190bed1f479d9727d2d0f9b005a6e456a35d4fb0daab1268a1b0db10836d9826a528ca76567805",
            "90cf1df3b703cce59e2a35b925d411164068269d7b2d29f3301c03dd757876ff66b71dda49d2de59d03450451af026798e8f81cd2e333de5cdf4f3e140fdd8ae",
        ],
        [
            "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
            "72",
            "f3141cd382dc42909d19ec5110469e4feae18300e94f304590abdced48aed5933bf0864a62558b3ed7f2fea45c92a465301b3bbf5e3e54ddf2d935be3b67926da3ef39226bbc355bdc9850112c8f4b02",
            "eb4440665d3891d668e7e0fcaf587f1b4bd7fbfe99d0eb2211ccec90496310eb5e33821bc613efb94db5e5b54c70a848a0bef4553a41befc57663b56373a5031",
        ],
        [
            "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
            "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
            "af82",
            "9bc0f79119cc5604bf02d23b4caede71393cedfbb191434dd016d30177ccbf8096bb474e53895c362d8628ee9f9ea3c0e52c7a5c691b6c18c9979866568add7a2d41b00b05081ed0f58ee5e31b3a970e",
            "645427e5d00c62a23fb703732fa5d892940935942101e456ecca7bb217c61c452118fec1219202a0edcf038bb6373241578be7217ba85a2687f7a0310b2df19f",
        ],
    ];

    fn alpha(hex: &str) -> Vec<u8> {
        match hex.len() {
            0 => Vec::new(),
            2 => bytes::<1>(hex).to_vec(),
            _ => bytes::<2>(hex).to_vec(),
        }
    }

    #[test]
    fn the_examples_of_rfc_9381_hold() {
        for [secret, public, input, proof, output] in EXAMPLES {
            let key = VrfSecret::from_bytes(&bytes(secret));
            assert_eq!(key.public(), bytes(public));
            assert_eq!(key.prove(&alpha(input)).unwrap(), bytes(proof));
            let verified = verify(&bytes(public), &alpha(input), &bytes(proof));
            assert_eq!(verified, Ok(bytes(output)));
        }
    }

    #[test]
    fn a_proof_altered_in_any_bit_or_for_another_key_or_input_is_refused() {
        let [_, public, input, proof, _] = EXAMPLES[2];
        let (public, proof) = (bytes(public), bytes::<VRF_PROOF_BYTES>(proof));
        for bit in 0..8 * VRF_PROOF_BYTES {
            let mut altered = proof;
            altered[bit / 8] ^= 1 << (bit % 8);
            assert!(
                verify(&public, &alpha(input), &altered).is_err(),
                "bit {bit}"
            );
        }
        let other = bytes(EXAMPLES[1][1]);
        assert_eq!(
            verify(&other, &alpha(input), &proof),
            Err(VrfError::Mismatch)
        );
        assert_eq!(verify(&public, b"other", &proof), Err(VrfError::Mismatch));
    }

    #[test]
    fn a_proof_has_one_encoding() {
        let [_, public, input, proof, _] = EXAMPLES[0];
        let (public, mut proof) = (bytes(public), bytes::<VRF_PROOF_BYTES>(proof));
        // s + q means the same number.
        let mut carry = 0;
        for (byte, add) in proof[S_OFFSET..].iter_mut().zip(ORDER) {
            let sum = u16::from(*byte) + u16::from(add) + carry;
            *byte = sum as u8;
            carry = sum >> 8;
        }
        assert_eq!(carry, 0);
        assert_eq!(verify(&public, &alpha(input), &proof), Err(VrfError::Proof));
    }

    #[test]
    fn keys_of_small_order_and_of_a_second_encoding_are_refused() {
        let proof = bytes(EXAMPLES[0][3]);
        let mut identity = [0; 32];
        identity[0] = 1;
        // y = 1 written as p + 1.
        let mut second = [0xff; 32];
        (second[0], second[31]) = (0xee, 0x7f);
        // y = 3 written as p + 3: a point of the curve, of large order.
        let mut large = second;
        large[0] = 0xf0;
        for key in [[0; 32], identity, second, large, [0xff; 32]] {
            assert_eq!(verify(&key, b"", &proof), Err(VrfError::Key), "{key:?}");
        }
        let mut three = [0; 32];
        three[0] = 3;
        assert_eq!(verify(&three, b"", &proof), Err(VrfError::Mismatch));
    }
}
