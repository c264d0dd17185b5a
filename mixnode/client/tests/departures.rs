//! Departures of the real program: its threads, a real socket and a slow disk, and a gateway that records when each
//! datagram arrives. Minutes in which it has nothing to do and minutes in which it is kept busy from outside alternate,
//! and their gaps must look the same. The program is compared with itself, so nothing else may run beside it.
//!
//! It is a process of its own on the first processor, so that it can also be stopped for a moment of each second: what
//! a program that stalls would show, and what the comparison must find.

mod common;
#[path = "common/outside.rs"]
mod outside;

use std::io::{self, BufRead, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use fog::home::Home;
use fog::{
    Address, Client, Config, DiskStorage, Finish, Identity, Manifest, MemoryStorage, Once,
    Standing, Storage, TransferId, run,
};
use link::ClientKeys;
use outside::{Outside, RATE_PPS, pin};
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use rustix::process::{Pid, Signal, kill_process};

/// Where the program that the tests start finds its home, and the folder for what it receives.
const HOME: &str = "DEPARTURES_HOME";
const OUT: &str = "DEPARTURES_OUT";
/// What it is told by.
const SLOW_DISK: &str = "slow";
const FAST_DISK: &str = "fast";
/// Equal names in the recipient's folder.
const EQUAL_NAMES: u32 = 10_000;
/// Small files whose manifests come one after the other.
const MANIFESTS: usize = 14;
/// Gaps of which there are too few where a processor wakes up late, seconds.
const SHORT: f64 = 100e-6;
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

    fn remembered(&mut self, of: Once) -> Vec<(u32, [u8; 8])> {
        self.disk.remembered(of)
    }

    fn remember(&mut self, of: Once, epoch: u32, mark: &[u8; 8]) -> io::Result<()> {
        self.pause();
        self.disk.remember(of, epoch, mark)
    }

    fn forget_before(&mut self, epoch: u32) {
        self.disk.forget_before(epoch);
    }

    fn forgotten(&self, of: Once) -> Option<u32> {
        self.disk.forgotten(of)
    }
}

impl Outside {
    /// Somebody sends manifests of many small files, then a large one, for a span; what arrived of the program meanwhile.
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
        let mut client = Client::new(config, consensus, Some(storage), own, now_ns);
        for size in [[1; MANIFESTS].as_slice(), &[2_000, 20_000_000]].concat() {
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
    let tagged = |blocks: &[Vec<f64>], tag| -> Vec<(f64, usize)> {
        blocks.iter().flatten().map(|gap| (*gap, tag)).collect()
    };
    let mut all = [tagged(one, 0), tagged(other, 1)].concat();
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    let sizes = [0, 1].map(|tag| all.iter().filter(|(_, of)| *of == tag).count() as f64);
    let (mut seen, mut largest) = ([0.0; 2], 0.0f64);
    for (at, (gap, tag)) in all.iter().enumerate() {
        seen[*tag] += 1.0;
        // Of equal gaps the last one tells.
        if all.get(at + 1).is_none_or(|(next, _)| next != gap) {
            largest = largest.max((seen[0] / sizes[0] - seen[1] / sizes[1]).abs());
        }
    }
    largest
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

fn count(blocks: &[Vec<f64>]) -> f64 {
    blocks.iter().map(Vec::len).sum::<usize>() as f64
}

/// What two runs of one program differ by at most. Of few blocks the permutations say little: there the asymptotic
/// quantile of the same test.
fn by_chance(idle: &[Vec<f64>], busy: &[Vec<f64>], rng: &mut ChaCha20Rng) -> f64 {
    let (n, m) = (count(idle), count(busy));
    idle_distance(idle, rng).max(1.63 * ((n + m) / (n * m)).sqrt())
}

fn fill_with_equal_names(folder: &Path) {
    std::fs::create_dir_all(folder).unwrap();
    std::fs::write(folder.join("file"), "").unwrap();
    for number in 1..EQUAL_NAMES {
        std::fs::write(folder.join(format!("file ({number})")), "").unwrap();
    }
}

/// The program, in a process of its own, until its input ends. It passes where nobody has started it as such.
#[test]
#[ignore = "the program that the other tests start"]
fn the_program() {
    let (Some(home), Some(out)) = (std::env::var_os(HOME), std::env::var_os(OUT)) else {
        return;
    };
    pin(0);
    let (slow, stop) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicBool::new(false)),
    );
    let hears = (Arc::clone(&slow), Arc::clone(&stop));
    thread::spawn(move || {
        for line in io::stdin().lock().lines().map_while(Result::ok) {
            hears.0.store(line == SLOW_DISK, Ordering::Relaxed);
        }
        hears.1.store(true, Ordering::Relaxed);
    });
    let (home, out) = (Home::open(Path::new(&home)).unwrap(), Path::new(&out));
    let disk = DiskStorage::new(&home.path().join("receiving"), out, 1 << 30).unwrap();
    let storage = Box::new(SlowDisk { disk, slow });
    let options = run::Options::default();
    run::receive_into(&home, out, storage, &options, &stop, &mut |_| {}).unwrap();
}

struct Program(Child);

impl Program {
    fn start(home: &Path, out: &Path) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "the_program", "--ignored", "--nocapture"]);
        command.env(HOME, home).env(OUT, out);
        command.stdin(Stdio::piped()).stdout(Stdio::null());
        Self(command.spawn().unwrap())
    }

    fn tell(&mut self, what: &str) {
        writeln!(self.0.stdin.as_mut().unwrap(), "{what}").unwrap();
    }

    /// Stops it for so long at the beginning of each second, as long as `goes_on`.
    fn stall(&self, stall: Duration, goes_on: &AtomicBool) {
        let id = Pid::from_child(&self.0);
        while goes_on.load(Ordering::Relaxed) {
            kill_process(id, Signal::STOP).unwrap();
            thread::sleep(stall);
            kill_process(id, Signal::CONT).unwrap();
            thread::sleep(Duration::from_secs(1) - stall);
        }
    }

    fn end(mut self) {
        drop(self.0.stdin.take());
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Of a test that failed.
        let _ = self.0.kill();
    }
}

/// Gaps of the program by block: with nothing to do, kept busy, stopped for a moment of each second.
#[derive(Default)]
struct Seen {
    idle: Vec<Vec<f64>>,
    busy: Vec<Vec<f64>>,
    stalled: Vec<Vec<f64>>,
}

/// Runs the program through so many pairs of an idle and a busy block, and through half as many in which it is stopped.
fn watch(blocks: usize, span: Duration, stall: Duration) -> Seen {
    let folder = tempfile::tempdir().unwrap();
    let (home, out) = (folder.path().join("home"), folder.path().join("out"));
    fill_with_equal_names(&out);
    pin(1);
    let mut outside = Outside::new();
    let rng = &mut ChaCha20Rng::seed_from_u64(71);
    let address = outside.init(folder.path(), &home, rng);
    let mut program = Program::start(&home, &out);
    // This thread computes for a whole network: the ear goes first.
    let _ = rustix::process::setpriority_process(None, 10);
    outside.live(Duration::from_secs(4));
    let mut seen = Seen::default();
    for block in 0..blocks {
        seen.idle.push(gaps(&outside.live(span)));
        program.tell(SLOW_DISK);
        let arrivals = outside.kept_busy(address, span, block as u64);
        seen.busy.push(gaps(&arrivals));
        program.tell(FAST_DISK);
        outside.live(Duration::from_secs(2));
        if block % 2 == 0 {
            let goes_on = AtomicBool::new(true);
            let arrivals = thread::scope(|scope| {
                scope.spawn(|| program.stall(stall, &goes_on));
                let arrivals = outside.live(span);
                goes_on.store(false, Ordering::Relaxed);
                arrivals
            });
            seen.stalled.push(gaps(&arrivals));
            outside.live(Duration::from_secs(2));
        }
    }
    program.end();
    seen
}

/// The distance of blocks from idle ones, and the limit: `margin` more than by chance.
fn compare(what: &str, idle: &[Vec<f64>], other: &[Vec<f64>], margin: f64) -> (f64, f64) {
    let rng = &mut ChaCha20Rng::seed_from_u64(73);
    let (found, limit) = (distance(idle, other), by_chance(idle, other, rng) + margin);
    let late = |blocks: &[Vec<f64>]| {
        let mut all: Vec<f64> = blocks.iter().flatten().copied().collect();
        all.sort_by(f64::total_cmp);
        all[all.len() * 999 / 1_000] * 1e3
    };
    let short = |blocks: &[Vec<f64>]| {
        let short = blocks.iter().flatten().filter(|gap| **gap < SHORT).count();
        short as f64 / count(blocks)
    };
    // Of a Poisson process.
    let expected = 1_000f64.ln() / f64::from(RATE_PPS) * 1e3;
    println!(
        "{what}: gaps under {:.0} us {:.4} and {:.4}, {:.4} of slots that are never late",
        SHORT * 1e6,
        short(other),
        short(idle),
        1.0 - (-SHORT * f64::from(RATE_PPS)).exp(),
    );
    println!(
        "{what}: {} gaps against {} idle ones; distance {found:.4}, the limit is {limit:.4}; p99.9 {:.1} ms and {:.1} ms, \
         {expected:.1} ms of slots that are never late",
        count(other),
        count(idle),
        late(other),
        late(idle),
    );
    (found, limit)
}

/// Checks that the load does not show; whether a stall does, by the same rule.
fn load_and_stall(blocks: usize, span: Duration, stall: Duration, margin: f64) -> bool {
    let seen = watch(blocks, span, stall);
    let busy = compare("kept busy", &seen.idle, &seen.busy, margin);
    let stalled = compare("stopped", &seen.idle, &seen.stalled, margin);
    assert!(
        count(&seen.busy) > (0.95 - margin) * count(&seen.idle),
        "slots are missing"
    );
    assert!(busy.0 <= busy.1, "the load shows");
    stalled.0 > stalled.1
}

/// The long comparison.
const BLOCKS: usize = 8;
const SPAN: Duration = Duration::from_secs(26);
/// More than chance, and less than what such a stall makes in each second.
const MARGIN: f64 = 0.01;
const STALL: Duration = Duration::from_millis(50);

#[test]
fn a_stranger_who_keeps_a_client_busy_does_not_see_it_in_its_departures() {
    // Short, and perhaps not alone on the machine: what would be seen at a glance. Of the stall this can't be said.
    let (span, stall) = (Duration::from_secs(6), Duration::from_millis(500));
    load_and_stall(2, span, stall, 0.2);
}

#[test]
#[ignore = "ten minutes of a quiet machine"]
fn a_stranger_who_keeps_a_client_busy_for_minutes_does_not_see_it_in_its_departures() {
    let shows = load_and_stall(BLOCKS, SPAN, STALL, MARGIN);
    assert!(shows, "nor does a stall of 50 ms a second");
}

/// Blocks of slots of a program that departs at its times, but for a stall at the beginning of each second.
fn blocks_with_stalls(stall: f64, rng: &mut ChaCha20Rng) -> Vec<Vec<f64>> {
    let mut block = || {
        let (mut slot, mut departures) = (0.0, Vec::new());
        while slot < SPAN.as_secs_f64() {
            let uniform = ((rng.next_u64() >> 11) + 1) as f64 / (1u64 << 53) as f64;
            slot -= uniform.ln() / f64::from(RATE_PPS);
            departures.push(slot.max(slot.floor() + stall));
        }
        departures
            .windows(2)
            .map(|pair| pair[1] - pair[0])
            .collect()
    };
    (0..BLOCKS).map(|_| block()).collect()
}

#[test]
fn the_long_comparison_sees_a_program_that_stalls_for_50_ms_a_second_and_no_other() {
    let rng = &mut ChaCha20Rng::seed_from_u64(72);
    let idle = blocks_with_stalls(0.0, rng);
    assert!(count(&idle) >= 20_000.0);
    for (stall_ms, shows) in [(0, false), (50, true)] {
        let busy = blocks_with_stalls(f64::from(stall_ms) / 1e3, rng);
        let (found, chance) = (distance(&idle, &busy), by_chance(&idle, &busy, rng));
        println!(
            "{stall_ms} ms a second: distance {found:.4}, the limit is {:.4}",
            chance + MARGIN
        );
        assert_eq!(found > chance + MARGIN, shows);
    }
}
