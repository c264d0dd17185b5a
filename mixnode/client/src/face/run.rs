//! The client on a real socket, clock and disk: one thread, one UDP socket, waiting in `recv` until the next slot.

use std::fs::File;
use std::io::{self, Read};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use link::DATAGRAM_BYTES;
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

use crate::address::Address;
use crate::client::{Client, Config};
use crate::event::Event;
use crate::histogram::Latency;
use crate::identity::Identity;
use crate::store::home::{Home, HomeError, Journal};
use crate::store::{DiskStorage, NoStorage, Storage};
use crate::transfer::{Failure, Manifest, Phase, Received, TransferId};

/// The longest wait for a datagram, so that a request to stop is seen.
const WAIT_MAX: Duration = Duration::from_millis(100);
/// Datagrams read between two looks at the clock.
const BURST_MAX: usize = 16;

/// How to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Slots a second; the network's rate if `None`.
    pub rate_pps: Option<u32>,
    /// Share of slots for loop cover.
    pub loop_share: f64,
    /// Each received datagram is dropped with this probability: for the lab, whose nodes do the same.
    pub loss: f64,
    /// Larger files are refused.
    pub file_bytes_max: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            rate_pps: None,
            loop_share: 0.1,
            loss: 0.0,
            file_bytes_max: 16 << 30,
        }
    }
}

/// How far a transfer is.
#[derive(Clone, Debug, PartialEq)]
pub struct Progress {
    /// Its phase.
    pub phase: Phase,
    /// Chunks acknowledged.
    pub chunks: u32,
    /// Chunks in all.
    pub total: u32,
    /// Bytes of the file.
    pub size: u64,
    /// The gateway's address, while nothing comes from it.
    pub silent: Option<SocketAddr>,
}

/// What became of a file that was sent.
#[derive(Clone, Debug)]
pub struct SendSummary {
    /// Bytes of the file.
    pub bytes: u64,
    /// BLAKE3 of the file.
    pub hash: [u8; 32],
    /// Packets sent for it.
    pub packets: u64,
    /// Chunks sent again.
    pub retransmitted: u64,
    /// From the first slot to the recipient's word that it has the whole file.
    pub duration: Duration,
    /// Packet out, answer back; the recipient's wait for more packets to answer together is part of it.
    pub round_trip: Latency,
}

/// What a running recipient tells.
#[derive(Clone, Debug)]
pub enum ReceiveEvent {
    /// Attached to the gateway: files can arrive.
    Ready(Address),
    /// Nothing comes from the gateway at this address; the client keeps trying.
    Silent(SocketAddr),
    /// The gateway is heard again.
    Back,
    /// Something arrived.
    Received(Received),
}

/// What a recipient counted.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReceiveSummary {
    /// Files received.
    pub files: u64,
}

/// Why running ended.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The store.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The file to send.
    #[error("{path}: {error}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The socket.
    #[error("network: {0}")]
    Socket(io::Error),
    /// No random numbers.
    #[error("the system gives no random numbers: {0}")]
    Random(getrandom::Error),
    /// The transfer failed.
    #[error(transparent)]
    Transfer(Failure),
    /// Asked to stop before the end.
    #[error("stopped before the file was acknowledged: the same command goes on where it stopped")]
    Stopped,
}

/// A generator seeded by the system.
///
/// # Errors
/// The system gives no random numbers.
pub fn system_rng() -> Result<ChaCha20Rng, RunError> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(RunError::Random)?;
    Ok(ChaCha20Rng::from_seed(seed))
}

/// Sends one file and returns when its recipient has it whole. Killed and called again with the same address and
/// file, it goes on where it was.
///
/// # Errors
/// See [`RunError`].
pub fn send_file(
    home: &Path,
    address: &Address,
    file: &Path,
    options: &Options,
    progress: &mut dyn FnMut(&Progress),
    stop: &AtomicBool,
) -> Result<SendSummary, RunError> {
    let home = Home::open(home)?;
    let mut rng = system_rng()?;
    let unreadable = |error| RunError::File {
        path: file.to_owned(),
        error,
    };
    let mut source = File::open(file).map_err(unreadable)?;
    let (size, hash) = measure(&mut source).map_err(unreadable)?;
    let mut journal = Journal {
        transfer: [0; 16],
        address: address.to_string(),
        file: file.canonicalize().map_err(unreadable)?,
        hash,
    };
    rng.fill_bytes(&mut journal.transfer);
    let journal = home.find_journal(&journal).unwrap_or(journal);
    home.save_journal(&journal).map_err(unreadable)?;
    let transfer = journal.transfer;
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let manifest = Manifest {
        transfer,
        size,
        hash,
        name: name.into_owned(),
    };
    let key = home.cached_key(&address.kem_hash);
    let mut session = Session::start(&home, options, Box::new(NoStorage), rng)?;
    let started = Instant::now();
    session
        .client
        .send(*address, manifest, Box::new(source), key);
    let mut ended = None;
    let mut last = Progress {
        phase: Phase::FetchingKey,
        chunks: 0,
        total: 0,
        size,
        silent: None,
    };
    while ended.is_none() {
        if stop.load(Ordering::Relaxed) {
            return Err(RunError::Stopped);
        }
        session.turn(&home, &mut |event| {
            match event {
                Event::Sending {
                    phase,
                    chunks,
                    total,
                    ..
                } => {
                    (last.chunks, last.total) = (chunks, total);
                    last.phase = phase.clone();
                    ended = match phase {
                        Phase::Complete => Some(Ok(())),
                        Phase::Failed(failure) => Some(Err(failure)),
                        _ => None,
                    };
                }
                Event::GatewaySilent { address } => last.silent = Some(address),
                Event::GatewayBack => last.silent = None,
                _ => return,
            }
            progress(&last);
        })?;
    }
    home.remove_journal(&transfer);
    if let Some(Err(failure)) = ended {
        return Err(RunError::Transfer(failure));
    }
    Ok(session.summary(&transfer, (size, hash), started.elapsed()))
}

/// Receives files into `out` until asked to stop.
///
/// # Errors
/// See [`RunError`].
pub fn receive(
    home: &Path,
    out: &Path,
    options: &Options,
    stop: &AtomicBool,
    on_event: &mut dyn FnMut(&ReceiveEvent),
) -> Result<ReceiveSummary, RunError> {
    let home = Home::open(home)?;
    let records = home.path().join("receiving");
    let storage = DiskStorage::new(&records, out, options.file_bytes_max).map_err(|error| {
        RunError::File {
            path: out.to_owned(),
            error,
        }
    })?;
    let mut session = Session::start(&home, options, Box::new(storage), system_rng()?)?;
    let mut files = 0;
    while !stop.load(Ordering::Relaxed) {
        session.turn(&home, &mut |event| match event {
            Event::Attached { .. } => on_event(&ReceiveEvent::Ready(home.address())),
            Event::GatewaySilent { address } => on_event(&ReceiveEvent::Silent(address)),
            Event::GatewayBack => on_event(&ReceiveEvent::Back),
            Event::Received(received) => {
                files += u64::from(matches!(received, Received::Done { .. }));
                on_event(&ReceiveEvent::Received(received));
            }
            _ => {}
        })?;
    }
    Ok(ReceiveSummary { files })
}

/// Size and hash of a file.
fn measure(file: &mut File) -> io::Result<(u64, [u8; 32])> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 1 << 16];
    let mut size = 0;
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok((size, *hasher.finalize().as_bytes()));
        }
        hasher.update(&buffer[..read]);
        size += read as u64;
    }
}

/// A client with its socket and clock.
struct Session {
    client: Client,
    socket: UdpSocket,
    started: Instant,
    loss: f64,
    /// For simulated loss alone.
    dice: ChaCha20Rng,
}

impl Session {
    fn start(
        home: &Home,
        options: &Options,
        storage: Box<dyn Storage>,
        mut rng: ChaCha20Rng,
    ) -> Result<Self, RunError> {
        let gateway = home.documents.find(&home.gateway, unix_ms());
        let v6 = gateway
            .and_then(|node| node.addresses.first())
            .is_some_and(SocketAddr::is_ipv6);
        let any: SocketAddr = if v6 {
            (Ipv6Addr::UNSPECIFIED, 0).into()
        } else {
            (Ipv4Addr::UNSPECIFIED, 0).into()
        };
        let socket = UdpSocket::bind(any).map_err(RunError::Socket)?;
        socket.set_nonblocking(true).map_err(RunError::Socket)?;
        let dice = ChaCha20Rng::from_rng(&mut rng);
        let config = Config {
            identity: Identity::from_bytes(home.identity.to_bytes()),
            mailbox: home.mailbox.clone(),
            gateway: home.gateway,
            authorities: home.authorities.clone(),
            rate_pps: options.rate_pps.map(f64::from),
            loop_share: options.loop_share,
        };
        Ok(Self {
            client: Client::new(config, home.documents.clone(), storage, rng, 0),
            socket,
            started: Instant::now(),
            loss: options.loss,
            dice,
        })
    }

    fn now_ns(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Waits for a datagram until the next slot, fills the slot if its time has come, hands out what happened.
    fn turn(&mut self, home: &Home, on_event: &mut dyn FnMut(Event)) -> Result<(), RunError> {
        let wait_ns = self.client.deadline().saturating_sub(self.now_ns());
        let wait = Duration::from_nanos(wait_ns).min(WAIT_MAX);
        if super::wait::readable(&self.socket, wait) {
            self.take_arrivals();
        }
        if let Some((to, datagram)) = self.client.transmit(self.now_ns(), unix_ms()) {
            // A datagram that can't leave is a lost one.
            let _ = self.socket.send_to(&datagram, to);
        }
        self.client.prepare(self.now_ns(), unix_ms());
        while let Some(event) = self.client.event() {
            let saved = match &event {
                Event::Consensus { epoch, document } => home.save_consensus(*epoch, document),
                Event::Key { hash, key } => home.save_key(hash, key),
                _ => Ok(()),
            };
            saved.map_err(|error| HomeError::Io {
                path: home.path().to_owned(),
                error,
            })?;
            on_event(event);
        }
        Ok(())
    }

    /// Takes what has arrived, no more than a burst at a time: the slots do not wait.
    fn take_arrivals(&mut self) {
        let mut datagram = [0; DATAGRAM_BYTES + 1];
        for _ in 0..BURST_MAX {
            match self.socket.recv_from(&mut datagram) {
                Ok((DATAGRAM_BYTES, _)) if !self.drops() => {
                    if let Some(datagram) = datagram.first_chunk_mut() {
                        self.client.receive(self.now_ns(), datagram);
                    }
                }
                Ok(_) => {}
                // Nothing left; or an ICMP error about an earlier datagram, which may be forged.
                Err(_) => return,
            }
        }
    }

    fn drops(&mut self) -> bool {
        self.loss > 0.0 && (self.dice.next_u64() >> 11) as f64 / ((1u64 << 53) as f64) < self.loss
    }

    fn summary(
        &self,
        transfer: &TransferId,
        (bytes, hash): (u64, [u8; 32]),
        duration: Duration,
    ) -> SendSummary {
        let stats = self
            .client
            .transfer_stats(transfer)
            .cloned()
            .unwrap_or_default();
        SendSummary {
            bytes,
            hash,
            packets: stats.packets,
            retransmitted: stats.retransmitted,
            duration,
            round_trip: stats.round_trip,
        }
    }
}

/// Milliseconds since the Unix epoch.
fn unix_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
