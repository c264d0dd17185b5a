//! Path selection: constraints always hold, weights hold on average.

mod network;

use std::collections::BTreeMap;

use directory::{
    Consensus, Head, Path, PathError, Record, Role, loop_path, pick_gateway, select_path,
};
use network::{PARAMETERS, consensus, node, nodes, rng};
use proptest::prelude::*;

/// Independent of the selection's own check: compares by name and by text.
fn assert_apart(a: &directory::Node, b: &directory::Node) {
    let prefix = |node: &directory::Node| {
        let ip = node.addresses[0].ip().to_string();
        ip.rsplit_once('.').unwrap().0.to_owned()
    };
    assert_ne!(a.operator, b.operator);
    assert_ne!(prefix(a), prefix(b));
}

fn hops<'a>(consensus: &'a Consensus, path: &Path) -> Vec<&'a directory::Node> {
    path.iter()
        .map(|hop| consensus.node(hop.node).unwrap())
        .collect()
}

/// Each mix of a client's path keeps the distance that its place asks for.
fn assert_allowed(consensus: &Consensus, path: &Path) {
    let hops = hops(consensus, path);
    let [entry, first, middle, last, exit] = hops[..] else {
        panic!("five hops")
    };
    assert_apart(first, entry);
    assert_apart(last, exit);
    for other in [entry, first, last, exit] {
        assert_apart(middle, other);
    }
}

/// All nodes of a loop keep their distance from each other, but for two gateways.
fn assert_loop_allowed(consensus: &Consensus, path: &Path) {
    let hops = hops(consensus, path);
    for (i, a) in hops.iter().enumerate() {
        for b in &hops[i + 1..] {
            if a.role != Role::Gateway || b.role != Role::Gateway {
                assert_apart(a, b);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn every_path_obeys_layers_operators_and_prefixes(
        seed: u64,
        operators in proptest::collection::vec(0u8..12, 20),
        prefixes in proptest::collection::vec(0u8..12, 20),
    ) {
        let mut members = nodes(2, 18);
        let ports = 9_000..;
        for ((member, port), (operator, prefix)) in
            members.iter_mut().zip(ports).zip(operators.iter().zip(&prefixes))
        {
            member.operator = format!("operator-{operator}");
            let last = member.descriptor.identity[0].max(1);
            member.addresses = vec![([10, 0, *prefix, last], port).into()];
        }
        let consensus = consensus(members);
        let gateways: Vec<u16> = consensus.gateways().map(|node| node.index).collect();
        let mut rng = rng(seed);
        for entry in &gateways {
            for exit in &gateways {
                match select_path(&consensus, &mut rng, *entry, *exit) {
                    Ok(path) => {
                        let layers: Vec<u8> =
                            path.iter().map(|hop| consensus.node(hop.node).unwrap().layer).collect();
                        prop_assert_eq!(layers, [0, 1, 2, 3, 0]);
                        prop_assert_eq!((path[0].node, path[4].node), (*entry, *exit));
                        for hop in &path {
                            let node = consensus.node(hop.node).unwrap();
                            prop_assert_eq!(node.epoch_key, hop.public_key);
                        }
                        assert_allowed(&consensus, &path);
                    }
                    Err(error) => prop_assert_eq!(error, PathError::Constraints),
                }
            }
        }
        for node in consensus.nodes() {
            if let Ok(path) = loop_path(&consensus, &mut rng, node.index) {
                prop_assert_eq!(path.len(), 4);
                prop_assert_eq!(path[3].node, node.index);
                let mut layer = node.layer;
                for hop in &path {
                    prop_assert!(consensus.may_forward(layer, hop.node));
                    layer = consensus.node(hop.node).unwrap().layer;
                }
                assert_loop_allowed(&consensus, &path);
            }
        }
    }
}

#[test]
fn mixes_are_selected_in_proportion_to_their_capacity() {
    let mut members = nodes(1, 9);
    for (number, member) in (1u32..).zip(&mut members) {
        member.capacity_pps = 100 * number;
    }
    let consensus = consensus(members);
    let gateway = consensus.gateways().next().unwrap().index;
    let mut rng = rng(1);
    let mut picks: BTreeMap<u16, u32> = BTreeMap::new();
    let draws = 20_000;
    for _ in 0..draws {
        for hop in select_path(&consensus, &mut rng, gateway, gateway).unwrap() {
            *picks.entry(hop.node).or_default() += 1;
        }
    }
    for layer in 1..=3 {
        let total: u32 = consensus.layer(layer).map(|node| node.weight).sum();
        for node in consensus.layer(layer) {
            let share = f64::from(node.weight) / f64::from(total);
            let expected = share * f64::from(draws);
            let deviation = (expected * (1.0 - share)).sqrt();
            // Five standard deviations, and the seed is fixed.
            assert!((f64::from(picks[&node.index]) - expected).abs() < 5.0 * deviation);
        }
    }
}

#[test]
fn delays_are_exponential_below_the_cap_and_zero_at_the_last_hop() {
    let consensus = consensus(nodes(2, 6));
    let gateway = pick_gateway(&consensus, &mut rng(2)).unwrap();
    let mut rng = rng(3);
    let mut delays = Vec::new();
    for _ in 0..5_000 {
        let path = select_path(&consensus, &mut rng, gateway, gateway).unwrap();
        assert_eq!(path[4].delay_us, 0);
        delays.extend(path[..4].iter().map(|hop| hop.delay_us));
    }
    delays.sort_unstable();
    assert!(delays[delays.len() - 1] < PARAMETERS.delay_max_us());
    // Kolmogorov–Smirnov distance to the exponential distribution: 1.63/√n is the 1 % bound.
    let count = delays.len() as f64;
    let distance = delays
        .iter()
        .enumerate()
        .map(|(rank, delay)| {
            let expected = 1.0 - (-f64::from(*delay) / f64::from(PARAMETERS.mean_delay_us)).exp();
            (expected - rank as f64 / count).abs()
        })
        .fold(0.0, f64::max);
    assert!(distance < 1.63 / count.sqrt(), "{distance}");
}

#[test]
fn a_network_without_an_allowed_path_says_why() {
    let mut rng = rng(4);
    let mut members = nodes(1, 3);
    for member in &mut members {
        member.operator = "one for all".into();
    }
    let owned = consensus(members);
    let gateway = owned.gateways().next().unwrap().index;
    let error = select_path(&owned, &mut rng, gateway, gateway);
    assert_eq!(error, Err(PathError::Constraints));
    let thin = consensus(nodes(1, 2));
    let gateway = thin.gateways().next().unwrap().index;
    let error = select_path(&thin, &mut rng, gateway, gateway);
    assert_eq!(error, Err(PathError::EmptyLayer(3)));
    let mix = thin.layer(1).next().unwrap().index;
    assert_eq!(
        select_path(&thin, &mut rng, mix, gateway),
        Err(PathError::NotGateway(mix))
    );
    assert_eq!(loop_path(&thin, &mut rng, 99), Err(PathError::Unknown(99)));
}

#[test]
fn a_single_gateway_may_be_both_ends_and_gateways_may_share_an_operator() {
    let mut members: Vec<_> = (0..2).map(|n| node(n, Role::Gateway)).collect();
    members[1].operator = members[0].operator.clone();
    members.extend((2..8).map(|n| node(n, Role::Mix)));
    let consensus = consensus(members);
    let ends: Vec<u16> = consensus.gateways().map(|node| node.index).collect();
    assert!(select_path(&consensus, &mut rng(5), ends[0], ends[1]).is_ok());
    assert!(select_path(&consensus, &mut rng(5), ends[0], ends[0]).is_ok());
}

/// Ten operators, each with a gateway and a mix of every layer.
fn ten_operators() -> Consensus {
    let described = nodes(10, 30);
    let mut places: Vec<_> = described
        .into_iter()
        .enumerate()
        .map(|(number, mut node)| {
            node.operator = format!("operator-{}", number % 10);
            let mut record = Record::new(&node, 0).unwrap();
            record.layer = u8::try_from(number / 10).unwrap();
            record
        })
        .collect();
    places.sort_unstable_by_key(|node| node.identity);
    Consensus::new(Head::bare(PARAMETERS, 0), places).unwrap()
}

/// Pearson's statistic for the independence of two things that were counted together.
fn chi_square(table: &BTreeMap<(String, String), u32>) -> (f64, usize) {
    let (mut rows, mut columns) = (BTreeMap::new(), BTreeMap::new());
    for ((row, column), count) in table {
        *rows.entry(row).or_insert(0.0) += f64::from(*count);
        *columns.entry(column).or_insert(0.0) += f64::from(*count);
    }
    let total: f64 = rows.values().sum();
    let mut statistic = 0.0;
    for (row, in_row) in &rows {
        for (column, in_column) in &columns {
            let expected = in_row * in_column / total;
            let cell = table.get(&((*row).clone(), (*column).clone()));
            let found = f64::from(cell.copied().unwrap_or(0));
            statistic += (found - expected).powi(2) / expected;
        }
    }
    (statistic, (rows.len() - 1) * (columns.len() - 1))
}

#[test]
fn what_the_near_gateway_sees_of_a_path_does_not_name_the_far_one() {
    let consensus = ten_operators();
    let gateways: Vec<u16> = consensus.gateways().map(|node| node.index).collect();
    let near = gateways[0];
    let operator = |index: u16| consensus.node(index).unwrap().operator.clone();
    let mut rng = rng(8);
    // From the entry, which sees mix 1, and from the exit, which sees the last mix.
    for from_the_exit in [false, true] {
        let mut seen = BTreeMap::new();
        for far in gateways.iter().cycle().take(20_000) {
            let (entry, exit) = if from_the_exit {
                (*far, near)
            } else {
                (near, *far)
            };
            let path = select_path(&consensus, &mut rng, entry, exit).unwrap();
            let neighbour = path[if from_the_exit { 3 } else { 1 }].node;
            *seen
                .entry((operator(neighbour), operator(*far)))
                .or_insert(0) += 1;
        }
        let (statistic, freedom) = chi_square(&seen);
        println!("chi-square {statistic:.0} with {freedom} degrees of freedom");
        assert_eq!(freedom, 8 * 9);
        // The 99.9th percentile for 72 degrees of freedom.
        assert!(statistic < 114.8, "{statistic}");
    }
}
