//! The attack of a correspondent with a tap: whatever of a client's clock or order of work is in a message, he finds
//! again on the wire, and knows which of hundreds of clients is his partner. So nothing of it may be there.

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use sphinx::{BODY_BYTES, REPLY_BYTES, SURB_BYTES};

use super::content::{Ack, Answer, CHUNK_BYTES, Manifest};
use super::incoming::Incoming;
use super::outgoing::{Outgoing, Purpose};
use crate::carrier::Use;
use crate::identity::Identity;
use crate::store::MemoryStorage;

const MS: u64 = 1_000_000;

/// All that two ends give out in one exchange.
#[derive(Debug, PartialEq, Eq)]
struct Said {
    bodies: Vec<[u8; BODY_BYTES]>,
    answers: Vec<[u8; REPLY_BYTES]>,
}

/// Both ends of a transfer of 40 chunks, with the same random numbers each time.
struct Exchange {
    rng: ChaCha20Rng,
    blocks: ChaCha20Rng,
    bob: Identity,
    outgoing: Outgoing,
    incoming: Incoming,
    now_ns: u64,
}

impl Exchange {
    fn new(clock_ms: u64) -> Self {
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        let bob = Identity::generate(&mut rng);
        let mailbox = link::ClientKeys::generate(&mut rng);
        let data = vec![7; 40 * CHUNK_BYTES];
        let manifest = Manifest {
            transfer: [1; 16],
            size: data.len() as u64,
            hash: *blake3::hash(&data).as_bytes(),
            name: "file".into(),
        };
        let key = Some(Box::new(*bob.kem_public()));
        let address = bob.address([2; 32], &mailbox);
        let pace = (1_000.0, 1_000);
        let mut incoming = Incoming::new(Box::new(MemoryStorage::new(1 << 20)), (1_000, 1_200_000));
        incoming.tick(0, 7);
        Self {
            outgoing: Outgoing::new(address, manifest, Box::new(data), key, pace),
            incoming,
            bob,
            blocks: ChaCha20Rng::seed_from_u64(2),
            rng,
            now_ns: clock_ms * MS,
        }
    }

    fn bodies(&mut self, count: usize) -> Vec<[u8; BODY_BYTES]> {
        let blocks = &mut self.blocks;
        let mut surbs = |_: Purpose, count| {
            let mut surbs = vec![[0; SURB_BYTES]; count];
            surbs.iter_mut().for_each(|surb| blocks.fill_bytes(surb));
            Some(surbs)
        };
        let mut bodies = Vec::new();
        while bodies.len() < count {
            self.now_ns += MS;
            let next = self
                .outgoing
                .next((self.now_ns, 7), &mut surbs, &mut self.rng);
            bodies.extend(next);
        }
        bodies
    }

    fn take(&mut self, body: &[u8; BODY_BYTES]) {
        self.now_ns += MS;
        self.incoming.receive(&self.bob, body, self.now_ns);
    }

    fn answer(&mut self) -> [u8; REPLY_BYTES] {
        let reply = self
            .incoming
            .next_reply(&self.bob, self.now_ns, &|_| Use::Now);
        reply.expect("an answer is owed").plaintext
    }

    /// Ten bodies there; after a pause an answer back, which the sender takes; and so on.
    fn run(mut self, pause_ms: u64) -> Said {
        let (mut bodies, mut answers) = (Vec::new(), Vec::new());
        for _ in 0..3 {
            let sent = self.bodies(10);
            sent.iter().for_each(|body| self.take(body));
            bodies.extend(sent);
            self.now_ns += pause_ms * MS;
            self.incoming.tick(self.now_ns, 7);
            let answer = self.answer();
            if let Some(Answer::Ack(ack)) = Answer::decode(&answer) {
                self.outgoing.on_ack(&ack, 1, self.now_ns);
            }
            answers.push(answer);
        }
        Said { bodies, answers }
    }
}

#[test]
fn a_correspondent_with_a_tap_finds_no_clock_in_what_he_gets() {
    let now = Exchange::new(0).run(20);
    let later = Exchange::new(123_456).run(20);
    assert_eq!(now.bodies.len(), 30);
    assert!(now == later, "what is sent depends on the clock");
}

#[test]
fn a_correspondent_with_a_tap_does_not_learn_how_long_an_answer_was_held() {
    let answers = |pause_ms| Exchange::new(0).run(pause_ms).answers;
    assert!(answers(20) == answers(27), "an answer tells of the wait");
}

#[test]
fn a_correspondent_with_a_tap_does_not_learn_in_which_order_his_packets_arrived() {
    let answer_after = |order: &[usize]| {
        let mut exchange = Exchange::new(0);
        let bodies = exchange.bodies(10);
        order.iter().for_each(|at| exchange.take(&bodies[*at]));
        exchange.now_ns += 20 * MS;
        exchange.answer()
    };
    let forth = answer_after(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    let back = answer_after(&[1, 0, 9, 8, 7, 6, 5, 4, 3, 2]);
    assert!(forth == back, "an answer tells of the order");
}

#[test]
fn the_format_has_no_field_for_a_time() {
    let mut exchange = Exchange::new(0);
    let bodies = exchange.bodies(10);
    bodies.iter().for_each(|body| exchange.take(body));
    exchange.now_ns += 20 * MS;
    let Some(Answer::Ack(ack)) = Answer::decode(&exchange.answer()) else {
        panic!("no acknowledgement");
    };
    // Whoever adds a field must name it here.
    let Ack {
        transfer: _,
        state: _,
        generation: _,
        base: _,
        highest: _,
        received: _,
        bitmap: _,
    } = ack;
    let format = include_str!("content.rs");
    for word in ["unix", "_ms", "_us", "_ns", "µs", "sent at", "Instant"] {
        assert!(!format.contains(word), "the format speaks of {word}");
    }
}
