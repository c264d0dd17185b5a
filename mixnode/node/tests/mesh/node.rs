//! One node of the production code on a simulated network: its workers, its handshaker polled in place of the
//! thread, and its follower of the directory.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use crossbeam::channel::Receiver;
use directory::{Identity, LinkKey, Role};
use link::LinkKeys;
use mixnode::handshake::{Handshaker, Request, thread::queue};
use mixnode::keys::epoch::EpochState;
use mixnode::path::core::{Core, Settings, Shared};
use mixnode::path::counters::{Counters, Published};
use mixnode::path::mail::{Mail, Mailbox};
use mixnode::path::worker::Worker;
use mixnode::process::follower::{Follower, Profile};
use port::pool::FramePool;
use port::sim::Network;
use port::{EventFd, Port, SimPort};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use sphinx::lanes::Lanes;

/// Datagrams that wait unread at a worker.
const INBOX: usize = 4_096;

/// What stays of a node when it dies: its keys on the disk, and where it listens.
pub struct Place {
    pub role: Role,
    pub operator: String,
    /// One a worker; the first is published.
    pub addresses: Vec<SocketAddr>,
    identity: [u8; 32],
    link: LinkKeys,
}

impl Place {
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
            link: LinkKeys::generate(rng),
        }
    }

    pub fn identity(&self) -> [u8; 32] {
        Identity::from_bytes(&self.identity).public()
    }
}

/// A running node.
pub struct Node<P: Port> {
    pub role: Role,
    pub identity: [u8; 32],
    pub workers: Vec<Worker<P>>,
    pub mailboxes: Vec<Mailbox>,
    pub handshaker: Handshaker<ChaCha20Rng>,
    pub requests: Receiver<Request>,
    pub follower: Follower,
    pub rng: ChaCha20Rng,
}

impl Node<SimPort> {
    /// Starts a node on the simulated network; `settings` count for each of its workers.
    pub fn simulated(
        place: &Place,
        settings: &Settings,
        max_pps: u32,
        network: &Network,
        rng: &mut ChaCha20Rng,
    ) -> Node<SimPort> {
        let open = |address, event, pool: &FramePool| {
            SimPort::new(network.open(address, INBOX).unwrap(), event, pool)
        };
        Node::start(place, settings, max_pps, network.now_ns(), rng, open)
    }
}

impl<P: Port> Node<P> {
    /// Starts a node whose workers have the ports that `open` opens.
    pub fn start(
        place: &Place,
        settings: &Settings,
        max_pps: u32,
        now_ns: u64,
        rng: &mut ChaCha20Rng,
        open: impl Fn(SocketAddr, Arc<EventFd>, &FramePool) -> P,
    ) -> Node<P> {
        let (sender, requests) = queue();
        let events: Vec<_> = place
            .addresses
            .iter()
            .map(|_| Arc::new(EventFd::new().unwrap()))
            .collect();
        let mailboxes: Vec<_> = events
            .iter()
            .map(|event| Mailbox::new(Arc::clone(event)))
            .collect();
        let shared = Shared {
            mailboxes: mailboxes.clone(),
            handshakes: sender,
            attachments: Arc::new(AtomicU64::new(1)),
        };
        let clients_max = match place.role {
            Role::Gateway => settings.clients_max,
            Role::Mix => 0,
        };
        let workers = (0u8..)
            .zip(events)
            .zip(&place.addresses)
            .map(|((worker, event), address)| {
                let settings = Settings {
                    number: worker,
                    workers: place.addresses.len() as u8,
                    clients_max,
                    ..*settings
                };
                let pool = FramePool::new(settings.pool_frames).unwrap();
                let port = open(*address, event, &pool);
                let core = Core::new(
                    settings,
                    shared.clone(),
                    pool,
                    Lanes::from_env_or_detect(),
                    ChaCha20Rng::from_rng(rng),
                    now_ns,
                )
                .unwrap();
                Worker::new(core, port, Published::new().unwrap())
            })
            .collect();
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
            vrf_key: [0; 32],
        };
        let identity = Identity::from_bytes(&place.identity);
        Node {
            role: place.role,
            identity: identity.public(),
            workers,
            mailboxes,
            handshaker: Handshaker::new(place.link.clone(), ChaCha20Rng::from_rng(rng)),
            requests,
            follower: Follower::new(identity, profile, max_pps),
            rng: ChaCha20Rng::from_rng(rng),
        }
    }

    /// Puts an epoch in force at all workers.
    pub fn install(&mut self, state: &Arc<EpochState>) {
        for mailbox in &self.mailboxes {
            assert!(mailbox.post(Mail::Epoch(Arc::clone(state))));
        }
    }

    pub fn handshakes(&mut self, now_ns: u64, unix_ms: u64) {
        let boxes = self.mailboxes.clone();
        let mut post = |worker: u8, mail| boxes[usize::from(worker)].post(mail);
        while let Ok(request) = self.requests.try_recv() {
            self.handshaker
                .handle(request, self.requests.len(), now_ns, unix_ms, &mut post);
        }
        self.handshaker.poll(now_ns, unix_ms, &mut post);
    }

    /// Runs all that is due; says when the next thing is.
    pub fn step(&mut self, now_ns: u64, unix_ms: u64) -> Option<u64> {
        for _ in 0..1_000 {
            let mut next: Option<u64> = None;
            for worker in &mut self.workers {
                let due = worker.turn(now_ns, unix_ms);
                assert!(worker.counters().is_conserved(), "{:?}", worker.counters());
                next = next.into_iter().chain(due).min();
            }
            self.handshakes(now_ns, unix_ms);
            let next = next.into_iter().chain(self.handshaker.deadline_ns()).min();
            let mail = self.mailboxes.iter().any(|mailbox| !mailbox.is_empty());
            if !mail && next.is_none_or(|next| next > now_ns) {
                return next;
            }
        }
        panic!("a node is never done at {now_ns}");
    }

    /// Sums of all workers.
    pub fn counters(&self) -> Counters {
        let mut sum = Counters::default();
        self.workers
            .iter()
            .for_each(|worker| sum.add(worker.counters()));
        sum
    }
}
