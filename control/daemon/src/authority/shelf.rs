//! What an authority hands out without its thread, which may be long at a document just when all want one.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use authority::round::Newest;
use bytes::Bytes;
use directory::{Bootstrap, Chain, Consensus, Diff};

/// Documents that are handed out.
const DOCUMENTS_MAX: usize = 8;

/// A document to hand out.
#[derive(Clone, Debug)]
pub struct Shelved {
    /// What it says.
    pub consensus: Arc<Consensus>,
    /// Document and signatures.
    pub document: Bytes,
    /// Diffs that lead to it, by the epoch of the document they begin with.
    pub diffs: BTreeMap<u32, Bytes>,
}

/// All that is handed out.
#[derive(Debug, Default)]
pub struct Shelf {
    /// Oldest first.
    pub documents: Vec<Shelved>,
    /// Authority sets, oldest first, as they travel.
    pub sets: Vec<Bytes>,
    /// The bootstrap file.
    pub network: Bytes,
}

impl Shelf {
    /// The document of `epoch`.
    pub fn of(&self, epoch: u32) -> Option<&Shelved> {
        let mut held = self.documents.iter();
        held.find(|held| held.consensus.epoch() == epoch)
    }

    /// Puts the newest document on it if that is news, with diffs from those that lie there, and the chain of sets. Diffs
    /// are made while nobody waits for the shelf.
    pub fn fill(shelf: &Mutex<Shelf>, chain: &Chain, newest: Option<&Newest>) {
        let bootstrap = Bootstrap {
            chain: chain.clone(),
            consensus: newest.map(|newest| newest.signed.clone()),
        };
        let network = Bytes::from(bootstrap.encode());
        let sets = chain.sets().iter();
        let sets = sets.map(|set| Bytes::from(set.encode())).collect();
        let lock = || shelf.lock().unwrap_or_else(PoisonError::into_inner);
        let held = lock().documents.clone();
        let last = held.last().map(|last| last.consensus.epoch());
        let news = newest.filter(|newest| Some(newest.consensus.epoch()) > last);
        let shelved = news.map(|newest| Shelved {
            consensus: Arc::new(newest.consensus.clone()),
            document: Bytes::from(newest.signed.encode()),
            diffs: held
                .iter()
                .filter_map(|held| {
                    let base = &held.consensus;
                    let diff = Diff::between(base, &newest.consensus, &newest.signed)?;
                    Some((base.epoch(), Bytes::from(diff.encode())))
                })
                .collect(),
        });
        let mut shelf = lock();
        (shelf.network, shelf.sets) = (network, sets);
        shelf.documents.extend(shelved);
        let over = shelf.documents.len().saturating_sub(DOCUMENTS_MAX);
        shelf.documents.drain(..over);
    }
}
