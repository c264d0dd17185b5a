//! Letters that measure a laboratory's network: each is one packet with a number in it, and nothing answers it.

use std::collections::VecDeque;

use rand_core::Rng;
use sphinx::{BODY_BYTES, DestinationTag, REPLY_BYTES};

use crate::address::Address;
use crate::carrier::{Letter, Packets, Reply, Service, Token};

const NUMBER_BYTES: usize = 8;
const TAG_BYTES: usize = 16;

/// What tells a probe from everything else: a MAC of its number under a key of the run.
fn tag(key: &[u8; 32], number: &[u8; NUMBER_BYTES]) -> [u8; TAG_BYTES] {
    let hash = blake3::keyed_hash(key, number);
    let mut tag = [0; TAG_BYTES];
    tag.copy_from_slice(&hash.as_bytes()[..TAG_BYTES]);
    tag
}

/// The probes of one client, both ways.
#[derive(Default)]
pub(crate) struct Probes {
    /// Without one nothing is taken for a probe.
    key: Option<[u8; 32]>,
    /// The one in line.
    waiting: Option<([u8; 32], DestinationTag, u64)>,
    arrived: VecDeque<u64>,
}

impl Probes {
    /// From now on probes are made and known by this key.
    pub(crate) fn set_key(&mut self, key: [u8; 32]) {
        self.key = Some(key);
    }

    /// Puts one in line, unless one is there already.
    pub(crate) fn send(&mut self, to: &Address, number: u64) -> bool {
        let is_free = self.key.is_some() && self.waiting.is_none();
        if is_free {
            self.waiting = Some((to.gateway, to.destination, number));
        }
        is_free
    }

    /// The next that arrived.
    pub(crate) fn arrived(&mut self) -> Option<u64> {
        self.arrived.pop_front()
    }
}

impl Service for Probes {
    fn tick(&mut self, _now_ns: u64, _epoch: Option<u32>) {}

    fn reply(&mut self, _now_ns: u64, _packets: &Packets<'_>) -> Option<Reply> {
        None
    }

    fn letter(&mut self, _now_ns: u64, packets: &mut Packets<'_>) -> Option<Letter> {
        let key = self.key.as_ref()?;
        let (gateway, destination, number) = self
            .waiting
            .take_if(|(gateway, ..)| packets.reaches(gateway))?;
        let number = number.to_le_bytes();
        let mut body = [0; BODY_BYTES];
        packets.generator().fill_bytes(&mut body);
        body[..NUMBER_BYTES].copy_from_slice(&number);
        body[NUMBER_BYTES..NUMBER_BYTES + TAG_BYTES].copy_from_slice(&tag(key, &number));
        Some(Letter {
            gateway,
            destination,
            body,
        })
    }

    fn on_body(&mut self, body: &[u8; BODY_BYTES], _now_ns: u64) -> bool {
        let (Some(key), Some((number, rest))) = (&self.key, body.split_first_chunk()) else {
            return false;
        };
        let is_probe = rest.starts_with(&tag(key, number));
        if is_probe {
            self.arrived.push_back(u64::from_le_bytes(*number));
        }
        is_probe
    }

    fn on_reply(&mut self, _token: Token, _plaintext: &[u8; REPLY_BYTES], _now_ns: u64) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_probe_waits_at_a_time_and_only_those_of_the_run_are_known() {
        let to = Address {
            gateway: [1; 32],
            destination: [2; 16],
            x25519: [3; 32],
            kem_hash: [4; 32],
        };
        let mut probes = Probes::default();
        assert!(!probes.send(&to, 1), "without a key");
        probes.set_key([5; 32]);
        assert!(probes.send(&to, 7));
        assert!(!probes.send(&to, 8), "one is in line");

        let mut body = [9; BODY_BYTES];
        body[..8].copy_from_slice(&7u64.to_le_bytes());
        body[8..24].copy_from_slice(&tag(&[5; 32], &7u64.to_le_bytes()));
        assert!(probes.on_body(&body, 0));
        body[0] ^= 1;
        assert!(!probes.on_body(&body, 0), "another number");
        body[0] ^= 1;
        probes.set_key([6; 32]);
        assert!(!probes.on_body(&body, 0), "another run's");
        assert_eq!((probes.arrived(), probes.arrived()), (Some(7), None));
    }
}
