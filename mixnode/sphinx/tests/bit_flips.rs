//! Every single-bit change of a packet, with the effect that `SPEC.md` states.

mod common;

use arrayvec::ArrayVec;
use common::{Network, body, engine, open_one, rng};
use sphinx::{
    BATCH_MAX, BODY_BYTES, Command, EpochSecret, HEADER_BYTES, Job, PACKET_BYTES, Reject, Terminal,
    Unwrapped, surb_create, surb_open, surb_use, wrap,
};
use std::ops::Range;

type Packet = [u8; PACKET_BYTES];
type Verdict = Result<Unwrapped, Reject>;

const HEADER_BITS: Range<usize> = 0..HEADER_BYTES * 8;
const BODY_BITS: Range<usize> = HEADER_BYTES * 8..PACKET_BYTES * 8;

/// All the packets that differ from this one in one bit of `bits`.
fn flipped(packet: &Packet, bits: Range<usize>) -> Vec<Packet> {
    bits.map(|bit| {
        let mut packet = *packet;
        packet[bit / 8] ^= 1 << (bit % 8);
        packet
    })
    .collect()
}

/// Opens them all at one hop, in full batches.
fn open_all(packets: &mut [Packet], secret: &EpochSecret) -> Vec<Verdict> {
    let mut engine = engine();
    let mut all = Vec::new();
    for chunk in packets.chunks_mut(BATCH_MAX) {
        let mut jobs: Vec<_> = chunk
            .iter_mut()
            .map(|packet| Job { packet, secret })
            .collect();
        let mut verdicts = ArrayVec::new();
        engine.unwrap_batch(&mut jobs, &mut |_, _| Ok(()), &mut verdicts);
        all.extend(verdicts);
    }
    all
}

/// Whether no 16-byte block of one body survived in the other.
fn wholly_garbled(one: &[u8], other: &[u8]) -> bool {
    one.chunks(16)
        .zip(other.chunks(16))
        .all(|(one, other)| one != other)
}

/// A packet of two hops and what each hop makes of it untouched.
fn two_hops(terminal: &Terminal, content: &[u8; BODY_BYTES]) -> (Network, Packet) {
    let network = Network::new(2, &mut rng(1));
    let mut packet = [0; PACKET_BYTES];
    wrap(&mut rng(2), &network.path, terminal, content, &mut packet).unwrap();
    (network, packet)
}

#[test]
fn every_flipped_header_bit_is_rejected_by_the_mac_at_the_hop_it_reaches() {
    let (network, mut packet) = two_hops(&Terminal::Drop, &[0; BODY_BYTES]);
    for secret in &network.secrets {
        let verdicts = open_all(&mut flipped(&packet, HEADER_BITS), secret);
        assert_eq!(verdicts.len(), HEADER_BITS.len());
        assert!(verdicts.iter().all(|verdict| *verdict == Err(Reject::Mac)));
        open_one(&mut packet, secret).unwrap();
    }
}

#[test]
fn every_flipped_body_bit_garbles_the_whole_body() {
    let (network, packet) = two_hops(&Terminal::Drop, &[0; BODY_BYTES]);
    let mut untouched = packet;
    open_one(&mut untouched, &network.secrets[0]).unwrap();
    let mut packets = flipped(&packet, BODY_BITS);
    open_all(&mut packets, &network.secrets[0]);
    for packet in &packets {
        assert_eq!(packet[..HEADER_BYTES], untouched[..HEADER_BYTES]);
        assert!(wholly_garbled(
            &packet[HEADER_BYTES..],
            &untouched[HEADER_BYTES..]
        ));
    }
}

#[test]
fn a_tagged_body_tells_no_gateway_anything() {
    let terminal = Terminal::Deliver {
        destination: [3; 16],
        id: [4; 8],
    };
    let content = body(5);
    let (network, packet) = two_hops(&terminal, &content);
    let mut untouched = packet;
    let forwarded = open_one(&mut untouched, &network.secrets[0]).unwrap();
    let second = untouched;
    let delivered = open_one(&mut untouched, &network.secrets[1]).unwrap();
    assert_eq!(
        delivered.command,
        Command::Deliver {
            destination: [3; 16],
            id: [4; 8]
        }
    );

    // Tagged before the first hop, whose verdict and whose outgoing header are those of the untouched packet.
    let mut packets = flipped(&packet, BODY_BITS);
    assert!(
        open_all(&mut packets, &network.secrets[0])
            .iter()
            .all(|verdict| *verdict == Ok(forwarded))
    );
    assert!(
        packets
            .iter()
            .all(|packet| packet[..HEADER_BYTES] == second[..HEADER_BYTES])
    );
    // The last gateway's too, and the client gets a body that is random to whoever lacks the keys.
    assert!(
        open_all(&mut packets, &network.secrets[1])
            .iter()
            .all(|verdict| *verdict == Ok(delivered))
    );
    assert!(
        packets
            .iter()
            .all(|packet| wholly_garbled(&packet[HEADER_BYTES..], &content))
    );
    let mean = ones(packets.iter().map(|packet| &packet[HEADER_BYTES..]));
    assert!((mean - 0.5).abs() < 0.001, "{mean}");
}

/// The share of bits that are one.
fn ones<'a>(bodies: impl Iterator<Item = &'a [u8]>) -> f64 {
    let (mut ones, mut bits) = (0u64, 0u64);
    for byte in bodies.flatten() {
        ones += u64::from(byte.count_ones());
        bits += 8;
    }
    ones as f64 / bits as f64
}

#[test]
#[ignore = "long arithmetic: the gate's heavy step runs it"]
fn a_loop_or_cover_whose_body_was_altered_in_any_bit_is_rejected_by_the_node_that_ends_it() {
    for terminal in [Terminal::Loop { id: [6; 8] }, Terminal::Drop] {
        let (network, packet) = two_hops(&terminal, &[0; BODY_BYTES]);
        let mut packets = flipped(&packet, BODY_BITS);
        assert!(
            open_all(&mut packets, &network.secrets[0])
                .iter()
                .all(Result::is_ok)
        );
        let verdicts = open_all(&mut packets, &network.secrets[1]);
        assert_eq!(verdicts.len(), BODY_BITS.len());
        assert!(verdicts.iter().all(|verdict| *verdict == Err(Reject::Body)));
    }
}

#[test]
#[ignore = "long arithmetic: the gate's heavy step runs it"]
fn a_reply_altered_in_any_bit_of_its_body_is_delivered_and_then_rejected_by_the_creator() {
    let network = Network::new(2, &mut rng(7));
    let (surb, secret) = surb_create(&mut rng(8), &network.path, 1, [1; 16], [2; 8]).unwrap();
    let mut packet = [0; PACKET_BYTES];
    surb_use(&surb, &[9; 880], &mut packet);
    let mut packets = flipped(&packet, BODY_BITS);
    for hop in &network.secrets {
        assert!(open_all(&mut packets, hop).iter().all(Result::is_ok));
    }
    for packet in packets {
        let mut body = packet[HEADER_BYTES..].try_into().unwrap();
        assert_eq!(surb_open(&secret, &mut body), Err(Reject::Body));
    }
}

#[test]
fn a_batch_gives_each_packet_the_verdict_it_gets_alone_in_the_order_of_the_jobs() {
    let networks: Vec<_> = (0..7)
        .map(|seed| Network::new(1 + seed as usize % 5, &mut rng(seed)))
        .collect();
    let packets: Vec<Packet> = (0..BATCH_MAX)
        .map(|index| {
            let terminal = Terminal::Deliver {
                destination: [index as u8; 16],
                id: [0; 8],
            };
            let mut packet = [0; PACKET_BYTES];
            wrap(
                &mut rng(index as u64),
                &networks[index % 7].path,
                &terminal,
                &body(0),
                &mut packet,
            )
            .unwrap();
            packet[(index * 31) % PACKET_BYTES] ^= u8::from(index % 3 == 0);
            packet
        })
        .collect();
    for length in [0, 1, 2, 7, 8, 9, 15, 16, 17, 63, 64] {
        let mut batch = packets.clone();
        let mut jobs: Vec<_> = batch
            .iter_mut()
            .take(length)
            .enumerate()
            .map(|(index, packet)| Job {
                packet,
                secret: &networks[index % 7].secrets[0],
            })
            .collect();
        let mut verdicts = ArrayVec::new();
        engine().unwrap_batch(&mut jobs, &mut |_, _| Ok(()), &mut verdicts);
        assert_eq!(verdicts.len(), length);
        for (index, verdict) in verdicts.iter().enumerate() {
            let mut alone = packets[index];
            assert_eq!(
                *verdict,
                open_one(&mut alone, &networks[index % 7].secrets[0])
            );
            assert!(verdict.is_err() || alone == batch[index]);
        }
    }
}

#[test]
fn jobs_beyond_the_batch_limit_get_no_verdict_and_keep_their_bytes() {
    let (network, packet) = two_hops(&Terminal::Drop, &[0; BODY_BYTES]);
    let mut packets = vec![packet; BATCH_MAX + 3];
    let mut jobs: Vec<_> = packets
        .iter_mut()
        .map(|packet| Job {
            packet,
            secret: &network.secrets[0],
        })
        .collect();
    let mut verdicts = ArrayVec::new();
    engine().unwrap_batch(&mut jobs, &mut |_, _| Ok(()), &mut verdicts);
    assert_eq!(verdicts.len(), BATCH_MAX);
    assert!(
        packets[BATCH_MAX..]
            .iter()
            .all(|untouched| *untouched == packet)
    );
}
