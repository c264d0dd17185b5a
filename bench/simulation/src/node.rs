//! One node of the production code on a simulated network: its workers, its handshaker polled in place of the
//! thread, and its follower of the directory.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use crossbeam::channel::Receiver;
use directory::vrf::VrfSecret;
use directory::{Chain, Identity, LinkKey, Role};
use link::LinkKeys;
use mixnode::assembly::Assembly;
use mixnode::handshake::{Handshaker, Members, Request};
use mixnode::keys::epoch::{Clocks, EpochState, Sizes};
use mixnode::path::core::Settings;
use mixnode::path::counters::Counters;
use mixnode::path::mail::{Mail, Mailbox};
use mixnode::path::worker::Worker;
use mixnode::process::follower::{Follower, Profile};
use port::pool::FramePool;
use port::sim::Network;
use port::{EventFd, Port, SimPort};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use sphinx::lanes::Lanes;

use crate::error::SimulationError;

/// Datagrams that wait unread at a worker.
const INBOX: usize = 4_096;
/// Rounds of workers and handshaker at one instant after which a node is taken for one that is never done.
const ROUNDS_MAX: u32 = 1_000;

/// What stays of a node when it dies: its keys on the disk, and where it listens.
pub struct Place {
    /// Its role.
    pub role: Role,
    /// Its operator.
    pub operator: String,
    /// One a worker; the first is published.
    pub addresses: Vec<SocketAddr>,
    identity: [u8; 32],
    vrf: [u8; 32],
    link: LinkKeys,
}

impl Place {
    /// A node at these addresses (at least one), with new keys.
    pub fn new(
        role: Role,
        operator: String,
        addresses: Vec<SocketAddr>,
        rng: &mut ChaCha20Rng,
    ) -> Place {
        Place {
            role,
            operator,
            addresses,
            identity: *Identity::generate(rng).to_bytes(),
            vrf: *Identity::generate(rng).to_bytes(),
            link: LinkKeys::generate(rng),
        }
    }

    /// Its public identity.
    pub fn identity(&self) -> [u8; 32] {
        Identity::from_bytes(&self.identity).public()
    }

    /// The static keys of its links: who has them can do what the node does not.
    pub fn link_keys(&self) -> &LinkKeys {
        &self.link
    }
}

/// A running node.
pub struct Node<P: Port> {
    /// Its role.
    pub role: Role,
    /// Its public identity.
    pub identity: [u8; 32],
    /// Its workers, by number.
    pub workers: Vec<Worker<P>>,
    /// Their mailboxes.
    pub mailboxes: Vec<Mailbox>,
    /// What a real node has a thread for.
    pub handshaker: Handshaker<ChaCha20Rng>,
    /// What it knows of other nodes.
    pub members: Arc<Members>,
    /// What the workers ask it.
    pub requests: Receiver<Request>,
    /// What it knows of the directory, and its epoch keys.
    pub follower: Follower,
    /// Its randomness beside the workers' and the handshaker's.
    pub rng: ChaCha20Rng,
    /// How long the machine was suspended: by so much the time since boot is ahead of the steady clock.
    pub slept_ns: u64,
}

impl Node<SimPort> {
    /// Starts a node of the network with this `chain` of authorities on the simulated wires; `settings` count for each of its workers.
    ///
    /// # Errors
    /// As for [`Node::start`]; somebody has one of its addresses.
    pub fn simulated(
        place: &Place,
        chain: &Chain,
        settings: &Settings,
        max_pps: u32,
        network: &Network,
        rng: &mut ChaCha20Rng,
    ) -> io::Result<Node<SimPort>> {
        let open = |address, event, pool: &FramePool| {
            Ok(SimPort::new(network.open(address, INBOX)?, event, pool))
        };
        Node::start(
            (place, chain),
            settings,
            max_pps,
            network.now_ns(),
            rng,
            open,
        )
    }
}

impl<P: Port> Node<P> {
    /// Starts a node whose workers have the ports that `open` opens.
    ///
    /// # Errors
    /// There is no memory or descriptor for it, or `open` failed.
    pub fn start(
        (place, chain): (&Place, &Chain),
        settings: &Settings,
        max_pps: u32,
        now_ns: u64,
        rng: &mut ChaCha20Rng,
        open: impl Fn(SocketAddr, Arc<EventFd>, &FramePool) -> io::Result<P>,
    ) -> io::Result<Node<P>> {
        let events = place
            .addresses
            .iter()
            .map(|_| EventFd::new().map(Arc::new))
            .collect::<io::Result<Vec<_>>>()?;
        let Assembly {
            mailboxes,
            requests,
            members,
            seats,
        } = Assembly::new(events, place.role == Role::Gateway)?;
        let clients_max = match place.role {
            Role::Gateway => settings.clients_max,
            Role::Mix => 0,
        };
        let settings = Settings {
            clients_max,
            ..*settings
        };
        let workers = seats
            .iter()
            .zip(&place.addresses)
            .map(|(seat, address)| {
                let pool = FramePool::new(settings.pool_frames)?;
                let port = open(*address, Arc::clone(&seat.event), &pool)?;
                let rng = sphinx::Generator::from_rng(rng);
                let lanes = Lanes::from_env_or_detect();
                seat.worker(settings, lanes, pool, port, rng, now_ns)
            })
            .collect::<io::Result<_>>()?;
        let public = place.link.public();
        let profile = Profile {
            role: place.role,
            operator: place.operator.clone(),
            addresses: vec![place.addresses[0]],
            link: LinkKey {
                x25519: public.x25519,
                kem: public.kem,
            },
            capacity_pps: 1_000,
        };
        let identity = Identity::from_bytes(&place.identity);
        let vrf = VrfSecret::from_bytes(&place.vrf);
        let sizes = Sizes {
            max_pps,
            workers: u8::try_from(place.addresses.len()).unwrap_or(u8::MAX),
        };
        let mut follower = Follower::new(identity, vrf, profile, sizes);
        follower.join(chain.clone());
        Ok(Node {
            role: place.role,
            identity: place.identity(),
            workers,
            mailboxes,
            members: Arc::clone(&members),
            handshaker: Handshaker::new(place.link.clone(), members, ChaCha20Rng::from_rng(rng)),
            requests,
            follower,
            rng: ChaCha20Rng::from_rng(rng),
            slept_ns: 0,
        })
    }

    /// The clocks of its control loop.
    pub fn clocks(&self, now_ns: u64, unix_ms: u64) -> Clocks {
        Clocks {
            unix_ms,
            boot_ns: now_ns + self.slept_ns,
        }
    }

    /// Puts an epoch in force at all workers.
    ///
    /// # Errors
    /// A worker's mailbox is full.
    pub fn install(&mut self, state: &Arc<EpochState>) -> Result<(), SimulationError> {
        let mut posted = self
            .mailboxes
            .iter()
            .map(|mailbox| mailbox.post(Mail::Epoch(Arc::clone(state))));
        match posted.all(|posted| posted) {
            true => Ok(()),
            false => Err(SimulationError::MailboxFull),
        }
    }

    /// Does what a real node's handshake thread would have done by now.
    pub fn handshakes(&mut self, now_ns: u64) {
        let boxes = self.mailboxes.clone();
        let mut post = |worker: u8, mail| boxes[usize::from(worker)].post(mail);
        while let Ok(request) = self.requests.try_recv() {
            self.handshaker.handle(request, now_ns, &mut post);
        }
        while self.handshaker.serve(now_ns, &mut post) {}
        self.handshaker.poll(now_ns, &mut post);
    }

    /// Runs all that is due; says when the next thing is.
    ///
    /// # Errors
    /// A worker does not account for every frame, or something is due however often the node is run.
    pub fn step(&mut self, now_ns: u64, unix_ms: u64) -> Result<Option<u64>, SimulationError> {
        // What a real node's control loop does all the time.
        self.follower.end_epochs(now_ns + self.slept_ns);
        for _ in 0..ROUNDS_MAX {
            let mut next: Option<u64> = None;
            for worker in &mut self.workers {
                let due = worker.turn(now_ns, unix_ms);
                if !worker.counters().is_conserved() {
                    return Err(SimulationError::Unconserved(Box::new(worker.counters())));
                }
                next = next.into_iter().chain(due).min();
            }
            self.handshakes(now_ns);
            let next = next.into_iter().chain(self.handshaker.deadline_ns()).min();
            let mail = self.mailboxes.iter().any(|mailbox| !mailbox.is_empty());
            if !mail && next.is_none_or(|next| next > now_ns) {
                return Ok(next);
            }
        }
        Err(SimulationError::NeverDone { now_ns })
    }

    /// Sums of all workers.
    pub fn counters(&self) -> Counters {
        let mut sum = Counters::default();
        self.workers
            .iter()
            .for_each(|worker| sum.add(&worker.counters()));
        sum
    }
}
