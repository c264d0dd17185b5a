//! Everything that is a packet on the wire: link to the gateway, Poisson slots, cover, reply blocks, consensus.
//!
//! Every datagram that leaves fills a slot of one Poisson process whose times are drawn from a generator of their
//! own: they are the same whatever the client does. The process is [`Departures`], which may run on a thread of its
//! own; the [`Carrier`] makes what it sends, ahead of it. What uses the network, a [`Service`], is asked for content
//! when a slot to come has room for it and knows nothing of slots. Services are passed in, always the same in the same
//! order.

use std::collections::VecDeque;
use std::net::SocketAddr;

use directory::{Chain, Consensus};
use link::control::Control;
use link::{ClientKeys, DATAGRAM_BYTES};
use rand_core::{Rng, SeedableRng};
use sphinx::Generator;
use sphinx::{BODY_BYTES, Id, surb_open};

use crate::event::{Event, Less};
use crate::histogram::Latency;

mod attachment;
mod departures;
mod documents;
mod download;
mod fetch;
mod guard;
mod inquiry;
mod packets;
mod service;
mod slots;
#[cfg(test)]
mod tests;
mod visit;
mod waiting;

#[cfg(test)]
pub(crate) use departures::tests::departures_of_an_epoch;
pub(crate) use departures::{Departures, Gone, Supply};
pub(crate) use documents::DOCUMENTS_MAX;
pub use documents::Documents;
pub use guard::{GuardState, Reserves};
pub(crate) use packets::{Packets, Place, Use};
pub(crate) use service::{Letter, Reply, Service, Token};

use attachment::{Attachment, Inbound};
use departures::{RESERVE_MAX, Timed};
use fetch::Fetch;
use guard::Guard;
use inquiry::Inquiry;
use visit::Visit;
use waiting::{Awaited, Waiting};

/// The gateway's stream is asked to be this much faster than ours: what arrives never queues for long.
const DOWN_FACTOR: f64 = 1.25;

/// Counts and distributions since the client started.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// Datagrams sent.
    pub datagrams: u64,
    /// Loop cover sent.
    pub loops_sent: u64,
    /// Loop cover that came back.
    pub loops_back: u64,
    /// Drop cover sent.
    pub drops_sent: u64,
    /// Loop cover there and back.
    pub loop_time: Latency,
}

/// What a carrier is made of.
pub(crate) struct Settings {
    /// Mailbox key at the gateway.
    pub(crate) mailbox: ClientKeys,
    /// Ed25519 identity of the gateway.
    pub(crate) gateway: [u8; 32],
    /// Whose consensus to believe.
    pub(crate) authorities: Chain,
    /// Slots a second.
    pub(crate) rate_pps: f64,
    /// Share of slots for loop cover, 0 to 1.
    pub(crate) loop_share: f64,
}

/// What was made for the slots to come.
#[derive(Default)]
struct Supplies {
    /// Not handed over yet.
    queue: VecDeque<Supply>,
    /// Frames to keep ready.
    depth: u64,
    to: Option<SocketAddr>,
    /// Up to this slot it was looked whether there is a question.
    asked: u64,
    epoch: Option<u32>,
    /// Counts of what was made; the reserve and what is ready up to the last turn of the epoch are gone or will be.
    made: Gone,
    turned: Gone,
    gone: Gone,
}

impl Supplies {
    fn ready(&self) -> u64 {
        let gone = self.gone.ready.max(self.turned.ready);
        self.made.ready.saturating_sub(gone)
    }

    fn reserve(&self) -> u64 {
        let gone = self.gone.reserve.max(self.turned.reserve);
        self.made.reserve.saturating_sub(gone)
    }
}

/// The link, and what fills its slots.
pub(crate) struct Carrier {
    place: Place,
    authorities: Chain,
    loop_share: f64,
    rate_pps: f64,
    rng: Generator,
    /// Draws what slots are for, whatever there is to put into them.
    classes: Generator,

    documents: Documents,
    fetch: Fetch,
    /// What other gateways are asked, while there is no document of now.
    inquiry: Option<Inquiry>,
    guard: Guard,
    attachment: Attachment,
    supplies: Supplies,
    waiting: Waiting,
    /// Number of the service whose letter was taken last.
    last_served: usize,

    pub(crate) events: VecDeque<Event>,
    pub(crate) stats: Stats,
}

impl Carrier {
    /// A carrier that knows these `documents`, and its Poisson process, which starts at `now_ns`.
    pub(crate) fn new(
        settings: Settings,
        documents: Documents,
        mut rng: Generator,
        now_ns: u64,
    ) -> (Self, Departures) {
        let rate_pps = settings.rate_pps;
        let slots = Generator::from_rng(&mut rng);
        let departures = Departures::new(slots, rate_pps, now_ns);
        let carrier = Self {
            place: Place {
                gateway: settings.gateway,
                destination: link::destination_tag(settings.mailbox.public_key()),
            },
            authorities: settings.authorities,
            loop_share: settings.loop_share,
            rate_pps,
            guard: Guard::new(settings.gateway, settings.mailbox.clone()),
            attachment: Attachment::new(settings.mailbox, rate_pps, down_pps(rate_pps)),
            documents: documents.of_one_client(&mut rng),
            classes: Generator::from_rng(&mut rng),
            rng,
            fetch: Fetch::default(),
            inquiry: None,
            supplies: Supplies {
                depth: 1,
                ..Supplies::default()
            },
            waiting: Waiting::default(),
            last_served: 0,
            events: VecDeque::new(),
            stats: Stats::default(),
        };
        (carrier, departures)
    }

    /// Where this client is reached.
    pub(crate) fn place(&self) -> Place {
        self.place
    }

    /// Slots a second that letters may take.
    pub(crate) fn letters_pps(&self) -> f64 {
        self.rate_pps * slots::letter_share(self.loop_share)
    }

    /// The documents that it holds.
    pub(crate) fn documents(&self) -> &Documents {
        &self.documents
    }

    /// Whether the gateway has answered the attachment.
    pub(crate) fn is_attached(&self) -> bool {
        self.attachment.is_attached()
    }

    /// When something last came that nobody can have made but the gateway, or who sees what is sent to it.
    pub(crate) fn answered_ns(&self) -> Option<u64> {
        self.attachment.answered_ns()
    }

    /// Which epoch it is by the gateway's clock, modulo 4.
    pub(crate) fn gateway_epoch_bits(&self) -> Option<u8> {
        self.attachment.epoch_bits()
    }

    /// Whether the gateway has said that it has no room.
    pub(crate) fn is_full(&self) -> bool {
        self.attachment.is_full()
    }

    /// What the gateway grants, if that is less than it was asked for.
    pub(crate) fn less(&self) -> Option<Less> {
        self.attachment.less()
    }

    /// The calls at other gateways.
    fn visits(&mut self) -> impl Iterator<Item = &mut Visit> {
        let inquiry = self.inquiry.as_mut().and_then(Inquiry::visit);
        inquiry.into_iter().chain(self.guard.visit_mut())
    }

    /// The link to a gateway at which it has this mailbox.
    fn new_attachment(&self, mailbox: ClientKeys) -> Attachment {
        Attachment::new(mailbox, self.rate_pps, down_pps(self.rate_pps))
    }

    /// Keeps so much ready that slots which follow each other closely find something, for departures on a thread of
    /// their own: what ten milliseconds bring, and two more.
    pub(crate) fn supply_ahead(&mut self) {
        self.supplies.depth = (self.rate_pps / 100.0) as u64 + 2;
    }

    /// What has become of what was made, up to `now_ns`.
    pub(crate) fn departed(&mut self, gone: Gone, now_ns: u64) {
        if gone.handshakes > self.supplies.gone.handshakes {
            self.attachment.departed(now_ns);
        }
        if gone.questions > self.supplies.gone.questions {
            self.visits()
                .for_each(|visit| visit.attachment.departed(now_ns));
        }
        self.stats.datagrams = gone.datagrams;
        self.stats.drops_sent += gone.reserve_sent - self.supplies.gone.reserve_sent;
        self.supplies.gone = gone;
    }

    /// What was made for [`Departures::take`], oldest first.
    pub(crate) fn supply(&mut self) -> Option<Supply> {
        self.supplies.queue.pop_front()
    }

    /// Makes what the next slots will hold, unless that is done.
    pub(crate) fn refill(&mut self, services: &mut [&mut dyn Service], now_ns: u64, unix_ms: u64) {
        let epoch = self.documents.live(unix_ms).map(Consensus::epoch);
        for service in services.iter_mut() {
            service.tick(now_ns, epoch);
        }
        self.refill_link(now_ns, unix_ms);
        if self.supplies.epoch != epoch {
            self.supplies.epoch = epoch;
            self.supplies.turned = self.supplies.made;
            self.supplies.queue.push_back(Supply::Turn);
        }
        if !self.attachment.has_session(now_ns) {
            return;
        }
        let until_ns = epoch.map_or(u64::MAX, |epoch| self.until_ns(epoch, now_ns, unix_ms));
        while self.supplies.ready() < self.supplies.depth {
            let frame = self.next_frame(services, now_ns, unix_ms);
            self.supplies.made.ready += 1;
            let timed = Timed { frame, until_ns };
            self.supplies.queue.push_back(Supply::Ready(timed));
        }
        // A second's worth; one at a time, so that the turn of an epoch is no burst of work.
        let reserve = (self.rate_pps as u64).clamp(4, RESERVE_MAX as u64);
        if self.supplies.reserve() < reserve
            && let Some(mut packets) = self.packets(0, unix_ms)
            && let Some(frame) = packets.cover_drop()
        {
            self.supplies.made.reserve += 1;
            let timed = Timed { frame, until_ns };
            self.supplies.queue.push_back(Supply::Reserve(timed));
        }
    }

    /// The gateway's address, a handshake when one is due, a session that is new.
    fn refill_link(&mut self, now_ns: u64, unix_ms: u64) {
        if let Some(session) = self.attachment.take_link() {
            let first = self.attachment.first();
            let supply = Supply::Link(Box::new(session), first);
            self.supplies.queue.push_back(supply);
        }
        self.look_after_guard(now_ns);
        // One question a slot, and none while one waits.
        if self.supplies.gone.slots > self.supplies.asked
            && self.supplies.made.questions == self.supplies.gone.questions
        {
            self.supplies.asked = self.supplies.gone.slots;
            let question = self.inquire(now_ns, unix_ms);
            if let Some((to, datagram)) = question.or_else(|| self.visit(now_ns, unix_ms)) {
                self.supplies.made.questions += 1;
                let supply = Supply::Question(to, Box::new(datagram));
                self.supplies.queue.push_back(supply);
            }
        }
        let Some(node) = self.documents.find(&self.place.gateway, unix_ms) else {
            return;
        };
        let Some(address) = node.addresses.first().copied() else {
            return;
        };
        if self.supplies.to != Some(address) {
            self.supplies.to = Some(address);
            self.supplies.queue.push_back(Supply::To(address));
        }
        let waits = self.supplies.made.handshakes > self.supplies.gone.handshakes;
        let handshake = match waits {
            true => None,
            false => self.attachment.handshake(&node.link, now_ns, &mut self.rng),
        };
        if let Some(silent) = self.attachment.news(now_ns) {
            self.events.push_back(match silent {
                true => Event::GatewaySilent { address },
                false => Event::GatewayBack,
            });
        }
        let less = self.attachment.less_news();
        self.events.extend(less.map(Event::GrantedLess));
        if let Some(initiation) = handshake {
            self.supplies.made.handshakes += 1;
            self.supplies.queue.push_back(Supply::Handshake(initiation));
        }
    }

    /// Until when packets of this epoch leave: half a round into the next, as long as clients take to turn. Packets of
    /// the epoch before, while there is no document of this one, to this one's end.
    fn until_ns(&self, epoch: u32, now_ns: u64, unix_ms: u64) -> u64 {
        let parameters = self.documents.parameters();
        let end_ms = |after| parameters.epoch_starts_ms(epoch.saturating_add(after));
        let turned_ms = self.documents.turns_ms(epoch.saturating_add(1));
        let until_ms = if unix_ms < turned_ms {
            turned_ms
        } else {
            // Without the document of now: what leaves must arrive before the key is erased.
            end_ms(2).saturating_sub(parameters.travel_ms())
        };
        let left_ms = until_ms.saturating_sub(unix_ms);
        now_ns.saturating_add(left_ms.saturating_mul(1_000_000))
    }

    /// Nothing that came before this moment is still to be received.
    pub(crate) fn listened(&mut self, now_ns: u64) {
        self.attachment.listened(now_ns);
    }

    /// Takes a datagram from the network; what is not from the gateway is passed over.
    pub(crate) fn receive(
        &mut self,
        services: &mut [&mut dyn Service],
        now_ns: u64,
        datagram: &mut [u8; DATAGRAM_BYTES],
    ) {
        match self.attachment.receive(datagram, now_ns, &mut self.rng) {
            Some(Inbound::Delivery(id, body)) => self.on_delivery(services, id, body, now_ns),
            Some(Inbound::Control(Control::Attached { rate_pps })) => {
                if self.attachment.attached(rate_pps) {
                    self.events.push_back(Event::Attached { rate_pps });
                }
            }
            Some(Inbound::Control(chunk @ Control::Chunk { .. })) => self.on_chunk(chunk, now_ns),
            Some(Inbound::Control(Control::Challenge { nonce })) => {
                self.attachment.challenged(nonce);
            }
            Some(Inbound::Control(Control::Full)) => {
                if self.attachment.refused(now_ns, &mut self.rng) {
                    self.events.push_back(Event::GatewayFull);
                }
            }
            Some(Inbound::Control(Control::Leaving { epoch })) => {
                if self.attachment.leaves(epoch) {
                    self.events.push_back(Event::GatewayLeaving { epoch });
                }
            }
            Some(Inbound::Control(_)) => {}
            None => {
                self.on_inquiry(datagram, now_ns);
                self.on_visit(datagram, now_ns);
            }
        }
    }

    fn on_delivery(
        &mut self,
        services: &mut [&mut dyn Service],
        id: Id,
        mut body: Box<[u8; BODY_BYTES]>,
        now_ns: u64,
    ) {
        match self.waiting.take(&id) {
            None => {
                for service in services {
                    if service.on_body(&body, now_ns) {
                        return;
                    }
                }
            }
            Some(Awaited::Loop { sent_ns }) => {
                self.stats.loops_back += 1;
                self.stats
                    .loop_time
                    .record_ns(now_ns.saturating_sub(sent_ns));
            }
            Some(Awaited::Reply {
                secret,
                service,
                token,
            }) => {
                if let Ok(plaintext) = surb_open(&secret, &mut body)
                    && let Some(service) = services.get_mut(service)
                {
                    service.on_reply(token, &plaintext, now_ns);
                }
            }
        }
    }
}

/// The rate to ask of a gateway: whole packets a second in an attach frame. The cast saturates.
fn down_pps(rate_pps: f64) -> u32 {
    (rate_pps * DOWN_FACTOR).ceil() as u32
}

/// Uniform in (0, 1]: 53 random bits.
fn unit(rng: &mut Generator) -> f64 {
    ((rng.next_u64() >> 11) + 1) as f64 / (1u64 << 53) as f64
}
