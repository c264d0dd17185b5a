//! The program's maps, opened from where they are pinned. The loader alone writes them.

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::Path;

use aya::maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray, XskMap};
use ebpf_abi::{Config, Counters, REASONS, Rate, XSKS_MAX};
use handover::protocol::Peer;

/// Every map of the program, by name.
pub(super) const NAMES: [&str; 8] = [
    "CONFIG",
    "COUNTERS",
    "SESSIONS",
    "PEERS",
    "SOURCES",
    "HANDSHAKE_SOURCES",
    "HANDSHAKES",
    "XSKS",
];

/// Handshakes a second that all sources together may begin: each takes the node about 200 µs, so this is less than a
/// tenth of a core.
const HANDSHAKES_PPS: u64 = 400;
/// Handshakes at once on one CPU: a network that comes up together.
const HANDSHAKES_BURST: u64 = 256;
/// Handshakes a second, and at once, of one source: many clients may share an address, and a neighbour begins a
/// session for each of its workers.
const HANDSHAKES_SOURCE: (u64, u64) = (50, 100);
/// Smallest capacity that can be divided among peers, packets a second.
pub(super) const CAPACITY_MIN: u32 = 100;

/// The maps the loader reads or writes.
pub(super) struct Maps {
    config: Array<MapData, Config>,
    counters: PerCpuArray<MapData, Counters>,
    sessions: HashMap<MapData, u32, u32>,
    peers: HashMap<MapData, [u8; 16], Rate>,
    xsks: XskMap<MapData>,
    /// Packets a second and at once, as asked for, of each key of `peers`.
    wanted: BTreeMap<[u8; 16], (u64, u64)>,
}

impl Maps {
    /// Opens the maps pinned in `folder`.
    pub fn open(folder: &Path) -> Result<Maps, MapError> {
        let pinned = |name: &str| MapData::from_pin(folder.join(name));
        let mut maps = Maps {
            config: Map::Array(pinned("CONFIG")?).try_into()?,
            counters: Map::PerCpuArray(pinned("COUNTERS")?).try_into()?,
            sessions: Map::HashMap(pinned("SESSIONS")?).try_into()?,
            peers: Map::HashMap(pinned("PEERS")?).try_into()?,
            xsks: Map::XskMap(pinned("XSKS")?).try_into()?,
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
    pub fn configure(&mut self, config: Config) -> Result<(), MapError> {
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

    /// Lets a receiver index in.
    pub fn add_index(&mut self, index: u32) -> Result<(), MapError> {
        self.sessions.insert(index, 0, 0)
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
    pub fn set_indices(&mut self, wanted: &HashSet<u32>) -> Result<(), MapError> {
        let present: Vec<u32> = self.sessions.keys().collect::<Result<_, _>>()?;
        for index in present.iter().filter(|index| !wanted.contains(index)) {
            self.remove_index(*index)?;
        }
        for index in wanted {
            self.add_index(*index)?;
        }
        Ok(())
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
pub(super) fn config(port: u16, capacity_pps: u32, cpus: usize) -> Config {
    let capacity = u64::from(capacity_pps.max(CAPACITY_MIN));
    let quarter = capacity / 4;
    let each_cpu = (HANDSHAKES_PPS / cpus.max(1) as u64).max(50);
    Config {
        port: port.into(),
        reserved: 0,
        // A twentieth of a second's worth at once, and no fewer than a sender's GSO burst.
        source: Rate::new(quarter, (quarter / 20).max(64)),
        handshake_source: Rate::new(HANDSHAKES_SOURCE.0, HANDSHAKES_SOURCE.1),
        handshake: Rate::new(each_cpu, HANDSHAKES_BURST),
        peer_interval_ns: Config::peer_floor_ns(capacity),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peers_key_is_the_one_the_parser_counts_its_packets_under() {
        let parsed = |frame: &[u8]| match ebpf_abi::parse(frame, 9) {
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
}
