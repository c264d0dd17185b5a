//! What one worker counts. Plain integers in the loop; published whole in the housekeeping phase.

use std::sync::{Arc, Mutex};

use hdrhistogram::Histogram;

use crate::path::anonymity::Anonymity;
use crate::path::loops::{FATES_MAX, Fate, Fates};
use crate::path::neighbours::SessionCounters;
use crate::path::reason::{REASON_COUNT, Reason};

/// What a port over AF_XDP counts beside; zero for other ports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FastPath {
    /// Datagrams that came through the kernel's socket, beside the fast path.
    pub received_through_kernel: u64,
    /// Datagrams that came that way and were more than may.
    pub kernel_limited: u64,
    /// Datagrams that left through it.
    pub transmitted_through_kernel: u64,
    /// Packets the kernel dropped because a receive ring was full.
    pub ring_full: u64,
    /// Times the kernel found no frame to receive into.
    pub fill_empty: u64,
    /// Packets steered here that are no datagrams to this node.
    pub foreign: u64,
    /// Entries of rings that make no sense.
    pub corrupt: u64,
}

impl FastPath {
    fn add(&mut self, other: &FastPath) {
        self.received_through_kernel += other.received_through_kernel;
        self.kernel_limited += other.kernel_limited;
        self.transmitted_through_kernel += other.transmitted_through_kernel;
        self.ring_full += other.ring_full;
        self.fill_empty += other.fill_empty;
        self.foreign += other.foreign;
        self.corrupt += other.corrupt;
    }
}

/// Counters of one worker since its start, and gauges of now.
///
/// Conservation, at the end of every turn: `received + generated = transmitted + delivered + absorbed +
/// Σ rejected + held` ([`Counters::is_conserved`]). The worker's [`crate::path::ledger::Ledger`] keeps the account; this
/// is a copy of it with all else that is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counters {
    /// Datagrams that arrived, those shed for want of a frame included.
    pub received: u64,
    /// Frames this worker made: cover, handshakes, answers, what another worker handed over.
    pub generated: u64,
    /// Frames handed to the port for other nodes, for handshakes, and as cover for clients.
    pub transmitted: u64,
    /// Frames handed to the port that carry a delivery to a client.
    pub delivered: u64,
    /// Frames that ended here as intended: cover, loops come home, control frames, handshakes, hand-overs.
    pub absorbed: u64,
    /// Dropped, by [`Reason`].
    pub rejected: [u64; REASON_COUNT],
    /// Frames held now: delayed, queued for clients, waiting for the port.
    pub held: u64,
    /// Loop packets sent.
    pub loop_sent: u64,
    /// Loop packets that came back in time.
    pub loop_returned: u64,
    /// Loop packets that were overdue.
    pub loop_lost: u64,
    /// Of these, such as came back later.
    pub loop_late: u64,
    /// Of what left the wheel.
    pub anonymity: Anonymity,
    /// Frames that landed on this worker and belong to another.
    pub strayed: u64,
    /// Sent datagrams the kernel refused.
    pub transmit_failed: u64,
    /// Sent datagrams that would have waited for, or held up, others: to addresses that have not answered yet.
    pub transmit_dropped: u64,
    /// Datagrams dropped at the socket's door: of another length, or since its buffer was full.
    pub kernel_dropped: u64,
    /// Attach frames that found no place.
    pub clients_refused: u64,
    /// Clients that gave their place up to one of a network with fewer.
    pub clients_displaced: u64,
    /// Clients attached now.
    pub clients: u64,
    /// Sessions open now, both directions; half-open ones do not count.
    pub sessions: u64,
    /// Half-open sessions now.
    pub half_open: u64,
    /// What became of sessions.
    pub session_outcomes: SessionCounters,
    /// Frames in which neighbours were told that this node was restarted.
    pub restarts_told: u64,
    /// Times that a next hop said so of itself.
    pub restarts_heard: u64,
    /// Frames of the pool, all and in use.
    pub pool_frames: u64,
    /// Frames of the pool in use.
    pub pool_in_use: u64,
    /// Frames that the account does not explain now: 0, or this program has a defect
    /// ([`crate::path::ledger::Ledger::unconserved`]).
    pub unconserved: u64,
    /// Turns of the loop: its heartbeat.
    pub turns: u64,
    /// The port's own, beside the conserved ones.
    pub fast_path: FastPath,
}

impl Default for Counters {
    fn default() -> Counters {
        Counters {
            received: 0,
            generated: 0,
            transmitted: 0,
            delivered: 0,
            absorbed: 0,
            rejected: [0; REASON_COUNT],
            held: 0,
            loop_sent: 0,
            loop_returned: 0,
            loop_lost: 0,
            loop_late: 0,
            anonymity: Anonymity::default(),
            strayed: 0,
            clients_refused: 0,
            clients_displaced: 0,
            transmit_failed: 0,
            transmit_dropped: 0,
            kernel_dropped: 0,
            clients: 0,
            sessions: 0,
            half_open: 0,
            session_outcomes: SessionCounters::default(),
            restarts_told: 0,
            restarts_heard: 0,
            pool_frames: 0,
            pool_in_use: 0,
            unconserved: 0,
            turns: 0,
            fast_path: FastPath::default(),
        }
    }
}

impl Counters {
    /// Drops for one reason.
    pub fn rejected(&self, reason: Reason) -> u64 {
        self.rejected[reason as usize]
    }

    /// All drops.
    pub fn rejected_total(&self) -> u64 {
        self.rejected.iter().sum()
    }

    /// Whether every frame that came in or was made is accounted for.
    pub fn is_conserved(&self) -> bool {
        let left = self.transmitted + self.delivered + self.absorbed + self.rejected_total();
        self.received + self.generated == left + self.held && self.unconserved == 0
    }

    /// Makes of them what may be shown: a delivery counts as if its packet had ended here and the frame of its slot had
    /// been made here, like cover's. Else whoever reads the counters ten times a second would see when mail comes. What
    /// was conserved stays so.
    pub fn fold_deliveries(&mut self) {
        let delivered = core::mem::take(&mut self.delivered);
        self.generated += delivered;
        self.transmitted += delivered;
        self.absorbed += delivered;
    }

    /// Adds another worker's.
    pub fn add(&mut self, other: &Counters) {
        for (sum, one) in self.rejected.iter_mut().zip(other.rejected) {
            *sum += one;
        }
        self.received += other.received;
        self.generated += other.generated;
        self.transmitted += other.transmitted;
        self.delivered += other.delivered;
        self.absorbed += other.absorbed;
        self.held += other.held;
        self.loop_sent += other.loop_sent;
        self.loop_returned += other.loop_returned;
        self.loop_lost += other.loop_lost;
        self.loop_late += other.loop_late;
        self.anonymity.add(&other.anonymity);
        self.strayed += other.strayed;
        self.clients_refused += other.clients_refused;
        self.clients_displaced += other.clients_displaced;
        self.transmit_failed += other.transmit_failed;
        self.transmit_dropped += other.transmit_dropped;
        self.kernel_dropped += other.kernel_dropped;
        self.clients += other.clients;
        self.sessions += other.sessions;
        self.half_open += other.half_open;
        self.session_outcomes.add(&other.session_outcomes);
        self.restarts_told += other.restarts_told;
        self.restarts_heard += other.restarts_heard;
        self.pool_frames += other.pool_frames;
        self.pool_in_use += other.pool_in_use;
        self.unconserved += other.unconserved;
        self.turns += other.turns;
        self.fast_path.add(&other.fast_path);
    }
}

/// Distributions of one worker.
#[derive(Clone, Debug)]
pub struct Distributions {
    /// How late a held frame left, microseconds.
    pub lateness_us: Histogram<u64>,
    /// Packets of one unwrap batch.
    pub unwrap_batch: Histogram<u64>,
    /// How long frames were held, microseconds.
    pub hold_us: Histogram<u64>,
    /// Round trip of loop packets, microseconds.
    pub loop_us: Histogram<u64>,
}

/// Longest time a histogram tells from longer ones: two minutes.
const TIME_MAX_US: u64 = 120_000_000;

impl Distributions {
    /// Empty histograms of fixed range: recording never allocates.
    ///
    /// # Errors
    /// Never with these constant bounds.
    pub fn new() -> Result<Distributions, hdrhistogram::CreationError> {
        Ok(Distributions {
            lateness_us: Histogram::new_with_bounds(1, TIME_MAX_US, 2)?,
            unwrap_batch: Histogram::new_with_bounds(1, 128, 2)?,
            hold_us: Histogram::new_with_bounds(1, TIME_MAX_US, 2)?,
            loop_us: Histogram::new_with_bounds(1, TIME_MAX_US, 2)?,
        })
    }

    /// Adds what `other` recorded. Same bounds, so nothing is allocated and nothing lost.
    pub fn add(&mut self, other: &Distributions) {
        for (into, from) in [
            (&mut self.lateness_us, &other.lateness_us),
            (&mut self.unwrap_batch, &other.unwrap_batch),
            (&mut self.hold_us, &other.hold_us),
            (&mut self.loop_us, &other.loop_us),
        ] {
            if !from.is_empty() {
                let _ = into.add(from);
            }
        }
    }

    /// Forgets everything.
    pub fn reset(&mut self) {
        for histogram in [
            &mut self.lateness_us,
            &mut self.unwrap_batch,
            &mut self.hold_us,
            &mut self.loop_us,
        ] {
            if !histogram.is_empty() {
                histogram.reset();
            }
        }
    }

    fn take_from(&mut self, other: &mut Distributions) {
        self.add(other);
        other.reset();
    }
}

/// Where a worker publishes and a scrape reads.
#[derive(Debug)]
pub struct Published {
    inner: Mutex<(Counters, Distributions)>,
    /// Fates of loops that nobody has taken yet. Made with its room, so that telling them allocates nothing.
    fates: Mutex<Vec<Fate>>,
}

/// Fates that wait to be taken, which happens a few times a second where anyone does; further ones are not told.
const UNTAKEN_MAX: usize = 4 * FATES_MAX;

impl Published {
    /// Nothing published yet.
    ///
    /// # Errors
    /// As [`Distributions::new`].
    pub fn new() -> Result<Arc<Published>, hdrhistogram::CreationError> {
        Ok(Arc::new(Published {
            inner: Mutex::new((Counters::default(), Distributions::new()?)),
            fates: Mutex::new(Vec::with_capacity(UNTAKEN_MAX)),
        }))
    }

    /// Called by the worker now and then. If a scrape holds the lock the worker does not wait: the next time will do.
    pub fn publish(&self, counters: &Counters, distributions: &mut Distributions) {
        if let Ok(mut inner) = self.inner.try_lock() {
            inner.0 = *counters;
            inner.1.take_from(distributions);
        }
    }

    /// Tells what became of loops. Does not wait either.
    pub fn tell(&self, fates: &mut Fates) {
        if let Ok(mut untaken) = self.fates.try_lock() {
            let room = UNTAKEN_MAX.saturating_sub(untaken.len());
            untaken.extend(fates.drain(..).take(room));
        }
    }

    /// Adds what was told since the last call to `into`.
    pub fn take_fates(&self, into: &mut Vec<Fate>) {
        if let Ok(mut untaken) = self.fates.lock() {
            into.extend(untaken.drain(..));
        }
    }

    /// The newest counters.
    pub fn counters(&self) -> Counters {
        // As for `scrape`.
        self.inner
            .lock()
            .map_or_else(|_| Counters::default(), |inner| inner.0)
    }

    /// The newest counters; adds the distributions since the last call to `into`.
    pub fn scrape(&self, into: &mut Distributions) -> Counters {
        match self.inner.lock() {
            Ok(mut inner) => {
                into.take_from(&mut inner.1);
                inner.0
            }
            // The worker died while publishing; its thread's end is reported elsewhere.
            Err(_) => Counters::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_that_are_shown_do_not_tell_mail_from_cover() {
        // Ten slots of a client's stream and ten packets that end here: drop cover all, or three of them mail.
        let idle = Counters {
            received: 10,
            generated: 10,
            transmitted: 10,
            absorbed: 10,
            ..Counters::default()
        };
        let busy = Counters {
            received: 10,
            generated: 7,
            transmitted: 7,
            delivered: 3,
            absorbed: 7,
            ..Counters::default()
        };
        let shown = [idle, busy].map(|mut counters| {
            assert!(counters.is_conserved());
            counters.fold_deliveries();
            assert!(counters.is_conserved());
            counters
        });
        assert_eq!(shown[0], shown[1]);
    }

    #[test]
    fn a_scrape_takes_distributions_once_and_counters_as_they_are() {
        let published = Published::new().unwrap();
        let mut mine = Distributions::new().unwrap();
        mine.hold_us.saturating_record(5_000);
        let counters = Counters {
            received: 3,
            ..Counters::default()
        };
        published.publish(&counters, &mut mine);
        assert!(mine.hold_us.is_empty());
        let mut total = Distributions::new().unwrap();
        assert_eq!(published.scrape(&mut total).received, 3);
        assert_eq!(published.scrape(&mut total).received, 3);
        assert_eq!(total.hold_us.len(), 1);
    }
}
