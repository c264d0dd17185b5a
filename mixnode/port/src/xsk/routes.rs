//! Next hops: the kernel's routes and neighbours, as far as packets need them, without asking it for each.
//!
//! A thread with two netlink sockets (no privilege needed) keeps a table of the destinations that packets went to: the
//! link-layer address of each one's next hop, if it is known and lies behind the port's interface. Workers read
//! snapshots of the table. For what a snapshot does not have, packets go through the kernel's socket meanwhile: that
//! makes the kernel resolve the next hop, and the thread hears of it.
//!
//! The kernel believes that a neighbour nobody asks it about is not in use, and lets it go stale. So entries that
//! packets used and that have become stale are reported, for someone with the right to have the kernel confirm them.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use arc_swap::{ArcSwap, Cache};
use crossbeam::queue::ArrayQueue;

use super::Mac;
use crate::wake::EventFd;

mod netlink;
mod resolver;

use resolver::Resolver;

/// Most destinations that are kept: nodes of a consensus and a gateway's clients.
pub const DESTINATIONS_MAX: usize = 32_768;
/// Most destinations waiting to be looked up; more are asked for again by their next packet.
const WANTED_MAX: usize = 1024;

/// What is known of one destination.
#[derive(Clone, Debug)]
struct Hop {
    /// Where its packets go on the port's link; `None`: through the kernel.
    mac: Option<Mac>,
    /// A packet went there since the thread looked.
    used: Arc<AtomicBool>,
}

/// A snapshot, by [`key`].
type Table = HashMap<u128, Hop>;

/// An address as one number, IPv4 mapped into IPv6: hashed in one step, and with a secret, for strangers choose them.
#[inline]
fn key(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => 0xffff << 32 | u128::from(ip.to_bits()),
        IpAddr::V6(ip) => ip.to_bits(),
    }
}

/// What the thread and the workers share.
#[derive(Debug)]
struct Shared {
    table: Arc<ArcSwap<Table>>,
    wanted: ArrayQueue<IpAddr>,
    event: EventFd,
    stop: AtomicBool,
}

/// Called with next hops whose confirmation is due, at most once a second for each.
pub type Refresh = Box<dyn FnMut(Vec<IpAddr>) + Send>;

/// Next hops behind one interface. The thread ends when this is dropped.
#[derive(Debug)]
pub struct Routes {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Routes {
    /// Starts to follow routes and neighbours of the calling thread's network namespace, for packets from `source`
    /// over the interface numbered `interface_index`.
    ///
    /// # Errors
    /// What the kernel answered: no netlink socket, no thread.
    pub fn start(
        interface_index: u32,
        source: IpAddr,
        refresh: Refresh,
    ) -> io::Result<Arc<Routes>> {
        let shared = Arc::new(Shared {
            table: Arc::new(ArcSwap::from_pointee(Table::new())),
            wanted: ArrayQueue::new(WANTED_MAX),
            event: EventFd::new()?,
            stop: AtomicBool::new(false),
        });
        let mut resolver = Resolver::new(Arc::clone(&shared), interface_index, source, refresh)?;
        let thread = std::thread::Builder::new()
            .name("routes".into())
            .spawn(move || resolver.run())?;
        Ok(Arc::new(Routes {
            shared,
            thread: Some(thread),
        }))
    }

    /// A worker's view.
    pub fn lookup(&self) -> Lookup {
        Lookup {
            cache: Cache::new(Arc::clone(&self.shared.table)),
            shared: Arc::clone(&self.shared),
        }
    }

    /// Has `destination` looked up before the first packet goes there.
    pub fn want(&self, destination: IpAddr) {
        self.shared.want(destination);
    }

    /// Whether packets to `destination` go directly.
    pub fn is_resolved(&self, destination: IpAddr) -> bool {
        let table = self.shared.table.load();
        let hop = table.get(&key(destination));
        hop.is_some_and(|hop| hop.mac.is_some())
    }

    /// How many destinations the table has.
    pub fn destinations(&self) -> usize {
        self.shared.table.load().len()
    }
}

impl Drop for Routes {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        self.shared.event.signal();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that follows routes has failed");
        }
    }
}

impl Shared {
    fn want(&self, destination: IpAddr) {
        if self.wanted.push(destination).is_ok() {
            self.event.signal();
        }
    }
}

/// A worker's view of the table: a snapshot, renewed when there is a newer one.
pub struct Lookup {
    cache: Cache<Arc<ArcSwap<Table>>, Arc<Table>>,
    shared: Arc<Shared>,
}

impl Lookup {
    /// The link-layer address of the next hop to `destination` over the interface numbered `interface_index`. `None`
    /// sends it through the kernel's socket; a destination never seen is looked up meanwhile. Does not allocate.
    #[inline]
    pub fn find(&mut self, destination: &SocketAddr, interface_index: u32) -> Option<Mac> {
        if let SocketAddr::V6(address) = destination
            && ![0, interface_index].contains(&address.scope_id())
        {
            // Of another link.
            return None;
        }
        let ip = destination.ip();
        let Some(hop) = self.cache.load().get(&key(ip)) else {
            self.shared.want(ip);
            return None;
        };
        // Read first: a line that every worker writes would move between them.
        if !hop.used.load(Ordering::Relaxed) {
            hop.used.store(true, Ordering::Relaxed);
        }
        hop.mac
    }
}
