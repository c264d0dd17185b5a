//! The program's maps, opened from where they are pinned. The loader alone writes them.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::Path;

use aya::maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray, XskMap};
use ebpf_abi::{
    Address, Beyond, Bucket, Config, Counters, REASONS, Rate, Rates, Receiver, XSKS_MAX,
};
use handover::protocol::Peer;

/// Every map of the program, by name.
pub(super) const NAMES: [&str; 11] = [
    "CONFIG",
    "COUNTERS",
    "SESSIONS",
    "PEERS",
    "SOURCES",
    "BEYOND",
    "STRANGERS",
    "MEMBER_HANDSHAKES",
    "HANDSHAKE_SOURCES",
    "HANDSHAKES",
    "XSKS",
];

/// Handshakes a second that all strangers together may begin. Without a mac2 each costs the node two keyed hashes and a
/// cookie, about 10 µs: a fiftieth of a core. With one it costs the hashes, about 2 µs, and nothing else unless the
/// cookie is right, which the node then limits by source.
const STRANGERS_PPS: Each<u64> = Each {
    bare: 2_000,
    mac2: 8_000,
};
/// The least that is left of these for one CPU of many.
const STRANGERS_CPU_PPS: Each<u64> = Each {
    bare: 50,
    mac2: 500,
};
/// Handshakes at once on one CPU: a network that comes up together.
const STRANGERS_BURST: Each<u64> = Each {
    bare: 256,
    mac2: 512,
};
/// Handshakes a second, and at once, of one stranger: many clients may share an address.
const STRANGER: Each<(u64, u64)> = Each {
    bare: (50, 100),
    mac2: (200, 400),
};
/// The same of a node of the consensus, which begins a session for each of its workers. Its address can be forged, so
/// this is many times what it needs: as long as a flood in its name stays below, it gets through.
const MEMBER: Each<(u64, u64)> = Each {
    bare: (1_000, 256),
    mac2: (2_000, 256),
};

/// Of initiations without a mac2, and with one.
struct Each<T> {
    bare: T,
    mac2: T,
}

impl Each<(u64, u64)> {
    fn rates(&self) -> Rates {
        Rates {
            bare: Rate::new(self.bare.0, self.bare.1),
            mac2: Rate::new(self.mac2.0, self.mac2.1),
        }
    }
}

/// Frames beyond nodes' own rates that are let in, for each packet that the node can do.
const BEYOND_TIMES: u64 = 3;
/// A node that can do less is taken for one that can do this much: with forged frames that the counter window takes, half
/// of a core.
const BEYOND_MIN: u32 = 100_000;
/// Part of a second's packets that the node can do, of which so many frames beyond nodes' own rates may come at once: what a
/// receive ring holds is lost for all when it is more.
const BEYOND_BURST_PART: u64 = 100;

/// Smallest capacity that can be divided among peers, packets a second.
pub(super) const CAPACITY_MIN: u32 = 100;

/// Receiver indices that the program has room for: those of 46 workers with 256 clients each. 20 MB of the kernel's memory.
pub(super) const INDICES_MAX: u32 = 262_144;

/// Receiver indices, and the source that each belongs to.
pub(super) type Indices = BTreeMap<u32, Option<IpAddr>>;

/// What is written before the program runs.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    config: Config,
    beyond: Rate,
}

impl Limits {
    /// Of a node at this port that handles `capacity_pps` packets a second.
    pub fn of(port: u16, capacity_pps: u32, cpus: usize, queues: u32) -> Limits {
        Limits {
            config: config(port, capacity_pps, cpus),
            beyond: beyond(capacity_pps, queues),
        }
    }
}

/// The maps the loader reads or writes.
pub(super) struct Maps {
    config: Array<MapData, Config>,
    counters: PerCpuArray<MapData, Counters>,
    sessions: HashMap<MapData, u32, Address>,
    peers: HashMap<MapData, Address, Rate>,
    /// None of a program that an earlier version attached.
    beyond: Option<Array<MapData, Beyond>>,
    xsks: XskMap<MapData>,
    /// Room in `sessions`: of a map that an earlier version pinned, that version's.
    indices_max: u32,
    /// Packets a second and at once, as asked for, of each key of `peers`.
    wanted: BTreeMap<[u8; 16], (u64, u64)>,
}

impl Maps {
    /// Opens the maps pinned in `folder`.
    pub fn open(folder: &Path) -> Result<Maps, MapError> {
        let pinned = |name: &str| MapData::from_pin(folder.join(name));
        let sessions = pinned("SESSIONS")?;
        let indices_max = sessions.info()?.max_entries();
        let mut maps = Maps {
            config: Map::Array(pinned("CONFIG")?).try_into()?,
            counters: Map::PerCpuArray(pinned("COUNTERS")?).try_into()?,
            sessions: Map::HashMap(sessions).try_into()?,
            peers: Map::HashMap(pinned("PEERS")?).try_into()?,
            beyond: match pinned("BEYOND") {
                Ok(beyond) => Some(Map::Array(beyond).try_into()?),
                Err(_) => None,
            },
            xsks: Map::XskMap(pinned("XSKS")?).try_into()?,
            indices_max,
            wanted: BTreeMap::new(),
        };
        for key in maps.peers.keys() {
            maps.wanted.insert(key?, (0, 0));
        }
        Ok(maps)
    }

    /// The node's UDP port; 0 if the program was never given one.
    pub fn port(&self) -> Result<u16, MapError> {
        Ok(u16::try_from(self.config.get(&0, 0)?.port).unwrap_or(0))
    }

    /// Writes the program's configuration.
    pub fn configure(&mut self, limits: Limits) -> Result<(), MapError> {
        self.config.set(0, limits.config, 0)?;
        let Some(beyond) = &mut self.beyond else {
            return Ok(());
        };
        let all = Beyond {
            rate: limits.beyond,
            bucket: Bucket::default(),
        };
        (0..XSKS_MAX as u32).try_for_each(|queue| beyond.set(queue, all, 0))
    }

    /// Has the program take what is for this node, and for no other on the interface.
    pub fn set_node(&mut self, address: SocketAddr) -> Result<(), MapError> {
        let mut config = self.config.get(&0, 0)?;
        config.address = Receiver::from(address).address;
        self.config.set(0, config, 0)
    }

    /// Packets by reason, summed over CPUs.
    pub fn counters(&self) -> Result<[u64; REASONS], MapError> {
        let mut sums = [0_u64; REASONS];
        for cpu in self.counters.get(&0, 0)?.iter() {
            for (sum, packets) in sums.iter_mut().zip(cpu.packets) {
                *sum = sum.saturating_add(packets);
            }
        }
        Ok(sums)
    }

    /// Lets a receiver index in, from `source` by its own right, from elsewhere as a stranger's.
    pub fn add_index(&mut self, index: u32, source: Option<IpAddr>) -> Result<(), MapError> {
        let owner = source.map_or([0; 16], source_key);
        self.sessions.insert(index, owner, 0)
    }

    /// Keeps it out; no error if it was not let in.
    pub fn remove_index(&mut self, index: u32) -> Result<(), MapError> {
        match self.sessions.remove(&index) {
            Err(MapError::KeyNotFound) => Ok(()),
            Err(MapError::SyscallError(error))
                if error.io_error.raw_os_error() == Some(libc::ENOENT) =>
            {
                Ok(())
            }
            other => other,
        }
    }

    /// Lets in exactly these receiver indices.
    pub fn set_indices(&mut self, wanted: &Indices) -> Result<(), MapError> {
        let present: Vec<u32> = self.sessions.keys().collect::<Result<_, _>>()?;
        for index in present.iter().filter(|index| !wanted.contains_key(index)) {
            self.remove_index(*index)?;
        }
        for (index, source) in wanted {
            self.add_index(*index, *source)?;
        }
        Ok(())
    }

    /// How many receiver indices can be let in.
    pub fn indices_max(&self) -> u32 {
        self.indices_max
    }

    /// How many receiver indices are let in.
    pub fn indices(&self) -> Result<u32, MapError> {
        let mut count = 0;
        for key in self.sessions.keys() {
            key?;
            count += 1;
        }
        Ok(count)
    }

    /// How many sources have a rate of their own.
    pub fn peer_count(&self) -> u32 {
        u32::try_from(self.wanted.len()).unwrap_or(u32::MAX)
    }

    /// Gives nodes of the consensus their rates. Nodes that share a key (an IPv6 /64) share the sum of their rates.
    pub fn set_peers(&mut self, peers: &[Peer], append: bool) -> Result<(), MapError> {
        let mut rates: BTreeMap<[u8; 16], (u64, u64)> = BTreeMap::new();
        for peer in peers {
            let key = source_key(peer.address);
            let before = self.wanted.get(&key).filter(|_| append);
            let (pps, burst) = rates
                .entry(key)
                .or_insert(before.copied().unwrap_or((0, 0)));
            *pps = pps.saturating_add(peer.pps.into());
            *burst = burst.saturating_add(peer.burst.into());
        }
        if !append {
            let gone = |key: &&[u8; 16]| !rates.contains_key(*key);
            let gone: Vec<[u8; 16]> = self.wanted.keys().filter(gone).copied().collect();
            for key in gone {
                self.peers.remove(&key)?;
                self.wanted.remove(&key);
            }
        }
        // The program holds every peer to a quarter of the capacity, whatever stands here.
        for (key, (pps, burst)) in rates {
            self.peers.insert(key, Rate::new(pps, burst), 0)?;
            self.wanted.insert(key, (pps, burst));
        }
        Ok(())
    }

    /// Steers a queue's packets to a socket.
    pub fn steer(&mut self, queue: u32, socket: BorrowedFd<'_>) -> Result<(), MapError> {
        self.xsks.set(queue, socket.as_raw_fd(), 0)
    }

    /// Steers no queue any more: what comes goes to the kernel's socket.
    pub fn steer_nothing(&mut self) -> Result<(), MapError> {
        for queue in 0..XSKS_MAX as u32 {
            self.xsks.unset(queue)?;
        }
        Ok(())
    }
}

/// Whom a source's tokens are counted against, as the program's parser has it: an IPv4 address mapped into IPv6, or the
/// first 64 bits of an IPv6 address.
fn source_key(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => {
            let mut key = address.octets();
            key[8..].fill(0);
            key
        }
    }
}

/// The program's configuration for a node that handles `capacity_pps` packets a second. No source gets more than a
/// quarter of it: a single flooder leaves three quarters to the rest.
fn config(port: u16, capacity_pps: u32, cpus: usize) -> Config {
    let capacity = u64::from(capacity_pps.max(CAPACITY_MIN));
    let quarter = capacity / 4;
    let cpus = cpus.max(1) as u64;
    let each_cpu = |pps: u64, least: u64, burst| Rate::new((pps / cpus).max(least), burst);
    let [all, least, burst] = [STRANGERS_PPS, STRANGERS_CPU_PPS, STRANGERS_BURST];
    Config {
        port: port.into(),
        reserved: 0,
        address: [0; 16],
        // A twentieth of a second's worth at once, and no fewer than a sender's GSO burst.
        source: Rate::new(quarter, (quarter / 20).max(64)),
        member: MEMBER.rates(),
        stranger: STRANGER.rates(),
        strangers: Rates {
            bare: each_cpu(all.bare, least.bare, burst.bare),
            mac2: each_cpu(all.mac2, least.mac2, burst.mac2),
        },
        peer_interval_ns: Config::peer_floor_ns(capacity),
    }
}

/// What nodes may send to each of so many queues beyond their own rates: three times what the node can do, so that
/// a node whose frames are forged keeps its own until the forged ones are several times that. To receive a frame and to ask
/// its session's key about it takes a fifth of what it takes to forward a packet, half of the cores for all of these; most
/// die for their counter before that. No more come at once than of as many as the node can do.
fn beyond(capacity_pps: u32, queues: u32) -> Rate {
    let pps = u64::from(capacity_pps.max(BEYOND_MIN)) / u64::from(queues.max(1));
    Rate::new(BEYOND_TIMES * pps, (pps / BEYOND_BURST_PART).max(64))
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::collections::{HashMap as StdMap, HashSet};
    use std::net::Ipv4Addr;

    use ebpf_abi::{Datagram, Handshakes, Tables, admit};

    use super::*;

    #[test]
    fn a_peers_key_is_the_one_the_parser_counts_its_packets_under() {
        let parsed = |frame: &[u8]| match ebpf_abi::parse(frame, &Receiver::any(9)) {
            ebpf_abi::Parsed::Ours(source, _) => source,
            other => panic!("{other:?}"),
        };
        let payload = |mut frame: Vec<u8>| {
            frame.extend([0, 9, 0, 9]);
            frame.extend((8 + 1232_u16).to_be_bytes());
            frame.extend([0, 0, 4, 0, 0, 0]);
            frame.resize(frame.len() + 1228, 0);
            frame
        };
        let mut v4 = vec![0; 12];
        v4.extend([8, 0, 0x45, 0]);
        v4.extend((20 + 8 + 1232_u16).to_be_bytes());
        v4.extend([0, 0, 0, 0, 64, 17, 0, 0, 192, 0, 2, 7, 192, 0, 2, 8]);
        assert_eq!(
            parsed(&payload(v4)),
            source_key("192.0.2.7".parse().unwrap())
        );
        let source: std::net::Ipv6Addr = "2001:db8:1:2:3:4:5:6".parse().unwrap();
        let mut v6 = vec![0; 12];
        v6.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
        v6.extend((8 + 1232_u16).to_be_bytes());
        v6.extend([17, 64]);
        v6.extend(source.octets());
        v6.extend([0; 16]);
        assert_eq!(parsed(&payload(v6)), source_key(source.into()));
    }

    #[test]
    fn no_source_may_take_more_than_a_quarter_of_the_capacity() {
        for capacity in [0, 1, 4, 1000, 1_000_000, u32::MAX] {
            let config = config(9, capacity, 2);
            let quarter = u64::from(capacity.max(CAPACITY_MIN)) / 4;
            let interval_ns = 1_000_000_000_u64.div_ceil(quarter);
            assert_eq!(config.source.interval_ns, interval_ns);
            assert_eq!(config.peer_interval_ns, interval_ns);
        }
    }

    /// The program's decision over tables of the host.
    #[derive(Default)]
    struct Host {
        now_ns: Cell<u64>,
        members: HashSet<Address>,
        member: RefCell<StdMap<Address, Handshakes>>,
        source: RefCell<StdMap<Address, Handshakes>>,
        all: RefCell<Handshakes>,
    }

    impl Tables for Host {
        fn now_ns(&self) -> u64 {
            self.now_ns.get()
        }
        fn owner(&self, _: u32) -> Option<Address> {
            None
        }
        fn peer(&self, source: &Address) -> Option<Rate> {
            self.members.get(source).map(|_| Rate::UNLIMITED)
        }
        fn take_source(&self, _: &Address, _: u64, _: &Rate) -> bool {
            unreachable!("only handshakes come here")
        }
        fn take_beyond(&self, _: u64) -> bool {
            unreachable!("only handshakes come here")
        }
        fn take_stranger(&self, _: &Address, _: u64, _: &Rate) -> bool {
            unreachable!("only handshakes come here")
        }
        fn take_member_handshake(&self, of: &Address, mac2: bool, now: u64, to: &Rates) -> bool {
            let mut buckets = self.member.borrow_mut();
            buckets.entry(*of).or_default().take(mac2, now, to)
        }
        fn take_handshake(&self, of: &Address, mac2: bool, now: u64, to: &Rates) -> bool {
            let mut buckets = self.source.borrow_mut();
            buckets.entry(*of).or_default().take(mac2, now, to)
        }
        fn take_any_handshake(&self, mac2: bool, now: u64, to: &Rates) -> bool {
            self.all.borrow_mut().take(mac2, now, to)
        }
    }

    fn member(number: u64) -> Address {
        source_key(Ipv4Addr::from(0x0a00_0000 + number as u32).into())
    }

    const LINKS: u64 = 500;

    /// Of [`LINKS`] links whose sessions end within a minute, how many renew in it while twenty initiations a
    /// millisecond are forged. Each asks for a cookie, shows it, and tries again as a node does.
    fn renewed(forged: impl Fn(u64) -> (Address, bool)) -> u64 {
        const MS: u64 = 60_000;
        let config = config(9, 1_000_000, 4);
        let host = Host {
            members: (0..LINKS).map(member).collect(),
            ..Host::default()
        };
        let admitted = |source: &Address, mac2| {
            admit(&host, &config, source, Datagram::Initiation { mac2 }).is_none()
        };
        // Next attempt, milliseconds to the one after it, whether it has a cookie.
        let mut links: Vec<_> = (0..LINKS).map(|n| (n * 100, 500, false)).collect();
        let (mut renewed, mut junk) = (0, 0);
        for now_ms in 0..MS {
            host.now_ns.set((1 << 40) + now_ms * 1_000_000);
            for _ in 0..20 {
                let (source, mac2) = forged(junk);
                admitted(&source, mac2);
                junk += 1;
            }
            for (number, (due_ms, wait_ms, cookie)) in links.iter_mut().enumerate() {
                if *due_ms != now_ms {
                    continue;
                }
                if !admitted(&member(number as u64), *cookie) {
                    *due_ms += *wait_ms;
                    *wait_ms = (2 * *wait_ms).min(16_000);
                } else if *cookie {
                    renewed += 1;
                } else {
                    (*due_ms, *cookie) = (now_ms + 1, true);
                }
            }
        }
        renewed
    }

    #[test]
    fn every_link_renews_under_twenty_thousand_forged_initiations_a_second() {
        let anyone = |n: u64| source_key(Ipv4Addr::from(0xc000_0000 + n as u32 % 65_536).into());
        for mac2 in [false, true] {
            assert_eq!(renewed(|n| (anyone(n), mac2)), LINKS);
            // In the names of the nodes themselves.
            assert_eq!(renewed(|n| (member(n % LINKS), mac2)), LINKS);
        }
        // All in the name of one: it alone may have to wait, and the others do not.
        assert!(renewed(|n| (member(7), n % 2 == 0)) >= LINKS - 1);
    }
}
