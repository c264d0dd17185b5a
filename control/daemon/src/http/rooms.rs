//! Rooms of connections: who may have how many at a time, by source address. Counted before a byte is read, so that no
//! number of slow strangers keeps an authority's votes out.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use authority::admission::prefix;

/// Connections of each other authority.
const AUTHORITY_MAX: usize = 16;
/// Connections of all nodes of the newest document.
const NODES_MAX: usize = 64;
/// Connections of all others, and of one prefix of them.
const STRANGERS_MAX: usize = 128;
const PREFIX_MAX: usize = 8;
/// Connections from this host.
const HOST_MAX: usize = 8;

/// Whose a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// Another authority, by its key.
    Authority([u8; 32]),
    /// A node of the newest document.
    Node,
    /// This host: whoever runs the authority.
    Host,
    /// Anyone else.
    Stranger,
}

#[derive(Debug, Default)]
struct Inside {
    known: HashMap<IpAddr, Class>,
    authorities: HashMap<[u8; 32], usize>,
    nodes: usize,
    host: usize,
    strangers: usize,
    prefixes: HashMap<(bool, u128), usize>,
    refused: u64,
}

/// All rooms of a listener.
#[derive(Clone, Debug, Default)]
pub struct Rooms(Arc<Mutex<Inside>>);

/// A place in a room, given back when it is dropped.
#[derive(Debug)]
pub struct Seat {
    rooms: Rooms,
    class: Class,
    prefix: (bool, u128),
}

impl Rooms {
    fn inside<T>(&self, work: impl FnOnce(&mut Inside) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Says whose addresses are whose from now on.
    pub fn know(&self, known: HashMap<IpAddr, Class>) {
        self.inside(|inside| inside.known = known);
    }

    /// Connections that found their room full.
    pub fn refused(&self) -> u64 {
        self.inside(|inside| inside.refused)
    }

    /// A place for a connection from `address`; none if its room is full.
    pub fn enter(&self, address: SocketAddr) -> Option<Seat> {
        let ip = address.ip().to_canonical();
        let prefix = prefix(ip);
        let class = self.inside(|inside| {
            let class = inside.known.get(&ip);
            let class = class.copied().unwrap_or(Class::Stranger);
            let of_prefix = inside.prefixes.get(&prefix).copied().unwrap_or(0);
            let free = match class {
                Class::Authority(key) => {
                    let count = inside.authorities.entry(key).or_default();
                    (*count < AUTHORITY_MAX).then(|| *count += 1)
                }
                Class::Node => (inside.nodes < NODES_MAX).then(|| inside.nodes += 1),
                Class::Host => (inside.host < HOST_MAX).then(|| inside.host += 1),
                Class::Stranger => (inside.strangers < STRANGERS_MAX && of_prefix < PREFIX_MAX)
                    .then(|| {
                        inside.strangers += 1;
                        inside.prefixes.insert(prefix, of_prefix + 1);
                    }),
            };
            inside.refused += u64::from(free.is_none());
            free.map(|()| class)
        })?;
        Some(Seat {
            rooms: self.clone(),
            class,
            prefix,
        })
    }
}

impl Seat {
    /// Whose connection it is.
    pub fn class(&self) -> Class {
        self.class
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.rooms.inside(|inside| match self.class {
            Class::Authority(key) => {
                if let Some(count) = inside.authorities.get_mut(&key) {
                    *count -= 1;
                }
            }
            Class::Node => inside.nodes -= 1,
            Class::Host => inside.host -= 1,
            Class::Stranger => {
                inside.strangers -= 1;
                if let Some(count) = inside.prefixes.get_mut(&self.prefix) {
                    *count -= 1;
                    if *count == 0 {
                        inside.prefixes.remove(&self.prefix);
                    }
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(a: u8, b: u8) -> SocketAddr {
        ([10, 1, a, b], 4_000).into()
    }

    #[test]
    fn strangers_fill_their_room_and_their_prefix_and_nobody_elses() {
        let rooms = Rooms::default();
        let authority = from(0, 1);
        rooms.know(HashMap::from([
            (authority.ip(), Class::Authority([1; 32])),
            (from(0, 2).ip(), Class::Node),
        ]));
        // 20 prefixes of 15 each, the authority's own among them.
        let sources = (0..20).flat_map(|a| (10..25).map(move |b| from(a, b)));
        let seats: Vec<Seat> = sources.filter_map(|source| rooms.enter(source)).collect();
        assert_eq!(seats.len(), STRANGERS_MAX);
        assert_eq!(rooms.refused(), 300 - 128);
        let first = seats
            .iter()
            .filter(|seat| seat.prefix == prefix(from(0, 0).ip()));
        assert_eq!(first.count(), PREFIX_MAX);
        let own: Vec<_> = (0..20).filter_map(|_| rooms.enter(authority)).collect();
        assert_eq!(own.len(), AUTHORITY_MAX);
        let nodes: Vec<_> = (0..70).filter_map(|_| rooms.enter(from(0, 2))).collect();
        assert_eq!(nodes.len(), NODES_MAX);
        // Whoever leaves makes room.
        drop((seats, own, nodes));
        for source in [from(0, 10), authority, from(0, 2)] {
            assert!(rooms.enter(source).is_some());
        }
        assert!(rooms.inside(|inside| inside.prefixes.is_empty()));
    }

    #[test]
    fn one_prefix_has_its_share_of_an_empty_room() {
        let rooms = Rooms::default();
        let seats: Vec<_> = (0..20).filter_map(|b| rooms.enter(from(7, b))).collect();
        assert_eq!(seats.len(), PREFIX_MAX);
    }
}
