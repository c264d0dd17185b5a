//! Everything a worker owns but its port: what the stages work on.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use arrayvec::ArrayVec;
use crossbeam::channel::Sender;
use link::{CONTENT_BYTES, CONTENT_OFFSET, DATAGRAM_BYTES};
use sphinx::Engine;
use sphinx::Generator;
use sphinx::lanes::Lanes;

use crate::handshake::{Members, Request};
use crate::loader_link::Loader;
use crate::path::anonymity::Anonymity;
use crate::path::clients::Clients;
use crate::path::counters::Distributions;
use crate::path::cover::Cover;
use crate::path::epochs::{Epochs, Links};
use crate::path::grant::Budget;
use crate::path::ledger::Ledger;
use crate::path::loops::Loops;
use crate::path::mail::Mailbox;
use crate::path::neighbours::{Neighbour, Neighbours, SESSIONS_PER_STRANGER};
use crate::path::restart::{self, Restarts};
use crate::path::wheel::{TICK_NS, Wheel};
use port::pool::{Frame, FramePool};
use port::{BATCH_MAX, DepartingBatch};

/// Sessions of strangers beside those that clients may have.
const VISITORS_MAX: usize = 64;

/// Sizes and rates of one worker, fixed at start.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// This worker's number.
    pub number: u8,
    /// Number of workers of the node.
    pub workers: u8,
    /// Frames of the pool.
    pub pool_frames: u32,
    /// Sessions that count, both those of nodes and of clients. What [`Settings::strangers_max`] leaves is for nodes.
    pub sessions_max: usize,
    /// Clients attached to this worker.
    pub clients_max: u16,
    /// Deliveries queued for one client.
    pub client_queue_frames: usize,
    /// Highest rate granted to a client, packets a second.
    pub client_rate_max_pps: u32,
    /// Mean time between loop packets of the node; 0 for none.
    pub loop_interval_ns: u64,
    /// Mean time between drop cover packets of the node; 0 for none.
    pub drop_interval_ns: u64,
    /// Packets a second that the node can do: no node before it sends more than its part of them. 0: as many as it likes.
    pub capacity_pps: u32,
    /// Probability of dropping a datagram on arrival: for laboratories.
    pub loss: f64,
    /// Address family of the port.
    pub ipv6: bool,
}

/// Sessions of strangers at a worker with so many clients: what these may have, and some for who is not attached, so that
/// a newcomer is heard however many are.
pub const fn strangers_max(clients_max: u16) -> usize {
    match clients_max {
        0 => 0,
        some => SESSIONS_PER_STRANGER * some as usize + VISITORS_MAX,
    }
}

impl Settings {
    /// Sessions of strangers. All others are for members of the consensus.
    pub fn strangers_max(&self) -> usize {
        strangers_max(self.clients_max)
    }
}

/// What a worker shares with the rest of its node.
#[derive(Clone)]
pub struct Shared {
    /// Mailboxes of all workers, by number.
    pub mailboxes: Vec<Mailbox>,
    /// Requests to the handshaker.
    pub handshakes: Sender<Request>,
    /// Whose handshakes it answers.
    pub members: Arc<Members>,
    /// Numbers sessions as they begin to count, so that of two attachments of a client the newer session's wins on all
    /// workers.
    pub orders: Arc<AtomicU64>,
}

/// Which session seals a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// The sending session of a link.
    Link(u16),
    /// The session of a client.
    Session(u32),
    /// The same, to the address that the client has to prove.
    Challenge(u32),
    /// A session whose client is not attached, to an address that it has proved.
    Refusal(u32, SocketAddr),
}

/// A frame on its way out, its content in place, not sealed yet.
#[derive(Debug)]
pub struct Outgoing {
    /// Holds the content.
    pub frame: Frame,
    /// Who gets it.
    pub via: Via,
    /// What it is.
    pub kind: link::Kind,
    /// Epoch modulo 4.
    pub epoch: u8,
}

/// A batch of them.
pub type OutgoingBatch = ArrayVec<Outgoing, BATCH_MAX>;

/// The state of one worker.
pub struct Core {
    pub(crate) settings: Settings,
    pub(crate) shared: Shared,
    pub(crate) ledger: Ledger,
    pub(crate) wheel: Wheel,
    pub(crate) engine: Engine,
    pub(crate) lanes: Lanes,
    delay_max_us: u32,
    /// The pool by holders.
    pub(crate) budget: Budget,
    pub(crate) epochs: Epochs,
    pub(crate) links: Links,
    /// Links with a new session: a frame goes through each as soon as there is room for one.
    pub(crate) greetings: Vec<u16>,
    pub(crate) restarts: Restarts,
    pub(crate) neighbours: Neighbours,
    /// Who is told of sessions that are over, if anyone filters by them.
    pub(crate) loader: Option<Loader>,
    pub(crate) clients: Clients,
    /// Who is to be told that the gateway is full: sessions, and addresses they have proved.
    pub(crate) refusals: ArrayVec<(u32, SocketAddr), BATCH_MAX>,
    /// Attach frames that found no place, and clients that gave theirs up.
    pub(crate) refused: u64,
    pub(crate) displaced: u64,
    pub(crate) cover: Cover,
    pub(crate) loops: Loops,
    /// Of what left the wheel.
    pub(crate) anonymity: Anonymity,
    /// Sealed, waiting for the port.
    pub(crate) departing: DepartingBatch,
    /// Frames that landed here and belong to another worker.
    pub(crate) strayed: u64,
    pub(crate) distributions: Distributions,
    pub(crate) rng: Generator,
    pub(crate) now_ns: u64,
    pub(crate) unix_ms: u64,
    pub(crate) draining: bool,
    /// The port has an address of the host's loopback, as in laboratories: so do those that send to it.
    pub(crate) is_on_loopback: bool,
}

impl Core {
    /// Allocates all that the packet path needs.
    ///
    /// # Errors
    /// If there is no memory for the pool.
    pub fn new(
        settings: Settings,
        shared: Shared,
        pool: FramePool,
        lanes: Lanes,
        mut rng: Generator,
        now_ns: u64,
    ) -> io::Result<Core> {
        let frames = pool.capacity();
        // Each worker sends its share of the node's cover.
        let share = |interval_ns: u64| interval_ns * u64::from(settings.workers.max(1));
        let cover = Cover::new(
            share(settings.loop_interval_ns),
            share(settings.drop_interval_ns),
            now_ns,
            &mut rng,
        );
        let mut neighbours = Neighbours::new(settings.sessions_max, settings.strangers_max());
        neighbours.limit_nodes(settings.capacity_pps);
        Ok(Core {
            wheel: Wheel::new(frames, TICK_NS, now_ns),
            // No delay is known to be allowed before there is a consensus, and no packet is opened before.
            engine: Engine::new(lanes, 0),
            lanes,
            delay_max_us: 0,
            budget: Budget::of(frames, settings.clients_max, settings.client_queue_frames),
            epochs: Epochs::default(),
            links: Links::default(),
            greetings: Vec::new(),
            restarts: Restarts::default(),
            neighbours,
            loader: None,
            clients: Clients::new(
                settings.clients_max,
                settings.client_queue_frames,
                Arc::clone(&shared.members),
            ),
            refusals: ArrayVec::new(),
            refused: 0,
            displaced: 0,
            cover,
            loops: Loops::new(now_ns),
            anonymity: Anonymity::default(),
            departing: ArrayVec::new(),
            strayed: 0,
            distributions: Distributions::new().map_err(io::Error::other)?,
            rng,
            now_ns,
            unix_ms: 0,
            draining: false,
            is_on_loopback: false,
            settings,
            shared,
            ledger: Ledger::new(pool),
        })
    }

    /// Tells `loader` of sessions that are over from now on.
    pub fn attach(&mut self, loader: Loader) {
        self.neighbours.remember_ended();
        self.loader = Some(loader);
    }

    /// Whether a neighbour holds all of the wheel that it may: a flooder must not starve the rest.
    pub fn has_its_share(&self, neighbour: &Neighbour) -> bool {
        let share = if neighbour.is_node() {
            self.budget.node_share(neighbour.layer_permille)
        } else {
            let mean_us = self.delay_max_us / directory::DELAY_CAP_MEANS;
            let rate_pps = neighbour.bucket.rate_pps();
            self.budget.client_share(rate_pps, mean_us)
        };
        neighbour.holding >= share
    }

    /// Frames held: delayed, queued for clients, waiting for the port.
    pub fn held_count(&self) -> u64 {
        (self.wheel.len() + self.clients.queued() + self.departing.len()) as u64
    }

    /// This worker's own mailbox.
    pub(crate) fn mailbox(&self) -> Option<&Mailbox> {
        self.shared.mailboxes.get(usize::from(self.settings.number))
    }

    /// Puts an epoch in force.
    pub fn install(&mut self, state: Arc<crate::keys::epoch::EpochState>) {
        let delay_max_us = state.consensus().parameters().delay_max_us();
        if delay_max_us != self.delay_max_us {
            self.delay_max_us = delay_max_us;
            self.engine = Engine::new(self.lanes, delay_max_us);
        }
        self.limit_grants(state.consensus().parameters().client_rate_pps);
        self.shared.members.learn(&state);
        self.epochs
            .install(Arc::clone(&state), &mut self.links, self.settings.ipv6);
        if state.came_back() {
            restart::tell(self, &state);
        }
        self.epochs.advance(self.unix_ms);
        self.neighbours.learn(&self.epochs);
    }

    /// Clients of the network's rate get what they ask for; what all others ask for beyond that is no more than this worker
    /// can do.
    fn limit_grants(&mut self, client_rate_pps: u32) {
        let workers = u64::from(self.settings.workers.max(1));
        let capacity_pps = u64::from(self.settings.capacity_pps);
        let ordinary_pps = client_rate_pps.saturating_mul(5).div_ceil(4);
        let beyond_pps = (capacity_pps > 0).then_some(capacity_pps / workers);
        self.clients.limit_grants(ordinary_pps, beyond_pps);
    }

    /// The client of this session is attached no more: what was granted to it ends.
    pub(crate) fn revoke(&mut self, session: u32) {
        let inbound = self.neighbours.session(session);
        if let Some(number) = inbound.map(|inbound| inbound.neighbour)
            && let Some(client) = self.neighbours.get_mut(number)
        {
            client.bucket.revoke(self.now_ns);
        }
    }
}

const _: () = assert!(CONTENT_OFFSET + CONTENT_BYTES <= DATAGRAM_BYTES);

/// The content of a data frame.
#[inline]
pub fn content(datagram: &mut [u8; DATAGRAM_BYTES]) -> &mut [u8; CONTENT_BYTES] {
    let (_, rest) = datagram.split_at_mut(CONTENT_OFFSET);
    match rest.first_chunk_mut() {
        Some(content) => content,
        // Checked at compile time, above.
        None => unreachable!("a datagram holds its content"),
    }
}
