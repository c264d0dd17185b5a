use directory::{Head, LinkKey, Parameters, Record, Role};
use mixnode::loader_link::Unfiltered;

use super::*;

pub(in crate::pktgen) const PARAMETERS: Parameters = Parameters {
    genesis_unix_ms: 1_700_000_000_000,
    epoch_ms: 3_600_000,
    mean_delay_us: 1_000,
    client_rate_pps: 100,
    layers: 2,
};

/// A node of each layer, at 127.1.N.1.
pub(in crate::pktgen) fn record(
    layer: u8,
    identity: [u8; 32],
    link: LinkPublic,
    epoch_key: [u8; 32],
) -> Record {
    Record {
        layer,
        identity,
        role: if layer == 0 { Role::Gateway } else { Role::Mix },
        operator: format!("operator {layer}"),
        addresses: vec![([127, 1, layer + 1, 1], 9_777).into()],
        link: LinkKey {
            x25519: link.x25519,
            kem: link.kem,
        },
        epoch_key,
        weight: 1_000,
        vrf_key: [0; 32],
        vrf_since: 0,
        flags: 0,
        vrf_proof: None,
    }
}

/// A network in which the keys in `folder` are the gateway's.
fn network(folder: &Path) -> Network {
    let rng = &mut Generator::seed_from_u64(1);
    let own = files::load_or_create(folder, rng).unwrap();
    let mut records = vec![record(0, own.identity.public(), own.link.public(), [7; 32])];
    for layer in 1..=2 {
        let link = LinkKeys::generate(rng).public();
        records.push(record(layer, [layer; 32], link, [layer; 32]));
    }
    records.sort_by_key(|record| record.identity);
    let consensus = Consensus::new(Head::bare(PARAMETERS, 0), records).unwrap();
    Network { consensus }
}

fn address(layer: u8) -> SocketAddr {
    ([127, 1, layer + 1, 1], 9_777).into()
}

fn take(network: &Network, folder: &Path, target: SocketAddr) -> Result<Seat, (u8, String)> {
    let seat = Seat::take(network, folder, target, Box::new(Unfiltered));
    seat.map_err(|error| (crate::lost::exit_code(&error), error.to_string()))
}

#[test]
fn a_place_is_taken_with_a_nodes_own_keys_and_one_time_only() {
    let folder = tempfile::tempdir().unwrap();
    let network = network(folder.path());
    let seat = take(&network, folder.path(), address(1)).unwrap();
    assert_eq!(seat.address, address(0));
    // As by the node itself, were it up.
    let (code, said) = take(&network, folder.path(), address(1)).err().unwrap();
    assert_eq!(code, 69);
    assert!(said.contains("must be down"), "{said}");
    drop(seat);
    take(&network, folder.path(), address(1)).unwrap();
}

#[test]
fn targets_that_no_packet_of_the_node_goes_to_are_refused_with_those_it_goes_to() {
    let folder = tempfile::tempdir().unwrap();
    let network = network(folder.path());
    let (code, said) = take(&network, folder.path(), address(2)).err().unwrap();
    assert_eq!(code, 64);
    assert!(said.contains("they go to 127.1.2.1:9777"), "{said}");
    let nobody = ([127, 1, 9, 1], 9_777).into();
    let (code, said) = take(&network, folder.path(), nobody).err().unwrap();
    assert_eq!(code, 64);
    assert!(said.contains("no node of the network is there"), "{said}");
}

#[test]
fn a_folder_without_keys_stays_without_and_strangers_keys_have_no_place() {
    let folder = tempfile::tempdir().unwrap();
    let network = network(folder.path());
    let empty = tempfile::tempdir().unwrap();
    let (code, said) = take(&network, empty.path(), address(1)).err().unwrap();
    assert_eq!(code, 64);
    assert!(said.contains("state folder"), "{said}");
    assert_eq!(std::fs::read_dir(empty.path()).unwrap().count(), 0);
    files::load_or_create(empty.path(), &mut Generator::seed_from_u64(2)).unwrap();
    let (code, said) = take(&network, empty.path(), address(1)).err().unwrap();
    assert_eq!(code, 64);
    assert!(said.contains("keys of no node"), "{said}");
}
