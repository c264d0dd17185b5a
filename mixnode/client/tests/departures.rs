//! Departures of the real program: its threads, a real socket and a slow disk, and a gateway that records when each
//! datagram arrives. Minutes in which it has nothing to do and minutes in which it is kept busy from outside alternate,
//! and their gaps must look the same. The program is compared with itself, so nothing else may run beside it.

mod common;

use std::io;
use std::net::UdpSocket;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use common::{Boxed, Conditions, Network};
use directory::Bootstrap;
use fog::home::Home;
use fog::{
    Address, Client, Config, DiskStorage, Finish, Identity, Manifest, MemoryStorage, Standing,
    Storage, TransferId, run,
};
use link::{ClientKeys, DATAGRAM_BYTES};
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use rustix::thread::{CpuSet, sched_setaffinity};

const RATE_PPS: u32 = 200;
/// Equal names in the recipient's folder.
const EQUAL_NAMES: u32 = 10_000;
/// What the disk costs at each chunk while it is slow: computing, then waiting.
const SLOW: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(75));

/// A disk that is slow while it is told to.
struct SlowDisk {
    disk: DiskStorage,
    slow: Arc<AtomicBool>,
}

impl SlowDisk {
    fn pause(&self) {
        if self.slow.load(Ordering::Relaxed) {
            let began = Instant::now();
            while began.elapsed() < SLOW.0 {
                std::hint::spin_loop();
            }
            thread::sleep(SLOW.1);
        }
    }
}

impl Storage for SlowDisk {
    fn open(&mut self, manifest: &Manifest) -> io::Result<Standing> {
        self.pause();
        self.disk.open(manifest)
    }

    fn write(&mut self, transfer: &TransferId, index: u32, data: &[u8]) -> io::Result<()> {
        self.pause();
        self.disk.write(transfer, index, data)
    }

    fn flush(&mut self, transfer: &TransferId) -> io::Result<()> {
        self.disk.flush(transfer)
    }

    fn finish(&mut self, transfer: &TransferId) -> io::Result<Finish> {
        self.pause();
        self.disk.finish(transfer)
    }

    fn remembered(&mut self) -> Vec<(u32, [u8; 8])> {
        self.disk.remembered()
    }

    fn remember(&mut self, epoch: u32, mark: &[u8; 8]) -> io::Result<()> {
        self.pause();
        self.disk.remember(epoch, mark)
    }

    fn forget_before(&mut self, epoch: u32) {
        self.disk.forget_before(epoch);
    }
}

fn pin(cpu: usize) {
    let mut set = CpuSet::new();
    set.set(cpu);
    // With one processor alone both ends share it.
    let _ = sched_setaffinity(None, &set);
}

/// The network around the program: its gateway is a real socket.
struct Outside {
    network: Network,
    socket: Arc<UdpSocket>,
    arrivals: Receiver<(Instant, std::net::SocketAddr, Boxed)>,
    to_client: Receiver<Boxed>,
    client: Option<std::net::SocketAddr>,
    seat: usize,
    began: Instant,
}

impl Outside {
    fn new() -> Self {
        let socket = Arc::new(UdpSocket::bind("127.0.0.1:0").unwrap());
        let unix_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let conditions = Conditions {
            mean_delay_us: 5_000,
            rate_pps: RATE_PPS,
            genesis_ms: u64::try_from(unix_ms.as_millis()).unwrap(),
            ..Conditions::default()
        };
        let began = Instant::now();
        let mut network = Network::new(70, conditions);
        network.descriptors[1].addresses = vec![socket.local_addr().unwrap()];
        let (say, to_client) = mpsc::channel();
        let seat = network.seat(Some(say));
        let (tell, arrivals) = mpsc::channel();
        let ear = Arc::clone(&socket);
        thread::spawn(move || {
            pin(1);
            let mut datagram = [0; DATAGRAM_BYTES];
            while let Ok((length, from)) = ear.recv_from(&mut datagram) {
                let arrived = (Instant::now(), from, Box::new(datagram));
                if length != DATAGRAM_BYTES || tell.send(arrived).is_err() {
                    return;
                }
            }
        });
        Self {
            network,
            socket,
            arrivals,
            to_client,
            client: None,
            seat,
            began,
        }
    }

    /// Lets the network live; what arrived meanwhile.
    fn live(&mut self, span: Duration) -> Vec<Instant> {
        let began = Instant::now();
        let mut seen = Vec::new();
        while began.elapsed() < span {
            let first = self.arrivals.recv_timeout(Duration::from_micros(500));
            let arrived: Vec<_> = first.into_iter().chain(self.arrivals.try_iter()).collect();
            let now_ns = u64::try_from(self.began.elapsed().as_nanos()).unwrap();
            self.network.run(now_ns, |_| false);
            for (at, from, datagram) in arrived {
                seen.push(at);
                self.client = Some(from);
                self.network.arrives(1, self.seat, datagram);
            }
            for datagram in self.to_client.try_iter() {
                let to = self.client.unwrap();
                self.socket.send_to(&datagram[..], to).unwrap();
            }
        }
        for (at, from, datagram) in self.arrivals.try_iter().collect::<Vec<_>>() {
            seen.push(at);
            self.client = Some(from);
            self.network.arrives(1, self.seat, datagram);
        }
        // What waited before is of another block.
        seen.retain(|at| (began..began + span).contains(at));
        seen
    }

    /// Somebody starts to send a file, small ones first, for a span; what arrived of the program meanwhile.
    fn kept_busy(&mut self, address: Address, span: Duration, number: u64) -> Vec<Instant> {
        let rng = &mut ChaCha20Rng::seed_from_u64(number);
        let config = Config {
            identity: Identity::generate(rng),
            mailbox: ClientKeys::generate(rng),
            gateway: self.network.gateway(0),
            authorities: self.network.authorities(),
            rate_pps: None,
            loop_share: 0.0,
        };
        let (consensus, _) = self.network.consensus(0);
        let (now_ns, storage) = (self.network.now_ns, Box::new(MemoryStorage::new(0)));
        let own = sphinx::Generator::from_rng(rng);
        let mut client = Client::new(config, consensus, storage, own, now_ns);
        for size in [1, 2_000, 20_000_000] {
            let mut data = vec![0; size];
            rng.fill_bytes(&mut data);
            let mut transfer = [0; 16];
            rng.fill_bytes(&mut transfer);
            let manifest = Manifest {
                transfer,
                size: size as u64,
                hash: *blake3::hash(&data).as_bytes(),
                name: "file".into(),
            };
            client.send(address, manifest, Box::new(data), None);
        }
        let sender = self.network.join(client);
        let seen = self.live(span);
        self.network.kill(sender);
        seen
    }
}

fn gaps(arrivals: &[Instant]) -> Vec<f64> {
    let gap = |pair: &[Instant]| (pair[1] - pair[0]).as_secs_f64();
    arrivals.windows(2).map(gap).collect()
}

/// The largest distance between the distributions of both (Kolmogorov–Smirnov).
fn distance(one: &[Vec<f64>], other: &[Vec<f64>]) -> f64 {
    let sorted = |blocks: &[Vec<f64>]| {
        let mut all: Vec<f64> = blocks.iter().flatten().copied().collect();
        all.sort_by(f64::total_cmp);
        all
    };
    let (one, other) = (sorted(one), sorted(other));
    let below =
        |all: &[f64], gap| all.partition_point(|value| *value <= gap) as f64 / all.len() as f64;
    one.iter()
        .chain(&other)
        .map(|gap| (below(&one, *gap) - below(&other, *gap)).abs())
        .fold(0.0, f64::max)
}

/// The 99th percentile of the distances that idle blocks have among themselves, over random halves of them.
fn idle_distance(idle: &[Vec<f64>], rng: &mut ChaCha20Rng) -> f64 {
    let mut distances: Vec<f64> = (0..400)
        .map(|_| {
            let mut blocks = idle.to_vec();
            for last in (1..blocks.len()).rev() {
                blocks.swap(last, (rng.next_u64() % (last as u64 + 1)) as usize);
            }
            let (one, other) = blocks.split_at(blocks.len() / 2);
            distance(one, other)
        })
        .collect();
    distances.sort_by(f64::total_cmp);
    distances[distances.len() * 99 / 100]
}

fn fill_with_equal_names(folder: &Path) {
    std::fs::create_dir_all(folder).unwrap();
    std::fs::write(folder.join("file"), "").unwrap();
    for number in 1..EQUAL_NAMES {
        std::fs::write(folder.join(format!("file ({number})")), "").unwrap();
    }
}

/// Runs the program through so many pairs of an idle and a busy block, and compares their gaps: they may differ by
/// `margin` more than by chance.
fn compare(blocks: usize, span: Duration, margin: f64) {
    let folder = tempfile::tempdir().unwrap();
    let (home, out) = (folder.path().join("home"), folder.path().join("out"));
    fill_with_equal_names(&out);
    pin(1);
    let mut outside = Outside::new();
    let bootstrap = Bootstrap {
        chain: outside.network.authorities(),
        consensus: Some(outside.network.document(0)),
    };
    let file = folder.path().join("network");
    bootstrap.write(&file).unwrap();
    let rng = &mut ChaCha20Rng::seed_from_u64(71);
    let gateway = outside.network.gateway(1);
    let address = Home::init(&home, &file, Some(gateway), rng).unwrap();
    let (slow, stop) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicBool::new(false)),
    );
    let program = {
        let (slow, stop) = (Arc::clone(&slow), Arc::clone(&stop));
        thread::spawn(move || {
            pin(0);
            let home = Home::open(&home).unwrap();
            let disk = DiskStorage::new(&home.path().join("receiving"), &out, 1 << 30).unwrap();
            let storage = Box::new(SlowDisk { disk, slow });
            let options = run::Options::default();
            run::receive_into(&home, &out, storage, &options, &stop, &mut |_| {}).unwrap();
        })
    };
    // This thread computes for a whole network: the ear goes first.
    let _ = rustix::process::setpriority_process(None, 10);
    outside.live(Duration::from_secs(4));
    let (mut idle, mut busy) = (Vec::new(), Vec::new());
    for block in 0..blocks {
        idle.push(gaps(&outside.live(span)));
        slow.store(true, Ordering::Relaxed);
        busy.push(gaps(&outside.kept_busy(address, span, block as u64)));
        slow.store(false, Ordering::Relaxed);
        outside.live(Duration::from_secs(2));
    }
    stop.store(true, Ordering::Relaxed);
    program.join().unwrap();
    let count = |blocks: &[Vec<f64>]| blocks.iter().map(Vec::len).sum::<usize>();
    let (n, m) = (count(&idle) as f64, count(&busy) as f64);
    let found = distance(&idle, &busy);
    // Of few blocks the permutations say little: there the asymptotic quantile of the same test.
    let chance = idle_distance(&idle, rng).max(1.63 * ((n + m) / (n * m)).sqrt());
    let late = |blocks: &[Vec<f64>]| {
        let mut all: Vec<f64> = blocks.iter().flatten().copied().collect();
        all.sort_by(f64::total_cmp);
        all[all.len() * 999 / 1_000] * 1e3
    };
    println!(
        "gaps: {n} idle, {m} busy; distance {found:.4}, by chance up to {chance:.4}; p99.9 {:.1} and {:.1} ms",
        late(&idle),
        late(&busy),
    );
    assert!(m > (0.95 - margin) * n, "slots are missing");
    assert!(
        found <= chance + margin,
        "the load shows: {found} against {chance}"
    );
}

#[test]
fn a_stranger_who_keeps_a_client_busy_does_not_see_it_in_its_departures() {
    // Short, and perhaps not alone on the machine: what would be seen at a glance.
    compare(2, Duration::from_secs(6), 0.2);
}

#[test]
#[ignore = "eight minutes of a quiet machine"]
fn a_stranger_who_keeps_a_client_busy_for_minutes_does_not_see_it_in_its_departures() {
    compare(8, Duration::from_secs(26), 0.01);
}
