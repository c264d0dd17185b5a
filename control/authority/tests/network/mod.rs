//! Networks of made-up nodes for the tests.
#![allow(dead_code)] // Each test file uses its part.

use authority::Authority;
use directory::{Consensus, Descriptor, EpochKey, Identity, LinkKey, Parameters, Role};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

pub const PARAMETERS: Parameters = Parameters {
    genesis_unix_ms: 1_000_000,
    epoch_ms: 60_000,
    mean_delay_us: 20_000,
    client_rate_pps: 100,
    layers: 3,
};

pub fn rng(seed: u64) -> ChaCha20Rng {
    ChaCha20Rng::seed_from_u64(seed)
}

/// Node `number`, its own operator in its own /24, with keys of epochs 0 to 2.
pub fn node(number: u16, role: Role) -> (Identity, Descriptor) {
    let mut rng = rng(1_000 + u64::from(number));
    let identity = Identity::generate(&mut rng);
    let mut key = || {
        let mut bytes = [0; 32];
        rng.fill_bytes(&mut bytes);
        bytes
    };
    let [high, low] = number.to_be_bytes();
    let descriptor = Descriptor {
        identity: identity.public(),
        role,
        operator: format!("operator-{number}"),
        addresses: vec![([10, high, low, 1], 9_000).into()],
        link: LinkKey {
            x25519: key(),
            kem: Box::new([u8::try_from(number % 256).unwrap(); 1_184]),
        },
        epoch_keys: (0..3)
            .map(|epoch| EpochKey {
                epoch,
                public_key: key(),
            })
            .collect(),
        capacity_pps: 1_000,
        vrf_key: key(),
        vrf_proof: None,
        published_unix_ms: 5,
    };
    (identity, descriptor)
}

/// `gateways` gateways, then `mixes` mixes.
pub fn nodes(gateways: u16, mixes: u16) -> Vec<Descriptor> {
    (0..gateways + mixes)
        .map(|number| {
            let role = if number < gateways {
                Role::Gateway
            } else {
                Role::Mix
            };
            node(number, role).1
        })
        .collect()
}

pub fn authority() -> Authority {
    Authority::new(Identity::from_bytes(&[7; 32]), PARAMETERS).unwrap()
}

pub fn consensus(descriptors: Vec<Descriptor>) -> Consensus {
    let authority = authority();
    authority
        .sign(0, descriptors)
        .unwrap()
        .verify(&authority.authorities().unwrap(), None)
        .unwrap()
}
