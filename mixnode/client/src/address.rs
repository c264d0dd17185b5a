//! What a user hands out to be reached: bech32m (BIP 350) over 113 bytes, prefix `fog`.
//!
//! Layout: `version 1 | gateway identity 32 | destination tag 16 | X25519 key 32 | BLAKE3 of the ML-KEM-768 key 32`.
//! The checksum finds every mistype of up to four characters in codes of BIP 173's length and misses others with
//! probability 2^-30 at this length. The ML-KEM key itself, 1,184 bytes, is fetched and held against the hash.

use std::fmt;
use std::str::FromStr;

use bech32::primitives::decode::CheckedHrpstring;
use bech32::{Bech32m, Hrp};

/// The human-readable part.
pub const HRP: &str = "fog";
/// The only version there is.
pub const VERSION: u8 = 1;
/// Bytes under the text encoding.
pub const ADDRESS_BYTES: usize = 1 + 32 + 16 + 32 + 32;
/// Characters of the text form: prefix, separator, 5 bits a character, checksum.
pub const ADDRESS_CHARS: usize = HRP.len() + 1 + (ADDRESS_BYTES * 8).div_ceil(5) + 6;

const _: () = assert!(ADDRESS_CHARS == 191);

/// Where a user receives, and the keys to encrypt to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    /// Ed25519 identity of the gateway the user is attached to.
    pub gateway: [u8; 32],
    /// Names the user's mailbox to that gateway.
    pub destination: [u8; 16],
    /// The user's X25519 key.
    pub x25519: [u8; 32],
    /// BLAKE3 of the user's ML-KEM-768 encapsulation key.
    pub kem_hash: [u8; 32],
}

/// Why text is not an address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Another length than [`ADDRESS_CHARS`].
    #[error(
        "an address has {ADDRESS_CHARS} characters, this has {0}: part of it is missing or too much was copied"
    )]
    Length(usize),
    /// It does not start with `fog1`.
    #[error("an address starts with {HRP}1")]
    Prefix,
    /// The checksum does not hold, or a character is none of bech32's.
    #[error("the checksum does not hold: a character was mistyped or lost")]
    Checksum,
    /// The bits that fill up the last character are not zero.
    #[error("the address is not in its canonical form")]
    Canonical,
    /// A version this program does not know.
    #[error("address version {0} is unknown: a newer fog may know it")]
    Version(u8),
}

impl Address {
    /// The 113 bytes.
    pub fn to_bytes(&self) -> [u8; ADDRESS_BYTES] {
        let mut bytes = [0; ADDRESS_BYTES];
        bytes[0] = VERSION;
        bytes[1..33].copy_from_slice(&self.gateway);
        bytes[33..49].copy_from_slice(&self.destination);
        bytes[49..81].copy_from_slice(&self.x25519);
        bytes[81..].copy_from_slice(&self.kem_hash);
        bytes
    }

    /// Reads the 113 bytes.
    ///
    /// # Errors
    /// [`AddressError::Version`].
    pub fn from_bytes(bytes: &[u8; ADDRESS_BYTES]) -> Result<Self, AddressError> {
        let mut address = Self {
            gateway: [0; 32],
            destination: [0; 16],
            x25519: [0; 32],
            kem_hash: [0; 32],
        };
        if bytes[0] != VERSION {
            return Err(AddressError::Version(bytes[0]));
        }
        address.gateway.copy_from_slice(&bytes[1..33]);
        address.destination.copy_from_slice(&bytes[33..49]);
        address.x25519.copy_from_slice(&bytes[49..81]);
        address.kem_hash.copy_from_slice(&bytes[81..]);
        Ok(address)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hrp = Hrp::parse(HRP).map_err(|_| fmt::Error)?;
        bech32::encode_lower_to_fmt::<Bech32m, _>(f, hrp, &self.to_bytes()).map_err(|_| fmt::Error)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Address {
    type Err = AddressError;

    /// All lower or all upper case, as BIP 173 allows; white space around it is forgiven, inside it is not.
    fn from_str(text: &str) -> Result<Self, AddressError> {
        let text = text.trim();
        let prefix = text.get(..HRP.len() + 1).unwrap_or_default();
        if !prefix.eq_ignore_ascii_case("fog1") {
            return Err(AddressError::Prefix);
        }
        let chars = text.chars().count();
        if chars != ADDRESS_CHARS {
            return Err(AddressError::Length(chars));
        }
        let checked = CheckedHrpstring::new::<Bech32m>(text).map_err(|_| AddressError::Checksum)?;
        let mut bytes = [0; ADDRESS_BYTES];
        let mut decoded = checked.byte_iter();
        for byte in &mut bytes {
            *byte = decoded.next().ok_or(AddressError::Checksum)?;
        }
        let address = Self::from_bytes(&bytes)?;
        // One address, one text: what the last character has beyond the 113 bytes must be zero.
        if !address.to_string().eq_ignore_ascii_case(text) {
            return Err(AddressError::Canonical);
        }
        Ok(address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> Address {
        Address {
            gateway: [1; 32],
            destination: [2; 16],
            x25519: [3; 32],
            kem_hash: [4; 32],
        }
    }

    #[test]
    fn an_address_survives_its_text_form_in_either_case() {
        let text = sample().to_string();
        assert_eq!(text.len(), ADDRESS_CHARS);
        assert_eq!(text.parse(), Ok(sample()));
        assert_eq!(text.to_uppercase().parse(), Ok(sample()));
        assert_eq!(format!(" {text}\n").parse(), Ok(sample()));
    }

    #[test]
    fn every_single_mistyped_character_is_refused() {
        let text = sample().to_string();
        for position in 0..text.len() {
            for replacement in "qpzry9x8gf2tvdw0s3jn54khce6mua7l1bio".chars() {
                let mut typed: Vec<char> = text.chars().collect();
                if typed[position] == replacement {
                    continue;
                }
                typed[position] = replacement;
                let typed: String = typed.into_iter().collect();
                assert!(typed.parse::<Address>().is_err(), "{typed}");
            }
        }
    }

    #[test]
    fn a_cut_address_says_that_part_is_missing() {
        let text = sample().to_string();
        assert_eq!(
            text[..100].parse::<Address>(),
            Err(AddressError::Length(100))
        );
        assert_eq!("".parse::<Address>(), Err(AddressError::Prefix));
        assert_eq!("bc1qqqq".parse::<Address>(), Err(AddressError::Prefix));
    }

    #[test]
    fn the_checksum_of_plain_bech32_is_refused() {
        let hrp = Hrp::parse(HRP).expect("valid");
        let text = bech32::encode::<bech32::Bech32>(hrp, &sample().to_bytes()).expect("short");
        assert_eq!(text.parse::<Address>(), Err(AddressError::Checksum));
    }

    #[test]
    fn an_unknown_version_is_named() {
        let mut bytes = sample().to_bytes();
        bytes[0] = 2;
        let hrp = Hrp::parse(HRP).expect("valid");
        let text = bech32::encode::<Bech32m>(hrp, &bytes).expect("short");
        assert_eq!(text.parse::<Address>(), Err(AddressError::Version(2)));
    }

    proptest! {
        #[test]
        fn whatever_parses_prints_the_same_again(text in "(fog1)?[ -~]{0,200}") {
            if let Ok(address) = text.parse::<Address>() {
                prop_assert!(address.to_string().eq_ignore_ascii_case(text.trim()));
            }
        }
    }
}
