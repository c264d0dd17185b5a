//! An authority's process: reads the descriptors that nodes left in a folder, and leaves the documents there. What
//! the documents say is crate [`authority`]'s.

use std::io;

use authority::Authority;
use directory::Consensus;
use directory::store::Store;

/// What an authority does now and then: makes the current epoch's document if there is none, and
/// from the middle of an epoch the next one's. Says which it published. A document once published
/// is never replaced.
///
/// # Errors
/// The store can't be read or written; nodes that make no document are `InvalidData`.
pub fn turn(authority: &Authority, store: &Store, unix_ms: u64) -> io::Result<Vec<u32>> {
    let parameters = authority.parameters();
    let now = parameters.epoch_at(unix_ms);
    let middle = parameters.epoch_starts_ms(now) + parameters.epoch_ms / 2;
    let mut due = vec![now];
    if unix_ms >= middle {
        due.extend(now.checked_add(1));
    }
    let mut published = Vec::new();
    for epoch in due {
        if store.read_consensus(epoch)?.is_some() {
            continue;
        }
        let before = before(authority, store, epoch);
        let document = authority
            .sign_after(before.as_ref(), epoch, store.read_descriptors()?)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        store.publish_consensus(epoch, &document)?;
        published.push(epoch);
    }
    Ok(published)
}

/// The document before that of `epoch`, if it is there and this authority's.
fn before(authority: &Authority, store: &Store, epoch: u32) -> Option<Consensus> {
    let document = store.read_consensus(epoch.checked_sub(1)?).ok()??;
    document.verify(&authority.authorities().ok()?, None).ok()
}
