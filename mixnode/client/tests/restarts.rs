//! A client that was away: it stops, and starts again with what its store holds, at any point of an epoch.

mod common;

use std::path::Path;

use common::{Conditions, GENESIS_MS, Network};
use directory::Bootstrap;
use fog::home::Home;
use fog::{
    Client, Config, DiskStorage, Event, Identity, Manifest, MemoryStorage, Phase, Received, Storage,
};
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

const SECOND: u64 = 1_000_000_000;
const EPOCH_MS: u64 = 60_000;
/// Its first run: the first half of an epoch, and the second, in which it gets the next epoch's document.
const FIRST_RUNS: [(u64, u64); 2] = [(6, 9), (46, 50)];
/// How soon a client that was started again is through: a client that waits for an epoch is not.
const SOON: u64 = 5 * SECOND;

fn epoch_ms(epoch: u64, part: f64) -> u64 {
    (epoch * EPOCH_MS + (part * EPOCH_MS as f64) as u64) * 1_000_000
}

/// A store in `folder`, made as a new user makes one.
fn init(network: &mut Network, folder: &Path, gateway: usize) {
    let epoch = network.authority.parameters().epoch_at(network.unix_ms());
    let bootstrap = Bootstrap {
        chain: network.authorities(),
        consensus: Some(network.document(epoch)),
    };
    let file = folder.with_extension("network");
    bootstrap.write(&file).unwrap();
    let rng = &mut ChaCha20Rng::from_rng(&mut network.rng);
    Home::init(folder, &file, Some(network.gateway(gateway)), rng).unwrap();
}

/// A client of the store, as `fog` starts one.
fn start(network: &mut Network, home: &Home) -> Client {
    start_with(network, home, Box::new(MemoryStorage::new(1 << 20)))
}

/// The same with a storage of its own for what arrives.
fn start_with(network: &mut Network, home: &Home, storage: Box<dyn Storage>) -> Client {
    let config = Config {
        identity: Identity::from_bytes(home.identity.to_bytes()),
        mailbox: home.mailbox.clone(),
        gateway: home.gateway,
        authorities: home.authorities.clone(),
        rate_pps: None,
        loop_share: 0.1,
    };
    let rng = sphinx::Generator::from_rng(&mut network.rng);
    Client::new(
        config,
        home.documents.clone(),
        Some(storage),
        rng,
        network.now_ns,
    )
}

/// Stores what the client has fetched since its start, as `fog` does.
fn save(network: &Network, seat: usize, home: &Home) {
    for event in &network.seats[seat].events {
        if let Event::Consensus { epoch, document } = event {
            home.save_consensus(*epoch, document).unwrap();
        }
    }
}

/// Runs a client from a point of its first epoch on, stops it for so many epochs, starts it at the given part of an
/// epoch in one of both roles, and says how long a small file then takes; none if it does not arrive soon.
fn comes_back(first: (u64, u64), absence: u64, part: f64, sends: bool) -> Option<u64> {
    let conditions = Conditions {
        epoch_ms: EPOCH_MS,
        mean_delay_us: 1_000,
        ..Conditions::default()
    };
    let mut network = Network::new(60, conditions);
    let folder = tempfile::tempdir().unwrap();
    let (returning, other) = (folder.path().join("returning"), folder.path().join("other"));
    network.run(epoch_ms(1, 0.0) + first.0 * SECOND, |_| false);
    init(&mut network, &returning, 0);
    let home = Home::read(&returning).unwrap();
    let client = start(&mut network, &home);
    let seat = network.join(client);
    network.run(epoch_ms(1, 0.0) + first.1 * SECOND, |_| false);
    save(&network, seat, &home);
    network.kill(seat);
    // The next such part of an epoch that is still to come, and whole epochs more.
    let this = u64::from(epoch_ms(1, part) < network.now_ns);
    network.run(epoch_ms(1 + this + absence, part), |_| false);
    init(&mut network, &other, 1);
    let other = Home::read(&other).unwrap();
    let home = Home::read(&returning).unwrap();
    let (mut client, mut partner) = (start(&mut network, &home), start(&mut network, &other));
    let mut data = vec![0; 3_000];
    network.rng.fill_bytes(&mut data);
    let manifest = Manifest {
        transfer: [6; 16],
        size: data.len() as u64,
        hash: *blake3::hash(&data).as_bytes(),
        name: "file".into(),
    };
    if sends {
        client.send(other.address(), manifest, Box::new(data), None);
    } else {
        partner.send(home.address(), manifest, Box::new(data), None);
    }
    network.restart(seat, client);
    let partner = network.join(partner);
    let sender = if sends { seat } else { partner };
    let began_ns = network.now_ns;
    let whole = |event: &Event| {
        let Event::Sending { phase, .. } = event else {
            return false;
        };
        *phase == Phase::Complete
    };
    let arrived = network.run(began_ns + SOON, |network| {
        network.seats[sender].events.iter().any(whole)
    });
    arrived.then(|| network.now_ns - began_ns)
}

fn comes_back_everywhere(sends: bool) {
    let mut failed = Vec::new();
    for first in FIRST_RUNS {
        for absence in [0, 1, 5] {
            for part in [0.0, 0.4, 0.6, 0.9] {
                if comes_back(first, absence, part, sends).is_none() {
                    failed.push((first, absence, part));
                }
            }
        }
    }
    assert!(
        failed.is_empty(),
        "dead after (first run from s, to s; epochs away; part of the epoch): {failed:?}"
    );
}

#[test]
#[ignore = "long arithmetic: the gate's heavy step runs it"]
fn a_sender_that_was_away_sends_soon_after_its_start_at_any_part_of_an_epoch() {
    comes_back_everywhere(true);
}

#[test]
#[ignore = "long arithmetic: the gate's heavy step runs it"]
fn a_recipient_that_was_away_receives_soon_after_its_start_at_any_part_of_an_epoch() {
    comes_back_everywhere(false);
}

#[test]
fn a_client_that_holds_the_next_epochs_document_alone_asks_for_this_ones() {
    let conditions = Conditions {
        epoch_ms: EPOCH_MS,
        ..Conditions::default()
    };
    let mut network = Network::new(61, conditions);
    network.run(epoch_ms(3, 0.6), |_| false);
    assert_eq!(network.unix_ms(), GENESIS_MS + EPOCH_MS * 36 / 10);
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("home");
    init(&mut network, &place, 0);
    let mut home = Home::read(&place).unwrap();
    home.documents = network.consensus(4).0.into();
    let client = start(&mut network, &home);
    let seat = network.join(client);
    network.run(epoch_ms(3, 0.7), |_| false);
    let fetched: Vec<u32> = network.seats[seat]
        .events
        .iter()
        .filter_map(|event| match event {
            Event::Consensus { epoch, .. } => Some(*epoch),
            _ => None,
        })
        .collect();
    assert_eq!(fetched, [3]);
}

#[test]
fn a_client_that_returns_into_an_epoch_without_a_document_sends_with_the_one_before() {
    let conditions = Conditions {
        epoch_ms: EPOCH_MS,
        mean_delay_us: 1_000,
        ..Conditions::default()
    };
    let mut network = Network::new(62, conditions);
    network.missing = Some(6);
    network.run(epoch_ms(3, 0.2), |_| false);
    let folder = tempfile::tempdir().unwrap();
    let places = ["one", "other"].map(|name| folder.path().join(name));
    for (gateway, place) in places.iter().enumerate() {
        init(&mut network, place, gateway);
    }
    // Both were away since epoch 3.
    network.run(epoch_ms(6, 0.1), |_| false);
    let homes = places.map(|place| Home::read(&place).unwrap());
    let [mut one, other] = homes.each_ref().map(|home| start(&mut network, home));
    let data = vec![7; 3_000];
    let manifest = Manifest {
        transfer: [6; 16],
        size: data.len() as u64,
        hash: *blake3::hash(&data).as_bytes(),
        name: "file".into(),
    };
    one.send(homes[1].address(), manifest, Box::new(data), None);
    let sender = network.join(one);
    network.join(other);
    let arrived = network.run(network.now_ns + 2 * SOON, |network| {
        network.seats[sender]
            .events
            .iter()
            .any(|event| matches!(event, Event::Sending { phase, .. } if *phase == Phase::Complete))
    });
    assert!(arrived, "nothing moved in the epoch without a document");
}

#[test]
fn a_gateway_that_withholds_a_document_gets_no_packets_of_the_old_epoch() {
    let conditions = Conditions {
        epoch_ms: EPOCH_MS,
        mean_delay_us: 1_000,
        ..Conditions::default()
    };
    let mut network = Network::new(63, conditions);
    let own = network.gateway(0);
    network.withholds.push((own, 4));
    network.run(epoch_ms(3, 0.2), |_| false);
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("home");
    init(&mut network, &place, 0);
    let home = Home::read(&place).unwrap();
    let client = start(&mut network, &home);
    let seat = network.join(client);
    network.run(epoch_ms(4, 0.0), |_| false);
    let loops = |network: &Network| {
        let client = network.seats[seat].client.as_ref().unwrap();
        client.stats().loops_back
    };
    let before = loops(&network);
    assert!(before > 50, "it was sending in epoch 3: {before}");
    // A packet is sent a moment after it was made: those of the last one are not the rest of the epoch's.
    network.run(epoch_ms(4, 0.01), |_| false);
    let late = network.old_packets.get(&own).copied().unwrap_or(0);
    network.run(epoch_ms(4, 0.9), |_| false);
    let old = network.old_packets.get(&own).copied().unwrap_or(0);
    println!(
        "packets of the old epoch: {late}, and {} after it",
        old - late
    );
    assert!(late <= 1, "{late}");
    assert_eq!(
        old, late,
        "on its gateway's word alone it went on with the old document"
    );
    let fetched = network.seats[seat]
        .events
        .iter()
        .any(|event| matches!(event, Event::Consensus { epoch: 4, .. }));
    assert!(fetched, "the other gateway has it");
    assert!(loops(&network) > before + 50, "and it goes on with it");
}

/// A sender of four packets a second whose recipient is killed in the middle of a file and started again at once: seconds
/// from then until the file is there.
fn meets_anew(seed: u64) -> f64 {
    let conditions = Conditions {
        rate_pps: 4,
        ..Conditions::default()
    };
    let mut network = Network::new(seed, conditions);
    let folder = tempfile::tempdir().unwrap();
    let places = ["one", "other"].map(|name| folder.path().join(name));
    for (gateway, place) in places.iter().enumerate() {
        init(&mut network, place, gateway);
    }
    let homes = places.map(|place| Home::read(&place).unwrap());
    let (records, out) = (folder.path().join("records"), folder.path().join("out"));
    let recipient = |network: &mut Network| {
        let storage = DiskStorage::new(&records, &out, 1 << 20).unwrap();
        start_with(network, &homes[1], Box::new(storage))
    };
    let data = vec![7; 12_000];
    let manifest = Manifest {
        transfer: [6; 16],
        size: data.len() as u64,
        hash: *blake3::hash(&data).as_bytes(),
        name: "file".into(),
    };
    let mut one = start(&mut network, &homes[0]);
    one.send(homes[1].address(), manifest, Box::new(data), None);
    let sender = network.join(one);
    let client = recipient(&mut network);
    let seat = network.join(client);
    let is_half = |network: &mut Network| {
        network.seats[seat].events.iter().any(|event| {
            matches!(event, Event::Received(Received::Progress { chunks, .. }) if *chunks >= 7)
        })
    };
    assert!(network.run(60 * SECOND, is_half));
    network.kill(seat);
    let client = recipient(&mut network);
    network.restart(seat, client);
    let killed_ns = network.now_ns;
    let is_complete = |network: &mut Network| {
        let mut events = network.seats[sender].events.iter();
        events
            .any(|event| matches!(event, Event::Sending { phase, .. } if *phase == Phase::Complete))
    };
    network.run(killed_ns + 600 * SECOND, is_complete);
    (network.now_ns - killed_ns) as f64 / 1e9
}

/// Runs so many such meetings; each must be over soon.
fn all_meet_anew(seeds: std::ops::Range<u64>) {
    let mut took: Vec<f64> = seeds.map(meets_anew).collect();
    took.sort_by(f64::total_cmp);
    let worst = took[took.len() - 1];
    println!(
        "{} meetings: complete {:.1} s after the kill in the middle, {worst:.1} s at the worst",
        took.len(),
        took[took.len() / 2],
    );
    assert!(worst < 60.0, "{worst} s");
}

#[test]
fn a_sender_of_few_packets_meets_a_recipient_anew_that_was_killed() {
    all_meet_anew(64..66);
}

#[test]
#[ignore = "minutes of cryptography"]
fn senders_of_few_packets_meet_recipients_anew_that_were_killed() {
    all_meet_anew(100..180);
}
