use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use directory::{Head, LinkKey, Parameters, Record, Role};

use super::*;

const RATE_PPS: u32 = 1_000;

/// Clients at a gateway that nobody runs, ten seconds after they began. No slot of theirs was filled since.
fn late(count: usize) -> Crowd {
    let parameters = Parameters {
        genesis_unix_ms: 1_800_000_000_000,
        epoch_ms: 1_200_000,
        mean_delay_us: 1_000,
        client_rate_pps: RATE_PPS,
        layers: 1,
    };
    let address = SocketAddr::from(([127, 0, 0, 1], 9));
    let gateway = Record {
        layer: 0,
        identity: [1; 32],
        role: Role::Gateway,
        operator: "operator".into(),
        addresses: vec![address],
        link: LinkKey {
            x25519: [9; 32],
            kem: Box::new([0; 1_184]),
        },
        epoch_key: [1; 32],
        weight: 1_000,
        vrf_key: [0; 32],
        vrf_since: 1,
        flags: 0,
        vrf_proof: None,
    };
    let authority = directory::Identity::from_bytes(&[7; 32]);
    let plan = Plan {
        count,
        rate_pps: RATE_PPS.into(),
        joins_pps: 1e9,
        chain: &Chain::founded_by(parameters, &[(&authority, address)]).unwrap(),
        consensus: &Consensus::new(Head::bare(parameters, 1), vec![gateway]).unwrap(),
        seed: 1,
    };
    let mut crowd = Crowd::new(&plan).unwrap();
    crowd.clock = crowd.clock.checked_sub(Duration::from_secs(10)).unwrap();
    crowd
}

#[test]
fn clients_have_addresses_of_their_own_in_many_networks() {
    let all: BTreeSet<Ipv4Addr> = (0..10_000).map(address_of).collect();
    assert_eq!(all.len(), 10_000);
    // Nodes are in 127.1, authorities in 127.2.
    assert!(all.iter().all(|ip| ip.octets()[1] >= 16));
    let blocks: BTreeSet<u8> = (0..1_000)
        .map(|number| address_of(number).octets()[1])
        .collect();
    assert_eq!(blocks.len(), BLOCKS);
}

#[test]
fn who_is_late_fills_no_more_slots_than_one_a_client_before_sockets_are_read() {
    let mut crowd = late(4);
    // Each of them is behind by a thousand.
    assert_eq!(crowd.fill_due().unwrap(), 4);
    assert_eq!(crowd.fill_due().unwrap(), 4);
}

#[test]
fn a_crowd_that_is_told_to_halt_does_though_it_is_late() {
    let mut crowd = late(4);
    crowd.work(0, &AtomicBool::new(false)).unwrap();
    let error = crowd.work(u64::MAX, &AtomicBool::new(true)).unwrap_err();
    assert_eq!(error.to_string(), "interrupted");
}

#[test]
fn a_probe_counts_from_its_time_and_not_from_when_a_late_thread_came_to_it() {
    const SECOND_NS: u64 = 1_000_000_000;
    let mut crowd = late(200);
    let next_ns = crowd.give_probes(0, 20.0, SECOND_NS, 5 * SECOND_NS);
    assert!(next_ns > 5 * SECOND_NS && next_ns < crowd.now_ns());
    let given_ns = &crowd.given_ns;
    assert_eq!(given_ns[0], SECOND_NS);
    assert!(given_ns.is_sorted() && given_ns.len() > 20);
    assert!(given_ns.iter().all(|ns| *ns <= 5 * SECOND_NS));
    // Who has one in line gets no other.
    assert!(crowd.crowded > 0);
}
