//! Bugs that Sphinx implementations have had, each shown to be absent. What belongs to the senders of many packets
//! or to the replay filter itself is tested where it lives; the look of headers is in `privacy.rs`.

mod common;

use arrayvec::ArrayVec;
use common::reference::{self, RawHop};
use common::script::Script;
use common::{DELAY_MAX_US, Network, body, engine, low_order_points, open_one, open_with, rng};
use sphinx::{
    BATCH_MAX, BODY_BYTES, Command, EpochSecret, Job, PACKET_BYTES, PathHop, Reject, Terminal,
    WrapError, surb_create, surb_use, wrap,
};

const DELIVER: Terminal = Terminal::Deliver {
    destination: [7; 16],
    id: [9; 8],
};

fn packet_for(network: &Network, seed: u64) -> [u8; PACKET_BYTES] {
    let mut packet = [0; PACKET_BYTES];
    wrap(
        &mut rng(seed),
        &network.path,
        &DELIVER,
        &body(seed),
        &mut packet,
    )
    .unwrap();
    packet
}

/// A packet of one hop whose block says what the caller wants, under a MAC that holds.
fn rogue(
    secret: &[u8; 32],
    front: [u8; 8],
    rest: [u8; 24],
    body: &[u8; BODY_BYTES],
) -> [u8; PACKET_BYTES] {
    let hop = RawHop {
        public_key: reference::base_multiple(secret),
        ephemeral: [3; 32],
        front,
    };
    reference::wrap(&[hop], &rest, &[0x5a; 224], body)
}

fn verdict(front: [u8; 8], rest: [u8; 24], body: &[u8; BODY_BYTES]) -> Result<Command, Reject> {
    let mut packet = rogue(&[8; 32], front, rest, body);
    open_one(&mut packet, &EpochSecret::from_bytes([8; 32])).map(|opened| opened.command)
}

#[test]
fn a_ciphertext_of_low_order_is_rejected_in_every_encoding_before_the_mac() {
    let network = Network::new(1, &mut rng(1));
    for point in low_order_points() {
        // The attacker knows that the shared secret would be zero, so it can make the MAC hold.
        let keys = reference::keys([0; 32], &point, network.secrets[0].public_key());
        let mut packet = packet_for(&network, 2);
        packet[..32].copy_from_slice(&point);
        let mac = reference::mac(&keys.mac_key, &point, &packet[48..304]);
        packet[32..48].copy_from_slice(&mac);
        assert_eq!(
            open_one(&mut packet, &network.secrets[0]),
            Err(Reject::LowOrder)
        );
    }
}

#[test]
fn a_low_order_ciphertext_spoils_no_other_packet_of_its_batch() {
    let network = Network::new(1, &mut rng(1));
    let points = low_order_points();
    let mut packets: Vec<_> = (0..BATCH_MAX as u64)
        .map(|seed| packet_for(&network, seed))
        .collect();
    for (packet, point) in packets.iter_mut().step_by(3).zip(points.iter().cycle()) {
        packet[..32].copy_from_slice(point);
    }
    let mut jobs: Vec<_> = packets
        .iter_mut()
        .map(|packet| Job {
            packet,
            secret: &network.secrets[0],
        })
        .collect();
    let mut verdicts = ArrayVec::new();
    engine().unwrap_batch(&mut jobs, &mut |_, _| Ok(()), &mut verdicts);
    for (index, verdict) in verdicts.iter().enumerate() {
        if index % 3 == 0 {
            assert_eq!(*verdict, Err(Reject::LowOrder));
        } else {
            assert!(verdict.is_ok());
        }
    }
}

#[test]
fn a_sender_refuses_a_hop_whose_public_key_has_low_order() {
    for point in low_order_points() {
        let mut network = Network::new(3, &mut rng(4));
        network.path[1].public_key = point;
        let result = wrap(
            &mut rng(5),
            &network.path,
            &DELIVER,
            &body(5),
            &mut [0; PACKET_BYTES],
        );
        assert_eq!(result, Err(WrapError::LowOrder(1)));
        assert!(surb_create(&mut rng(5), &network.path, 0, [0; 16], [0; 8]).is_err());
    }
}

#[test]
fn scalars_are_clamped_on_both_sides() {
    // Bits 0, 1, 2 and 255 are cleared and bit 254 is set in use, so these two are the same secret.
    let secret = [0x48; 32];
    let mut unclamped = secret;
    unclamped[0] |= 0x07;
    unclamped[31] = (unclamped[31] | 0x80) & !0x40;
    let node = EpochSecret::from_bytes(secret);
    assert_eq!(
        node.public_key(),
        EpochSecret::from_bytes(unclamped).public_key()
    );

    let path = [PathHop {
        public_key: *node.public_key(),
        node: 0,
        delay_us: 0,
    }];
    let wrap_with = |ephemeral: [u8; 32]| {
        let mut packet = [0; PACKET_BYTES];
        let mut script = Script::new([&ephemeral[..], &[0x33; 224]].concat());
        wrap(&mut script, &path, &DELIVER, &body(6), &mut packet).unwrap();
        packet
    };
    assert_eq!(wrap_with(secret), wrap_with(unclamped));
    let mut packet = wrap_with(unclamped);
    assert!(open_one(&mut packet, &EpochSecret::from_bytes(unclamped)).is_ok());
}

#[test]
fn a_second_encoding_of_the_same_ciphertext_does_not_open() {
    // X25519 ignores the top bit, so the shared secret is the same; the ciphertext as received is in the keys.
    let network = Network::new(1, &mut rng(7));
    let mut packet = packet_for(&network, 8);
    packet[31] ^= 0x80;
    assert_eq!(open_one(&mut packet, &network.secrets[0]), Err(Reject::Mac));
}

#[test]
fn the_replay_tag_does_not_depend_on_the_body_so_a_flipped_bit_does_not_evade_the_filter() {
    let network = Network::new(3, &mut rng(9));
    let original = packet_for(&network, 10);
    let tag_of = |mut packet: [u8; PACKET_BYTES]| {
        let mut seen = None;
        open_with(&mut packet, &network.secrets[0], &mut |tag| {
            seen = Some(*tag);
            Err(Reject::Replay)
        })
        .unwrap_err();
        seen
    };
    let first = tag_of(original).unwrap();
    for bit in (304 * 8..PACKET_BYTES * 8).step_by(61) {
        let mut tagged = original;
        tagged[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(tag_of(tagged), Some(first));
    }
    // With the header it is the MAC that stops the evasion: the filter is not even asked.
    for bit in (0..304 * 8).step_by(17) {
        let mut tagged = original;
        tagged[bit / 8] ^= 1 << (bit % 8);
        let verdict = open_with(&mut tagged, &network.secrets[0], &mut |_| {
            panic!("asked about a forged header")
        });
        assert_eq!(verdict, Err(Reject::Mac));
    }
}

#[test]
fn the_replay_tags_of_a_packet_at_its_hops_are_unrelated_and_secret() {
    let network = Network::new(5, &mut rng(11));
    let mut packet = packet_for(&network, 12);
    let mut tags = Vec::new();
    for (secret, bytes) in network.secrets.iter().zip(&network.bytes) {
        let (keys, _) = reference::view(bytes, &packet);
        open_with(&mut packet, secret, &mut |tag| {
            assert_eq!(*tag, keys.replay_tag);
            tags.push(*tag);
            Ok(())
        })
        .unwrap();
    }
    tags.sort_unstable();
    tags.dedup();
    assert_eq!(tags.len(), 5);
}

#[test]
fn a_packet_that_occurs_twice_in_one_batch_is_opened_once() {
    let network = Network::new(2, &mut rng(13));
    let packet = packet_for(&network, 14);
    let (mut first, mut second) = (packet, packet);
    let mut jobs = [&mut first, &mut second].map(|packet| Job {
        packet,
        secret: &network.secrets[0],
    });
    let mut seen = Vec::new();
    let mut verdicts = ArrayVec::new();
    engine().unwrap_batch(
        &mut jobs,
        &mut |index, tag| {
            assert_eq!(index, seen.len());
            let known = seen.contains(tag);
            seen.push(*tag);
            if known { Err(Reject::Replay) } else { Ok(()) }
        },
        &mut verdicts,
    );
    assert!(verdicts[0].is_ok());
    assert_eq!(verdicts[1], Err(Reject::Replay));
}

#[test]
fn a_full_replay_filter_refuses_the_packet_instead_of_letting_it_pass() {
    let network = Network::new(2, &mut rng(15));
    let mut packet = packet_for(&network, 16);
    let verdict = open_with(&mut packet, &network.secrets[0], &mut |_| {
        Err(Reject::ReplayFull)
    });
    assert_eq!(verdict, Err(Reject::ReplayFull));
}

#[test]
fn a_packet_opens_from_its_bytes_and_the_secret_alone_without_a_nonce_the_receiver_would_have_to_know()
 {
    let network = Network::new(5, &mut rng(17));
    let mut packet = packet_for(&network, 18);
    for (index, bytes) in network.bytes.iter().enumerate() {
        // A fresh engine and a secret restored from its bytes: no state is carried over.
        let restored = EpochSecret::from_bytes(*bytes);
        assert!(open_one(&mut packet, &restored).is_ok(), "hop {index}");
    }
    assert_eq!(packet[304..], body(18));
}

#[test]
fn a_delay_over_the_bound_is_rejected_and_the_bound_itself_is_not() {
    for (delay_us, expected) in [
        (DELAY_MAX_US, Ok(Command::Drop)),
        (DELAY_MAX_US + 1, Err(Reject::Delay)),
        (u32::MAX, Err(Reject::Delay)),
    ] {
        assert_eq!(
            verdict(
                reference::front(4, 0, delay_us, 0),
                [0; 24],
                &[0; BODY_BYTES]
            ),
            expected
        );
    }
    // The bound holds for forwarding hops too.
    let mut network = Network::new(2, &mut rng(19));
    network.path[0].delay_us = DELAY_MAX_US + 1;
    let mut packet = packet_for(&network, 20);
    assert_eq!(
        open_one(&mut packet, &network.secrets[0]),
        Err(Reject::Delay)
    );
}

#[test]
fn command_zero_and_unknown_commands_are_rejected() {
    for command in std::iter::once(0).chain(5..=255) {
        assert_eq!(
            verdict(
                reference::front(command, 0, 0, 0),
                [0; 24],
                &[0; BODY_BYTES]
            ),
            Err(Reject::Command)
        );
    }
}

#[test]
fn every_reserved_bit_must_be_zero() {
    for command in 1..=4 {
        for bit in 0..8 {
            let front = reference::front(command, 1 << bit, 0, 0);
            assert_eq!(
                verdict(front, [0; 24], &[0; BODY_BYTES]),
                Err(Reject::Reserved)
            );
        }
    }
    // The two bytes where a forwarding block names the next hop.
    for command in 2..=4 {
        for bit in 0..16 {
            let front = reference::front(command, 0, 0, 1 << bit);
            assert_eq!(
                verdict(front, [0; 24], &[0; BODY_BYTES]),
                Err(Reject::Reserved)
            );
        }
    }
    // A loop names no destination, cover neither that nor an id.
    for (command, unused) in [(3, 128), (4, 192)] {
        for bit in 0..unused {
            let mut rest = [0; 24];
            rest[bit / 8] = 1 << (bit % 8);
            assert_eq!(
                verdict(reference::front(command, 0, 0, 0), rest, &[0; BODY_BYTES]),
                Err(Reject::Reserved)
            );
        }
    }
}

#[test]
fn a_reply_block_gives_the_replier_one_key_and_none_that_a_hop_has() {
    let network = Network::new(5, &mut rng(21));
    let ephemerals: Vec<[u8; 32]> = (0..5).map(|index| [0x40 + index; 32]).collect();
    let mut script = Script::new([&ephemerals.concat()[..], &[0xa5; 16]].concat());
    let (surb, _) = surb_create(&mut script, &network.path, 1, [1; 16], [2; 8]).unwrap();
    let bytes = surb.as_bytes();
    assert_eq!(bytes[310..], [0xa5; 16]);
    let raw: Vec<_> = network
        .path
        .iter()
        .zip(&ephemerals)
        .map(|(hop, ephemeral)| RawHop {
            public_key: hop.public_key,
            ephemeral: *ephemeral,
            front: [0; 8],
        })
        .collect();
    let contains = |needle: &[u8]| bytes.windows(needle.len()).any(|window| window == needle);
    for (_, keys) in reference::path_keys(&raw) {
        for secret in [
            &keys.mac_key[..],
            &keys.stream_key,
            &keys.body_key,
            &keys.replay_tag,
            &keys.shared_secret,
        ] {
            assert!(!contains(secret));
        }
    }
    // So the replier recognises its reply on the first link only, where it put it.
    let mut packet = [0; PACKET_BYTES];
    surb_use(&surb, &[0; 880], &mut packet);
    for (index, secret) in network.secrets.iter().enumerate() {
        let readable = reference::decrypt_body(&[0xa5; 16], &packet[304..]) == [0; BODY_BYTES];
        assert_eq!(readable, index == 0);
        open_one(&mut packet, secret).unwrap();
    }
}

#[test]
fn paths_of_no_hop_and_of_six_are_refused() {
    let network = Network::new(6, &mut rng(22));
    for (path, error) in [
        (&network.path[..0], WrapError::PathEmpty),
        (&network.path[..], WrapError::PathTooLong),
    ] {
        assert_eq!(
            wrap(
                &mut rng(1),
                path,
                &DELIVER,
                &body(1),
                &mut [0; PACKET_BYTES]
            ),
            Err(error)
        );
        assert_eq!(
            surb_create(&mut rng(1), path, 0, [0; 16], [0; 8]).err(),
            Some(error)
        );
    }
}

#[test]
fn a_packet_for_another_node_or_another_epoch_fails_the_mac() {
    let network = Network::new(2, &mut rng(23));
    let mut packet = packet_for(&network, 24);
    assert_eq!(
        open_one(&mut packet, &EpochSecret::generate(&mut rng(25))),
        Err(Reject::Mac)
    );
}
