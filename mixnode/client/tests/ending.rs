//! A client that ends: nobody on the wire sees when its transfer did.

#[allow(dead_code, reason = "other tests that share it need more of it")]
mod common;
#[path = "common/outside.rs"]
mod outside;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use fog::{Client, Config, Identity, MemoryStorage};
use link::ClientKeys;
use outside::Outside;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(90);

#[test]
fn attack_a_watcher_does_not_see_the_end_of_one_file_nor_of_the_last() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    let mut outside = Outside::at(50);
    let rng = &mut ChaCha20Rng::seed_from_u64(90);
    outside.init(folder.path(), &home, rng);
    let (identity, mailbox) = (Identity::generate(rng), ClientKeys::generate(rng));
    let network = &mut outside.network;
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
    let recipient = Client::new(config, documents, Some(storage), generator, network.now_ns);
    network.join(recipient);
    let mut command = Command::new(env!("CARGO_BIN_EXE_fog"));
    command.arg("--home").arg(&home).args(["--json", "send"]);
    command.args(["--linger", "1s", &address.to_string()]);
    for name in ["one", "other"] {
        let file = folder.path().join(name);
        std::fs::write(&file, name).unwrap();
        command.arg(file);
    }
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let said = BufReader::new(child.stdout.take().unwrap());
    let told = thread::spawn(move || {
        let events = said.lines().map(|line| {
            let event: Value = serde_json::from_str(&line.unwrap()).unwrap();
            (Instant::now(), event)
        });
        events.collect::<Vec<_>>()
    });
    let (began, mut seen) = (Instant::now(), Vec::new());
    let ended = loop {
        seen.extend(outside.live(Duration::from_millis(100)));
        if let Some(ended) = child.try_wait().unwrap() {
            break ended;
        }
        if began.elapsed() > PATIENCE {
            child.kill().unwrap();
            panic!("it does not end: {:?}", told.join());
        }
    };
    assert!(ended.success(), "{ended}");
    let told = told.join().unwrap();
    let named = |name: &str| {
        let events = told.iter().filter(|(_, event)| event["event"] == name);
        events.cloned().collect::<Vec<_>>()
    };
    let (sent, lingering) = (named("sent"), named("lingering"));
    assert_eq!((sent.len(), lingering.len()), (2, 1), "{told:?}");
    let drawn = lingering[0].1["seconds"].as_f64().unwrap();
    let last = seen.last().unwrap();
    let after = last.duration_since(sent[1].0).as_secs_f64();
    println!(
        "{} clients to a watcher; {after:.2} s of cover after the last file, {drawn:.2} s were drawn",
        outside.sources.len()
    );
    assert_eq!(outside.sources.len(), 1, "each file has its own client");
    assert!(after > drawn - 0.5, "{after} s of {drawn}");
}
