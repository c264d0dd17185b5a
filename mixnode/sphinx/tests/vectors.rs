//! The committed packets in `vectors/`, against the crate and against the reference implementation.

mod common;

use common::reference::{self, Outcome};
use common::vectors::{self, Forward, Hop, Rejected, Reply};
use common::{name, open_with, unhex};
use sphinx::{Command, EpochSecret, PACKET_BYTES, Reject};
use std::path::Path;

fn committed(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("vectors")
        .join(name);
    std::fs::read_to_string(path).unwrap()
}

fn array<const N: usize>(digits: &str) -> [u8; N] {
    unhex(digits).try_into().unwrap()
}

/// Both implementations open each recorded packet to the next one.
fn check_hops(hops: &[Hop], last_body: &str, last: &Command) {
    for (index, hop) in hops.iter().enumerate() {
        let mut packet: [u8; PACKET_BYTES] = array(&hop.packet);
        let theirs = reference::unwrap(&array(&hop.secret), &packet, vectors::DELAY_MAX_US);
        let secret = EpochSecret::from_bytes(array(&hop.secret));
        assert_eq!(secret.public_key(), &array(&hop.public_key));
        let mut tag = None;
        let opened = open_with(&mut packet, &secret, &mut |seen| {
            tag = Some(*seen);
            Ok(())
        })
        .unwrap();
        assert_eq!(tag, Some(array(&hop.replay_tag)));
        assert_eq!(opened.delay_us, hop.delay_us);
        match hops.get(index + 1) {
            Some(next) => {
                assert_eq!(opened.command, Command::Forward { next: next.node });
                assert_eq!(packet, array(&next.packet));
                let expected = Outcome::Forward {
                    next: next.node,
                    delay_us: hop.delay_us,
                    packet: packet.to_vec(),
                };
                assert_eq!(theirs, expected);
            }
            None => {
                assert_eq!(opened.command, *last);
                assert_eq!(packet[304..], unhex(last_body));
                let (Outcome::Deliver { body, .. }
                | Outcome::Loop { body, .. }
                | Outcome::Drop { body, .. }) = theirs
                else {
                    panic!("{theirs:?}")
                };
                assert_eq!(body, unhex(last_body));
            }
        }
    }
}

#[test]
fn the_committed_vectors_are_those_that_the_command_writes() {
    for (name, content) in vectors::files() {
        assert!(
            committed(name) == content,
            "{name} differs: cargo run -p sphinx --example vectors"
        );
    }
}

#[test]
fn every_forward_packet_of_the_vectors_opens_hop_by_hop_in_both_implementations() {
    let cases: Vec<Forward> = serde_json::from_str(&committed("forward.json")).unwrap();
    for case in &cases {
        let (destination, id) = (array(&case.destination), array(&case.id));
        let last = match &case.command[..] {
            "deliver" => Command::Deliver { destination, id },
            "loop" => Command::Loop { id },
            _ => Command::Drop,
        };
        check_hops(&case.hops, &case.last_body, &last);
        assert_eq!(case.last_body, case.body);
    }
    for hops in 1..=5 {
        assert!(cases.iter().any(|case| case.hops.len() == hops));
    }
}

#[test]
fn every_reply_of_the_vectors_opens_hop_by_hop_and_to_its_plaintext_in_both_implementations() {
    let cases: Vec<Reply> = serde_json::from_str(&committed("reply.json")).unwrap();
    for case in &cases {
        let last = Command::Deliver {
            destination: array(&case.destination),
            id: array(&case.id),
        };
        check_hops(&case.hops, &case.last_body, &last);
        let mut body = unhex(&case.last_body);
        for hop in case.hops.iter().rev() {
            body = reference::encrypt_body(&array(&hop.body_key), &body);
        }
        let plaintext = [vec![0; 16], unhex(&case.plaintext)].concat();
        assert_eq!(
            reference::decrypt_body(&array(&case.replier_key), &body),
            plaintext
        );
    }
    for hops in 1..=5 {
        assert!(cases.iter().any(|case| case.hops.len() == hops));
    }
}

#[test]
fn every_bad_packet_of_the_vectors_is_rejected_for_its_reason_by_both_implementations() {
    let cases: Vec<Rejected> = serde_json::from_str(&committed("rejected.json")).unwrap();
    for case in &cases {
        let mut packet: [u8; PACKET_BYTES] = array(&case.packet);
        if !case.seen_before {
            let theirs = reference::unwrap(&array(&case.secret), &packet, case.delay_max_us);
            assert!(
                matches!(theirs, Outcome::Rejected(reason) if reason == case.reason),
                "{}",
                case.name
            );
        }
        let secret = EpochSecret::from_bytes(array(&case.secret));
        let mut filter = |_: &_| {
            if case.seen_before {
                Err(Reject::Replay)
            } else {
                Ok(())
            }
        };
        let verdict = open_with(&mut packet, &secret, &mut filter);
        assert_eq!(
            verdict.map_err(name),
            Err(&case.reason[..]),
            "{}",
            case.name
        );
    }
    for reason in [
        "LowOrder", "Mac", "Replay", "Command", "Reserved", "Delay", "Body",
    ] {
        assert!(cases.iter().any(|case| case.reason == reason), "{reason}");
    }
}
