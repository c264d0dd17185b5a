//! What a node says of whom it reached: from its handshakes, once an epoch.
//!
//! Encoding: `"FXR1" | network id 16 | identity 32 | epoch 4 | node count 2 | two bits an index of that epoch's consensus,
//! four to a byte from the low end, the rest 0 | signature 64`, the signature over a context and everything before it.

use core::ops::Deref;

use crate::consensus::NODES_MAX;
use crate::identity::{AuthorError, Authorship, Identity};
use crate::wire::{DecodeError, Reader};

/// Largest report.
pub const REPORT_BYTES_MAX: usize = 4 + 16 + 32 + 4 + 2 + NODES_MAX.div_ceil(4) + 64;

const AUTHORSHIP: Authorship = Authorship {
    magic: b"FXR1",
    context: b"fogmix report, version 1\0\0\0\0\0\0\0\0",
    key_offset: 4 + 16,
    bytes_max: REPORT_BYTES_MAX,
};

/// What a node says of another one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mark {
    /// It had no business with it.
    #[default]
    NotMine,
    /// A session was made.
    Reachable,
    /// It tried, and none was made.
    Unreachable,
}

/// A node's report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Which network.
    pub network: [u8; 16],
    /// Who says so.
    pub identity: [u8; 32],
    /// The epoch whose nodes it names.
    pub epoch: u32,
    /// By index in that epoch's consensus, one a node.
    pub marks: Vec<Mark>,
}

/// A report as its node signed it. Dereferences to the [`Report`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedReport {
    report: Report,
    bytes: Vec<u8>,
    /// Asked for far more often than it is made: by everyone who looks for something by its digest.
    digest: [u8; 32],
}

impl Deref for SignedReport {
    type Target = Report;
    fn deref(&self) -> &Report {
        &self.report
    }
}

/// Why a report is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReportError {
    /// Not the canonical encoding.
    #[error("malformed report: {0}")]
    Decode(#[from] DecodeError),
    /// Not signed by the identity that it names.
    #[error("the report is not signed by its identity")]
    Signature,
    /// The signing key is not the identity in the report.
    #[error("the report names another identity than the key that signs it")]
    Identity,
}

impl From<AuthorError> for ReportError {
    fn from(error: AuthorError) -> Self {
        match error {
            AuthorError::Decode(error) => Self::Decode(error),
            AuthorError::Signature => Self::Signature,
        }
    }
}

impl Report {
    /// Encodes and signs.
    ///
    /// # Errors
    /// Too many nodes, or `identity` is not this report's.
    pub fn sign(self, identity: &Identity) -> Result<SignedReport, ReportError> {
        if identity.public() != self.identity {
            return Err(ReportError::Identity);
        }
        let bytes = self.encode();
        // The decoder is the one place that knows the bounds.
        if Report::decode(&bytes)? != self {
            return Err(DecodeError::Field("report").into());
        }
        let bytes = AUTHORSHIP.sign(bytes, identity);
        Ok(SignedReport::new(self, bytes))
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = AUTHORSHIP.magic.to_vec();
        bytes.extend_from_slice(&self.network);
        bytes.extend_from_slice(&self.identity);
        bytes.extend_from_slice(&self.epoch.to_be_bytes());
        let count = u16::try_from(self.marks.len()).unwrap_or(u16::MAX);
        bytes.extend_from_slice(&count.to_be_bytes());
        for four in self.marks.chunks(4) {
            let byte = four.iter().rev().fold(0, |byte, mark| {
                byte << 2
                    | match mark {
                        Mark::NotMine => 0,
                        Mark::Reachable => 1,
                        Mark::Unreachable => 2,
                    }
            });
            bytes.push(byte);
        }
        bytes
    }

    pub(crate) fn decode(message: &[u8]) -> Result<Report, DecodeError> {
        let mut reader = Reader::new(message);
        reader.magic(AUTHORSHIP.magic)?;
        let (network, identity, epoch) = (reader.array()?, reader.array()?, reader.u32()?);
        let count = usize::from(reader.u16()?);
        if count > NODES_MAX {
            return Err(DecodeError::Field("node count"));
        }
        let packed = reader.take(count.div_ceil(4))?;
        reader.finish()?;
        let mut all = packed
            .iter()
            .flat_map(|byte| [0, 2, 4, 6].map(|shift| byte >> shift & 3));
        let marks = all
            .by_ref()
            .take(count)
            .map(|bits| match bits {
                0 => Ok(Mark::NotMine),
                1 => Ok(Mark::Reachable),
                2 => Ok(Mark::Unreachable),
                _ => Err(DecodeError::Field("mark")),
            })
            .collect::<Result<_, DecodeError>>()?;
        if all.any(|bits| bits != 0) {
            return Err(DecodeError::Field("marks after the last node"));
        }
        Ok(Report {
            network,
            identity,
            epoch,
            marks,
        })
    }
}

impl SignedReport {
    /// Whether bytes say that they are a report, and whose: nothing is verified.
    pub fn claimed_identity(bytes: &[u8]) -> Option<[u8; 32]> {
        let mut reader = Reader::new(bytes);
        reader.magic(AUTHORSHIP.magic).ok()?;
        reader.take(AUTHORSHIP.key_offset.checked_sub(4)?).ok()?;
        reader.array().ok()
    }

    /// Verifies and decodes: size, then signature, then fields.
    ///
    /// # Errors
    /// The first check that fails.
    pub fn verify(bytes: &[u8]) -> Result<SignedReport, ReportError> {
        let message = AUTHORSHIP.open(bytes)?;
        let report = Report::decode(message)?;
        Ok(SignedReport::new(report, bytes.to_vec()))
    }

    fn new(report: Report, bytes: Vec<u8>) -> SignedReport {
        let digest = *blake3::hash(&bytes).as_bytes();
        SignedReport {
            report,
            bytes,
            digest,
        }
    }

    /// As it travels.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// BLAKE3 of its bytes, signature included.
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }
}
