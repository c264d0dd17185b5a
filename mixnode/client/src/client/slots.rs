//! What goes into a client's slot, in order of precedence.

use directory::select_path;
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use sphinx::{BODY_BYTES, Id, PACKET_BYTES, Surb, Terminal, surb_create, surb_use, wrap};

use super::{Client, Waiting, unit};
use crate::attachment::Frame;
use crate::content::TransferId;
use crate::outgoing::Purpose;

/// Reply blocks and loops that are waited for; the oldest makes room.
const WAITING_MAX: usize = 16_384;

impl Client {
    pub(super) fn next_frame(&mut self, now_ns: u64, unix_ms: u64) -> Frame {
        let uniform = unit(&mut self.rng);
        let Some(epoch) = self.usable_epoch(unix_ms) else {
            // No keys to wrap with: only this epoch's consensus helps.
            return self
                .attachment
                .attach(now_ns)
                .or_else(|| self.next_fetch(now_ns, unix_ms))
                .unwrap_or_else(Frame::cover);
        };
        if uniform < self.loop_share
            && let Some(frame) = self.next_loop(epoch, now_ns)
        {
            return frame;
        }
        self.attachment
            .attach(now_ns)
            .or_else(|| self.next_fetch(now_ns, unix_ms))
            .or_else(|| self.next_reply(now_ns, unix_ms))
            .or_else(|| self.next_data(epoch, now_ns))
            .or_else(|| self.next_drop(epoch))
            .unwrap_or_else(Frame::cover)
    }

    /// The epoch to wrap with, if the gateway takes part in it.
    fn usable_epoch(&self, unix_ms: u64) -> Option<u32> {
        let consensus = self.documents.live(unix_ms)?;
        let epoch = consensus.epoch();
        consensus.find(&self.gateway).map(|_| epoch)
    }

    fn next_loop(&mut self, epoch: u32, now_ns: u64) -> Option<Frame> {
        let body = random_body(&mut self.rng);
        let id = self.new_id();
        let (gateway, destination) = (self.gateway, self.destination);
        let frame = self.wrap_to(
            epoch,
            &gateway,
            &Terminal::Deliver { destination, id },
            &body,
        )?;
        self.wait_for(id, Waiting::Loop { sent_ns: now_ns });
        self.stats.loops_sent += 1;
        Some(frame)
    }

    fn next_drop(&mut self, epoch: u32) -> Option<Frame> {
        let mut body = random_body(&mut self.rng);
        body[..sphinx::CHECK_BYTES].fill(0);
        let consensus = self.documents.of(epoch)?;
        let exit = directory::pick_gateway(consensus, &mut self.rng).ok()?;
        let exit = consensus.node(exit)?.identity;
        self.stats.drops_sent += 1;
        self.wrap_to(epoch, &exit, &Terminal::Drop, &body)
    }

    fn next_reply(&mut self, now_ns: u64, unix_ms: u64) -> Option<Frame> {
        let (documents, gateway) = (&self.documents, &self.gateway);
        documents.live(unix_ms)?;
        let now = documents.epoch_at(unix_ms);
        let usable = |surb: &Surb| {
            let live = surb.epoch() == now || surb.epoch().checked_add(1) == Some(now);
            live && documents
                .of(surb.epoch())
                .and_then(|consensus| consensus.find(gateway))
                .is_some_and(|node| node.index == surb.first_hop())
        };
        let reply = self.incoming.next_reply(&self.identity, now_ns, &usable)?;
        let mut packet = [0; PACKET_BYTES];
        surb_use(&reply.surb, &reply.plaintext, &mut packet);
        Some(Frame::sphinx(packet, reply.surb.epoch()))
    }

    /// Data of one transfer, in turn.
    fn next_data(&mut self, epoch: u32, now_ns: u64) -> Option<Frame> {
        let last = self.last_served;
        let mut order: Vec<TransferId> = self.outgoing.keys().copied().collect();
        let after = order.partition_point(|transfer| Some(*transfer) <= last);
        order.rotate_left(after);
        for transfer in order {
            // Taken out while it makes reply blocks, which needs the rest of the client.
            let Some(mut outgoing) = self.outgoing.remove(&transfer) else {
                continue;
            };
            let recipient = outgoing.address;
            let mut rng = ChaCha20Rng::from_rng(&mut self.rng);
            let mut surbs = |purpose| self.new_surb(epoch, &recipient.gateway, transfer, purpose);
            let body = outgoing.next(now_ns, &mut surbs, &mut rng);
            self.outgoing.insert(transfer, outgoing);
            self.report(transfer);
            let Some(body) = body else { continue };
            self.last_served = Some(transfer);
            let terminal = Terminal::Deliver {
                destination: recipient.destination,
                id: self.new_id(),
            };
            let frame = self.wrap_to(epoch, &recipient.gateway, &terminal, &body);
            if frame.is_some() {
                return frame;
            }
        }
        None
    }

    fn new_surb(
        &mut self,
        epoch: u32,
        from: &[u8; 32],
        transfer: TransferId,
        purpose: Purpose,
    ) -> Option<[u8; sphinx::SURB_BYTES]> {
        let id = self.new_id();
        let consensus = self.documents.of(epoch)?;
        let (entry, exit) = (consensus.find(from)?, consensus.find(&self.gateway)?);
        let path = select_path(consensus, &mut self.rng, entry.index, exit.index).ok()?;
        let (surb, secret) = surb_create(&mut self.rng, &path, epoch, self.destination, id).ok()?;
        self.wait_for(
            id,
            Waiting::Reply {
                secret,
                transfer,
                purpose,
            },
        );
        Some(*surb.as_bytes())
    }

    fn wrap_to(
        &mut self,
        epoch: u32,
        exit: &[u8; 32],
        terminal: &Terminal,
        body: &[u8; BODY_BYTES],
    ) -> Option<Frame> {
        let consensus = self.documents.of(epoch)?;
        let (entry, exit) = (consensus.find(&self.gateway)?, consensus.find(exit)?);
        let path = select_path(consensus, &mut self.rng, entry.index, exit.index).ok()?;
        let mut packet = [0; PACKET_BYTES];
        wrap(&mut self.rng, &path, terminal, body, &mut packet).ok()?;
        Some(Frame::sphinx(packet, epoch))
    }

    fn new_id(&mut self) -> Id {
        let mut id = [0; 8];
        self.rng.fill_bytes(&mut id);
        id
    }

    fn wait_for(&mut self, id: Id, waiting: Waiting) {
        if self.waiting_order.len() >= WAITING_MAX
            && let Some(oldest) = self.waiting_order.pop_front()
        {
            self.waiting.remove(&oldest);
        }
        self.waiting_order.push_back(id);
        self.waiting.insert(id, waiting);
    }
}

fn random_body(rng: &mut ChaCha20Rng) -> [u8; BODY_BYTES] {
    let mut body = [0; BODY_BYTES];
    rng.fill_bytes(&mut body);
    body
}

#[cfg(test)]
mod tests {
    use directory::{Authorities, Consensus, Parameters};
    use link::ClientKeys;

    use super::*;
    use crate::client::Config;
    use crate::identity::Identity;
    use crate::storage::MemoryStorage;

    #[test]
    fn what_is_waited_for_is_bounded_and_the_oldest_is_forgotten() {
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        let parameters = Parameters {
            genesis_unix_ms: 0,
            epoch_ms: 60_000,
            mean_delay_us: 1_000,
            client_rate_pps: 100,
            layers: 3,
        };
        let authority = directory::Identity::generate(&mut rng).public();
        let config = Config {
            identity: Identity::generate(&mut rng),
            mailbox: ClientKeys::generate(&mut rng),
            gateway: [1; 32],
            authorities: Authorities::new(vec![authority]).unwrap(),
            rate_pps: None,
            loop_share: 0.1,
        };
        let consensus = Consensus::new(parameters, 0, [0; 32], Vec::new()).unwrap();
        let storage = Box::new(MemoryStorage::new(0));
        let mut client = Client::new(config, consensus, storage, rng, 0);
        let id = |number: usize| (number as u64).to_le_bytes();
        for number in 0..WAITING_MAX + 10 {
            client.wait_for(id(number), Waiting::Loop { sent_ns: 0 });
        }
        assert_eq!(client.waiting.len(), WAITING_MAX);
        assert_eq!(client.waiting_order.len(), WAITING_MAX);
        assert!(!client.waiting.contains_key(&id(9)));
        assert!(client.waiting.contains_key(&id(10)));
    }
}
