//! The world: nodes, users, one authority, wires and accidents, under one clock and one seed.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::io;
use std::net::SocketAddr;

use authority::Authority;
use directory::{Consensus, Held, Identity, Parameters, Role, SignedConsensus, SignedDescriptor};
use fog::Manifest;
use mixnode::path::counters::Counters;
use port::SimPort;
use port::sim::{Network, NetworkCounters};
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

use crate::error::SimulationError;
use crate::faults::{self, Fault};
use crate::host::Host;
use crate::node::{Node, Place};
use crate::plan::Plan;
use crate::trace::{Observation, Watcher};
use crate::user::{Part, User};

const GENESIS_MS: u64 = 1_800_000_000_000;
const MS: u64 = 1_000_000;
/// One second, ns.
pub const SECOND: u64 = 1_000 * MS;
/// An authority signs the next epoch's document no earlier than this into a run: every node is up by then.
const SIGNS_AFTER_NS: u64 = 3 * SECOND;

enum Act {
    Sign(u32),
    Fault(Fault),
}

/// A simulation under way.
pub struct World {
    /// What it was made of.
    pub plan: Plan,
    /// The wires.
    pub network: Network,
    /// What a watcher of the wires sees.
    pub watcher: Watcher,
    /// By number: gateways, then mixes. `None` while dead.
    pub nodes: Vec<Option<Node<SimPort>>>,
    /// By number: the crowd, then trios of sender, recipient, idler.
    pub users: Vec<User>,
    /// The clock.
    pub now_ns: u64,
    places: Vec<Place>,
    files: BTreeMap<usize, (Manifest, Vec<u8>)>,
    authority: Authority,
    documents: BTreeMap<u32, SignedConsensus>,
    descriptors: BTreeMap<[u8; 32], SignedDescriptor>,
    acts: VecDeque<(u64, Act)>,
    rng: ChaCha20Rng,
    agenda: BinaryHeap<Reverse<(u64, usize)>>,
    due: Vec<u64>,
    /// Counters of nodes that died.
    buried: Counters,
    /// Gateways that keep documents to themselves.
    withhold: BTreeSet<usize>,
}

impl World {
    /// A world at its first instant; senders have their files.
    ///
    /// # Errors
    /// The plan's parameters are none of a network, or there is no memory for one so large.
    pub fn new(plan: Plan) -> Result<World, SimulationError> {
        let mut rng = ChaCha20Rng::seed_from_u64(plan.seed);
        let network = Network::new(plan.seed, plan.conditions);
        let parameters = Parameters {
            genesis_unix_ms: GENESIS_MS,
            epoch_ms: plan.epoch_ms,
            mean_delay_us: plan.mean_delay_us,
            client_rate_pps: plan.busy_pps.ceil() as u32,
            layers: 3,
        };
        let watcher = Watcher::on(&network);
        let role = |node| {
            if node < plan.gateways {
                Role::Gateway
            } else {
                Role::Mix
            }
        };
        let places: Vec<Place> = (0..plan.nodes())
            .map(|node| {
                let operator = format!("operator {node}");
                let address = Host::Node(node).address();
                Place::new(role(node), operator, vec![address], &mut rng)
            })
            .collect();
        let authority = Authority::found(Identity::generate(&mut rng), parameters)?;
        let nodes = places
            .iter()
            .map(|place| {
                let (settings, max_pps) = (plan.settings(), plan.max_pps());
                let chain = authority.chain();
                Node::simulated(place, chain, &settings, max_pps, &network, &mut rng).map(Some)
            })
            .collect::<io::Result<_>>()?;
        let mut world = World {
            plan,
            watcher,
            nodes,
            users: Vec::new(),
            now_ns: 0,
            places,
            files: BTreeMap::new(),
            authority,
            documents: BTreeMap::new(),
            descriptors: BTreeMap::new(),
            acts: VecDeque::new(),
            agenda: BinaryHeap::new(),
            due: vec![u64::MAX; plan.nodes() + plan.users()],
            buried: Counters::default(),
            withhold: BTreeSet::new(),
            rng,
            network,
        };
        world.sign(0)?;
        world.seat_users()?;
        world.plan_acts();
        for node in 0..plan.nodes() {
            world.wake_at(node, 0);
        }
        Ok(world)
    }

    /// Number of the user in this part of trio `trio`.
    pub fn member(&self, trio: usize, part: Part) -> usize {
        let place = match part {
            Part::Sends => 0,
            Part::Receives => 1,
            Part::Idle | Part::Crowd => 2,
        };
        self.plan.crowd + 3 * trio + place
    }

    /// A sender's file.
    pub fn file(&self, sender: usize) -> &(Manifest, Vec<u8>) {
        &self.files[&sender]
    }

    /// Where a user's gateway is.
    pub fn gateway_address(&self, user: usize) -> SocketAddr {
        Host::Node(self.users[user].gateway).address()
    }

    /// Calls `observer`, in place of an earlier one, with every datagram sent from now on, in order. It must use
    /// neither watcher nor network.
    pub fn observe(&self, observer: impl FnMut(&Observation) + Send + 'static) {
        self.watcher.observe(observer);
    }

    /// Lets something happen at a time of this world, after what is planned for the same instant.
    pub fn plan_fault(&mut self, at_ns: u64, fault: Fault) {
        let place = self.acts.partition_point(|(planned, _)| *planned <= at_ns);
        self.acts.insert(place, (at_ns, Act::Fault(fault)));
    }

    /// The authority makes no document of this epoch.
    pub fn leave_out(&mut self, epoch: u32) {
        self.acts
            .retain(|(_, act)| !matches!(act, Act::Sign(of) if *of == epoch));
    }

    /// The number of the node with this identity.
    pub fn number_of(&self, identity: &[u8; 32]) -> Option<usize> {
        self.places
            .iter()
            .position(|place| place.identity() == *identity)
    }

    fn seat_users(&mut self) -> Result<(), SimulationError> {
        let plan = self.plan;
        for number in 0..plan.users() {
            let seed = self.rng.next_u64();
            let (part, gateway, rate_pps) = match number.checked_sub(plan.crowd) {
                None => (Part::Crowd, number % plan.gateways, plan.crowd_pps),
                Some(busy) => {
                    let part = [Part::Sends, Part::Receives, Part::Idle][busy % 3];
                    (part, busy % plan.busy_gateways(), plan.busy_pps)
                }
            };
            let address = Host::User(number).address();
            let user = User::new(part, gateway, address, rate_pps, seed, &self.network)?;
            self.users.push(user);
            if part != Part::Crowd {
                self.watcher.follow(address);
            }
            self.start_user(number)?;
        }
        for trio in 0..plan.trios {
            if plan.file_bytes > 0 {
                let sender = self.member(trio, Part::Sends);
                self.send(sender, self.member(trio, Part::Receives), plan.file_bytes)?;
            }
        }
        Ok(())
    }

    /// Gives a user a file of random bytes to send to another.
    ///
    /// # Errors
    /// The sender's client is dead.
    pub fn send(
        &mut self,
        sender: usize,
        recipient: usize,
        bytes: usize,
    ) -> Result<(), SimulationError> {
        let gateway = self.places[self.users[recipient].gateway].identity();
        let address = self.users[recipient].fog_address(gateway);
        let mut data = vec![0; bytes];
        self.rng.fill_bytes(&mut data);
        let mut transfer = [0; 16];
        self.rng.fill_bytes(&mut transfer);
        let manifest = Manifest {
            transfer,
            size: data.len() as u64,
            hash: *blake3::hash(&data).as_bytes(),
            name: format!("file of {sender}").into(),
        };
        let client = self.users[sender].client.as_mut();
        let client = client.ok_or(SimulationError::NoClient(sender))?;
        client.send(address, manifest.clone(), Box::new(data.clone()), None);
        self.files.insert(sender, (manifest, data));
        Ok(())
    }

    fn start_user(&mut self, number: usize) -> Result<(), SimulationError> {
        let gateway = self.places[self.users[number].gateway].identity();
        let authorities = self.authority.chain().clone();
        let consensus = self.consensus_now()?;
        self.users[number].start(gateway, authorities, consensus, self.now_ns);
        self.wake_at(self.plan.nodes() + number, self.now_ns);
        Ok(())
    }

    fn plan_acts(&mut self) {
        let plan = self.plan;
        let busy: Vec<usize> = self
            .users
            .iter()
            .filter(|user| user.part != Part::Crowd)
            .map(|user| user.gateway)
            .collect();
        let mut acts: Vec<(u64, Act)> = Vec::new();
        if plan.trios > 0 && plan.crashes + plan.partitions > 0 {
            let recipient = self.member(0, Part::Receives);
            let spared = |node: usize| busy.contains(&node);
            let faults = faults::draw(&plan, spared, recipient, &mut self.rng);
            acts.extend(
                faults
                    .into_iter()
                    .map(|(at, fault)| (at, Act::Fault(fault))),
            );
        }
        // As the authority's daemon does: the next epoch's document from the middle of an epoch on.
        for epoch in 1.. {
            let middle_ms = (u64::from(epoch) * 2 - 1) * plan.epoch_ms / 2;
            let at_ns = middle_ms.saturating_sub(plan.begins_ms) * MS;
            if at_ns >= plan.span_ns {
                break;
            }
            acts.push((at_ns.max(SIGNS_AFTER_NS), Act::Sign(epoch)));
        }
        acts.sort_by_key(|(at_ns, _)| *at_ns);
        self.acts = acts.into();
    }

    /// The wall clock, Unix milliseconds.
    pub fn unix_ms(&self) -> u64 {
        GENESIS_MS + self.plan.begins_ms + self.now_ns / MS
    }

    fn consensus_now(&self) -> Result<Consensus, SimulationError> {
        let now = self.authority.parameters().epoch_at(self.unix_ms());
        let newest = self.documents.range(..=now).next_back();
        let (_, document) = newest.ok_or(SimulationError::NoDocument)?;
        self.verify(document)
    }

    fn verify(&self, document: &SignedConsensus) -> Result<Consensus, SimulationError> {
        Ok(document.verify(self.authority.chain(), &Held::default())?)
    }

    /// Signs the document of `epoch` from what nodes published, and gives it to those that live.
    fn sign(&mut self, epoch: u32) -> Result<(), SimulationError> {
        let (now_ns, unix_ms) = (self.now_ns, self.unix_ms());
        for node in self.nodes.iter_mut().flatten() {
            let clocks = node.clocks(now_ns, unix_ms);
            if let Some(descriptor) = node.follower.describe(clocks, &mut node.rng) {
                self.descriptors.insert(descriptor.identity, descriptor);
            }
        }
        let descriptors: Vec<_> = self.descriptors.values().cloned().collect();
        let before = self.documents.range(..epoch).next_back();
        let before = before.map(|(_, before)| self.verify(before)).transpose()?;
        let document = self.authority.make(before.as_ref(), epoch, &descriptors)?;
        self.documents.insert(epoch, document);
        for number in 0..self.nodes.len() {
            self.take_up(number, epoch)?;
        }
        Ok(())
    }

    fn take_up(&mut self, number: usize, epoch: u32) -> Result<(), SimulationError> {
        let document = &self.documents[&epoch];
        let consensus = self.verify(document)?;
        let (now_ns, unix_ms) = (self.now_ns, self.unix_ms());
        if let Some(node) = &mut self.nodes[number] {
            // An empty document is what there is none of.
            let encoded = match self.withhold.contains(&number) {
                true => Vec::new(),
                false => document.encode(),
            };
            let clocks = node.clocks(now_ns, unix_ms);
            let state = node
                .follower
                .take_up(consensus, encoded, clocks, &mut node.rng)?;
            node.install(&state)?;
            self.wake_at(number, self.now_ns);
        }
        Ok(())
    }

    fn suffer(&mut self, fault: Fault) -> Result<(), SimulationError> {
        match fault {
            Fault::Partition(nodes) => {
                let hosts: Vec<_> = nodes
                    .into_iter()
                    .map(|node| Host::Node(node).address().ip())
                    .collect();
                self.network.partition(&hosts);
            }
            Fault::Heal => self.network.partition(&[]),
            Fault::Weather(conditions) => self.network.set_conditions(conditions),
            Fault::Crash(number) => {
                if let Some(node) = self.nodes[number].take() {
                    self.buried.add(&node.counters());
                }
            }
            Fault::Restart(number) => {
                let (place, settings) = (&self.places[number], self.plan.settings());
                let max_pps = self.plan.max_pps();
                let chain = self.authority.chain();
                let (network, rng) = (&self.network, &mut self.rng);
                let node = Node::simulated(place, chain, &settings, max_pps, network, rng)?;
                self.nodes[number] = Some(node);
                let now = self.authority.parameters().epoch_at(self.unix_ms());
                let known: Vec<u32> = self.documents.range(now..).map(|(of, _)| *of).collect();
                for epoch in known {
                    self.take_up(number, epoch)?;
                }
            }
            Fault::Withhold(number) => {
                self.withhold.insert(number);
            }
            Fault::Kill(user) => self.users[user].client = None,
            Fault::Revive(user) => self.start_user(user)?,
        }
        Ok(())
    }

    fn wake_at(&mut self, agent: usize, at_ns: u64) {
        if self.due[agent] != at_ns {
            self.due[agent] = at_ns;
            self.agenda.push(Reverse((at_ns, agent)));
        }
    }

    /// When the agenda's next entry that still counts is.
    fn next_due(&mut self) -> Option<u64> {
        while let Some(Reverse((at_ns, agent))) = self.agenda.peek().copied() {
            if self.due[agent] == at_ns {
                return Some(at_ns);
            }
            self.agenda.pop();
        }
        None
    }

    /// Runs to the end of the plan.
    ///
    /// # Errors
    /// As for [`World::run_until`].
    pub fn run(&mut self) -> Result<(), SimulationError> {
        self.run_until(self.plan.span_ns)
    }

    /// Runs until `until_ns`.
    ///
    /// # Errors
    /// A worker does not account for every frame, a node is never done, or the system gives no more memory.
    pub fn run_until(&mut self, until_ns: u64) -> Result<(), SimulationError> {
        let (mut arrived, mut awake): (Vec<SocketAddr>, Vec<usize>) = (Vec::new(), Vec::new());
        loop {
            let act = self.acts.front().map(|(at_ns, _)| *at_ns);
            let next = self
                .next_due()
                .into_iter()
                .chain(self.network.next_arrival_ns())
                .chain(act)
                .min()
                .unwrap_or(until_ns);
            if next >= until_ns {
                self.now_ns = until_ns;
                self.network.advance(until_ns, |_| ());
                return Ok(());
            }
            self.now_ns = self.now_ns.max(next);
            self.network.advance(self.now_ns, |to| arrived.push(to));
            while let Some((at_ns, act)) = self.acts.pop_front() {
                if at_ns > self.now_ns {
                    self.acts.push_front((at_ns, act));
                    break;
                }
                match act {
                    Act::Sign(epoch) => self.sign(epoch)?,
                    Act::Fault(fault) => self.suffer(fault)?,
                }
            }
            // In order of arrival, then of the agenda, each once.
            let agent = |host| match host {
                Host::Node(number) => number,
                Host::User(number) => self.plan.nodes() + number,
            };
            awake.extend(arrived.drain(..).filter_map(Host::at).map(agent));
            while let Some(at_ns) = self.next_due()
                && at_ns <= self.now_ns
                && let Some(Reverse((_, agent))) = self.agenda.pop()
            {
                self.due[agent] = u64::MAX;
                awake.push(agent);
            }
            for (place, agent) in awake.iter().enumerate() {
                if !awake[..place].contains(agent) {
                    self.step(*agent)?;
                }
            }
            awake.clear();
        }
    }

    fn step(&mut self, agent: usize) -> Result<(), SimulationError> {
        let (now_ns, unix_ms) = (self.now_ns, self.unix_ms());
        let next = match agent.checked_sub(self.plan.nodes()) {
            None => match &mut self.nodes[agent] {
                Some(node) => node.step(now_ns, unix_ms)?,
                None => None,
            },
            Some(user) => self.users[user].step(now_ns, unix_ms),
        };
        self.wake_at(agent, next.unwrap_or(u64::MAX));
        Ok(())
    }

    /// Sums over all nodes that ever lived.
    pub fn counters(&self) -> Counters {
        let mut sum = self.buried;
        for node in self.nodes.iter().flatten() {
            sum.add(&node.counters());
        }
        sum
    }

    /// Checks what must hold at any time: every worker accounts for every frame (also checked each turn), and the
    /// wires for every datagram. Returns what became of those.
    ///
    /// # Errors
    /// Something is not accounted for.
    pub fn conserved(&self) -> Result<NetworkCounters, SimulationError> {
        for node in self.nodes.iter().flatten() {
            if !node.counters().is_conserved() {
                return Err(SimulationError::Unconserved(Box::new(node.counters())));
            }
        }
        let wires = self.network.counters();
        let gone = wires.arrived + wires.lost + wires.partitioned + wires.unreachable;
        let ended = gone + wires.overflowed + self.network.under_way() as u64;
        match wires.sent == ended {
            true => Ok(wires),
            false => Err(SimulationError::UnconservedWires(wires)),
        }
    }
}
