//! Authorities change while a client runs, and while it is away.

mod common;

use authority::Authority;
use common::{Conditions, Network};
use directory::{Chain, Identity as NodeIdentity};
use fog::{Client, Config, Documents, Event, Identity, MemoryStorage};
use link::ClientKeys;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

const EPOCH_MS: u64 = 12_000;

fn epoch_ns(epoch: u64, part: f64) -> u64 {
    (epoch * EPOCH_MS + (part * EPOCH_MS as f64) as u64) * 1_000_000
}

/// A client that knows the founding authorities and the document of epoch 0.
fn join(network: &mut Network, founding: &Chain) -> usize {
    let rng = &mut ChaCha20Rng::seed_from_u64(3);
    let config = Config {
        identity: Identity::generate(rng),
        mailbox: ClientKeys::generate(rng),
        gateway: network.gateway(0),
        authorities: founding.clone(),
        rate_pps: None,
        loop_share: 0.1,
    };
    let documents = Documents::from(network.consensus(0).0);
    let storage = Box::new(MemoryStorage::new(1 << 20));
    let rng = sphinx::Generator::from_rng(&mut network.rng);
    let client = Client::new(config, documents, Some(storage), rng, network.now_ns);
    network.join(client)
}

fn network() -> (Network, Chain) {
    let conditions = Conditions {
        epoch_ms: EPOCH_MS,
        mean_delay_us: 1_000,
        rate_pps: 50,
        ..Conditions::default()
    };
    let mut network = Network::new(70, conditions);
    network.consensus(0);
    let founding = network.authorities();
    (network, founding)
}

/// The epochs of the documents that it took, and the chains.
fn learned(network: &Network, seat: usize) -> (Vec<u32>, Vec<&Chain>) {
    let events = network.seats[seat].events.iter();
    let chains = events.clone().filter_map(|event| match event {
        Event::Authorities(chain) => Some(chain),
        _ => None,
    });
    let documents = events.filter_map(|event| match event {
        Event::Consensus { epoch, .. } => Some(*epoch),
        _ => None,
    });
    (documents.collect(), chains.collect())
}

#[test]
fn a_client_follows_a_change_of_the_authorities_and_goes_on_without_a_pause() {
    let (mut network, founding) = network();
    network.rotate(2);
    let seat = join(&mut network, &founding);
    network.run(epoch_ns(2, 0.95), |_| false);
    let (documents, chains) = learned(&network, seat);
    assert_eq!(documents, [1, 2, 3]);
    assert_eq!(chains, [&network.authorities()]);
    let turns = &network.seats[seat].turns;
    let epochs: Vec<u8> = turns.iter().map(|(_, epoch)| *epoch).collect();
    assert_eq!(epochs, [0, 1, 2]);
}

#[test]
fn who_was_away_while_the_authorities_changed_three_times_gets_in_with_its_old_file() {
    let (mut network, founding) = network();
    for first_epoch in [10, 20, 30] {
        network.rotate(first_epoch);
    }
    network.run(epoch_ns(40, 0.1), |_| false);
    let seat = join(&mut network, &founding);
    let is_in = |network: &mut Network| !network.seats[seat].turns.is_empty();
    assert!(network.run(epoch_ns(40, 0.9), is_in), "no packet left");
    let (documents, chains) = learned(&network, seat);
    assert_eq!(documents, [40]);
    assert_eq!(chains, [&network.authorities()]);
    assert_eq!(network.seats[seat].turns[0].1, 0);
}

#[test]
fn a_chain_that_is_none_or_of_another_network_vouches_for_nothing() {
    let (mut network, founding) = network();
    network.rotate(1);
    let right = network.handed_chain.clone();
    let parameters = *founding.parameters();
    let other = Authority::found(NodeIdentity::from_bytes(&[9; 32]), parameters).unwrap();
    let mut cut = right.clone();
    cut.truncate(right.len() - 1);
    let seat = join(&mut network, &founding);
    let wrong = [Vec::new(), founding.encode(), other.chain().encode(), cut];
    for (number, wrong) in (0..).zip(wrong) {
        network.handed_chain = wrong;
        // Time for document and chain twice.
        network.run(epoch_ns(1, f64::from(number) / 6.0), |_| false);
        assert_eq!(learned(&network, seat), (Vec::new(), Vec::new()));
    }
    network.handed_chain = right;
    network.run(epoch_ns(1, 0.9), |_| false);
    assert_eq!(learned(&network, seat).0[0], 1);
}
