//! A thousand clients on one thread: each the production client with keys and a socket of its own, woken in its slots and
//! when something comes.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use directory::{Chain, Consensus};
use fog::{Address, Client, Config, Event, Identity, Manifest, MemoryStorage, Phase, TransferId};
use hdrhistogram::Histogram;
use link::{ClientKeys, DATAGRAM_BYTES};
use rand_core::{Rng, SeedableRng};
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use sphinx::Generator;

/// Share of slots that are loop cover: what `fog` has.
pub(super) const LOOP_SHARE: f64 = 0.1;
/// Networks of 65,536 addresses that clients are in, from 127.16 on: a gateway gives clients of one such block no more than
/// half of its places.
const BLOCKS: usize = 200;
/// Of each file.
pub(super) const FILE_BYTES: usize = 16 * 1_024;
/// No slot is said to be later: ten minutes.
const LATE_LONGEST_US: u64 = 600_000_000;
/// Events that are taken from the kernel at a time, and slots that are filled between.
const EVENTS: usize = 256;

struct One {
    client: Client,
    socket: UdpSocket,
    address: Address,
    due_ns: u64,
    /// What the gateway granted, once it did.
    granted_pps: Option<u32>,
    /// The file that it sends now.
    sends: Option<TransferId>,
}

/// Counts of files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Files {
    pub(super) sent: u64,
    pub(super) delivered: u64,
    /// Chunks sent again.
    pub(super) retransmitted: u64,
    pub(super) failed: u64,
}

/// All clients.
pub(super) struct Crowd {
    clients: Vec<One>,
    epoll: rustix::fd::OwnedFd,
    agenda: BinaryHeap<Reverse<(u64, usize)>>,
    clock: Instant,
    rng: Generator,
    /// When each probe was to be given to its client, by number.
    given_ns: Vec<u64>,
    /// Those of them whose sender did not fetch a document then or did, and whose recipient did not or did.
    pub(super) fetching: [[u64; 2]; 2],
    /// How long those took that arrived, microseconds.
    pub(super) took_us: BTreeMap<u64, f64>,
    /// Probes that found another before them and were not sent.
    pub(super) crowded: u64,
    pub(super) files: Files,
    under_way: BTreeMap<TransferId, usize>,
    /// How late slots were filled, microseconds.
    pub(super) late_us: Histogram<u64>,
    /// What went wrong with clients, which must not.
    pub(super) troubles: Vec<String>,
}

/// Who the clients are.
pub(super) struct Plan<'a> {
    pub(super) count: usize,
    pub(super) rate_pps: f64,
    /// So many join a second.
    pub(super) joins_pps: f64,
    pub(super) chain: &'a Chain,
    pub(super) consensus: &'a Consensus,
    pub(super) seed: u64,
}

/// The wall clock.
pub(super) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}

/// Where client `number` is.
fn address_of(number: usize) -> Ipv4Addr {
    let (block, place) = (number % BLOCKS, number / BLOCKS + 1);
    Ipv4Addr::new(
        127,
        16 + block as u8,
        (place / 256) as u8,
        (place % 256) as u8,
    )
}

impl Crowd {
    /// Clients at all gateways in turn, whose first slots come one after the other.
    pub(super) fn new(plan: &Plan) -> io::Result<Crowd> {
        let mut rng = Generator::seed_from_u64(plan.seed);
        let gateways: Vec<[u8; 32]> = plan
            .consensus
            .gateways()
            .map(|node| node.identity)
            .collect();
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut key = [0; 32];
        rng.fill_bytes(&mut key);
        let (mut clients, mut agenda) = (Vec::new(), BinaryHeap::new());
        for (number, gateway) in gateways.iter().cycle().take(plan.count).enumerate() {
            let starts_ns = (number as f64 / plan.joins_pps * 1e9) as u64;
            let config = Config {
                identity: Identity::generate(&mut rng),
                mailbox: ClientKeys::generate(&mut rng),
                gateway: *gateway,
                authorities: plan.chain.clone(),
                rate_pps: Some(plan.rate_pps),
                loop_share: LOOP_SHARE,
            };
            let storage = Box::new(MemoryStorage::new(1 << 20));
            let own = Generator::from_rng(&mut rng);
            let documents = plan.consensus.clone();
            let mut client = Client::new(config, documents, Some(storage), own, starts_ns);
            client.set_probe_key(key);
            let socket = UdpSocket::bind((address_of(number), 0))?;
            socket.set_nonblocking(true)?;
            let data = epoll::EventData::new_u64(number as u64);
            epoll::add(&epoll, &socket, data, epoll::EventFlags::IN)?;
            let due_ns = client.deadline();
            agenda.push(Reverse((due_ns, number)));
            clients.push(One {
                address: client.address(),
                client,
                socket,
                due_ns,
                granted_pps: None,
                sends: None,
            });
        }
        let late_us = Histogram::new_with_bounds(1, LATE_LONGEST_US, 3);
        let late_us = late_us.map_err(io::Error::other)?;
        Ok(Crowd {
            clients,
            epoll,
            agenda,
            clock: Instant::now(),
            rng,
            given_ns: Vec::new(),
            fetching: [[0; 2]; 2],
            took_us: BTreeMap::new(),
            crowded: 0,
            files: Files::default(),
            under_way: BTreeMap::new(),
            late_us,
            troubles: Vec::new(),
        })
    }

    pub(super) fn now_ns(&self) -> u64 {
        u64::try_from(self.clock.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Clients that have a mailbox now.
    pub(super) fn attached(&self) -> usize {
        let attached = |one: &&One| one.client.is_attached() && one.granted_pps.is_some();
        self.clients.iter().filter(attached).count()
    }

    /// Slots a second for letters, and of a gateway's stream to one client; both are the same for all.
    pub(super) fn slots_pps(&self) -> (f64, f64) {
        let letters = self.clients.first().map(|one| one.client.letters_pps());
        let granted = self.clients.iter().filter_map(|one| one.granted_pps).min();
        (letters.unwrap_or(0.0), f64::from(granted.unwrap_or(0)))
    }

    /// Datagrams that clients sent.
    pub(super) fn datagrams(&self) -> u64 {
        let datagrams = |one: &One| one.client.stats().datagrams;
        self.clients.iter().map(datagrams).sum()
    }

    pub(super) fn probes_sent(&self) -> u64 {
        self.given_ns.len() as u64
    }

    /// Whether all that was sent has arrived.
    pub(super) fn is_quiet(&self) -> bool {
        self.took_us.len() == self.given_ns.len() && self.under_way.is_empty()
    }

    /// Works for the clients until `until_ns`, for a turn at least.
    ///
    /// # Errors
    /// A socket's, or it is told to halt.
    pub(super) fn work(&mut self, until_ns: u64, halt: &AtomicBool) -> io::Result<()> {
        loop {
            if halt.load(Ordering::Acquire) {
                return Err(io::Error::other("interrupted"));
            }
            self.turn(until_ns)?;
            if self.now_ns() >= until_ns {
                return Ok(());
            }
        }
    }

    /// Fills slots and reads what came; waits until `until_ns` for that, or until the next slot or datagram if that is
    /// sooner.
    fn turn(&mut self, until_ns: u64) -> io::Result<()> {
        self.fill_due()?;
        let next_ns = self.agenda.peek().map_or(u64::MAX, |next| next.0.0);
        let wait_ns = next_ns.min(until_ns).saturating_sub(self.now_ns());
        let timeout = Timespec {
            tv_sec: (wait_ns / 1_000_000_000) as i64,
            tv_nsec: (wait_ns % 1_000_000_000) as i64,
        };
        let mut events: Vec<epoll::Event> = Vec::with_capacity(EVENTS);
        match epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in events {
            let number = event.data;
            self.read(number.u64() as usize)?;
        }
        Ok(())
    }

    /// Fills slots that are due, and says how many. No more than one a client: who is late has its next slot by the time
    /// of the last, so where slots cost more than this thread gets there is always one due, and sockets, halt and
    /// deadlines must be seen all the same.
    fn fill_due(&mut self) -> io::Result<usize> {
        let most = self.clients.len().min(EVENTS);
        let mut filled = 0;
        while filled < most
            && let Some(Reverse((due_ns, number))) = self.agenda.peek().copied()
            && due_ns <= self.now_ns()
        {
            self.agenda.pop();
            if self.clients[number].due_ns == due_ns {
                self.clients[number].due_ns = u64::MAX;
                self.fill(number, due_ns)?;
                filled += 1;
            }
        }
        Ok(filled)
    }

    /// A slot, or something of a file.
    fn fill(&mut self, number: usize, due_ns: u64) -> io::Result<()> {
        let now_ns = self.now_ns();
        let one = &mut self.clients[number];
        if let Some((to, datagram)) = one.client.transmit(now_ns, unix_ms()) {
            let late_us = now_ns.saturating_sub(due_ns) / 1_000;
            self.late_us.saturating_record(late_us);
            match one.socket.send_to(&datagram, to) {
                // It is lost, which is seen.
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                sent => {
                    sent?;
                }
            }
        }
        self.after(number);
        Ok(())
    }

    fn read(&mut self, number: usize) -> io::Result<()> {
        let mut datagram = [0; DATAGRAM_BYTES];
        loop {
            let one = &mut self.clients[number];
            match one.socket.recv_from(&mut datagram) {
                Ok((DATAGRAM_BYTES, _)) => {}
                Ok(_) => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                // What an earlier datagram met: a node that is gone.
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => continue,
                Err(error) => return Err(error),
            }
            let now_ns = u64::try_from(self.clock.elapsed().as_nanos()).unwrap_or(u64::MAX);
            one.client.receive(now_ns, &mut datagram);
            while let Some(probe) = one.client.probed() {
                if let Some(given_ns) = self.given_ns.get(probe as usize) {
                    let took_us = now_ns.saturating_sub(*given_ns) as f64 / 1e3;
                    self.took_us.entry(probe).or_insert(took_us);
                }
            }
        }
        self.after(number);
        Ok(())
    }

    /// Hears what a client tells, and when it wants to be woken.
    fn after(&mut self, number: usize) {
        let one = &mut self.clients[number];
        while let Some(event) = one.client.event() {
            match event {
                Event::Attached { rate_pps } => one.granted_pps = Some(rate_pps),
                Event::Sending {
                    transfer, phase, ..
                } => {
                    let has_ended = matches!(phase, Phase::Complete | Phase::Failed(_));
                    if !has_ended || one.sends != Some(transfer) {
                        continue;
                    }
                    one.sends = None;
                    let stats = one.client.transfer_stats(&transfer);
                    self.files.retransmitted += stats.map_or(0, |stats| stats.retransmitted);
                    if let Phase::Failed(why) = phase {
                        self.files.failed += 1;
                        self.troubles.push(format!("a file failed: {why:?}"));
                    }
                    one.client.withdraw(&transfer);
                    self.under_way.remove(&transfer);
                }
                Event::Received(fog::Received::Done { .. }) => self.files.delivered += 1,
                Event::GatewayFull => self.troubles.push("a gateway has no room".to_owned()),
                _ => {}
            }
        }
        let due_ns = one.client.deadline();
        if one.due_ns != due_ns {
            one.due_ns = due_ns;
            self.agenda.push(Reverse((due_ns, number)));
        }
    }

    /// Gives probes whose time has come, up to `until_ns`: they are a Poisson process, whose next is at `next_ns`. When
    /// the next is now.
    pub(super) fn give_probes(
        &mut self,
        busy: usize,
        rate_pps: f64,
        mut next_ns: u64,
        until_ns: u64,
    ) -> u64 {
        while next_ns <= self.now_ns().min(until_ns) {
            self.probe(busy, next_ns);
            next_ns += self.gap_ns(rate_pps);
        }
        next_ns
    }

    /// A probe from somebody to somebody else, neither of them one of the first `busy`, who have files. It counts from
    /// its time `at_ns` and not from when this thread comes to it, or what holds the thread up would be hidden.
    fn probe(&mut self, busy: usize, at_ns: u64) {
        let others = self.clients.len() - busy;
        let from = self.below(others);
        let to = (from + 1 + self.below(others - 1)) % others;
        let number = self.given_ns.len() as u64;
        let address = self.clients[busy + to].address;
        if !self.clients[busy + from].client.probe(&address, number) {
            self.crowded += 1;
            return;
        }
        self.given_ns.push(at_ns);
        let unix_ms = unix_ms();
        let [sender, recipient] = [from, to]
            .map(|number| usize::from(self.clients[busy + number].client.is_fetching(unix_ms)));
        self.fetching[sender][recipient] += 1;
    }

    /// Has each of the first `busy` send a file to its neighbour among them, if it sends none.
    pub(super) fn send_files(&mut self, busy: usize) {
        for number in 0..busy {
            if self.clients[number].sends.is_some() {
                continue;
            }
            let mut data = vec![0; FILE_BYTES];
            self.rng.fill_bytes(&mut data);
            let mut transfer = [0; 16];
            self.rng.fill_bytes(&mut transfer);
            let manifest = Manifest {
                transfer,
                size: data.len() as u64,
                hash: *blake3::hash(&data).as_bytes(),
                name: "file".into(),
            };
            let to = self.clients[number ^ 1].address;
            let one = &mut self.clients[number];
            one.client.send(to, manifest, Box::new(data), None);
            one.sends = Some(transfer);
            self.under_way.insert(transfer, number);
            self.files.sent += 1;
            self.after(number);
        }
    }

    fn below(&mut self, count: usize) -> usize {
        (self.rng.next_u64() % count.max(1) as u64) as usize
    }

    /// One of a Poisson process' gaps, nanoseconds.
    pub(super) fn gap_ns(&mut self, rate_pps: f64) -> u64 {
        let unit = ((self.rng.next_u64() >> 11) + 1) as f64 / (1u64 << 53) as f64;
        (-unit.ln() / rate_pps * 1e9) as u64
    }
}

#[cfg(test)]
mod tests;
