//! The whole node, production worker and all, forwards packets in lockstep.

use std::io;
use std::sync::Arc;

use crossbeam::channel::Receiver;
use mixnode::assembly::Assembly;
use mixnode::handshake::Request;
use mixnode::path::half_open::Whose;
use mixnode::path::mail::{Mail, Mailbox};
use mixnode::path::stage::Part;
use mixnode::path::worker::Worker;
use port::pool::FramePool;
use port::{EventFd, Port};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use sphinx::lanes::Lanes;

use super::marks::{self, Marks};
use super::{BATCH, Table};
use crate::cases::Case;
use crate::clock::thread_cpu_ns;
use crate::lost::lost;
use crate::rounds::Round;
use crate::scene::place::Place;
use crate::scene::settings;
use crate::scene::world::{DELAY_MAX_US, GENESIS_MS, World};

/// Turns after which a round's packets must have come and gone.
const TURNS_MAX: u32 = 1_000;
/// Virtual time between receiving and sending: longer than any delay of a packet here.
const HOLD_NS: u64 = 2 * DELAY_MAX_US as u64 * 1_000;

/// A worker, the node's other threads played by hand.
struct Rig<P: Port> {
    worker: Worker<P>,
    mailbox: Mailbox,
    requests: Receiver<Request>,
    world: World,
    place: Place,
    now_ns: u64,
    /// Datagrams that left past the fast path so far.
    detours: u64,
    /// Datagrams sealed for the next round.
    burst: Vec<[u8; link::DATAGRAM_BYTES]>,
    /// Reads the clock at the borders of the worker's parts, in every other pass, if those are measured too.
    marks: Option<Marks>,
    /// Whether this pass is one of these.
    in_parts: bool,
    /// Which of the two comes first in a round.
    parts_first: bool,
    /// What sending the burst took, with the kernel's delivery to the port.
    delivery_ns: u64,
}

/// What a part's samples are called beside those of the whole.
pub(super) fn in_parts(part: &str) -> String {
    format!("in parts: {part}")
}

/// A case that forwards `BATCH` packets a round through a node on this port.
pub(super) fn case<P: Port + 'static>(
    name: &str,
    (table, lanes): (Table, Lanes),
    place: Place,
    pool: FramePool,
    event: Arc<EventFd>,
    port: P,
) -> io::Result<Case> {
    let mut rig = Rig::new(lanes, place, pool, event, port)?;
    let name = match table {
        Table::Touched => {
            rig.world.touch_replay_table()?;
            name.to_owned()
        }
        Table::InParts => {
            rig.world.touch_replay_table()?;
            rig.connect()?;
            rig.marks = Some(Marks::new());
            let parts = marks::NAMES.map(in_parts);
            // The whole has the port's name alone.
            let names = std::iter::once("").chain(parts.iter().map(String::as_str));
            return Ok(Case::with_parts(
                name,
                &names.collect::<Vec<_>>(),
                BATCH,
                rig,
            ));
        }
        Table::Untouched => format!("{name}, untouched replay table"),
    };
    rig.connect()?;
    Ok(Case::new(&name, BATCH, rig))
}

impl<P: Port> Rig<P> {
    fn new(
        lanes: Lanes,
        place: Place,
        pool: FramePool,
        event: Arc<EventFd>,
        port: P,
    ) -> io::Result<Rig<P>> {
        let mut rng = sphinx::Generator::seed_from_u64(7);
        let world = World::new(
            place.address,
            place.sources(),
            &place.next_hops,
            ChaCha20Rng::from_rng(&mut rng),
        )?;
        let assembly = Assembly::new(vec![event], false)?;
        let settings = settings(&place, &pool);
        let worker = assembly.seats[0].worker(settings, lanes, pool, port, rng, 0)?;
        Ok(Rig {
            worker,
            mailbox: assembly.mailboxes[0].clone(),
            requests: assembly.requests,
            world,
            place,
            now_ns: 0,
            detours: 0,
            burst: Vec::new(),
            marks: None,
            in_parts: false,
            parts_first: false,
            delivery_ns: 0,
        })
    }

    fn post(&self, mail: Mail) -> io::Result<()> {
        match self.mailbox.post(mail) {
            true => Ok(()),
            false => Err(io::Error::other("the worker's mailbox is full")),
        }
    }

    fn turn(&mut self) {
        let unix_ms = GENESIS_MS + self.now_ns / 1_000_000;
        match self.marks.as_mut().filter(|_| self.in_parts) {
            Some(marks) => {
                let mut mark = |part| marks.mark(part);
                self.worker.turn_marked(self.now_ns, unix_ms, &mut mark);
            }
            None => {
                self.worker.turn(self.now_ns, unix_ms);
            }
        }
    }

    /// Puts the epoch in force and opens all sessions, as the node's handshake thread would.
    fn connect(&mut self) -> io::Result<()> {
        self.post(Mail::Epoch(Arc::clone(&self.world.state)))?;
        self.turn();
        while let Ok(request) = self.requests.try_recv() {
            let Request::Connect { link, remote, .. } = request else {
                continue;
            };
            let session = Box::new(self.world.connect_node(&remote)?);
            self.post(Mail::Connected { link, session })?;
        }
        for number in 0..self.world.senders.len() {
            let accepted = self.world.connect_sender(number)?;
            let source = self.world.senders[number].address;
            self.place.admit(accepted.session.local_index, source)?;
            self.post(Mail::Accepted {
                session: accepted.session,
                whose: Whose::Member,
                source,
                reply: accepted.reply,
            })?;
        }
        let sessions = (self.world.senders.len() + self.place.next_hops.len()) as u64;
        self.until("the sessions were not taken up", |worker| {
            let counters = worker.counters();
            counters.sessions + counters.half_open == sessions && worker.port().in_flight() == 0
        })?;
        self.place.drain();
        self.detours = self.worker.port().counters().transmitted_through_kernel;
        Ok(())
    }

    /// Turns until `done`.
    fn until(&mut self, what: &str, done: impl Fn(&Worker<P>) -> bool) -> io::Result<()> {
        for _ in 0..TURNS_MAX {
            self.turn();
            if done(&self.worker) {
                return Ok(());
            }
            // Not reached on the measured way unless the kernel is late.
            let port = self.worker.port_mut();
            if port.in_flight() > 0 {
                let soon_ns = port.now_ns() + 1_000_000;
                port.wait(Some(soon_ns))?;
                if let Some(marks) = self.marks.as_mut().filter(|_| self.in_parts) {
                    marks.mark(Part::Port);
                }
            }
        }
        Err(lost(what))
    }

    /// Forwards what was put before the port; gives the time that it took.
    fn pass(&mut self) -> io::Result<u64> {
        let before = self.worker.counters();
        let start = thread_cpu_ns();
        if let Some(marks) = self.marks.as_mut().filter(|_| self.in_parts) {
            marks.start(start);
        }
        let came = before.received + BATCH as u64;
        self.until("packets did not arrive", |worker| {
            worker.counters().received >= came
        })?;
        self.now_ns += HOLD_NS;
        let left = before.transmitted + BATCH as u64;
        self.until("packets did not leave", |worker| {
            worker.counters().transmitted >= left && worker.port().in_flight() == 0
        })?;
        let spent = thread_cpu_ns() - start;
        if let Some(marks) = self.marks.as_mut().filter(|_| self.in_parts) {
            marks.mark(Part::Other);
        }
        let detours = self.worker.port().counters().transmitted_through_kernel;
        if std::mem::replace(&mut self.detours, detours) != detours {
            return Err(lost("packets took the way through the kernel's socket"));
        }
        let after = self.worker.counters();
        if after.rejected_total() != before.rejected_total() {
            return Err(lost("the node refused packets"));
        }
        Ok(spent)
    }
}

impl<P: Port> Round for Rig<P> {
    /// Seals the packets and puts them before the node's port.
    fn prepare(&mut self) -> io::Result<()> {
        self.place.drain();
        self.burst.clear();
        for number in 0..BATCH {
            let sender = number % self.world.senders.len();
            self.burst.push(self.world.datagram(sender)?);
        }
        let start = thread_cpu_ns();
        for (number, datagram) in self.burst.iter().enumerate() {
            self.place
                .send(number % self.world.senders.len(), datagram)?;
        }
        self.delivery_ns = thread_cpu_ns() - start;
        Ok(())
    }

    /// The whole, and on the same node right after or before it the parts: a node of its own lies elsewhere in memory, and
    /// differs by more than the clock costs.
    fn run(&mut self) -> io::Result<Vec<u64>> {
        if self.marks.is_none() {
            return Ok(vec![self.pass()?]);
        }
        let (mut whole_ns, mut parts) = (0, Vec::new());
        self.in_parts = self.parts_first;
        for number in 0..2 {
            if number > 0 {
                self.prepare()?;
            }
            let spent = self.pass()?;
            match &self.marks {
                Some(marks) if self.in_parts => parts = marks.spent(self.delivery_ns),
                _ => whole_ns = spent,
            }
            self.in_parts = !self.in_parts;
        }
        self.parts_first = !self.parts_first;
        Ok(std::iter::once(whole_ns).chain(parts).collect())
    }
}
