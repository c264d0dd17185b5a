//! Networks of made-up nodes for the tests.
#![allow(dead_code)] // Each test file uses its part.

use std::ops::{Deref, DerefMut};

use authority::Authority;
use authority::admission::Admission;
use authority::ballot::Ballot;
use authority::claims::Owners;
use authority::vote::SignedVote;
use directory::beacon::layer_input;
use directory::vrf::VrfSecret;
use directory::{
    Chain, Consensus, Descriptor, EpochKey, Held, Identity, LinkKey, Parameters, Previous, Role,
    SignedConsensus, SignedDescriptor, SignedReport,
};
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

/// A node with its secrets. Dereferences to its descriptor.
pub struct Member {
    pub identity: Identity,
    pub descriptor: Descriptor,
    /// Which of its VRF keys it uses.
    vrf_number: u8,
}

impl Deref for Member {
    type Target = Descriptor;
    fn deref(&self) -> &Descriptor {
        &self.descriptor
    }
}

impl DerefMut for Member {
    fn deref_mut(&mut self) -> &mut Descriptor {
        &mut self.descriptor
    }
}

impl Clone for Member {
    fn clone(&self) -> Self {
        Member {
            identity: Identity::from_bytes(&self.identity.to_bytes()),
            descriptor: self.descriptor.clone(),
            vrf_number: self.vrf_number,
        }
    }
}

impl Member {
    /// Its VRF key, made of its identity's seed.
    pub fn vrf(&self) -> VrfSecret {
        let mut seed = self.identity.to_bytes();
        seed[0] ^= self.vrf_number;
        VrfSecret::from_bytes(&seed)
    }

    /// Takes its VRF key with this number, 1 at first, from now on.
    pub fn use_vrf(&mut self, number: u8) {
        self.vrf_number = number;
        self.vrf_key = self.vrf().public();
    }

    /// What it says of itself towards the document of `epoch` that follows `previous`; a mix proves.
    pub fn signed(&self, epoch: u32, previous: &Previous) -> SignedDescriptor {
        let mut descriptor = self.descriptor.clone();
        let input = layer_input(&descriptor.network, epoch, &previous.beacon);
        if descriptor.role == Role::Mix {
            descriptor.vrf_proof = Some(self.vrf().prove(&input).unwrap());
        }
        descriptor.epoch_keys = keys(&descriptor.identity, epoch);
        descriptor.sign(&self.identity).unwrap()
    }
}

fn keys(identity: &[u8; 32], epoch: u32) -> Vec<EpochKey> {
    let key = |epoch: u32| EpochKey {
        epoch,
        public_key: directory::beacon::commit(identity, epoch, &[0; 32]),
    };
    vec![key(epoch), key(epoch + 1)]
}

/// Node `number`, its own operator in its own /24.
pub fn node(number: u16, role: Role) -> Member {
    let mut rng = rng(1_000 + u64::from(number));
    let identity = Identity::generate(&mut rng);
    let mut key = || {
        let mut bytes = [0; 32];
        rng.fill_bytes(&mut bytes);
        bytes
    };
    let [high, low] = number.to_be_bytes();
    let descriptor = Descriptor {
        network: *authority().chain().network(),
        identity: identity.public(),
        role,
        operator: format!("operator-{number}"),
        addresses: vec![([10, high, low, 1], 9_000).into()],
        link: LinkKey {
            x25519: key(),
            kem: Box::new([u8::try_from(number % 256).unwrap(); 1_184]),
        },
        epoch_keys: keys(&identity.public(), 0),
        capacity_pps: 1_000,
        vrf_key: [0; 32],
        vrf_proof: None,
        flags: 0,
        published_unix_ms: 5,
    };
    let mut member = Member {
        identity,
        descriptor,
        vrf_number: 1,
    };
    member.use_vrf(1);
    member
}

/// `gateways` gateways, then `mixes` mixes.
pub fn nodes(gateways: u16, mixes: u16) -> Vec<Member> {
    (0..gateways + mixes)
        .map(|number| {
            let role = if number < gateways {
                Role::Gateway
            } else {
                Role::Mix
            };
            node(number, role)
        })
        .collect()
}

/// A network that these authorities found together.
pub fn chain_of(parameters: Parameters, keys: &[Identity]) -> Chain {
    // On one host, where nodes may have any address.
    let reached = (1..).map(|number| ([127, 0, 0, number], 7_070).into());
    let authorities: Vec<_> = keys.iter().zip(reached).collect();
    Chain::founded_by(parameters, &authorities).unwrap()
}

/// The vote of the authority with this key, which admits everyone.
pub fn vote_of(
    key: &Identity,
    chain: &Chain,
    previous: Option<&Consensus>,
    epoch: u32,
    descriptors: &[SignedDescriptor],
    reports: &[SignedReport],
) -> SignedVote {
    let ballot = Ballot {
        chain,
        previous,
        epoch,
        admission: &Admission::Open,
        descriptors,
        reports,
        owners: &Owners::default(),
    };
    ballot.vote(key).unwrap()
}

pub fn authority() -> Authority {
    Authority::found(Identity::from_bytes(&[7; 32]), PARAMETERS).unwrap()
}

/// The document of `epoch` with these members.
pub fn document(
    previous: Option<&Consensus>,
    epoch: u32,
    members: &[Member],
) -> (SignedConsensus, Consensus) {
    let authority = authority();
    let before = previous.map_or_else(Previous::default, Consensus::as_previous);
    let signed: Vec<_> = members
        .iter()
        .map(|one| one.signed(epoch, &before))
        .collect();
    let document = authority.make(previous, epoch, &signed).unwrap();
    let held: Vec<&Consensus> = previous.into_iter().collect();
    let held = Held {
        documents: &held,
        ..Held::default()
    };
    let consensus = document.verify(authority.chain(), &held).unwrap();
    (document, consensus)
}

/// A network's first document.
pub fn consensus(members: Vec<Member>) -> Consensus {
    document(None, 0, &members).1
}
