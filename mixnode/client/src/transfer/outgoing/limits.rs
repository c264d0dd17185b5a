//! Every bound of the sender's side, reached on purpose.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

use super::*;
use crate::identity::Identity;

const MS: u64 = 1_000_000;

/// A transfer of so many chunks to somebody whose key is known.
fn outgoing(chunks: u32, rng: &mut ChaCha20Rng) -> Outgoing {
    let bob = Identity::generate(rng);
    let mailbox = link::ClientKeys::generate(rng);
    let data = vec![7; chunks as usize * CHUNK_BYTES];
    let manifest = Manifest {
        transfer: [1; 16],
        size: data.len() as u64,
        hash: [0; 32],
        name: Vec::new(),
    };
    let key = Some(Box::new(*bob.kem_public()));
    let address = bob.address([2; 32], &mailbox);
    Outgoing::new(address, manifest, Box::new(data), key, (1_000.0, 1_000))
}

/// Fills a slot a millisecond; how many held something.
fn slots(outgoing: &mut Outgoing, rng: &mut ChaCha20Rng, from_ms: u64, count: u64) -> usize {
    let mut blocks = ChaCha20Rng::seed_from_u64(from_ms);
    let mut surbs = |_: Purpose, count| {
        let mut surbs = vec![[0; SURB_BYTES]; count];
        surbs.iter_mut().for_each(|surb| blocks.fill_bytes(surb));
        Some(surbs)
    };
    (from_ms..from_ms + count)
        .filter(|at_ms| outgoing.next((at_ms * MS, 7), &mut surbs, rng).is_some())
        .count()
}

fn ack(outgoing: &Outgoing, base: u32) -> Ack {
    Ack {
        transfer: outgoing.manifest.transfer,
        state: TransferState::Partial,
        generation: 0,
        base,
        highest: 0,
        received: 0,
        bitmap: Vec::new(),
    }
}

#[test]
fn a_silent_recipient_gets_a_bounded_number_of_chunks_and_then_probes_alone() {
    let rng = &mut ChaCha20Rng::seed_from_u64(1);
    let mut outgoing = outgoing(1_000, rng);
    slots(&mut outgoing, rng, 0, 60_000);
    assert_eq!(outgoing.phase, Phase::Waiting);
    assert_eq!(outgoing.early, UNCONFIRMED_MAX);
    assert_eq!(outgoing.next_new, UNCONFIRMED_MAX);
    // Probes alone: rounds of forty-eight packets, the longest pauses between them.
    let pause_ns = (outgoing.trip.timeout_ns() * 9 / 2).min(4_000 * MS);
    let rounds = (60_000 * MS).div_ceil(pause_ns) as usize;
    let probes = slots(&mut outgoing, rng, 60_000, 60_000);
    assert!((48..=48 * (rounds + 1)).contains(&probes), "{probes}");
}

#[test]
fn chunks_in_flight_are_bounded_when_acknowledgements_stop() {
    let rng = &mut ChaCha20Rng::seed_from_u64(2);
    let mut outgoing = outgoing(10_000, rng);
    slots(&mut outgoing, rng, 0, 20);
    let (heard, serial) = (ack(&outgoing, 0), outgoing.serial);
    outgoing.on_ack(&heard, serial, 20 * MS);
    assert_eq!(outgoing.phase, Phase::Sending);
    let per_timeout = outgoing.rate_pps * outgoing.trip.timeout_ns() as f64 / 5e8;
    let bound = (per_timeout as usize).max(IN_FLIGHT_MIN);
    for at_ms in 20..5_000 {
        slots(&mut outgoing, rng, at_ms, 1);
        assert!(outgoing.in_flight.len() <= bound + UNCONFIRMED_MAX as usize);
    }
}

#[test]
fn the_first_packet_after_a_silence_begins_a_new_session() {
    let rng = &mut ChaCha20Rng::seed_from_u64(7);
    let mut outgoing = outgoing(1_000, rng);
    slots(&mut outgoing, rng, 0, 20);
    let (heard, old) = (ack(&outgoing, 0), outgoing.serial);
    outgoing.on_ack(&heard, old, 20 * MS);
    let mut at_ms = 20;
    while outgoing.phase == Phase::Sending {
        assert_eq!(outgoing.serial, old);
        assert!(at_ms < 60_000, "a silence counts at some time");
        slots(&mut outgoing, rng, at_ms, 1);
        at_ms += 1;
    }
    assert_eq!(outgoing.phase, Phase::Waiting);
    assert_eq!(
        outgoing.serial,
        old + 1,
        "who was started again has forgotten the old one"
    );
}

#[test]
fn the_sender_never_runs_further_ahead_than_a_bitmap_reaches() {
    let rng = &mut ChaCha20Rng::seed_from_u64(3);
    let mut outgoing = outgoing(AHEAD_MAX + 2_000, rng);
    slots(&mut outgoing, rng, 0, 20);
    let serial = outgoing.serial;
    let mut at_ms = 20;
    // The first chunk is missing for ever; everything after it arrives at once.
    while at_ms < 20_000 {
        let mut heard = ack(&outgoing, 0);
        let bits = (outgoing.next_new as usize)
            .div_ceil(8)
            .min(BITMAP_BYTES_MAX);
        heard.bitmap = vec![0xff; bits];
        heard
            .bitmap
            .iter_mut()
            .take(1)
            .for_each(|byte| *byte = 0xfe);
        outgoing.on_ack(&heard, serial, at_ms * MS);
        slots(&mut outgoing, rng, at_ms, 10);
        at_ms += 10;
    }
    assert_eq!(outgoing.acked.base(), 0);
    assert!(outgoing.next_new <= AHEAD_MAX + 1, "{}", outgoing.next_new);
    assert!(outgoing.next_new >= AHEAD_MAX - 8, "{}", outgoing.next_new);
}

#[test]
fn departures_are_remembered_up_to_a_bound() {
    let rng = &mut ChaCha20Rng::seed_from_u64(4);
    let mut outgoing = outgoing(20_000, rng);
    slots(&mut outgoing, rng, 0, 20);
    let serial = outgoing.serial;
    for at_ms in (20..12_000).step_by(10) {
        let heard = ack(&outgoing, outgoing.next_new);
        outgoing.on_ack(&heard, serial, at_ms * MS);
        slots(&mut outgoing, rng, at_ms, 10);
        assert!(outgoing.departures.len() <= DEPARTURES_MAX);
    }
    assert_eq!(outgoing.departures.len(), DEPARTURES_MAX);
    assert!(outgoing.departures_from > 1_000);
}

/// A file that somebody may have changed, and that takes so many further steps to look at.
struct Changing {
    data: Vec<u8>,
    changed: bool,
    steps: u32,
    /// Steps of the look under way.
    step: u32,
    /// Looks at all of it.
    looks: Arc<AtomicU32>,
}

impl Changing {
    fn new(chunks: usize, changed: bool, steps: u32) -> Self {
        Self {
            data: vec![7; chunks * CHUNK_BYTES],
            changed,
            steps,
            step: 0,
            looks: Arc::default(),
        }
    }
}

impl Source for Changing {
    fn read(&mut self, offset: u64, data: &mut [u8]) -> std::io::Result<()> {
        self.data.read(offset, data)
    }

    fn check(&mut self, _manifest: &Manifest, doubted: bool) -> std::io::Result<Option<bool>> {
        if !doubted {
            return Ok(Some(true));
        }
        if self.step < self.steps {
            self.step += 1;
            return Ok(None);
        }
        self.step = 0;
        self.looks.fetch_add(1, Ordering::Relaxed);
        Ok(Some(!self.changed))
    }
}

#[test]
fn a_file_changed_in_place_ends_its_transfer_and_does_not_start_over_for_ever() {
    for (changed, generations, failure) in [
        (true, 1, Failure::Changed),
        (false, GENERATIONS_MAX, Failure::Corrupted),
    ] {
        let rng = &mut ChaCha20Rng::seed_from_u64(5);
        let mut outgoing = outgoing(100, rng);
        outgoing.source = Box::new(Changing::new(100, changed, 0));
        slots(&mut outgoing, rng, 0, 20);
        let serial = outgoing.serial;
        for generation in 1..=generations {
            assert!(!outgoing.is_over(), "generation {generation}");
            let mut heard = ack(&outgoing, 0);
            heard.generation = generation;
            outgoing.on_ack(&heard, serial, 20 * MS);
            slots(&mut outgoing, rng, 20, 1);
        }
        assert_eq!(outgoing.phase, Phase::Failed(failure));
    }
}

#[test]
fn attack_a_recipient_who_starts_over_and_over_has_the_file_looked_at_three_times_in_slots_of_its_own()
 {
    let rng = &mut ChaCha20Rng::seed_from_u64(8);
    let mut outgoing = outgoing(100, rng);
    let source = Changing::new(100, false, 300);
    let looks = Arc::clone(&source.looks);
    outgoing.source = Box::new(source);
    slots(&mut outgoing, rng, 0, 20);
    let serial = outgoing.serial;
    let mut sent = 0;
    for at_ms in 20..5_020 {
        let before = looks.load(Ordering::Relaxed);
        let mut heard = ack(&outgoing, 0);
        // The same or a new one with each word.
        heard.generation = (at_ms as u32 / 2_000 + 1).min(GENERATIONS_MAX);
        outgoing.on_ack(&heard, serial, at_ms * MS);
        assert_eq!(before, looks.load(Ordering::Relaxed), "a look at its word");
        sent += slots(&mut outgoing, rng, at_ms, 1);
        let is_looking = (at_ms - 20) % 2_000 < 250;
        assert!(!is_looking || *outgoing.phase() != Phase::Sending);
    }
    println!("{sent} packets in 5000 slots, {looks:?} looks at all of the file");
    assert_eq!(outgoing.phase, Phase::Failed(Failure::Corrupted));
    assert_eq!(looks.load(Ordering::Relaxed), GENERATIONS_MAX);
    assert!(sent > 500);
}

#[test]
fn a_recipient_without_room_is_asked_now_and_then_and_sent_to_when_there_is() {
    let rng = &mut ChaCha20Rng::seed_from_u64(6);
    let mut outgoing = outgoing(1_000, rng);
    slots(&mut outgoing, rng, 0, 20);
    let serial = outgoing.serial;
    let mut asked = 0;
    for at_ms in (20..60_020).step_by(250) {
        let mut heard = ack(&outgoing, 3);
        heard.state = TransferState::Paused;
        outgoing.on_ack(&heard, serial, at_ms * MS);
        assert_eq!(outgoing.phase, Phase::Paused);
        asked += slots(&mut outgoing, rng, at_ms, 250);
    }
    assert!(
        (100..2_000).contains(&asked),
        "{asked} questions in a minute"
    );
    let heard = ack(&outgoing, 3);
    outgoing.on_ack(&heard, serial, 60_020 * MS);
    assert_eq!(outgoing.phase, Phase::Sending);
    assert!(slots(&mut outgoing, rng, 60_020, 100) > 50);
}

#[test]
fn at_a_turn_reply_blocks_come_twice_as_often_however_long_the_name_is() {
    // A packet has room for two blocks beside the short name, for one beside the long one.
    for (name_bytes, blocks) in [(0, 2), (255, 1)] {
        let rng = &mut ChaCha20Rng::seed_from_u64(7);
        let mut asked = [0; 2];
        for at_turn in [false, true] {
            let mut outgoing = outgoing(10_000, rng);
            outgoing.manifest.name = vec![b'a'; name_bytes];
            slots(&mut outgoing, rng, 0, 20);
            let serial = outgoing.serial;
            outgoing.at_turn = at_turn;
            for at_ms in 20..1_020 {
                let mut heard = ack(&outgoing, outgoing.next_new);
                heard.highest = at_ms;
                heard.received = at_ms + 1;
                outgoing.on_ack(&heard, serial, at_ms * MS);
                let mut surbs = |_: Purpose, count| {
                    assert_eq!(count, blocks);
                    asked[usize::from(at_turn)] += 1;
                    Some(vec![[0; SURB_BYTES]; count])
                };
                outgoing.next((at_ms * MS, 7), &mut surbs, rng);
            }
        }
        println!("a name of {name_bytes} bytes: packets of reply blocks {asked:?}");
        assert!(asked[0] > 25 && asked[1] > asked[0] * 7 / 4);
    }
}

#[test]
fn a_transfer_that_takes_anothers_place_says_so_four_times() {
    let rng = &mut ChaCha20Rng::seed_from_u64(9);
    let mut outgoing = outgoing(1_000, rng);
    outgoing.given_up = vec![[3; 16]; 4].into();
    slots(&mut outgoing, rng, 0, 60);
    assert_eq!(outgoing.given_up.len(), 3, "once in the first round");
    let serial = outgoing.serial;
    for at_ms in 60..400 {
        let heard = ack(&outgoing, outgoing.next_new);
        outgoing.on_ack(&heard, serial, at_ms * MS);
        slots(&mut outgoing, rng, at_ms, 1);
    }
    assert!(outgoing.given_up.is_empty());
}
