//! What `vectors/link.json` holds, computed by the implementation in `by_hand`.

use serde_json::{Value, json};

use super::by_hand::{self, Inputs, Packet};

pub fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Distinct, recognizable bytes.
fn bytes<const N: usize>(label: &str) -> [u8; N] {
    let mut out = [0; N];
    blake3::Hasher::new_derive_key("fogmix link v1 test vectors")
        .update(label.as_bytes())
        .finalize_xof()
        .fill(&mut out);
    out
}

pub fn inputs(number: u32) -> Inputs {
    Inputs {
        responder_static: bytes(&format!("{number} responder static")),
        responder_kem_seed: bytes(&format!("{number} responder kem seed")),
        initiator_static: bytes(&format!("{number} initiator static")),
        initiator_ephemeral: bytes(&format!("{number} initiator ephemeral")),
        responder_ephemeral: bytes(&format!("{number} responder ephemeral")),
        kem_randomness: bytes(&format!("{number} kem randomness")),
        initiator_index: 0x0102_0304 + number,
        responder_index: 0xf5f6_f7f8 + number,
    }
}

/// The whole file.
pub fn vectors() -> Value {
    json!({
        "description": "Fogmix links, version 1: see SPEC.md. Byte strings are hex, integers decimal.",
        "handshakes": [handshake(0), handshake(1)],
        "control": control(),
        "destination_tag": {
            "static_public": to_hex(&by_hand::public(&inputs(0).initiator_static)),
            "tag": to_hex(&blake3::derive_key(
                "fogmix link v1 destination tag",
                &by_hand::public(&inputs(0).initiator_static),
            )[..16]),
        },
    })
}

fn handshake(number: u32) -> Value {
    let inputs = inputs(number);
    let made = by_hand::handshake(&inputs);
    let responder = by_hand::public(&inputs.responder_static);
    let cookie: [u8; 16] = bytes(&format!("{number} cookie"));
    let nonce: [u8; 12] = bytes(&format!("{number} cookie nonce"));
    let mut with_cookie = made.initiation;
    by_hand::write_mac2(&mut with_cookie, &cookie);
    json!({
        "responder": {
            "static_private": to_hex(&inputs.responder_static),
            "static_public": to_hex(&responder),
            "kem_seed": to_hex(&inputs.responder_kem_seed),
            "kem_public": to_hex(&made.kem_public),
            "ephemeral_private": to_hex(&inputs.responder_ephemeral),
            "index": inputs.responder_index,
        },
        "initiator": {
            "static_private": to_hex(&inputs.initiator_static),
            "static_public": to_hex(&by_hand::public(&inputs.initiator_static)),
            "ephemeral_private": to_hex(&inputs.initiator_ephemeral),
            "kem_randomness": to_hex(&inputs.kem_randomness),
            "index": inputs.initiator_index,
        },
        "kem_shared": to_hex(&made.kem_shared),
        "kem_key": to_hex(&made.kem_key),
        "psk": to_hex(&made.psk),
        "initiation": to_hex(&made.initiation),
        "response": to_hex(&made.response),
        "initiator_to_responder_key": to_hex(&made.initiator_to_responder),
        "responder_to_initiator_key": to_hex(&made.responder_to_initiator),
        "cookie": {
            "cookie": to_hex(&cookie),
            "nonce": to_hex(&nonce),
            "reply": to_hex(&by_hand::cookie_reply(&responder, &made.initiation, nonce, &cookie)),
            "initiation_with_cookie": to_hex(&with_cookie),
        },
        "frames": frames(&inputs, &made),
        "refused": refused(&inputs, &made),
    })
}

fn frames(inputs: &Inputs, made: &by_hand::Handshake) -> Vec<Value> {
    let ways = [
        (
            "initiator_to_responder",
            &made.initiator_to_responder,
            inputs.responder_index,
        ),
        (
            "responder_to_initiator",
            &made.responder_to_initiator,
            inputs.initiator_index,
        ),
    ];
    let mut frames = Vec::new();
    for (direction, key, receiver_index) in ways {
        for (kind, counter, epoch) in [
            (1_u8, 0_u64, 0_u8),
            (2, 1, 1),
            (3, 0x0102_0304, 2),
            (4, 0xffff_ffff, 3),
        ] {
            let content: [u8; 1200] = bytes(&format!("{direction} content {kind}"));
            let frame = by_hand::frame(key, receiver_index, counter, [kind, epoch, 0, 0], &content);
            frames.push(json!({
                "direction": direction, "counter": counter, "kind": kind, "epoch_mod_4": epoch,
                "content": to_hex(&content), "frame": to_hex(&frame),
            }));
        }
    }
    frames
}

/// Datagrams to refuse, each given by what is XORed into a good one. After it the first mac is computed anew where
/// `mac1` says so, so that the check behind it is reached.
fn refused(inputs: &Inputs, made: &by_hand::Handshake) -> Vec<Value> {
    let key = &made.initiator_to_responder;
    let mut list: Vec<Value> = [
        ("initiation", 1, "80", false, "reserved byte"),
        ("initiation", 0, "05", false, "type"),
        ("initiation", 40, "01", false, "first mac"),
        ("initiation", 4, "01", true, "index bound by the prologue"),
        ("initiation", 8, "01", true, "ephemeral key"),
        ("initiation", 39, "80", true, "unused top bit of the ephemeral key"),
        ("initiation", 40, "01", true, "static key"),
        ("initiation", 88, "01", true, "payload"),
        ("initiation", 112, "01", true, "ML-KEM ciphertext bound by the prologue"),
        ("initiation", 1199, "01", true, "ML-KEM ciphertext bound by the prologue"),
        ("response", 4, "01", true, "index bound by the psk"),
        ("response", 12, "01", true, "ephemeral key"),
        ("response", 1199, "80", true, "tag"),
        ("response", 1216, "01", false, "second mac of a response is zero"),
        ("cookie_reply", 4, "01", false, "receiver index"),
        ("cookie_reply", 8, "01", false, "nonce"),
        ("cookie_reply", 1231, "01", false, "tag"),
        ("frame", 1, "01", false, "counter is nonce and associated data"),
        ("frame", 8, "01", false, "receiver index is nonce and associated data"),
        ("frame", 16, "01", false, "content"),
        ("frame", 1216, "01", false, "tag"),
    ]
    .into_iter()
    .map(|(of, offset, xor, mac1, why)| json!({"of": of, "offset": offset, "xor": xor, "mac1": mac1, "why": why}))
    .collect();
    let whole = |frame: Packet, why: &str| json!({"datagram": to_hex(&frame), "why": why});
    for (head, why) in [
        ([0, 0, 0, 0], "kind 0"),
        ([5, 0, 0, 0], "kind 5"),
        ([1, 4, 0, 0], "epoch above 3"),
        ([1, 0, 1, 0], "reserved byte inside"),
    ] {
        list.push(whole(
            by_hand::frame(key, inputs.responder_index, 9, head, &[0; 1200]),
            why,
        ));
    }
    list
}

/// Contents of control frames, and some that are none.
fn control() -> Value {
    let chunk: [u8; 1184] = bytes("chunk");
    let nonce: [u8; 8] = bytes("challenge");
    let frames = [
        ("attach", by_hand::control(1, 0, 0, 0x0102_0304, &[])),
        ("attached", by_hand::control(2, 0, 0, 0x0102_0304, &[])),
        ("fetch", by_hand::control(3, 0x0506, 0x0102_0304, 0, &[])),
        ("fetch", by_hand::control(3, 0, u32::MAX, 0, &[])),
        ("chunk", by_hand::control(4, 0, 0x0102_0304, 1_200, &chunk)),
        (
            "chunk",
            by_hand::control(4, 1, 0x0102_0304, 1_200, &chunk[..16]),
        ),
        ("chunk", by_hand::control(4, 7, 0x0102_0304, 0, &[])),
        ("challenge", by_hand::control(9, 0, 0, 0, &nonce)),
        ("answer", by_hand::control(10, 0, 0, 0, &nonce)),
        ("leaving", by_hand::control(11, 0, 0x0102_0304, 0, &[])),
        ("full", by_hand::control(12, 0, 0, 0, &[])),
        ("restarted", by_hand::control(13, 0, 0, 0, &[])),
    ];
    let refused = [
        ("type 0", by_hand::control(0, 0, 0, 0, &[])),
        ("type 5", by_hand::control(5, 0, 0, 0, &[])),
        ("type 14", by_hand::control(14, 0, 0, 0, &[])),
        (
            "an attach frame with data",
            by_hand::control(1, 0, 0, 100, &nonce),
        ),
        (
            "an attach frame with an epoch",
            by_hand::control(1, 0, 1, 100, &[]),
        ),
        (
            "a fetch frame with a number",
            by_hand::control(3, 0, 1, 1, &[]),
        ),
        (
            "a chunk shorter than its number makes it",
            by_hand::control(4, 0, 1, 1_200, &chunk[..16]),
        ),
        (
            "a chunk past the end",
            by_hand::control(4, 2, 1, 1_200, &[]),
        ),
        (
            "a document longer than any",
            by_hand::control(4, 0, 1, 3_464_193, &chunk),
        ),
        (
            "a challenge of seven bytes",
            by_hand::control(9, 0, 0, 0, &nonce[..7]),
        ),
        (
            "an answer with a number",
            by_hand::control(10, 0, 0, 1, &nonce),
        ),
        (
            "a full frame with an epoch",
            by_hand::control(12, 0, 1, 0, &[]),
        ),
        (
            "a restart with a number",
            by_hand::control(13, 0, 0, 1, &[]),
        ),
    ];
    let frames = frames.map(|(name, content)| json!({"type": name, "content": to_hex(&content)}));
    let refused = refused.map(|(why, content)| json!({"why": why, "content": to_hex(&content)}));
    json!({"frames": frames, "refused": refused})
}
