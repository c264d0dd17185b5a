//! Every bound of the recipient's side, reached on purpose.

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use sphinx::SURB_BYTES;

use super::*;
use crate::carrier::{Reply, Use};
use crate::store::{MemoryStorage, Once};
use crate::transfer::content::{Answer, write_content};
use crate::transfer::session::{CONTENT_BYTES, STRANGERS_MAX, SendingSession};

mod disk;
mod finishing;
mod flood;
mod full_disk;
mod given_up;
mod removed;
mod reuse;

const EPOCH: u32 = 7;

/// A recipient, and a sender's end of a session with it.
struct Bob {
    rng: ChaCha20Rng,
    identity: Identity,
    incoming: Incoming,
    now_ns: u64,
}

impl Bob {
    fn new(seed: u64, file_bytes_max: u64) -> Bob {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let storage = Box::new(MemoryStorage::new(file_bytes_max));
        let mut incoming = Incoming::new(storage, (1_000, 1_200_000));
        incoming.tick(0, EPOCH);
        Bob {
            identity: Identity::generate(&mut rng),
            incoming,
            rng,
            now_ns: 0,
        }
    }

    fn take(&mut self, body: &[u8; BODY_BYTES]) {
        self.now_ns += 1;
        self.incoming.receive(&self.identity, body, self.now_ns);
    }

    fn take_sealed(&mut self, sealed: &Sealed) {
        let body = sealed.seal(self.identity.x25519(), &mut self.rng).unwrap();
        self.take(&body);
    }

    /// A session whose start bob has not seen.
    fn session(&mut self) -> SendingSession {
        let (x25519, kem) = (self.identity.x25519(), self.identity.kem_public());
        SendingSession::start(x25519, kem, EPOCH, &mut self.rng).unwrap()
    }

    fn start(&mut self, session: &SendingSession) {
        self.take_sealed(&session.half(0));
        self.take_sealed(&session.half(1));
    }

    fn surb(&mut self) -> [u8; SURB_BYTES] {
        let mut surb = [0; SURB_BYTES];
        self.rng.fill_bytes(&mut surb);
        surb
    }

    fn peer(&self) -> &Peer {
        assert_eq!(self.incoming.peers.len(), 1);
        self.incoming.peers.values().next().unwrap()
    }

    fn reply(&mut self) -> Option<Reply> {
        let later_ns = self.now_ns + 1_000_000_000;
        self.incoming
            .next_reply(&self.identity, later_ns, &|_| Use::Now)
    }

    fn open_files(&self) -> usize {
        let open = |file: &&File| matches!(file, File::Open(_));
        self.incoming.files.values().filter(open).count()
    }
}

fn packet(session: &mut SendingSession, fields: &[Field]) -> [u8; BODY_BYTES] {
    let mut content = [0; CONTENT_BYTES];
    write_content(fields, &mut content);
    session.seal(&content).1
}

fn manifest(number: u32, size: u64) -> Manifest {
    let mut transfer = [0; 16];
    transfer[..4].copy_from_slice(&number.to_be_bytes());
    Manifest {
        transfer,
        size,
        hash: [0; 32],
        name: Vec::new(),
    }
}

#[test]
fn key_requests_beyond_the_queue_are_not_answered() {
    let mut bob = Bob::new(1, 0);
    for _ in 0..KEY_ANSWERS_MAX {
        let surbs = vec![bob.surb(), bob.surb()];
        bob.take_sealed(&Sealed::KeyRequest {
            wanted: 3,
            epoch: EPOCH,
            surbs,
        });
    }
    let answers = std::iter::from_fn(|| bob.reply()).count();
    assert_eq!(answers, KEY_ANSWERS_MAX);
}

#[test]
fn the_oldest_reply_blocks_of_a_session_make_room() {
    let mut bob = Bob::new(2, 0);
    let mut session = bob.session();
    bob.start(&session);
    let blocks: Vec<_> = (0..SURBS_MAX + 8).map(|_| bob.surb()).collect();
    for pair in blocks.chunks(2) {
        let surbs = pair.iter().map(|surb| Field::Surb(Box::new(*surb)));
        let mut fields = vec![Field::Manifest(manifest(1, 1))];
        fields.extend(surbs);
        bob.take(&packet(&mut session, &fields));
    }
    assert_eq!(bob.peer().surbs.len(), SURBS_MAX);
    let reply = bob.reply().unwrap();
    assert_eq!(reply.surb.as_bytes(), &blocks[8]);
}

#[test]
fn of_bodies_that_nothing_opens_the_newest_are_kept_for_a_session_to_come() {
    let mut bob = Bob::new(3, 1 << 20);
    let mut session = bob.session();
    let fields = [Field::Manifest(manifest(1, 1))];
    let (forgotten, kept) = (packet(&mut session, &fields), packet(&mut session, &fields));
    bob.take(&forgotten);
    for number in 0..2 * UNKNOWN_MAX {
        if number == UNKNOWN_MAX + 10 {
            bob.take(&kept);
        }
        let mut junk = [0; BODY_BYTES];
        bob.rng.fill_bytes(&mut junk);
        bob.take(&junk);
        assert!(bob.incoming.unknown.len() <= UNKNOWN_MAX);
    }
    bob.start(&session);
    assert_eq!(bob.peer().unanswered, 1, "one of the two was opened");
    assert_eq!(bob.incoming.unknown.len(), UNKNOWN_MAX - 1);
}

#[test]
fn chunks_before_their_manifest_are_kept_up_to_a_bound() {
    let mut bob = Bob::new(4, 1 << 20);
    let mut session = bob.session();
    bob.start(&session);
    let manifest = manifest(1, 100 * CHUNK_BYTES as u64);
    for index in 0..100 {
        let chunk = Field::Chunk {
            transfer: manifest.transfer,
            index,
            data: vec![1; CHUNK_BYTES],
        };
        bob.take(&packet(&mut session, &[chunk]));
    }
    assert_eq!(bob.peer().early.len(), EARLY_MAX);
    bob.take(&packet(&mut session, &[Field::Manifest(manifest.clone())]));
    assert!(bob.peer().early.is_empty());
    let Some(File::Open(open)) = bob.incoming.files.get(&manifest.transfer) else {
        panic!("the file is not open");
    };
    assert_eq!(
        open.chunks.count() as usize,
        EARLY_MAX,
        "the others come again"
    );
}

#[test]
fn of_many_open_files_the_most_silent_is_let_go_and_comes_back_with_its_manifest() {
    let mut bob = Bob::new(5, 1 << 20);
    let mut session = bob.session();
    bob.start(&session);
    for number in 0..=FILES_OPEN_MAX as u32 {
        let manifest = manifest(number, 1);
        bob.now_ns += PAUSE_NS;
        bob.take(&packet(&mut session, &[Field::Manifest(manifest)]));
    }
    let first = manifest(0, 1);
    assert_eq!(bob.open_files(), FILES_OPEN_MAX);
    assert!(!bob.incoming.files.contains_key(&first.transfer));
    bob.take(&packet(&mut session, &[Field::Manifest(first.clone())]));
    assert_eq!(bob.open_files(), FILES_OPEN_MAX);
    assert!(bob.incoming.files.contains_key(&first.transfer));
}

#[test]
fn files_that_are_over_are_remembered_up_to_a_bound() {
    // Takes nothing: every file is refused.
    let mut bob = Bob::new(6, 0);
    let mut session = bob.session();
    bob.start(&session);
    for number in 0..FILES_OVER_MAX as u32 + 100 {
        bob.now_ns += PAUSE_NS;
        bob.take(&packet(
            &mut session,
            &[Field::Manifest(manifest(number, 1))],
        ));
    }
    assert_eq!(bob.open_files(), 0);
    assert_eq!(bob.incoming.files.len(), FILES_OVER_MAX + 1);
}

/// A second of nothing: manifests may come again.
const PAUSE_NS: u64 = 1_000_000_000;

fn chunk(manifest: &Manifest, index: u32) -> Field {
    Field::Chunk {
        transfer: manifest.transfer,
        index,
        data: vec![1; CHUNK_BYTES],
    }
}

#[test]
fn sixty_four_anonymous_session_starts_do_not_evict_the_peer_of_a_running_transfer() {
    let mut bob = Bob::new(7, 1 << 20);
    let mut alice = bob.session();
    bob.start(&alice);
    let manifest = manifest(1, 100 * CHUNK_BYTES as u64);
    bob.take(&packet(&mut alice, &[Field::Manifest(manifest.clone())]));
    bob.take(&packet(&mut alice, &[chunk(&manifest, 0)]));
    for _ in 0..64 {
        let stranger = bob.session();
        bob.start(&stranger);
        assert!(bob.incoming.peers.len() <= STRANGERS_MAX + 1);
    }
    let surb = Field::Surb(Box::new(bob.surb()));
    bob.take(&packet(&mut alice, &[surb, chunk(&manifest, 1)][..1]));
    bob.take(&packet(&mut alice, &[chunk(&manifest, 1)]));
    let reply = bob.reply().expect("the sender is answered");
    let Some(Answer::Ack(ack)) = Answer::decode(&reply.plaintext) else {
        panic!("no acknowledgement");
    };
    assert_eq!((ack.transfer, ack.base), (manifest.transfer, 2));
}

#[test]
fn peers_are_bounded_when_sessions_that_made_room_speak_again() {
    let mut bob = Bob::new(8, 1 << 20);
    let mut sessions: Vec<SendingSession> = (0..1_001).map(|_| bob.session()).collect();
    for session in &sessions {
        bob.start(session);
    }
    for session in &mut sessions {
        let surb = bob.surb();
        bob.take(&packet(session, &[Field::Surb(Box::new(surb))]));
        assert!(bob.incoming.peers.len() <= STRANGERS_MAX);
    }
    assert_eq!(bob.incoming.peers.len(), STRANGERS_MAX);
}

#[test]
fn as_many_sessions_as_open_files_are_kept_besides_those_of_strangers() {
    let mut bob = Bob::new(9, 1 << 20);
    for number in 0..PEERS_MAX as u32 {
        let mut session = bob.session();
        bob.start(&session);
        let manifest = manifest(number, 100 * CHUNK_BYTES as u64);
        bob.now_ns += PAUSE_NS;
        let fields = [Field::Manifest(manifest.clone())];
        bob.take(&packet(&mut session, &fields));
        bob.take(&packet(&mut session, &[chunk(&manifest, 0)]));
    }
    for _ in 0..PEERS_MAX {
        let session = bob.session();
        bob.start(&session);
    }
    assert_eq!(bob.open_files(), FILES_OPEN_MAX);
    assert_eq!(bob.incoming.peers.len(), PEERS_MAX);
}

#[test]
fn a_session_with_reply_blocks_and_no_transfer_does_not_starve_acknowledgements() {
    let mut bob = Bob::new(10, 1 << 20);
    let mut hostile = bob.session();
    bob.start(&hostile);
    for _ in 0..SURBS_MAX {
        let surb = Field::Surb(Box::new(bob.surb()));
        bob.take(&packet(&mut hostile, &[surb]));
    }
    let mut alice = bob.session();
    bob.start(&alice);
    let manifest = manifest(1, 100 * CHUNK_BYTES as u64);
    let surb = Field::Surb(Box::new(bob.surb()));
    bob.take(&packet(&mut alice, &[Field::Manifest(manifest), surb]));
    assert!(bob.reply().is_some(), "the very next answer is alice's");
    assert!(bob.reply().is_none(), "nothing is owed to the other");
}

#[test]
fn one_whose_reply_blocks_can_not_travel_keeps_nobody_behind_it_waiting() {
    let mut bob = Bob::new(11, 1 << 20);
    let mut blocks = Vec::new();
    for number in 0..2 {
        let mut session = bob.session();
        bob.start(&session);
        let block = bob.surb();
        blocks.push(block);
        let fields = [
            Field::Manifest(manifest(number, 100)),
            Field::Surb(Box::new(block)),
        ];
        bob.take(&packet(&mut session, &fields));
    }
    let later_ns = bob.now_ns + PAUSE_NS;
    let dead = |surb: &Surb| match *surb.as_bytes() == blocks[0] {
        true => Use::Never,
        false => Use::Now,
    };
    let reply = bob.incoming.next_reply(&bob.identity, later_ns, &dead);
    assert_eq!(reply.unwrap().surb.as_bytes(), &blocks[1]);
}

#[test]
fn reply_blocks_of_the_next_epoch_wait_for_the_turn_and_old_ones_die_at_it() {
    let mut bob = Bob::new(15, 1 << 20);
    let mut session = bob.session();
    bob.start(&session);
    let blocks = [EPOCH + 1, EPOCH, EPOCH, EPOCH + 1].map(|epoch| {
        let mut block = bob.surb();
        block[..4].copy_from_slice(&epoch.to_le_bytes());
        block
    });
    let mut answers = Vec::new();
    for (number, now) in [EPOCH, EPOCH + 1, EPOCH + 1, EPOCH + 1]
        .into_iter()
        .enumerate()
    {
        let mut fields = vec![Field::Manifest(manifest(1, 100 * CHUNK_BYTES as u64))];
        let sent = blocks.iter().filter(|_| number == 0);
        fields.extend(sent.map(|block| Field::Surb(Box::new(*block))));
        for fields in fields.chunks(2) {
            bob.take(&packet(&mut session, fields));
        }
        bob.now_ns += PAUSE_NS;
        let use_of = |surb: &Surb| match surb.epoch().checked_sub(now) {
            Some(0) => Use::Now,
            Some(_) => Use::Later,
            None => Use::Never,
        };
        let reply = bob.incoming.next_reply(&bob.identity, bob.now_ns, &use_of);
        answers.push(reply.map(|reply| *reply.surb.as_bytes()));
    }
    // One of this epoch; at the turn two of the next are there, and the other of the old one is not used.
    let expected = [Some(blocks[1]), Some(blocks[0]), Some(blocks[3]), None];
    assert!(answers == expected);
}

#[test]
fn manifests_of_new_files_are_looked_at_at_a_bounded_rate() {
    let mut bob = Bob::new(12, 1 << 20);
    let mut session = bob.session();
    bob.start(&session);
    for number in 0..1_000 {
        bob.take(&packet(
            &mut session,
            &[Field::Manifest(manifest(number, 1))],
        ));
    }
    assert_eq!(bob.incoming.files.len() as u32, MANIFESTS.0);
    bob.now_ns += 2 * MANIFESTS.1;
    for number in 2_000..2_100 {
        bob.take(&packet(
            &mut session,
            &[Field::Manifest(manifest(number, 1))],
        ));
    }
    let last = manifest(2_001, 1).transfer;
    assert!(bob.incoming.files.contains_key(&last));
    assert!(
        !bob.incoming
            .files
            .contains_key(&manifest(2_002, 1).transfer)
    );
}

/// The same recipient, killed and started again.
fn restarted(bob: Bob, file_bytes_max: u64) -> Bob {
    let mut storage = MemoryStorage::new(file_bytes_max);
    let mut before = bob.incoming;
    for of in [Once::Body, Once::Block] {
        for (epoch, mark) in before.storage.remembered(of) {
            storage.remember(of, epoch, &mark).unwrap();
        }
    }
    let mut incoming = Incoming::new(Box::new(storage), (1_000, 1_200_000));
    incoming.tick(bob.now_ns, EPOCH);
    Bob { incoming, ..bob }
}

#[test]
fn a_key_request_that_is_delivered_again_is_answered_once_across_restarts_and_epochs() {
    let mut bob = Bob::new(13, 0);
    let surbs = vec![bob.surb(), bob.surb()];
    let request = Sealed::KeyRequest {
        wanted: 3,
        epoch: EPOCH,
        surbs,
    };
    let body = request.seal(bob.identity.x25519(), &mut bob.rng).unwrap();
    for answers in [2, 0] {
        bob.take(&body);
        assert_eq!(std::iter::from_fn(|| bob.reply()).count(), answers);
    }
    let mut bob = restarted(bob, 0);
    for epoch in [EPOCH, EPOCH + 1, EPOCH + 2, EPOCH + 9] {
        bob.incoming.tick(bob.now_ns, epoch);
        bob.take(&body);
        assert!(bob.reply().is_none(), "answered again in epoch {epoch}");
    }
}

#[test]
fn a_session_that_is_played_again_starts_no_second_time() {
    let mut bob = Bob::new(14, 1 << 20);
    let mut alice = bob.session();
    let surb = Field::Surb(Box::new(bob.surb()));
    let fields = [Field::Manifest(manifest(1, 100)), surb];
    let halves = |bob: &mut Bob| {
        [0, 1].map(|half| {
            let sealed = alice.half(half);
            sealed.seal(bob.identity.x25519(), &mut bob.rng).unwrap()
        })
    };
    // The sender itself says both halves twice, in new bodies.
    let (first, second) = (halves(&mut bob), halves(&mut bob));
    let data = packet(&mut alice, &fields);
    let recorded: Vec<_> = first.into_iter().chain(second).chain([data]).collect();
    recorded.iter().for_each(|body| bob.take(body));
    assert!(bob.reply().is_some());
    let plays = |bob: &mut Bob| {
        recorded.iter().for_each(|body| bob.take(body));
        bob.reply().is_some()
    };
    assert!(!plays(&mut bob), "at once");
    for _ in 0..65 {
        let other = bob.session();
        bob.start(&other);
    }
    assert!(!plays(&mut bob), "after 64 further sessions");
    let mut bob = restarted(bob, 1 << 20);
    assert!(!plays(&mut bob), "after a restart");
    bob.incoming.tick(bob.now_ns, EPOCH + 1);
    assert!(!plays(&mut bob), "in the next epoch");
    bob.incoming.tick(bob.now_ns, EPOCH + 2);
    assert!(!plays(&mut bob), "in the epoch after it");
}

#[test]
fn what_names_an_epoch_far_from_now_is_not_taken() {
    for (epoch, taken) in [(5, false), (6, true), (7, true), (8, true), (9, false)] {
        let mut bob = Bob::new(15, 0);
        let surbs = vec![bob.surb()];
        bob.take_sealed(&Sealed::KeyRequest {
            wanted: 1,
            epoch,
            surbs,
        });
        assert_eq!(bob.reply().is_some(), taken, "epoch {epoch}");
    }
}
