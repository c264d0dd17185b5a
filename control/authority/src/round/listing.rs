//! Which descriptors an authority holds, for others to see what they lack.
//!
//! Encoding: `"FXL1" | count 2 | each (identity 32 | published 8 | digest 32), ascending by identity`. Nobody signs it:
//! what is fetched by it is verified for itself.

use directory::NODES_MAX;
use directory::wire::{DecodeError, Reader};

const MAGIC: &[u8; 4] = b"FXL1";
/// Bytes of a descriptor in a list.
const ENTRY_BYTES: usize = 32 + 8 + 32;
/// Largest list.
pub const LISTING_BYTES_MAX: usize = 4 + 2 + NODES_MAX * ENTRY_BYTES;

/// Identity, `published` and digest of each, ascending by identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listing(pub(crate) Vec<([u8; 32], u64, [u8; 32])>);

impl Listing {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        let count = u16::try_from(self.0.len()).unwrap_or(u16::MAX);
        bytes.extend_from_slice(&count.to_be_bytes());
        for (identity, published, digest) in &self.0 {
            bytes.extend_from_slice(identity);
            bytes.extend_from_slice(&published.to_be_bytes());
            bytes.extend_from_slice(digest);
        }
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Listing, DecodeError> {
        let mut reader = Reader::new(bytes);
        reader.magic(MAGIC)?;
        let count = usize::from(reader.u16()?);
        if count > NODES_MAX {
            return Err(DecodeError::Field("descriptor count"));
        }
        // Grows with what is really there, not with what the count claims.
        let mut listed: Vec<([u8; 32], u64, [u8; 32])> = Vec::new();
        for _ in 0..count {
            listed.push((reader.array()?, reader.u64()?, reader.array()?));
        }
        reader.finish()?;
        match listed.is_sorted_by(|a, b| a.0 < b.0) {
            true => Ok(Listing(listed)),
            false => Err(DecodeError::Field("descriptor order")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_has_one_encoding_and_is_refused_cut_off_out_of_order_or_too_long() {
        let entry = |number: u8| ([number; 32], u64::from(number), [number; 32]);
        let list = Listing(vec![entry(1), entry(2)]);
        let bytes = list.encode();
        assert_eq!(Listing::decode(&bytes), Ok(list));
        for length in 0..bytes.len() {
            assert!(Listing::decode(&bytes[..length]).is_err(), "{length}");
        }
        let longer = [&bytes[..], &[0]].concat();
        assert_eq!(Listing::decode(&longer), Err(DecodeError::Trailing));
        for wrong in [[2, 1], [1, 1]] {
            let bytes = Listing(wrong.map(entry).to_vec()).encode();
            let order = DecodeError::Field("descriptor order");
            assert_eq!(Listing::decode(&bytes), Err(order));
        }
        let many = Listing(vec![entry(1); NODES_MAX + 1]).encode();
        assert_eq!(
            Listing::decode(&many),
            Err(DecodeError::Field("descriptor count"))
        );
    }
}
