//! While chunks flow: what is lost, and what goes into a slot.
//!
//! Loss costs acknowledgements twice, for a reply block must arrive and come back. So the more is lost, the more slots
//! carry reply blocks, and the longer is the wait for an acknowledgement that means something: a timeout that took the
//! rarity of acknowledgements for loss of chunks would send everything twice, or take a recipient for gone that is
//! there. Mostly no timeout is needed: an acknowledgement tells the newest packet that has arrived, and chunks that
//! left long before it and are not there are lost. What slots are left over when much is lost carry again, oldest
//! first, what nobody has acknowledged: they would carry cover.

use sphinx::BODY_BYTES;

use super::{AHEAD_MAX, IN_FLIGHT_MIN, Outgoing, Phase, SurbMaker};

/// Data packets to each packet of reply blocks, without loss: two acknowledgements for this many.
const SURB_EVERY: u32 = 32;
/// The same with any loss: a fifth of the slots.
const SURB_EVERY_MIN: u32 = 4;
/// A recipient is not taken for gone before: while nothing is known of losses, that few acknowledgements arrive looks
/// the same, and asking anew costs more than going on. From then on it is asked as often as may be.
const SILENCE_MIN_NS: u64 = 8_000_000_000;
/// Packets of reply blocks that arrive and whose answers do: after so many without one the recipient is gone. Of clients
/// with few slots both blocks and answers are rare, so that a timeout is up to 20 s; four of them were no help.
const ASKED_MIN: f64 = 4.0;
/// Questions to a recipient without room that may stay unanswered.
const QUESTIONS_MAX: u32 = 8;
/// From this share of lost packets on, slots left over repeat chunks.
const REPEATS_FROM: f64 = 0.15;

impl Outgoing {
    pub(super) fn next_while_sending(
        &mut self,
        now_ns: u64,
        surbs: SurbMaker<'_>,
    ) -> Option<[u8; BODY_BYTES]> {
        self.find_late(now_ns);
        if self.since_surb == 0
            && let Some(body) = self.send_given_up(now_ns)
        {
            return Some(body);
        }
        let arriving = self.losses.arriving();
        let unanswered = self.expecting_ns.is_some() || self.acked.is_full();
        let mut pause_ns = self.trip.timeout_ns() as f64 / 2.0 * arriving * arriving;
        if self.is_late(now_ns) {
            pause_ns = pause_ns.min(f64::from(SURB_EVERY_MIN) / self.rate_pps * 1e9);
        }
        let waited = now_ns.saturating_sub(self.surb_ns) as f64 > pause_ns;
        let asks = unanswered && waited;
        // Never in every slot while there are chunks to send: at much loss the pause is shorter than a slot.
        let every = self.surb_every(now_ns);
        if self.since_surb >= every || (asks && self.since_surb >= SURB_EVERY_MIN) {
            return self.send_intro(now_ns, surbs);
        }
        while let Some(index) = self.lost.pop_front() {
            if !self.acked.contains(index) && !self.in_flight.contains_key(&index) {
                self.stats.retransmitted += 1;
                return self.send_chunk(index, 2, now_ns);
            }
        }
        let within = self.next_new < self.acked.base().saturating_add(AHEAD_MAX);
        if within
            && self.in_flight.len() < self.in_flight_max()
            && let Some(body) = self.send_new(now_ns)
        {
            return Some(body);
        }
        if let Some(body) = self.repeat_oldest(now_ns) {
            return Some(body);
        }
        asks.then(|| self.send_intro(now_ns, surbs)).flatten()
    }

    /// Data packets to each packet of reply blocks: the fewer, the more is lost, and half as many for each while in which
    /// an acknowledgement should have come. Before the first ones nothing is known of losses, and without them nothing
    /// is learnt.
    fn surb_every(&self, now_ns: u64) -> u32 {
        let since_ns = self.expecting_ns.unwrap_or(now_ns);
        if self.is_late(now_ns) {
            return SURB_EVERY_MIN;
        }
        let while_ns = self
            .trip
            .timeout_ns()
            .saturating_add(2 * self.answer_gap_ns());
        let whiles = now_ns.saturating_sub(since_ns) / while_ns.max(1);
        let fewer = self.surb_every_by_loss() >> whiles.min(u64::from(u32::BITS - 1));
        (fewer >> u32::from(self.at_turn)).max(SURB_EVERY_MIN)
    }

    /// The same by what is known of losses alone.
    fn surb_every_by_loss(&self) -> u32 {
        ((f64::from(SURB_EVERY) * self.losses.arriving()) as u32).max(SURB_EVERY_MIN)
    }

    /// The mean time between two acknowledgements that arrive: each packet of reply blocks brings two if it arrives
    /// and they do.
    fn answer_gap_ns(&self) -> u64 {
        let arriving = self.losses.arriving();
        let packets = f64::from(self.surb_every_by_loss() + 1) / (2.0 * arriving * arriving);
        (packets / self.rate_pps * 1e9) as u64
    }

    /// How long a chunk may be without acknowledgement: a round trip and the wait for an acknowledgement.
    fn patience_ns(&self) -> u64 {
        let gap_ns = if self.losses.loss() < REPEATS_FROM {
            0
        } else {
            self.answer_gap_ns()
        };
        self.trip.timeout_ns().saturating_add(3 * gap_ns)
    }

    /// Chunks in flight: what is sent until their acknowledgements should be here.
    fn in_flight_max(&self) -> usize {
        let per_patience = self.rate_pps * self.patience_ns() as f64 / 5e8;
        (per_patience as usize).max(IN_FLIGHT_MIN)
    }

    /// Whether there was no acknowledgement for so long that the recipient may be gone.
    fn is_late(&self, now_ns: u64) -> bool {
        let since_ns = self.expecting_ns.unwrap_or(now_ns);
        now_ns.saturating_sub(since_ns) > SILENCE_MIN_NS
    }

    /// Whether the recipient seems to be gone, or started anew: nothing came for four timeouts, or for as long as answers
    /// take although so many questions should have brought some.
    pub(super) fn is_silent(&self, now_ns: u64) -> bool {
        let arriving = self.losses.arriving();
        let is_asked = f64::from(self.asked) * arriving * arriving >= ASKED_MIN;
        let mut patience_ns = 4 * self.patience_ns();
        if is_asked {
            patience_ns = patience_ns.min(self.answers.timeout_ns());
        }
        let since_ns = self.expecting_ns.unwrap_or(now_ns);
        let waited = now_ns.saturating_sub(since_ns) > patience_ns.max(SILENCE_MIN_NS);
        match self.phase {
            Phase::Sending => waited,
            // Asked now and then, by the number of questions.
            Phase::Paused => self.tries > QUESTIONS_MAX,
            _ => false,
        }
    }

    /// Moves what was not acknowledged in time to the lost.
    fn find_late(&mut self, now_ns: u64) {
        let patience_ns = self.patience_ns();
        self.lose_until(now_ns.saturating_sub(patience_ns));
    }

    /// Moves to the lost what left so long before a packet that has arrived that it should have, too.
    pub(super) fn find_overtaken(&mut self, heard_ns: u64) {
        self.lose_until(heard_ns.saturating_sub(self.trip.spread_ns()));
    }

    /// Moves what left until then to the lost.
    fn lose_until(&mut self, until_ns: u64) {
        while let Some((sent_ns, index)) = self.timeline.front().copied() {
            if sent_ns > until_ns {
                break;
            }
            self.timeline.pop_front();
            if self.is_in_flight_since(index, sent_ns) {
                self.in_flight.remove(&index);
                self.lost.push_back(index);
            }
        }
    }

    /// Sends again what has been out longest, if much is lost and it could be.
    fn repeat_oldest(&mut self, now_ns: u64) -> Option<[u8; BODY_BYTES]> {
        if self.losses.loss() < REPEATS_FROM {
            return None;
        }
        while let Some((sent_ns, index)) = self.timeline.front().copied() {
            if sent_ns.saturating_add(self.trip.spread_ns()) > now_ns {
                return None;
            }
            self.timeline.pop_front();
            if self.is_in_flight_since(index, sent_ns) {
                self.stats.retransmitted += 1;
                return self.send_chunk(index, 2, now_ns);
            }
        }
        None
    }

    fn is_in_flight_since(&self, index: u32, sent_ns: u64) -> bool {
        let flight = self.in_flight.get(&index);
        flight.is_some_and(|flight| flight.sent_ns == sent_ns)
    }
}
