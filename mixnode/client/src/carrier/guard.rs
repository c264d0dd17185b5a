//! Which gateway this client uses: its guard, and when one of its reserves.
//!
//! Who could push a client from gateway to gateway, by filling them or by silence, would have it at one of his own in the
//! end. So a client has a guard and two reserves of other operators, all drawn by weight at the same time and kept, and
//! draws no others. A guard that has no room, refuses or is silent is told to the user and tried on. Only a client that
//! receives nothing leaves it (an address names its gateway, so who receives stays), and only after an hour without
//! being served, or when the network's document has left the guard out. It tries the reserves then, in their order, one
//! after the other in slots that carry a question, and moves to the first that lets it in; from there it tries its
//! guard now and then, and comes back. What a gateway says moves nobody: neither that it is full nor that it leaves.
//!
//! The hour is time in which the client ran and was not served, so that no jump of a clock and no absence makes it, and
//! it is stored: starting anew neither shortens nor lengthens it.

use std::net::SocketAddr;

use link::control::Control;
use link::{ClientKeys, DATAGRAM_BYTES};
use rand_core::Rng;
use sphinx::Generator;

use super::Carrier;
use super::attachment::Inbound;
use super::departures::Supply;
use super::fetch::Fetch;
use super::packets::Place;
use super::visit::{Visit, patience_ns};
use crate::event::Event;

const SECOND_NS: u64 = 1_000_000_000;
/// So long a gateway may not serve before another is tried.
pub(crate) const HOUR_NS: u64 = 3_600 * SECOND_NS;
/// After so long others are asked for a document that it does not hand over. A gateway that is down for less shows in
/// nothing that its clients send.
const DOUBT_NS: u64 = 300 * SECOND_NS;
/// Mean wait before the first reserve is tried; each further one is half as long again, up to the last. A client that is
/// with a reserve lets its guard have longer before it looks whether that is back.
const TRY_NS: u64 = 5 * SECOND_NS;
const TRY_AWAY_NS: u64 = 30 * SECOND_NS;
const TRY_LONGEST_NS: u64 = 600 * SECOND_NS;
/// How exact what is stored must be.
const STORED_EVERY_NS: u64 = 60 * SECOND_NS;
/// More between two looks was no waiting: the machine or the program stood still.
const LOOK_NS: u64 = 10 * SECOND_NS;

/// Where a client stands with its guard, beyond its death.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GuardState {
    /// The gateway that is used: 0 for the guard, n for the n-th reserve.
    pub at: usize,
    /// For how long that one has not served while the client ran, seconds.
    pub unserved_s: u64,
}

impl GuardState {
    /// The same for a client that receives: it is at its guard, whatever others did.
    fn of_recipient(self) -> Self {
        match self.at {
            0 => self,
            _ => Self {
                at: 0,
                unserved_s: HOUR_NS / SECOND_NS,
            },
        }
    }
}

/// The reserves of a client.
pub struct Reserves {
    /// Their Ed25519 identities and the mailbox keys there, in the order in which they were drawn.
    pub gateways: Vec<([u8; 32], ClientKeys)>,
    /// Where it stood when it ran last.
    pub state: GuardState,
    /// It receives nothing: it may move.
    pub moves: bool,
}

/// The gateways of a client, and which of them it uses.
pub(super) struct Guard {
    /// The guard, then the reserves.
    gateways: Vec<([u8; 32], ClientKeys)>,
    at: usize,
    moves: bool,
    /// For how long the one that is used has not served, as of `looked_ns`.
    unserved_ns: u64,
    looked_ns: Option<u64>,
    told: GuardState,
    /// The gateway that is tried, and until when.
    visit: Option<(usize, Visit, u64)>,
    /// Which was tried last.
    tried: usize,
    /// When the next is tried, once that is drawn.
    next_ns: Option<u64>,
    tries: u32,
}

impl Guard {
    pub(super) fn new(gateway: [u8; 32], mailbox: ClientKeys) -> Self {
        Self {
            gateways: vec![(gateway, mailbox)],
            at: 0,
            moves: false,
            unserved_ns: 0,
            looked_ns: None,
            told: GuardState::default(),
            visit: None,
            tried: 0,
            next_ns: None,
            tries: 0,
        }
    }

    /// Identities of guard and reserves, in order.
    pub(super) fn gateways(&self) -> impl Iterator<Item = &[u8; 32]> {
        self.gateways.iter().map(|(identity, _)| identity)
    }

    /// Whether nothing is to be had of the gateway that is used, and not for a moment.
    pub(super) fn is_unserved(&self) -> bool {
        self.unserved_ns >= DOUBT_NS
    }

    /// Counts the time without being served; what is to be stored, if that is news.
    fn look(&mut self, is_served: bool, now_ns: u64) -> Option<GuardState> {
        let since_ns = now_ns.saturating_sub(self.looked_ns.unwrap_or(now_ns));
        self.looked_ns = Some(now_ns);
        self.unserved_ns = match is_served {
            true => 0,
            false => self.unserved_ns.saturating_add(since_ns.min(LOOK_NS)),
        };
        let told_ns = self.told.unserved_s.saturating_mul(SECOND_NS);
        let is_old = self.unserved_ns.abs_diff(told_ns) >= STORED_EVERY_NS
            || (is_served && self.told.unserved_s > 0);
        (self.at != self.told.at || is_old).then(|| {
            self.told = GuardState {
                at: self.at,
                unserved_s: self.unserved_ns / SECOND_NS,
            };
            self.told
        })
    }

    /// Whether gateway `number` may be tried in place of the one that is used, which `is_out` of the network or not.
    fn may_try(&self, number: usize, is_out: bool) -> bool {
        let is_given_up = is_out || self.unserved_ns >= HOUR_NS;
        self.moves && number != self.at && (is_given_up || number == 0)
    }

    /// When the next gateway is tried.
    fn next_ns(&mut self, now_ns: u64, rng: &mut Generator) -> u64 {
        *self.next_ns.get_or_insert_with(|| {
            let first_ns = if self.at == 0 { TRY_NS } else { TRY_AWAY_NS };
            let mean_ns = (first_ns as f64 * 1.5f64.powi(self.tries.min(30) as i32)) as u64;
            let mean_ns = mean_ns.min(TRY_LONGEST_NS);
            now_ns + mean_ns / 2 + rng.next_u64() % mean_ns
        })
    }

    /// The call at the gateway that is tried.
    pub(super) fn visit_mut(&mut self) -> Option<&mut Visit> {
        self.visit.as_mut().map(|(_, visit, _)| visit)
    }

    fn end_visit(&mut self) {
        (self.visit, self.next_ns) = (None, None);
    }
}

impl Carrier {
    /// Gives this client its reserves; before its first slot.
    pub(crate) fn set_reserves(&mut self, reserves: Reserves) {
        let guard = &mut self.guard;
        guard.gateways.truncate(1);
        guard.gateways.extend(reserves.gateways);
        guard.moves = reserves.moves;
        guard.told = reserves.state;
        let state = match reserves.moves {
            true => reserves.state,
            false => reserves.state.of_recipient(),
        };
        guard.unserved_ns = state.unserved_s.saturating_mul(SECOND_NS);
        guard.at = state.at;
        let Some((gateway, keys)) = guard.gateways.get(guard.at) else {
            // There are fewer than there were: from the guard on.
            (guard.at, guard.unserved_ns) = (0, 0);
            return;
        };
        if guard.at > 0 {
            self.place = Place {
                gateway: *gateway,
                destination: link::destination_tag(keys.public_key()),
            };
            let keys = keys.clone();
            self.attachment = self.new_attachment(keys);
        }
    }

    /// Counts whether the gateway serves, and tells what is to be stored.
    pub(super) fn look_after_guard(&mut self, now_ns: u64) {
        let is_served = self.attachment.is_served(now_ns);
        if let Some(state) = self.guard.look(is_served, now_ns) {
            self.events.push_back(Event::Guard(state));
        }
    }

    /// What this slot carries to a gateway that is tried, by the rule above, and where that is.
    pub(super) fn visit(
        &mut self,
        now_ns: u64,
        unix_ms: u64,
    ) -> Option<(SocketAddr, [u8; DATAGRAM_BYTES])> {
        let is_out = self.documents.leaves_out(&self.place.gateway, unix_ms);
        let count = self.guard.gateways.len();
        if let Some((number, _, until_ns)) = &self.guard.visit
            && (now_ns >= *until_ns || !self.guard.may_try(*number, is_out))
        {
            self.guard.end_visit();
        }
        if self.guard.visit.is_none() {
            let from = self.guard.tried;
            let mut turn = (1..=count).map(|step| (from + step) % count);
            let wanted = turn.find(|number| {
                let found = self.guard.gateways.get(*number);
                self.guard.may_try(*number, is_out)
                    && found.is_some_and(|(gateway, _)| {
                        !self.documents.leaves_out(gateway, unix_ms)
                            && self.documents.find(gateway, unix_ms).is_some()
                    })
            });
            let Some(number) = wanted else {
                (self.guard.tries, self.guard.next_ns) = (0, None);
                // The next time they are tried from the first on.
                self.guard.tried = self.guard.at;
                return None;
            };
            if now_ns < self.guard.next_ns(now_ns, &mut self.rng) {
                return None;
            }
            let (gateway, keys) = self.guard.gateways.get(number)?;
            let visit = Visit::new(*gateway, self.new_attachment(keys.clone()));
            let until_ns = now_ns.saturating_add(patience_ns(self.rate_pps));
            self.guard.visit = Some((number, visit, until_ns));
            self.guard.tried = number;
            self.guard.tries = self.guard.tries.saturating_add(1);
        }
        let (_, visit, _) = self.guard.visit.as_mut()?;
        let node = self.documents.find(&visit.gateway, unix_ms)?;
        visit.next(node, now_ns, &mut self.rng, || None)
    }

    /// Takes a datagram if it comes from the gateway that is tried.
    pub(super) fn on_visit(&mut self, datagram: &mut [u8; DATAGRAM_BYTES], now_ns: u64) {
        let Some((number, visit, until_ns)) = &mut self.guard.visit else {
            return;
        };
        match visit.receive(datagram, now_ns, &mut self.rng) {
            Some(Inbound::Control(Control::Attached { rate_pps })) => {
                visit.attachment.attached(rate_pps);
                let number = *number;
                self.move_to(number);
            }
            // Passed over; the next slot draws the next one's moment.
            Some(Inbound::Control(Control::Full)) => *until_ns = 0,
            Some(_) | None => {}
        }
    }

    /// The gateway that was tried has let this client in: it is used from now on. What was made for the one before is
    /// thrown away, and no slot passes without a session.
    fn move_to(&mut self, number: usize) {
        let Some((_, visit, _)) = self.guard.visit.take() else {
            return;
        };
        self.guard.end_visit();
        let Some((gateway, keys)) = self.guard.gateways.get(number) else {
            return;
        };
        let place = Place {
            gateway: *gateway,
            destination: link::destination_tag(keys.public_key()),
        };
        let Some((attachment, address, link)) = visit.into_own() else {
            return;
        };
        (self.attachment, self.place) = (attachment, place);
        (self.guard.at, self.guard.unserved_ns, self.guard.tries) = (number, 0, 0);
        (self.fetch, self.inquiry) = (Fetch::default(), None);
        self.supplies.to = Some(address);
        self.supplies.turned = self.supplies.made;
        let supply = Supply::Move(address, Box::new(link));
        self.supplies.queue.push_back(supply);
        self.events.push_back(Event::GatewayMoved {
            to_reserve: number > 0,
        });
    }
}
