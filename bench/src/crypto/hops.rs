//! Whole hops, wrapping and reply blocks: the native suite, suite `nym`, and `sphinx-packet` on the same packets.

use super::measure::{consuming, repeating};
use crate::cases::Case;
use arrayvec::ArrayVec;
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use sphinx::lanes::Lanes;
use sphinx::{BATCH_MAX, EpochSecret, WrapJob, nym};
use sphinx_packet::SphinxPacket;
use sphinx_packet::crypto::{PrivateKey, PublicKey};
use sphinx_packet::header::delays::Delay;
use sphinx_packet::packet::builder::SphinxPacketBuilder;
use sphinx_packet::route::{Destination, DestinationAddressBytes, Node, NodeAddressBytes};
use sphinx_packet::surb::{SURB, SURBMaterial};
use sphinx_packet::version::Version;
use std::hint::black_box;

pub(super) const HOP_NATIVE: &str = "hop native";
pub(super) const HOP_NYM: &str = "hop nym";
pub(super) const HOP_PEER: &str = "hop sphinx-packet 0.8";

/// Packets of one measurement: enough for a batch, and for single ones to rise above the clock.
const PACKETS: usize = BATCH_MAX;
/// Packets that the peer opens in one measurement; it takes longer for each.
const PEER_PACKETS: usize = 4;
const DELAY_MAX_US: u32 = 1_000_000;
const MESSAGE_BYTES: usize = 880;

/// A path of five hops; the packets below are opened at its first.
struct World {
    secrets: Vec<[u8; 32]>,
    rng: ChaCha20Rng,
}

impl World {
    fn new() -> Self {
        let mut rng = ChaCha20Rng::seed_from_u64(7);
        let mut secrets = vec![[0; 32]; 5];
        secrets.iter_mut().for_each(|secret| rng.fill_bytes(secret));
        Self { secrets, rng }
    }

    fn keys(&self) -> impl Iterator<Item = [u8; 32]> {
        let public = |secret: &[u8; 32]| *EpochSecret::from_bytes(*secret).public_key();
        self.secrets.iter().map(public)
    }

    fn native_path(&self) -> Vec<sphinx::PathHop> {
        let hop = |(node, public_key)| sphinx::PathHop {
            public_key,
            node,
            delay_us: 20_000,
        };
        (1..).zip(self.keys()).map(hop).collect()
    }

    fn nym_path(&self) -> Vec<nym::PathHop> {
        let hop = |(node, public_key)| nym::PathHop {
            public_key,
            address: [node; 32],
            delay_ns: 20_000_000,
        };
        (1..).zip(self.keys()).map(hop).collect()
    }

    fn peer_path(&self) -> (Vec<Node>, Vec<Delay>) {
        let node = |hop: nym::PathHop| {
            let address = NodeAddressBytes::from_bytes(hop.address);
            Node::new(address, PublicKey::from(hop.public_key))
        };
        let nodes: Vec<Node> = self.nym_path().into_iter().map(node).collect();
        let delays = vec![Delay::new_from_millis(20); nodes.len()];
        (nodes, delays)
    }

    /// Packets that `sphinx-packet` made: both open these very bytes.
    fn peer_packets(&self, count: usize) -> Vec<[u8; nym::PACKET_BYTES]> {
        let (nodes, delays) = self.peer_path();
        let destination = peer_destination();
        let packet = |_| {
            SphinxPacketBuilder::new()
                .build_packet([5; MESSAGE_BYTES], &nodes, &destination, &delays)
                .unwrap()
                .to_bytes()
                .try_into()
                .unwrap()
        };
        (0..count).map(packet).collect()
    }

    fn native_packets(&mut self, count: usize) -> Vec<[u8; sphinx::PACKET_BYTES]> {
        let path = self.native_path();
        let packet = |_| {
            let mut packet = [0; sphinx::PACKET_BYTES];
            native_wrap(&mut self.rng, &path, &mut packet);
            packet
        };
        (0..count).map(packet).collect()
    }
}

fn native_wrap(rng: &mut ChaCha20Rng, path: &[sphinx::PathHop], packet: &mut [u8; 1200]) {
    let terminal = sphinx::Terminal::Deliver {
        destination: [1; 16],
        id: [2; 8],
    };
    sphinx::wrap(rng, path, &terminal, &[5; sphinx::BODY_BYTES], packet).unwrap();
}

fn peer_destination() -> Destination {
    Destination::new(DestinationAddressBytes::from_bytes([1; 32]), [2; 16])
}

fn nym_destination() -> nym::Destination {
    nym::Destination {
        address: [1; 32],
        identifier: [2; 16],
    }
}

pub(super) fn cases(lanes: Lanes) -> Vec<Case> {
    let mut cases = Vec::new();
    for batch in [1, 8, BATCH_MAX] {
        cases.push(native_hop(lanes, batch));
    }
    for batch in [1, 8, BATCH_MAX] {
        cases.push(nym_hop(lanes, batch));
    }
    cases.push(peer_hop());
    cases.extend([native_wrapping(), native_wrapping_together(lanes)]);
    cases.extend([nym_wrapping(lanes), peer_wrapping()]);
    cases.extend([native_surb_making(), native_surbs_making_together(lanes)]);
    cases.extend([native_surb_use(), nym_surb_use(lanes), peer_surb_use()]);
    cases
}

fn native_hop(lanes: Lanes, batch: usize) -> Case {
    let mut world = World::new();
    let packets = world.native_packets(PACKETS);
    let secret = EpochSecret::from_bytes(world.secrets[0]);
    let mut engine = sphinx::Engine::new(lanes, DELAY_MAX_US);
    let count = if batch == 1 { 8 } else { PACKETS };
    let prepare = move || packets[..count].to_vec();
    consuming(HOP_NATIVE, batch, count, prepare, move |mut packets| {
        let mut verdicts = ArrayVec::new();
        for packets in packets.chunks_mut(batch) {
            let secret = &secret;
            let jobs = packets
                .iter_mut()
                .map(|packet| sphinx::Job { packet, secret });
            let mut jobs: ArrayVec<sphinx::Job<'_>, BATCH_MAX> = jobs.collect();
            engine.unwrap_batch(&mut jobs, &mut |_, _| Ok(()), &mut verdicts);
            assert!(verdicts.iter().all(Result::is_ok));
        }
        black_box(packets);
    })
}

fn nym_hop(lanes: Lanes, batch: usize) -> Case {
    let world = World::new();
    let packets = world.peer_packets(PACKETS);
    let secret = EpochSecret::from_bytes(world.secrets[0]);
    let mut engine = nym::Engine::new(lanes, u64::MAX);
    let count = if batch == 1 { 4 } else { PACKETS };
    let prepare = move || packets[..count].to_vec();
    consuming(HOP_NYM, batch, count, prepare, move |mut packets| {
        let mut verdicts = ArrayVec::new();
        for packets in packets.chunks_mut(batch) {
            let secret = &secret;
            let jobs = packets.iter_mut().map(|packet| nym::Job { packet, secret });
            let mut jobs: ArrayVec<nym::Job<'_>, BATCH_MAX> = jobs.collect();
            engine.unwrap_batch(&mut jobs, &mut |_, _| Ok(()), &mut verdicts);
            assert!(verdicts.iter().all(Result::is_ok));
        }
        black_box(packets);
    })
}

/// Timed without parsing the packet from bytes and without writing the next one, which ours includes.
fn peer_hop() -> Case {
    let world = World::new();
    let packets = world.peer_packets(PEER_PACKETS);
    let secret = PrivateKey::from(world.secrets[0]);
    let prepare = move || {
        let parse = |packet: &[u8; 1372]| SphinxPacket::from_bytes(packet).unwrap();
        packets.iter().map(parse).collect::<Vec<_>>()
    };
    consuming(HOP_PEER, 1, PEER_PACKETS, prepare, move |packets| {
        for packet in packets {
            black_box(packet.process(&secret).unwrap());
        }
    })
}

fn native_wrapping() -> Case {
    let mut world = World::new();
    let path = world.native_path();
    let mut packet = [0; sphinx::PACKET_BYTES];
    repeating("wrap native, five hops", 1, 1, move || {
        native_wrap(&mut world.rng, &path, black_box(&mut packet));
    })
}

/// Packets or reply blocks of one call of `wrap_batch`.
const TOGETHER: usize = 8;

fn native_wrapping_together(lanes: Lanes) -> Case {
    let mut world = World::new();
    let path = world.native_path();
    let mut packets = [[0; sphinx::PACKET_BYTES]; TOGETHER];
    repeating("wrap native, five hops", TOGETHER, TOGETHER, move || {
        let mut jobs = packets.each_mut().map(|packet| WrapJob::Packet {
            path: &path,
            terminal: &sphinx::Terminal::Deliver {
                destination: [1; 16],
                id: [2; 8],
            },
            body: &[5; sphinx::BODY_BYTES],
            packet,
        });
        made(lanes, &mut world.rng, &mut jobs);
        black_box(&packets);
    })
}

fn made(lanes: Lanes, rng: &mut ChaCha20Rng, jobs: &mut [WrapJob<'_>]) {
    let mut results = ArrayVec::<_, TOGETHER>::new();
    sphinx::wrap_batch(lanes, rng, jobs, &mut results);
    assert!(results.iter().all(Result::is_ok));
    black_box(&results);
}

fn native_surb_making() -> Case {
    let mut world = World::new();
    let path = world.native_path();
    repeating("surb make native, five hops", 1, 1, move || {
        let made = sphinx::surb_create(&mut world.rng, &path, 1, [1; 16], [2; 8]);
        black_box(made.unwrap());
    })
}

fn native_surbs_making_together(lanes: Lanes) -> Case {
    let mut world = World::new();
    let path = world.native_path();
    let name = "surb make native, five hops";
    repeating(name, TOGETHER, TOGETHER, move || {
        let mut jobs = [(); TOGETHER].map(|()| WrapJob::Surb {
            path: &path,
            epoch: 1,
            destination: [1; 16],
            id: [2; 8],
        });
        made(lanes, &mut world.rng, &mut jobs);
    })
}

fn nym_wrapping(lanes: Lanes) -> Case {
    let mut world = World::new();
    let path = world.nym_path();
    let mut packet = [0; nym::PACKET_BYTES];
    repeating("wrap nym, five hops", 1, 1, move || {
        let version = nym::Version::SingleSeedSurb;
        let (destination, rng) = (nym_destination(), &mut world.rng);
        let message = [5; MESSAGE_BYTES];
        nym::wrap(
            lanes,
            rng,
            version,
            &path,
            &destination,
            &message,
            black_box(&mut packet),
        )
        .unwrap();
    })
}

fn peer_wrapping() -> Case {
    let world = World::new();
    let (nodes, delays) = world.peer_path();
    repeating("wrap sphinx-packet 0.8, five hops", 1, 1, move || {
        let packet = SphinxPacketBuilder::new().build_packet(
            [5; MESSAGE_BYTES],
            &nodes,
            &peer_destination(),
            &delays,
        );
        black_box(packet.unwrap());
    })
}

/// Reply blocks are used up, but a benchmark may spend one many times.
const REPLIES: usize = 64;

fn native_surb_use() -> Case {
    let mut world = World::new();
    let path = world.native_path();
    let (surb, _) = sphinx::surb_create(&mut world.rng, &path, 1, [1; 16], [2; 8]).unwrap();
    let mut packet = [0; sphinx::PACKET_BYTES];
    repeating("surb use native", 1, REPLIES, move || {
        for _ in 0..REPLIES {
            sphinx::surb_use(&surb, &[5; sphinx::REPLY_BYTES], black_box(&mut packet));
        }
    })
}

fn nym_surb_use(lanes: Lanes) -> Case {
    let mut world = World::new();
    let (path, destination) = (world.nym_path(), nym_destination());
    let version = nym::Version::SingleSeedSurb;
    let (surb, _) = nym::surb_create(lanes, &mut world.rng, version, &path, &destination).unwrap();
    let mut packet = [0; nym::PACKET_BYTES];
    repeating("surb use nym", 1, REPLIES, move || {
        for _ in 0..REPLIES {
            nym::surb_use(&surb, &[5; MESSAGE_BYTES], black_box(&mut packet)).unwrap();
        }
    })
}

fn peer_surb_use() -> Case {
    let (nodes, delays) = World::new().peer_path();
    let version = Version::default();
    let material = SURBMaterial::new(nodes, delays, peer_destination(), version);
    let bytes = material.construct_recoverable_SURB().unwrap().0.to_bytes();
    let prepare = move || -> Vec<SURB> {
        (0..REPLIES)
            .map(|_| SURB::from_bytes(&bytes).unwrap())
            .collect()
    };
    let name = "surb use sphinx-packet 0.8";
    consuming(name, 1, REPLIES, prepare, |surbs| {
        for surb in surbs {
            black_box(
                surb.use_surb(&[5; MESSAGE_BYTES], nym::PAYLOAD_BYTES)
                    .unwrap(),
            );
        }
    })
}
