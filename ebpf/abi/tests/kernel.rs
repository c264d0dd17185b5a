//! The committed XDP program, run by the kernel packet by packet (BPF_PROG_TEST_RUN): no NIC, but
//! root. `cargo test --workspace --test kernel -- --ignored --test-threads=1`
#![allow(unsafe_code, reason = "a bare AF_XDP socket")]

use aya::{
    Ebpf,
    maps::{Array, HashMap, PerCpuArray, XskMap},
    programs::{TestRun, TestRunOptions, Xdp},
};
use ebpf_abi::{
    Action, Address, Beyond, Bucket, Config, Counters, Datagram, Parsed, Rate, Reason, Receiver,
    parse,
};
use frames::{BOTH, Builder, INDEX, OWN_V4, OWN_V6, PORT};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

#[path = "frames/cases.rs"]
mod cases;
mod frames;
#[path = "kernel/limits.rs"]
mod limits;

static OBJECT: &[u8] = aya::include_bytes_aligned!("../../programs/steer.o");

/// The kernel refuses to run a program on less than an Ethernet header.
const KERNEL_MIN_BYTES: usize = 14;

struct Kernel {
    ebpf: Ebpf,
    seen: Vec<u64>,
}

impl Kernel {
    /// The program with one known receiver index, which is nobody's yet.
    fn new(config: Config) -> Self {
        let mut ebpf = Ebpf::load(OBJECT).expect("loading the object needs root");
        let program: &mut Xdp = ebpf.program_mut("steer").unwrap().try_into().unwrap();
        program.load().unwrap();
        let mut kernel = Self {
            ebpf,
            seen: vec![0; Reason::ALL.len()],
        };
        kernel.configure(config);
        kernel.own(INDEX, [0; 16]);
        kernel
    }

    /// Says whose a receiver index is.
    fn own(&mut self, index: u32, source: Address) {
        let mut sessions: HashMap<_, u32, Address> =
            self.ebpf.map_mut("SESSIONS").unwrap().try_into().unwrap();
        sessions.insert(index, source, 0).unwrap();
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

    fn peer(&mut self, source: Address, rate: Rate) {
        let mut peers: HashMap<_, Address, Rate> =
            self.ebpf.map_mut("PEERS").unwrap().try_into().unwrap();
        peers.insert(source, rate, 0).unwrap();
    }

    /// What nodes may send to the first queue beyond their own rates.
    fn beyond(&mut self, rate: Rate) {
        let mut map: Array<_, Beyond> = self.ebpf.map_mut("BEYOND").unwrap().try_into().unwrap();
        let bucket = Bucket::default();
        map.set(0, Beyond { rate, bucket }, 0).unwrap();
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
fn frames_for_another_host_on_the_same_port_pass() {
    for (v6, address) in [(false, cases::mapped(OWN_V4)), (true, OWN_V6)] {
        let mut kernel = Kernel::new(Config {
            port: PORT.into(),
            address,
            ..Config::default()
        });
        let frame = Builder::new(v6, 4).build();
        assert_eq!(kernel.run(&frame), Reason::KernelSocket);
        let mut other = frame.clone();
        other[Builder::new(v6, 4).udp() - 1] ^= 1;
        assert_eq!(kernel.run(&other), Reason::OtherHost);
        assert_eq!(kernel.run(&Builder::new(!v6, 4).build()), Reason::OtherHost);
    }
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
        let expected = predicted(parse(frame.as_slice(), &Receiver::any(PORT)));
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
