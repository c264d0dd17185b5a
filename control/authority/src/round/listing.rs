//! Which descriptors and reports an authority holds, for others to see what they lack.
//!
//! Encoding: `"FXL2" | count 2 | each (identity 32 | published 8 | digest 32), ascending by identity | report count 2 | each
//! (identity 32 | digest 32), ascending by identity`. Nobody signs it: what is fetched by it is verified for itself.

use directory::NODES_MAX;
use directory::wire::{DecodeError, Reader};

const MAGIC: &[u8; 4] = b"FXL2";
/// Bytes of a descriptor in a list.
const ENTRY_BYTES: usize = 32 + 8 + 32;
/// Bytes of a report in a list.
const REPORT_BYTES: usize = 32 + 32;
/// Largest list.
pub const LISTING_BYTES_MAX: usize =
    4 + (2 + NODES_MAX * ENTRY_BYTES) + (2 + NODES_MAX * REPORT_BYTES);

/// What is held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listing {
    /// Identity, `published` and digest of each descriptor, ascending by identity.
    pub(crate) descriptors: Vec<([u8; 32], u64, [u8; 32])>,
    /// Author and digest of each report, ascending by author.
    pub(crate) reports: Vec<([u8; 32], [u8; 32])>,
}

impl Listing {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        put_count(&mut bytes, self.descriptors.len());
        for (identity, published, digest) in &self.descriptors {
            bytes.extend_from_slice(identity);
            bytes.extend_from_slice(&published.to_be_bytes());
            bytes.extend_from_slice(digest);
        }
        put_count(&mut bytes, self.reports.len());
        for (author, digest) in &self.reports {
            bytes.extend_from_slice(author);
            bytes.extend_from_slice(digest);
        }
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Listing, DecodeError> {
        let mut reader = Reader::new(bytes);
        reader.magic(MAGIC)?;
        let descriptors = list(&mut reader, |reader| {
            Ok((reader.array()?, reader.u64()?, reader.array()?))
        })?;
        let reports = list(&mut reader, |reader| Ok((reader.array()?, reader.array()?)))?;
        reader.finish()?;
        let ascending =
            descriptors.is_sorted_by(|a, b| a.0 < b.0) && reports.is_sorted_by(|a, b| a.0 < b.0);
        match ascending {
            true => Ok(Listing {
                descriptors,
                reports,
            }),
            false => Err(DecodeError::Field("order")),
        }
    }
}

fn put_count(bytes: &mut Vec<u8>, count: usize) {
    let count = u16::try_from(count).unwrap_or(u16::MAX);
    bytes.extend_from_slice(&count.to_be_bytes());
}

/// It grows with what is really there, not with what the count claims.
fn list<T>(
    reader: &mut Reader<'_>,
    mut read: impl FnMut(&mut Reader<'_>) -> Result<T, DecodeError>,
) -> Result<Vec<T>, DecodeError> {
    let count = usize::from(reader.u16()?);
    if count > NODES_MAX {
        return Err(DecodeError::Field("count"));
    }
    let mut items = Vec::new();
    for _ in 0..count {
        items.push(read(reader)?);
    }
    Ok(items)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_has_one_encoding_and_is_refused_cut_off_out_of_order_or_too_long() {
        let list = |descriptors: &[u8], reports: &[u8]| {
            let descriptor = |number: &u8| ([*number; 32], u64::from(*number), [*number; 32]);
            let report = |number: &u8| ([*number; 32], [*number; 32]);
            Listing {
                descriptors: descriptors.iter().map(descriptor).collect(),
                reports: reports.iter().map(report).collect(),
            }
        };
        let good = list(&[1, 2], &[1, 3]);
        let bytes = good.encode();
        assert_eq!(Listing::decode(&bytes), Ok(good));
        for length in 0..bytes.len() {
            assert!(Listing::decode(&bytes[..length]).is_err(), "{length}");
        }
        let longer = [&bytes[..], &[0]].concat();
        assert_eq!(Listing::decode(&longer), Err(DecodeError::Trailing));
        for wrong in [[2, 1], [1, 1]] {
            for listing in [list(&wrong, &[]), list(&[], &wrong)] {
                let order = DecodeError::Field("order");
                assert_eq!(Listing::decode(&listing.encode()), Err(order));
            }
        }
        for listing in [
            list(&[1; NODES_MAX + 1], &[]),
            list(&[], &[1; NODES_MAX + 1]),
        ] {
            let count = DecodeError::Field("count");
            assert_eq!(Listing::decode(&listing.encode()), Err(count));
        }
    }
}
