//! Before chunks flow: the recipient's key, a session's start, and probes for a recipient that is silent.

use rand_core::CryptoRng;
use sphinx::BODY_BYTES;

use super::{Failure, Outgoing, Phase, Purpose, SurbMaker, UNCONFIRMED_MAX};
use crate::identity::KEM_KEY_BYTES;
use crate::transfer::content::KEY_HALF_BYTES;
use crate::transfer::sealed::Sealed;
use crate::transfer::session::SendingSession;

/// The longest pause between two probes.
const PROBE_MAX_NS: u64 = 4_000_000_000;
/// Probes under one session before the next is started.
const PROBES_A_SESSION: u32 = 4;

#[derive(Clone, Copy)]
pub(super) enum Setup {
    Half(u8),
    Intro,
    GivenUp,
}

impl Outgoing {
    pub(super) fn next_key_request<R: CryptoRng + ?Sized>(
        &mut self,
        (now_ns, epoch): (u64, u32),
        surbs: SurbMaker<'_>,
        rng: &mut R,
    ) -> Option<[u8; BODY_BYTES]> {
        if now_ns >= self.probe_ns {
            self.requests = self.copies();
            self.back_off(now_ns);
        }
        self.requests = self.requests.checked_sub(1)?;
        let missing = |half: usize| u8::from(self.key_halves[half].is_none());
        let wanted = missing(0) | missing(1) << 1;
        let surbs = surbs(Purpose::Key, wanted.count_ones() as usize)?;
        let request = Sealed::KeyRequest {
            wanted,
            epoch,
            surbs,
        };
        self.seal_to_recipient(&request, rng)
    }

    fn seal_to_recipient<R: CryptoRng + ?Sized>(
        &mut self,
        sealed: &Sealed,
        rng: &mut R,
    ) -> Option<[u8; BODY_BYTES]> {
        let body = sealed.seal(&self.address.x25519, rng);
        if body.is_none() {
            self.phase = Phase::Failed(Failure::BadKey);
        }
        body
    }

    /// Sets when to try again: after a timeout, later after each failure. Trying costs nobody anything, for the slot
    /// would hold cover; the pause only spares the recipient's gateway.
    fn back_off(&mut self, now_ns: u64) {
        let timeout_ns = self.trip.timeout_ns();
        let wait_ns = timeout_ns / 2 + timeout_ns * u64::from(self.tries.min(16)) / 4;
        self.probe_ns = now_ns + wait_ns.min(PROBE_MAX_NS);
        self.tries += 1;
    }

    /// Takes half of the recipient's ML-KEM key.
    pub(crate) fn on_key_half(&mut self, half: u8, key: Box<[u8; KEY_HALF_BYTES]>) {
        if self.key.is_some() || self.is_over() {
            return;
        }
        if let Some(place) = self.key_halves.get_mut(usize::from(half)) {
            *place = Some(key);
        }
        let [Some(first), Some(second)] = &self.key_halves else {
            return;
        };
        let mut whole = Box::new([0; KEM_KEY_BYTES]);
        whole[..KEY_HALF_BYTES].copy_from_slice(&first[..]);
        whole[KEY_HALF_BYTES..].copy_from_slice(&second[..]);
        if *blake3::hash(&whole[..]).as_bytes() != self.address.kem_hash {
            // Only the recipient can answer through these reply blocks: asking again would not help.
            self.phase = Phase::Failed(Failure::KeyMismatch);
            return;
        }
        self.fetched_key = Some(whole.clone());
        self.key = Some(whole);
        self.phase = Phase::Waiting;
        (self.tries, self.probe_ns) = (0, 0);
    }

    /// How often to say the same in one round of trying: after each failure twice as often, for where much is lost
    /// a question and its answer hardly ever get through both.
    fn copies(&self) -> usize {
        1 << self.tries.min(4)
    }

    pub(super) fn start_session<R: CryptoRng + ?Sized>(
        &mut self,
        epoch: u32,
        rng: &mut R,
    ) -> Option<()> {
        let key = self.key.as_ref()?;
        let Some(session) = SendingSession::start(&self.address.x25519, key, epoch, rng) else {
            self.phase = Phase::Failed(Failure::BadKey);
            return None;
        };
        self.session = Some(session);
        self.serial += 1;
        self.departures.clear();
        self.departures_from = 0;
        self.losses.restart();
        self.asked = 0;
        // Nobody will acknowledge what went out under the old session.
        let unanswered: Vec<u32> = self.in_flight.keys().copied().collect();
        self.lost.extend(unanswered);
        self.in_flight.clear();
        self.timeline.clear();
        self.expecting_ns = None;
        Some(())
    }

    pub(super) fn next_while_waiting<R: CryptoRng + ?Sized>(
        &mut self,
        (now_ns, epoch): (u64, u32),
        surbs: SurbMaker<'_>,
        rng: &mut R,
    ) -> Option<[u8; BODY_BYTES]> {
        if self.setup.is_empty() && now_ns >= self.probe_ns {
            let tried = self.tries > 0 && self.tries.is_multiple_of(PROBES_A_SESSION);
            // A start is taken in its epoch: halves of an older session would be in vain.
            if tried || self.session.as_ref()?.epoch() != epoch {
                self.start_session(epoch, rng)?;
            }
            let once = [Setup::Half(0), Setup::Half(1), Setup::Intro];
            self.setup = once.repeat(self.copies()).into();
            self.setup
                .extend((!self.given_up.is_empty()).then_some(Setup::GivenUp));
            self.back_off(now_ns);
        }
        match self.setup.pop_front() {
            Some(Setup::Half(half)) => {
                let sealed = self.session.as_ref()?.half(half);
                self.seal_to_recipient(&sealed, rng)
            }
            Some(Setup::Intro) => self.send_intro(now_ns, surbs),
            Some(Setup::GivenUp) => self.send_given_up(now_ns),
            None if self.early < UNCONFIRMED_MAX => {
                self.early += 1;
                self.send_new(now_ns)
            }
            None => None,
        }
    }

    /// The recipient can't store the file now: asks from time to time.
    pub(super) fn next_while_paused(
        &mut self,
        now_ns: u64,
        surbs: SurbMaker<'_>,
    ) -> Option<[u8; BODY_BYTES]> {
        if now_ns < self.probe_ns {
            return None;
        }
        self.back_off(now_ns);
        self.send_intro(now_ns, surbs)
    }
}
