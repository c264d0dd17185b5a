//! Layouts of the map values. The kernel side and the loader are built apart: a size or offset
//! that changes must fail to compile, not misread.
#![allow(unsafe_code, reason = "says of plain data that it is plain data")]

use crate::REASONS;
use crate::parse::{Address, Receiver};
use core::mem::{offset_of, size_of};

/// Receiver indices that can be known at a time.
pub const SESSIONS_MAX: usize = 65_536;
/// Sources whose rate is remembered; the least recently seen one makes room.
pub const SOURCES_MAX: usize = 65_536;
/// NIC queues that can have an AF_XDP socket.
pub const XSKS_MAX: usize = 64;

/// A token bucket's parameters, ready for the generic cell rate algorithm (ITU-T I.371): no
/// division is left for the packet path.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rate {
    /// Nanoseconds a packet costs; 0 admits everything.
    pub interval_ns: u64,
    /// How far ahead of the clock a source may be, in nanoseconds: (burst − 1) × interval.
    pub ahead_ns: u64,
}

impl Rate {
    /// Admits everything.
    pub const UNLIMITED: Self = Self {
        interval_ns: 0,
        ahead_ns: 0,
    };

    /// `pps` packets a second (at least 1), `burst` packets at once (at least 1).
    pub const fn new(pps: u64, burst: u64) -> Self {
        let pps = if pps == 0 { 1 } else { pps };
        let interval_ns = 1_000_000_000_u64.div_ceil(pps);
        Self {
            interval_ns,
            ahead_ns: interval_ns.saturating_mul(burst.saturating_sub(1)),
        }
    }
}

/// State of one token bucket: the theoretical arrival time. One word, so that CPUs that race for
/// it can at worst admit a packet too many.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bucket {
    /// When the bucket is full again, in nanoseconds of the kernel's monotonic clock.
    pub full_ns: u64,
}

impl Bucket {
    /// Takes a packet's worth of tokens at `now_ns`; false if there are too few.
    #[inline(always)]
    pub const fn take(&mut self, now_ns: u64, rate: &Rate) -> bool {
        let from = if self.full_ns > now_ns {
            self.full_ns
        } else {
            now_ns
        };
        if from - now_ns > rate.ahead_ns {
            return false;
        }
        self.full_ns = from.saturating_add(rate.interval_ns);
        true
    }
}

/// Rates of initiations: with a mac2 and without. Those with one are apart, because whoever shows a cookie must get
/// through while others who have none, and need none, send as much as they can.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// Without.
    pub bare: Rate,
    /// With.
    pub mac2: Rate,
}

/// The buckets of [`Rates`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Handshakes {
    /// Without.
    pub bare: Bucket,
    /// With.
    pub mac2: Bucket,
}

impl Handshakes {
    /// Takes from one of them.
    #[inline(always)]
    pub const fn take(&mut self, mac2: bool, now_ns: u64, rates: &Rates) -> bool {
        if mac2 {
            self.mac2.take(now_ns, &rates.mac2)
        } else {
            self.bare.take(now_ns, &rates.bare)
        }
    }
}

/// An entry of map `BEYOND`: what nodes of the consensus may send to one queue beyond their own rates, all of them together.
/// Who forges a node's frames spends that node's rate. This is what lets the node's own ones through nevertheless, as far as
/// a worker can ask the session's key about each of them.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Beyond {
    /// Written by the loader. An interval of 0, as in a map that nobody wrote, admits nothing.
    pub rate: Rate,
    /// The program's.
    pub bucket: Bucket,
}

impl Beyond {
    /// Takes a token.
    #[inline(always)]
    pub const fn take(&mut self, now_ns: u64) -> bool {
        let rate = self.rate;
        rate.interval_ns != 0 && self.bucket.take(now_ns, &rate)
    }
}

/// The only entry of map `CONFIG`, written by the loader.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// The node's UDP port, 1 to 65535; 0 passes everything.
    pub port: u32,
    /// Zero.
    pub reserved: u32,
    /// The node's address; zero while it is not known.
    pub address: Address,
    /// Datagrams of a known session from one source (an IPv4 address or an IPv6 /64).
    pub source: Rate,
    /// Initiations from one node of the consensus.
    pub member: Rates,
    /// Initiations from one other source.
    pub stranger: Rates,
    /// Initiations from all other sources together, for each CPU that receives.
    pub strangers: Rates,
    /// Lower bound of a peer's interval whatever map `PEERS` says: see [`Config::peer_floor_ns`].
    pub peer_interval_ns: u64,
}

impl Config {
    /// What is ours.
    #[inline(always)]
    pub const fn receiver(&self) -> Receiver {
        Receiver {
            port: self.port as u16,
            address: self.address,
        }
    }

    /// The interval that holds a peer to a quarter of a node's capacity in packets a second.
    pub const fn peer_floor_ns(capacity_pps: u64) -> u64 {
        let quarter = capacity_pps / 4;
        1_000_000_000_u64.div_ceil(if quarter == 0 { 1 } else { quarter })
    }

    /// A peer's rate from map `PEERS`, no faster than a quarter of the capacity.
    #[inline(always)]
    pub const fn peer(&self, wanted: &Rate) -> Rate {
        let slow = wanted.interval_ns >= self.peer_interval_ns;
        Rate {
            interval_ns: if slow {
                wanted.interval_ns
            } else {
                self.peer_interval_ns
            },
            ahead_ns: wanted.ahead_ns,
        }
    }
}

/// The only entry of the per-CPU map `COUNTERS`: packets by reason.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counters {
    /// Indexed by `Reason as usize`.
    pub packets: [u64; REASONS],
}

const _: () = {
    assert!(size_of::<Rate>() == 16);
    assert!(size_of::<Bucket>() == 8);
    assert!(size_of::<Rates>() == 32);
    assert!(size_of::<Beyond>() == 24);
    assert!(size_of::<Handshakes>() == 16);
    assert!(size_of::<Config>() == 144);
    assert!(offset_of!(Config, address) == 8);
    assert!(offset_of!(Config, source) == 24);
    assert!(offset_of!(Config, member) == 40);
    assert!(offset_of!(Config, stranger) == 72);
    assert!(offset_of!(Config, strangers) == 104);
    assert!(offset_of!(Config, peer_interval_ns) == 136);
    assert!(size_of::<Counters>() == 8 * 24);
};

#[cfg(feature = "aya")]
mod pod {
    use super::{Beyond, Bucket, Config, Counters, Rate};
    // SAFETY: `repr(C)`, integers only, no padding (the sizes above are the sums of the fields).
    unsafe impl aya::Pod for Rate {}
    // SAFETY: as for `Rate`.
    unsafe impl aya::Pod for Bucket {}
    // SAFETY: as for `Rate`.
    unsafe impl aya::Pod for Beyond {}
    // SAFETY: as for `Rate`.
    unsafe impl aya::Pod for Config {}
    // SAFETY: as for `Rate`.
    unsafe impl aya::Pod for Counters {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_burst_is_admitted_at_once_and_then_one_packet_an_interval() {
        let rate = Rate::new(1_000, 5);
        let mut bucket = Bucket::default();
        let now = 1_000_000_000;
        assert_eq!((0..9).filter(|_| bucket.take(now, &rate)).count(), 5);
        assert!(!bucket.take(now + 999_999, &rate));
        assert!(bucket.take(now + 1_000_000, &rate));
        assert!(!bucket.take(now + 1_000_000, &rate));
    }

    #[test]
    fn an_unlimited_rate_admits_everything() {
        let mut bucket = Bucket::default();
        assert!((0..1_000).all(|_| bucket.take(7, &Rate::UNLIMITED)));
    }

    #[test]
    fn what_nobody_wrote_admits_nothing_beyond_a_nodes_own_rate() {
        let mut beyond = Beyond::default();
        assert!(!beyond.take(0) && !beyond.take(7));
        beyond.rate = Rate::new(1, 3);
        assert_eq!((0..9).filter(|_| beyond.take(7)).count(), 3);
    }

    #[test]
    fn a_peer_gets_at_most_a_quarter_of_the_capacity() {
        let config = Config {
            peer_interval_ns: Config::peer_floor_ns(100_000),
            ..Config::default()
        };
        assert_eq!(config.peer(&Rate::new(90_000, 8)).interval_ns, 40_000);
        assert_eq!(config.peer(&Rate::UNLIMITED).interval_ns, 40_000);
        assert_eq!(config.peer(&Rate::new(1_000, 8)), Rate::new(1_000, 8));
    }

    proptest! {
        #[test]
        fn no_schedule_of_packets_gets_more_than_the_burst_and_the_refill(
            pps in 1_u64..1_000_000, burst in 1_u64..100,
            gaps in proptest::collection::vec(0_u64..3_000_000, 1..300),
        ) {
            let rate = Rate::new(pps, burst);
            let (mut bucket, start, mut now, mut admitted) = (Bucket::default(), 5_000, 5_000, 0_u64);
            for gap in gaps {
                now += gap;
                admitted += u64::from(bucket.take(now, &rate));
                prop_assert!(admitted <= burst + (now - start) / rate.interval_ns);
            }
        }
    }
}
