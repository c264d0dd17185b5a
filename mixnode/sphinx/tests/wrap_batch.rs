//! Packets and reply blocks made in common batches are those made one by one.

mod common;

use arrayvec::ArrayVec;
use common::{Network, body, rng};
use rand_chacha::ChaCha20Rng;
use rand_core::Rng;
use sphinx::lanes::Lanes;
use sphinx::{
    BODY_BYTES, PACKET_BYTES, PathHop, REPLY_BYTES, Surb, SurbSecret, Terminal, WrapError, WrapJob,
    Wrapped, surb_create, surb_open, surb_use, wrap, wrap_batch,
};

const JOBS_MAX: usize = 90;

/// What one job is about.
struct Plan {
    path: Vec<PathHop>,
    terminal: Terminal,
    body: [u8; BODY_BYTES],
    /// A reply block of this epoch in place of a packet.
    epoch: Option<u32>,
}

impl Plan {
    fn random(rng: &mut ChaCha20Rng) -> Self {
        let hops = 1 + rng.next_u32() as usize % 5;
        let drawn = rng.next_u32();
        Self {
            path: Network::new(hops, rng).path,
            terminal: Terminal::Deliver {
                destination: [drawn as u8; 16],
                id: [7; 8],
            },
            body: body(drawn.into()),
            epoch: (drawn & 0x100 == 0).then_some(drawn),
        }
    }

    fn job<'a>(&'a self, packet: &'a mut [u8; PACKET_BYTES]) -> WrapJob<'a> {
        match (&self.terminal, self.epoch) {
            (Terminal::Deliver { destination, id }, Some(epoch)) => WrapJob::Surb {
                path: &self.path,
                epoch,
                destination: *destination,
                id: *id,
            },
            (terminal, _) => WrapJob::Packet {
                path: &self.path,
                terminal,
                body: &self.body,
                packet,
            },
        }
    }

    /// The same alone.
    fn alone(
        &self,
        rng: &mut ChaCha20Rng,
        packet: &mut [u8; PACKET_BYTES],
    ) -> Result<Wrapped, WrapError> {
        match (&self.terminal, self.epoch) {
            (Terminal::Deliver { destination, id }, Some(epoch)) => {
                surb_create(rng, &self.path, epoch, *destination, *id)
                    .map(|(surb, secret)| Wrapped::Surb(surb, secret))
            }
            (terminal, _) => {
                wrap(rng, &self.path, terminal, &self.body, packet).map(|()| Wrapped::Packet)
            }
        }
    }
}

fn same_reply_block((surb, secret): &(Surb, SurbSecret), (other, others): &(Surb, SurbSecret)) {
    assert_eq!(surb.as_bytes(), other.as_bytes());
    let (mut packet, mut body) = ([0; PACKET_BYTES], [0; BODY_BYTES]);
    surb_use(surb, &[9; REPLY_BYTES], &mut packet);
    // With no hop in between both secrets must garble the body alike.
    body.copy_from_slice(&packet[PACKET_BYTES - BODY_BYTES..]);
    let mut twin = body;
    assert_eq!(surb_open(secret, &mut body), surb_open(others, &mut twin));
    assert_eq!(body, twin);
}

fn same_as_alone(lanes: Lanes, plans: &[Plan], seed: u64) {
    let (mut together, mut one_by_one) = (rng(seed), rng(seed));
    let mut packets = vec![[0; PACKET_BYTES]; plans.len()];
    let mut jobs: Vec<_> = plans
        .iter()
        .zip(&mut packets)
        .map(|(plan, packet)| plan.job(packet))
        .collect();
    let mut results = ArrayVec::<_, JOBS_MAX>::new();
    wrap_batch(lanes, &mut together, &mut jobs, &mut results);
    assert_eq!(results.len(), plans.len());
    for ((plan, packet), result) in plans.iter().zip(&packets).zip(results) {
        let mut expected = [0; PACKET_BYTES];
        match (result, plan.alone(&mut one_by_one, &mut expected)) {
            (Ok(Wrapped::Packet), Ok(Wrapped::Packet)) => assert!(*packet == expected),
            (Ok(Wrapped::Surb(surb, secret)), Ok(Wrapped::Surb(other, others))) => {
                same_reply_block(&(surb, secret), &(other, others));
            }
            (result, expected) => assert_eq!(result.err(), Some(expected.err().unwrap())),
        }
    }
    assert_eq!(together.next_u64(), one_by_one.next_u64());
}

#[test]
fn a_batch_of_any_length_gives_the_bytes_of_single_calls_with_the_same_randomness() {
    let mut plans = rng(1);
    for lanes in Lanes::available() {
        for count in (0..=14).chain([40, JOBS_MAX]) {
            let plans: Vec<_> = (0..count).map(|_| Plan::random(&mut plans)).collect();
            same_as_alone(lanes, &plans, count as u64);
        }
    }
}

#[test]
fn a_bad_path_fails_alone_and_for_its_own_reason() {
    let mut drawn = rng(2);
    let mut plans: Vec<_> = (0..12).map(|_| Plan::random(&mut drawn)).collect();
    plans[1].path.clear();
    plans[4].path = Network::new(6, &mut drawn).path;
    plans[7].path[0].public_key = [0; 32];
    same_as_alone(Lanes::detect(), &plans, 3);
}

#[test]
fn jobs_beyond_the_room_for_results_are_left_alone() {
    let mut drawn = rng(4);
    let plans: Vec<_> = (0..5).map(|_| Plan::random(&mut drawn)).collect();
    let mut packets = [[0xa5; PACKET_BYTES]; 5];
    let mut jobs: Vec<_> = plans
        .iter()
        .zip(&mut packets)
        .map(|(plan, packet)| plan.job(packet))
        .collect();
    let mut results = ArrayVec::<_, 3>::new();
    wrap_batch(Lanes::detect(), &mut drawn, &mut jobs, &mut results);
    assert!(results.len() == 3 && results.iter().all(Result::is_ok));
    assert_eq!(packets[3..], [[0xa5; PACKET_BYTES]; 2]);
}
