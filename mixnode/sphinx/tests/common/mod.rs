//! Nodes, paths and one-packet batches for the tests.
#![allow(dead_code, unused_imports)] // every test binary takes what it needs

pub mod compare;
pub mod reference;
pub mod script;
pub mod vectors;

use arrayvec::ArrayVec;
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use sphinx::lanes::Lanes;
use sphinx::{
    BODY_BYTES, Engine, EpochSecret, Job, PACKET_BYTES, PathHop, Reject, ReplayTag, Unwrapped,
};

pub use compare::{DELAY_MAX_US, name};

pub fn rng(seed: u64) -> ChaCha20Rng {
    ChaCha20Rng::seed_from_u64(seed)
}

/// Nodes in a row, and the path through them.
pub struct Network {
    pub secrets: Vec<EpochSecret>,
    /// The secrets' bytes, which the crate itself gives away to nobody.
    pub bytes: Vec<[u8; 32]>,
    pub path: Vec<PathHop>,
}

impl Network {
    pub fn new(hops: usize, rng: &mut ChaCha20Rng) -> Self {
        let bytes: Vec<[u8; 32]> = (0..hops)
            .map(|_| {
                let mut secret = [0; 32];
                rng.fill_bytes(&mut secret);
                secret
            })
            .collect();
        let secrets: Vec<_> = bytes
            .iter()
            .map(|bytes| EpochSecret::from_bytes(*bytes))
            .collect();
        let path = secrets
            .iter()
            .map(|secret| PathHop {
                public_key: *secret.public_key(),
                node: rng.next_u32() as u16,
                delay_us: rng.next_u32() % DELAY_MAX_US,
            })
            .collect();
        Self {
            secrets,
            bytes,
            path,
        }
    }
}

/// A body of bytes that differ from seed to seed.
pub fn body(seed: u64) -> [u8; BODY_BYTES] {
    let mut body = [0; BODY_BYTES];
    rng(seed ^ 0xb0d7).fill_bytes(&mut body);
    body
}

pub fn engine() -> Engine {
    Engine::new(Lanes::detect(), DELAY_MAX_US)
}

/// Opens a packet alone, with a filter that has seen nothing.
pub fn open_one(
    packet: &mut [u8; PACKET_BYTES],
    secret: &EpochSecret,
) -> Result<Unwrapped, Reject> {
    open_with(packet, secret, &mut |_| Ok(()))
}

/// Opens a packet alone, asking `replay` about its tag.
pub fn open_with(
    packet: &mut [u8; PACKET_BYTES],
    secret: &EpochSecret,
    replay: &mut dyn FnMut(&ReplayTag) -> Result<(), Reject>,
) -> Result<Unwrapped, Reject> {
    let mut verdicts = ArrayVec::new();
    engine().unwrap_batch(
        &mut [Job { packet, secret }],
        &mut |_, tag| replay(tag),
        &mut verdicts,
    );
    assert_eq!(verdicts.len(), 1);
    verdicts[0]
}

/// Reads hex digits.
pub fn unhex(digits: &str) -> Vec<u8> {
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap())
        .collect()
}

/// Writes hex digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// u-coordinates that give zero under every clamped scalar, in every encoding of 32 bytes: 0, 1, −1, the two of
/// order 8, p and p + 1, each with and without the top bit, which X25519 ignores.
pub fn low_order_points() -> Vec<[u8; 32]> {
    let mut minus_one = [0xff; 32];
    (minus_one[0], minus_one[31]) = (0xec, 0x7f);
    let mut p = minus_one;
    p[0] = 0xed;
    let mut p_plus_one = minus_one;
    p_plus_one[0] = 0xee;
    let mut one = [0; 32];
    one[0] = 1;
    let order_eight = [
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    ];
    let mut points = vec![[0; 32], one, minus_one, p, p_plus_one];
    points.extend(order_eight.map(|hex| <[u8; 32]>::try_from(unhex(hex)).unwrap()));
    let with_top_bit: Vec<_> = points
        .iter()
        .map(|point| {
            let mut point: [u8; 32] = *point;
            point[31] |= 0x80;
            point
        })
        .collect();
    points.extend(with_top_bit);
    points
}
