//! Once a second: what the page shows, made once for all who look; while nobody does, what has changed is noted alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{MissedTickBehavior, interval};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::Api;
use crate::clock::unix_ms;

const SECOND: Duration = Duration::from_secs(1);
/// Who looks at a time.
const SOCKETS_MAX: usize = 8;

/// The newest text, and who waits for the next.
pub(crate) struct Pulse {
    newest: watch::Sender<Utf8Bytes>,
    seats: Arc<Semaphore>,
    made: AtomicU64,
}

impl Default for Pulse {
    fn default() -> Pulse {
        Pulse {
            newest: watch::Sender::default(),
            seats: Arc::new(Semaphore::new(SOCKETS_MAX)),
            made: AtomicU64::new(0),
        }
    }
}

impl Pulse {
    /// A place for one more, until it is dropped, and what comes there from now on; none if all are taken.
    pub(super) fn join(&self) -> Option<(OwnedSemaphorePermit, watch::Receiver<Utf8Bytes>)> {
        let seat = Arc::clone(&self.seats).try_acquire_owned().ok()?;
        Some((seat, self.newest.subscribe()))
    }

    /// The number of one more.
    pub(super) fn next(&self) -> u64 {
        self.made.fetch_add(1, Ordering::Relaxed)
    }
}

/// Beats as long as the process lives. What is late is left out, not made up for.
pub(super) async fn beat(api: Arc<Api>) {
    let mut beats = interval(SECOND);
    beats.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        beats.tick().await;
        if api.pulse.newest.receiver_count() == 0 {
            api.look().await;
            continue;
        }
        let updates = api.updates(&api.board.read(), unix_ms()).await;
        // No key of a map in it is anything but text.
        let text = serde_json::to_string(&updates).unwrap_or_default();
        api.pulse.newest.send_replace(text.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eight_have_a_place_and_whoever_leaves_makes_room() {
        let pulse = Pulse::default();
        let mut inside: Vec<_> = (0..20).filter_map(|_| pulse.join()).collect();
        assert_eq!((inside.len(), pulse.newest.receiver_count()), (8, 8));
        inside.pop();
        assert!(pulse.join().is_some());
    }
}
