//! Whether the model follows the law that it must follow. One that does not is not drawn.

use std::io;

use serde::{Deserialize, Serialize};

use super::calendar::OUTSIDE;
use super::law::{chi_square_p, distance, distance_from_poisson, sums};
use super::model::{Pools, Traffic, run};
use super::network::Network;

/// One of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Check {
    pub(crate) what: String,
    /// What `value` is.
    pub(crate) statistic: String,
    pub(crate) value: f64,
    pub(crate) at_most: f64,
    pub(crate) passed: bool,
    pub(crate) n: u64,
}

/// Largest distance of Kolmogorov and Smirnov's. No p-value: samples of this size condemn a microsecond.
pub(super) const DISTANCE_MOST: f64 = 0.02;
/// χ² over all links may come by chance once in ten thousand times.
const SURE: f64 = 0.999_9;
/// Draws of the law.
pub(super) const DRAWS: usize = 200_000;

impl Check {
    pub(super) fn new(what: &str, statistic: &str, value: f64, at_most: f64, n: u64) -> Check {
        Check {
            what: what.to_owned(),
            statistic: statistic.to_owned(),
            value: (value * 1e5).round() / 1e5,
            at_most,
            passed: value <= at_most,
            n,
        }
    }
}

/// Holds a run against what a network with this mean delay must show: delays of paths, pools, and links.
pub(super) fn checks(network: &Network, traffic: &Traffic, mean_us: f64) -> io::Result<Vec<Check>> {
    let nodes = network.nodes();
    let hops = usize::from(network.size.layers) + 1;
    // Of what is sent later the slow are still under way at the end.
    let last_us = traffic.seconds * 1e6 - hops as f64 * mean_us * 10.0;
    let (mut sent_us, mut delays) = (Vec::new(), Vec::new());
    let mut links = vec![0u64; nodes * nodes];
    let mut pools = Pools::new(nodes);
    let mut counts = Vec::new();
    let mut next_us = mean_us * 20.0;
    run(network, traffic, |event| {
        // Apart by so much that one look says little of the next.
        while event.at_us as f64 > next_us {
            for pool in &pools.0[usize::from(network.size.gateways)..] {
                let pool = *pool as usize;
                if counts.len() <= pool {
                    counts.resize(pool + 1, 0u64);
                }
                counts[pool] += 1;
            }
            next_us += mean_us;
        }
        pools.follow(network, event);
        if event.from == OUTSIDE {
            sent_us.push(event.at_us);
            return;
        }
        links[usize::from(event.from) * nodes + usize::from(event.to)] += 1;
        if !network.is_mix(event.to) {
            let sent = sent_us.get(event.packet as usize).copied().unwrap_or(0);
            if (sent as f64) < last_us {
                delays.push((event.at_us - sent) as f64);
            }
        }
    })?;
    let law = sums(hops, mean_us, DRAWS, traffic.seed + 1);
    let from_law = distance(&delays, &law);
    let from_poisson = distance_from_poisson(&counts, pool(network, traffic, mean_us));
    Ok(vec![
        Check::new(
            "delay of a path",
            "D",
            from_law,
            DISTANCE_MOST,
            delays.len() as u64,
        ),
        Check::new(
            "pools",
            "D",
            from_poisson,
            DISTANCE_MOST,
            counts.iter().sum(),
        ),
        links_check(network, &links),
    ])
}

/// What a mix holds on average.
pub(super) fn pool(network: &Network, traffic: &Traffic, mean_us: f64) -> f64 {
    // A truncated mean is shorter: 1 − 10 e⁻¹⁰ / (1 − e⁻¹⁰).
    let held_s = mean_us / 1e6 * (1.0 - 10.0 / (10f64.exp() - 1.0));
    f64::from(traffic.users) * traffic.rate_pps / f64::from(network.size.mixes) * held_s
}

/// Nodes weigh the same, so each link between two layers carries as much as any other.
pub(super) fn links_check(network: &Network, links: &[u64]) -> Check {
    let (gateways, mixes) = (
        usize::from(network.size.gateways),
        usize::from(network.size.mixes),
    );
    let nodes = network.nodes();
    let of_layer = |layer: usize| {
        let first = gateways + layer * mixes;
        first..first + mixes
    };
    let ends = || std::iter::once(0..gateways);
    let between = (0..usize::from(network.size.layers)).map(of_layer);
    let layers: Vec<_> = ends().chain(between).chain(ends()).collect();
    let (mut chi_square, mut degrees, mut all) = (0.0, 0.0, 0);
    for pair in layers.windows(2) {
        let counts: Vec<u64> = pair[0]
            .clone()
            .flat_map(|from| pair[1].clone().map(move |to| links[from * nodes + to]))
            .collect();
        let sum: u64 = counts.iter().sum();
        let expected = sum as f64 / counts.len() as f64;
        let far = counts
            .iter()
            .map(|count| (*count as f64 - expected).powi(2) / expected.max(1e-9));
        chi_square += far.sum::<f64>();
        degrees += counts.len() as f64 - 1.0;
        all += sum;
    }
    let p = chi_square_p(chi_square, degrees);
    Check::new("packets a link", "1 − p of χ²", 1.0 - p, SURE, all)
}

#[cfg(test)]
mod tests {
    use super::super::network::Size;
    use super::*;

    const SIZE: Size = Size {
        gateways: 4,
        mixes: 5,
        layers: 3,
        mean_delay_us: 50_000,
    };

    fn of(size: Size, mean_us: f64) -> Vec<bool> {
        let network = Network::new(size).unwrap();
        let traffic = Traffic {
            users: 200,
            rate_pps: 2.0,
            seconds: 250.0,
            seed: 5,
        };
        let checks = checks(&network, &traffic, mean_us).unwrap();
        checks.iter().map(|check| check.passed).collect()
    }

    #[test]
    fn the_model_follows_the_law() {
        assert_eq!(of(SIZE, 50_000.0), [true, true, true]);
    }

    #[test]
    fn a_model_with_a_wrong_mean_is_caught() {
        for wrong in [45_000, 55_000] {
            let size = Size {
                mean_delay_us: wrong,
                ..SIZE
            };
            assert_eq!(of(size, 50_000.0), [false, false, true], "{wrong}");
        }
    }

    #[test]
    fn a_link_that_is_used_more_than_others_is_caught() {
        let network = Network::new(SIZE).unwrap();
        let nodes = network.nodes();
        let mut links = vec![1_000; nodes * nodes];
        assert!(links_check(&network, &links).passed);
        links[4] = 1_400;
        assert!(!links_check(&network, &links).passed);
    }
}
