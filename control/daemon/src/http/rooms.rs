//! Rooms of connections: who may have how many at a time, by source address. Counted before a byte is read, so that no
//! number of slow strangers keeps an authority's votes out.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use authority::admission::prefix;

/// Connections of each other authority, which has one address.
const AUTHORITY_MAX: usize = 16;
/// Connections of all nodes of the newest document, and of one address of theirs: what a node needs at a time is one.
const NODES_MAX: usize = 64;
const NODE_MAX: usize = 2;
/// Connections of all others, of one prefix of them, and of one block of prefixes (/16, or /32 of IPv6), which are had
/// together: half.
const STRANGERS_MAX: usize = 128;
const PREFIX_MAX: usize = 8;
const BLOCK_MAX: usize = STRANGERS_MAX / 2;
/// Connections from this host.
const HOST_MAX: usize = 8;

/// Whose a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// Another authority, by its key.
    Authority([u8; 32]),
    /// A node of the newest document, in a seat for nodes.
    Node,
    /// This host: whoever runs the authority.
    Host,
    /// Anyone else, and nodes for whom none of their own seats is left.
    Stranger,
}

#[derive(Debug, Default)]
struct Inside {
    known: HashMap<IpAddr, Class>,
    authorities: HashMap<[u8; 32], usize>,
    nodes: usize,
    of_node: HashMap<IpAddr, usize>,
    host: usize,
    strangers: usize,
    prefixes: HashMap<(bool, u128), usize>,
    blocks: HashMap<(bool, u128), usize>,
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
    ip: IpAddr,
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
        let class = self.inside(|inside| {
            let class = inside.enter(ip);
            inside.refused += u64::from(class.is_none());
            class
        })?;
        let rooms = self.clone();
        Some(Seat { rooms, class, ip })
    }
}

impl Inside {
    /// Counts a connection in, in the room that it says.
    fn enter(&mut self, ip: IpAddr) -> Option<Class> {
        let class = self.known.get(&ip).copied().unwrap_or(Class::Stranger);
        match class {
            Class::Authority(key) => {
                let count = self.authorities.entry(key).or_default();
                (*count < AUTHORITY_MAX).then(|| *count += 1)?;
            }
            Class::Node => {
                let of_node = self.of_node.get(&ip).copied().unwrap_or(0);
                if self.nodes >= NODES_MAX || of_node >= NODE_MAX {
                    return self.enter_stranger(ip);
                }
                self.nodes += 1;
                self.of_node.insert(ip, of_node + 1);
            }
            Class::Host => (self.host < HOST_MAX).then(|| self.host += 1)?,
            Class::Stranger => return self.enter_stranger(ip),
        }
        Some(class)
    }

    fn enter_stranger(&mut self, ip: IpAddr) -> Option<Class> {
        let prefix = prefix(ip);
        let of_prefix = self.prefixes.get(&prefix).copied().unwrap_or(0);
        let block = block(ip);
        let of_block = self.blocks.get(&block).copied().unwrap_or(0);
        let is_crowd = of_prefix >= PREFIX_MAX || of_block >= BLOCK_MAX;
        if self.strangers >= STRANGERS_MAX || is_crowd {
            return None;
        }
        self.strangers += 1;
        self.prefixes.insert(prefix, of_prefix + 1);
        self.blocks.insert(block, of_block + 1);
        Some(Class::Stranger)
    }
}

/// What one customer of a registry may have whole.
fn block(ip: IpAddr) -> (bool, u128) {
    match ip {
        IpAddr::V4(ip) => (false, u128::from(ip.to_bits() >> 16)),
        IpAddr::V6(ip) => (true, ip.to_bits() >> 96),
    }
}

/// One less of `key`, which is forgotten with the last.
fn give_back<K: Hash + Eq>(counts: &mut HashMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
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
            Class::Authority(key) => give_back(&mut inside.authorities, &key),
            Class::Node => {
                inside.nodes -= 1;
                give_back(&mut inside.of_node, &self.ip);
            }
            Class::Host => inside.host -= 1,
            Class::Stranger => {
                inside.strangers -= 1;
                give_back(&mut inside.prefixes, &prefix(self.ip));
                give_back(&mut inside.blocks, &block(self.ip));
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Prefixes of four blocks.
    fn from(a: u8, b: u8) -> SocketAddr {
        ([10, a % 4, a, b], 4_000).into()
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
            .filter(|seat| prefix(seat.ip) == prefix(from(0, 10).ip()));
        assert_eq!(first.count(), PREFIX_MAX);
        let own: Vec<_> = (0..20).filter_map(|_| rooms.enter(authority)).collect();
        assert_eq!(own.len(), AUTHORITY_MAX);
        let nodes: Vec<_> = (0..70).filter_map(|_| rooms.enter(from(0, 2))).collect();
        assert_eq!(nodes.len(), NODE_MAX);
        // Whoever leaves makes room.
        drop((seats, own, nodes));
        for source in [from(0, 10), authority, from(0, 2)] {
            assert!(rooms.enter(source).is_some());
        }
        assert!(rooms.inside(|inside| inside.prefixes.is_empty() && inside.of_node.is_empty()));
        assert!(rooms.inside(|inside| inside.blocks.is_empty()));
    }

    #[test]
    fn attack_who_has_a_block_of_prefixes_leaves_half_of_the_strangers_seats_to_others() {
        let addresses: [fn(u16, u8) -> SocketAddr; 2] = [
            |prefix, host| ([10, 9, prefix as u8, host], 4_000).into(),
            |prefix, host| {
                let segments = [0x2001, 0xdb8, prefix, 0, 0, 0, 0, host.into()];
                (segments, 4_000).into()
            },
        ];
        for at in addresses {
            let rooms = Rooms::default();
            let sources = (0..40).flat_map(|prefix| (0..9).map(move |host| at(prefix, host)));
            let seats: Vec<Seat> = sources.filter_map(|source| rooms.enter(source)).collect();
            println!("{} seats taken by 40 prefixes of one block", seats.len());
            assert_eq!(seats.len(), BLOCK_MAX);
            let others = (0..20).filter_map(|a| rooms.enter(from(a, 1)));
            assert_eq!(others.collect::<Vec<_>>().len(), 20);
        }
    }

    #[test]
    fn one_node_fills_neither_the_room_of_all_nodes_nor_that_of_strangers() {
        let rooms = Rooms::default();
        let nodes = (0..40).map(|a| (from(a, 1).ip(), Class::Node));
        rooms.know(nodes.collect());
        let enter = |source| rooms.enter(source).map(|seat| (seat.class(), seat));
        let greedy: Vec<_> = (0..200).filter_map(|_| enter(from(0, 1))).collect();
        let of = |seats: &[(Class, Seat)], class| {
            let alike = seats.iter().filter(|(of, _)| *of == class);
            alike.count()
        };
        assert_eq!(of(&greedy, Class::Node), NODE_MAX);
        assert_eq!(of(&greedy, Class::Stranger), PREFIX_MAX);
        assert_eq!(greedy.len(), NODE_MAX + PREFIX_MAX);
        // The other nodes have what they need; when their own seats are all taken, the strangers' are left to them.
        let others = (1..40).flat_map(|a| [from(a, 1); 2]);
        let others: Vec<_> = others.filter_map(enter).collect();
        assert_eq!(of(&others, Class::Node), NODES_MAX - NODE_MAX);
        assert_eq!(of(&others, Class::Stranger), 78 - (NODES_MAX - NODE_MAX));
        drop((greedy, others));
        let empty = |inside: &mut Inside| {
            inside.prefixes.is_empty() && inside.of_node.is_empty() && inside.nodes == 0
        };
        assert!(rooms.inside(empty));
    }

    #[test]
    fn one_prefix_has_its_share_of_an_empty_room() {
        let rooms = Rooms::default();
        let seats: Vec<_> = (0..20).filter_map(|b| rooms.enter(from(7, b))).collect();
        assert_eq!(seats.len(), PREFIX_MAX);
    }
}
