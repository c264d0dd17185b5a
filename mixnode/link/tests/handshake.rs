//! The handshake between two ends, and everything that must not pass for one.

mod common;

use common::*;
use link::*;
use proptest::prelude::*;

/// The range of the second mac, which nobody reads while the responder is not under load.
const MAC2: std::ops::Range<usize> = DATAGRAM_BYTES - 16..DATAGRAM_BYTES;

#[test]
fn a_handshake_gives_both_ends_the_same_session() {
    let mut ends = Ends::new(20);
    let (mut initiator, initiation) = ends.start(None);
    assert_eq!(
        peek(&initiation),
        Ok(Datagram::Initiation {
            sender_index: 0x0102_0304
        })
    );
    let (reply, mut b) = accepted(ends.respond(&initiation, &arrival()));
    let header = Datagram::Response {
        sender_index: 0x0506_0708,
        receiver_index: 0x0102_0304,
    };
    assert_eq!(peek(&reply), Ok(header));
    let mut a = initiator.finish(&reply, NOW_NS).unwrap();
    assert_eq!((a.local_index, a.remote_index), (0x0102_0304, 0x0506_0708));
    assert_eq!(
        (b.local_index, b.remote_index),
        (a.remote_index, a.local_index)
    );
    assert_eq!(
        (&b.peer, &a.peer),
        (ends.client.public_key(), &ends.responder.public().x25519)
    );
    assert!(open(&b.receive, &mut seal(&mut a.send, Kind::Sphinx, 0, 1)).is_ok());
    assert!(open(&a.receive, &mut seal(&mut b.send, Kind::Sphinx, 0, 1)).is_ok());
}

#[test]
fn a_node_with_a_kem_key_initiates_like_a_client() {
    let mut rng = rng(21);
    let keys = LinkKeys::generate(&mut rng);
    let mut responder = Responder::new(LinkKeys::generate(&mut rng));
    let remote = responder.public().clone();
    let (_, initiation) = Initiator::start(&keys, &remote, 1, UNIX_MS, None, &mut rng).unwrap();
    let (_, session) = accepted(responder.respond(&initiation, &arrival(), 2, &mut rng));
    assert_eq!(session.peer, keys.public().x25519);
}

#[test]
fn the_same_seed_gives_the_same_datagrams() {
    let run = || {
        let mut ends = Ends::new(22);
        let (_, initiation) = ends.start(None);
        (
            initiation,
            accepted(ends.respond(&initiation, &arrival())).0,
        )
    };
    assert_eq!(run(), run());
}

#[test]
fn every_single_bit_flip_of_an_initiation_is_refused_or_in_the_unread_second_mac() {
    let mut ends = Ends::new(23);
    let (_, initiation) = ends.start(None);
    for bit in 0..DATAGRAM_BYTES * 8 {
        let mut altered = initiation;
        altered[bit / 8] ^= 1 << (bit % 8);
        if MAC2.contains(&(bit / 8)) {
            continue;
        }
        assert!(ends.respond(&altered, &arrival()).is_err(), "bit {bit}");
    }
    // None of them used up the timestamp, and the second mac is nobody's business now.
    let mut altered = initiation;
    altered[MAC2.start] ^= 1;
    accepted(ends.respond(&altered, &arrival()));
}

#[test]
fn an_initiation_altered_by_who_can_make_its_first_mac_is_refused() {
    // The first mac's key is public; what is behind it must hold without it.
    let mut ends = Ends::new(24);
    let (_, initiation) = ends.start(None);
    let recipient = ends.responder.public().x25519;
    for byte in 1..DATAGRAM_BYTES - 32 {
        let mut altered = initiation;
        altered[byte] ^= 0x10;
        remac(&mut altered, &recipient);
        let error = ends.respond(&altered, &arrival()).err();
        let expected = match byte {
            1..4 => HandshakeError::Malformed(Malformed::Reserved),
            _ => HandshakeError::Forged,
        };
        assert_eq!(error, Some(expected), "byte {byte}");
    }
}

#[test]
fn every_single_bit_flip_of_a_response_is_refused_and_the_true_one_still_finishes() {
    let mut ends = Ends::new(25);
    let (mut initiator, initiation) = ends.start(None);
    let (reply, _) = accepted(ends.respond(&initiation, &arrival()));
    for bit in 0..DATAGRAM_BYTES * 8 {
        let mut altered = reply;
        altered[bit / 8] ^= 1 << (bit % 8);
        assert!(initiator.finish(&altered, NOW_NS).is_err(), "bit {bit}");
    }
    for byte in 0..DATAGRAM_BYTES - 32 {
        let mut altered = reply;
        altered[byte] ^= 0x10;
        remac(&mut altered, ends.client.public_key());
        assert!(
            initiator.finish(&altered, NOW_NS).is_err(),
            "byte {byte} under a correct first mac"
        );
    }
    assert!(initiator.finish(&reply, NOW_NS).is_ok());
    assert!(
        initiator.finish(&reply, NOW_NS).is_err(),
        "a second time there is nothing to finish"
    );
}

#[test]
fn a_replayed_initiation_is_refused() {
    let mut ends = Ends::new(26);
    let (_, first) = ends.start(None);
    let (_, second) = ends.start(None);
    accepted(ends.respond(&first, &arrival()));
    assert_eq!(
        ends.respond(&first, &arrival()).err(),
        Some(HandshakeError::Replayed)
    );
    accepted(ends.respond(&second, &arrival()));
    for replayed in [first, second] {
        assert_eq!(
            ends.respond(&replayed, &arrival()).err(),
            Some(HandshakeError::Replayed)
        );
    }
}

#[test]
fn an_overtaken_initiation_is_refused() {
    let mut ends = Ends::new(27);
    let (_, first) = ends.start(None);
    let (_, second) = ends.start(None);
    accepted(ends.respond(&second, &arrival()));
    assert_eq!(
        ends.respond(&first, &arrival()).err(),
        Some(HandshakeError::Replayed)
    );
}

#[test]
fn a_recorded_initiation_opens_nothing_at_a_responder_that_forgot_everything() {
    let mut ends = Ends::new(28);
    let (_, recorded) = ends.start(None);
    for (unix_ms, expected) in [
        (
            UNIX_MS + CLOCK_TOLERANCE_MS + 2,
            Some(HandshakeError::Clock),
        ),
        (
            UNIX_MS - CLOCK_TOLERANCE_MS - 1,
            Some(HandshakeError::Clock),
        ),
        (UNIX_MS + CLOCK_TOLERANCE_MS, None),
    ] {
        assert_eq!(
            ends.respond(
                &recorded,
                &Arrival {
                    unix_ms,
                    ..arrival()
                }
            )
            .err(),
            expected
        );
    }
}

#[test]
fn a_full_table_of_peers_refuses_new_ones_and_serves_those_it_knows_until_others_expire() {
    let mut rng = rng(29);
    let mut responder = Responder::with_peers_max(LinkKeys::generate(&mut rng), 2);
    let remote = responder.public().clone();
    let peers: Vec<_> = (0..3).map(|_| ClientKeys::generate(&mut rng)).collect();
    let mut attempt = |peer: usize, unix_ms: u64| {
        let (_, initiation) =
            Initiator::start(&peers[peer], &remote, 1, unix_ms, None, &mut rng).unwrap();
        responder
            .respond(
                &initiation,
                &Arrival {
                    unix_ms,
                    ..arrival()
                },
                2,
                &mut rng,
            )
            .err()
    };
    assert_eq!((attempt(0, UNIX_MS), attempt(1, UNIX_MS + 1)), (None, None));
    assert_eq!(attempt(2, UNIX_MS + 2), Some(HandshakeError::PeersFull));
    assert_eq!(attempt(0, UNIX_MS + 3), None);
    let later = UNIX_MS + 1 + CLOCK_TOLERANCE_MS;
    assert_eq!(attempt(2, later), Some(HandshakeError::PeersFull));
    assert_eq!(attempt(2, later + 1), None);
}

#[test]
fn the_timestamp_source_increases_while_the_clock_stands_or_steps_back() {
    let mut source = TimestampSource::default();
    assert_eq!(
        [5, 5, 3, 9].map(|unix_ms| source.next(unix_ms)),
        [5, 6, 7, 9]
    );
}

#[test]
fn a_wrong_static_key_of_the_responder_is_refused() {
    let mut ends = Ends::new(30);
    let other = LinkKeys::generate(&mut ends.rng).public();
    let right = ends.responder.public().clone();
    let attempt = |ends: &mut Ends, remote: &LinkPublic, remac_for: Option<[u8; 32]>| {
        let timestamp = ends.clock.next(UNIX_MS);
        let (initiator, mut initiation) =
            Initiator::start(&ends.client, remote, 1, timestamp, None, &mut ends.rng).unwrap();
        if let Some(recipient) = remac_for {
            remac(&mut initiation, &recipient);
        }
        (initiator, ends.respond(&initiation, &arrival()))
    };
    assert_eq!(
        attempt(&mut ends, &other, None).1.err(),
        Some(HandshakeError::Mac)
    );
    assert_eq!(
        attempt(&mut ends, &other, Some(right.x25519)).1.err(),
        Some(HandshakeError::Forged)
    );
    // Another ML-KEM key alone: the psk differs, so the response does not open.
    let mixed = LinkPublic {
        kem: other.kem,
        ..right
    };
    let (mut initiator, response) = attempt(&mut ends, &mixed, None);
    let (reply, _) = accepted(response);
    assert_eq!(
        initiator.finish(&reply, NOW_NS).err(),
        Some(HandshakeError::Forged)
    );
}

#[test]
fn a_response_of_another_handshake_is_refused() {
    let mut ends = Ends::new(31);
    let (mut first, _) = ends.start(None);
    let (_, second) = ends.start(None);
    let (reply, _) = accepted(ends.respond(&second, &arrival()));
    assert_eq!(
        first.finish(&reply, NOW_NS).err(),
        Some(HandshakeError::Forged)
    );
    let mut elsewhere = reply;
    elsewhere[8] ^= 1;
    remac(&mut elsewhere, ends.client.public_key());
    assert_eq!(
        first.finish(&elsewhere, NOW_NS).err(),
        Some(HandshakeError::Index)
    );
}

#[test]
fn low_order_points_are_refused_in_every_place() {
    let mut ends = Ends::new(32);
    let recipient = ends.responder.public().clone();
    let (mut initiator, initiation) = ends.start(None);
    let (reply, _) = accepted(ends.respond(&initiation, &arrival()));
    for point in low_order_points() {
        // The ephemeral of the first message, and of the second.
        let mut altered = initiation;
        altered[8..40].copy_from_slice(&point);
        remac(&mut altered, &recipient.x25519);
        assert_eq!(
            ends.respond(&altered, &arrival()).err(),
            Some(HandshakeError::LowOrder)
        );
        let mut altered = reply;
        altered[12..44].copy_from_slice(&point);
        remac(&mut altered, ends.client.public_key());
        assert_eq!(
            initiator.finish(&altered, NOW_NS).err(),
            Some(HandshakeError::LowOrder)
        );
        // The static key that the initiator was told.
        let remote = LinkPublic {
            x25519: point,
            ..recipient.clone()
        };
        let started = Initiator::start(&ends.client, &remote, 1, UNIX_MS, None, &mut ends.rng);
        assert_eq!(started.err(), Some(HandshakeError::LowOrder));
    }
    assert!(initiator.finish(&reply, NOW_NS).is_ok());
}

#[test]
fn an_invalid_encapsulation_key_is_refused() {
    let mut ends = Ends::new(33);
    let mut remote = ends.responder.public().clone();
    // A coefficient above q = 3329: fails the modulus check of FIPS 203, section 7.2.
    remote.kem[..3].fill(0xff);
    let started = Initiator::start(&ends.client, &remote, 1, UNIX_MS, None, &mut ends.rng);
    assert_eq!(started.err(), Some(HandshakeError::KemKey));
}

#[test]
fn under_load_an_initiation_passes_only_with_the_cookie_of_its_source() {
    let mut ends = Ends::new(34);
    let (mut without, initiation) = ends.start(None);
    let reply = cookie_reply(ends.respond(&initiation, &loaded()));
    assert_eq!(
        peek(&reply),
        Ok(Datagram::CookieReply {
            receiver_index: 0x0102_0304
        })
    );
    assert_eq!(
        without.finish(&reply, NOW_NS).err(),
        Some(HandshakeError::Unexpected)
    );
    let cookie = without.read_cookie(&reply).unwrap();

    let (mut initiator, initiation) = ends.start(Some(&cookie));
    let mut moved = loaded();
    moved.source.set_port(9001);
    cookie_reply(ends.respond(&initiation, &moved));
    moved.source = "127.1.0.8:9000".parse().unwrap();
    cookie_reply(ends.respond(&initiation, &moved));
    moved.source = "[::1]:9000".parse().unwrap();
    cookie_reply(ends.respond(&initiation, &moved));
    for bit in 0..16 * 8 {
        let mut altered = initiation;
        altered[MAC2.start + bit / 8] ^= 1 << (bit % 8);
        cookie_reply(ends.respond(&altered, &loaded()));
    }
    let (response, _) = accepted(ends.respond(&initiation, &loaded()));
    assert!(initiator.finish(&response, NOW_NS).is_ok());
}

#[test]
fn a_cookie_ends_with_its_lifetime_or_when_the_clock_steps_back() {
    let mut ends = Ends::new(35);
    let (initiator, initiation) = ends.start(None);
    let reply = cookie_reply(ends.respond(&initiation, &loaded()));
    let cookie = initiator.read_cookie(&reply).unwrap();
    let (_, initiation) = ends.start(Some(&cookie));
    let at = |unix_ms| Arrival {
        unix_ms,
        ..loaded()
    };
    accepted(ends.respond(&initiation, &at(UNIX_MS + COOKIE_LIFETIME_MS - 1)));
    cookie_reply(ends.respond(&initiation, &at(UNIX_MS + COOKIE_LIFETIME_MS)));
    cookie_reply(ends.respond(&initiation, &at(UNIX_MS)));
}

#[test]
fn every_single_bit_flip_of_a_cookie_reply_is_refused() {
    let mut ends = Ends::new(36);
    let (initiator, initiation) = ends.start(None);
    let (another, _) = ends.start(None);
    let reply = cookie_reply(ends.respond(&initiation, &loaded()));
    for bit in 0..DATAGRAM_BYTES * 8 {
        let mut altered = reply;
        altered[bit / 8] ^= 1 << (bit % 8);
        assert!(initiator.read_cookie(&altered).is_err(), "bit {bit}");
    }
    let error = another.read_cookie(&reply).err();
    assert_eq!(
        error,
        Some(HandshakeError::Forged),
        "it answers one initiation only"
    );
    assert!(initiator.read_cookie(&reply).is_ok());
}

#[test]
fn a_refused_initiation_gets_no_answer_also_under_load() {
    let mut ends = Ends::new(37);
    let (_, mut initiation) = ends.start(None);
    initiation[600] ^= 1;
    assert_eq!(
        ends.respond(&initiation, &loaded()).err(),
        Some(HandshakeError::Mac)
    );
    let mut data = [0; DATAGRAM_BYTES];
    data[0] = 4;
    assert_eq!(
        ends.respond(&data, &loaded()).err(),
        Some(HandshakeError::Unexpected)
    );
}

#[test]
fn datagrams_of_another_size_or_type_or_with_reserved_bytes_are_malformed() {
    for length in (0..DATAGRAM_BYTES).chain([DATAGRAM_BYTES + 1, 1500, 65_507]) {
        assert_eq!(
            peek(&vec![4; length]),
            Err(Malformed::Size),
            "{length} bytes"
        );
    }
    for byte in (0..=255_u8).filter(|byte| !(1..=4).contains(byte)) {
        let mut datagram = [0; DATAGRAM_BYTES];
        datagram[0] = byte;
        assert_eq!(peek(&datagram), Err(Malformed::Type), "type {byte}");
    }
    for (kind, reserved) in (1..4).flat_map(|kind| (1..4).map(move |reserved| (kind, reserved))) {
        let mut datagram = [0; DATAGRAM_BYTES];
        datagram[0] = kind;
        datagram[reserved] = 0x80;
        assert_eq!(
            peek(&datagram),
            Err(Malformed::Reserved),
            "type {kind}, byte {reserved}"
        );
    }
}

#[test]
fn stored_keys_come_back_as_they_were() {
    let mut rng = rng(38);
    let keys = LinkKeys::generate(&mut rng);
    assert_eq!(
        LinkKeys::from_bytes(&keys.to_bytes()).public(),
        keys.public()
    );
    let client = ClientKeys::generate(&mut rng);
    assert_eq!(
        ClientKeys::from_bytes(&client.to_bytes()).public_key(),
        client.public_key()
    );
    assert_ne!(
        destination_tag(client.public_key()),
        destination_tag(&keys.public().x25519)
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_datagram_makes_a_handshake_panic(
        body in proptest::collection::vec(any::<u8>(), DATAGRAM_BYTES),
        kind in 0_u8..6,
        spliced in 0..DATAGRAM_BYTES - 48,
        under_load: bool,
    ) {
        let mut ends = Ends::new(39);
        let (mut initiator, initiation) = ends.start(None);
        let (reply, _) = accepted(ends.respond(&initiation, &arrival()));
        for genuine in [initiation, reply] {
            let mut datagram: Packet = body.clone().try_into().unwrap();
            datagram[..spliced].copy_from_slice(&genuine[..spliced]);
            if spliced == 0 { datagram[0] = kind }
            // With correct first macs too, so that more than the mac is reached.
            for recipient in [None, Some(ends.responder.public().x25519), Some(*ends.client.public_key())] {
                if let Some(recipient) = recipient { remac(&mut datagram, &recipient) }
                let response = ends.respond(&datagram, &Arrival { under_load, ..arrival() });
                let accepted = matches!(response, Ok(Response::Accepted { .. }));
                prop_assert!(!accepted);
                prop_assert!(initiator.finish(&datagram, NOW_NS).is_err());
                prop_assert!(initiator.read_cookie(&datagram).is_err());
            }
        }
    }
}
