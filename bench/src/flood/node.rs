//! The node under fire: a production worker and the handshake thread, each on a thread, in real time.

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
use mixnode::path::mail::{Mail, Mailbox};
use mixnode::path::worker::Worker;
use port::pool::FramePool;
use port::{EventFd, Port, PortCounters, monotonic_ns};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use sphinx::lanes::Lanes;

use crate::scene::place::Place;
use crate::scene::settings;
use crate::scene::world::{Accepted, GENESIS_MS, World};

/// How long sessions may take to be taken up on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// A node that runs.
pub(super) struct Node {
    worker: Option<JoinHandle<io::Result<(Counters, PortCounters)>>>,
    handshake: Option<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
    mailbox: Mailbox,
    handshakes: Arc<Mutex<HandshakeCounters>>,
    threads: [Arc<AtomicI32>; 2],
}

/// What a node counted until its end.
pub(super) struct Ended {
    pub(super) worker: Counters,
    pub(super) port: PortCounters,
    pub(super) handshakes: HandshakeCounters,
}

impl Node {
    /// Starts a node of `world` at `place`; all its sessions are open when this returns. The worker has core 0.
    pub(super) fn start<P: Port + Send + 'static>(
        world: &mut World,
        place: &Place,
        pool: FramePool,
        event: Arc<EventFd>,
        port: P,
    ) -> io::Result<Node> {
        let mut rng = sphinx::Generator::seed_from_u64(5);
        let Assembly {
            mailboxes,
            requests,
            members,
            seats,
        } = Assembly::new(vec![event], true)?;
        // Junk comes of strangers too, and one of them attaches.
        let settings = Settings {
            clients_max: 1,
            ..settings(place, &pool)
        };
        let lanes = Lanes::from_env_or_detect();
        let handshaker =
            Handshaker::new(world.node_keys(), members, ChaCha20Rng::from_rng(&mut rng));
        let worker = seats[0].worker(settings, lanes, pool, port, rng, monotonic_ns())?;
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
                work(worker, unix_ms, &ending)
            })?;
        let mut node = Node {
            worker: Some(worker),
            handshake: None,
            stop,
            mailbox: mailboxes[0].clone(),
            handshakes: Arc::default(),
            threads,
        };
        node.connect(world, place, &requests, &published)?;
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
        published: &Published,
    ) -> io::Result<()> {
        self.post(Mail::Epoch(Arc::clone(&world.state)))?;
        for number in 0..world.senders.len() {
            let accepted = world.connect_sender(number)?;
            let source = world.senders[number].address;
            self.accept(place, accepted, source, true)?;
        }
        let deadline = Instant::now() + PATIENCE;
        let wanted = (world.senders.len() + place.next_hops.len()) as u64;
        let mut distributions = Distributions::new().map_err(io::Error::other)?;
        let open = |counters: Counters| counters.sessions + counters.half_open;
        while open(published.scrape(&mut distributions)) < wanted {
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
    pub(super) fn accept(
        &self,
        place: &Place,
        accepted: Accepted,
        source: SocketAddr,
        member: bool,
    ) -> io::Result<()> {
        place.admit(accepted.session.local_index, source)?;
        self.post(Mail::Accepted {
            session: accepted.session,
            member,
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
    pub(super) fn cpu_ns(&self) -> u64 {
        let of = |thread: &AtomicI32| {
            let id = thread.load(Ordering::Acquire);
            let text = std::fs::read_to_string(format!("/proc/self/task/{id}/schedstat"));
            // Its first number is time on a CPU.
            let text = text.unwrap_or_default();
            let first = text.split_whitespace().next();
            first
                .and_then(|first| first.parse::<u64>().ok())
                .unwrap_or(0)
        };
        self.threads.iter().map(|thread| of(thread)).sum()
    }

    /// Stops both threads; what the worker still holds is given up.
    pub(super) fn end(mut self) -> io::Result<Ended> {
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
                Ok(Ended {
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
    unix_ms: impl Fn() -> u64,
    stop: &AtomicBool,
) -> io::Result<(Counters, PortCounters)> {
    port::affinity::pin(0)?;
    crate::clock::go_first();
    assembly::run(&mut worker, 0, stop, unix_ms)?;
    worker.port_mut().housekeeping();
    let ended = (worker.counters(), worker.port().counters());
    worker.stop();
    Ok(ended)
}
