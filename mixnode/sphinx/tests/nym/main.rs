//! Suite `nym` against the two releases of `sphinx-packet` that made its bytes.

mod peer;

use arrayvec::ArrayVec;
use peer::{Case, Outcome, PEERS, Peer};
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use sphinx::lanes::Lanes;
use sphinx::nym::{
    Command, Destination, Engine, Job, PathHop, Surb, Unwrapped, Version, WrapError, message,
    surb_create, surb_open, surb_use, wrap,
};
use sphinx::{BATCH_MAX, EpochSecret, Reject};

/// Packets of each of the two releases in the full run.
const FULL: usize = 10_000;
const DELAY_MAX_NS: u64 = 1 << 40;
const HEADER: usize = sphinx::nym::HEADER_BYTES;

fn rng(seed: u64) -> ChaCha20Rng {
    ChaCha20Rng::seed_from_u64(seed)
}

fn bytes<const N: usize>(rng: &mut ChaCha20Rng) -> [u8; N] {
    let mut out = [0; N];
    rng.fill_bytes(&mut out);
    out
}

fn case(rng: &mut ChaCha20Rng, version: u16) -> Case {
    let hops = 1 + rng.next_u32() as usize % 5;
    let secrets: Vec<[u8; 32]> = (0..hops).map(|_| bytes(rng)).collect();
    let path = secrets
        .iter()
        .map(|secret| PathHop {
            public_key: *EpochSecret::from_bytes(*secret).public_key(),
            address: bytes(rng),
            delay_ns: rng.next_u64() % DELAY_MAX_NS,
        })
        .collect();
    // Mostly the usual size; now and then a short, an odd and a long one.
    let payload_bytes = [1024, 1024, 1024, 33, 777, 2048][rng.next_u32() as usize % 6];
    let mut message = vec![0; rng.next_u32() as usize % (payload_bytes - 16)];
    rng.fill_bytes(&mut message);
    Case {
        version,
        secrets,
        path,
        destination: Destination {
            address: bytes(rng),
            identifier: bytes(rng),
        },
        message,
        payload_bytes,
    }
}

fn version(number: u16) -> Version {
    match number {
        258 => Version::ExplicitPayloadKeys,
        259 => Version::PayloadKeySeeds,
        260 => Version::SingleSeedSurb,
        other => panic!("no version {other}"),
    }
}

type Verdicts = ArrayVec<Result<Unwrapped, Reject>, BATCH_MAX>;

fn unwrap_batch(packets: &mut [Vec<u8>], secrets: &[EpochSecret]) -> Verdicts {
    let mut jobs: Vec<Job<'_>> = packets
        .iter_mut()
        .zip(secrets)
        .map(|(packet, secret)| Job { packet, secret })
        .collect();
    let mut verdicts = Verdicts::new();
    Engine::new(Lanes::detect(), DELAY_MAX_NS).unwrap_batch(
        &mut jobs,
        &mut |_, _| Ok(()),
        &mut verdicts,
    );
    verdicts
}

fn unwrap_one(packet: &mut Vec<u8>, secret: &[u8; 32]) -> Result<Unwrapped, Reject> {
    let secrets = [EpochSecret::from_bytes(*secret)];
    unwrap_batch(std::slice::from_mut(packet), &secrets)[0]
}

/// Ours in the peer's terms.
fn outcome(packet: &[u8], unwrapped: &Unwrapped) -> Outcome {
    match unwrapped.command {
        Command::Forward { next, delay_ns } => Outcome::Forward {
            packet: packet.to_vec(),
            next,
            delay_ns,
        },
        Command::Final(destination) => Outcome::Final {
            address: destination.address,
            identifier: destination.identifier,
            payload: packet[HEADER..].to_vec(),
        },
    }
}

/// Sends a batch of packets down their paths, hop by hop in both implementations, and returns the payloads.
fn travel(peer: &Peer, cases: &[Case], mut packets: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let mut payloads = vec![Vec::new(); cases.len()];
    for hop in 0..sphinx::HOPS_MAX {
        let live: Vec<usize> = (0..cases.len())
            .filter(|index| hop < cases[*index].path.len())
            .collect();
        let mut batch: Vec<Vec<u8>> = live.iter().map(|index| packets[*index].clone()).collect();
        let secrets: Vec<EpochSecret> = live
            .iter()
            .map(|index| EpochSecret::from_bytes(cases[*index].secrets[hop]))
            .collect();
        let verdicts = unwrap_batch(&mut batch, &secrets);
        for ((index, ours), verdict) in live.into_iter().zip(batch).zip(verdicts) {
            let theirs = (peer.process)(&packets[index], &cases[index].secrets[hop]).unwrap();
            let unwrapped = verdict.unwrap();
            assert_eq!(
                outcome(&ours, &unwrapped),
                theirs,
                "{} hop {hop}",
                peer.name
            );
            assert_eq!(unwrapped.version, version(cases[index].version));
            let is_last = hop + 1 == cases[index].path.len();
            assert_eq!(matches!(unwrapped.command, Command::Final(_)), is_last);
            if is_last {
                payloads[index] = ours[HEADER..].to_vec();
            }
            packets[index] = ours;
        }
    }
    payloads
}

fn ours(case: &Case, rng: &mut ChaCha20Rng) -> Vec<u8> {
    let mut packet = vec![0xaa; HEADER + case.payload_bytes];
    wrap(
        Lanes::detect(),
        rng,
        version(case.version),
        &case.path,
        &case.destination,
        &case.message,
        &mut packet,
    )
    .unwrap();
    packet
}

fn forward_packets_agree(count: usize) {
    for peer in &PEERS {
        let mut rng = rng(1);
        for start in (0..count).step_by(BATCH_MAX) {
            let cases: Vec<Case> = (start..count.min(start + BATCH_MAX))
                .map(|index| case(&mut rng, peer.versions[index % peer.versions.len()]))
                .collect();
            for by_us in [false, true] {
                let make = |case| {
                    if by_us {
                        ours(case, &mut rng)
                    } else {
                        (peer.wrap)(case)
                    }
                };
                let packets = cases.iter().map(make).collect();
                for (case, payload) in cases.iter().zip(travel(peer, &cases, packets)) {
                    assert_eq!(message(&payload).unwrap(), case.message);
                    assert_eq!((peer.message)(&payload).unwrap(), case.message);
                }
            }
        }
    }
}

fn replies_agree(count: usize) {
    for peer in &PEERS {
        let mut rng = rng(2);
        for start in (0..count).step_by(BATCH_MAX) {
            let versions = peer.surb_versions;
            let cases: Vec<Case> = (start..count.min(start + BATCH_MAX))
                .map(|index| case(&mut rng, versions[index % versions.len()]))
                .collect();
            for (block_by_us, reply_by_us) in [(false, true), (true, false)] {
                replies_of(peer, &cases, block_by_us, reply_by_us, &mut rng);
            }
        }
    }
}

fn replies_of(
    peer: &Peer,
    cases: &[Case],
    block_by_us: bool,
    reply_by_us: bool,
    rng: &mut ChaCha20Rng,
) {
    let mut packets = Vec::new();
    let mut readers: Vec<Reader> = Vec::new();
    for case in cases {
        let (block, reader) = reply_block(peer, case, block_by_us, rng);
        packets.push(if reply_by_us {
            let surb = Surb::from_bytes(&block).unwrap();
            assert_eq!(surb.first_hop(), case.path[0].address);
            let mut packet = vec![0; HEADER + case.payload_bytes];
            surb_use(&surb, &case.message, &mut packet).unwrap();
            packet
        } else {
            (peer.use_surb)(&block, case)
        });
        readers.push(reader);
    }
    let payloads = travel(peer, cases, packets);
    for ((case, payload), reader) in cases.iter().zip(payloads).zip(readers) {
        assert_eq!(reader(&payload), case.message);
    }
}

type Reader = Box<dyn Fn(&[u8]) -> Vec<u8>>;

/// A reply block by one of the two, and how its creator reads the answer.
fn reply_block(peer: &Peer, case: &Case, by_us: bool, rng: &mut ChaCha20Rng) -> (Vec<u8>, Reader) {
    if by_us {
        let version = version(case.version);
        let (surb, secret) =
            surb_create(Lanes::detect(), rng, version, &case.path, &case.destination).unwrap();
        let reader: Reader = Box::new(move |payload| match &secret {
            Some(secret) => surb_open(secret, &mut payload.to_vec()).unwrap().to_vec(),
            None => message(payload).unwrap().to_vec(),
        });
        (surb.as_bytes().to_vec(), reader)
    } else {
        let (block, recovery) = (peer.surb)(case);
        let (recover, clear) = (peer.recover, peer.message);
        let reader: Reader = Box::new(move |payload| match &recovery {
            Some(recovery) => recover(recovery, payload).unwrap(),
            None => clear(payload).unwrap(),
        });
        (block, reader)
    }
}

/// Flips bits of packets at their first hop. `step` 1 is every bit.
fn changes_agree(packets: usize, step: usize) {
    for peer in &PEERS {
        let mut rng = rng(3);
        for index in 0..packets {
            let case = case(&mut rng, peer.versions[index % peer.versions.len()]);
            let packet = (peer.wrap)(&case);
            let first = index % step;
            for bit in (first..packet.len() * 8).step_by(step) {
                let mut changed = packet.clone();
                changed[bit / 8] ^= 1 << (bit % 8);
                let theirs = (peer.process)(&changed, &case.secrets[0]);
                let verdict = unwrap_one(&mut changed, &case.secrets[0]);
                let ours = verdict.ok().map(|unwrapped| outcome(&changed, &unwrapped));
                assert_eq!(ours, theirs, "{} bit {bit}", peer.name);
                if let Some(Outcome::Final { payload, .. }) = &ours {
                    let said = message(payload).ok().map(<[u8]>::to_vec);
                    assert_eq!(said, (peer.message)(payload), "{} bit {bit}", peer.name);
                }
            }
        }
    }
}

#[test]
fn forward_packets_of_either_side_unwrap_to_the_same_bytes_in_both() {
    forward_packets_agree(96);
}

#[test]
fn replies_to_reply_blocks_of_either_side_unwrap_to_the_same_bytes_in_both() {
    replies_agree(96);
}

#[test]
fn a_changed_bit_is_refused_by_both_or_by_neither() {
    changes_agree(12, 211);
}

#[test]
#[ignore = "ten thousand packets of each release, forward and reply; for release builds"]
fn ten_thousand_packets_of_each_release_unwrap_to_the_same_bytes_in_both() {
    forward_packets_agree(FULL);
    replies_agree(FULL);
}

#[test]
#[ignore = "every bit of a packet of each version; for release builds"]
fn every_one_bit_change_is_refused_by_both_or_by_neither() {
    changes_agree(6, 1);
}

#[test]
fn a_replayed_packet_keeps_its_tag_whatever_else_is_changed_but_the_header() {
    let mut rng = rng(4);
    let case = case(&mut rng, 259);
    let packet = ours(&case, &mut rng);
    let secret = EpochSecret::from_bytes(case.secrets[0]);
    let mut tags = Vec::new();
    for change in [None, Some(HEADER), Some(packet.len() - 1), Some(31)] {
        let mut copy = packet.clone();
        if let Some(at) = change {
            copy[at] ^= 0x80;
        }
        let mut jobs = [Job {
            packet: &mut copy,
            secret: &secret,
        }];
        let mut verdicts = Verdicts::new();
        Engine::new(Lanes::detect(), DELAY_MAX_NS).unwrap_batch(
            &mut jobs,
            &mut |_, tag| {
                tags.push(*tag);
                Err(Reject::Replay)
            },
            &mut verdicts,
        );
        assert_eq!(verdicts[0], Err(Reject::Replay), "{change:?}");
    }
    assert!(tags.windows(2).all(|pair| pair[0] == pair[1]));
}

#[test]
fn a_point_of_low_order_is_refused_before_the_mac() {
    let mut packet = vec![0; sphinx::nym::PACKET_BYTES];
    assert_eq!(unwrap_one(&mut packet, &[1; 32]), Err(Reject::LowOrder));
    packet[0] = 1;
    assert_eq!(unwrap_one(&mut packet, &[1; 32]), Err(Reject::LowOrder));
}

#[test]
fn a_delay_over_the_bound_is_refused() {
    let mut rng = rng(5);
    let mut case = loop {
        let case = case(&mut rng, 260);
        if case.path.len() > 1 {
            break case;
        }
    };
    case.path[0].delay_ns = DELAY_MAX_NS;
    let mut at_the_bound = ours(&case, &mut rng);
    assert!(unwrap_one(&mut at_the_bound, &case.secrets[0]).is_ok());
    case.path[0].delay_ns = DELAY_MAX_NS + 1;
    let mut over = ours(&case, &mut rng);
    assert_eq!(unwrap_one(&mut over, &case.secrets[0]), Err(Reject::Delay));
}

#[test]
fn no_length_and_no_garbage_makes_a_panic() {
    let mut rng = rng(6);
    for length in (0..500).chain([1372, 4000]) {
        let mut packet = vec![0; length];
        rng.fill_bytes(&mut packet);
        assert!(unwrap_one(&mut packet, &[3; 32]).is_err(), "{length}");
        let _ = Surb::from_bytes(&packet);
        let _ = message(&packet);
    }
}

#[test]
fn what_does_not_fit_is_not_wrapped() {
    let mut rng = rng(7);
    let mut case = case(&mut rng, 259);
    let mut attempt = |case: &Case, message: usize, packet: usize| {
        let (version, message) = (version(case.version), vec![1; message]);
        let mut packet = vec![0; packet];
        let (path, destination) = (&case.path, &case.destination);
        wrap(
            Lanes::detect(),
            &mut rng,
            version,
            path,
            destination,
            &message,
            &mut packet,
        )
    };
    assert_eq!(attempt(&case, 1007, HEADER + 1024), Ok(()));
    assert_eq!(
        attempt(&case, 1008, HEADER + 1024),
        Err(WrapError::MessageTooLong)
    );
    assert_eq!(
        attempt(&case, 0, HEADER + 32),
        Err(WrapError::PacketTooShort)
    );
    case.path[0].public_key = [0; 32];
    assert_eq!(attempt(&case, 0, HEADER + 33), Err(WrapError::LowOrder(0)));
    case.path = vec![case.path[0]; 6];
    assert_eq!(attempt(&case, 0, HEADER + 33), Err(WrapError::PathTooLong));
    case.path.clear();
    assert_eq!(attempt(&case, 0, HEADER + 33), Err(WrapError::PathEmpty));
}
