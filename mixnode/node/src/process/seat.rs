//! What a worker's thread starts from.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crossbeam::channel::Sender;
use directory::Role;
use sphinx::Generator;
use sphinx::lanes::Lanes;

use super::unix_ms;
use crate::assembly::{self, Seat};
use crate::loader_link::{Loader, WorkerMemory};
use crate::path::core::{Settings, strangers_max};
use crate::path::half_open::HALF_OPEN_ALL;
use crate::process::config::Config;
use port::pool::FramePool;
use port::xsk::Mac;
use port::{PlainPort, Port, PortParts, Routes, UringPort, XskParts, XskPort, monotonic_ns};

/// Sessions of one worker beside its clients': neighbours with several workers, old sessions while rekeying.
const NODE_SESSIONS: usize = 4096;

/// Clients that a worker may have.
fn clients_max(config: &Config) -> u16 {
    match config.node.role {
        Role::Gateway => config.gateway.clients_max,
        Role::Mix => 0,
    }
}

/// Sessions of one worker that count, at most.
fn sessions_max(config: &Config) -> usize {
    NODE_SESSIONS + strangers_max(clients_max(config))
}

/// Receiver indices of one worker in use, at most: of sessions that count, and of half-open ones in all
/// their rings. Its own attempts take a few of what nodes hardly ever fill.
pub(super) fn indices_max(config: &Config) -> usize {
    sessions_max(config) + HALF_OPEN_ALL
}

/// The limits of one worker.
pub(super) fn settings(config: &Config, pool_frames: u32, address: SocketAddr) -> Settings {
    Settings {
        number: 0,
        workers: config.worker.count.max(1),
        pool_frames,
        sessions_max: sessions_max(config),
        clients_max: clients_max(config),
        client_queue_frames: config.gateway.queue_frames as usize,
        client_rate_max_pps: config.gateway.rate_max_pps,
        loop_interval_ns: u64::from(config.cover.loop_interval_ms) * 1_000_000,
        drop_interval_ns: u64::from(config.cover.drop_interval_ms) * 1_000_000,
        capacity_pps: config.node.capacity_pps,
        loss: config.fault.loss,
        ipv6: address.is_ipv6(),
    }
}

/// How a worker's datagrams come and go.
pub(super) enum Way {
    /// recvmmsg and sendmmsg.
    Plain,
    /// io_uring.
    Uring,
    /// AF_XDP.
    Xsk {
        /// What the loader handed over for this worker.
        memory: WorkerMemory,
        /// The interface's number.
        interface_index: u32,
        /// The interface's link-layer address.
        mac: Mac,
        /// Next hops.
        routes: Arc<Routes>,
    },
}

/// What a worker's thread starts from.
pub(super) struct Start {
    pub seat: Seat,
    pub settings: Settings,
    pub lanes: Lanes,
    pub rng: Generator,
    pub pin: bool,
    pub busy_poll_ns: u64,
    pub halt: Arc<AtomicBool>,
    /// Told of sessions that are over, if there is one.
    pub loader: Option<Loader>,
    /// Told when the port exists: after that the worker needs no system call that its filter lacks.
    pub ready: Sender<()>,
}

impl Start {
    /// Allocates on the worker's own core, then works.
    pub fn work(self, socket: UdpSocket, way: Way) -> io::Result<()> {
        if self.pin {
            port::affinity::pin(usize::from(self.seat.number))?;
        }
        let frames = self.settings.pool_frames;
        let event = Arc::clone(&self.seat.event);
        let parts = PortParts { socket, event };
        match way {
            Way::Uring => {
                let pool = FramePool::locked(frames)?;
                let port = UringPort::new(parts, &pool)?;
                self.run(pool, port)
            }
            Way::Plain => {
                let pool = FramePool::locked(frames)?;
                let port = PlainPort::new(parts, &pool)?;
                self.run(pool, port)
            }
            Way::Xsk {
                memory: WorkerMemory { memory, sockets },
                interface_index,
                mac,
                routes,
            } => {
                let mut pool = FramePool::shared(memory.as_fd(), frames)?;
                let parts = XskParts {
                    sockets,
                    interface_index,
                    mac,
                    kernel: parts,
                    routes,
                };
                let mut port = XskPort::new(parts, &pool)?;
                port.fill(&mut pool);
                self.run(pool, port)
            }
        }
    }

    fn run<P: Port>(self, pool: FramePool, port: P) -> io::Result<()> {
        if !pool.is_locked() {
            tracing::warn!(
                worker = self.seat.number,
                bytes = pool.bytes(),
                "packet memory is not locked, so it may be swapped out: raise the limit on locked memory (LimitMEMLOCK)"
            );
        }
        let now_ns = monotonic_ns();
        let mut worker =
            self.seat
                .worker(self.settings, self.lanes, pool, port, self.rng, now_ns)?;
        if let Some(loader) = self.loader {
            worker.attach(loader);
        }
        // Nobody waits for it once the node is up.
        let _ = self.ready.send(());
        drop(self.ready);
        assembly::run(&mut worker, self.busy_poll_ns, &self.halt, unix_ms)?;
        worker.stop();
        Ok(())
    }
}
