//! Everything that is a packet on the wire: link to the gateway, Poisson slots, cover, reply blocks, consensus.
//!
//! Every datagram that leaves fills a slot of one Poisson process whose times are drawn from a generator of their
//! own: they are the same whatever the client does. What uses the network, a [`Service`], is asked for content when a
//! slot has room for it and knows nothing of slots. Services are passed in, always the same in the same order.

use std::collections::VecDeque;
use std::net::SocketAddr;

use directory::Authorities;
use link::control::Control;
use link::{ClientKeys, DATAGRAM_BYTES};
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use sphinx::{BODY_BYTES, Id, surb_open};

use crate::event::Event;
use crate::histogram::Latency;

mod attachment;
mod documents;
mod fetch;
mod packets;
mod service;
mod slots;
#[cfg(test)]
mod tests;
mod waiting;

pub(crate) use documents::DOCUMENTS_MAX;
pub use documents::Documents;
pub(crate) use packets::{Packets, Place};
pub(crate) use service::{Letter, Reply, Service, Token};

use attachment::{Attachment, Frame, Inbound};
use fetch::Fetch;
use waiting::{Awaited, Waiting};

/// A client that overslept (a suspended laptop) does not make up for more than this.
const BEHIND_MAX_NS: u64 = 1_000_000_000;
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
    pub(crate) authorities: Authorities,
    /// Slots a second.
    pub(crate) rate_pps: f64,
    /// Share of slots for loop cover, 0 to 1.
    pub(crate) loop_share: f64,
}

/// The link, its slots and what fills them.
pub(crate) struct Carrier {
    place: Place,
    authorities: Authorities,
    loop_share: f64,
    rate_pps: f64,
    rng: ChaCha20Rng,
    slots: ChaCha20Rng,
    slot_ns: u64,

    documents: Documents,
    fetch: Fetch,
    attachment: Attachment,
    /// Content of the next slot.
    prepared: Option<Frame>,
    waiting: Waiting,
    /// Number of the service whose letter was taken last.
    last_served: usize,

    pub(crate) events: VecDeque<Event>,
    pub(crate) stats: Stats,
}

impl Carrier {
    /// A carrier that knows these `documents` and starts its Poisson process at `now_ns`.
    pub(crate) fn new(
        settings: Settings,
        documents: Documents,
        mut rng: ChaCha20Rng,
        now_ns: u64,
    ) -> Self {
        let rate_pps = settings.rate_pps;
        // Whole packets a second in an attach frame; the cast saturates.
        let down_pps = (rate_pps * DOWN_FACTOR).ceil() as u32;
        let mut slots = ChaCha20Rng::from_rng(&mut rng);
        let slot_ns = now_ns + gap_ns(&mut slots, rate_pps);
        Self {
            place: Place {
                gateway: settings.gateway,
                destination: link::destination_tag(settings.mailbox.public_key()),
            },
            authorities: settings.authorities,
            loop_share: settings.loop_share,
            rate_pps,
            attachment: Attachment::new(settings.mailbox, rate_pps, down_pps),
            rng,
            slots,
            slot_ns,
            documents,
            fetch: Fetch::default(),
            prepared: None,
            waiting: Waiting::default(),
            last_served: 0,
            events: VecDeque::new(),
            stats: Stats::default(),
        }
    }

    /// When the next slot is.
    pub(crate) fn slot_ns(&self) -> u64 {
        self.slot_ns
    }

    /// Where this client is reached.
    pub(crate) fn place(&self) -> Place {
        self.place
    }

    /// Slots a second.
    pub(crate) fn rate_pps(&self) -> f64 {
        self.rate_pps
    }

    /// The documents that it holds.
    pub(crate) fn documents(&self) -> &Documents {
        &self.documents
    }

    /// Whether the gateway has answered the attachment.
    pub(crate) fn is_attached(&self) -> bool {
        self.attachment.is_attached()
    }

    /// Fills the slot if its time has come: where to send which datagram. A slot without one (no gateway known, no
    /// session yet) passes.
    pub(crate) fn transmit(
        &mut self,
        services: &mut [&mut dyn Service],
        now_ns: u64,
        unix_ms: u64,
    ) -> Option<(SocketAddr, [u8; DATAGRAM_BYTES])> {
        if now_ns < self.slot_ns {
            return None;
        }
        let from_ns = self.slot_ns.max(now_ns.saturating_sub(BEHIND_MAX_NS));
        self.slot_ns = from_ns + gap_ns(&mut self.slots, self.rate_pps);
        self.prepare(services, now_ns, unix_ms);
        let node = self.documents.find(&self.place.gateway, unix_ms)?;
        let address = *node.addresses.first()?;
        let handshake = self.attachment.handshake(&node.link, now_ns, &mut self.rng);
        if let Some(silent) = self.attachment.news(now_ns) {
            self.events.push_back(match silent {
                true => Event::GatewaySilent { address },
                false => Event::GatewayBack,
            });
        }
        let datagram = match handshake {
            Some(datagram) => datagram,
            None => self.attachment.seal(self.prepared.take()?, now_ns)?,
        };
        self.stats.datagrams += 1;
        Some((address, datagram))
    }

    /// Builds what the next slot will hold, unless that is done, so that a slot's departure does not show how much
    /// work its content was.
    pub(crate) fn prepare(&mut self, services: &mut [&mut dyn Service], now_ns: u64, unix_ms: u64) {
        if self.prepared.is_none() && self.attachment.has_session(now_ns) {
            for service in services.iter_mut() {
                service.tick(now_ns);
            }
            self.prepared = Some(self.next_frame(services, now_ns, unix_ms));
        }
    }

    /// Takes a datagram from the network; what is not from the gateway is passed over.
    pub(crate) fn receive(
        &mut self,
        services: &mut [&mut dyn Service],
        now_ns: u64,
        datagram: &mut [u8; DATAGRAM_BYTES],
    ) {
        match self.attachment.receive(datagram, now_ns) {
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
            Some(Inbound::Control(_)) | None => {}
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

/// Uniform in (0, 1]: 53 random bits.
fn unit(rng: &mut ChaCha20Rng) -> f64 {
    ((rng.next_u64() >> 11) + 1) as f64 / (1u64 << 53) as f64
}

/// An exponential gap between two slots.
fn gap_ns(rng: &mut ChaCha20Rng, rate_pps: f64) -> u64 {
    (-unit(rng).ln() * 1e9 / rate_pps) as u64
}
