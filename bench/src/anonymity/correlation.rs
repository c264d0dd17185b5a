//! Who writes to whom, by the times of datagrams on the wires of two users.
//!
//! The attacker knows the law of delays and compares, for a pair, how well the receiver's times fit the sender's, delayed,
//! over a Poisson background, with how well they fit the background alone (G. Danezis, "The traffic analysis of
//! continuous-time mixes", PET 2004: the most powerful test on such a channel, by Neyman and Pearson). Clients that send
//! at a constant rate show him slots that have nothing to do with letters; without cover he sees the letters.

use std::io;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;

use super::law::{Density, gap_us};
use super::network::Network;

/// Letters a second that each user writes: half to the correspondent, half to anyone.
const LETTERS_PPS: f64 = 0.2;
/// Slots a second of a client at a constant rate, each way.
const SLOTS_PPS: f64 = 1.0;
/// What the attacker takes the correspondent's share to be, which is right.
const SHARE: f64 = 0.5;
/// Receivers that a sender is held against besides the right one.
const OTHERS: usize = 16;
/// For the interval: resamples of the users.
const RESAMPLES: usize = 1_000;
/// Of volumes, when gateways put together what they count.
const BIN_US: f64 = 10_000_000.0;

/// How clients send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Clients {
    /// A packet in each slot, whatever there is to send.
    Constant,
    /// A packet when there is a letter, and no cover.
    Bare,
    /// At a constant rate, but both gateways tell what they deliver to whom.
    Colluding,
}

/// The area under the curve of the attack, with its 99 % interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Area {
    pub(super) auc: f64,
    pub(super) low: f64,
    pub(super) high: f64,
}

/// What is on the wires of one user, sorted.
struct Wires {
    sent_us: Vec<f64>,
    received_us: Vec<f64>,
}

/// Users 0 to `pairs` − 1 write to those from `pairs` on; user i to user `pairs` + i.
pub(super) fn attack(
    network: &Network,
    clients: Clients,
    pairs: usize,
    seconds: f64,
    seed: u64,
) -> io::Result<Area> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let users = observe(network, clients, pairs, seconds, &mut rng)?;
    let hops = usize::from(network.size.layers) + 1;
    let density = Density::new(hops, f64::from(network.size.mean_delay_us));
    let score = |sender: usize, receiver: usize| match clients {
        Clients::Colluding => {
            let count = |user: usize| volumes(&users[user].received_us, seconds);
            correlation(&count(sender), &count(pairs + receiver))
        }
        _ => {
            let (sent, received) = (&users[sender].sent_us, &users[pairs + receiver].received_us);
            log_likelihood_ratio(sent, received, seconds, &density)
        }
    };
    let mut scores = Vec::with_capacity(pairs * (OTHERS + 1));
    for sender in 0..pairs {
        scores.push((score(sender, sender), sender, sender));
        for _ in 0..OTHERS {
            let receiver = (sender + rng.random_range(1..pairs)) % pairs;
            scores.push((score(sender, receiver), sender, receiver));
        }
    }
    Ok(area(&mut scores, pairs, &mut rng))
}

fn poisson(rate_pps: f64, seconds: f64, rng: &mut ChaCha8Rng) -> Vec<f64> {
    let mut times = Vec::new();
    let mut at_us = gap_us(rate_pps, rng);
    while at_us < seconds * 1e6 {
        times.push(at_us);
        at_us += gap_us(rate_pps, rng);
    }
    times
}

/// Puts what waits into slots, one each: when each goes, in their order.
fn in_slots(waiting_us: &[f64], slots_us: &[f64]) -> Vec<f64> {
    let mut slots = slots_us.iter().copied();
    let taken = waiting_us
        .iter()
        .map_while(|from| slots.find(|slot| slot >= from));
    taken.collect()
}

fn observe(
    network: &Network,
    clients: Clients,
    pairs: usize,
    seconds: f64,
    rng: &mut ChaCha8Rng,
) -> io::Result<Vec<Wires>> {
    let users = 2 * pairs;
    let mut sent: Vec<Vec<f64>> = Vec::with_capacity(users);
    let mut arrivals: Vec<Vec<f64>> = vec![Vec::new(); users];
    let mut post = |sender: usize, recipient: usize, at_us: f64, rng: &mut ChaCha8Rng| {
        let path = network.path(rng, sender as u32, recipient as u32)?;
        let delay_us: f64 = path.iter().map(|hop| f64::from(hop.delay_us)).sum();
        arrivals[recipient].push(at_us + delay_us);
        io::Result::Ok(at_us + delay_us)
    };
    for user in 0..users {
        let letters = poisson(LETTERS_PPS, seconds, rng);
        let slots = match clients {
            Clients::Bare => letters.clone(),
            Clients::Constant | Clients::Colluding => poisson(SLOTS_PPS, seconds, rng),
        };
        for at_us in in_slots(&letters, &slots) {
            if rng.random_bool(SHARE) {
                let other = (user + pairs) % users;
                let there_us = post(user, other, at_us, rng)?;
                // What arrives is acknowledged, which fills the writer's own mailbox.
                post(other, user, there_us, rng)?;
            } else {
                post(user, rng.random_range(0..users), at_us, rng)?;
            }
        }
        sent.push(slots);
    }
    let end_us = seconds * 1e6;
    let of = |(sent_us, mut arrived): (Vec<f64>, Vec<f64>), rng: &mut ChaCha8Rng| {
        arrived.retain(|at_us| *at_us < end_us);
        arrived.sort_by(f64::total_cmp);
        let received_us = match clients {
            // The wire shows the gateway's slots. What it puts into them it alone knows.
            Clients::Constant => poisson(SLOTS_PPS, seconds, rng),
            Clients::Bare | Clients::Colluding => arrived,
        };
        Wires {
            sent_us,
            received_us,
        }
    };
    Ok(sent
        .into_iter()
        .zip(arrivals)
        .map(|one| of(one, rng))
        .collect())
}

/// Of the receiver's times, if the sender's caused their share of them.
fn log_likelihood_ratio(sent: &[f64], received: &[f64], seconds: f64, law: &Density) -> f64 {
    let span_us = seconds * 1e6;
    let background = received.len() as f64 / span_us;
    // What is seen in all is the same under both, so the integrals are, and cancel out.
    let rest = (background - SHARE * sent.len() as f64 / span_us).max(0.05 * background);
    let mut first = 0;
    let mut sum = 0.0;
    for at_us in received {
        while sent
            .get(first)
            .is_some_and(|from| at_us - from > law.longest_us())
        {
            first += 1;
        }
        let since = sent[first..].iter().take_while(|from| *from <= at_us);
        let caused: f64 = since.map(|from| law.at(at_us - from)).sum();
        sum += ((SHARE * caused + rest) / background).ln();
    }
    sum
}

fn volumes(times_us: &[f64], seconds: f64) -> Vec<f64> {
    let mut bins = vec![0.0; (seconds * 1e6 / BIN_US).ceil() as usize];
    for at_us in times_us {
        if let Some(bin) = bins.get_mut((at_us / BIN_US) as usize) {
            *bin += 1.0;
        }
    }
    bins
}

/// Pearson's.
fn correlation(a: &[f64], b: &[f64]) -> f64 {
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len().max(1) as f64;
    let (mean_a, mean_b) = (mean(a), mean(b));
    let pairs = || a.iter().zip(b).map(|(a, b)| (a - mean_a, b - mean_b));
    let both: f64 = pairs().map(|(a, b)| a * b).sum();
    let own_a: f64 = pairs().map(|(a, _)| a * a).sum();
    let own_b: f64 = pairs().map(|(_, b)| b * b).sum();
    both / (own_a * own_b).sqrt().max(1e-12)
}

/// The chance that a right pair scores higher than a wrong one. The interval is by bootstrap over pairs of users: single
/// scores share users, so that resampling them would make it too narrow.
fn area(scores: &mut [(f64, usize, usize)], pairs: usize, rng: &mut ChaCha8Rng) -> Area {
    scores.sort_by(|a, b| a.0.total_cmp(&b.0));
    let auc = weighted_area(scores, &vec![1.0; pairs]);
    let mut areas: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            let mut weights = vec![0.0; pairs];
            for _ in 0..pairs {
                weights[rng.random_range(0..pairs)] += 1.0;
            }
            weighted_area(scores, &weights)
        })
        .collect();
    areas.sort_by(f64::total_cmp);
    let at = |share: f64| areas[(share * (RESAMPLES - 1) as f64).round() as usize];
    Area {
        auc,
        low: at(0.005),
        high: at(0.995),
    }
}

/// Of sorted scores. Equal ones count half.
fn weighted_area(scores: &[(f64, usize, usize)], weights: &[f64]) -> f64 {
    let (mut wrong_below, mut right, mut won) = (0.0, 0.0, 0.0);
    for group in scores.chunk_by(|a, b| a.0.total_cmp(&b.0).is_eq()) {
        let (mut right_here, mut wrong_here) = (0.0, 0.0);
        for (_, sender, receiver) in group {
            match sender == receiver {
                true => right_here += weights[*sender],
                false => wrong_here += weights[*sender] * weights[*receiver],
            }
        }
        won += right_here * (wrong_below + wrong_here / 2.0);
        right += right_here;
        wrong_below += wrong_here;
    }
    won / (right * wrong_below).max(1e-12)
}

#[cfg(test)]
mod tests {
    use super::super::network::Size;
    use super::*;

    fn attacked(clients: Clients, pairs: usize, seconds: f64) -> Area {
        let network = Network::new(Size {
            gateways: 4,
            mixes: 4,
            layers: 3,
            mean_delay_us: 50_000,
        });
        attack(&network.unwrap(), clients, pairs, seconds, 3).unwrap()
    }

    #[test]
    fn without_cover_the_attack_finds_who_writes_to_whom_and_at_a_constant_rate_it_guesses() {
        let bare = attacked(Clients::Bare, 60, 600.0);
        assert!(bare.low > 0.9, "{bare:?}");
        let constant = attacked(Clients::Constant, 400, 600.0);
        assert!(constant.low < 0.5 && constant.high > 0.5, "{constant:?}");
        assert!(constant.low > 0.4 && constant.high < 0.6, "{constant:?}");
    }

    #[test]
    fn gateways_that_put_their_counts_together_see_more_the_longer_they_look() {
        let minutes = attacked(Clients::Colluding, 60, 60.0);
        let hour = attacked(Clients::Colluding, 60, 3_600.0);
        assert!(
            hour.low > 0.9 && hour.auc > minutes.auc,
            "{minutes:?} {hour:?}"
        );
    }

    #[test]
    fn an_area_is_the_chance_that_the_right_pair_scores_higher() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut of = |right: f64| {
            let mut scores: Vec<(f64, usize, usize)> = (0..20)
                .flat_map(|user| [(right, user, user), (1.0, user, (user + 1) % 20)])
                .collect();
            area(&mut scores, 20, &mut rng)
        };
        assert_eq!((of(2.0).auc, of(1.0).auc, of(0.0).auc), (1.0, 0.5, 0.0));
        assert_eq!(
            in_slots(&[1.0, 1.5, 7.0, 9.0], &[0.5, 2.0, 3.0, 8.0]),
            [2.0, 3.0, 8.0]
        );
        assert!((correlation(&[1.0, 2.0, 3.0], &[2.0, 4.0, 6.0]) - 1.0).abs() < 1e-12);
    }
}
