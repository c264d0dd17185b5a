//! `mixbench node`: the whole node, production worker and all, forwards packets in lockstep.

use std::io;
use std::sync::Arc;

use crossbeam::channel::Receiver;
use mixnode::assembly::Assembly;
use mixnode::handshake::Request;
use mixnode::path::mail::{Mail, Mailbox};
use mixnode::path::worker::Worker;
use port::pool::FramePool;
use port::{EventFd, Port};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use sphinx::lanes::Lanes;

use super::{BATCH, Case, Round, Table};
use crate::clock::thread_cpu_ns;
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
}

fn lost(what: &str) -> io::Error {
    io::Error::other(format!("{what}: is something else using this network?"))
}

/// A case that forwards `BATCH` packets a round through a node on the port that `open` makes.
pub(super) fn case<P: Port + 'static>(
    name: &str,
    table: Table,
    place: Place,
    pool: FramePool,
    event: Arc<EventFd>,
    port: P,
) -> io::Result<Case> {
    let mut rig = Rig::new(place, pool, event, port)?;
    let name = match table {
        Table::Touched => {
            rig.world.touch_replay_table()?;
            name.to_owned()
        }
        Table::Untouched => format!("{name}, untouched replay table"),
    };
    rig.connect()?;
    Ok(Case::new(&name, BATCH, rig))
}

impl<P: Port> Rig<P> {
    fn new(place: Place, pool: FramePool, event: Arc<EventFd>, port: P) -> io::Result<Rig<P>> {
        let mut rng = sphinx::Generator::seed_from_u64(7);
        let world = World::new(
            place.address,
            place.sources(),
            &place.next_hops,
            ChaCha20Rng::from_rng(&mut rng),
        )?;
        let assembly = Assembly::new(vec![event], false)?;
        let settings = settings(&place, &pool);
        let lanes = Lanes::from_env_or_detect();
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
        })
    }

    fn post(&self, mail: Mail) -> io::Result<()> {
        match self.mailbox.post(mail) {
            true => Ok(()),
            false => Err(io::Error::other("the worker's mailbox is full")),
        }
    }

    fn turn(&mut self) {
        self.worker
            .turn(self.now_ns, GENESIS_MS + self.now_ns / 1_000_000);
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
                member: true,
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
            }
        }
        Err(lost(what))
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
        for (number, datagram) in self.burst.iter().enumerate() {
            self.place
                .send(number % self.world.senders.len(), datagram)?;
        }
        Ok(())
    }

    fn run(&mut self) -> io::Result<Vec<u64>> {
        let before = self.worker.counters();
        let start = thread_cpu_ns();
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
        let detours = self.worker.port().counters().transmitted_through_kernel;
        if std::mem::replace(&mut self.detours, detours) != detours {
            return Err(lost("packets took the way through the kernel's socket"));
        }
        let after = self.worker.counters();
        if after.rejected_total() != before.rejected_total() {
            return Err(lost("the node refused packets"));
        }
        Ok(vec![spent])
    }
}
