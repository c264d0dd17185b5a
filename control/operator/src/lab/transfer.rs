//! A file from a fresh alice at one gateway to a fresh bob at the other, by the client's own code.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use directory::store::hex;
use fog::home::{Home, HomeError};
use fog::run::{self, ReceiveEvent, ReceiveSummary, RunError, SendEvent, SendSummary, Sender};
use fog::{Address, Phase, Received};

use super::network::{Network, number_of, system_rng};
use super::options::Options;
use super::summary::{Quantiles, Summary};
use control::exit::{self, Failure};

/// How far a transfer is.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// What is going on, for people.
    pub phase: &'static str,
    /// What nothing moves without.
    pub waits_for: Option<String>,
    /// Chunks flow.
    pub is_moving: bool,
    /// Bytes acknowledged.
    pub acknowledged_bytes: u64,
    /// Bytes of the file.
    pub total_bytes: u64,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The figures.
    pub summary: Summary,
    /// BLAKE3 of the file sent, in hexadecimal.
    pub sent_hash: String,
    /// BLAKE3 of the file received.
    pub received_hash: String,
}

/// A transfer under way in threads of its own.
#[derive(Debug)]
pub struct Transfer {
    /// The nodes that are the two clients' gateways.
    gateways: [Option<u16>; 2],
    progress: Arc<Mutex<Progress>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<Outcome, Failure>>>,
    started: Instant,
}

impl Transfer {
    /// Since its start.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Starts sending `file`; both clients are in `namespace` if there is one.
    ///
    /// # Errors
    /// The clients' stores can't be made.
    pub fn start(
        file: &Path,
        network: &Network,
        options: &Options,
        namespace: Option<PathBuf>,
    ) -> Result<Self, Failure> {
        let mut gateways = network.current().into_iter().flat_map(|consensus| {
            let named = |node: &directory::Node| (node.identity, number_of(&node.operator));
            consensus.gateways().map(named)
        });
        let (Some((entry, first)), Some((exit, second))) = (gateways.next(), gateways.next())
        else {
            return Err(Failure::new(
                exit::SOFTWARE,
                "the consensus lacks a gateway",
            ));
        };
        let join = |name: &str, gateway| {
            let home = network.root().join(name);
            let rng = &mut system_rng()?;
            let address = Home::init(&home, &network.bootstrap_path(), Some(gateway), rng)
                .map_err(home_failure)?;
            Ok::<(PathBuf, Address), Failure>((home, address))
        };
        let (alice, _) = join("alice", entry)?;
        let (bob, address) = join("bob", exit)?;
        let progress = Arc::new(Mutex::new(Progress {
            phase: "bob attaches to his gateway",
            ..Progress::default()
        }));
        let stop = Arc::new(AtomicBool::new(false));
        let parties = Parties {
            file: file.to_owned(),
            alice,
            bob,
            address,
            inbox: network.root().join("inbox"),
            namespace,
            options: run::Options {
                loss: options.loss,
                ..run::Options::default()
            },
        };
        let thread = {
            let (progress, stop) = (Arc::clone(&progress), Arc::clone(&stop));
            thread::spawn(move || parties.run(&progress, &stop))
        };
        Ok(Self {
            gateways: [first, second],
            progress,
            stop,
            thread: Some(thread),
            started: Instant::now(),
        })
    }

    /// Whether one of the two clients is at this node: without it nothing moves.
    pub fn hangs_on(&self, node: u16) -> bool {
        self.gateways.contains(&Some(node))
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        lock(&self.progress).clone()
    }

    /// The outcome, once the transfer has ended.
    pub fn outcome(&mut self) -> Option<Result<Outcome, Failure>> {
        if !self.thread.as_ref().is_some_and(JoinHandle::is_finished) {
            return None;
        }
        let ended = self.thread.take()?.join();
        Some(ended.unwrap_or_else(|_| Err(Failure::new(exit::SOFTWARE, "the transfer panicked"))))
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn home_failure(error: HomeError) -> Failure {
    run_failure(RunError::Home(error))
}

fn run_failure(error: RunError) -> Failure {
    let code = match &error {
        RunError::Transfer(_) => exit::SOFTWARE,
        _ => exit::OS,
    };
    Failure::new(code, error.to_string())
}

/// Everything the two clients need.
struct Parties {
    file: PathBuf,
    alice: PathBuf,
    bob: PathBuf,
    address: Address,
    inbox: PathBuf,
    namespace: Option<PathBuf>,
    options: run::Options,
}

impl Parties {
    fn run(&self, progress: &Mutex<Progress>, stop: &AtomicBool) -> Result<Outcome, Failure> {
        if let Some(namespace) = &self.namespace {
            // This thread, and bob's after it.
            loader::netns::enter(namespace)?;
        }
        let bob_stops = AtomicBool::new(false);
        let (sent, received, place) = thread::scope(|scope| {
            let (say, hear) = mpsc::channel();
            let bob = scope.spawn(|| self.receive(say, &bob_stops));
            // Alice waits for bob to be there only so that the figures are those of the network; she
            // could start first. If he fails, the channel ends and so does she.
            let sent = if ready(&hear, stop) {
                self.send(progress, stop)
            } else {
                Err(RunError::Stopped)
            };
            bob_stops.store(true, Ordering::Release);
            let received = bob.join();
            let place = hear.try_iter().find_map(|said| match said {
                Said::Done(place) => Some(place),
                Said::Ready => None,
            });
            (sent, received, place)
        });
        // Bob's failure is the cause of alice's.
        received
            .map_err(|_| Failure::new(exit::SOFTWARE, "the recipient panicked"))?
            .map_err(run_failure)?;
        self.compare(&sent.map_err(run_failure)?, place)
    }

    fn receive(
        &self,
        say: mpsc::Sender<Said>,
        done: &AtomicBool,
    ) -> Result<ReceiveSummary, RunError> {
        let mut on_event = |event: &ReceiveEvent| {
            let _ = match event {
                ReceiveEvent::Ready(_) => say.send(Said::Ready),
                ReceiveEvent::Received(Received::Done { place, .. }) => {
                    say.send(Said::Done(place.clone()))
                }
                ReceiveEvent::Received(_)
                | ReceiveEvent::Waiting(_)
                | ReceiveEvent::Notice(_)
                | ReceiveEvent::Lingering(_) => Ok(()),
            };
        };
        run::receive(&self.bob, &self.inbox, &self.options, done, &mut on_event)
    }

    fn send(&self, progress: &Mutex<Progress>, stop: &AtomicBool) -> Result<SendSummary, RunError> {
        let mut on_event = |event: &SendEvent| {
            let now = match event {
                SendEvent::Progress(now) => now,
                SendEvent::Waiting(Some(wait)) => {
                    lock(progress).waits_for = Some(wait.to_string());
                    return;
                }
                SendEvent::Waiting(None) => {
                    lock(progress).waits_for = None;
                    return;
                }
                SendEvent::Hashing(..) | SendEvent::Notice(_) | SendEvent::Lingering(_) => return,
            };
            let share = u128::from(now.chunks) * u128::from(now.size);
            let mut progress = lock(progress);
            let waits_for = progress.waits_for.take();
            *progress = Progress {
                waits_for,
                is_moving: now.phase == Phase::Sending,
                phase: match now.phase {
                    Phase::FetchingKey => "alice fetches bob's key",
                    Phase::Waiting => "alice waits for bob's answer",
                    Phase::Sending => "sending",
                    Phase::Checking => "looking whether the file has changed",
                    Phase::Paused => "paused: no room at the recipient",
                    Phase::Complete => "bob has the whole file",
                    Phase::Failed(_) => "failed",
                },
                acknowledged_bytes: u64::try_from(share / u128::from(now.total.max(1)))
                    .unwrap_or(now.size),
                total_bytes: now.size,
            };
        };
        // Whoever watches a laboratory sees all of it: nothing goes on after the end.
        let mut sender = Sender::new(&self.alice, &self.address);
        sender.send(&self.file, &self.options, &mut on_event, stop)
    }

    /// Trusts neither client: reads both files again.
    fn compare(&self, sent: &SendSummary, place: Option<PathBuf>) -> Result<Outcome, Failure> {
        let place = place
            .ok_or_else(|| Failure::new(exit::SOFTWARE, "the recipient never finished the file"))?;
        let (sent_hash, received_hash) = (hash(&self.file)?, hash(&place)?);
        let duration_s = sent.duration.as_secs_f64();
        let summary = Summary {
            sent_bytes: sent.bytes,
            packets: sent.packets,
            retransmitted: sent.retransmitted,
            duration_s,
            goodput_bytes_s: sent.bytes as f64 / duration_s.max(1e-9),
            round_trip_ms: sent.round_trip_ms.map(|trip| Quantiles {
                p50: trip.p50,
                p99: trip.p99,
            }),
            identical: sent_hash == received_hash,
            xdp: None,
        };
        Ok(Outcome {
            summary,
            sent_hash: hex(&sent_hash),
            received_hash: hex(&received_hash),
        })
    }
}

/// What bob tells alice's thread.
enum Said {
    /// He is attached.
    Ready,
    /// The file is whole, here.
    Done(PathBuf),
}

/// Waits for bob to be attached; false if he ended, or all is to stop.
fn ready(hear: &mpsc::Receiver<Said>, stop: &AtomicBool) -> bool {
    while !stop.load(Ordering::Acquire) {
        match hear.recv_timeout(Duration::from_millis(100)) {
            Ok(said) => return matches!(said, Said::Ready),
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            Err(mpsc::RecvTimeoutError::Disconnected) => return false,
        }
    }
    false
}

fn hash(path: &Path) -> Result<[u8; 32], Failure> {
    let mut hasher = blake3::Hasher::new();
    let mut file = File::open(path)?;
    io::copy(&mut file, &mut HashWriter(&mut hasher))?;
    Ok(*hasher.finalize().as_bytes())
}

struct HashWriter<'a>(&'a mut blake3::Hasher);

impl io::Write for HashWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
