//! What goes into a slot: loop cover (a fixed share), proving the client's address, attaching, and then what the slot's
//! [`Class`] has, else drop cover. A handshake or a question to another gateway takes its slot by time, elsewhere.
//!
//! The class is drawn before anybody looks what there is to send. Answers have slots of their own, which nothing else takes
//! and beside which they have none: anybody who has the address can ask for them, so whoever hears the owner's letters
//! would find in their pace that he is asked, and who asks would find in the pace of answers that the owner writes. Letters
//! take what parts of a consensus leave, for nobody outside can make a client fetch one.

use rand_core::Rng;
use sphinx::Generator;

use super::attachment::Frame;
use super::packets::Packets;
use super::{Carrier, Service, unit};

/// Of so many slots that hold no loop, one is for an answer and the others are for letters, in two of them after a part of
/// a consensus. Files that come in as fast as a gateway streams (1.25 × the slots) are owed two answers to 33 packets:
/// 0.076 of the slots, and these are 0.09 of them.
const CLASSES: u32 = 10;
const DOCUMENTS: u32 = 2;

/// What a slot may hold besides cover.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Loop,
    Answer,
    Document,
    Letter,
}

impl Class {
    fn draw(rng: &mut Generator, loop_share: f64) -> Self {
        let is_loop = unit(rng) < loop_share;
        match rng.next_u32() % CLASSES {
            _ if is_loop => Self::Loop,
            0 => Self::Answer,
            1..=DOCUMENTS => Self::Document,
            _ => Self::Letter,
        }
    }
}

/// The share of slots for letters, while no document is due.
pub(super) fn letter_share(loop_share: f64) -> f64 {
    (1.0 - loop_share) * f64::from(CLASSES - 1) / f64::from(CLASSES)
}

impl Carrier {
    pub(super) fn next_frame(
        &mut self,
        services: &mut [&mut dyn Service],
        now_ns: u64,
        unix_ms: u64,
    ) -> Frame {
        let class = Class::draw(&mut self.classes, self.loop_share);
        if class == Class::Loop
            && let Some(frame) = self.next_loop(now_ns, unix_ms)
        {
            return frame;
        }
        let own = self.attachment.answer();
        let own = own.or_else(|| self.attachment.attach(now_ns));
        own.or_else(|| self.next_of(class, services, now_ns, unix_ms))
            .or_else(|| self.next_drop(unix_ms))
            .unwrap_or_else(Frame::cover)
    }

    fn next_of(
        &mut self,
        class: Class,
        services: &mut [&mut dyn Service],
        now_ns: u64,
        unix_ms: u64,
    ) -> Option<Frame> {
        // Without a document to wrap with nothing can be made for any other class.
        if self.packets(0, unix_ms).is_none() {
            return self.next_fetch(now_ns, unix_ms);
        }
        match class {
            Class::Loop => None,
            Class::Answer => self.next_reply(services, now_ns, unix_ms),
            Class::Document => self
                .next_fetch(now_ns, unix_ms)
                .or_else(|| self.next_letter(services, now_ns, unix_ms)),
            Class::Letter => self.next_letter(services, now_ns, unix_ms),
        }
    }

    /// The maker of packets for service number `service`; none without a document for now in which the gateway takes
    /// part.
    pub(super) fn packets(&mut self, service: usize, unix_ms: u64) -> Option<Packets<'_>> {
        let consensus = self.documents.live(unix_ms)?;
        consensus.find(&self.place.gateway)?;
        Some(Packets {
            consensus,
            documents: &self.documents,
            unix_ms,
            place: self.place,
            rng: &mut self.rng,
            waiting: &mut self.waiting,
            service,
        })
    }

    fn next_loop(&mut self, now_ns: u64, unix_ms: u64) -> Option<Frame> {
        let frame = self.packets(0, unix_ms)?.cover_loop(now_ns)?;
        self.stats.loops_sent += 1;
        Some(frame)
    }

    fn next_drop(&mut self, unix_ms: u64) -> Option<Frame> {
        let frame = self.packets(0, unix_ms)?.cover_drop()?;
        self.stats.drops_sent += 1;
        Some(frame)
    }

    fn next_reply(
        &mut self,
        services: &mut [&mut dyn Service],
        now_ns: u64,
        unix_ms: u64,
    ) -> Option<Frame> {
        let packets = self.packets(0, unix_ms)?;
        let mut services = services.iter_mut();
        let reply = services.find_map(|service| service.reply(now_ns, &packets))?;
        Some(Packets::reply(&reply))
    }

    /// A letter of one service, in turn.
    fn next_letter(
        &mut self,
        services: &mut [&mut dyn Service],
        now_ns: u64,
        unix_ms: u64,
    ) -> Option<Frame> {
        let (count, last) = (services.len(), self.last_served);
        for number in (1..=count).map(|turn| (last + turn) % count) {
            let mut packets = self.packets(number, unix_ms)?;
            let service = services.get_mut(number)?;
            if let Some(letter) = service.letter(now_ns, &mut packets) {
                let frame = packets.letter(&letter);
                self.last_served = number;
                return frame;
            }
        }
        None
    }
}
