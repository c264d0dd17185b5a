//! What the fuzz targets check, and the corpora's first inputs. An ordinary test replays the corpora through the same
//! functions on stable Rust.
#![allow(dead_code, reason = "each target and the test take a part")]

use std::sync::LazyLock;

use aes_gcm::Aes256Gcm;
use aes_gcm::aead::{AeadInOut, KeyInit};
use arrayvec::ArrayVec;
use link::*;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

type Packet = [u8; DATAGRAM_BYTES];

const KEY: [u8; 32] = [3; 32];
const MAC1: usize = DATAGRAM_BYTES - 32;
const MAC2: usize = DATAGRAM_BYTES - 16;

/// Peeks at any bytes; those of a datagram's size are also taken for a frame before sealing, sealed by hand under a
/// known key and opened.
pub fn check_frame(bytes: &[u8]) {
    let peeked = peek(bytes);
    let Ok(mut frame) = Packet::try_from(bytes) else {
        assert_eq!(peeked, Err(Malformed::Size));
        return;
    };
    assert!(peeked.is_err() || (1..=4).contains(&frame[0]));
    assert_eq!(
        open(&mut frame.clone()),
        Err(OpenError::Forged),
        "nobody guesses a tag"
    );

    let clear: [u8; 12] = frame[..12].try_into().unwrap();
    let cipher = Aes256Gcm::new(&KEY.into());
    let tag = cipher
        .encrypt_inout_detached(&clear.into(), &clear, (&mut frame[12..MAC2]).into())
        .unwrap();
    frame[MAC2..].copy_from_slice(&tag);
    let authentic = open(&mut frame);
    let [kind, epoch, zeros @ ..] = <[u8; 4]>::try_from(&bytes[12..16]).unwrap();
    if (1..=4).contains(&kind) && epoch < 4 && zeros == [0; 2] {
        let opened = authentic.unwrap();
        assert_eq!((opened.kind as u8, opened.epoch), (kind, epoch));
        assert_eq!(opened.counter.to_le_bytes()[..7], bytes[1..8]);
        assert_eq!(frame[12..MAC2], bytes[12..MAC2]);
    } else {
        assert_eq!(authentic, Err(OpenError::Reserved));
    }
}

/// Any bytes of a frame's content as a control frame: whatever decodes encodes to the very same bytes. Whether it did.
pub fn check_control(bytes: &[u8]) -> bool {
    let Ok(frame) = <&[u8; control::FRAME_BYTES]>::try_from(bytes) else {
        return false;
    };
    let Ok(decoded) = control::Control::decode(frame) else {
        return false;
    };
    let mut encoded = [0xff; control::FRAME_BYTES];
    decoded.encode(&mut encoded);
    assert!(frame == &encoded, "a control frame has two encodings");
    if let Some(assembly) = control::Assembly::start(decoded) {
        let _ = (assembly.missing(0), assembly.finish());
    }
    true
}

fn open(frame: &mut Packet) -> Result<Opened, OpenError> {
    let mut verdicts = ArrayVec::new();
    open_batch(
        &mut [OpenJob {
            session: &ReceiveKey::new(&KEY),
            datagram: frame,
        }],
        &mut verdicts,
    );
    verdicts[0]
}

/// One handshake, always the same.
struct Genuine {
    client: ClientKeys,
    keys: LinkKeys,
    initiation: Packet,
    response: Packet,
    cookie_reply: Packet,
}

static GENUINE: LazyLock<Genuine> = LazyLock::new(|| {
    let mut rng = ChaCha20Rng::seed_from_u64(60);
    let client = ClientKeys::generate(&mut rng);
    let keys = LinkKeys::generate(&mut rng);
    let (_, initiation) = initiator(&client, &keys);
    let reply = |response| match response {
        Ok(Response::Accepted { reply, .. } | Response::Cookie { reply }) => *reply,
        Err(error) => panic!("{error}"),
    };
    Genuine {
        response: reply(answer(&keys, &initiation)),
        cookie_reply: reply(respond(&keys, &initiation)),
        client,
        keys,
        initiation,
    }
});

fn initiator(client: &ClientKeys, keys: &LinkKeys) -> (Initiator, Packet) {
    Initiator::start(
        client,
        &keys.public(),
        7,
        None,
        &mut ChaCha20Rng::seed_from_u64(61),
    )
    .unwrap()
}

fn arrival() -> Arrival {
    Arrival {
        source: ([127, 1, 0, 1], 9000).into(),
        now_ns: 0,
    }
}

fn respond(keys: &LinkKeys, datagram: &Packet) -> Result<Response, HandshakeError> {
    let rng = &mut ChaCha20Rng::seed_from_u64(62);
    Responder::new(keys.clone()).respond(datagram, &arrival(), 8, |_| true, rng)
}

/// As if its cookie were right.
fn answer(keys: &LinkKeys, datagram: &Packet) -> Result<Response, HandshakeError> {
    let rng = &mut ChaCha20Rng::seed_from_u64(62);
    Responder::new(keys.clone()).answer(datagram, &arrival(), 8, |_| true, rng)
}

/// Gives any bytes to both ends, as they are and under a correct first mac: only the genuine messages are taken.
pub fn check_handshake(bytes: &[u8]) {
    let Ok(datagram) = Packet::try_from(bytes) else {
        return;
    };
    let genuine = &*GENUINE;
    for recipient in [
        None,
        Some(genuine.keys.public().x25519),
        Some(*genuine.client.public_key()),
    ] {
        let mut datagram = datagram;
        if let Some(recipient) = recipient {
            let key = blake3::derive_key("fogmix link v1 mac1", &recipient);
            let mac = blake3::keyed_hash(&key, &datagram[..MAC1]);
            datagram[MAC1..MAC2].copy_from_slice(&mac.as_bytes()[..16]);
        }
        let (mut initiator, _) = initiator(&genuine.client, &genuine.keys);
        if let Ok(Response::Accepted { .. }) = answer(&genuine.keys, &datagram) {
            // It is given after the first mac was looked at.
            assert_eq!(datagram[..MAC1], genuine.initiation[..MAC1]);
        }
        let answered = respond(&genuine.keys, &datagram);
        assert!(
            !matches!(answered, Ok(Response::Accepted { .. })),
            "nobody guesses a cookie"
        );
        if initiator.read_cookie(&datagram).is_ok() {
            assert_eq!(datagram, genuine.cookie_reply);
        }
        if initiator.finish(&datagram, 0).is_ok() {
            assert_eq!(datagram, genuine.response);
        }
    }
}

/// The corpora's first inputs: target, name, bytes.
pub fn seeds() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let frame = |head: [u8; 16]| {
        let mut frame = [0; DATAGRAM_BYTES];
        frame[..16].copy_from_slice(&head);
        frame.to_vec()
    };
    let control = |control: control::Control| {
        let mut frame = [0; control::FRAME_BYTES];
        control.encode(&mut frame);
        frame.to_vec()
    };
    let genuine = &*GENUINE;
    vec![
        (
            "control",
            "attach",
            control(control::Control::Attach { rate_pps: 100 }),
        ),
        (
            "control",
            "attached",
            control(control::Control::Attached { rate_pps: 100 }),
        ),
        (
            "control",
            "fetch",
            control(control::Control::Fetch { epoch: 7, chunk: 3 }),
        ),
        (
            "control",
            "chunk",
            control(control::Control::chunk_of(7, &[1; 2_000], 1)),
        ),
        (
            "control",
            "challenge",
            control(control::Control::Challenge { nonce: [9; 8] }),
        ),
        (
            "control",
            "answer",
            control(control::Control::Answer { nonce: [9; 8] }),
        ),
        (
            "control",
            "leaving",
            control(control::Control::Leaving { epoch: 7 }),
        ),
        ("control", "full", control(control::Control::Full)),
        ("control", "restarted", control(control::Control::Restarted)),
        ("frames", "empty", Vec::new()),
        ("frames", "one-byte-short", vec![4; DATAGRAM_BYTES - 1]),
        ("frames", "one-byte-long", vec![4; DATAGRAM_BYTES + 1]),
        (
            "frames",
            "sphinx",
            frame([4, 1, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 1, 0, 0, 0]),
        ),
        (
            "frames",
            "control-last-epoch",
            frame([4, 255, 255, 255, 255, 0, 0, 0, 9, 0, 0, 0, 4, 3, 0, 0]),
        ),
        (
            "frames",
            "kind-0",
            frame([4, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0]),
        ),
        (
            "frames",
            "epoch-4",
            frame([4, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 1, 4, 0, 0]),
        ),
        (
            "frames",
            "reserved-inside",
            frame([4, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 1, 0, 0, 1]),
        ),
        (
            "frames",
            "initiation",
            frame([1, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        ),
        (
            "frames",
            "initiation-reserved",
            frame([1, 0, 0, 1, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        ),
        (
            "frames",
            "response",
            frame([2, 0, 0, 0, 9, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0]),
        ),
        (
            "frames",
            "cookie-reply",
            frame([3, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        ),
        ("frames", "type-5", frame([5; 16])),
        ("handshakes", "initiation", genuine.initiation.to_vec()),
        ("handshakes", "response", genuine.response.to_vec()),
        ("handshakes", "cookie-reply", genuine.cookie_reply.to_vec()),
        (
            "handshakes",
            "initiation-zeros",
            frame([1, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        ),
        (
            "handshakes",
            "response-zeros",
            frame([2, 0, 0, 0, 8, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0]),
        ),
        (
            "handshakes",
            "cookie-reply-zeros",
            frame([3, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        ),
    ]
}
