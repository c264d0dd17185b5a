//! A network of hosts of their own from empty folders, by the README's own commands: three authorities, nine mixes, three
//! gateways, each its own operator in its own /24, each host a network namespace with processes of its own. Files go
//! through it all the time; one authority is killed and comes back, another lies, and nothing is lost at any turn.
//!
//! `cargo test --release --workspace --test founded -- --ignored --nocapture`; FOUNDED_EPOCHS says how many epochs of 16
//! seconds, 20 if nothing does. Needs root.

#[path = "../programs/mod.rs"]
mod programs;
#[path = "../running/mod.rs"]
mod running;

mod guide;
mod host;
mod liar;
mod site;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};

use control::authority::key;
use directory::store::{Store, hex};
use directory::{Bootstrap, Chain};
use host::Host;
use mixnode::path::reason::Reason;
use mixnode::process::unix_ms;
use running::wait_until;
use site::Site;

/// Turns without a document that a slow machine may have.
const MISSED_MAX: usize = 2;
/// What a turn must never cost a packet.
const OF_TURNS: [Reason; 3] = [Reason::Epoch, Reason::NoSession, Reason::Layer];
/// Who is killed, and who lies.
const KILLED: usize = 2;
const LIAR: usize = 1;

/// What was dropped at a host, by reason.
fn drops(host: &Host) -> BTreeMap<String, u64> {
    let told = host.json("mixctl why-dropped");
    let drops = told["drops"].as_array().unwrap().iter();
    let drops = drops.map(|drop| {
        let reason = drop["reason"].as_str().unwrap().to_owned();
        (reason, drop["total"].as_u64().unwrap())
    });
    drops.collect()
}

fn has_document(authority: &Host, epoch: u32) -> bool {
    let store = Store::open(&authority.file("/var/lib/fogmix-authority"));
    let epochs = store.and_then(|store| store.epochs()).unwrap_or_default();
    epochs.contains(&epoch)
}

/// Sends one file after the other until it is told to stop; how many arrived, and how many of their chunks went twice.
fn keeps_sending(user: &Host, address: &str, stop: &AtomicBool) -> (usize, u64) {
    let (mut number, mut again) = (0, 0);
    while !stop.load(Ordering::Acquire) {
        number += 1;
        let name = format!("letter-{number}.txt");
        std::fs::write(user.on_desk(&name), site::letter(number)).unwrap();
        let said = user.types(&format!("fog send --json {address} {name} --timeout 150s"));
        let events = said
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok());
        let sums = events.filter_map(|event: serde_json::Value| event["sent_again"].as_u64());
        again += sums.max().unwrap_or(0);
    }
    (number, again)
}

/// What happens to the authorities at the turn to which epoch, counted from the first.
struct Plan {
    killed: u32,
    back: u32,
    lies: u32,
    honest: u32,
}

impl Plan {
    fn of(epochs: u32) -> Plan {
        let long = 1.max(epochs / 8);
        let (killed, lies) = (1.max(epochs / 5), epochs / 2);
        Plan {
            killed,
            back: killed + long,
            lies,
            honest: lies + long,
        }
    }
}

struct Turns {
    epochs: u32,
    /// Epochs without a document at a quorum when they began.
    missed: Vec<u32>,
    lied: BTreeSet<u32>,
}

/// Looks at the authorities at every turn, while one is killed and one lies.
fn turns(site: &mut Site, chain: &Chain, epochs: u32) -> Turns {
    let parameters = *chain.parameters();
    let now = || parameters.epoch_at(unix_ms());
    let (first, plan) = (now() + 1, Plan::of(epochs));
    let quorum = chain.at(first).unwrap().authorities().unwrap().quorum();
    let key = key::read(&site.authorities[LIAR].file("/etc/fogmix/authority.key")).unwrap();
    let mut turns = Turns {
        epochs,
        missed: Vec::new(),
        lied: BTreeSet::new(),
    };
    for epoch in first..=first + epochs {
        wait_until("the next epoch", || now() >= epoch);
        assert_eq!(now(), epoch, "this machine was away for an epoch");
        let holding = site
            .authorities
            .iter()
            .filter(|one| has_document(one, epoch));
        let holding = holding.count();
        if holding < quorum {
            println!(
                "epoch {epoch}: {holding} authorities have a document, the one before is carried on"
            );
            turns.missed.push(epoch);
        }
        let number = epoch - first;
        if number == plan.killed {
            println!("epoch {epoch}: authority {KILLED} is killed");
            site.authorities[KILLED].types("pkill -KILL -x mixctld");
            site.authorities[KILLED].clears_terminals();
        }
        if number == plan.back {
            println!("epoch {epoch}: authority {KILLED} is started again");
            assert!(!has_document(&site.authorities[KILLED], epoch));
            site.authorities[KILLED].leaves(site::AUTHORITY);
        }
        if number == plan.lies {
            // It has what the others have: the next fault may come.
            assert!(
                has_document(&site.authorities[KILLED], epoch),
                "authority {KILLED} is back"
            );
            println!("epoch {epoch}: authority {LIAR} lies from now on");
            site.authorities[LIAR].types("pkill -TERM -x mixctld");
            site.authorities[LIAR].clears_terminals();
        }
        if (plan.lies..plan.honest).contains(&number) {
            let honest: Vec<_> = (0..site.authorities.len()).filter(|n| *n != LIAR).collect();
            let to: Vec<_> = honest
                .iter()
                .map(|n| site.authorities[*n].address)
                .collect();
            let liar = &site.authorities[LIAR];
            let lied = liar::lies(liar, &key, chain, &to, &site.nodes);
            let evidence = format!("{lied}-{}-FXV1", hex(&key.public()));
            for number in honest {
                let one = &site.authorities[number];
                wait_until("evidence of two votes", || {
                    let shown = one.json("mixctl authority status");
                    let shown = shown["evidence"].as_array().unwrap();
                    shown.iter().any(|name| *name == *evidence)
                });
            }
            turns.lied.insert(lied);
        }
        if number == plan.honest {
            println!("epoch {epoch}: authority {LIAR} is honest again");
            site.authorities[LIAR].leaves(site::AUTHORITY);
        }
    }
    turns
}

#[test]
#[ignore = "needs root, and minutes: a network of seventeen hosts by the README's commands"]
fn the_readmes_commands_found_a_network_that_loses_nothing_while_an_authority_is_gone_and_one_lies()
{
    let epochs = std::env::var("FOUNDED_EPOCHS").map_or(20, |text| text.parse().unwrap());
    assert!(epochs >= 6, "one authority goes and comes, then one lies");
    let readme = include_str!("../../../../README.md");
    let began = std::time::Instant::now();
    let mut site = Site::boot(readme);
    site.follow_the_readme();
    println!("a file went through after {} s", began.elapsed().as_secs());
    arrived(&site, 0, "letter.txt");

    let network = site.users[0].on_desk("network");
    let chain = Bootstrap::read(&network).unwrap().chain;
    let before: Vec<_> = site.nodes.iter().map(drops).collect();
    let (stop, address) = (AtomicBool::new(false), site.addresses[1].clone());
    let sender = site.users.remove(0);
    let (turns, (files, again)) = std::thread::scope(|scope| {
        let sending = scope.spawn(|| keeps_sending(&sender, &address, &stop));
        let turns = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            turns(&mut site, &chain, epochs)
        }));
        stop.store(true, Ordering::Release);
        let sent = sending.join();
        let turns = turns.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        (turns, sent.unwrap())
    });
    site.users.insert(0, sender);
    for number in 1..=files {
        arrived(&site, number, &format!("letter-{number}.txt"));
    }
    let mut packets = 0;
    for (node, before) in site.nodes.iter().zip(&before) {
        let after = drops(node);
        for reason in OF_TURNS.map(Reason::name) {
            let count = |drops: &BTreeMap<String, u64>| drops.get(reason).copied().unwrap_or(0);
            assert_eq!(
                count(&after),
                count(before),
                "{}: {reason}: {after:?}",
                node.name
            );
        }
        let status = node.json("mixctl status");
        assert_eq!(status["state"], "ready", "{}: {status}", node.name);
        assert_eq!(status["node"]["port"], "plain");
        assert_eq!(status["counters"]["unconserved"], 0);
        packets += status["counters"]["received"].as_u64().unwrap();
    }
    let mut hosts = site.nodes.iter_mut().chain(&mut site.authorities);
    assert!(hosts.all(Host::is_at_work));
    let missed = &turns.missed;
    assert!(
        missed.len() <= MISSED_MAX,
        "no document at the turns to {missed:?}"
    );
    println!(
        "{} epochs: {} turns without a document, {files} files of {} bytes arrived ({again} chunks sent again), {packets} \
         packets; no node dropped one for epoch, no_session or layer; authority {KILLED} was killed and came back, {LIAR} \
         signed two votes for epochs {:?} and was shown, {} s in all",
        turns.epochs,
        missed.len(),
        site::letter(1).len(),
        turns.lied,
        began.elapsed().as_secs()
    );
}

/// The file is there, as it was sent.
fn arrived(site: &Site, number: usize, name: &str) {
    let path = site.users[1].on_desk("received").join(name);
    let content = std::fs::read_to_string(&path).unwrap();
    assert!(content == site::letter(number), "{name}");
}
