//! Commands that end, or read for long: nobody on the wire sees when their work was done, and nothing else waits for it.

#[allow(dead_code, reason = "other tests that share it need more of it")]
mod common;
#[path = "common/outside.rs"]
mod outside;

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use fog::{Address, Client, Config, Event, Identity, Manifest, MemoryStorage, Received};
use link::ClientKeys;
use outside::Outside;
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(90);
const STEP: Duration = Duration::from_millis(50);

/// A home, the network around it, and when what left the home's programs arrived there.
struct Scene {
    folder: tempfile::TempDir,
    address: Address,
    outside: Outside,
    seen: Vec<Instant>,
    rng: ChaCha20Rng,
}

/// A `fog` that runs, and the events that it told.
struct Program {
    child: Child,
    told: Arc<Mutex<Vec<(Instant, Value)>>>,
}

impl Scene {
    fn new(seed: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let mut outside = Outside::at(50);
        let home = folder.path().join("home");
        let address = outside.init(folder.path(), &home, &mut rng);
        Self {
            folder,
            address,
            outside,
            seen: Vec::new(),
            rng,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn file(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, name).unwrap();
        path
    }

    /// Somebody else in this network: address and seat.
    fn peer(&mut self) -> (Address, usize) {
        let rng = &mut self.rng;
        let (identity, mailbox) = (Identity::generate(rng), ClientKeys::generate(rng));
        let network = &mut self.outside.network;
        let address = identity.address(network.gateway(0), &mailbox);
        let config = Config {
            identity,
            mailbox,
            gateway: network.gateway(0),
            authorities: network.authorities(),
            rate_pps: None,
            loop_share: 0.1,
        };
        let storage = Box::new(MemoryStorage::new(1 << 20));
        let documents = network.consensus(0).0;
        let generator = sphinx::Generator::from_rng(rng);
        let client = Client::new(config, documents, Some(storage), generator, network.now_ns);
        (address, network.join(client))
    }

    fn fog(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fog"));
        command.arg("--home").arg(self.path("home")).arg("--json");
        command.args(arguments).stdin(Stdio::null());
        command
    }

    fn send(&self, to: &Address, files: &[&Path]) -> Program {
        let mut command = self.fog(&["send", "--linger", "4s", &to.to_string()]);
        Program::start(command.args(files))
    }

    /// The network lives until this is so.
    fn until(&mut self, what: &str, mut is_so: impl FnMut(&mut Outside) -> bool) {
        let began = Instant::now();
        while !is_so(&mut self.outside) {
            assert!(began.elapsed() < PATIENCE, "waited in vain: {what}");
            self.seen.extend(self.outside.live(STEP));
        }
    }

    fn until_ended(&mut self, program: &mut Program) -> ExitStatus {
        let mut ended = None;
        self.until("the end", |_| {
            ended = program.child.try_wait().unwrap();
            ended.is_some()
        });
        ended.unwrap()
    }
}

impl Program {
    fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let told = Arc::new(Mutex::new(Vec::new()));
        let tell = Arc::clone(&told);
        thread::spawn(move || {
            for line in lines {
                let event = serde_json::from_str(&line.unwrap()).unwrap();
                tell.lock().unwrap().push((Instant::now(), event));
            }
        });
        Self { child, told }
    }

    fn named(&self, name: &str) -> Vec<(Instant, Value)> {
        let told = self.told.lock().unwrap();
        let events = told.iter().filter(|(_, event)| event["event"] == name);
        events.cloned().collect()
    }

    fn has_told(&self, name: &str) -> bool {
        !self.named(name).is_empty()
    }

    fn drawn(&self) -> f64 {
        let lingering = self.named("lingering");
        assert_eq!(lingering.len(), 1, "{:?}", self.told);
        lingering[0].1["seconds"].as_f64().unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn attack_a_watcher_does_not_see_the_end_of_one_file_nor_of_the_last() {
    let mut scene = Scene::new(90);
    let (address, _) = scene.peer();
    let (one, other) = (scene.file("one"), scene.file("other"));
    let mut program = scene.send(&address, &[&one, &other]);
    let ended = scene.until_ended(&mut program);
    assert!(ended.success(), "{ended}");
    let (sent, drawn) = (program.named("sent"), program.drawn());
    assert_eq!(sent.len(), 2, "{:?}", program.told);
    let after = scene.seen.last().unwrap().duration_since(sent[1].0);
    println!(
        "{} clients to a watcher; {:.2} s of cover after the last file, {drawn:.2} s were drawn",
        scene.outside.sources.len(),
        after.as_secs_f64()
    );
    let clients = scene.outside.sources.len();
    assert_eq!(clients, 1, "each file has its own client");
    // Half of it: what was told and what arrived are noted by two threads of a busy machine.
    assert!(
        after.as_secs_f64() > drawn / 2.0 - 0.5,
        "{after:?} of {drawn}"
    );
}

#[test]
fn attack_a_watcher_does_not_see_that_a_file_could_not_be_read_any_more() {
    let mut scene = Scene::new(91);
    let (address, _) = scene.peer();
    let (one, other) = (scene.file("one"), scene.file("other"));
    let mut program = scene.send(&address, &[&one, &other]);
    scene.until("the first is on its way", |_| program.has_told("progress"));
    std::fs::remove_file(&other).unwrap();
    let ended = scene.until_ended(&mut program);
    assert_eq!(ended.code(), Some(64), "{:?}", program.told);
    let (error, drawn) = (program.named("error"), program.drawn());
    assert_eq!((program.named("sent").len(), error.len()), (1, 1));
    assert_eq!(error[0].1["code"], 64);
    let after = scene.seen.last().unwrap().duration_since(error[0].0);
    // Half of it: what was told and what arrived are noted by two threads of a busy machine.
    assert!(
        after.as_secs_f64() > drawn / 2.0 - 0.5,
        "{after:?} of {drawn}"
    );
}

#[test]
fn a_further_file_that_takes_minutes_to_read_holds_up_neither_the_session_nor_other_commands() {
    let mut scene = Scene::new(92);
    let (address, seat) = scene.peer();
    let (one, large, other) = (scene.file("one"), scene.path("large"), scene.file("other"));
    // Nothing but a hole: takes no room, and minutes to hash.
    File::create(&large).unwrap().set_len(1 << 38).unwrap();
    let mut program = scene.send(&address, &[&one, &large]);
    scene.until("the second is read", |_| program.has_told("hashing"));
    assert_eq!(program.named("sent").len(), 1);
    // Another command's file is taken and arrives meanwhile.
    let mut beside = scene.send(&address, &[&other]);
    let ended = scene.until_ended(&mut beside);
    assert!(ended.success(), "{ended}: {:?}", beside.told);
    assert!(
        scene.outside.network.seats[seat]
            .events
            .iter()
            .any(|event| matches!(event, Event::Received(Received::Done { manifest, .. }) if manifest.name == b"other"))
    );
    assert!(program.child.try_wait().unwrap().is_none());
    assert_eq!(scene.outside.sources.len(), 1, "it went on alone");
    let mut down = Program::start(&mut scene.fog(&["down"]));
    assert!(scene.until_ended(&mut down).success());
    scene.until_ended(&mut program);
}

#[test]
fn a_recipient_that_has_all_its_files_ends_after_the_one_that_it_was_handed_to_send() {
    let mut scene = Scene::new(93);
    let (address, seat) = scene.peer();
    let out = scene.path("out");
    let arguments = ["recv", "--count", "1", "--linger", "10ms", "--out"];
    let mut recipient = Program::start(scene.fog(&arguments).arg(&out));
    scene.until("it receives", |_| recipient.has_told("ready"));
    // Longer under way than the recipient's last answers to whoever sent him the only file that he waits for.
    let file = scene.path("long");
    let mut content = vec![0; 400_000];
    scene.rng.fill_bytes(&mut content);
    std::fs::write(&file, &content).unwrap();
    let mut sender = scene.send(&address, &[&file]);
    scene.until("the long file is under way", |_| {
        sender
            .named("progress")
            .iter()
            .any(|(_, event)| event["bytes"].as_u64().unwrap() > 0)
    });
    let data = b"short".to_vec();
    let manifest = Manifest {
        transfer: [7; 16],
        size: data.len() as u64,
        hash: *blake3::hash(&data).as_bytes(),
        name: "short".into(),
    };
    let (of, own) = (&mut scene.outside.network.seats[seat], scene.address);
    let client = of.client.as_mut().unwrap();
    client.send(own, manifest, Box::new(data), None);
    let ended = scene.until_ended(&mut recipient);
    assert!(ended.success(), "{ended}: {:?}", recipient.told);
    assert_eq!(std::fs::read(out.join("short")).unwrap(), b"short");
    let (has_all, done) = (recipient.named("received")[0].0, Instant::now());
    let ended = scene.until_ended(&mut sender);
    assert!(ended.success(), "{ended}: {:?}", sender.told);
    let sent = sender.named("sent")[0].0;
    println!(
        "all received, then {:.1} s to the end of the file to send and {:.1} s to the recipient's",
        sent.saturating_duration_since(has_all).as_secs_f64(),
        done.saturating_duration_since(has_all).as_secs_f64()
    );
    // Where the first command had ended before, the other would have gone on alone, from a port of its own.
    assert!(sent > has_all && scene.outside.sources.len() == 1);
}
