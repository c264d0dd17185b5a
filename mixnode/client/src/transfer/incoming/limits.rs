//! Every bound of the recipient's side, reached on purpose.

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use sphinx::SURB_BYTES;

use super::*;
use crate::store::MemoryStorage;
use crate::transfer::content::write_content;
use crate::transfer::session::{CONTENT_BYTES, SendingSession};

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
        Bob {
            identity: Identity::generate(&mut rng),
            incoming: Incoming::new(Box::new(MemoryStorage::new(file_bytes_max)), 1_000),
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
        SendingSession::start(x25519, kem, &mut self.rng).unwrap()
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
            .next_reply(&self.identity, later_ns, &|_| true)
    }

    fn open_files(&self) -> usize {
        let open = |file: &&File| matches!(file, File::Open { .. });
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
        name: String::new(),
    }
}

#[test]
fn key_requests_beyond_the_queue_are_not_answered() {
    let mut bob = Bob::new(1, 0);
    for _ in 0..KEY_ANSWERS_MAX {
        let surbs = vec![bob.surb(), bob.surb()];
        bob.take_sealed(&Sealed::KeyRequest { wanted: 3, surbs });
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
    let Some(File::Open { chunks, .. }) = bob.incoming.files.get(&manifest.transfer) else {
        panic!("the file is not open");
    };
    assert_eq!(chunks.count() as usize, EARLY_MAX, "the others come again");
}

#[test]
fn of_many_open_files_the_most_silent_is_let_go_and_comes_back_with_its_manifest() {
    let mut bob = Bob::new(5, 1 << 20);
    let mut session = bob.session();
    bob.start(&session);
    for number in 0..=FILES_OPEN_MAX as u32 {
        let manifest = manifest(number, 1);
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
        bob.take(&packet(
            &mut session,
            &[Field::Manifest(manifest(number, 1))],
        ));
    }
    assert_eq!(bob.open_files(), 0);
    assert_eq!(bob.incoming.files.len(), FILES_OVER_MAX + 1);
}

#[test]
fn answers_are_kept_for_a_bounded_number_of_sessions() {
    let mut bob = Bob::new(7, 0);
    for _ in 0..PEERS_MAX + 5 {
        let session = bob.session();
        bob.start(&session);
        assert!(bob.incoming.peers.len() <= PEERS_MAX);
    }
    assert_eq!(bob.incoming.peers.len(), PEERS_MAX);
}
