//! What leaves, and when.
//!
//! A slot is nobody's business but the clock's. [`Departures`] owns the Poisson process, the sending half of the link
//! and what lies ready, and [`Departures::depart`] seals the next of it and nothing else: in a running client on a
//! thread of its own, in a simulation on the only one, with the same slots in both. Everything that takes time (disk,
//! handshakes, opening, wrapping) happens elsewhere and is told here as a [`Supply`]. When the rest of the client is
//! too busy to supply, a reserve of drop cover fills in, and after it cover of the link, so that no packet from
//! outside and no disk moves, bunches or skips a slot. The reserve is drop cover, for loops would come back, and the
//! gateway would count more deliveries whenever somebody keeps the client busy.
//!
//! Types and receiver indices are in the clear. So in the renewal of a link that works it does not show either when an
//! answer of the gateway's was read: what follows one leaves [`HOLD_NS`] after what asked for it, or as long again after
//! that, and so on. While the gateway is silent there is no such wait: nothing comes that could keep a client busy, and
//! its user waits to be back.

use std::collections::VecDeque;
use std::net::SocketAddr;

use link::{DATAGRAM_BYTES, SealJob, SendSession};
use sphinx::Generator;

use super::attachment::Frame;
use super::unit;

/// A client that overslept (a suspended laptop) does not make up for more than this.
const BEHIND_MAX_NS: u64 = 1_000_000_000;
/// Frames that lie ready at most; more are thrown away.
const READY_MAX: usize = 32;
/// Frames of the reserve at most; more are thrown away.
pub(super) const RESERVE_MAX: usize = 1_024;

/// From a handshake's message until what follows its answer: longer than an answer takes to come, and than a disk keeps
/// it from being read. So long before its time a renewal is made.
pub(super) const HOLD_NS: u64 = 1_000_000_000;

/// What the rest of the client has made for the slots to come.
pub(crate) enum Supply {
    /// Where the gateway is.
    To(SocketAddr),
    /// The newest session and its first frame: from its moment on everything is sealed under it.
    Link(Box<SendSession>, Option<Frame>),
    /// Another gateway and a session with it: what was supplied before was for the old one.
    Move(SocketAddr, Box<SendSession>),
    /// A handshake's first message, for the next slot from its moment on.
    Handshake(Initiation),
    /// A datagram for another gateway, for the next slot.
    Question(SocketAddr, Box<[u8; DATAGRAM_BYTES]>),
    /// What the next free slot holds.
    Ready(Timed),
    /// Drop cover for slots for which nothing is ready.
    Reserve(Timed),
    /// The epoch has turned: what was supplied before is of the old one.
    Turn,
}

/// A handshake's first message.
pub(crate) struct Initiation {
    pub(super) datagram: Box<[u8; DATAGRAM_BYTES]>,
    /// When it is due. It was made before.
    pub(super) from_ns: u64,
    /// It shows the cookie that the one before it was answered with.
    pub(super) follows: bool,
    /// What follows its answer waits for a moment that hangs on when this left.
    pub(super) held: bool,
}

/// A frame that nobody sends from a time on, for then its epoch is over.
pub(crate) struct Timed {
    pub(super) frame: Frame,
    pub(super) until_ns: u64,
}

/// What has become of the supplies, counted since the start. What was thrown away is gone too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Gone {
    pub(crate) handshakes: u64,
    pub(crate) questions: u64,
    pub(crate) ready: u64,
    pub(crate) reserve: u64,
    /// Of the reserve, what was sent.
    pub(crate) reserve_sent: u64,
    /// Datagrams sent.
    pub(crate) datagrams: u64,
    /// Slots that have passed.
    pub(crate) slots: u64,
}

/// The Poisson process, and what lies ready for it.
pub(crate) struct Departures {
    rate_pps: f64,
    slots: Generator,
    slot_ns: u64,
    to: Option<SocketAddr>,
    link: Option<Box<SendSession>>,
    /// The first frame under it.
    first: Option<Frame>,
    /// What takes its place.
    next: Option<(Box<SendSession>, Option<Frame>)>,
    handshake: Option<Initiation>,
    /// The next moment for what follows the last one's answer; without one there is no wait.
    moment_ns: Option<u64>,
    question: Option<(SocketAddr, Box<[u8; DATAGRAM_BYTES]>)>,
    ready: VecDeque<Timed>,
    reserve: VecDeque<Timed>,
    /// Cover of the link, for slots for which there is nothing else: a slot asks nobody for memory.
    cover: Frame,
    gone: Gone,
}

impl Departures {
    /// Starts the process at `now_ns`; its times hang on `slots` and the rate alone.
    pub(super) fn new(mut slots: Generator, rate_pps: f64, now_ns: u64) -> Self {
        let slot_ns = now_ns + gap_ns(&mut slots, rate_pps);
        Self {
            rate_pps,
            slots,
            slot_ns,
            to: None,
            link: None,
            first: None,
            next: None,
            handshake: None,
            moment_ns: None,
            question: None,
            ready: VecDeque::with_capacity(READY_MAX),
            reserve: VecDeque::with_capacity(RESERVE_MAX),
            cover: Frame::cover(),
            gone: Gone::default(),
        }
    }

    /// The mean time between slots.
    pub(crate) fn mean_gap_ns(&self) -> u64 {
        (1e9 / self.rate_pps) as u64
    }

    /// When the next slot is.
    pub(crate) fn slot_ns(&self) -> u64 {
        self.slot_ns
    }

    /// What has become of the supplies.
    pub(crate) fn gone(&self) -> Gone {
        self.gone
    }

    /// Takes what was made elsewhere.
    pub(crate) fn take(&mut self, supply: Supply) {
        match supply {
            Supply::To(address) => self.to = Some(address),
            Supply::Link(session, first) => self.next = Some((session, first)),
            Supply::Move(to, session) => {
                // It would show the new gateway which one was used before.
                self.gone.handshakes += u64::from(self.handshake.take().is_some());
                self.take(Supply::Turn);
                (self.to, self.link) = (Some(to), Some(session));
                (self.first, self.next, self.moment_ns) = (None, None, None);
            }
            Supply::Handshake(initiation) => {
                self.gone.handshakes += u64::from(self.handshake.is_some());
                self.handshake = Some(initiation);
            }
            Supply::Question(to, datagram) => {
                self.gone.questions += u64::from(self.question.is_some());
                self.question = Some((to, datagram));
            }
            Supply::Ready(timed) if self.ready.len() < READY_MAX => self.ready.push_back(timed),
            Supply::Ready(_) => self.gone.ready += 1,
            Supply::Reserve(timed) if self.reserve.len() < RESERVE_MAX => {
                self.reserve.push_back(timed);
            }
            Supply::Reserve(_) => self.gone.reserve += 1,
            Supply::Turn => {
                self.gone.ready += self.ready.len() as u64;
                self.gone.reserve += self.reserve.len() as u64;
                self.ready.clear();
                self.reserve.clear();
            }
        }
    }

    /// Fills the slot if its time has come: where to send which datagram. A slot without one (no gateway known, no
    /// session yet) passes.
    pub(crate) fn depart(&mut self, now_ns: u64) -> Option<(SocketAddr, [u8; DATAGRAM_BYTES])> {
        if now_ns < self.slot_ns {
            return None;
        }
        let from_ns = self.slot_ns.max(now_ns.saturating_sub(BEHIND_MAX_NS));
        self.slot_ns = from_ns + gap_ns(&mut self.slots, self.rate_pps);
        self.gone.slots += 1;
        if let Some((to, datagram)) = self.question.take() {
            self.gone.questions += 1;
            self.gone.datagrams += 1;
            return Some((to, *datagram));
        }
        let to = self.to?;
        let has_link = self.link.as_ref().is_some_and(|link| !link.expired(now_ns));
        let is_moment = self.is_moment(now_ns) || !has_link;
        if is_moment && let Some((session, first)) = self.next.take() {
            (self.link, self.first) = (Some(session), first);
        }
        let is_due = |one: &mut Initiation| match one.follows {
            true => is_moment,
            false => now_ns >= one.from_ns || !has_link,
        };
        let datagram = match self.handshake.take_if(is_due) {
            Some(initiation) => {
                self.gone.handshakes += 1;
                self.moment_ns = initiation.held.then_some(now_ns + HOLD_NS);
                *initiation.datagram
            }
            None => self.seal_next(now_ns)?,
        };
        self.gone.datagrams += 1;
        Some((to, datagram))
    }

    /// Whether this slot is the first one from such a moment on.
    fn is_moment(&mut self, now_ns: u64) -> bool {
        let Some(moment_ns) = &mut self.moment_ns else {
            return true;
        };
        let Some(late_ns) = now_ns.checked_sub(*moment_ns) else {
            return false;
        };
        *moment_ns += (late_ns / HOLD_NS + 1) * HOLD_NS;
        true
    }

    fn seal_next(&mut self, now_ns: u64) -> Option<[u8; DATAGRAM_BYTES]> {
        let link = self.link.as_mut()?;
        if link.expired(now_ns) {
            return None;
        }
        if let Some(frame) = self.first.take() {
            return seal(link, &frame, now_ns);
        }
        if let Some(frame) = next_of(&mut self.ready, &mut self.gone.ready, now_ns) {
            return seal(link, &frame, now_ns);
        }
        if let Some(frame) = next_of(&mut self.reserve, &mut self.gone.reserve, now_ns) {
            self.gone.reserve_sent += 1;
            return seal(link, &frame, now_ns);
        }
        seal(link, &self.cover, now_ns)
    }
}

/// Seals a frame under a session; nothing when that is over.
pub(super) fn seal(
    link: &mut SendSession,
    frame: &Frame,
    now_ns: u64,
) -> Option<[u8; DATAGRAM_BYTES]> {
    if link.expired(now_ns) {
        return None;
    }
    let counter = link.next_counter()?;
    let mut datagram = [0; DATAGRAM_BYTES];
    datagram[link::CONTENT_OFFSET..link::CONTENT_OFFSET + link::CONTENT_BYTES]
        .copy_from_slice(&frame.content[..]);
    link::seal_batch(&mut [SealJob {
        session: link.key(),
        counter,
        kind: frame.kind,
        epoch: frame.epoch,
        datagram: &mut datagram,
    }]);
    Some(datagram)
}

/// The first of a queue whose time is not over.
fn next_of(queue: &mut VecDeque<Timed>, gone: &mut u64, now_ns: u64) -> Option<Frame> {
    loop {
        let timed = queue.pop_front()?;
        *gone += 1;
        if now_ns < timed.until_ns {
            return Some(timed.frame);
        }
    }
}

/// An exponential gap between two slots.
fn gap_ns(rng: &mut Generator, rate_pps: f64) -> u64 {
    (-unit(rng).ln() * 1e9 / rate_pps) as u64
}

#[cfg(test)]
pub(crate) mod tests {
    use link::{Arrival, ClientKeys, Initiator, LinkKeys, Responder, Response};
    use rand_core::SeedableRng;

    use super::*;

    const RATE_PPS: f64 = 200.0;

    /// The sending half of a session.
    fn session(rng: &mut Generator) -> SendSession {
        let (mailbox, gateway) = (ClientKeys::generate(rng), LinkKeys::generate(rng));
        let remote = gateway.public();
        let started = Initiator::start(&mailbox, &remote, 1, None, rng);
        let (_, initiation) = started.expect("sound keys");
        let arrival = Arrival {
            source: ([127, 0, 0, 1], 1).into(),
            now_ns: 0,
        };
        // Both ends are here, so no cookie has to prove an address.
        let response = Responder::new(gateway).answer(&initiation, &arrival, 2, |_| true, rng);
        let Ok(Response::Accepted { session, .. }) = response else {
            panic!("no session");
        };
        session.send
    }

    fn departures(rng: &mut Generator) -> Departures {
        let mut departures = Departures::new(Generator::seed_from_u64(7), RATE_PPS, 0);
        departures.take(Supply::To(([127, 0, 0, 1], 9).into()));
        departures.take(Supply::Link(Box::new(session(rng)), None));
        departures
    }

    /// Departures with a session, and four packets of the reserve whose epoch is over at `until_ns`.
    pub(crate) fn departures_of_an_epoch(until_ns: u64) -> (Departures, Vec<Supply>) {
        let departures = departures(&mut Generator::seed_from_u64(5));
        let supplies = (0..4).map(|_| Supply::Reserve(timed(until_ns)));
        (departures, supplies.collect())
    }

    fn timed(until_ns: u64) -> Timed {
        Timed {
            frame: Frame::sphinx([3; sphinx::PACKET_BYTES], 1),
            until_ns,
        }
    }

    #[test]
    fn a_client_that_is_kept_busy_departs_in_every_slot_at_its_time_from_reserve_and_link_cover() {
        let rng = &mut Generator::seed_from_u64(1);
        let (mut busy, mut idle) = (departures(rng), departures(rng));
        for _ in 0..20 {
            busy.take(Supply::Reserve(timed(u64::MAX)));
        }
        let mut slots = Vec::new();
        for _ in 0..50 {
            idle.take(Supply::Ready(timed(u64::MAX)));
            assert_eq!(busy.slot_ns(), idle.slot_ns());
            let now_ns = busy.slot_ns();
            assert!(busy.depart(now_ns - 1).is_none());
            let sent = [busy.depart(now_ns), idle.depart(now_ns)];
            slots.push(sent.map(|sent| sent.is_some()));
        }
        assert_eq!(slots, [[true; 2]; 50]);
        let gone = busy.gone();
        assert_eq!((gone.reserve_sent, gone.datagrams), (20, 50));
        assert_eq!(idle.gone().ready, 50);
    }

    #[test]
    fn nothing_of_an_epoch_leaves_after_it_whether_or_not_anybody_tells_of_the_turn() {
        let rng = &mut Generator::seed_from_u64(2);
        let mut departures = departures(rng);
        for _ in 0..4 {
            departures.take(Supply::Ready(timed(1)));
            departures.take(Supply::Reserve(timed(1)));
        }
        let now_ns = departures.slot_ns();
        assert!(departures.depart(now_ns).is_some(), "cover of the link");
        let gone = departures.gone();
        assert_eq!((gone.ready, gone.reserve, gone.reserve_sent), (4, 4, 0));
        departures.take(Supply::Ready(timed(u64::MAX)));
        departures.take(Supply::Reserve(timed(u64::MAX)));
        departures.take(Supply::Turn);
        let now_ns = departures.slot_ns();
        assert!(departures.depart(now_ns).is_some(), "cover of the link");
        let gone = departures.gone();
        assert_eq!((gone.ready, gone.reserve, gone.reserve_sent), (5, 5, 0));
    }

    #[test]
    fn supplies_beyond_the_bounds_are_thrown_away() {
        let rng = &mut Generator::seed_from_u64(3);
        let mut departures = departures(rng);
        for _ in 0..READY_MAX + 3 {
            departures.take(Supply::Ready(timed(u64::MAX)));
        }
        for _ in 0..RESERVE_MAX + 5 {
            departures.take(Supply::Reserve(timed(u64::MAX)));
        }
        let gone = departures.gone();
        assert_eq!((gone.ready, gone.reserve), (3, 5));
        assert_eq!(departures.ready.len(), READY_MAX);
        assert_eq!(departures.reserve.len(), RESERVE_MAX);
    }

    fn initiation(follows: bool, held: bool) -> Supply {
        Supply::Handshake(Initiation {
            datagram: Box::new([5; DATAGRAM_BYTES]),
            from_ns: 0,
            follows,
            held,
        })
    }

    #[test]
    fn a_handshake_takes_the_next_slot_and_what_was_ready_the_one_after() {
        let rng = &mut Generator::seed_from_u64(4);
        let mut departures = departures(rng);
        departures.take(Supply::Ready(timed(u64::MAX)));
        departures.take(initiation(false, false));
        let now_ns = departures.slot_ns();
        assert_eq!(departures.depart(now_ns).map(|sent| sent.1[9]), Some(5));
        assert_eq!(departures.gone().ready, 0);
        let now_ns = departures.slot_ns();
        assert!(departures.depart(now_ns).is_some());
        assert_eq!(departures.gone().ready, 1);
    }

    #[test]
    fn attack_when_an_answer_was_read_shows_in_no_slot_but_in_whole_seconds() {
        let rng = &mut Generator::seed_from_u64(6);
        for (read_ms, moment_ms) in [(0, 1_000), (990, 1_000), (1_010, 2_000), (2_500, 3_000)] {
            let mut departures = departures(rng);
            departures.take(initiation(false, true));
            let asked_ns = departures.slot_ns();
            assert!(departures.depart(asked_ns).is_some());
            let mut answer = Some(initiation(true, true));
            let mut before_ns = asked_ns;
            let follows_ns = loop {
                let now_ns = departures.slot_ns();
                if now_ns >= asked_ns + read_ms * 1_000_000 {
                    answer.take().into_iter().for_each(|it| departures.take(it));
                }
                if departures.depart(now_ns).is_some_and(|sent| sent.1[9] == 5) {
                    break now_ns;
                }
                before_ns = now_ns;
            };
            let moment_ns = asked_ns + moment_ms * 1_000_000;
            assert!(
                (before_ns + 1..=follows_ns).contains(&moment_ns),
                "{read_ms} ms"
            );
        }
    }
}
