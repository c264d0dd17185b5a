//! The handshake between two ends, and everything that must not pass for one.

mod common;

use common::*;
use link::*;
use proptest::prelude::*;

/// The range of the second mac.
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
    let (reply, mut b) = accepted(ends.answer(&initiation));
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
    let responder = Responder::new(LinkKeys::generate(&mut rng));
    let remote = responder.public().clone();
    let (_, initiation) = Initiator::start(&keys, &remote, 1, None, &mut rng).unwrap();
    let (_, session) = accepted(responder.answer(&initiation, &arrival(), 2, |_| true, &mut rng));
    assert_eq!(session.peer, keys.public().x25519);
}

#[test]
fn the_same_seed_gives_the_same_datagrams() {
    let run = || {
        let mut ends = Ends::new(22);
        let (_, initiation) = ends.start(None);
        (
            initiation,
            cookie_reply(ends.respond(&initiation, &arrival())),
            accepted(ends.answer(&initiation)).0,
        )
    };
    assert_eq!(run(), run());
}

#[test]
fn every_single_bit_flip_of_an_initiation_is_refused_or_costs_it_its_cookie() {
    let mut ends = Ends::new(23);
    let cookie = ends.cookie();
    let (_, initiation) = ends.start(Some(&cookie));
    for bit in 0..DATAGRAM_BYTES * 8 {
        let mut altered = initiation;
        altered[bit / 8] ^= 1 << (bit % 8);
        if MAC2.contains(&(bit / 8)) {
            cookie_reply(ends.respond(&altered, &arrival()));
        } else {
            assert!(ends.respond(&altered, &arrival()).is_err(), "bit {bit}");
        }
    }
    accepted(ends.respond(&initiation, &arrival()));
}

#[test]
fn an_initiation_altered_by_who_can_make_its_macs_is_refused() {
    // The first mac's key is public, a cookie is had for the asking; what is behind them must hold without them.
    let mut ends = Ends::new(24);
    let (_, initiation) = ends.start(None);
    let recipient = ends.responder.public().x25519;
    for byte in 1..DATAGRAM_BYTES - 32 {
        let mut altered = initiation;
        altered[byte] ^= 0x10;
        remac(&mut altered, &recipient);
        let error = ends.answer(&altered).err();
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
    let (reply, _) = accepted(ends.answer(&initiation));
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
fn nothing_is_computed_for_an_initiation_without_a_cookie_and_everyone_gets_one() {
    let mut ends = Ends::new(26);
    // The ML-KEM ciphertext is not this handshake's: who looked behind the macs would refuse it.
    let (_, mut initiation) = ends.start(None);
    initiation[600] ^= 1;
    remac(&mut initiation, &ends.responder.public().x25519);
    assert_eq!(ends.answer(&initiation).err(), Some(HandshakeError::Forged));
    for _ in 0..3 {
        cookie_reply(ends.respond(&initiation, &arrival()));
    }
}

#[test]
fn a_recorded_initiation_opens_nothing_from_elsewhere_or_once_its_cookie_has_ended() {
    let mut ends = Ends::new(27);
    let cookie = ends.cookie();
    let (_, recorded) = ends.start(Some(&cookie));
    accepted(ends.respond(&recorded, &arrival()));
    let elsewhere = Arrival {
        source: "127.1.0.8:9000".parse().unwrap(),
        ..arrival()
    };
    cookie_reply(ends.respond(&recorded, &elsewhere));
    let later = Arrival {
        now_ns: NOW_NS + 2 * COOKIE_LIFETIME_NS,
        ..arrival()
    };
    cookie_reply(ends.respond(&recorded, &later));
}

#[test]
fn a_replay_within_the_cookies_life_gives_a_session_that_nobody_can_speak_on() {
    let mut ends = Ends::new(28);
    let cookie = ends.cookie();
    let (mut initiator, recorded) = ends.start(Some(&cookie));
    let (reply, first) = accepted(ends.respond(&recorded, &arrival()));
    let (other, second) = accepted(ends.respond(&recorded, &arrival()));
    let mut session = initiator.finish(&reply, NOW_NS).unwrap();
    assert!(
        initiator.finish(&other, NOW_NS).is_err(),
        "it is over for its initiator"
    );
    let frame = seal(&mut session.send, Kind::Cover, 0, 0);
    assert!(open(&first.receive, &mut frame.clone()).is_ok());
    assert_eq!(
        open(&second.receive, &mut frame.clone()),
        Err(OpenError::Forged)
    );
}

#[test]
fn who_is_not_welcome_is_refused_before_the_decapsulation() {
    let mut ends = Ends::new(29);
    let (_, mut initiation) = ends.start(None);
    let client = *ends.client.public_key();
    let mut asked = Vec::new();
    let mut refuse = |initiation: &Packet| {
        let welcome = |peer: &[u8; 32]| {
            asked.push(*peer);
            false
        };
        let answered = ends
            .responder
            .answer(initiation, &arrival(), 1, welcome, &mut ends.rng);
        answered.err()
    };
    assert_eq!(refuse(&initiation), Some(HandshakeError::Unwelcome));
    // Nobody is asked about before the message is authentic.
    initiation[600] ^= 1;
    assert_eq!(refuse(&initiation), Some(HandshakeError::Forged));
    assert_eq!(asked, [client]);
}

#[test]
fn a_wrong_static_key_of_the_responder_is_refused() {
    let mut ends = Ends::new(30);
    let other = LinkKeys::generate(&mut ends.rng).public();
    let right = ends.responder.public().clone();
    let attempt = |ends: &mut Ends, remote: &LinkPublic| {
        let (initiator, initiation) =
            Initiator::start(&ends.client, remote, 1, None, &mut ends.rng).unwrap();
        let screened = ends
            .responder
            .screen(&initiation, &arrival(), &mut ends.rng);
        (initiator, screened.err(), ends.answer(&initiation))
    };
    let (_, screened, answered) = attempt(&mut ends, &other);
    assert_eq!(
        (screened, answered.err()),
        (Some(HandshakeError::Mac), Some(HandshakeError::Forged))
    );
    // Another ML-KEM key alone: the psk differs, so the response does not open.
    let mixed = LinkPublic {
        kem: other.kem,
        ..right
    };
    let (mut initiator, screened, response) = attempt(&mut ends, &mixed);
    assert_eq!(screened, None);
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
    let (reply, _) = accepted(ends.answer(&second));
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
    let (reply, _) = accepted(ends.answer(&initiation));
    for point in low_order_points() {
        // The ephemeral of the first message, and of the second.
        let mut altered = initiation;
        altered[8..40].copy_from_slice(&point);
        remac(&mut altered, &recipient.x25519);
        assert_eq!(ends.answer(&altered).err(), Some(HandshakeError::LowOrder));
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
        let started = Initiator::start(&ends.client, &remote, 1, None, &mut ends.rng);
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
    let started = Initiator::start(&ends.client, &remote, 1, None, &mut ends.rng);
    assert_eq!(started.err(), Some(HandshakeError::KemKey));
}

#[test]
fn an_initiation_passes_only_with_the_cookie_of_its_source() {
    let mut ends = Ends::new(34);
    let (mut without, initiation) = ends.start(None);
    let reply = cookie_reply(ends.respond(&initiation, &arrival()));
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
    let mut moved = arrival();
    for source in ["127.1.0.7:9001", "127.1.0.8:9000", "[::1]:9000"] {
        moved.source = source.parse().unwrap();
        cookie_reply(ends.respond(&initiation, &moved));
    }
    let (response, _) = accepted(ends.respond(&initiation, &arrival()));
    assert!(initiator.finish(&response, NOW_NS).is_ok());
}

#[test]
fn attack_a_forged_cookie_that_comes_first_takes_no_answer_from_the_initiation_before_it() {
    let mut ends = Ends::new(43);
    let remote = ends.responder.public().clone();
    let cookie = ends.cookie();
    let client = ends.client.clone();
    let next = |attempt: &mut _, with, ends: &mut Ends| {
        Initiations::next(attempt, &client, &remote, with, &mut ends.rng).unwrap()
    };
    let owes = |attempt: &mut Option<Initiations>, reply: &Packet, ends: &mut Ends| {
        let attempt = attempt.as_mut().unwrap();
        attempt.read_cookie(reply, &mut ends.rng).unwrap();
        attempt.owes()
    };
    // Any cookie but the own one is as good as made up: here that of another source.
    let mut elsewhere = arrival();
    elsewhere.source = "127.1.0.8:9000".parse().unwrap();
    for index in [7, 8] {
        let mut attempt = None;
        let first = next(&mut attempt, (7, Some(&cookie)), &mut ends);
        let forged = cookie_reply(ends.respond(&first, &elsewhere));
        let (response, _) = accepted(ends.respond(&first, &arrival()));
        assert!(owes(&mut attempt, &forged, &mut ends));
        let second = next(&mut attempt, (index, None), &mut ends);
        // It is shown in vain, and once.
        let again = cookie_reply(ends.respond(&second, &arrival()));
        assert!(!owes(&mut attempt, &again, &mut ends));
        let finished = attempt.unwrap().finish(&response, NOW_NS);
        assert!(finished.is_ok(), "index {index}");
    }
}

#[test]
fn a_cookie_holds_for_its_lifetime_whenever_it_was_given_and_ends_within_twice_that() {
    for given_ns in [0, COOKIE_LIFETIME_NS / 2, COOKIE_LIFETIME_NS - 1] {
        let mut ends = Ends::new(35);
        let at = |after_ns| Arrival {
            now_ns: NOW_NS + after_ns,
            ..arrival()
        };
        // The secret is born here.
        let (_, first) = ends.start(None);
        cookie_reply(ends.respond(&first, &at(0)));
        let (initiator, initiation) = ends.start(None);
        let reply = cookie_reply(ends.respond(&initiation, &at(given_ns)));
        let cookie = initiator.read_cookie(&reply).unwrap();
        let (_, initiation) = ends.start(Some(&cookie));
        // As long as its holder may use it, also over a change of the secret.
        accepted(ends.respond(&initiation, &at(given_ns + COOKIE_LIFETIME_NS - 1)));
        cookie_reply(ends.respond(&initiation, &at(given_ns + 2 * COOKIE_LIFETIME_NS)));
        cookie_reply(ends.respond(&initiation, &at(given_ns + 5 * COOKIE_LIFETIME_NS)));
    }
}

#[test]
fn every_single_bit_flip_of_a_cookie_reply_is_refused() {
    let mut ends = Ends::new(36);
    let (initiator, initiation) = ends.start(None);
    let (another, _) = ends.start(None);
    let reply = cookie_reply(ends.respond(&initiation, &arrival()));
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
fn an_initiation_by_who_does_not_know_the_responder_gets_no_answer() {
    let mut ends = Ends::new(37);
    let (_, mut initiation) = ends.start(None);
    initiation[600] ^= 1;
    assert_eq!(
        ends.respond(&initiation, &arrival()).err(),
        Some(HandshakeError::Mac)
    );
    let mut data = [0; DATAGRAM_BYTES];
    data[0] = 4;
    assert_eq!(
        ends.respond(&data, &arrival()).err(),
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
    ) {
        let mut ends = Ends::new(39);
        let (mut initiator, initiation) = ends.start(None);
        let (reply, _) = accepted(ends.answer(&initiation));
        for genuine in [initiation, reply] {
            let mut datagram: Packet = body.clone().try_into().unwrap();
            datagram[..spliced].copy_from_slice(&genuine[..spliced]);
            if spliced == 0 { datagram[0] = kind }
            // With correct first macs too, so that more than the mac is reached.
            for recipient in [None, Some(ends.responder.public().x25519), Some(*ends.client.public_key())] {
                if let Some(recipient) = recipient { remac(&mut datagram, &recipient) }
                let response = ends.respond(&datagram, &arrival());
                let accepted = matches!(response, Ok(Response::Accepted { .. }));
                prop_assert!(!accepted);
                prop_assert!(ends.answer(&datagram).is_err());
                prop_assert!(initiator.finish(&datagram, NOW_NS).is_err());
                prop_assert!(initiator.read_cookie(&datagram).is_err());
            }
        }
    }
}
