//! The thread that keeps the table of next hops.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};

use super::netlink::{Neighbour, Netlink, News};
use super::{DESTINATIONS_MAX, Hop, Refresh, Shared, Table, key};

/// Time between two looks at what is in use.
const TICK: Duration = Duration::from_secs(1);
/// A destination without a packet for this long is forgotten.
const IDLE: Duration = Duration::from_secs(180);
/// While the table is crowded, so is one that got no second packet in this time: whoever forges the sources of
/// handshakes makes such.
const FIRST_IDLE: Duration = Duration::from_secs(4);
/// More destinations than a node has neighbours and clients in most networks.
const CROWD: usize = DESTINATIONS_MAX / 16;
/// Shortest time between two tables.
const PUBLISH: Duration = Duration::from_millis(5);
/// The share of a core that making tables may take, as its inverse.
const PUBLISH_SHARE: u32 = 10;
/// Routes that change in bursts are read again once, this long after the first.
const SETTLE: Duration = Duration::from_millis(50);

struct Destination {
    /// Behind the interface; `None`: the kernel's business.
    next_hop: Option<IpAddr>,
    used: Arc<AtomicBool>,
    used_at: Instant,
    /// It got more packets than the first.
    known: bool,
}

pub(super) struct Resolver {
    shared: Arc<Shared>,
    source: IpAddr,
    refresh: Refresh,
    netlink: Netlink,
    neighbours: HashMap<IpAddr, Neighbour>,
    destinations: HashMap<IpAddr, Destination>,
    /// Snapshots that a worker may still have: whoever drops the last one frees it, and that is not to be a worker.
    retired: Vec<Arc<Table>>,
    /// Routes are to be read again then.
    reroute_at: Option<Instant>,
    /// Neighbours are to be read again.
    reload: bool,
    /// The table is not what is known, and there is to be no new one before then.
    unpublished: bool,
    publish_at: Instant,
    ticked: Instant,
    complained: bool,
}

impl Resolver {
    pub(super) fn new(
        shared: Arc<Shared>,
        interface_index: u32,
        source: IpAddr,
        refresh: Refresh,
    ) -> io::Result<Resolver> {
        let mut netlink = Netlink::open(interface_index)?;
        // News are already listened to: what changes during this is not missed.
        let neighbours = netlink.neighbours()?;
        Ok(Resolver {
            shared,
            source,
            refresh,
            netlink,
            neighbours: by_address(neighbours),
            destinations: HashMap::new(),
            retired: Vec::new(),
            reroute_at: None,
            reload: false,
            unpublished: false,
            publish_at: Instant::now(),
            ticked: Instant::now(),
            complained: false,
        })
    }

    pub(super) fn run(&mut self) {
        while !self.shared.stop.load(Ordering::Acquire) {
            self.sleep();
            self.shared.event.clear();
            let mut changed = self.look_up_wanted();
            changed |= self.hear_news();
            changed |= self.read_again();
            if self.ticked.elapsed() >= TICK {
                self.ticked = Instant::now();
                changed |= self.tick();
            }
            self.unpublished |= changed;
            if self.unpublished && self.publish_at <= Instant::now() {
                self.publish();
            }
        }
    }

    fn sleep(&self) {
        let publish_at = self.unpublished.then_some(self.publish_at);
        let wait = [self.reroute_at, publish_at]
            .into_iter()
            .flatten()
            .chain([self.ticked + TICK])
            .min()
            .map_or(TICK, |at| at.saturating_duration_since(Instant::now()));
        let timeout = Timespec {
            tv_sec: wait.as_secs() as i64,
            tv_nsec: i64::from(wait.subsec_nanos()),
        };
        let listening = self.netlink.listening();
        let mut ready = [
            PollFd::from_borrowed_fd(listening, PollFlags::IN),
            PollFd::new(&self.shared.event, PollFlags::IN),
        ];
        if let Err(error) = rustix::event::poll(&mut ready, Some(&timeout))
            && error != rustix::io::Errno::INTR
        {
            // Never a busy loop, whatever it is.
            std::thread::sleep(TICK);
        }
    }

    /// Looks up the destinations that packets went to for the first time.
    fn look_up_wanted(&mut self) -> bool {
        let mut changed = false;
        while let Some(destination) = self.shared.wanted.pop() {
            if self.destinations.contains_key(&destination) {
                continue;
            }
            if self.destinations.len() >= DESTINATIONS_MAX {
                if !std::mem::replace(&mut self.complained, true) {
                    tracing::warn!(
                        most = DESTINATIONS_MAX,
                        "more destinations than are kept: packets to the others go through the kernel's socket"
                    );
                }
                continue;
            }
            let next_hop = self.route(destination);
            self.destinations.insert(
                destination,
                Destination {
                    next_hop,
                    used: Arc::new(AtomicBool::new(false)),
                    used_at: Instant::now(),
                    known: false,
                },
            );
            changed = true;
        }
        changed
    }

    /// No answer and "unreachable" alike leave it to the kernel's socket, whose error is counted.
    fn route(&mut self, destination: IpAddr) -> Option<IpAddr> {
        self.netlink
            .next_hop(self.source, destination)
            .unwrap_or(None)
    }

    fn hear_news(&mut self) -> bool {
        let mut changed = false;
        let (neighbours, reload) = (&mut self.neighbours, &mut self.reload);
        let mut rerouted = false;
        self.netlink.news(|news| match news {
            News::Neighbour(neighbour) => changed |= put(neighbours, neighbour),
            News::Route => rerouted = true,
            News::Lost => (*reload, rerouted) = (true, true),
        });
        if rerouted {
            self.reroute_at.get_or_insert(Instant::now() + SETTLE);
        }
        changed
    }

    /// Reads again what may have changed unheard.
    fn read_again(&mut self) -> bool {
        let mut changed = false;
        if std::mem::take(&mut self.reload) {
            match self.netlink.neighbours() {
                Ok(neighbours) => {
                    self.neighbours = by_address(neighbours);
                    changed = true;
                }
                // Tried again with the next turn, a tick from now at the latest.
                Err(_) => self.reload = true,
            }
        }
        if self.reroute_at.is_some_and(|at| at <= Instant::now()) {
            self.reroute_at = None;
            let destinations: Vec<IpAddr> = self.destinations.keys().copied().collect();
            for ip in destinations {
                let next_hop = self.route(ip);
                if let Some(destination) = self.destinations.get_mut(&ip)
                    && destination.next_hop != next_hop
                {
                    destination.next_hop = next_hop;
                    changed = true;
                }
            }
        }
        changed
    }

    /// Forgets what is no longer used, and reports what is used and stale.
    fn tick(&mut self) -> bool {
        let before = self.destinations.len();
        let crowded = before > CROWD;
        let mut stale = HashSet::new();
        let neighbours = &self.neighbours;
        self.destinations.retain(|_, destination| {
            if destination.used.swap(false, Ordering::Relaxed) {
                destination.used_at = Instant::now();
                destination.known = true;
                let neighbour = destination.next_hop.and_then(|ip| neighbours.get(&ip));
                stale.extend(neighbour.filter(|one| one.stale).map(|one| one.ip));
            }
            let idle = if destination.known || !crowded {
                IDLE
            } else {
                FIRST_IDLE
            };
            destination.used_at.elapsed() < idle
        });
        if !stale.is_empty() {
            (self.refresh)(stale.into_iter().collect());
        }
        self.destinations.len() != before
    }

    fn publish(&mut self) {
        let started = Instant::now();
        let table: Table = self
            .destinations
            .iter()
            .map(|(&ip, destination)| {
                let neighbour = destination
                    .next_hop
                    .and_then(|next_hop| self.neighbours.get(&next_hop));
                let hop = Hop {
                    mac: neighbour.and_then(|neighbour| neighbour.mac),
                    used: Arc::clone(&destination.used),
                };
                (key(ip), hop)
            })
            .collect();
        self.retired.push(self.shared.table.swap(Arc::new(table)));
        self.retired.retain(|table| Arc::strong_count(table) > 1);
        self.unpublished = false;
        self.publish_at = Instant::now() + (started.elapsed() * PUBLISH_SHARE).max(PUBLISH);
    }
}

fn by_address(neighbours: Vec<Neighbour>) -> HashMap<IpAddr, Neighbour> {
    let mut map = HashMap::new();
    for neighbour in neighbours {
        put(&mut map, neighbour);
    }
    map
}

/// Notes what is known of a neighbour; says whether packets go elsewhere now.
fn put(neighbours: &mut HashMap<IpAddr, Neighbour>, neighbour: Neighbour) -> bool {
    let before = match neighbour.mac {
        Some(_) => neighbours.insert(neighbour.ip, neighbour),
        None => neighbours.remove(&neighbour.ip),
    };
    before.and_then(|before| before.mac) != neighbour.mac
}
