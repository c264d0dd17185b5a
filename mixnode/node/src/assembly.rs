//! Puts a node together: what its threads share, and each worker on the port it is given.
//!
//! Processes, the simulation and benchmarks all start from here; they differ in who runs the parts and by which clock.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crossbeam::channel::Receiver;
use port::pool::FramePool;
use port::{EventFd, Port, monotonic_ns};
use sphinx::Generator;
use sphinx::lanes::Lanes;

use crate::handshake::{Members, Request, thread};
use crate::path::core::{Core, Settings, Shared};
use crate::path::counters::Published;
use crate::path::mail::Mailbox;
use crate::path::worker::Worker;

/// The parts of one node that more than one thread holds.
pub struct Assembly {
    /// How to reach its workers, by number.
    pub mailboxes: Vec<Mailbox>,
    /// What its workers ask the handshaker.
    pub requests: Receiver<Request>,
    /// Whose keys the consensus lists: what handshaker and workers know of them.
    pub members: Arc<Members>,
    /// One for each worker, by number; each goes to the thread that runs it.
    pub seats: Vec<Seat>,
}

/// A worker before it exists: it is made on the thread that runs it, so that its memory lies near that core.
pub struct Seat {
    /// The worker's number.
    pub number: u8,
    /// What ends its wait; its port listens to it.
    pub event: Arc<EventFd>,
    /// What it will publish.
    pub published: Arc<Published>,
    shared: Shared,
}

impl Assembly {
    /// A node of as many workers as there are events (at most 255); each ends the wait of one worker's port. A gateway
    /// `welcomes_strangers`: clients.
    ///
    /// # Errors
    /// There is no memory for what they publish.
    pub fn new(events: Vec<Arc<EventFd>>, welcomes_strangers: bool) -> io::Result<Assembly> {
        let mailboxes: Vec<_> = events.iter().cloned().map(Mailbox::new).collect();
        let (handshakes, requests) = thread::queue();
        let members = Arc::new(Members::new(welcomes_strangers));
        let shared = Shared {
            mailboxes: mailboxes.clone(),
            handshakes,
            members: Arc::clone(&members),
            orders: Arc::new(AtomicU64::new(1)),
        };
        let seat = |(number, event)| {
            Ok(Seat {
                number,
                event,
                published: Published::new().map_err(io::Error::other)?,
                shared: shared.clone(),
            })
        };
        Ok(Assembly {
            mailboxes,
            requests,
            members,
            seats: (0u8..).zip(events).map(seat).collect::<io::Result<_>>()?,
        })
    }
}

impl Seat {
    /// The worker on its port. Of `settings`, its own number and the node's number of workers are filled in.
    ///
    /// # Errors
    /// There is no memory for its tables.
    pub fn worker<P: Port>(
        &self,
        settings: Settings,
        lanes: Lanes,
        pool: FramePool,
        port: P,
        rng: Generator,
        now_ns: u64,
    ) -> io::Result<Worker<P>> {
        let settings = Settings {
            number: self.number,
            workers: self.shared.mailboxes.len() as u8,
            ..settings
        };
        let core = Core::new(settings, self.shared.clone(), pool, lanes, rng, now_ns)?;
        Ok(Worker::new(core, port, Arc::clone(&self.published)))
    }
}

/// Runs a worker in real time until it is drained or `halt` is set: the loop of its thread. After a turn with work it
/// looks again for `busy_poll_ns` before it sleeps.
///
/// # Errors
/// Its port can't wait any more.
pub fn run<P: Port>(
    worker: &mut Worker<P>,
    busy_poll_ns: u64,
    halt: &AtomicBool,
    unix_ms: impl Fn() -> u64,
) -> io::Result<()> {
    let mut idle_since_ns = None;
    while !halt.load(Ordering::Acquire) && !worker.is_drained() {
        let now_ns = monotonic_ns();
        let seen = worker.received();
        let deadline_ns = worker.turn(now_ns, unix_ms());
        if deadline_ns.is_some_and(|deadline_ns| deadline_ns <= now_ns) {
            continue;
        }
        if busy_poll_ns > 0 {
            if worker.received() != seen {
                idle_since_ns = None;
            }
            let since_ns = *idle_since_ns.get_or_insert(now_ns);
            if now_ns - since_ns < busy_poll_ns {
                std::hint::spin_loop();
                continue;
            }
        }
        worker.port_mut().wait(deadline_ns)?;
    }
    Ok(())
}
