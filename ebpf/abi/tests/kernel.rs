//! The committed XDP program, run by the kernel packet by packet (BPF_PROG_TEST_RUN): no NIC, but
//! root. `cargo test --workspace --test kernel -- --ignored --test-threads=1`
#![allow(unsafe_code, reason = "a bare AF_XDP socket")]

use aya::{
    Ebpf,
    maps::{Array, HashMap, PerCpuArray, XskMap},
    programs::{TestRun, TestRunOptions, Xdp},
};
use ebpf_abi::{Action, Config, Counters, Datagram, Parsed, Rate, Reason, parse};
use frames::{BOTH, Builder, INDEX, PORT, V4, V6};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

#[path = "frames/cases.rs"]
mod cases;
mod frames;

static OBJECT: &[u8] = aya::include_bytes_aligned!("../../programs/steer.o");

/// The kernel refuses to run a program on less than an Ethernet header.
const KERNEL_MIN_BYTES: usize = 14;
const SLOW: Rate = Rate::new(1, 3);

struct Kernel {
    ebpf: Ebpf,
    seen: Vec<u64>,
}

impl Kernel {
    /// The program with one known receiver index.
    fn new(config: Config) -> Self {
        let mut ebpf = Ebpf::load(OBJECT).expect("loading the object needs root");
        let program: &mut Xdp = ebpf.program_mut("steer").unwrap().try_into().unwrap();
        program.load().unwrap();
        let mut kernel = Self {
            ebpf,
            seen: vec![0; Reason::ALL.len()],
        };
        kernel.configure(config);
        let mut sessions: HashMap<_, u32, u32> =
            kernel.ebpf.map_mut("SESSIONS").unwrap().try_into().unwrap();
        sessions.insert(INDEX, 0, 0).unwrap();
        kernel
    }

    fn open() -> Self {
        Self::new(Config {
            port: PORT.into(),
            ..Config::default()
        })
    }

    fn configure(&mut self, config: Config) {
        let mut map: Array<_, Config> = self.ebpf.map_mut("CONFIG").unwrap().try_into().unwrap();
        map.set(0, config, 0).unwrap();
    }

    fn peer(&mut self, source: [u8; 16], rate: Rate) {
        let mut peers: HashMap<_, [u8; 16], Rate> =
            self.ebpf.map_mut("PEERS").unwrap().try_into().unwrap();
        peers.insert(source, rate, 0).unwrap();
    }

    /// Runs one frame; checks that one counter rose by one and that the verdict is that reason's.
    fn run(&mut self, frame: &[u8]) -> Reason {
        let program: &Xdp = self.ebpf.program("steer").unwrap().try_into().unwrap();
        let options = TestRunOptions {
            data_in: Some(frame),
            repeat: 1,
            ..TestRunOptions::new()
        };
        let verdict = program.test_run(options).unwrap().return_value;
        let counters: PerCpuArray<_, Counters> =
            self.ebpf.map("COUNTERS").unwrap().try_into().unwrap();
        let values = counters.get(&0, 0).unwrap();
        let mut counted = None;
        for (index, reason) in Reason::ALL.iter().enumerate() {
            let packets = values.iter().map(|cpu| cpu.packets[index]).sum();
            let before = std::mem::replace(&mut self.seen[index], packets);
            if packets != before {
                assert_eq!(packets, before + 1);
                assert_eq!(counted.replace(*reason), None, "two reasons for one packet");
            }
        }
        let reason = counted.expect("every packet has a reason");
        let expected = match reason.action() {
            Action::Drop => 1,
            Action::Pass => 2,
            Action::Redirect => 4,
        };
        assert_eq!(verdict, expected, "{}", reason.name());
        reason
    }
}

/// What an open program without AF_XDP sockets makes of what the host parser says.
fn predicted(parsed: Parsed) -> Reason {
    match parsed {
        Parsed::Decided(reason) => reason,
        Parsed::Ours(_, Datagram::Session(index)) if index != INDEX => Reason::UnknownIndex,
        Parsed::Ours(..) => Reason::KernelSocket,
    }
}

fn xsk() -> OwnedFd {
    // SAFETY: plain socket(2); the descriptor is checked and owned from here on.
    unsafe {
        let fd = libc::socket(libc::AF_XDP, libc::SOCK_RAW, 0);
        assert!(fd >= 0, "{}", std::io::Error::last_os_error());
        OwnedFd::from_raw_fd(fd)
    }
}

#[test]
#[ignore = "needs root"]
fn every_case_ends_as_its_sentence_says() {
    let mut kernel = Kernel::open();
    for (sentence, frame, expected) in cases::all() {
        assert_eq!(kernel.run(&frame), predicted(expected), "{sentence}");
    }
}

#[test]
#[ignore = "needs root"]
fn a_frame_cut_at_any_byte_passes_before_its_port_and_is_dropped_after_it() {
    let mut kernel = Kernel::open();
    for v6 in BOTH {
        for tags in 0..=2 {
            let mut builder = Builder::new(v6, 4);
            builder.tags = vec![0x8100; tags];
            let frame = builder.build();
            for bytes in KERNEL_MIN_BYTES..frame.len() {
                assert_eq!(
                    kernel.run(&frame[..bytes]),
                    cases::cut(&builder, bytes),
                    "cut after {bytes} bytes"
                );
            }
        }
    }
}

#[test]
#[ignore = "needs root"]
fn a_program_without_a_port_passes_everything() {
    let mut kernel = Kernel::new(Config::default());
    for (sentence, frame, _) in cases::all() {
        assert_eq!(kernel.run(&frame), Reason::Unconfigured, "{sentence}");
    }
}

#[test]
#[ignore = "needs root"]
fn a_frame_of_ours_is_steered_where_its_queue_has_a_socket_and_passes_where_it_has_none() {
    let mut kernel = Kernel::open();
    let socket = xsk();
    for v6 in BOTH {
        for kind in 1..=4 {
            let frame = Builder::new(v6, kind).build();
            let mut xsks: XskMap<_> = kernel.ebpf.map_mut("XSKS").unwrap().try_into().unwrap();
            xsks.set(0, socket.as_raw_fd(), 0).unwrap();
            assert_eq!(kernel.run(&frame), Reason::Steered);
            let mut xsks: XskMap<_> = kernel.ebpf.map_mut("XSKS").unwrap().try_into().unwrap();
            xsks.unset(0).unwrap();
            assert_eq!(kernel.run(&frame), Reason::KernelSocket);
        }
    }
}

#[test]
#[ignore = "needs root"]
fn a_frame_with_an_unknown_index_is_dropped_and_costs_its_forged_source_no_token() {
    let mut kernel = Kernel::new(Config {
        port: PORT.into(),
        source: SLOW,
        ..Config::default()
    });
    for v6 in BOTH {
        let mut forged = Builder::new(v6, 4);
        forged.payload[8] ^= 1;
        for _ in 0..100 {
            assert_eq!(kernel.run(&forged.build()), Reason::UnknownIndex);
        }
        let honest = Builder::new(v6, 4).build();
        for _ in 0..3 {
            assert_eq!(kernel.run(&honest), Reason::KernelSocket);
        }
        assert_eq!(kernel.run(&honest), Reason::SourceRate);
    }
}

#[test]
#[ignore = "needs root"]
fn an_index_that_is_removed_is_unknown_from_then_on() {
    let mut kernel = Kernel::open();
    let frame = Builder::new(false, 4).build();
    assert_eq!(kernel.run(&frame), Reason::KernelSocket);
    let mut sessions: HashMap<_, u32, u32> =
        kernel.ebpf.map_mut("SESSIONS").unwrap().try_into().unwrap();
    sessions.remove(&INDEX).unwrap();
    assert_eq!(kernel.run(&frame), Reason::UnknownIndex);
}

#[test]
#[ignore = "needs root"]
fn the_bucket_is_one_for_each_ipv4_address_and_each_ipv6_prefix_of_64_bits() {
    let config = Config {
        port: PORT.into(),
        source: Rate::new(1, 1),
        ..Config::default()
    };
    let mut kernel = Kernel::new(config);
    let mut run = |builder: &Builder| kernel.run(&builder.build());
    let mut v4 = Builder::new(false, 4);
    assert_eq!(run(&v4), Reason::KernelSocket);
    assert_eq!(run(&v4), Reason::SourceRate);
    v4.v4_source[3] ^= 1;
    assert_eq!(run(&v4), Reason::KernelSocket);
    let mut v6 = Builder::new(true, 4);
    assert_eq!(run(&v6), Reason::KernelSocket);
    v6.v6_source[8] ^= 1;
    assert_eq!(run(&v6), Reason::SourceRate);
    v6.v6_source[7] ^= 1;
    assert_eq!(run(&v6), Reason::KernelSocket);
}

#[test]
#[ignore = "needs root"]
fn a_peer_has_a_rate_of_its_own() {
    let mut kernel = Kernel::new(Config {
        port: PORT.into(),
        source: Rate::new(1, 1),
        ..Config::default()
    });
    for (v6, source) in [(false, cases::mapped(V4)), (true, cases::prefix(V6))] {
        kernel.peer(source, Rate::new(1, 5));
        let frame = Builder::new(v6, 4).build();
        for _ in 0..5 {
            assert_eq!(kernel.run(&frame), Reason::KernelSocket);
        }
        assert_eq!(kernel.run(&frame), Reason::SourceRate);
    }
}

#[test]
#[ignore = "needs root"]
fn a_peer_whose_rate_is_above_a_quarter_of_the_capacity_is_held_to_the_quarter() {
    let peer_interval_ns = Config::peer_floor_ns(4);
    let mut kernel = Kernel::new(Config {
        port: PORT.into(),
        peer_interval_ns,
        ..Config::default()
    });
    kernel.peer(cases::mapped(V4), Rate::UNLIMITED);
    let frame = Builder::new(false, 4).build();
    assert_eq!(kernel.run(&frame), Reason::KernelSocket);
    assert_eq!(kernel.run(&frame), Reason::SourceRate);
}

#[test]
#[ignore = "needs root"]
fn initiations_of_one_source_have_a_limit_that_frames_of_sessions_do_not_share() {
    let config = Config {
        port: PORT.into(),
        handshake_source: SLOW,
        ..Config::default()
    };
    let mut kernel = Kernel::new(config);
    for v6 in BOTH {
        let initiation = Builder::new(v6, 1).build();
        for _ in 0..3 {
            assert_eq!(kernel.run(&initiation), Reason::KernelSocket);
        }
        assert_eq!(kernel.run(&initiation), Reason::HandshakeSourceRate);
        for kind in 2..=4 {
            assert_eq!(
                kernel.run(&Builder::new(v6, kind).build()),
                Reason::KernelSocket
            );
        }
    }
}

#[test]
#[ignore = "needs root"]
fn initiations_from_many_sources_meet_the_limit_of_all_together() {
    let config = Config {
        port: PORT.into(),
        handshake: SLOW,
        ..Config::default()
    };
    let mut kernel = Kernel::new(config);
    // The limit is each CPU's, and the test may move between them.
    let cpus = std::thread::available_parallelism().unwrap().get();
    let mut refused = 0;
    for source in 0..200_u8 {
        let mut builder = Builder::new(false, 1);
        builder.v4_source[3] = source;
        match kernel.run(&builder.build()) {
            Reason::KernelSocket => {}
            Reason::HandshakeRate => refused += 1,
            other => panic!("{}", other.name()),
        }
    }
    assert!(refused >= 200 - 4 * cpus, "only {refused} refused");
    assert_eq!(
        kernel.run(&Builder::new(false, 4).build()),
        Reason::KernelSocket
    );
}

/// SplitMix64 (Steele, Lea, Flood 2014): the same packets in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % end as u64) as usize
    }
}

#[test]
#[ignore = "needs root"]
fn host_parser_and_program_agree_on_a_million_random_packets() {
    const PACKETS: usize = 1_000_000;
    /// Bytes that send the parser down its branches more often than chance would.
    const HINTS: [u8; 16] = [
        0, 1, 2, 3, 4, 6, 8, 17, 0x20, 43, 44, 0x45, 60, 0x60, 0x81, 0xdd,
    ];
    let mut kernel = Kernel::open();
    let mut random = Random(7);
    let bases: Vec<Vec<u8>> = cases::all()
        .into_iter()
        .map(|(_, frame, _)| frame)
        .collect();
    for _ in 0..PACKETS {
        let mut frame = bases[random.below(bases.len())].clone();
        let head = if random.below(8) == 0 {
            100
        } else {
            random.below(6)
        };
        for _ in 0..head {
            let offset = 12 + random.below(88.min(frame.len() - 12));
            frame[offset] = if random.below(2) == 0 {
                HINTS[random.below(16)]
            } else {
                random.below(256) as u8
            };
        }
        if random.below(4) == 0 {
            let longest = if random.below(2) == 0 {
                120
            } else {
                frame.len()
            };
            frame.truncate(KERNEL_MIN_BYTES + random.below(longest - KERNEL_MIN_BYTES));
        }
        let expected = predicted(parse(frame.as_slice(), PORT));
        assert_eq!(
            kernel.run(&frame),
            expected,
            "{:02x?}",
            &frame[..frame.len().min(120)]
        );
    }
    let seen: Vec<_> = Reason::ALL
        .iter()
        .zip(&kernel.seen)
        .map(|(reason, packets)| (reason.name(), packets))
        .collect();
    println!("{seen:?}");
    let parsed = Reason::ALL
        .iter()
        .zip(&kernel.seen)
        .filter(|(_, packets)| **packets > 0)
        .count();
    assert!(parsed >= 13, "the packets reach too few branches: {seen:?}");
}
