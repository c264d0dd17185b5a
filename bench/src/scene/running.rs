//! A node that runs: a production worker and the handshake thread, each on a thread, in real time.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use mixnode::assembly::{self, Assembly};
use mixnode::handshake::{self, HandshakeCounters, Handshaker, Request};
use mixnode::path::core::Settings;
use mixnode::path::counters::{Counters, Distributions, Published};
use mixnode::path::half_open::Whose;
use mixnode::path::mail::{Mail, Mailbox};
use mixnode::path::worker::Worker;
use port::pool::FramePool;
use port::{EventFd, PlainPort, Port, PortCounters, PortParts, UringPort, monotonic_ns};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use handover::protocol::Peer;

use crate::scene::place::Place;
use crate::scene::veth::Cable;
use crate::scene::world::{Accepted, GENESIS_MS, World};
use crate::scene::{PortName, Shape, settings};

/// How long sessions may take to be taken up on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// A node that runs.
pub(crate) struct Node {
    worker: Option<JoinHandle<io::Result<(Counters, PortCounters)>>>,
    handshake: Option<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
    mailbox: Mailbox,
    handshakes: Arc<Mutex<HandshakeCounters>>,
    threads: [Arc<AtomicI32>; 2],
    published: Arc<Published>,
    distributions: Distributions,
}

/// What a node stands on.
pub(crate) struct Ground {
    pub(crate) port: PortName,
    /// Its worker's core.
    pub(crate) core: usize,
    pub(crate) shape: Shape,
    /// How many next hops, where the node is on a host of its own, get what is sent to them.
    pub(crate) listening: usize,
    /// Frames of its packet memory.
    pub(crate) frames: u32,
    /// What its XDP program takes it to forward.
    pub(crate) capacity_pps: u32,
    /// The rate and the burst that the program grants each neighbour, if it knows them as nodes.
    pub(crate) granted: Option<(u32, u32)>,
}

/// A node that runs, and all around it. It goes in this order.
pub(crate) struct Scene {
    pub(crate) node: Node,
    pub(crate) world: World,
    pub(crate) place: Place,
}

impl Scene {
    /// Starts a node, with XDP on a host of its own, else on the loopback interface or, as root, there too.
    ///
    /// # Errors
    /// The hosts, the port or its memory can't be had.
    pub(crate) fn start(
        ground: &Ground,
        on_veth: bool,
        world: impl FnOnce(&Place) -> io::Result<World>,
    ) -> io::Result<Scene> {
        let event = Arc::new(EventFd::new()?);
        let mut place = match on_veth {
            true => {
                let cable = Cable::lay(ground.listening)?;
                let mut place = cable.place(ground.shape.next_hops)?;
                place.cable = Some(cable);
                place
            }
            false => Place::loopback(ground.shape.next_hops)?,
        };
        if ground.port == PortName::Xsk {
            let mut cable = place
                .cable
                .take()
                .ok_or_else(|| io::Error::other("xsk takes network namespaces"))?;
            let event_of_port = Arc::clone(&event);
            let opened =
                cable.open_xsk(&place, event_of_port, ground.capacity_pps, ground.frames)?;
            let (pool, port, steering) = opened;
            if let Some((pps, burst)) = ground.granted {
                let peers = place.sources().iter().map(|source| Peer {
                    address: source.ip(),
                    pps,
                    burst,
                });
                steering.peers(peers.collect())?;
            }
            place.steering = Some(steering);
            place.cable = Some(cable);
            return Scene::on(ground, place, world, pool, event, port);
        }
        let pool = FramePool::new(ground.frames)?;
        let parts = PortParts {
            socket: place.node.try_clone()?,
            event: Arc::clone(&event),
        };
        if ground.port == PortName::Uring {
            let port = UringPort::new(parts, &pool)?;
            Scene::on(ground, place, world, pool, event, port)
        } else {
            let port = PlainPort::new(parts, &pool)?;
            Scene::on(ground, place, world, pool, event, port)
        }
    }

    fn on<P: Port + Send + 'static>(
        ground: &Ground,
        place: Place,
        world: impl FnOnce(&Place) -> io::Result<World>,
        pool: FramePool,
        event: Arc<EventFd>,
        port: P,
    ) -> io::Result<Scene> {
        let mut world = world(&place)?;
        let node = Node::start(ground, &mut world, &place, pool, event, port)?;
        Ok(Scene { node, world, place })
    }
}

/// What a node counted until its end.
pub(crate) struct Ended {
    pub(crate) distributions: Distributions,
    pub(crate) worker: Counters,
    pub(crate) port: PortCounters,
    pub(crate) handshakes: HandshakeCounters,
}

impl Node {
    /// Starts a node of `world` at `place`, its worker on this core; all its sessions are open when this returns.
    fn start<P: Port + Send + 'static>(
        ground: &Ground,
        world: &mut World,
        place: &Place,
        pool: FramePool,
        event: Arc<EventFd>,
        port: P,
    ) -> io::Result<Node> {
        let mut rng = sphinx::Generator::seed_from_u64(5);
        let core = ground.core;
        let capacity_pps = ground.granted.map_or(0, |_| ground.capacity_pps);
        let Assembly {
            mailboxes,
            requests,
            members,
            seats,
        } = Assembly::new(vec![event], true)?;
        // Junk comes of strangers too, and one of them attaches.
        let settings = Settings {
            clients_max: 1,
            capacity_pps,
            ..settings(place, &pool)
        };
        let handshaker =
            Handshaker::new(world.node_keys(), members, ChaCha20Rng::from_rng(&mut rng));
        let worker = seats[0].worker(
            settings,
            ground.shape.lanes,
            pool,
            port,
            rng,
            monotonic_ns(),
        )?;
        let published = Arc::clone(&seats[0].published);
        let stop = Arc::new(AtomicBool::new(false));
        let start_ns = monotonic_ns();
        world.now_ns = start_ns;
        let unix_ms = move || GENESIS_MS + (monotonic_ns() - start_ns) / 1_000_000;
        let threads = [Arc::new(AtomicI32::new(0)), Arc::new(AtomicI32::new(0))];
        let (ending, thread) = (Arc::clone(&stop), Arc::clone(&threads[0]));
        let worker = thread::Builder::new()
            .name("worker-0".into())
            .spawn(move || {
                note_thread(&thread);
                work(worker, core, unix_ms, &ending)
            })?;
        let mut node = Node {
            worker: Some(worker),
            handshake: None,
            stop,
            mailbox: mailboxes[0].clone(),
            handshakes: Arc::default(),
            threads,
            published,
            distributions: Distributions::new().map_err(io::Error::other)?,
        };
        node.connect(world, place, &requests)?;
        let (ending, thread) = (Arc::clone(&node.stop), Arc::clone(&node.threads[1]));
        let counters = Arc::clone(&node.handshakes);
        let run = move || {
            note_thread(&thread);
            handshake::thread::run(handshaker, &requests, &mailboxes, &counters, &ending);
        };
        let handshake = thread::Builder::new().name("handshake".into()).spawn(run)?;
        node.handshake = Some(handshake);
        Ok(node)
    }

    /// Puts the epoch in force and opens the sessions on both sides.
    fn connect(
        &mut self,
        world: &mut World,
        place: &Place,
        requests: &crossbeam::channel::Receiver<Request>,
    ) -> io::Result<()> {
        self.post(Mail::Epoch(Arc::clone(&world.state)))?;
        for number in 0..world.senders.len() {
            let accepted = world.connect_sender(number)?;
            let source = world.senders[number].address;
            self.accept(place, accepted, source, true)?;
        }
        let deadline = Instant::now() + PATIENCE;
        let wanted = (world.senders.len() + place.next_hops.len()) as u64;
        let open = |counters: Counters| counters.sessions + counters.half_open;
        while open(self.published.scrape(&mut self.distributions)) < wanted {
            while let Ok(request) = requests.try_recv() {
                if let Request::Connect { link, remote, .. } = request {
                    let session = Box::new(world.connect_node(&remote)?);
                    self.post(Mail::Connected { link, session })?;
                }
            }
            if Instant::now() >= deadline {
                return Err(io::Error::other("the node does not take its sessions up"));
            }
            thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    /// Gives the node its half of a session with somebody at `source`.
    pub(crate) fn accept(
        &self,
        place: &Place,
        accepted: Accepted,
        source: SocketAddr,
        member: bool,
    ) -> io::Result<()> {
        place.admit(accepted.session.local_index, source)?;
        self.post(Mail::Accepted {
            session: accepted.session,
            whose: match member {
                true => Whose::Member,
                false => Whose::Stranger,
            },
            source,
            reply: accepted.reply,
        })
    }

    fn post(&self, mail: Mail) -> io::Result<()> {
        match self.mailbox.post(mail) {
            true => Ok(()),
            false => Err(io::Error::other("the worker's mailbox is full")),
        }
    }

    /// CPU time that both threads have used, nanoseconds.
    pub(crate) fn cpu_ns(&self) -> u64 {
        let of = |thread: &AtomicI32| {
            let id = thread.load(Ordering::Acquire);
            crate::clock::cpu_ns_of(id)
        };
        self.threads.iter().map(|thread| of(thread)).sum()
    }

    /// Stops both threads; what the worker still holds is given up.
    pub(crate) fn end(mut self) -> io::Result<Ended> {
        self.stop.store(true, Ordering::Release);
        self.mailbox.wake();
        let worker = self.worker.take().map(JoinHandle::join);
        if let Some(handshake) = self.handshake.take() {
            let _ = handshake.join();
        }
        let handshakes = self
            .handshakes
            .lock()
            .map_or_else(|_| Default::default(), |one| *one);
        match worker {
            Some(Ok(ended)) => {
                let (worker, port) = ended?;
                self.published.scrape(&mut self.distributions);
                // A node has a last word when it is dropped, so nothing moves out of it.
                let distributions = Distributions::new().map_err(io::Error::other)?;
                Ok(Ended {
                    distributions: std::mem::replace(&mut self.distributions, distributions),
                    worker,
                    port,
                    handshakes,
                })
            }
            _ => Err(io::Error::other("the worker failed")),
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        self.mailbox.wake();
    }
}

fn note_thread(place: &AtomicI32) {
    let id = rustix::thread::gettid().as_raw_nonzero().get();
    place.store(id, Ordering::Release);
}

fn work<P: Port>(
    mut worker: Worker<P>,
    core: usize,
    unix_ms: impl Fn() -> u64,
    stop: &AtomicBool,
) -> io::Result<(Counters, PortCounters)> {
    port::affinity::pin(core)?;
    crate::clock::go_first();
    assembly::run(&mut worker, 0, stop, unix_ms)?;
    worker.port_mut().housekeeping();
    let ended = (worker.counters(), worker.port().counters());
    worker.stop();
    Ok(ended)
}
