//! Hybrid sessions: user data from one sender to one recipient, under X25519 and ML-KEM-768 together.
//!
//! A body is `tag 8 | AES-256-GCM of 872 bytes | tag 16`. The first eight bytes are a pseudorandom function of the
//! session and the packet's send number, so that the recipient finds both without trying keys, and the gateway that
//! delivers can't tell which packets belong together. A send number is used once: a retransmission has a new one. A
//! program that starts anew starts new sessions, so no number is ever reused under a key.

use std::collections::{HashMap, VecDeque};

use ml_kem::ml_kem_768::EncapsulationKey;
use rand_core::CryptoRng;
use sphinx::BODY_BYTES;
use zeroize::{Zeroize, Zeroizing};

use super::sealed::{CIPHERTEXT_HALF_BYTES, Sealed};
use crate::crypto::{AEAD_TAG_BYTES, agree, open, public_of, seal};
use crate::identity::{Identity, KEM_CIPHERTEXT_BYTES, KEM_KEY_BYTES};

/// Bytes of content that one packet carries end to end.
pub const CONTENT_BYTES: usize = BODY_BYTES - TAG_BYTES - AEAD_TAG_BYTES;
const TAG_BYTES: usize = 8;
const CONTEXT: &str = "fogmix client v1 hybrid session";
/// Numbers ahead of the highest seen that are recognised: what may be lost in a row.
const AHEAD: u64 = 2_048;
/// Numbers behind the highest seen that are recognised: how far mixing may reorder.
const BEHIND: u64 = 8_192;
/// Sessions of strangers that a recipient keeps, besides those that something is kept for; of too many, the one that
/// was silent longest makes room.
pub(crate) const STRANGERS_MAX: usize = 32;
/// Sessions of which one half of the ciphertext is here; the oldest makes room.
const HALVES_MAX: usize = 64;

const _: () = assert!(CONTENT_BYTES == 872);

type Tag = [u8; TAG_BYTES];

/// The two keys of a session.
#[derive(Clone)]
struct Keys {
    tag: [u8; 32],
    data: [u8; 32],
}

impl Drop for Keys {
    fn drop(&mut self) {
        self.tag.zeroize();
        self.data.zeroize();
    }
}

/// What both ends bind into the session's keys.
struct Exchange<'a> {
    dh: &'a [u8; 32],
    kem: &'a [u8; 32],
    epoch: u32,
    session: &'a [u8; 16],
    ephemeral: &'a [u8; 32],
    recipient: &'a [u8; 32],
    ciphertext: &'a [u8; KEM_CIPHERTEXT_BYTES],
    kem_hash: &'a [u8; 32],
}

impl Keys {
    fn derive(exchange: &Exchange<'_>) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
        hasher.update(exchange.dh);
        hasher.update(exchange.kem);
        hasher.update(&exchange.epoch.to_le_bytes());
        hasher.update(exchange.session);
        hasher.update(exchange.ephemeral);
        hasher.update(exchange.recipient);
        hasher.update(exchange.ciphertext);
        hasher.update(exchange.kem_hash);
        let mut output = Zeroizing::new([0; 64]);
        hasher.finalize_xof().fill(&mut output[..]);
        hasher.zeroize();
        let mut keys = Self {
            tag: [0; 32],
            data: [0; 32],
        };
        keys.tag.copy_from_slice(&output[..32]);
        keys.data.copy_from_slice(&output[32..]);
        keys
    }

    fn tag(&self, number: u64) -> Tag {
        let hash = blake3::keyed_hash(&self.tag, &number.to_le_bytes());
        let mut tag = [0; TAG_BYTES];
        tag.copy_from_slice(&hash.as_bytes()[..TAG_BYTES]);
        tag
    }
}

/// The sending end of a session.
pub(crate) struct SendingSession {
    keys: Keys,
    next: u64,
    epoch: u32,
    session: [u8; 16],
    ephemeral: [u8; 32],
    ciphertext: Box<[u8; KEM_CIPHERTEXT_BYTES]>,
}

impl SendingSession {
    /// Draws a session of this epoch to the recipient with these public keys; `None` if one of them is no sound key.
    pub(crate) fn start<R: CryptoRng + ?Sized>(
        recipient: &[u8; 32],
        kem_key: &[u8; KEM_KEY_BYTES],
        epoch: u32,
        rng: &mut R,
    ) -> Option<Self> {
        let kem = EncapsulationKey::new(&(*kem_key).into()).ok()?;
        let mut secret = Zeroizing::new([0; 32]);
        let mut message = Zeroizing::new([0; 32]);
        let mut session = [0; 16];
        rng.fill_bytes(&mut *secret);
        rng.fill_bytes(&mut *message);
        rng.fill_bytes(&mut session);
        let ephemeral = public_of(&secret);
        let dh = agree(&secret, recipient)?;
        let (encapsulated, kem_shared) = kem.encapsulate_deterministic(&(*message).into());
        let kem_shared: Zeroizing<[u8; 32]> = Zeroizing::new(kem_shared.into());
        let mut ciphertext = Box::new([0; KEM_CIPHERTEXT_BYTES]);
        ciphertext.copy_from_slice(&encapsulated);
        let keys = Keys::derive(&Exchange {
            dh: &dh,
            kem: &kem_shared,
            epoch,
            session: &session,
            ephemeral: &ephemeral,
            recipient,
            ciphertext: &ciphertext,
            kem_hash: blake3::hash(kem_key).as_bytes(),
        });
        Some(Self {
            keys,
            next: 0,
            epoch,
            session,
            ephemeral,
            ciphertext,
        })
    }

    /// The epoch that its start names.
    pub(crate) fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Half 0 or 1 of what the recipient needs, to be sealed to its X25519 key.
    pub(crate) fn half(&self, half: u8) -> Sealed {
        let mut ciphertext = Box::new([0; CIPHERTEXT_HALF_BYTES]);
        let (first, second) = self.ciphertext.split_at(CIPHERTEXT_HALF_BYTES);
        ciphertext.copy_from_slice(if half == 0 { first } else { second });
        Sealed::SessionStart {
            half,
            epoch: self.epoch,
            session: self.session,
            ephemeral: self.ephemeral,
            ciphertext,
        }
    }

    /// Seals content under the next send number, which is returned with the body.
    pub(crate) fn seal(&mut self, content: &[u8; CONTENT_BYTES]) -> (u64, [u8; BODY_BYTES]) {
        let number = self.next;
        self.next += 1;
        let tag = self.keys.tag(number);
        let mut body = [0; BODY_BYTES];
        body[..TAG_BYTES].copy_from_slice(&tag);
        body[TAG_BYTES..TAG_BYTES + CONTENT_BYTES].copy_from_slice(content);
        seal(&self.keys.data, number, &tag, &mut body[TAG_BYTES..]);
        (number, body)
    }
}

/// Names a session at its recipient.
pub(crate) type SessionNumber = u64;

struct ReceivingSession {
    keys: Keys,
    /// Numbers below this have their tag in the table, or had.
    expected: u64,
    /// Numbers below this are forgotten.
    forgotten: u64,
    heard_ns: u64,
}

/// Half of a session's start.
pub(crate) struct Half {
    pub(crate) half: u8,
    pub(crate) epoch: u32,
    pub(crate) session: [u8; 16],
    pub(crate) ephemeral: [u8; 32],
    pub(crate) ciphertext: Box<[u8; CIPHERTEXT_HALF_BYTES]>,
}

impl Half {
    fn belongs_to(&self, other: &Self) -> bool {
        let names = |half: &Self| (half.session, half.epoch, half.ephemeral);
        names(self) == names(other)
    }
}

/// All sessions that others started to this user. Starting one twice is what its caller prevents: it would take the
/// same packets again.
#[derive(Default)]
pub(crate) struct ReceivingSessions {
    sessions: HashMap<SessionNumber, ReceivingSession>,
    tags: HashMap<Tag, (SessionNumber, u64)>,
    halves: VecDeque<Half>,
    next: SessionNumber,
}

impl ReceivingSessions {
    /// Takes half of a session's start. Answers with the other half once both are here.
    pub(crate) fn pair(&mut self, half: Half) -> Option<[Half; 2]> {
        let place = self.halves.iter().position(|kept| kept.belongs_to(&half));
        let Some(place) = place else {
            if self.halves.len() >= HALVES_MAX {
                self.halves.pop_front();
            }
            self.halves.push_back(half);
            return None;
        };
        if self.halves.get(place)?.half == half.half {
            return None;
        }
        let other = self.halves.remove(place)?;
        Some(if half.half == 0 {
            [half, other]
        } else {
            [other, half]
        })
    }

    /// Starts the session of both halves. Of too many that `keeps` does not speak for, the most silent goes; its number
    /// is the second of the answer.
    pub(crate) fn start(
        &mut self,
        identity: &Identity,
        [first, second]: &[Half; 2],
        keeps: &dyn Fn(SessionNumber) -> bool,
        now_ns: u64,
    ) -> Option<(SessionNumber, Option<SessionNumber>)> {
        let mut whole = Box::new([0; KEM_CIPHERTEXT_BYTES]);
        whole[..CIPHERTEXT_HALF_BYTES].copy_from_slice(&first.ciphertext[..]);
        whole[CIPHERTEXT_HALF_BYTES..].copy_from_slice(&second.ciphertext[..]);
        let dh = identity.agree(&first.ephemeral)?;
        let keys = Keys::derive(&Exchange {
            dh: &dh,
            kem: &identity.decapsulate(&whole),
            epoch: first.epoch,
            session: &first.session,
            ephemeral: &first.ephemeral,
            recipient: identity.x25519(),
            ciphertext: &whole,
            kem_hash: blake3::hash(identity.kem_public()).as_bytes(),
        });
        let gone = self.make_room(keeps);
        let name = self.next;
        self.next += 1;
        self.sessions.insert(
            name,
            ReceivingSession {
                keys,
                expected: 0,
                forgotten: 0,
                heard_ns: now_ns,
            },
        );
        self.expect(name, AHEAD);
        Some((name, gone))
    }

    fn make_room(&mut self, keeps: &dyn Fn(SessionNumber) -> bool) -> Option<SessionNumber> {
        let strangers = self.sessions.iter().filter(|(name, _)| !keeps(**name));
        if strangers.clone().count() < STRANGERS_MAX {
            return None;
        }
        // Ties go to the lowest number, so that the choice does not hang on the table's order.
        let silent = strangers.min_by_key(|(name, session)| (session.heard_ns, **name));
        let name = silent.map(|(name, _)| *name)?;
        self.sessions.remove(&name);
        self.tags.retain(|_, (session, _)| *session != name);
        Some(name)
    }

    /// Moves the window of recognised numbers so that it ends at `end`.
    fn expect(&mut self, name: SessionNumber, end: u64) {
        let Some(session) = self.sessions.get_mut(&name) else {
            return;
        };
        for number in session.expected..end {
            self.tags.insert(session.keys.tag(number), (name, number));
        }
        session.expected = session.expected.max(end);
        let keep_from = session.expected.saturating_sub(AHEAD + BEHIND);
        for number in session.forgotten..keep_from {
            self.tags.remove(&session.keys.tag(number));
        }
        session.forgotten = session.forgotten.max(keep_from);
    }

    /// Opens a body of a known session, once for each send number. `None` for anything else.
    pub(crate) fn open(
        &mut self,
        body: &[u8; BODY_BYTES],
        now_ns: u64,
    ) -> Option<(SessionNumber, u64, Zeroizing<[u8; CONTENT_BYTES]>)> {
        let tag: Tag = body.first_chunk().copied()?;
        let (name, number) = *self.tags.get(&tag)?;
        let session = self.sessions.get_mut(&name)?;
        let mut sealed = Zeroizing::new([0; CONTENT_BYTES + AEAD_TAG_BYTES]);
        sealed.copy_from_slice(&body[TAG_BYTES..]);
        if !open(&session.keys.data, number, &tag, &mut sealed[..]) {
            return None;
        }
        session.heard_ns = now_ns;
        self.tags.remove(&tag);
        self.expect(name, number + 1 + AHEAD);
        let mut content = Zeroizing::new([0; CONTENT_BYTES]);
        content.copy_from_slice(&sealed[..CONTENT_BYTES]);
        Some((name, number, content))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng;

    fn half(sealed: Sealed) -> Half {
        let Sealed::SessionStart {
            half,
            epoch,
            session,
            ephemeral,
            ciphertext,
        } = sealed
        else {
            panic!("not a session start");
        };
        Half {
            half,
            epoch,
            session,
            ephemeral,
            ciphertext,
        }
    }

    fn deliver(
        sessions: &mut ReceivingSessions,
        bob: &Identity,
        sealed: Sealed,
    ) -> Option<SessionNumber> {
        let halves = sessions.pair(half(sealed))?;
        let started = sessions.start(bob, &halves, &|_| false, 0);
        started.map(|(name, _)| name)
    }

    fn pair(seed: u64) -> (ChaCha20Rng, Identity, SendingSession) {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let bob = Identity::generate(&mut rng);
        let sending = SendingSession::start(bob.x25519(), bob.kem_public(), 7, &mut rng).unwrap();
        (rng, bob, sending)
    }

    #[test]
    fn the_halves_of_a_session_start_come_in_any_order_and_repeatedly() {
        for order in [&[0, 1][..], &[1, 0], &[0, 0, 1], &[1, 1, 0]] {
            let (_, bob, mut sending) = pair(4);
            let mut sessions = ReceivingSessions::default();
            let started = order
                .iter()
                .filter(|half| deliver(&mut sessions, &bob, sending.half(**half)).is_some())
                .count();
            assert_eq!(started, 1);
            let (number, body) = sending.seal(&[9; CONTENT_BYTES]);
            let (_, seen, content) = sessions.open(&body, 1).expect("it opens");
            assert_eq!((seen, content[0]), (number, 9));
        }
    }

    #[test]
    fn halves_of_two_epochs_make_no_session() {
        let (_, bob, sending) = pair(10);
        let mut sessions = ReceivingSessions::default();
        deliver(&mut sessions, &bob, sending.half(0));
        let mut late = half(sending.half(1));
        late.epoch += 1;
        assert!(sessions.pair(late).is_none());
        assert!(deliver(&mut sessions, &bob, sending.half(1)).is_some());
    }

    #[test]
    fn a_packet_opens_once_and_no_altered_one_does() {
        let (_, bob, mut sending) = pair(5);
        let mut sessions = ReceivingSessions::default();
        deliver(&mut sessions, &bob, sending.half(0));
        deliver(&mut sessions, &bob, sending.half(1));
        let (_, body) = sending.seal(&[1; CONTENT_BYTES]);
        for position in 0..BODY_BYTES {
            let mut altered = body;
            altered[position] ^= 1;
            assert!(sessions.open(&altered, 1).is_none());
        }
        assert!(sessions.open(&body, 1).is_some());
        assert!(sessions.open(&body, 1).is_none());
    }

    #[test]
    fn packets_are_recognised_across_reordering_and_long_gaps() {
        let (_, bob, mut sending) = pair(6);
        let mut sessions = ReceivingSessions::default();
        deliver(&mut sessions, &bob, sending.half(0));
        deliver(&mut sessions, &bob, sending.half(1));
        let bodies: Vec<_> = (0..6_000)
            .map(|_| sending.seal(&[2; CONTENT_BYTES]).1)
            .collect();
        for position in [1_999, 3_990, 5_999, 0, 5_000] {
            assert!(sessions.open(&bodies[position], 1).is_some(), "{position}");
        }
        assert!(sessions.tags.len() as u64 <= AHEAD + BEHIND);
    }

    #[test]
    fn many_sessions_make_room_by_forgetting_the_most_silent_that_nothing_is_kept_for() {
        let (mut rng, bob, mut kept) = pair(7);
        let mut sessions = ReceivingSessions::default();
        let start = |sessions: &mut ReceivingSessions, sending: &SendingSession| {
            sessions.pair(half(sending.half(0)));
            let halves = sessions.pair(half(sending.half(1))).unwrap();
            sessions.start(&bob, &halves, &|name| name == 0, 0).unwrap()
        };
        assert_eq!(start(&mut sessions, &kept), (0, None));
        let mut strangers: Vec<_> = (0..STRANGERS_MAX as u64 + 10)
            .map(|number| {
                let next =
                    SendingSession::start(bob.x25519(), bob.kem_public(), 7, &mut rng).unwrap();
                let gone = (number + 1).checked_sub(STRANGERS_MAX as u64);
                let gone = gone.filter(|gone| *gone > 0);
                assert_eq!(start(&mut sessions, &next), (number + 1, gone));
                next
            })
            .collect();
        let mut opens = |sending: &mut SendingSession| {
            let body = sending.seal(&[0; CONTENT_BYTES]).1;
            sessions.open(&body, 1).is_some()
        };
        assert!(opens(&mut kept));
        assert!(!opens(&mut strangers[9]));
        assert!(opens(&mut strangers[10]));
        assert_eq!(sessions.sessions.len(), STRANGERS_MAX + 1);
        assert!(sessions.tags.len() as u64 <= AHEAD * (STRANGERS_MAX as u64 + 1));
    }

    #[test]
    fn half_started_sessions_are_kept_up_to_a_bound_and_the_oldest_goes() {
        let (mut rng, bob, first) = pair(9);
        let mut sessions = ReceivingSessions::default();
        deliver(&mut sessions, &bob, first.half(0));
        let mut last = None;
        for _ in 0..HALVES_MAX {
            let next = SendingSession::start(bob.x25519(), bob.kem_public(), 7, &mut rng).unwrap();
            deliver(&mut sessions, &bob, next.half(0));
            last = Some(next);
        }
        assert_eq!(sessions.halves.len(), HALVES_MAX);
        assert!(deliver(&mut sessions, &bob, last.unwrap().half(1)).is_some());
        assert!(deliver(&mut sessions, &bob, first.half(1)).is_none());
    }

    #[test]
    fn tags_of_one_session_look_unrelated() {
        let (_, _, mut sending) = pair(8);
        let first = sending.seal(&[0; CONTENT_BYTES]).1;
        let second = sending.seal(&[0; CONTENT_BYTES]).1;
        let equal = first.iter().zip(&second).filter(|(a, b)| a == b).count();
        assert!(equal < 20, "{equal} of {BODY_BYTES} bytes are equal");
    }
}
