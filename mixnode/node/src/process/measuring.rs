//! What the control loop does with what workers measured: it finds, it warns, and it asks for a new handshake with a next
//! hop that loses packets. It does nothing else about it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use handover::status::{Anonymity, Found, HOPS_MAX, HopLoops, NODES_NAMED_MAX};

use super::metrics::Sources;
use crate::handshake::Reached;
use crate::keys::epoch::EpochState;
use crate::keys::heard::Heard;
use crate::measure::{Bits, Book, Change, Detector, NodeKey, Pool, PoolChange, Silence};
use crate::path::anonymity::Anonymity as Sums;
use crate::path::epochs::EPOCH_SLOTS;
use crate::path::loops::Fate;
use crate::path::mail::{Mail, Mailbox};

/// Takes note of what workers told; with `too` also of how many packets those that left could have been. A next hop that
/// loses packets is asked for new sessions, as if it had said that it was restarted.
pub(super) fn look(sources: &Sources, reached: &Reached, mailboxes: &[Mailbox], too: bool) {
    let fates = sources.collector.fates();
    let now_ns = port::monotonic_ns();
    let renew = |key| {
        let mailboxes = mailboxes.iter();
        // A full one's worker keeps its session.
        let asked = mailboxes.filter(|mailbox| mailbox.post(Mail::Restarted { key }));
        asked.count() > 0
    };
    let standing = sources.standing();
    let patience = standing.loop_time + standing.loop_interval * INTERVALS;
    let mut measured = sources.measured();
    measured.decided(&fates, now_ns, reached, renew);
    measured.listen(now_ns, patience.max(PATIENCE_MIN));
    measured.hear(standing.epoch, now_ns);
    if too {
        let mut sums = Sums::default();
        let counters = sources.collector.counters();
        counters
            .iter()
            .for_each(|worker| sums.add(&worker.anonymity));
        measured.sample(now_ns / 1_000_000_000, sums);
    }
}

/// A next hop that loses packets has so long for a new session; then the report says that it can't be reached.
const CHECK_NS: u64 = 10_000_000_000;
/// Where no loop's fate was known for the longest time that one takes and so many mean intervals, none are sent, and so long at
/// least.
const INTERVALS: u32 = 20;
const PATIENCE_MIN: Duration = Duration::from_secs(10);

/// Whom a document's numbers mean.
struct Document {
    epoch: u32,
    /// By index: static link keys.
    keys: Vec<NodeKey>,
    /// Indices of this node's next hops.
    next: Vec<u16>,
    /// Of those before it.
    previous: Vec<u16>,
    /// What came from them.
    heard: Arc<Heard>,
}

/// A next hop that is asked for a new session.
struct Check {
    key: NodeKey,
    /// None while no worker has had room to be told to ask it.
    until_ns: Option<u64>,
    /// Sessions that it had agreed to before.
    sessions: u64,
}

/// What was measured so far.
pub struct Measured {
    detector: Detector,
    book: Book,
    pool: Pool,
    documents: VecDeque<Document>,
    checks: Vec<Check>,
    /// When a loop's fate was last known; none where nothing is measured.
    decided_ns: Option<u64>,
    silence: Silence,
    /// Of the layer before, as of the last look: how many are silent, and how many there are.
    silent: Option<(u16, u16)>,
}

impl Measured {
    /// Nothing yet; below `floor_bits` the operator is warned.
    pub fn new(floor_bits: f64) -> Measured {
        Measured {
            detector: Detector::new(),
            book: Book::default(),
            pool: Pool::new(floor_bits),
            documents: VecDeque::new(),
            checks: Vec::new(),
            decided_ns: None,
            silence: Silence::default(),
            silent: None,
        }
    }

    /// Learns whom the numbers of an epoch mean.
    pub fn install(&mut self, state: &EpochState) {
        let consensus = state.consensus();
        let nodes = consensus.nodes().iter();
        let next = state.own().map(|own| consensus.next_layer(own.layer));
        let next = next.into_iter().flat_map(|layer| consensus.layer(layer));
        let previous = state.own().into_iter().flat_map(|own| {
            let nodes = consensus.nodes().iter();
            nodes.filter(|node| consensus.next_layer(node.layer) == own.layer)
        });
        self.documents.push_back(Document {
            previous: previous.map(|node| node.index).collect(),
            heard: Arc::clone(state.heard()),
            epoch: state.epoch(),
            keys: nodes.map(|node| node.link.x25519).collect(),
            next: next.map(|node| node.index).collect(),
        });
        if self.documents.len() > EPOCH_SLOTS {
            self.documents.pop_front();
        }
    }

    fn document(&self, epoch: u32) -> Option<&Document> {
        self.documents.iter().find(|one| one.epoch == epoch)
    }

    fn key(&self, epoch: u32, index: u16) -> Option<NodeKey> {
        let keys = &self.document(epoch)?.keys;
        keys.get(usize::from(index)).copied()
    }

    /// Takes note of loops' fates, in the order they were known, and says what that changes. Next hops to shake hands with
    /// anew are given to `renew`.
    pub fn decided(
        &mut self,
        fates: &[Fate],
        now_ns: u64,
        reached: &Reached,
        mut renew: impl FnMut(NodeKey) -> bool,
    ) {
        if !fates.is_empty() {
            self.decided_ns = Some(now_ns);
        }
        let mut changes = Vec::new();
        for fate in fates {
            let first = fate.way.first().copied();
            if let Some(key) = first.and_then(|index| self.key(fate.epoch, index)) {
                self.book.decided(fate, key);
            }
            self.detector.decided(fate, |change| changes.push(change));
        }
        let epoch = self.detector.epoch().unwrap_or(0);
        for change in changes {
            match change {
                Change::Suspected => tracing::warn!(
                    "n-1 suspected: loop packets come home on no way; who keeps others' packets from this node knows the \
                     few that pass. Ask the provider, look at this host's network; the node goes on as before"
                ),
                Change::Calm => tracing::info!("n-1 is not suspected any more"),
                Change::Bad(hop) => {
                    tracing::warn!(
                        hop,
                        epoch,
                        "loop packets through this node do not come home, others do: mixctl loops says whose it is. Of \
                         several named in one moment it may be any, or the way between them"
                    );
                    self.check(epoch, hop, reached);
                }
                Change::Sound(hop) => tracing::info!(
                    hop,
                    epoch,
                    "nothing is held against this node any more: its loops come home, or its epoch is over"
                ),
            }
        }
        let bad: Vec<NodeKey> = self.bad_keys(epoch);
        self.checks.retain_mut(|check| {
            let Some(until_ns) = check.until_ns else {
                if renew(check.key) {
                    check.until_ns = Some(now_ns + CHECK_NS);
                }
                return check.until_ns.is_some() || bad.contains(&check.key);
            };
            if now_ns < until_ns {
                return true;
            }
            if reached.sessions(&check.key) == check.sessions {
                reached.deny(&check.key);
                tracing::warn!(
                    "a next hop that loses packets agreed to no new session: the report says that it can't be reached"
                );
            }
            false
        });
    }

    fn bad_keys(&self, epoch: u32) -> Vec<NodeKey> {
        let bad = self.detector.bad();
        bad.filter_map(|hop| self.key(epoch, hop)).collect()
    }

    /// Finds that nothing is measured where no loop's fate was known for so long: then nothing is held against anybody either.
    pub fn listen(&mut self, now_ns: u64, patience: Duration) {
        let since = |then| Duration::from_nanos(now_ns.saturating_sub(then));
        if self.decided_ns.is_some_and(|then| since(then) > patience) {
            self.decided_ns = None;
            let mut was_suspected = false;
            self.detector
                .rest(|change| was_suspected |= change == Change::Calm);
            self.checks.clear();
            if was_suspected {
                tracing::warn!(
                    "n-1 was suspected and nothing is measured any more: whether it is over is not known"
                );
            }
            tracing::info!(
                "this node's loop packets say nothing now, none was sent or the machine was too late to judge: loss and n-1 are \
                 not measured, and what was found before is not held any more"
            );
        }
    }

    /// Listens to the layer before: of `epoch`, or of the one before while nothing came in that, or it has no document.
    pub fn hear(&mut self, epoch: u32, now_ns: u64) {
        let has_begun = |document: &&Document| {
            let came = |index: &u16| document.heard.of(*index) > 0;
            document.previous.iter().any(came)
        };
        let mut documents = self.documents.iter().rev();
        let own = documents.find(|one| one.epoch <= epoch && has_begun(one));
        let sits_out = |one: &Document| one.epoch == epoch && one.previous.is_empty();
        let own = own.filter(|_| !self.documents.iter().any(sits_out));
        match own {
            None => self.silence.rest(),
            Some(one) => {
                let count = |index| one.heard.of(index);
                self.silence.look(one.epoch, &one.previous, now_ns, count);
            }
        }
        self.silent = self.silence.silent(now_ns);
    }

    fn check(&mut self, epoch: u32, hop: u16, reached: &Reached) {
        let is_next = self
            .document(epoch)
            .is_some_and(|document| document.next.contains(&hop));
        let Some(key) = self.key(epoch, hop).filter(|_| is_next) else {
            return;
        };
        if self.checks.iter().all(|check| check.key != key) {
            self.checks.push(Check {
                key,
                until_ns: None,
                sessions: reached.sessions(&key),
            });
        }
    }

    /// Takes a sample of the anonymity figure; to be called once a second.
    pub fn sample(&mut self, now_s: u64, sums: Sums) {
        let floor_bits = self.pool.floor_bits();
        match self.pool.sample(now_s, sums) {
            Some(PoolChange::Low(bits)) => tracing::warn!(
                "few packets to hide among: {bits:.1} bits on average for five minutes, the floor is {floor_bits:.1}; raise \
                 this node's part of the traffic ([node] capacity_pps), take fewer workers ([worker] count: each mixes \
                 apart), or have the network send more cover or hold packets longer"
            ),
            Some(PoolChange::Enough(bits)) => tracing::info!(
                "enough packets to hide among again: {bits:.1} bits on average, the floor is {floor_bits:.1}"
            ),
            None => {}
        }
    }

    /// What was found by loops.
    pub fn found(&self) -> Found {
        Found {
            epoch: self.detector.epoch().unwrap_or(0),
            is_unmeasured: self.decided_ns.is_none(),
            n1_suspected: self.detector.is_suspected(),
            bad: self.detector.bad().take(NODES_NAMED_MAX).collect(),
            previous_silent: self.silent.map(|(silent, _)| silent),
            previous: self.silent.map_or(0, |(_, all)| all),
        }
    }

    /// Loops by next hop of the epoch that they are found by; of very many those that lose most.
    pub fn hops(&mut self, now_ns: u64) -> Vec<HopLoops> {
        let mut by_key = self.book.by_hop(now_ns);
        let document = self.detector.epoch().and_then(|epoch| self.document(epoch));
        let Some(document) = document else {
            return Vec::new();
        };
        let hop = |index: &u16| {
            let told = by_key.remove(document.keys.get(usize::from(*index))?)?;
            Some(HopLoops {
                index: *index,
                ..told
            })
        };
        let mut hops: Vec<HopLoops> = document.next.iter().filter_map(hop).collect();
        let lost = |hop: &HopLoops| u64::from(hop.overdue) * 1_000_000 / u64::from(hop.sent.max(1));
        hops.sort_by_key(|hop| std::cmp::Reverse(lost(hop)));
        hops.truncate(HOPS_MAX);
        hops.sort_by_key(|hop| hop.index);
        hops
    }

    /// How many packets a departing one could have been.
    pub fn anonymity(&self) -> Anonymity {
        let tenths = |bits: f64| (10.0 * bits).round() as u16;
        let all = |bits: Option<Bits>| bits.map(|bits| tenths(bits.all));
        let apart = |bits: Option<Bits>| bits.map(|bits| tenths(bits.apart));
        let (short, long) = (self.pool.short(), self.pool.long());
        Anonymity {
            short: all(short),
            short_apart: apart(short),
            long: all(long),
            long_apart: apart(long),
            floor: tenths(self.pool.floor_bits()),
            is_low: self.pool.is_low(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::loops::Outcome;
    use std::net::SocketAddr;

    const SECOND: u64 = 1_000_000_000;

    fn fate(at_s: u64, hop: u16, overdue: bool) -> Fate {
        Fate {
            decided_ns: at_s * SECOND,
            epoch: 3,
            id: [0; 8],
            way: [hop].into_iter().collect(),
            outcome: match overdue {
                true => Outcome::Overdue,
                false => Outcome::Home { excess_us: 1_000 },
            },
        }
    }

    /// Hop 1 of three is dead from second 20 on; `answers` when it is asked for a new session, which is from second `asks_s`
    /// on.
    fn played(answers: bool, asks_s: u64) -> (Measured, Reached, Vec<NodeKey>) {
        let mut measured = Measured::new(4.0);
        measured.documents.push_back(Document {
            epoch: 3,
            keys: (0..4).map(|key| [key; 32]).collect(),
            next: vec![0, 1, 2],
            previous: vec![3],
            heard: Arc::new(Heard::new(4, 1)),
        });
        let (reached, mut renewed) = (Reached::default(), Vec::new());
        let place = SocketAddr::from(([10, 0, 0, 1], 9));
        reached.note(&[1; 32], place, true);
        for at_s in 0..60 {
            let fates: Vec<Fate> = (0..3)
                .map(|hop| fate(at_s, hop, hop == 1 && at_s >= 20))
                .collect();
            let before = renewed.len();
            measured.decided(&fates, at_s * SECOND, &reached, |key| {
                if at_s >= asks_s {
                    renewed.push(key);
                }
                at_s >= asks_s
            });
            if answers && renewed.len() > before {
                reached.note(&[1; 32], place, true);
            }
        }
        (measured, reached, renewed)
    }

    #[test]
    fn a_bad_next_hop_is_asked_for_a_session_once_and_reported_if_it_gives_none() {
        for answers in [true, false] {
            let (mut measured, reached, renewed) = played(answers, 0);
            assert_eq!(renewed, [[1; 32]]);
            assert_eq!(reached.take().get(&[1; 32]), Some(&answers));
            let found = measured.found();
            assert_eq!((found.n1_suspected, found.bad), (false, vec![1]));
            let hops = measured.hops(60 * SECOND);
            let overdue: Vec<u32> = hops.iter().map(|hop| hop.overdue).collect();
            assert_eq!(overdue, [0, 40, 0]);
            assert_eq!(hops[1].index, 1);
        }
    }

    #[test]
    fn the_layer_before_is_listened_to_in_the_newest_epoch_that_it_sends_in() {
        let mut measured = Measured::new(4.0);
        let install = |measured: &mut Measured, epoch, previous| {
            let heard = Arc::new(Heard::new(4, 1));
            measured.documents.push_back(Document {
                epoch,
                keys: (0..4).map(|key| [key; 32]).collect(),
                next: vec![0],
                previous,
                heard: Arc::clone(&heard),
            });
            heard
        };
        let silent = |measured: &Measured| {
            let found = measured.found();
            (found.previous_silent, found.previous)
        };
        let heard = install(&mut measured, 3, vec![2, 3]);
        for at_s in 0..60 {
            heard.count(0, 3);
            if at_s < 30 {
                heard.count(0, 2);
            }
            measured.hear(3, at_s * SECOND);
        }
        assert_eq!(silent(&measured), (Some(1), 2));
        let later = install(&mut measured, 4, vec![1]);
        measured.hear(4, 80 * SECOND);
        assert_eq!(silent(&measured), (Some(2), 2), "nothing came in it yet");
        later.count(0, 1);
        measured.hear(4, 81 * SECOND);
        assert_eq!(silent(&measured), (None, 0), "it has just turned");
        install(&mut measured, 5, Vec::new());
        measured.hear(5, 120 * SECOND);
        assert_eq!(silent(&measured), (None, 0), "without a place");
    }

    #[test]
    fn a_hop_that_no_worker_had_room_to_ask_is_asked_later_and_not_reported() {
        let (_, reached, renewed) = played(false, 55);
        assert_eq!(renewed, [[1; 32]], "once there is room");
        assert_eq!(reached.take().get(&[1; 32]), Some(&true), "nobody asked it");
        let (_, reached, renewed) = played(false, 99);
        assert!(renewed.is_empty());
        assert_eq!(reached.take().get(&[1; 32]), Some(&true));
    }

    #[test]
    fn a_node_that_sends_no_loops_holds_nothing_against_anybody_and_says_that_it_does_not_measure()
    {
        let (mut measured, reached, _) = played(true, 0);
        let patience = Duration::from_secs(10);
        measured.listen(69 * SECOND, patience);
        let found = measured.found();
        assert_eq!((found.is_unmeasured, found.bad), (false, vec![1]));
        measured.listen(70 * SECOND, patience);
        let found = measured.found();
        assert_eq!((found.is_unmeasured, found.bad), (true, vec![]));
        measured.decided(&[fate(80, 0, false)], 80 * SECOND, &reached, |_| true);
        measured.listen(80 * SECOND, patience);
        assert!(!measured.found().is_unmeasured);
    }

    #[test]
    fn the_figure_is_told_in_tenths_of_a_bit() {
        let mut measured = Measured::new(4.0);
        let mut sums = Sums::default();
        measured.sample(0, sums);
        assert_eq!(measured.anonymity().short, None);
        sums.released(5, 100, 50);
        measured.sample(1, sums);
        let told = measured.anonymity();
        assert_eq!((told.short, told.short_apart), (Some(66), Some(56)));
        assert_eq!((told.long, told.floor, told.is_low), (Some(66), 40, false));
    }
}
