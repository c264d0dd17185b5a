//! The parts of a native hop, each alone.

use super::measure::repeating;
use crate::cases::Case;
use sphinx::lanes::Lanes;
use sphinx::parts;
use std::hint::black_box;

pub(super) const PARTS: [&str; 4] = [
    "part of a native hop: BLAKE3 key derivation",
    "part of a native hop: BLAKE3 MAC of the header",
    "part of a native hop: AES-CTR of the header",
    "part of a native hop: HCTR2 of the body",
];

const CALLS: usize = 256;

pub(super) fn cases(_: Lanes) -> Vec<Case> {
    let derivation = parts::derivation();
    let keys = parts::hop_keys(&derivation, &[1; 32], &[2; 32], &[3; 32]);
    let mut header = [4_u8; sphinx::HEADER_BYTES];
    let mut routing = [5; sphinx::ROUTING_BYTES + sphinx::HOP_BLOCK_BYTES];
    let mut body = [6; sphinx::BODY_BYTES];
    let [derive, mac, stream, hctr2] = PARTS;
    vec![
        repeated(derive, move || {
            let dh = black_box(&[1; 32]);
            black_box(parts::hop_keys(&derivation, dh, &[2; 32], &[3; 32]));
        }),
        repeated(mac, move || {
            header[0] = header[0].wrapping_add(1);
            black_box(parts::mac(&keys, black_box(&header)));
        }),
        repeated(stream, move || {
            parts::stream(black_box(&[7; 16]), black_box(&mut routing));
        }),
        repeated(hctr2, move || {
            parts::body(black_box(&[8; 16]), black_box(&mut body));
        }),
    ]
}

fn repeated(name: &str, mut call: impl FnMut() + 'static) -> Case {
    repeating(name, 1, CALLS, move || {
        for _ in 0..CALLS {
            call();
        }
    })
}
