//! What a new client or node starts from, in one file: the authorities since the network's founding, and a recent
//! consensus.
//!
//! Encoding: `"FXB2" | chain of authority sets | consensus flag 1 | signed consensus`.

use std::io;
use std::path::Path;

use crate::authority_set::{CHAIN_BYTES_MAX, Chain, SetError};
use crate::consensus::Consensus;
use crate::signed::{CONSENSUS_BYTES_MAX, Held, SignedConsensus, VerifyError};
use crate::store::{read_bounded, write_atomic};
use crate::wire::{DecodeError, Reader};

const MAGIC: &[u8; 4] = b"FXB2";
/// Largest bootstrap file.
pub const BOOTSTRAP_BYTES_MAX: usize = 4 + CHAIN_BYTES_MAX + 1 + CONSENSUS_BYTES_MAX;

/// A network to join.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bootstrap {
    /// The authorities from the founding on. Whoever hands out this file is trusted with the founding set; each further
    /// one is vouched for by the one before.
    pub chain: Chain,
    /// A recent document, verified on use. None while a network is founded: nodes upload to the chain's addresses.
    pub consensus: Option<SignedConsensus>,
}

/// Why a bootstrap file is no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BootstrapError {
    /// Not the canonical encoding.
    #[error("malformed bootstrap file: {0}")]
    Decode(#[from] DecodeError),
    /// Its authorities are none.
    #[error(transparent)]
    Set(#[from] SetError),
    /// Its founding set is another than the one known here.
    #[error("this is another network")]
    OtherNetwork,
    /// It holds no document yet.
    #[error("the network is only being founded: it has no document yet")]
    Founding,
    /// Its document is refused.
    #[error(transparent)]
    Consensus(#[from] VerifyError),
}

impl Bootstrap {
    /// Encodes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&self.chain.encode());
        bytes.push(u8::from(self.consensus.is_some()));
        if let Some(consensus) = &self.consensus {
            bytes.extend_from_slice(&consensus.encode());
        }
        bytes
    }

    /// Decodes the canonical bytes and checks the chain; the consensus inside is not verified yet.
    ///
    /// # Errors
    /// Not the canonical encoding, too large, or no chain.
    pub fn decode(bytes: &[u8]) -> Result<Self, BootstrapError> {
        if bytes.len() > BOOTSTRAP_BYTES_MAX {
            let limit_bytes = BOOTSTRAP_BYTES_MAX;
            return Err(DecodeError::TooLarge { limit_bytes }.into());
        }
        let mut reader = Reader::new(bytes);
        reader.magic(MAGIC)?;
        let chain = Chain::read(&mut reader)?;
        let consensus = match reader.flag("consensus flag")? {
            true => Some(SignedConsensus::decode(reader.rest())?),
            false => None,
        };
        reader.finish()?;
        Ok(Self { chain, consensus })
    }

    /// Verifies the document under the authorities of the file.
    ///
    /// # Errors
    /// There is none, or as [`SignedConsensus::verify`].
    pub fn verify(&self) -> Result<Consensus, BootstrapError> {
        let consensus = self.consensus.as_ref().ok_or(BootstrapError::Founding)?;
        Ok(consensus.verify(&self.chain, &Held::default())?)
    }

    /// Whether it is of the network whose authorities are known as `chain`.
    ///
    /// # Errors
    /// It was founded by another set.
    pub fn check_network(&self, chain: &Chain) -> Result<(), BootstrapError> {
        match self.chain.network() == chain.network() {
            true => Ok(()),
            false => Err(BootstrapError::OtherNetwork),
        }
    }

    /// Reads a bootstrap file.
    ///
    /// # Errors
    /// The file can't be read, or is no bootstrap file (`InvalidData`).
    pub fn read(path: &Path) -> io::Result<Self> {
        let bytes = read_bounded(path, BOOTSTRAP_BYTES_MAX)?;
        Self::decode(&bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }

    /// Writes a bootstrap file by atomic rename.
    ///
    /// # Errors
    /// The file system's.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        write_atomic(path, &self.encode())
    }
}
