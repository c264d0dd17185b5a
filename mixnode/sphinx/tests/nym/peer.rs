//! The two releases of `sphinx-packet`, behind one face.

/// What a hop makes of a packet.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    Forward {
        packet: Vec<u8>,
        next: [u8; 32],
        delay_ns: u64,
    },
    Final {
        address: [u8; 32],
        identifier: [u8; 16],
        payload: Vec<u8>,
    },
}

/// A path, whom it leads to, and what is said.
pub struct Case {
    pub version: u16,
    pub secrets: Vec<[u8; 32]>,
    pub path: Vec<sphinx::nym::PathHop>,
    pub destination: sphinx::nym::Destination,
    pub message: Vec<u8>,
    pub payload_bytes: usize,
}

/// A reply block, and what its creator needs to read the answer, if anything.
pub type Made = (Vec<u8>, Option<Vec<u8>>);

/// A release of the peer.
pub struct Peer {
    pub name: &'static str,
    /// Versions it can make forward packets of.
    pub versions: &'static [u16],
    /// Versions it can make reply blocks of, of those that we know too.
    pub surb_versions: &'static [u16],
    pub wrap: fn(&Case) -> Vec<u8>,
    pub surb: fn(&Case) -> Made,
    /// The packet that carries the case's message back.
    pub use_surb: fn(&[u8], &Case) -> Vec<u8>,
    pub process: fn(&[u8], &[u8; 32]) -> Option<Outcome>,
    pub message: fn(&[u8]) -> Option<Vec<u8>>,
    /// Reads an answer with what `surb` returned.
    pub recover: fn(&[u8], &[u8]) -> Option<Vec<u8>>,
}

macro_rules! peer {
    ($module:ident, $krate:ident, $name:literal, $versions:expr, $surb_versions:expr, $surb:item, $recover:item) => {
        pub mod $module {
            use super::*;
            use $krate::crypto::{PrivateKey, PublicKey};
            use $krate::header::delays::Delay;
            use $krate::packet::ProcessedPacketData;
            use $krate::packet::builder::SphinxPacketBuilder;
            use $krate::payload::Payload;
            use $krate::route::{Destination, DestinationAddressBytes, Node, NodeAddressBytes};
            use $krate::surb::{SURB, SURBMaterial};
            use $krate::version::Version;
            use $krate::SphinxPacket;

            pub const PEER: Peer = Peer {
                name: $name,
                versions: &$versions,
                surb_versions: &$surb_versions,
                wrap,
                surb,
                use_surb,
                process,
                message,
                recover,
            };

            fn route(case: &Case) -> Vec<Node> {
                let node = |hop: &sphinx::nym::PathHop| {
                    let address = NodeAddressBytes::from_bytes(hop.address);
                    Node::new(address, PublicKey::from(hop.public_key))
                };
                case.path.iter().map(node).collect()
            }

            fn delays(case: &Case) -> Vec<Delay> {
                let delay = |hop: &sphinx::nym::PathHop| Delay::new_from_nanos(hop.delay_ns);
                case.path.iter().map(delay).collect()
            }

            fn destination(case: &Case) -> Destination {
                let address = DestinationAddressBytes::from_bytes(case.destination.address);
                Destination::new(address, case.destination.identifier)
            }

            fn wrap(case: &Case) -> Vec<u8> {
                SphinxPacketBuilder::new()
                    .with_version(Version::new(case.version))
                    .with_payload_size(case.payload_bytes)
                    .build_packet(&case.message, &route(case), &destination(case), &delays(case))
                    .unwrap()
                    .to_bytes()
            }

            $surb

            fn use_surb(surb: &[u8], case: &Case) -> Vec<u8> {
                let surb = SURB::from_bytes(surb).unwrap();
                let (packet, first) = surb.use_surb(&case.message, case.payload_bytes).unwrap();
                assert_eq!(first.to_bytes(), case.path[0].address);
                packet.to_bytes()
            }

            fn process(packet: &[u8], secret: &[u8; 32]) -> Option<Outcome> {
                let packet = SphinxPacket::from_bytes(packet).ok()?;
                let data = packet.process(&PrivateKey::from(*secret)).ok()?.data;
                Some(match data {
                    ProcessedPacketData::ForwardHop {
                        next_hop_packet,
                        next_hop_address,
                        delay,
                    } => Outcome::Forward {
                        packet: next_hop_packet.to_bytes(),
                        next: next_hop_address.to_bytes(),
                        delay_ns: delay.to_nanos(),
                    },
                    ProcessedPacketData::FinalHop {
                        destination,
                        identifier,
                        payload,
                    } => Outcome::Final {
                        address: destination.as_bytes(),
                        identifier,
                        payload: payload.as_bytes().to_vec(),
                    },
                })
            }

            fn message(payload: &[u8]) -> Option<Vec<u8>> {
                Payload::from_bytes(payload).ok()?.recover_plaintext().ok()
            }

            $recover
        }
    };
}

peer!(
    v06,
    sphinx_packet_06,
    "sphinx-packet 0.6.0",
    [258, 259],
    [259],
    fn surb(case: &Case) -> Made {
        let surb = SURBMaterial::new(route(case), delays(case), destination(case))
            .with_version(Version::new(case.version))
            .construct_SURB()
            .unwrap();
        (surb.to_bytes(), None)
    },
    fn recover(_: &[u8], _: &[u8]) -> Option<Vec<u8>> {
        None
    }
);

peer!(
    v08,
    sphinx_packet_08,
    "sphinx-packet 0.8.0",
    [258, 259, 260],
    [259, 260],
    fn surb(case: &Case) -> Made {
        let version = Version::new(case.version);
        let material = SURBMaterial::new(route(case), delays(case), destination(case), version);
        if version.uses_single_seed_surb() {
            let (surb, recovery) = material.construct_recoverable_SURB().unwrap();
            (surb.to_bytes(), Some(recovery.to_bytes()))
        } else {
            (material.construct_SURB().unwrap().to_bytes(), None)
        }
    },
    fn recover(recovery: &[u8], payload: &[u8]) -> Option<Vec<u8>> {
        sphinx_packet_08::surb::SurbReplyRecovery::from_bytes(recovery)
            .unwrap()
            .recover_plaintext(Payload::from_bytes(payload).ok()?)
            .ok()
    }
);

pub const PEERS: [Peer; 2] = [v06::PEER, v08::PEER];
