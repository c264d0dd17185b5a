//! The crate against `vectors/link.json`, which an implementation of `SPEC.md` without snow wrote.

#[path = "common/by_hand.rs"]
mod by_hand;
mod common;
#[path = "common/vector_file.rs"]
mod vector_file;

use by_hand::Script;
use common::*;
use link::control::{Control, LATEST};
use link::*;
use serde_json::Value;

fn file() -> Value {
    serde_json::from_str(include_str!("../vectors/link.json")).unwrap()
}

fn bytes<const N: usize>(value: &Value) -> [u8; N] {
    hex(value.as_str().expect("a hex string"))
        .try_into()
        .expect("another length")
}

fn number(value: &Value) -> u64 {
    value.as_u64().expect("an integer")
}

fn index(value: &Value) -> u32 {
    number(value).try_into().unwrap()
}

/// Both ends of a vector's handshake, made by the crate.
struct Replayed {
    initiator: Initiator,
    initiation: Packet,
    responder: Responder,
    script: Script,
    arrival: Arrival,
}

fn responder(vector: &Value) -> Responder {
    let side = &vector["responder"];
    let mut stored = [0; LINK_KEYS_BYTES];
    stored[..32].copy_from_slice(&bytes::<32>(&side["static_private"]));
    stored[32..].copy_from_slice(&bytes::<64>(&side["kem_seed"]));
    Responder::new(LinkKeys::from_bytes(&stored))
}

fn replay(vector: &Value, cookie: Option<&Cookie>) -> Replayed {
    let responder = responder(vector);
    let side = &vector["initiator"];
    let keys = ClientKeys::from_bytes(&bytes(&side["static_private"]));
    let mut script = Script::of(&[
        &bytes::<32>(&side["kem_randomness"]),
        &bytes::<32>(&side["ephemeral_private"]),
    ]);
    let (initiator, initiation) = Initiator::start(
        &keys,
        responder.public(),
        index(&side["index"]),
        cookie,
        &mut script,
    )
    .unwrap();
    let script = Script::of(&[&bytes::<32>(&vector["responder"]["ephemeral_private"])]);
    Replayed {
        initiator,
        initiation,
        responder,
        script,
        arrival: arrival(),
    }
}

impl Replayed {
    fn sessions(&mut self, vector: &Value) -> (Packet, Session, Session) {
        let local_index = index(&vector["responder"]["index"]);
        let (response, b) = accepted(self.responder.answer(
            &self.initiation,
            &self.arrival,
            local_index,
            |_| true,
            &mut self.script,
        ));
        let a = self.initiator.finish(&response, NOW_NS).unwrap();
        (response, a, b)
    }
}

#[test]
fn the_committed_vectors_are_what_the_command_writes() {
    assert!(
        file() == vector_file::vectors(),
        "run: cargo run -p link --example vectors"
    );
}

#[test]
fn the_crate_makes_the_handshakes_of_the_vectors_byte_for_byte() {
    for vector in file()["handshakes"].as_array().unwrap() {
        let mut replayed = replay(vector, None);
        assert_eq!(
            *replayed.responder.public().kem,
            bytes(&vector["responder"]["kem_public"])
        );
        assert_eq!(replayed.initiation, bytes(&vector["initiation"]));
        let (response, a, b) = replayed.sessions(vector);
        assert_eq!(response, bytes(&vector["response"]));
        assert_eq!(
            (a.peer, b.peer),
            (
                bytes(&vector["responder"]["static_public"]),
                bytes(&vector["initiator"]["static_public"]),
            )
        );
    }
}

#[test]
fn the_crate_reads_the_cookie_of_the_vectors_and_uses_it() {
    for vector in file()["handshakes"].as_array().unwrap() {
        let cookie = replay(vector, None)
            .initiator
            .read_cookie(&bytes(&vector["cookie"]["reply"]))
            .unwrap();
        assert_eq!(
            replay(vector, Some(&cookie)).initiation,
            bytes(&vector["cookie"]["initiation_with_cookie"])
        );
    }
}

#[test]
fn the_crate_seals_and_opens_the_frames_of_the_vectors() {
    for vector in file()["handshakes"].as_array().unwrap() {
        let (_, a, b) = replay(vector, None).sessions(vector);
        for expected in vector["frames"].as_array().unwrap() {
            let forward = expected["direction"] == "initiator_to_responder";
            let (from, to) = if forward { (&a, &b) } else { (&b, &a) };
            let frame: Packet = bytes(&expected["frame"]);
            let content: [u8; CONTENT_BYTES] = bytes(&expected["content"]);
            let counter = number(&expected["counter"]);
            let epoch = number(&expected["epoch_mod_4"]) as u8;
            let kind = [Kind::Sphinx, Kind::Delivery, Kind::Cover, Kind::Control]
                [number(&expected["kind"]) as usize - 1];

            let mut datagram = [0; DATAGRAM_BYTES];
            datagram[CONTENT_OFFSET..][..CONTENT_BYTES].copy_from_slice(&content);
            seal_batch(&mut [SealJob {
                session: from.send.key(),
                counter,
                kind,
                epoch: epoch + 4,
                datagram: &mut datagram,
            }]);
            assert_eq!(datagram, frame);
            assert_eq!(
                peek(&frame),
                Ok(Datagram::Data {
                    receiver_index: to.local_index,
                    counter
                })
            );
            assert_eq!(
                open(&to.receive, &mut datagram),
                Ok(Opened {
                    counter,
                    kind,
                    epoch
                })
            );
            assert_eq!(datagram[CONTENT_OFFSET..][..CONTENT_BYTES], content);
        }
    }
}

#[test]
fn the_crate_refuses_what_the_vectors_say_must_be_refused() {
    for vector in file()["handshakes"].as_array().unwrap() {
        let mut genuine = replay(vector, None);
        let initiation = genuine.initiation;
        let (response, _, b) = genuine.sessions(vector);
        for case in vector["refused"].as_array().unwrap() {
            let why = case["why"].as_str().unwrap();
            let Some(of) = case["of"].as_str() else {
                assert_eq!(
                    open(&b.receive, &mut bytes(&case["datagram"])),
                    Err(OpenError::Reserved),
                    "{why}"
                );
                continue;
            };
            let mut datagram: Packet = match of {
                "initiation" => initiation,
                "response" => response,
                "cookie_reply" => bytes(&vector["cookie"]["reply"]),
                "frame" => bytes(&vector["frames"][0]["frame"]),
                other => panic!("unknown base {other}"),
            };
            datagram[number(&case["offset"]) as usize] ^= hex(case["xor"].as_str().unwrap())[0];
            let mut fresh = replay(vector, None);
            if case["mac1"].as_bool().unwrap() {
                let side = if of == "initiation" {
                    "responder"
                } else {
                    "initiator"
                };
                remac(&mut datagram, &bytes(&vector[side]["static_public"]));
            }
            let refused = match of {
                "initiation" => {
                    // Refused outright, or, behind a right first mac, once its cookie is right too.
                    let screened = fresh
                        .responder
                        .screen(&datagram, &fresh.arrival, &mut rng(52));
                    let answered = fresh.responder.answer(
                        &datagram,
                        &fresh.arrival,
                        1,
                        |_| true,
                        &mut fresh.script,
                    );
                    screened.is_err() || answered.is_err()
                }
                "response" => fresh.initiator.finish(&datagram, NOW_NS).is_err(),
                "cookie_reply" => fresh.initiator.read_cookie(&datagram).is_err(),
                _ => open(&b.receive, &mut datagram).is_err(),
            };
            assert!(refused, "{of}: {why}");
        }
    }
}

#[test]
fn the_crate_reads_and_writes_the_control_frames_of_the_vectors_and_refuses_the_others() {
    let vectors = &file()["control"];
    for vector in vectors["frames"].as_array().unwrap() {
        let content = bytes(&vector["content"]);
        let control = Control::decode(&content).unwrap();
        let name = match &control {
            Control::Attach {
                rate_pps: 0x0102_0304,
            } => "attach",
            Control::Attached {
                rate_pps: 0x0102_0304,
            } => "attached",
            Control::Fetch {
                epoch: 0x0102_0304,
                chunk: 0x0506,
            }
            | Control::Fetch {
                epoch: LATEST,
                chunk: 0,
            } => "fetch",
            Control::Chunk {
                epoch: 0x0102_0304, ..
            } => "chunk",
            Control::Challenge { nonce } if nonce[..] == content[16..24] => "challenge",
            Control::Answer { nonce } if nonce[..] == content[16..24] => "answer",
            Control::Leaving { epoch: 0x0102_0304 } => "leaving",
            Control::Full => "full",
            Control::Restarted => "restarted",
            other => panic!("{other:?}"),
        };
        assert_eq!(name, vector["type"]);
        let mut encoded = [0xff; CONTENT_BYTES];
        control.encode(&mut encoded);
        assert!(encoded == content, "{name}");
    }
    for vector in vectors["refused"].as_array().unwrap() {
        let decoded = Control::decode(&bytes(&vector["content"]));
        assert!(decoded.is_err(), "{}", vector["why"]);
    }
}

#[test]
fn the_destination_tag_is_that_of_the_vectors() {
    let tag = &file()["destination_tag"];
    assert_eq!(
        destination_tag(&bytes(&tag["static_public"])),
        bytes(&tag["tag"])
    );
}

#[test]
fn a_rogue_initiator_with_a_low_order_static_key_is_refused() {
    let inputs = vector_file::inputs(7);
    for point in low_order_points() {
        let rogue = by_hand::handshake_as(&inputs, &point, &[0; 8]);
        assert_eq!(
            answer_of(&inputs, &rogue.initiation, 50),
            Some(HandshakeError::LowOrder)
        );
    }
}

#[test]
fn an_initiator_without_the_static_secret_of_the_key_it_claims_is_refused() {
    let inputs = vector_file::inputs(8);
    let victim = by_hand::public(&[9; 32]);
    let rogue = by_hand::handshake_as(&inputs, &victim, &[0; 8]);
    assert_eq!(
        answer_of(&inputs, &rogue.initiation, 51),
        Some(HandshakeError::Forged)
    );
}

#[test]
fn an_authentic_initiation_whose_payload_is_not_zero_is_refused() {
    let inputs = vector_file::inputs(9);
    let own = by_hand::public(&inputs.initiator_static);
    for at in 0..8 {
        let mut payload = [0; 8];
        payload[at] = 1;
        let rogue = by_hand::handshake_as(&inputs, &own, &payload);
        assert_eq!(
            answer_of(&inputs, &rogue.initiation, 52),
            Some(HandshakeError::Malformed(Malformed::Reserved))
        );
    }
}

/// Why the responder of these inputs refuses an initiation whose cookie is right.
fn answer_of(inputs: &by_hand::Inputs, initiation: &Packet, seed: u64) -> Option<HandshakeError> {
    let mut stored = [0; LINK_KEYS_BYTES];
    stored[..32].copy_from_slice(&inputs.responder_static);
    stored[32..].copy_from_slice(&inputs.responder_kem_seed);
    Responder::new(LinkKeys::from_bytes(&stored))
        .answer(initiation, &arrival(), 1, |_| true, &mut rng(seed))
        .err()
}
