//! The packets in `vectors/`: what they hold, and how they are made.
//!
//! Good packets come from the crate; the reference implementation beside this file supplies every intermediate
//! value and the packets that must be rejected.

use super::reference::{self, Keys, RawHop};
use super::script::Script;
use super::{Network, hex, open_one, rng};
use rand_core::Rng;
use serde::{Deserialize, Serialize};
use sphinx::{
    BODY_BYTES, HOPS_MAX, PACKET_BYTES, REPLY_BYTES, Terminal, surb_create, surb_use, wrap,
};

/// The bound the rejected packets are opened with, in microseconds.
pub const DELAY_MAX_US: u32 = super::DELAY_MAX_US;

/// A hop: what it is made of, what it computes, and the packet it receives. All bytes in hexadecimal.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Hop {
    pub node: u16,
    pub delay_us: u32,
    pub secret: String,
    pub public_key: String,
    pub ephemeral_secret: String,
    pub kem_ciphertext: String,
    pub shared_secret: String,
    pub mac_key: String,
    pub stream_key: String,
    pub body_key: String,
    pub replay_tag: String,
    pub block: String,
    pub packet: String,
}

/// A packet from its sender to its last hop.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Forward {
    pub name: String,
    pub command: String,
    pub destination: String,
    pub id: String,
    pub padding: String,
    pub body: String,
    pub hops: Vec<Hop>,
    pub last_body: String,
}

/// A reply block, the reply packet on its way, and what its creator reads.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    pub name: String,
    pub epoch: u32,
    pub destination: String,
    pub id: String,
    pub padding: String,
    pub replier_key: String,
    pub surb: String,
    pub plaintext: String,
    pub hops: Vec<Hop>,
    pub last_body: String,
}

/// A packet that its hop must refuse.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Rejected {
    pub name: String,
    pub reason: String,
    pub secret: String,
    pub delay_max_us: u32,
    /// Whether the hop has opened this very packet before.
    pub seen_before: bool,
    pub packet: String,
}

/// What is drawn for a path: ephemeral secrets and padding.
struct Draws {
    ephemerals: Vec<[u8; 32]>,
    padding: Vec<u8>,
}

impl Draws {
    fn new(hops: usize, seed: u64) -> Self {
        let mut rng = rng(seed);
        let mut ephemerals = vec![[0; 32]; hops];
        ephemerals
            .iter_mut()
            .for_each(|secret| rng.fill_bytes(secret));
        let mut padding = vec![0; 224 - 56 * (hops - 1)];
        rng.fill_bytes(&mut padding);
        Self {
            ephemerals,
            padding,
        }
    }

    fn script(&self, more: &[u8]) -> Script {
        Script::new([&self.ephemerals.concat()[..], &self.padding, more].concat())
    }
}

/// Sends `packet` through the network and records every hop; the packet ends as the last hop leaves it.
fn travel(network: &Network, draws: &Draws, packet: &mut [u8; PACKET_BYTES]) -> Vec<Hop> {
    let hop = |index: usize, packet: &mut [u8; PACKET_BYTES]| {
        let (keys, plain) = reference::view(&network.bytes[index], packet);
        let Keys {
            shared_secret,
            mac_key,
            stream_key,
            body_key,
            replay_tag,
        } = keys;
        let hop = &network.path[index];
        let block = if index + 1 == network.path.len() {
            &plain[..32]
        } else {
            &plain[..56]
        };
        let record = Hop {
            node: hop.node,
            delay_us: hop.delay_us,
            secret: hex(&network.bytes[index]),
            public_key: hex(&hop.public_key),
            ephemeral_secret: hex(&draws.ephemerals[index]),
            kem_ciphertext: hex(&packet[..32]),
            shared_secret: hex(&shared_secret),
            mac_key: hex(&mac_key),
            stream_key: hex(&stream_key),
            body_key: hex(&body_key),
            replay_tag: hex(&replay_tag),
            block: hex(block),
            packet: hex(packet),
        };
        open_one(packet, &network.secrets[index]).unwrap();
        record
    };
    (0..network.path.len())
        .map(|index| hop(index, packet))
        .collect()
}

/// One packet of every path length for a client, and a node's loop and cover.
pub fn forward() -> Vec<Forward> {
    let deliver = |hops: usize| {
        let terminal = Terminal::Deliver {
            destination: [0xd0 + hops as u8; 16],
            id: [0x1d; 8],
        };
        (
            format!("delivery over {hops} hops"),
            hops,
            terminal,
            super::body(hops as u64),
        )
    };
    let mut loop_body = super::body(6);
    loop_body[..16].fill(0);
    let mut cases: Vec<_> = (1..=HOPS_MAX).map(deliver).collect();
    cases.push((
        "a node's loop over 4 hops".into(),
        4,
        Terminal::Loop { id: [0x10; 8] },
        loop_body,
    ));
    cases.push((
        "cover over 2 hops".into(),
        2,
        Terminal::Drop,
        [0; BODY_BYTES],
    ));
    let build = |(seed, (name, hops, terminal, body)): (
        usize,
        (String, usize, Terminal, [u8; BODY_BYTES]),
    )| {
        let network = Network::new(hops, &mut rng(1_000 + seed as u64));
        let draws = Draws::new(hops, 2_000 + seed as u64);
        let mut packet = [0; PACKET_BYTES];
        wrap(
            &mut draws.script(&[]),
            &network.path,
            &terminal,
            &body,
            &mut packet,
        )
        .unwrap();
        let (command, destination, id) = match terminal {
            Terminal::Deliver { destination, id } => ("deliver", destination, id),
            Terminal::Loop { id } => ("loop", [0; 16], id),
            Terminal::Drop => ("drop", [0; 16], [0; 8]),
        };
        Forward {
            name,
            command: command.into(),
            destination: hex(&destination),
            id: hex(&id),
            padding: hex(&draws.padding),
            body: hex(&body),
            hops: travel(&network, &draws, &mut packet),
            last_body: hex(&packet[304..]),
        }
    };
    cases.into_iter().enumerate().map(build).collect()
}

/// One reply of every path length.
pub fn replies() -> Vec<Reply> {
    let build = |hops: usize| {
        let network = Network::new(hops, &mut rng(3_000 + hops as u64));
        let draws = Draws::new(hops, 4_000 + hops as u64);
        let (destination, id, key) = ([0xe0 + hops as u8; 16], [0x5b; 8], [0xa0 + hops as u8; 16]);
        let epoch = 0x0a0b_0c00 + hops as u32;
        let (surb, _) = surb_create(
            &mut draws.script(&key),
            &network.path,
            epoch,
            destination,
            id,
        )
        .unwrap();
        let mut plaintext = [0; REPLY_BYTES];
        plaintext.copy_from_slice(&super::body(10 + hops as u64)[..REPLY_BYTES]);
        let mut packet = [0; PACKET_BYTES];
        surb_use(&surb, &plaintext, &mut packet);
        Reply {
            name: format!("reply over {hops} hops"),
            epoch,
            destination: hex(&destination),
            id: hex(&id),
            padding: hex(&draws.padding),
            replier_key: hex(&key),
            surb: hex(surb.as_bytes()),
            plaintext: hex(&plaintext),
            hops: travel(&network, &draws, &mut packet),
            last_body: hex(&packet[304..]),
        }
    };
    (1..=HOPS_MAX).map(build).collect()
}

/// A one-hop packet with a block of the given bytes, under a MAC that holds.
fn crafted(
    secret: &[u8; 32],
    front: [u8; 8],
    rest: [u8; 24],
    body: &[u8; BODY_BYTES],
) -> [u8; PACKET_BYTES] {
    let hop = RawHop {
        public_key: reference::base_multiple(secret),
        ephemeral: [0x77; 32],
        front,
    };
    let padding = Draws::new(1, 5_000).padding;
    reference::wrap(&[hop], &rest, &padding, body)
}

/// Packets that must be refused, and why.
pub fn rejected() -> Vec<Rejected> {
    let secret = [0x42; 32];
    let public = reference::base_multiple(&secret);
    let zero = [0; BODY_BYTES];
    let good = crafted(&secret, reference::front(4, 0, 1_000, 0), [0; 24], &zero);
    let flipped = |byte: usize, mask: u8| {
        let mut packet = good;
        packet[byte] ^= mask;
        packet
    };
    let low_order = |point: [u8; 32]| {
        let mut packet = good;
        packet[..32].copy_from_slice(&point);
        let keys = reference::keys([0; 32], &point, &public);
        packet[32..48].copy_from_slice(&reference::mac(&keys.mac_key, &point, &good[48..304]));
        packet
    };
    let block = |command, flags, delay_us, field, rest| {
        crafted(
            &secret,
            reference::front(command, flags, delay_us, field),
            rest,
            &zero,
        )
    };
    let unused = |at: usize| {
        let mut rest = [0; 24];
        rest[at] = 1;
        rest
    };
    let over = DELAY_MAX_US + 1;
    let mut cases: Vec<_> = super::low_order_points()
        .into_iter()
        .map(|point| {
            (
                format!(
                    "ciphertext of low order, MAC under the zero secret: {}",
                    hex(&point)
                ),
                "LowOrder",
                low_order(point),
            )
        })
        .collect();
    cases.extend(
        [
            ("first bit of the ciphertext flipped", "Mac", flipped(0, 1)),
            (
                "top bit of the ciphertext flipped: the shared secret stays the same",
                "Mac",
                flipped(31, 0x80),
            ),
            ("first bit of the MAC flipped", "Mac", flipped(32, 1)),
            ("last bit of the MAC flipped", "Mac", flipped(47, 0x80)),
            (
                "first bit of the routing block flipped",
                "Mac",
                flipped(48, 1),
            ),
            (
                "last bit of the routing block flipped",
                "Mac",
                flipped(303, 0x80),
            ),
            ("a good packet a second time", "Replay", good),
            (
                "a body bit flipped and the packet seen before",
                "Replay",
                flipped(700, 4),
            ),
            ("command 0", "Command", block(0, 0, 0, 0, [0; 24])),
            ("command 5", "Command", block(5, 0, 0, 0, [0; 24])),
            (
                "command 255, flags and delay wrong as well",
                "Command",
                block(255, 255, u32::MAX, 0, [0; 24]),
            ),
            (
                "flags of a forwarding block",
                "Reserved",
                block(1, 1, 0, 9, [9; 24]),
            ),
            (
                "flags of a delivery",
                "Reserved",
                block(2, 0x80, 0, 0, [9; 24]),
            ),
            (
                "zero field of a delivery",
                "Reserved",
                block(2, 0, 0, 0x0100, [9; 24]),
            ),
            (
                "zero field of a loop",
                "Reserved",
                block(3, 0, 0, 1, [0; 24]),
            ),
            (
                "destination tag of a loop",
                "Reserved",
                block(3, 0, 0, 0, unused(15)),
            ),
            (
                "destination tag of cover",
                "Reserved",
                block(4, 0, 0, 0, unused(0)),
            ),
            (
                "id of cover, delay wrong as well",
                "Reserved",
                block(4, 0, over, 0, unused(23)),
            ),
            (
                "delay of a forwarding block one over the bound",
                "Delay",
                block(1, 0, over, 9, [9; 24]),
            ),
            (
                "delay of a delivery one over the bound",
                "Delay",
                block(2, 0, over, 0, [9; 24]),
            ),
            ("largest delay", "Delay", block(4, 0, u32::MAX, 0, [0; 24])),
            (
                "body of cover altered in its first bit",
                "Body",
                flipped(304, 1),
            ),
            (
                "body of cover altered in its last bit",
                "Body",
                flipped(1199, 0x80),
            ),
            (
                "body of a loop that never had its zeros",
                "Body",
                crafted(
                    &secret,
                    reference::front(3, 0, 0, 0),
                    unused(16),
                    &[1; BODY_BYTES],
                ),
            ),
        ]
        .map(|(name, reason, packet)| (name.to_owned(), reason, packet)),
    );
    cases
        .into_iter()
        .map(|(name, reason, packet)| Rejected {
            name,
            reason: reason.into(),
            secret: hex(&secret),
            delay_max_us: DELAY_MAX_US,
            seen_before: reason == "Replay",
            packet: hex(&packet),
        })
        .collect()
}

/// The files: name and content.
pub fn files() -> [(&'static str, String); 3] {
    fn text<T: Serialize>(cases: &[T]) -> String {
        serde_json::to_string_pretty(cases).unwrap() + "\n"
    }
    [
        ("forward.json", text(&forward())),
        ("reply.json", text(&replies())),
        ("rejected.json", text(&rejected())),
    ]
}
