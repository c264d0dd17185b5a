//! A client keeps its gateway: who fills it, silences it or takes it away pushes nobody on to another against the rule.

#[path = "../common/mod.rs"]
mod common;
mod withheld;

use std::path::Path;

use common::{Conditions, Network};
use directory::Bootstrap;
use fog::home::Home;
use fog::{Client, Config, Event, GuardState, Identity, MemoryStorage, Reserves};
use link::ClientKeys;
use link::control::Control;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

const SECOND: u64 = 1_000_000_000;
const MINUTE: u64 = 60 * SECOND;

/// A slow client at gateway 0.
struct Slow {
    mailbox: ClientKeys,
    rate_pps: f64,
}

impl Slow {
    fn new(network: &mut Network) -> Self {
        Self {
            mailbox: ClientKeys::generate(&mut network.rng),
            rate_pps: 1.0,
        }
    }

    fn client(&self, network: &mut Network) -> Client {
        let epoch = network.authority.parameters().epoch_at(network.unix_ms());
        let consensus = network.consensus(epoch).0;
        let config = Config {
            identity: Identity::generate(&mut network.rng),
            mailbox: self.mailbox.clone(),
            gateway: network.gateway(0),
            authorities: network.authorities(),
            rate_pps: Some(self.rate_pps),
            loop_share: 0.1,
        };
        let rng = sphinx::Generator::from_rng(&mut network.rng);
        let storage = Box::new(MemoryStorage::new(1 << 20));
        Client::new(config, consensus, Some(storage), rng, network.now_ns)
    }

    /// With gateways 1 and 2 as its reserves.
    fn backed(&self, network: &mut Network, state: GuardState, moves: bool) -> Client {
        let mut client = self.client(network);
        let gateways = [1, 2].map(|number| {
            let keys = ClientKeys::generate(&mut network.rng);
            (network.gateway(number), keys)
        });
        client.set_reserves(Reserves {
            gateways: gateways.to_vec(),
            state,
            moves,
        });
        client
    }
}

fn network(seed: u64, epoch_ms: u64) -> Network {
    let conditions = Conditions {
        epoch_ms,
        mean_delay_us: 1_000,
        gateways: 5,
        ..Conditions::default()
    };
    Network::new(seed, conditions)
}

/// The number of the gateway that a client uses.
fn used(network: &Network, seat: usize) -> usize {
    let gateway = network.seats[seat].client.as_ref().unwrap().gateway();
    let same = |descriptor: &directory::Descriptor| descriptor.identity == gateway;
    network.descriptors.iter().position(same).unwrap()
}

/// What was told of a seat since the last call: moves (to a reserve or back), and how often that the gateway is full.
fn told(network: &mut Network, seat: usize) -> (Vec<bool>, usize) {
    let (mut moves, mut full) = (Vec::new(), 0);
    for event in network.seats[seat].events.drain(..) {
        match event {
            Event::GatewayMoved { to_reserve } => moves.push(to_reserve),
            Event::GatewayFull => full += 1,
            _ => {}
        }
    }
    (moves, full)
}

#[test]
fn a_silent_guard_pushes_a_sender_to_its_first_reserve_after_an_hour_and_a_recipient_nowhere() {
    let mut network = network(80, 1_200_000);
    let (sends, receives) = (Slow::new(&mut network), Slow::new(&mut network));
    let sender = sends.backed(&mut network, GuardState::default(), true);
    let sender = network.join(sender);
    let recipient = receives.backed(&mut network, GuardState::default(), false);
    let recipient = network.join(recipient);
    network.run(MINUTE, |_| false);
    network.silent.push(network.gateway(0));
    network.run(60 * MINUTE, |_| false);
    let elsewhere: u64 = (1..5)
        .filter_map(|number| network.attaches.get(&network.gateway(number)))
        .sum();
    println!("attachments elsewhere within the hour: {elsewhere}");
    // Reserves are asked for the documents that the guard does not hand over; nobody else is.
    assert_eq!(used(&network, sender), 0);
    network.run(65 * MINUTE, |_| false);
    assert_eq!(used(&network, sender), 1);
    assert_eq!(told(&mut network, sender).0, [true]);
    // It sends there, and comes back when its guard does.
    let first = network.gateway(1);
    let before = network.packets.get(&first).copied().unwrap_or(0);
    network.run(70 * MINUTE, |_| false);
    assert!(network.packets[&first] > before + 60);
    network.silent.clear();
    network.run(100 * MINUTE, |_| false);
    assert_eq!(used(&network, sender), 0);
    assert_eq!(told(&mut network, sender).0, [false]);
    assert_eq!(told(&mut network, recipient).0, [false; 0]);
    assert_eq!(used(&network, recipient), 0);
    for never in [3, 4] {
        assert_eq!(network.attaches.get(&network.gateway(never)), None);
    }
}

#[test]
fn the_hour_is_neither_begun_anew_nor_shortened_by_starting_again() {
    let mut network = network(81, 1_200_000);
    network.silent.push(network.gateway(0));
    let slow = Slow::new(&mut network);
    let client = slow.backed(&mut network, GuardState::default(), true);
    let seat = network.join(client);
    let state = |network: &Network| {
        let states = network.seats[seat].events.iter().rev();
        let mut states = states.filter_map(|event| match event {
            Event::Guard(state) => Some(*state),
            _ => None,
        });
        states.next().unwrap()
    };
    for _ in 0..4 {
        network.run(network.now_ns + 10 * MINUTE, |_| false);
        assert_eq!(used(&network, seat), 0);
        let state = state(&network);
        network.kill(seat);
        // Away for two hours, in which nothing counts.
        network.run(network.now_ns + 120 * MINUTE, |_| false);
        let client = slow.backed(&mut network, state, true);
        network.restart(seat, client);
    }
    network.run(network.now_ns + 15 * MINUTE, |_| false);
    assert_eq!(used(&network, seat), 0, "{:?}", state(&network));
    network.run(network.now_ns + 15 * MINUTE, |_| false);
    assert_eq!(used(&network, seat), 1, "{:?}", state(&network));
    // Started again it is there at once.
    let state = state(&network);
    assert_eq!(state.at, 1);
    let client = slow.backed(&mut network, state, true);
    network.restart(seat, client);
    network.run(network.now_ns + MINUTE, |_| false);
    assert_eq!(used(&network, seat), 1);
    assert!(network.seats[seat].client.as_ref().unwrap().is_attached());
}

#[test]
fn a_guard_that_left_the_network_is_left_at_once_by_a_sender_alone() {
    let mut network = network(82, 60_000);
    network.gone.push((network.gateway(0), 3));
    let (sends, receives) = (Slow::new(&mut network), Slow::new(&mut network));
    let seats = [(sends, true), (receives, false)].map(|(mut slow, moves)| {
        slow.rate_pps = 10.0;
        let client = slow.backed(&mut network, GuardState::default(), moves);
        network.join(client)
    });
    network.run(3 * MINUTE, |_| false);
    assert_eq!(seats.map(|seat| used(&network, seat)), [0, 0]);
    network.run(4 * MINUTE, |_| false);
    assert_eq!(seats.map(|seat| used(&network, seat)), [1, 0]);
}

#[test]
fn a_full_gateway_is_asked_again_with_growing_pauses_and_moves_no_slot() {
    let departures = [false, true].map(|is_full| {
        let mut network = network(83, 1_200_000);
        let slow = Slow::new(&mut network);
        let client = slow.client(&mut network);
        let seat = network.join(client);
        if is_full {
            network.full.push(network.gateway(0));
        }
        network.run(60 * MINUTE, |_| false);
        if is_full {
            let asked = network.attaches[&network.gateway(0)];
            println!("{asked} attach frames to a full gateway in an hour");
            assert_eq!(told(&mut network, seat).1, 1, "told once");
            assert!((5..12).contains(&asked), "{asked} attach frames");
            network.full.clear();
            network.run(90 * MINUTE, |_| false);
            assert!(!network.seats[seat].client.as_ref().unwrap().is_full());
        } else {
            let leaving = Control::Leaving { epoch: 9 };
            for _ in 0..3 {
                network.says(0, &slow.mailbox, &leaving);
            }
            network.run(90 * MINUTE, |_| false);
            let events = &network.seats[seat].events;
            let leaves = |event: &&Event| matches!(event, Event::GatewayLeaving { epoch: 9 });
            assert_eq!(events.iter().filter(leaves).count(), 1);
            assert_eq!(used(&network, seat), 0);
        }
        network.seats[seat].departures.clone()
    });
    assert!(departures[0].len() > 5_000);
    assert_eq!(
        departures[0], departures[1],
        "what it was told moved a slot"
    );
}

/// A home in `folder`, joined with the network's file of now.
fn join(network: &mut Network, folder: &Path, gateway: Option<usize>) -> Home {
    let epoch = network.authority.parameters().epoch_at(network.unix_ms());
    let bootstrap = Bootstrap {
        chain: network.authorities(),
        consensus: Some(network.document(epoch)),
    };
    let file = folder.with_extension("network");
    bootstrap.write(&file).unwrap();
    let gateway = gateway.map(|number| network.gateway(number));
    let rng = &mut ChaCha20Rng::from_rng(&mut network.rng);
    Home::init(folder, &file, gateway, rng).unwrap();
    Home::read(folder).unwrap()
}

#[test]
fn a_user_who_joins_again_because_the_gateway_is_full_is_not_drawn_to_another_one() {
    let mut network = network(86, 60_000);
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    let mut seen = Vec::new();
    for _ in 0..40 {
        let gateway = join(&mut network, &home, None).gateway;
        if !seen.contains(&gateway) {
            seen.push(gateway);
        }
    }
    println!(
        "a user who joined 40 times was at {} gateways of 5",
        seen.len()
    );
    assert_eq!(seen.len(), 1);
}

#[test]
fn reserves_are_drawn_once_of_other_operators_and_take_the_place_of_a_guard_that_is_gone() {
    let mut network = network(87, 60_000);
    // The first three are one operator's: there are three.
    for number in 0..3 {
        network.descriptors[number].operator = "one of many".to_owned();
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("home");
    let reserves = |home: &Home| -> Vec<[u8; 32]> {
        home.reserves
            .iter()
            .map(|(identity, _)| *identity)
            .collect()
    };
    let home = join(&mut network, &path, Some(0));
    let drawn = reserves(&home);
    let mut expected = [3, 4].map(|number| network.gateway(number));
    expected.sort_unstable();
    let mut sorted = drawn.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, expected);
    home.save_guard_state(GuardState {
        at: 1,
        unserved_s: 77,
    })
    .unwrap();
    for _ in 0..10 {
        let again = join(&mut network, &path, None);
        assert_eq!(reserves(&again), drawn);
        assert_eq!(again.guard_state.unserved_s, 77);
    }
    // The guard leaves: its first reserve is the guard, and one is drawn in its place.
    network.gone.push((network.gateway(0), 2));
    network.run(2 * MINUTE + SECOND, |_| false);
    let moved = join(&mut network, &path, None);
    assert_eq!(moved.gateway, drawn[0]);
    assert_eq!(reserves(&moved)[0], drawn[1]);
    let new = reserves(&moved)[1];
    assert!([1, 2].map(|number| network.gateway(number)).contains(&new));
    assert_eq!(moved.guard_state, GuardState::default());
    // Fewer operators, fewer reserves.
    let few = Conditions {
        gateways: 2,
        ..Conditions::default()
    };
    let mut few = Network::new(88, few);
    let home = join(&mut few, &folder.path().join("few"), None);
    assert_eq!(home.reserves.len(), 1);
}
