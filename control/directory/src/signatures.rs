//! The list of signatures that several documents end with.
//!
//! Encoding: `count 1 | each (key 32 | signature 64), ascending by key`.

use crate::wire::{DecodeError, Reader, put_count};

/// Signatures by key, each key once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signatures(Vec<([u8; 32], [u8; 64])>);

impl Signatures {
    /// Adds a signature, unless there is one of this key.
    pub fn insert(&mut self, key: [u8; 32], signature: [u8; 64]) {
        if let Err(at) = self.0.binary_search_by(|(held, _)| held.cmp(&key)) {
            self.0.insert(at, (key, signature));
        }
    }

    /// Whether this key signed.
    pub fn contains(&self, key: &[u8; 32]) -> bool {
        self.0.binary_search_by(|(held, _)| held.cmp(key)).is_ok()
    }

    /// All of them, ascending by key.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8; 32], &[u8; 64])> {
        self.0.iter().map(|(key, signature)| (key, signature))
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Appends the encoding.
    pub fn encode(&self, bytes: &mut Vec<u8>) {
        put_count(bytes, self.0.len());
        for (key, signature) in &self.0 {
            bytes.extend_from_slice(key);
            bytes.extend_from_slice(signature);
        }
    }

    /// Reads `minimum` to `maximum` signatures; whether they hold is for the reader to find out.
    ///
    /// # Errors
    /// Too few, too many, or out of order.
    pub fn decode(
        reader: &mut Reader<'_>,
        minimum: usize,
        maximum: usize,
    ) -> Result<Signatures, DecodeError> {
        let count = reader.count(minimum, maximum, "signature count")?;
        let signatures: Vec<([u8; 32], [u8; 64])> = (0..count)
            .map(|_| Ok((reader.array()?, reader.array()?)))
            .collect::<Result<_, DecodeError>>()?;
        match signatures.is_sorted_by(|(a, _), (b, _)| a < b) {
            true => Ok(Signatures(signatures)),
            false => Err(DecodeError::Field("signature order")),
        }
    }
}
