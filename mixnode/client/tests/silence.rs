//! A client notices that its gateway has fallen silent, says so, and finds it again; and who only sends is silent itself
//! towards strangers.

mod common;

use common::{Conditions, Network};
use fog::{
    Address, Client, Config, Event, Identity, Less, Manifest, MemoryStorage, Phase, Storage,
};
use link::ClientKeys;
use rand_core::SeedableRng;

const SECOND: u64 = 1_000_000_000;

fn client(network: &mut Network, rate_pps: f64) -> Client {
    let storage = Box::new(MemoryStorage::new(1 << 20));
    reachable(network, rate_pps, Some(storage)).0
}

/// A client that takes what comes into this storage, and its address.
fn reachable(
    network: &mut Network,
    rate_pps: f64,
    storage: Option<Box<dyn Storage>>,
) -> (Client, Address) {
    let consensus = network.consensus(0).0;
    let config = Config {
        identity: Identity::generate(&mut network.rng),
        mailbox: ClientKeys::generate(&mut network.rng),
        gateway: network.gateway(0),
        authorities: network.authorities(),
        rate_pps: Some(rate_pps),
        loop_share: 0.1,
    };
    let rng = sphinx::Generator::from_rng(&mut network.rng);
    let client = Client::new(config, consensus, storage, rng, network.now_ns);
    let address = client.address();
    (client, address)
}

/// What was said of the gateway since the last call: silent or not.
fn news(network: &mut Network, seat: usize) -> Vec<bool> {
    let events = network.seats[seat].events.drain(..);
    events
        .filter_map(|event| match event {
            Event::GatewaySilent { .. } => Some(true),
            Event::GatewayBack => Some(false),
            _ => None,
        })
        .collect()
}

#[test]
fn a_gateway_that_was_restarted_is_noticed_within_a_second_or_twenty_frames_and_found_again() {
    for (rate_pps, notices_s, back_s) in [(50.0, 2, 6), (2.0, 9, 30)] {
        let mut network = Network::new(70, Conditions::default());
        let client = client(&mut network, rate_pps);
        let seat = network.join(client);
        network.run(20 * SECOND, |_| false);
        assert_eq!(news(&mut network, seat), [false; 0], "all is well");
        network.restart_gateway(0);
        let at_ns = network.now_ns;
        network.run(at_ns + notices_s * SECOND, |_| false);
        assert!(
            news(&mut network, seat).starts_with(&[true]),
            "{rate_pps} a second"
        );
        network.run(at_ns + back_s * SECOND, |_| false);
        // It goes on in peace.
        network.run(at_ns + 60 * SECOND, |_| false);
        let later = news(&mut network, seat);
        assert!(
            later.len() <= 1 && later.iter().all(|silent| !silent),
            "{later:?}"
        );
    }
}

#[test]
fn a_client_that_is_granted_less_than_it_asks_for_is_told_once_and_one_that_is_not_never() {
    for (grants_pps, told) in [(u32::MAX, 0), (63, 0), (62, 1)] {
        let mut network = Network::new(72, Conditions::default());
        network.grants_pps = grants_pps;
        let client = client(&mut network, 50.0);
        let seat = network.join(client);
        // With renewals, each of which is answered anew.
        network.run(600 * SECOND, |_| false);
        assert!(network.attaches.values().sum::<u64>() > 2);
        let less = Less {
            granted_pps: grants_pps,
            asked_pps: 63,
        };
        let seat = &network.seats[seat];
        let news = seat.events.iter().filter_map(|event| match event {
            Event::GrantedLess(less) => Some(*less),
            _ => None,
        });
        assert_eq!(news.collect::<Vec<_>>(), vec![less; told]);
        let now = seat.client.as_ref().unwrap().less();
        assert_eq!(now, (told > 0).then_some(less));
    }
}

#[test]
fn a_gateway_that_stays_silent_is_tried_with_growing_pauses_and_slots_keep_their_pace() {
    let mut network = Network::new(71, Conditions::default());
    let client = client(&mut network, 10.0);
    let seat = network.join(client);
    network.run(10 * SECOND, |_| false);
    network.silent.push(network.gateway(0));
    let before = network.initiations;
    let departures = network.seats[seat].departures.len();
    network.run(610 * SECOND, |_| false);
    assert_eq!(news(&mut network, seat), [true]);
    let tries = network.initiations - before;
    println!("{tries} initiations in ten minutes of silence");
    // Eleven while the pause grows to 30 s, then two a minute.
    assert!((20..50).contains(&tries), "{tries} initiations");
    let sent = network.seats[seat].departures.len() - departures;
    assert!((5_600..6_400).contains(&sent), "{sent} departures");
    network.silent.clear();
    network.run(610 * SECOND + 60 * SECOND, |_| false);
    assert_eq!(news(&mut network, seat), [false]);
}

#[test]
fn a_gateway_that_never_answers_is_said_to_be_silent_within_five_seconds() {
    let mut network = Network::new(72, Conditions::default());
    network.silent.push(network.gateway(0));
    let client = client(&mut network, 100.0);
    let seat = network.join(client);
    network.run(5 * SECOND, |_| false);
    assert_eq!(news(&mut network, seat), [true]);
}

#[test]
fn a_working_link_is_renewed_every_two_to_four_minutes() {
    let mut network = Network::new(73, Conditions::default());
    let client = client(&mut network, 2.0);
    let seat = network.join(client);
    network.run(3_600 * SECOND, |_| false);
    assert_eq!(news(&mut network, seat), [false; 0]);
    // Each renewal shows its cookie: two initiations. An hour has 15 to 30.
    let initiations = network.initiations;
    assert!(
        (30..=62).contains(&initiations),
        "{initiations} initiations"
    );
}

/// What a stranger gets out of the client at this address in half a minute: whether it gave its key, and whether it
/// answered for a file.
fn answers(network: &mut Network, address: Address) -> (bool, bool) {
    let mut stranger = client(network, 20.0);
    let manifest = Manifest {
        transfer: [7; 16],
        size: 4,
        hash: *blake3::hash(b"ping").as_bytes(),
        name: Vec::new(),
    };
    stranger.send(address, manifest, Box::new(b"ping".to_vec()), None);
    let seat = network.join(stranger);
    network.run(network.now_ns + 30 * SECOND, |_| false);
    let events = &network.seats[seat].events;
    let answered = |event: &Event| match event {
        Event::Sending { phase, .. } => !matches!(phase, Phase::FetchingKey | Phase::Waiting),
        _ => false,
    };
    let gave_key = |event: &Event| matches!(event, Event::Key { .. });
    (events.iter().any(gave_key), events.iter().any(answered))
}

#[test]
fn attack_who_only_sends_tells_no_stranger_that_it_is_there() {
    let mut network = Network::new(74, Conditions::default());
    let storage = Box::new(MemoryStorage::new(1 << 20));
    let (receiving, address) = reachable(&mut network, 20.0, Some(storage));
    network.join(receiving);
    assert_eq!(answers(&mut network, address), (true, true), "who receives");
    let (sending, address) = reachable(&mut network, 20.0, None);
    let seat = network.join(sending);
    let said = answers(&mut network, address);
    println!("who only sends gave its key, and answered for a file: {said:?}");
    assert_eq!(said, (false, false));
    let received = |event: &&Event| matches!(event, Event::Received(_));
    assert_eq!(
        network.seats[seat].events.iter().filter(received).count(),
        0
    );
}
