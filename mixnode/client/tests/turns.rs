//! A transfer over the turn of an epoch: each client goes over at a moment of its own, and nothing waits for it.

mod common;

use common::{Conditions, Network};
use fog::{Client, Config, Documents, Event, Identity, Manifest, MemoryStorage};
use link::ClientKeys;
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

const SECOND: u64 = 1_000_000_000;
/// Clients turn within five seconds.
const EPOCH_SECONDS: u64 = 320;
const STEP_NS: u64 = SECOND / 20;

/// A client that holds the documents of epochs 0 and 1.
fn client(network: &mut Network, identity: Identity, mailbox: &ClientKeys) -> Client {
    let mut documents = Documents::from(network.consensus(0).0);
    documents.insert(network.consensus(1).0);
    let config = Config {
        identity,
        mailbox: mailbox.clone(),
        gateway: network.gateway(0),
        authorities: network.authorities(),
        rate_pps: None,
        loop_share: 0.1,
    };
    let storage = Box::new(MemoryStorage::new(1 << 30));
    let rng = sphinx::Generator::from_rng(&mut network.rng);
    Client::new(config, documents, Some(storage), rng, network.now_ns)
}

/// What a transfer over the turn showed.
struct Turn {
    /// When sender and recipient turned, ns.
    turns: [u64; 2],
    /// The longest time without an acknowledgement before anybody turned, and from then on, ns.
    pauses: [u64; 2],
}

fn over_a_turn(seed: u64) -> Turn {
    let conditions = Conditions {
        epoch_ms: EPOCH_SECONDS * 1_000,
        ..Conditions::default()
    };
    let mut network = Network::new(seed, conditions);
    network.run((EPOCH_SECONDS - 25) * SECOND, |_| false);
    let rng = &mut ChaCha20Rng::seed_from_u64(seed);
    let [alice, bob] = [(), ()].map(|()| (Identity::generate(rng), ClientKeys::generate(rng)));
    let address = bob.0.address(network.gateway(0), &bob.1);
    let recipient = client(&mut network, bob.0, &bob.1);
    let mut sender = client(&mut network, alice.0, &alice.1);
    let mut data = vec![0; 5_000_000];
    rng.fill_bytes(&mut data);
    let manifest = Manifest {
        transfer: [1; 16],
        size: data.len() as u64,
        hash: *blake3::hash(&data).as_bytes(),
        name: "file".into(),
    };
    sender.send(address, manifest, Box::new(data), None);
    let seats = [network.join(sender), network.join(recipient)];
    let turn_ns = EPOCH_SECONDS * SECOND;
    let (mut heard_ns, mut chunks_before, mut pauses) = (turn_ns - 20 * SECOND, 0, [0; 2]);
    for step in 0..500 {
        let now_ns = turn_ns - 20 * SECOND + step * STEP_NS;
        network.run(now_ns, |_| false);
        let told = network.seats[seats[0]].events.drain(..);
        let mut chunks = told.filter_map(|event| match event {
            Event::Sending { chunks, .. } => Some(chunks),
            _ => None,
        });
        let newest = chunks.next_back();
        drop(chunks);
        let chunks = newest.unwrap_or(chunks_before);
        if chunks > chunks_before {
            heard_ns = now_ns;
        }
        chunks_before = chunks;
        for seat in seats {
            let client = network.seats[seat].client.as_ref().unwrap();
            let shown = client.gateway_epoch_bits();
            // A frame takes a moment.
            let agrees = shown.is_none() || shown == Some(u8::from(now_ns > turn_ns));
            assert!(agrees || now_ns.abs_diff(turn_ns) < SECOND, "{shown:?}");
        }
        let pause = &mut pauses[usize::from(now_ns > turn_ns)];
        *pause = (*pause).max(now_ns - heard_ns);
    }
    let turns = seats.map(|seat| {
        let turns = &network.seats[seat].turns;
        let epochs: Vec<u8> = turns.iter().map(|(_, epoch)| *epoch).collect();
        assert_eq!(epochs, [0, 1], "nothing of the old one after its own turn");
        turns[1].0
    });
    Turn { turns, pauses }
}

#[test]
fn reply_blocks_of_the_next_epoch_are_there_at_the_turn_and_old_ones_die_at_it() {
    let mut first = [0; 2];
    for seed in 1..7 {
        let turn = over_a_turn(seed);
        let [sender, recipient] = turn
            .turns
            .map(|at_ns| at_ns as f64 / 1e9 - EPOCH_SECONDS as f64);
        let [before, after] = turn.pauses.map(|pause_ns| pause_ns as f64 / 1e9);
        println!(
            "the sender turns {sender:.1} s after the epoch, the recipient {recipient:.1} s: {before:.2} s without \
             acknowledgements at most before it, {after:.2} s from then on"
        );
        first[usize::from(recipient < sender)] += 1;
        assert!(after < before + 1.0);
        // In either order.
        if first[0] > 0 && first[1] > 0 {
            return;
        }
    }
    panic!("only one of them ever turned first: {first:?}");
}
