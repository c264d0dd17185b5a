//! What the follower knows, for other threads to read: put there whole, so that neither side waits for the other.

use std::sync::{Arc, Mutex, PoisonError};

use crate::clock::Reading;
use directory::{Chain, Consensus, Parameters, Role, SignedDescriptor};

/// A verified document.
#[derive(Clone, Debug)]
pub struct Document {
    /// What it says.
    pub consensus: Arc<Consensus>,
    /// Who of its authority set signed it, ascending.
    pub signers: Vec<[u8; 32]>,
}

/// Who the node beside this daemon says that it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Own {
    /// Its identity.
    pub identity: [u8; 32],
    /// Its operator.
    pub operator: String,
    /// Mix or gateway.
    pub role: Role,
}

impl Own {
    /// What its descriptor says.
    pub fn of(descriptor: &SignedDescriptor) -> Own {
        Own {
            identity: descriptor.identity,
            operator: descriptor.operator.clone(),
            role: descriptor.role,
        }
    }
}

/// What is known of a network.
#[derive(Clone, Debug)]
pub struct Followed {
    /// Its id.
    pub network: [u8; 16],
    /// Its parameters.
    pub parameters: Parameters,
    /// Oldest first.
    pub documents: Vec<Document>,
    /// The node here, once it has described itself.
    pub own: Option<Own>,
    /// Of each authority of the set what it says of its clock, if it answered last.
    pub clocks: Vec<Option<Reading>>,
}

impl Followed {
    /// The document that is in force in epoch `now`: its own, or the one before's, which carries on where there is none.
    pub fn in_force(&self, now: u32) -> Option<&Document> {
        let epoch = |document: &&Document| document.consensus.epoch();
        let begun = self.documents.iter().filter(|held| epoch(held) <= now);
        begun
            .max_by_key(epoch)
            .filter(|newest| epoch(newest).saturating_add(1) >= now)
    }
}

/// Where the follower puts it.
#[derive(Clone, Debug)]
pub struct Board(Arc<Mutex<Arc<Followed>>>);

impl Board {
    /// Of a network of which nothing is known yet.
    pub fn new(chain: &Chain) -> Board {
        Board(Arc::new(Mutex::new(Arc::new(Followed {
            network: *chain.network(),
            parameters: *chain.parameters(),
            documents: Vec::new(),
            own: None,
            clocks: Vec::new(),
        }))))
    }

    /// Puts what is known now.
    pub fn put(&self, documents: Vec<Document>, own: Option<Own>) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *held = Arc::new(Followed {
            documents,
            own,
            ..Followed::clone(&held)
        });
    }

    /// Puts what each authority of the set says of its clock.
    pub fn hear(&self, clocks: Vec<Option<Reading>>) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *held = Arc::new(Followed {
            clocks,
            ..Followed::clone(&held)
        });
    }

    /// Puts all of it.
    #[cfg(test)]
    pub(crate) fn set(&self, followed: Followed) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(followed);
    }

    /// What is known now.
    pub fn read(&self) -> Arc<Followed> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
