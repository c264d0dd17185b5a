//! An authority's process: reads the descriptors that nodes left in a folder, and leaves the documents there. What
//! the documents say is crate [`authority`]'s.

pub(crate) mod desk;
mod disk;
pub(crate) mod evidence;
pub mod files;
pub mod key;
pub mod nodes;
mod peers;
pub mod service;
pub(crate) mod shelf;

use std::io;

use authority::Authority;
use directory::store::Store;
use directory::{Consensus, Held, SignedReport};

/// What an authority that is alone does now and then: makes the current epoch's document if there is none, and from the
/// middle of an epoch the next one's. Says which it published. A document once published is never replaced.
///
/// A mix proves its place over the document before, so it has to have read that: the next one's waits for those that are
/// listed now, until three quarters of the epoch are over.
///
/// # Errors
/// The store can't be read or written; nodes that make no document are `InvalidData`.
pub fn turn(authority: &Authority, store: &Store, unix_ms: u64) -> io::Result<Vec<u32>> {
    let parameters = authority.parameters();
    let now = parameters.epoch_at(unix_ms);
    let after = |quarters| parameters.epoch_starts_ms(now) + parameters.epoch_ms * quarters / 4;
    let mut due = vec![now];
    if let Some(next) = now.checked_add(1)
        && unix_ms >= after(2)
        && (unix_ms >= after(3) || have_all_proved(authority, store, next)?)
    {
        due.push(next);
    }
    let mut published = Vec::new();
    for epoch in due {
        if store.read_consensus(epoch)?.is_some() {
            continue;
        }
        let before = before(authority, store, epoch)?;
        let descriptors = store.read_descriptors()?;
        let reports: Vec<SignedReport> = descriptors
            .iter()
            .filter_map(|one| store.read_report(&one.identity).ok()?)
            .collect();
        let document = authority
            .make_with_reports(before.as_ref(), epoch, &descriptors, &reports)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        store.publish_consensus(epoch, &document)?;
        published.push(epoch);
    }
    Ok(published)
}

/// The newest document before that of `epoch`, if one is there that is this authority's.
fn before(authority: &Authority, store: &Store, epoch: u32) -> io::Result<Option<Consensus>> {
    let mut epochs = store.epochs()?;
    epochs.retain(|held| *held < epoch);
    epochs.sort_unstable();
    Ok(epochs.into_iter().rev().find_map(|held| {
        let document = store.read_consensus(held).ok()??;
        document.verify(authority.chain(), &Held::default()).ok()
    }))
}

/// Whether all nodes that the document before that of `epoch` lists have described themselves for it.
fn have_all_proved(authority: &Authority, store: &Store, epoch: u32) -> io::Result<bool> {
    let Some(before) = before(authority, store, epoch)? else {
        return Ok(false);
    };
    let descriptors = store.read_descriptors()?;
    let have = |identity: &[u8; 32]| {
        let mut own = descriptors.iter().filter(|one| one.identity == *identity);
        own.any(|one| one.is_for(epoch))
    };
    Ok(before.nodes().iter().all(|node| have(&node.identity)))
}
