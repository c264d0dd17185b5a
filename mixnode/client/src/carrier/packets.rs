//! Making packets and reply blocks: the one place of the client that wraps.

use arrayvec::ArrayVec;
use directory::{Consensus, Path, select_path};
use rand_core::{Rng, SeedableRng};
use sphinx::Generator;
use sphinx::lanes::Lanes;
use sphinx::{
    BODY_BYTES, DestinationTag, Id, PACKET_BYTES, SURB_BYTES, Surb, Terminal, WrapJob, Wrapped,
    surb_use, wrap, wrap_batch,
};

use super::attachment::Frame;
use super::documents::Documents;
use super::service::{Letter, Reply, Token};
use super::waiting::{Awaited, Waiting};

/// Reply blocks made at a time: what one packet has room for.
const BLOCKS_MAX: usize = 4;

/// Where this client is reached.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    /// Ed25519 identity of the gateway.
    pub(crate) gateway: [u8; 32],
    /// Its mailbox there.
    pub(crate) destination: DestinationTag,
}

/// When a reply block can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// Now.
    Now,
    /// When this client goes over to the next epoch.
    Later,
    /// Not any more, or never.
    Never,
}

/// Makes packets for one slot, all of one epoch; reply blocks may be of another.
pub(crate) struct Packets<'a> {
    /// The document to wrap with; this client's gateway is in it.
    pub(super) consensus: &'a Consensus,
    /// All documents, and the time: what conversations show of epochs.
    pub(super) documents: &'a Documents,
    pub(super) unix_ms: u64,
    pub(super) place: Place,
    pub(super) rng: &'a mut Generator,
    pub(super) waiting: &'a mut Waiting,
    /// Number of the service that is asked.
    pub(super) service: usize,
}

impl<'a> Packets<'a> {
    /// A generator that is the caller's own.
    pub(crate) fn generator(&mut self) -> Generator {
        Generator::from_rng(self.rng)
    }

    /// The epoch that this conversation names: not always that of its packets, which all of a client's share.
    pub(crate) fn epoch_of(&self, conversation: &[u8; 16]) -> u32 {
        self.documents_of(conversation).0.epoch()
    }

    fn documents_of(&self, conversation: &[u8; 16]) -> (&'a Consensus, Option<&'a Consensus>) {
        let documents = self.documents.of_conversation(conversation, self.unix_ms);
        documents.unwrap_or((self.consensus, None))
    }

    /// Whether it is a turn of epochs for this conversation: [`Packets::lasting_blocks`] are of two.
    pub(crate) fn is_at_turn(&self, conversation: &[u8; 16]) -> bool {
        self.documents_of(conversation).1.is_some()
    }

    /// Whether packets can be sent to users of this gateway now.
    pub(crate) fn reaches(&self, gateway: &[u8; 32]) -> bool {
        self.consensus.find(gateway).is_some()
    }

    /// When a reply block from elsewhere can be used from this client's gateway. What a client sends carries one epoch:
    /// blocks of another one would be the only such packets in the network, and tell who answers. Those of the next
    /// epoch wait for this client's turn.
    pub(crate) fn use_of(&self, surb: &Surb) -> Use {
        let own = self.consensus.find(&self.place.gateway);
        match surb.epoch().checked_sub(self.consensus.epoch()) {
            Some(0) if own.is_some_and(|node| node.index == surb.first_hop()) => Use::Now,
            Some(1) => Use::Later,
            _ => Use::Never,
        }
    }

    /// `count` reply blocks of the conversation's epoch, [`BLOCKS_MAX`] at most, for a user of the gateway `from`; what comes through
    /// them is for `token`. `None` while no path can be selected.
    pub(crate) fn reply_blocks(
        &mut self,
        from: &[u8; 32],
        token: Token,
        count: usize,
    ) -> Option<Vec<[u8; SURB_BYTES]>> {
        let (named, _) = self.documents_of(&token.conversation);
        self.blocks((from, named, None), token, count)
    }

    /// As [`Packets::reply_blocks`], for a user who answers on and on: at a turn of epochs every second block, beginning
    /// with any, is of the other epoch, if a path can be selected there.
    pub(crate) fn lasting_blocks(
        &mut self,
        from: &[u8; 32],
        token: Token,
        count: usize,
    ) -> Option<Vec<[u8; SURB_BYTES]>> {
        let (named, beside) = self.documents_of(&token.conversation);
        self.blocks((from, named, beside), token, count)
    }

    fn blocks(
        &mut self,
        (from, named, beside): (&[u8; 32], &Consensus, Option<&Consensus>),
        token: Token,
        count: usize,
    ) -> Option<Vec<[u8; SURB_BYTES]>> {
        let destination = self.place.destination;
        let first = beside.map_or(0, |_| self.rng.next_u32() as usize & 1);
        let mut drawn: ArrayVec<_, BLOCKS_MAX> = ArrayVec::new();
        for number in 0..count.min(BLOCKS_MAX) {
            let other = beside.filter(|_| number & 1 == first);
            let way = other.and_then(|other| self.way_back(other, from));
            let way = way.or_else(|| self.way_back(named, from));
            let (epoch, path) = way.or_else(|| self.way_back(self.consensus, from))?;
            drawn.push((self.new_id(), epoch, path));
        }
        // In one batch: the multiplications of all blocks share the lanes.
        let mut jobs: ArrayVec<WrapJob<'_>, BLOCKS_MAX> = drawn
            .iter()
            .map(|(id, epoch, path)| WrapJob::Surb {
                path,
                epoch: *epoch,
                destination,
                id: *id,
            })
            .collect();
        let mut made: ArrayVec<_, BLOCKS_MAX> = ArrayVec::new();
        wrap_batch(Lanes::detect(), self.rng, &mut jobs, &mut made);
        let mut blocks = Vec::with_capacity(made.len());
        for ((id, ..), made) in drawn.iter().zip(made) {
            let Ok(Wrapped::Surb(surb, secret)) = made else {
                return None;
            };
            let service = self.service;
            let awaited = Awaited::Reply {
                secret,
                service,
                token,
            };
            self.waiting.insert(*id, awaited);
            blocks.push(*surb.as_bytes());
        }
        Some(blocks)
    }

    /// A path to this client from a user of the gateway `from`, and its epoch.
    fn way_back(&mut self, consensus: &Consensus, from: &[u8; 32]) -> Option<(u32, Path)> {
        let own = consensus.find(&self.place.gateway)?.index;
        let from = consensus.find(from)?.index;
        let path = select_path(consensus, self.rng, from, own).ok()?;
        Some((consensus.epoch(), path))
    }

    /// A packet of cover that comes back to this client.
    pub(super) fn cover_loop(&mut self, now_ns: u64) -> Option<Frame> {
        let body = self.random_body();
        let id = self.new_id();
        let Place {
            gateway,
            destination,
        } = self.place;
        let terminal = Terminal::Deliver { destination, id };
        let frame = self.wrap_to(&gateway, &terminal, &body)?;
        self.waiting.insert(id, Awaited::Loop { sent_ns: now_ns });
        Some(frame)
    }

    /// A packet of cover that ends at a gateway.
    pub(super) fn cover_drop(&mut self) -> Option<Frame> {
        let mut body = self.random_body();
        body[..sphinx::CHECK_BYTES].fill(0);
        let exit = directory::pick_gateway(self.consensus, self.rng).ok()?;
        let exit = self.consensus.node(exit)?.identity;
        self.wrap_to(&exit, &Terminal::Drop, &body)
    }

    pub(super) fn letter(&mut self, letter: &Letter) -> Option<Frame> {
        let terminal = Terminal::Deliver {
            destination: letter.destination,
            id: self.new_id(),
        };
        self.wrap_to(&letter.gateway, &terminal, &letter.body)
    }

    pub(super) fn reply(reply: &Reply) -> Frame {
        let mut packet = [0; PACKET_BYTES];
        surb_use(&reply.surb, &reply.plaintext, &mut packet);
        Frame::sphinx(packet, reply.surb.epoch())
    }

    fn wrap_to(
        &mut self,
        exit: &[u8; 32],
        terminal: &Terminal,
        body: &[u8; BODY_BYTES],
    ) -> Option<Frame> {
        let consensus = self.consensus;
        let entry = consensus.find(&self.place.gateway)?.index;
        let exit = consensus.find(exit)?.index;
        let path = select_path(consensus, self.rng, entry, exit).ok()?;
        let mut packet = [0; PACKET_BYTES];
        wrap(self.rng, &path, terminal, body, &mut packet).ok()?;
        Some(Frame::sphinx(packet, consensus.epoch()))
    }

    fn new_id(&mut self) -> Id {
        let mut id = [0; 8];
        self.rng.fill_bytes(&mut id);
        id
    }

    fn random_body(&mut self) -> [u8; BODY_BYTES] {
        let mut body = [0; BODY_BYTES];
        self.rng.fill_bytes(&mut body);
        body
    }
}
