//! A worker: runs the stages to completion, turn by turn.
//!
//! [`Worker::turn`] is all of the packet path with time as a parameter: a thread calls it around [`Port::wait`], a
//! simulator calls it at the deadlines it returns.

use std::sync::Arc;

use arrayvec::ArrayVec;

use crate::handshake::Request;
use crate::loader_link::Loader;
use crate::path::core::Core;
use crate::path::counters::{Counters, Distributions, FastPath, Published};
use crate::path::mail::{Mail, Mailbox};
use crate::path::reason::Reason;
use crate::path::restart;
use crate::path::stage::{
    OpenedBatch, Part, SealedBatch, UnwrappedBatch, admit, control, cover, deliver, open, release,
    route, seal, stream, transmit, unwrap,
};
use port::{Port, ReceivedBatch};

/// Bursts taken from the port in one turn, so that due frames never wait longer.
const BURSTS_A_TURN: usize = 4;
/// Batches sent in one turn.
const DEPARTURES_A_TURN: usize = 8;
/// Time between housekeeping phases.
const HOUSEKEEPING_NS: u64 = 100_000_000;
/// A client's sessions end so long after it attached to another worker: its last frames may still be on the way.
const PARTING_NS: u64 = 10_000_000_000;
/// When the port takes nothing, it is asked again after this at the latest.
const PRESSURE_NS: u64 = 1_000_000;

/// One worker and its port.
pub struct Worker<P: Port> {
    core: Core,
    port: P,
    received: ReceivedBatch,
    sealed: SealedBatch,
    opened: OpenedBatch,
    unwrapped: UnwrappedBatch,
    turns: u64,
    housekeeping_ns: u64,
    published: Arc<Published>,
}

impl<P: Port> Worker<P> {
    /// A worker around its state and its port.
    pub fn new(mut core: Core, port: P, published: Arc<Published>) -> Worker<P> {
        core.is_on_loopback = port.local_address().ip().to_canonical().is_loopback();
        Worker {
            housekeeping_ns: core.now_ns,
            core,
            port,
            received: ArrayVec::new(),
            sealed: ArrayVec::new(),
            opened: ArrayVec::new(),
            unwrapped: ArrayVec::new(),
            turns: 0,
            published,
        }
    }

    /// Tells this loader of sessions that are over.
    pub fn attach(&mut self, loader: Loader) {
        self.core.attach(loader);
    }

    /// Counters of now.
    pub fn counters(&self) -> Counters {
        let (core, port) = (&self.core, self.port.counters());
        let (held, loops) = (core.held_count(), core.loops.counts());
        let mut counters = Counters {
            held,
            unconserved: core.ledger.unconserved(held, self.port.holds() as u64),
            loop_sent: loops.sent,
            loop_returned: loops.returned,
            loop_lost: loops.lost,
            loop_late: loops.late,
            anonymity: core.anonymity,
            strayed: core.strayed,
            clients_refused: core.refused,
            clients_displaced: core.displaced,
            transmit_failed: port.transmit_failed,
            transmit_dropped: port.transmit_dropped,
            kernel_dropped: port.kernel_dropped,
            clients: core.clients.len() as u64,
            sessions: (core.neighbours.session_count() + core.links.connected()) as u64,
            half_open: core.neighbours.half_open_count() as u64,
            session_outcomes: core.neighbours.counters(),
            restarts_told: core.restarts.told,
            restarts_heard: core.restarts.heard,
            turns: self.turns,
            fast_path: FastPath {
                received_through_kernel: port.received_through_kernel,
                kernel_limited: port.kernel_limited,
                transmitted_through_kernel: port.transmitted_through_kernel,
                ring_full: port.ring_full,
                fill_empty: port.fill_empty,
                foreign: port.foreign,
                corrupt: port.corrupt,
            },
            ..Counters::default()
        };
        core.ledger.show(&mut counters);
        counters
    }

    /// Datagrams that arrived so far.
    pub fn received(&self) -> u64 {
        self.core.ledger.received()
    }

    /// What was recorded since the counters were last published.
    pub fn distributions(&self) -> &Distributions {
        &self.core.distributions
    }

    /// The worker's state, for inspection.
    pub fn core(&self) -> &Core {
        &self.core
    }

    /// The port.
    pub fn port(&self) -> &P {
        &self.port
    }

    /// The port, to wait on between turns.
    pub fn port_mut(&mut self) -> &mut P {
        &mut self.port
    }

    /// One turn: everything that arrived, everything due, and what the worker sends by itself. Returns when the
    /// next turn is due if nothing arrives before.
    pub fn turn(&mut self, now_ns: u64, unix_ms: u64) -> Option<u64> {
        self.turn_marked(now_ns, unix_ms, &mut |_| ())
    }

    /// As [`Worker::turn`], and tells `mark` of each part when it is done.
    pub fn turn_marked(
        &mut self,
        now_ns: u64,
        unix_ms: u64,
        mark: &mut impl FnMut(Part),
    ) -> Option<u64> {
        self.core.now_ns = self.core.now_ns.max(now_ns);
        self.core.unix_ms = unix_ms;
        self.core.loops.turned(self.core.now_ns);
        self.core.epochs.advance(unix_ms);
        self.core.ledger.reclaim(&mut self.port);
        // What the port did not take last time goes first: until it has, nothing is released.
        transmit::transmit(&mut self.core, &mut self.port);
        mark(Part::Port);
        self.read_mail();
        mark(Part::Other);
        self.receive_strays(mark);
        let more_received = self.receive(mark);
        let more_due = self.depart(mark);
        self.core.ledger.reclaim(&mut self.port);
        mark(Part::Port);
        self.turns += 1;
        self.core.ledger.settle(&self.port);
        if now_ns >= self.housekeeping_ns {
            self.housekeeping();
        }
        debug_assert!(
            self.counters().is_conserved(),
            "a frame was lost or made of nothing: {:?}",
            self.counters()
        );
        if more_received || more_due || !self.mailbox_is_empty() {
            return Some(self.core.now_ns);
        }
        self.deadline_ns()
    }

    /// Whether nothing is left to send after [`Mail::Drain`].
    pub fn is_drained(&self) -> bool {
        self.core.draining
            && self.core.wheel.is_empty()
            && self.core.departing.is_empty()
            && self.core.clients.queued() == 0
            && self.port.in_flight() == 0
    }

    /// Gives up whatever is still held, closes the port and publishes the last counters.
    pub fn stop(&mut self) {
        self.core.draining = true;
        let mut left = ArrayVec::new();
        while self.core.wheel.drain(&mut left) > 0 {
            for one in left.drain(..) {
                self.core.ledger.reject(one.frame, Reason::Stopping);
            }
        }
        while let Some(slot) = self.core.clients.any() {
            self.detach(slot, Reason::Stopping);
        }
        for one in self.core.departing.drain(..) {
            self.core.ledger.reject(one.frame, Reason::Stopping);
        }
        self.core.ledger.close(&mut self.port);
        self.publish();
    }

    /// Reads letters while what they may ask to send has room.
    fn read_mail(&mut self) {
        for _ in 0..crate::path::mail::MAILBOX_LETTERS {
            if self.core.departing.is_full() {
                return;
            }
            let Some(mail) = self.core.mailbox().and_then(Mailbox::take) else {
                return;
            };
            self.read(mail);
        }
    }

    fn read(&mut self, mail: Mail) {
        let core = &mut self.core;
        match mail {
            Mail::Accepted {
                session,
                whose,
                source,
                reply,
            } => {
                let index = session.local_index;
                let neighbours = &mut core.neighbours;
                if !core.draining && neighbours.wait_for(session, whose, source).is_ok() {
                    transmit::send_raw(core, source, &reply);
                } else {
                    neighbours.refused(index);
                }
            }
            Mail::Connected {
                link: number,
                session,
            } => {
                if let Some(link) = core.links.get_mut(number)
                    && link.remote.x25519 == session.peer
                {
                    link.session = Some(session);
                    (link.wanted, link.connecting) = (false, false);
                    // At the other end it counts from its first frame.
                    core.greetings.push(number);
                }
            }
            Mail::Send {
                destination,
                datagram,
            } => {
                transmit::send_raw(core, destination, &datagram);
            }
            Mail::Delivery {
                destination,
                id,
                body,
            } => {
                deliver::deliver_body(core, &destination, &id, &body);
            }
            Mail::Loop { id, returned_ns } => {
                route::loop_home(core, &id, returned_ns);
            }
            Mail::ClientAt {
                destination,
                worker,
                order,
            } => {
                let attached = core.clients.attached(&destination);
                let session = attached.map(|client| client.session);
                let ledger = &mut core.ledger;
                let place = (worker, order);
                let moved = core
                    .clients
                    .moved(destination, place, core.now_ns, |frame| {
                        ledger.reject(frame, Reason::ClientGone);
                    });
                if moved {
                    // Its rate is granted there now.
                    if let Some(session) = session {
                        core.revoke(session);
                    }
                    core.neighbours
                        .end_later(&destination, core.now_ns + PARTING_NS);
                }
            }
            Mail::ClientGone { destination, order } => core.clients.gone(&destination, order),
            Mail::Restarted { key } => {
                core.links.stale(&key);
                self.connect();
            }
            Mail::Leaving { epoch } => core.clients.leave(epoch),
            Mail::Epoch(state) => {
                core.install(state);
                self.connect();
            }
            Mail::Drain => core.draining = true,
        }
    }

    /// Takes what other workers handed over, as many batches at most as from the port.
    fn receive_strays(&mut self, mark: &mut impl FnMut(Part)) {
        for _ in 0..BURSTS_A_TURN {
            if admit::admit_strays(&mut self.core, &mut self.sealed) == 0 {
                return;
            }
            self.process(mark);
        }
    }

    /// Takes bursts from the port; says whether more may be waiting.
    fn receive(&mut self, mark: &mut impl FnMut(Part)) -> bool {
        for _ in 0..BURSTS_A_TURN {
            let ledger = &mut self.core.ledger;
            let received = ledger.receive(&mut self.port, &mut self.received);
            mark(Part::Port);
            if received == 0 {
                return false;
            }
            admit::admit(&mut self.core, &mut self.received, &mut self.sealed);
            self.process(mark);
        }
        true
    }

    /// From the link's AEAD to the wheel, for one batch.
    fn process(&mut self, mark: &mut impl FnMut(Part)) {
        open::open(&mut self.core, &mut self.sealed, &mut self.opened);
        mark(Part::Link);
        unwrap::unwrap(&mut self.core, &mut self.opened, &mut self.unwrapped, mark);
        mark(Part::Sphinx);
        route::route(&mut self.core, &mut self.unwrapped);
        mark(Part::Wheel);
    }

    /// Sends what is due; says whether more is.
    fn depart(&mut self, mark: &mut impl FnMut(Part)) -> bool {
        for _ in 0..DEPARTURES_A_TURN {
            transmit::transmit(&mut self.core, &mut self.port);
            if !self.core.departing.is_empty() {
                return false;
            }
            self.core.ledger.reclaim(&mut self.port);
            mark(Part::Port);
            let mut outgoing = ArrayVec::new();
            let released = release::release(&mut self.core, &mut outgoing);
            mark(Part::Wheel);
            stream::refuse(&mut self.core, &mut outgoing);
            stream::stream(&mut self.core, &mut outgoing);
            if !self.core.draining {
                cover::greet(&mut self.core, &mut outgoing);
                cover::cover(&mut self.core, &mut outgoing);
            }
            mark(Part::Other);
            if outgoing.is_empty() && released == 0 {
                return false;
            }
            seal::seal(&mut self.core, &mut outgoing);
            mark(Part::Link);
        }
        transmit::transmit(&mut self.core, &mut self.port);
        true
    }

    fn mailbox_is_empty(&self) -> bool {
        self.core.mailbox().is_none_or(Mailbox::is_empty)
    }

    fn deadline_ns(&self) -> Option<u64> {
        let pressure = (!self.core.departing.is_empty()).then_some(self.core.now_ns + PRESSURE_NS);
        let cover = self
            .core
            .cover
            .deadline_ns()
            .filter(|_| !self.core.draining);
        let sending = [
            self.core.wheel.deadline_ns(),
            self.core.clients.deadline_ns(),
            cover,
        ];
        // Under pressure nothing is released, so nothing else is worth waking for.
        let sending = if pressure.is_some() {
            [None; 3]
        } else {
            sending
        };
        sending
            .into_iter()
            .flatten()
            .chain(pressure)
            .chain([self.housekeeping_ns])
            .min()
    }

    /// What needs doing now and then: published metrics, rekeys, what timed out.
    fn housekeeping(&mut self) {
        self.housekeeping_ns = self.core.now_ns + HOUSEKEEPING_NS;
        self.port.housekeeping();
        self.core.neighbours.expire(self.core.now_ns);
        let clients = &self.core.clients;
        self.core
            .neighbours
            .end_parted(self.core.now_ns, |client| clients.is_attached(client));
        if let Some(loader) = &self.core.loader {
            // What its queue does not take now it is told the next time.
            self.core
                .neighbours
                .tell_ended(|index| loader.forget(index));
        }
        self.core.clients.forget_moved(self.core.now_ns);
        control::tell(&mut self.core);
        let mut from = 0;
        while let Some(slot) = self.core.clients.silent(from, self.core.now_ns) {
            self.detach(slot, Reason::ClientGone);
            from = slot;
        }
        self.core.loops.look(self.core.now_ns);
        restart::go_on(&mut self.core);
        self.connect();
        self.publish();
    }

    fn publish(&mut self) {
        let mut counters = self.counters();
        counters.fold_deliveries();
        self.published
            .publish(&counters, &mut self.core.distributions);
        self.published.tell(self.core.loops.fates_mut());
    }

    fn detach(&mut self, slot: u16, reason: Reason) {
        if let Some(session) = self.core.clients.get(slot).map(|client| client.session) {
            self.core.revoke(session);
        }
        let ledger = &mut self.core.ledger;
        self.core
            .clients
            .detach(slot, |frame| ledger.reject(frame, reason));
    }

    /// Asks for the sessions that are wanted. A full queue is asked again in the next housekeeping.
    fn connect(&mut self) {
        let core = &mut self.core;
        let (handshakes, worker) = (&core.shared.handshakes, core.settings.number);
        core.links.abandon(|link, key| {
            let request = Request::Abandon { worker, link, key };
            handshakes.try_send(request).is_ok()
        });
        for number in core.links.numbers() {
            let Some(link) = core.links.get_mut(number) else {
                continue;
            };
            link.renew(core.now_ns);
            link.wanted |= link
                .session
                .as_ref()
                .is_none_or(|session| session.send.needs_rekey(core.now_ns));
            if !link.wanted || link.connecting {
                continue;
            }
            let request = Request::Connect {
                worker: core.settings.number,
                link: number,
                remote: Arc::clone(&link.remote),
                destination: link.address,
            };
            link.connecting = core.shared.handshakes.try_send(request).is_ok();
        }
    }
}
