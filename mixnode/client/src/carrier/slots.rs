//! What goes into a slot, in this order of precedence: a handshake when one is due by time (not decided here), loop
//! cover (a fixed share), proving the client's address, attaching, a part of a consensus, an answer and a letter in turn,
//! drop cover.

use super::attachment::Frame;
use super::packets::Packets;
use super::{Carrier, Service, unit};

impl Carrier {
    pub(super) fn next_frame(
        &mut self,
        services: &mut [&mut dyn Service],
        now_ns: u64,
        unix_ms: u64,
    ) -> Frame {
        let uniform = unit(&mut self.rng);
        // Without a document to wrap with, only this epoch's consensus helps: none of the packets below can be made.
        if uniform < self.loop_share
            && let Some(frame) = self.next_loop(now_ns, unix_ms)
        {
            return frame;
        }
        self.attachment
            .answer()
            .or_else(|| self.attachment.attach(now_ns))
            .or_else(|| self.next_fetch(now_ns, unix_ms))
            .or_else(|| self.next_of_services(services, now_ns, unix_ms))
            .or_else(|| self.next_drop(unix_ms))
            .unwrap_or_else(Frame::cover)
    }

    /// A reply or a letter; where there are always replies to be given, which strangers can ask for, every second one is a
    /// letter.
    fn next_of_services(
        &mut self,
        services: &mut [&mut dyn Service],
        now_ns: u64,
        unix_ms: u64,
    ) -> Option<Frame> {
        if core::mem::take(&mut self.replied)
            && let Some(letter) = self.next_letter(services, now_ns, unix_ms)
        {
            return Some(letter);
        }
        if let Some(reply) = self.next_reply(services, now_ns, unix_ms) {
            self.replied = true;
            return Some(reply);
        }
        self.next_letter(services, now_ns, unix_ms)
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
