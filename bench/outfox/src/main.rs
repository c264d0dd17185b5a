//! A hop of nym-outfox beside the native hop: one process, one pinned core, rounds interleaved, as `mixbench crypto`
//! measures. Outfox packets here take four hops and a payload of the native body's size; Outfox keeps neither
//! replay tags nor a constant-length header, so the two packets do not do the same work: the ratio says what a node's
//! core could forward of each.
//!
//! `cargo run --release --manifest-path bench/outfox/Cargo.toml [-- --quick]`: prints one line of JSON.

#[allow(dead_code)] // Shared with mixbench.
#[path = "../../src/clock.rs"]
mod clock;
#[path = "../../src/crypto/measure.rs"]
mod measure;

use arrayvec::ArrayVec;
use measure::Case;
use nym_outfox::packet::OutfoxPacket;
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use sphinx::lanes::Lanes;
use sphinx::{BATCH_MAX, EpochSecret};
use sphinx_packet::crypto::{PrivateKey, PublicKey};
use sphinx_packet::route::{Destination, DestinationAddressBytes, Node, NodeAddressBytes};
use std::hint::black_box;

const DELAY_MAX_US: u32 = 1_000_000;
/// Outfox packets of one measurement.
const OUTFOX_PACKETS: usize = 8;
const ROUNDS: usize = 400;
const ROUNDS_QUICK: usize = 40;

fn outfox_hop() -> Case {
    let secrets: Vec<PrivateKey> = (0..4).map(|_| PrivateKey::random()).collect();
    let route: Vec<Node> = secrets
        .iter()
        .map(|secret| {
            Node::new(
                NodeAddressBytes::from_bytes([1; 32]),
                PublicKey::from(secret),
            )
        })
        .collect();
    let route: [Node; 4] = route.try_into().expect("four hops were made");
    let destination = Destination::new(DestinationAddressBytes::from_bytes([2; 32]), [3; 16]);
    let payload = [5; sphinx::BODY_BYTES];
    let packet = OutfoxPacket::build(payload, &route, &destination, Some(sphinx::BODY_BYTES))
        .expect("the payload fits");
    let bytes = packet.to_bytes().expect("a packet has bytes");
    let prepare = move || {
        let parse = |_| OutfoxPacket::try_from(bytes.as_slice()).expect("its own bytes");
        (0..OUTFOX_PACKETS).map(parse).collect::<Vec<_>>()
    };
    let secret = secrets.into_iter().next().expect("four secrets");
    Case::consuming(
        "hop nym-outfox",
        1,
        OUTFOX_PACKETS,
        prepare,
        move |packets| {
            for mut packet in packets {
                black_box(
                    packet
                        .decode_next_layer(&secret)
                        .expect("the first hop's packet"),
                );
            }
        },
    )
}

fn native_hop(lanes: Lanes) -> Case {
    let mut rng = ChaCha20Rng::seed_from_u64(7);
    let mut secrets = [[0; 32]; 5];
    secrets.iter_mut().for_each(|secret| rng.fill_bytes(secret));
    let hop = |(node, secret): (u16, &[u8; 32])| sphinx::PathHop {
        public_key: *EpochSecret::from_bytes(*secret).public_key(),
        node,
        delay_us: 20_000,
    };
    let path: Vec<_> = (1..).zip(&secrets).map(hop).collect();
    let terminal = sphinx::Terminal::Deliver {
        destination: [1; 16],
        id: [2; 8],
    };
    let mut packets = vec![[0; sphinx::PACKET_BYTES]; BATCH_MAX];
    for packet in &mut packets {
        sphinx::wrap(&mut rng, &path, &terminal, &[5; sphinx::BODY_BYTES], packet)
            .expect("a valid path");
    }
    let secret = EpochSecret::from_bytes(secrets[0]);
    let mut engine = sphinx::Engine::new(lanes, DELAY_MAX_US);
    let prepare = move || packets.clone();
    Case::consuming(
        "hop native",
        BATCH_MAX,
        BATCH_MAX,
        prepare,
        move |mut packets| {
            let secret = &secret;
            let jobs = packets
                .iter_mut()
                .map(|packet| sphinx::Job { packet, secret });
            let mut jobs: ArrayVec<_, BATCH_MAX> = jobs.collect();
            let mut verdicts = ArrayVec::new();
            engine.unwrap_batch(&mut jobs, &mut |_, _| Ok(()), &mut verdicts);
            assert!(verdicts.iter().all(Result::is_ok));
            drop(jobs);
            black_box(packets);
        },
    )
}

fn main() -> std::io::Result<()> {
    clock::pin_to_this_core()?;
    let quick = std::env::args().any(|argument| argument == "--quick");
    let rounds = if quick { ROUNDS_QUICK } else { ROUNDS };
    let lanes = Lanes::from_env_or_detect();
    let results = measure::measure(&mut [native_hop(lanes), outfox_hop()], rounds)?;
    let ratio = results[1].median_ns / results[0].median_ns;
    let report = serde_json::json!({
        "lanes": lanes.name(),
        "runs": rounds,
        "results": results,
        "ratios": { "hop_native_vs_nym_outfox": (ratio * 1000.0).round() / 1000.0 },
    });
    println!("{report}");
    Ok(())
}
