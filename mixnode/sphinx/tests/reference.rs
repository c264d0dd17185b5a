//! The crate against the plain implementation in `common/reference.rs`, on random paths, packets and rogue blocks.

mod common;

use common::compare::outcomes;
use common::reference::{self, Outcome, RawHop};
use common::script::Script;
use common::{DELAY_MAX_US, open_one};
use proptest::prelude::*;
use sphinx::{
    BODY_BYTES, EpochSecret, PACKET_BYTES, PathHop, Terminal, surb_create, surb_open, surb_use,
    wrap,
};

#[derive(Clone, Debug)]
struct Plan {
    secrets: Vec<[u8; 32]>,
    ephemerals: Vec<[u8; 32]>,
    nodes: Vec<u16>,
    delays: Vec<u32>,
    terminal: u8,
    rest: [u8; 24],
    padding: Vec<u8>,
    body: Vec<u8>,
}

impl Plan {
    fn hops(&self) -> usize {
        self.secrets.len()
    }

    fn path(&self) -> Vec<PathHop> {
        (0..self.hops())
            .map(|index| PathHop {
                public_key: reference::base_multiple(&self.secrets[index]),
                node: self.nodes[index],
                delay_us: self.delays[index],
            })
            .collect()
    }

    fn raw_hops(&self, terminal: u8) -> Vec<RawHop> {
        (0..self.hops())
            .map(|index| RawHop {
                public_key: reference::base_multiple(&self.secrets[index]),
                ephemeral: self.ephemerals[index],
                front: match self.nodes.get(index + 1) {
                    Some(next) => reference::front(1, 0, self.delays[index], *next),
                    None => reference::front(terminal, 0, self.delays[index], 0),
                },
            })
            .collect()
    }

    fn rest(&self) -> [u8; 24] {
        let mut rest = self.rest;
        match self.terminal {
            3 => rest[..16].fill(0),
            4 => rest.fill(0),
            _ => {}
        }
        rest
    }

    fn terminal(&self) -> Terminal {
        let destination = self.rest[..16].try_into().unwrap();
        let id = self.rest[16..].try_into().unwrap();
        match self.terminal {
            2 => Terminal::Deliver { destination, id },
            3 => Terminal::Loop { id },
            _ => Terminal::Drop,
        }
    }

    fn script(&self) -> Vec<u8> {
        [self.ephemerals.concat(), self.padding.clone()].concat()
    }
}

fn plan() -> impl Strategy<Value = Plan> {
    (1usize..=5)
        .prop_flat_map(|hops| {
            (
                prop::collection::vec(any::<[u8; 32]>(), hops),
                prop::collection::vec(any::<[u8; 32]>(), hops),
                prop::collection::vec(any::<u16>(), hops),
                prop::collection::vec(0..=DELAY_MAX_US, hops),
                2u8..=4,
                any::<[u8; 24]>(),
                prop::collection::vec(any::<u8>(), 224 - 56 * (hops - 1)),
                (
                    prop::collection::vec(any::<u8>(), BODY_BYTES),
                    any::<bool>(),
                ),
            )
        })
        .prop_map(
            |(secrets, ephemerals, nodes, delays, terminal, rest, padding, (mut body, zero))| {
                if zero {
                    body[..16].fill(0);
                }
                Plan {
                    secrets,
                    ephemerals,
                    nodes,
                    delays,
                    terminal,
                    rest,
                    padding,
                    body,
                }
            },
        )
}

/// What the crate makes of one packet.
fn outcome(packet: &mut [u8; PACKET_BYTES], secret: &[u8; 32]) -> Outcome {
    outcomes(std::slice::from_mut(packet), secret).remove(0)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn both_implementations_wrap_to_the_same_bytes_and_open_them_alike_at_every_hop(plan in plan()) {
        let mut script = Script::new(plan.script());
        let mut packet = [0; PACKET_BYTES];
        let body: [u8; BODY_BYTES] = plan.body.clone().try_into().unwrap();
        wrap(&mut script, &plan.path(), &plan.terminal(), &body, &mut packet).unwrap();
        prop_assert!(script.is_empty());
        let theirs = reference::wrap(&plan.raw_hops(plan.terminal), &plan.rest(), &plan.padding, &plan.body);
        prop_assert_eq!(&packet[..], &theirs[..]);
        for secret in &plan.secrets {
            let theirs = reference::unwrap(secret, &packet, DELAY_MAX_US);
            prop_assert_eq!(outcome(&mut packet, secret), theirs);
        }
    }

    #[test]
    fn both_implementations_agree_on_reply_blocks_and_replies(plan in plan(), key in any::<[u8; 16]>()) {
        let mut script = Script::new([plan.script(), key.to_vec()].concat());
        let (tag, id) = (plan.rest[..16].try_into().unwrap(), plan.rest[16..].try_into().unwrap());
        let (surb, secret) = surb_create(&mut script, &plan.path(), 0x0102_0304, tag, id).unwrap();
        let hops = plan.raw_hops(2);
        let header = reference::header(&hops, &plan.rest, &plan.padding);
        let expected = [&[4, 3, 2, 1][..], &plan.nodes[0].to_le_bytes(), &header, &key].concat();
        prop_assert_eq!(&surb.as_bytes()[..], &expected[..]);

        let plaintext = plan.body[16..].try_into().unwrap();
        let mut packet = [0; PACKET_BYTES];
        surb_use(&surb, &plaintext, &mut packet);
        let sealed = reference::encrypt_body(&key, &[&[0; 16][..], &plaintext].concat());
        prop_assert_eq!(&packet[..], &[header, sealed].concat()[..]);
        for secret in &plan.secrets {
            open_one(&mut packet, &EpochSecret::from_bytes(*secret)).unwrap();
        }
        let mut undone = packet[304..].to_vec();
        for (_, keys) in reference::path_keys(&hops).iter().rev() {
            undone = reference::encrypt_body(&keys.body_key, &undone);
        }
        prop_assert_eq!(&reference::decrypt_body(&key, &undone)[16..], &plaintext[..]);
        prop_assert_eq!(surb_open(&secret, &mut packet[304..].try_into().unwrap()), Ok(plaintext));
    }

    #[test]
    fn both_implementations_give_the_same_verdict_on_any_block_a_rogue_sender_can_write(
        secret in any::<[u8; 32]>(),
        ephemeral in any::<[u8; 32]>(),
        front in (0u8..7, prop_oneof![4 => Just(0u8), 1 => any::<u8>()],
            prop_oneof![3 => 0..=DELAY_MAX_US + 1, 1 => any::<u32>()],
            prop_oneof![3 => Just(0u16), 1 => any::<u16>()]),
        rest in any::<[u8; 24]>(),
        clear in (0usize..=24, any::<bool>()),
        padding in prop::collection::vec(any::<u8>(), 224),
        seed in any::<u64>(),
    ) {
        let (command, flags, delay_us, field) = front;
        let mut rest = rest;
        rest[..clear.0].fill(0);
        let mut body = common::body(seed);
        if clear.1 {
            body[..16].fill(0);
        }
        let hop = RawHop {
            public_key: reference::base_multiple(&secret),
            ephemeral,
            front: reference::front(command, flags, delay_us, field),
        };
        let mut packet = reference::wrap(&[hop], &rest, &padding, &body);
        let theirs = reference::unwrap(&secret, &packet, DELAY_MAX_US);
        prop_assert_eq!(outcome(&mut packet, &secret), theirs);
    }
}
