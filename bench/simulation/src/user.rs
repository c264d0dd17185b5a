//! A user: the production client on an address of the simulated network, with storage that outlives it.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use directory::{Chain, Consensus};
use fog::{
    Address, Client, Config, Event, Failure, Finish, GuardState, Identity, Manifest, MemoryStorage,
    Once, Phase, Reserves, Standing, Storage, TransferId,
};
use link::{ClientKeys, DATAGRAM_BYTES};
use port::sim::{Endpoint, Network};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

/// Datagrams that wait unread at a user's socket.
const INBOX: usize = 256;
/// Share of slots that are loop cover.
const LOOP_SHARE: f64 = 0.1;

/// What a user does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Is there, at the crowd's low rate.
    Crowd,
    /// Is there, at the rate of those who do something.
    Idle,
    /// Sends a file.
    Sends,
    /// Gets one.
    Receives,
}

/// Storage that simulation and client both hold, and that survives the client.
#[derive(Clone)]
pub struct Kept(Arc<Mutex<MemoryStorage>>);

impl Kept {
    fn new() -> Kept {
        Kept(Arc::new(Mutex::new(MemoryStorage::new(1 << 24))))
    }

    /// Every file delivered, in order.
    pub fn delivered(&self) -> Vec<(Manifest, Vec<u8>)> {
        self.inner().delivered.clone()
    }

    fn inner(&self) -> MutexGuard<'_, MemoryStorage> {
        // Whoever panicked with it left nothing half done that matters to a run already failing.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Storage for Kept {
    fn open(&mut self, manifest: &Manifest) -> io::Result<Standing> {
        self.inner().open(manifest)
    }

    fn write(&mut self, transfer: &TransferId, index: u32, data: &[u8]) -> io::Result<()> {
        self.inner().write(transfer, index, data)
    }

    fn flush(&mut self, transfer: &TransferId) -> io::Result<()> {
        self.inner().flush(transfer)
    }

    fn finish(&mut self, transfer: &TransferId) -> io::Result<Finish> {
        self.inner().finish(transfer)
    }

    fn remembered(&mut self, of: Once) -> Vec<(u32, [u8; 8])> {
        self.inner().remembered(of)
    }

    fn remember(&mut self, of: Once, epoch: u32, mark: &[u8; 8]) -> io::Result<()> {
        self.inner().remember(of, epoch, mark)
    }

    fn forget_before(&mut self, epoch: u32) {
        self.inner().forget_before(epoch);
    }

    fn forgotten(&self, of: Once) -> Option<u32> {
        self.inner().forgotten(of)
    }
}

/// One user.
pub struct User {
    /// What it does.
    pub part: Part,
    /// The node that is its gateway.
    pub gateway: usize,
    /// Where it is on the network.
    pub address: SocketAddr,
    /// Slots a second.
    pub rate_pps: f64,
    /// What it received.
    pub storage: Kept,
    /// When its first file was acknowledged whole.
    pub completed_ns: Option<u64>,
    /// Why a file of its was given up.
    pub failed: Option<Failure>,
    /// When its gateway first answered.
    pub attached_ns: Option<u64>,
    /// Consensuses it fetched and verified.
    pub fetched: u32,
    /// The client, while it runs.
    pub client: Option<Client>,
    endpoint: Endpoint,
    keeps_back: bool,
    kept: Vec<(SocketAddr, [u8; DATAGRAM_BYTES])>,
    seed: u64,
    runs: u64,
    identity: [u8; fog::IDENTITY_BYTES],
    mailbox: ClientKeys,
    /// Drawn once, at the first start, and where the client stood with its guard last.
    reserves: Option<Vec<([u8; 32], ClientKeys)>>,
    guard_state: GuardState,
    rng: ChaCha20Rng,
}

impl User {
    /// A user whose client does not run yet. All of its randomness comes from `seed`: the same, whatever others do.
    ///
    /// # Errors
    /// Somebody has the address.
    pub(crate) fn new(
        part: Part,
        gateway: usize,
        address: SocketAddr,
        rate_pps: f64,
        seed: u64,
        network: &Network,
    ) -> io::Result<User> {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        Ok(User {
            part,
            gateway,
            address,
            rate_pps,
            storage: Kept::new(),
            completed_ns: None,
            failed: None,
            attached_ns: None,
            fetched: 0,
            client: None,
            endpoint: network.open(address, INBOX)?,
            keeps_back: false,
            kept: Vec::new(),
            seed,
            runs: 0,
            identity: *Identity::generate(&mut rng).to_bytes(),
            mailbox: ClientKeys::generate(&mut rng),
            reserves: None,
            guard_state: GuardState::default(),
            rng,
        })
    }

    /// Whether its client died at some time.
    pub fn was_killed(&self) -> bool {
        self.runs > 1 || self.client.is_none()
    }

    /// From now on its gateway keeps back what it sends, or takes it as it comes.
    pub fn keep_back(&mut self, keeps_back: bool) {
        self.keeps_back = keeps_back;
    }

    /// Its gateway takes up all that it kept back.
    pub fn release(&mut self) {
        for (to, datagram) in self.kept.drain(..) {
            self.endpoint.send(to, &datagram);
        }
    }

    /// Packets of cover that its client has made since its start.
    pub fn cover(&self) -> u64 {
        let stats = self.client.as_ref().map(Client::stats);
        stats.map_or(0, |stats| stats.loops_sent + stats.drops_sent)
    }

    /// Identities of its guard's reserves, in the order in which they were drawn.
    pub fn reserves(&self) -> impl Iterator<Item = &[u8; 32]> {
        let reserves = self.reserves.iter().flatten();
        reserves.map(|(identity, _)| identity)
    }

    /// The address others send files to.
    pub fn fog_address(&self, gateway: [u8; 32]) -> Address {
        Identity::from_bytes(&self.identity).address(gateway, &self.mailbox)
    }

    /// Starts the client, anew if it was killed.
    pub(crate) fn start(
        &mut self,
        gateway: [u8; 32],
        authorities: Chain,
        consensus: Consensus,
        now_ns: u64,
    ) {
        self.runs += 1;
        let (consensus_now, rng) = (&consensus, &mut self.rng);
        let reserves = self
            .reserves
            .get_or_insert_with(|| Reserves::draw(consensus_now, &gateway, rng).gateways);
        let reserves = Reserves {
            gateways: reserves.clone(),
            state: self.guard_state,
            // Everybody here receives.
            moves: false,
        };
        let config = Config {
            identity: Identity::from_bytes(&self.identity),
            mailbox: self.mailbox.clone(),
            gateway,
            authorities,
            rate_pps: Some(self.rate_pps),
            loop_share: LOOP_SHARE,
        };
        let rng = sphinx::Generator::seed_from_u64(self.seed.wrapping_add(self.runs << 32));
        let storage = Box::new(self.storage.clone());
        let mut client = Client::new(config, consensus, Some(storage), rng, now_ns);
        client.set_reserves(reserves);
        self.client = Some(client);
    }

    /// Reads what came, fills the slot if it is due; says when the next slot is.
    pub(crate) fn step(&mut self, now_ns: u64, unix_ms: u64) -> Option<u64> {
        let mut datagram = [0; DATAGRAM_BYTES];
        while let Some((_, length)) = self.endpoint.receive(&mut datagram) {
            if let Some(client) = &mut self.client
                && length == DATAGRAM_BYTES
            {
                client.receive(now_ns, &mut datagram);
            }
        }
        let client = self.client.as_mut()?;
        if let Some((to, datagram)) = client.transmit(now_ns, unix_ms) {
            if self.keeps_back {
                self.kept.push((to, datagram));
            } else {
                self.endpoint.send(to, &datagram);
            }
        }
        while let Some(event) = client.event() {
            match event {
                Event::Attached { .. } => {
                    self.attached_ns.get_or_insert(now_ns);
                }
                Event::Sending { phase, .. } => match phase {
                    Phase::Complete => {
                        self.completed_ns.get_or_insert(now_ns);
                    }
                    Phase::Failed(failure) => self.failed = Some(failure),
                    Phase::FetchingKey
                    | Phase::Waiting
                    | Phase::Sending
                    | Phase::Checking
                    | Phase::Paused => {}
                },
                Event::Consensus { .. } => self.fetched += 1,
                Event::Authorities(_)
                | Event::Key { .. }
                | Event::Received(_)
                | Event::GatewaySilent { .. }
                | Event::GatewayBack
                | Event::GatewayFull
                | Event::GatewayLeaving { .. }
                | Event::GrantedLess(_)
                | Event::GatewayMoved { .. } => {}
                Event::Guard(state) => self.guard_state = state,
            }
        }
        Some(client.deadline())
    }
}
