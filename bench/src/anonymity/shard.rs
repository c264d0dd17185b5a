//! A run in parts, on as many machines as there are: each simulates some of the senders and writes counts, and counts add
//! up. Users are in blocks that draw of streams of their own, so that the sum is the same however blocks are dealt out.

use std::collections::BTreeMap;
use std::io;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::calendar::OUTSIDE;
use super::checks::{Check, DISTANCE_MOST, DRAWS, links_check, pool};
use super::law::{distance_from_poisson, distance_in_bins, sums};
use super::model::{Pools, Tally, Traffic, run_part};
use super::network::{Network, Size};
use super::{CHECKED, Large};

/// Blocks of users: no run has more parts.
const BLOCKS: u32 = 64;
/// Of the delays of paths.
const BIN_US: u64 = 1_000;
/// Mean delays between looks at the pools: one look says little of the next.
const APART: f64 = 4.0;
/// Mean delays until pools are full.
const FULL: f64 = 20.0;

/// Which part: `2/4` is the second of four.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Shard {
    pub(crate) number: u32,
    pub(crate) of: u32,
}

impl std::str::FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Shard, String> {
        let parsed = text.split_once('/').and_then(|(number, of)| {
            let (number, of) = (number.parse().ok()?, of.parse().ok()?);
            Some(Shard { number, of })
        });
        let there = |shard: &Shard| {
            (1..=BLOCKS).contains(&shard.of) && (1..=shard.of).contains(&shard.number)
        };
        parsed
            .filter(there)
            .ok_or_else(|| format!("not as 1/4, and {BLOCKS} parts at most"))
    }
}

/// What a part counted, or all of them together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Counts {
    pub(crate) packets: u64,
    pub(crate) events: u64,
    /// From, to, and how many packets: those links alone that carried any.
    pub(crate) links: Vec<(u16, u16, u64)>,
    /// Packets that each mix held, mix by mix, at one look after the other.
    pub(crate) pools: Vec<u32>,
    /// Delays of paths, by millisecond.
    pub(crate) delays_ms: Vec<u64>,
}

/// One part of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Part {
    pub(crate) shard: Shard,
    pub(crate) seed: u64,
    pub(crate) users: u32,
    pub(crate) rate_pps: f64,
    pub(crate) simulated_seconds: f64,
    pub(crate) took_seconds: f64,
    pub(crate) counts: Counts,
}

fn mean_us(size: Size) -> f64 {
    f64::from(size.mean_delay_us)
}

/// Senders of a block.
fn block(users: u32, number: u32) -> std::ops::Range<u32> {
    let from = |number: u32| (u64::from(users) * u64::from(number) / u64::from(BLOCKS)) as u32;
    from(number)..from(number + 1)
}

fn counted(network: &Network, traffic: &Traffic, shard: Shard) -> io::Result<Counts> {
    let mut sum: Option<Counts> = None;
    for number in (0..BLOCKS).filter(|number| number % shard.of == shard.number - 1) {
        let one = of_block(network, traffic, number)?;
        match sum.as_mut() {
            Some(sum) => sum.add(&one),
            None => sum = Some(one),
        }
    }
    sum.ok_or_else(|| io::Error::other("a part without users"))
}

fn of_block(network: &Network, traffic: &Traffic, number: u32) -> io::Result<Counts> {
    let mean_us = mean_us(network.size);
    let end_us = traffic.seconds * 1e6;
    let hops = f64::from(network.size.layers) + 1.0;
    // Of what is sent later the slow are still under way at the end.
    let last_us = end_us - hops * mean_us * 10.0;
    let looks = ((end_us / mean_us - FULL) / APART).max(0.0) as usize;
    let mixes = usize::from(network.size.gateways)..network.nodes();
    let mut links: BTreeMap<(u16, u16), u64> = BTreeMap::new();
    let (mut pools, mut held) = (Vec::new(), Pools::new(network.nodes()));
    let (mut sent_us, mut delays_ms) = (Vec::new(), Vec::new());
    let at_us = |look: usize| (FULL + APART * look as f64) * mean_us;
    let mut look = 0;
    let tally = run_part(
        network,
        traffic,
        block(traffic.users, number),
        u64::from(number) + 1,
        |event| {
            while look < looks && event.at_us as f64 > at_us(look) {
                pools.extend_from_slice(&held.0[mixes.clone()]);
                look += 1;
            }
            held.follow(network, event);
            if event.from == OUTSIDE {
                sent_us.push(event.at_us);
                return;
            }
            *links.entry((event.from, event.to)).or_default() += 1;
            if !network.is_mix(event.to) {
                let sent = sent_us.get(event.packet as usize).copied().unwrap_or(0);
                if (sent as f64) < last_us {
                    let bin = ((event.at_us - sent) / BIN_US) as usize;
                    if delays_ms.len() <= bin {
                        delays_ms.resize(bin + 1, 0);
                    }
                    delays_ms[bin] += 1;
                }
            }
        },
    )?;
    // Nothing happened after the last of them.
    for _ in look..looks {
        pools.extend_from_slice(&held.0[mixes.clone()]);
    }
    let Tally { packets, events } = tally;
    Ok(Counts {
        packets,
        events,
        links: links
            .into_iter()
            .map(|((from, to), count)| (from, to, count))
            .collect(),
        pools,
        delays_ms,
    })
}

impl Counts {
    fn add(&mut self, other: &Counts) {
        self.packets += other.packets;
        self.events += other.events;
        let all = self.links.iter().chain(&other.links);
        let mut links: BTreeMap<(u16, u16), u64> = BTreeMap::new();
        for (from, to, count) in all {
            *links.entry((*from, *to)).or_default() += count;
        }
        self.links = links
            .into_iter()
            .map(|((from, to), count)| (from, to, count))
            .collect();
        // Of one network and one time there are as many of each.
        self.pools
            .iter_mut()
            .zip(&other.pools)
            .for_each(|(own, other)| *own += other);
        let bins = self.delays_ms.len().max(other.delays_ms.len());
        self.delays_ms.resize(bins, 0);
        self.delays_ms
            .iter_mut()
            .zip(&other.delays_ms)
            .for_each(|(own, other)| *own += other);
    }
}

/// Simulates one part.
pub(super) fn run(traffic: &Traffic, shard: Shard) -> io::Result<Part> {
    let start = Instant::now();
    let counts = counted(&Network::new(CHECKED)?, traffic, shard)?;
    Ok(Part {
        shard,
        seed: traffic.seed,
        users: traffic.users,
        rate_pps: traffic.rate_pps,
        simulated_seconds: traffic.seconds,
        took_seconds: (start.elapsed().as_secs_f64() * 10.0).round() / 10.0,
        counts,
    })
}

/// All parts of a run as one.
///
/// # Errors
/// A part is missing, is there twice, or is of another run.
pub(crate) fn merge(mut parts: Vec<Part>) -> io::Result<Part> {
    parts.sort_by_key(|part| part.shard.number);
    let mut parts = parts.into_iter();
    let refused = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
    let mut whole = parts
        .next()
        .ok_or_else(|| refused("no part of a run is there".to_owned()))?;
    let of = whole.shard.of;
    let run = |part: &Part| {
        (
            part.shard.of,
            part.seed,
            part.users,
            part.rate_pps,
            part.simulated_seconds,
        )
    };
    let first = run(&whole);
    let mut numbers = vec![whole.shard.number];
    for part in parts {
        if run(&part) != first {
            return Err(refused(format!(
                "part {} of {} is of another run than part {} of {of}",
                part.shard.number, part.shard.of, whole.shard.number
            )));
        }
        numbers.push(part.shard.number);
        whole.counts.add(&part.counts);
        whole.took_seconds += part.took_seconds;
    }
    let wanted: Vec<u32> = (1..=of).collect();
    if numbers != wanted {
        return Err(refused(format!(
            "of {of} parts each has to be there once: these are {numbers:?}"
        )));
    }
    whole.shard = Shard { number: 1, of: 1 };
    Ok(whole)
}

impl Part {
    pub(super) fn large(&self) -> Large {
        let Counts {
            packets, events, ..
        } = self.counts;
        Large {
            users: self.users,
            rate_pps: self.rate_pps,
            simulated_seconds: self.simulated_seconds,
            packets,
            events,
            took_seconds: (self.took_seconds * 10.0).round() / 10.0,
            event_ns: (self.took_seconds * 1e9 / events.max(1) as f64).round(),
        }
    }

    /// Holds a whole run against the law.
    ///
    /// # Errors
    /// The network can't be.
    pub(crate) fn checks(&self) -> io::Result<Vec<Check>> {
        let network = Network::new(CHECKED)?;
        let mean_us = mean_us(CHECKED);
        let Counts {
            links,
            pools,
            delays_ms,
            ..
        } = &self.counts;
        let traffic = Traffic {
            users: self.users,
            rate_pps: self.rate_pps,
            seconds: self.simulated_seconds,
            seed: self.seed,
        };
        let mut law = vec![0; delays_ms.len()];
        for delay_us in sums(
            usize::from(CHECKED.layers) + 1,
            mean_us,
            DRAWS,
            self.seed + 1,
        ) {
            let bin = delay_us as usize / BIN_US as usize;
            if law.len() <= bin {
                law.resize(bin + 1, 0);
            }
            law[bin] += 1;
        }
        let most = pools.iter().copied().max().unwrap_or(0) as usize;
        let mut held = vec![0; most + 1];
        pools.iter().for_each(|pool| held[*pool as usize] += 1);
        let nodes = network.nodes();
        let mut table = vec![0; nodes * nodes];
        for (from, to, count) in links {
            let place = usize::from(*from) * nodes + usize::from(*to);
            let known = table.get_mut(place);
            *known.ok_or_else(|| io::Error::other("a link of a node that is not there"))? += count;
        }
        let delays = delays_ms.iter().sum();
        let apart = distance_in_bins(delays_ms, &law);
        let from_poisson = distance_from_poisson(&held, pool(&network, &traffic, mean_us));
        Ok(vec![
            Check::new("delay of a path", "D", apart, DISTANCE_MOST, delays),
            Check::new(
                "pools",
                "D",
                from_poisson,
                DISTANCE_MOST,
                pools.len() as u64,
            ),
            links_check(&network, &table),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRAFFIC: Traffic = Traffic {
        users: 700,
        rate_pps: 1.0,
        seconds: 30.0,
        seed: 3,
    };

    fn part(text: &str) -> Part {
        let part = run(&TRAFFIC, text.parse().unwrap()).unwrap();
        Part {
            took_seconds: 1.0,
            ..part
        }
    }

    #[test]
    fn parts_add_up_to_the_whole_however_many_they_are() {
        let whole = part("1/1");
        for all in [vec!["1/2", "2/2"], vec!["3/3", "1/3", "2/3"]] {
            let parts: Vec<Part> = all.iter().map(|text| part(text)).collect();
            for part in &parts {
                assert!(part.counts.packets > 0 && part.counts.packets < whole.counts.packets);
            }
            let merged = merge(parts).unwrap();
            assert_eq!(merged.took_seconds, all.len() as f64);
            assert_eq!(merged.counts, whole.counts, "{all:?}");
            assert_eq!(merged.checks().unwrap(), whole.checks().unwrap());
        }
        // About so many slots; what comes from a user comes over no link of nodes.
        assert!((20_000..22_000).contains(&whole.counts.packets));
        let carried: u64 = whole.counts.links.iter().map(|(_, _, count)| count).sum();
        assert_eq!(carried + whole.counts.packets, whole.counts.events);
        // (30 s / 50 ms − 20) / 4 looks at 90 mixes.
        assert_eq!(whole.counts.pools.len(), 145 * 90);
    }

    #[test]
    fn a_whole_run_follows_the_law_and_a_part_alone_does_not() {
        let passed = |part: &Part| {
            let checks = part.checks().unwrap();
            checks.iter().map(|check| check.passed).collect::<Vec<_>>()
        };
        assert_eq!(passed(&part("1/1")), [true, true, true]);
        // Half of the users fill pools half as much.
        assert_eq!(passed(&part("1/2")), [true, false, true]);
    }

    #[test]
    fn parts_that_are_missing_there_twice_or_of_another_run_are_refused() {
        let refused = |parts: Vec<Part>| merge(parts).unwrap_err().to_string();
        let (one, two) = (part("1/2"), part("2/2"));
        assert!(refused(vec![one.clone()]).contains("these are [1]"));
        assert!(refused(vec![one.clone(), two.clone(), two.clone()]).contains("[1, 2, 2]"));
        let other = Part { seed: 4, ..two };
        let said = refused(vec![one.clone(), other]);
        assert_eq!(said, "part 2 of 2 is of another run than part 1 of 2");
        assert!(refused(vec![one, part("2/3")]).contains("of another run"));
        assert!(refused(Vec::new()).contains("no part"));
    }

    #[test]
    fn a_part_is_named_by_its_number_and_how_many_there_are() {
        assert_eq!("2/4".parse(), Ok(Shard { number: 2, of: 4 }));
        for refused in ["0/4", "5/4", "1/65", "1", "1/0", "a/b", ""] {
            assert!(refused.parse::<Shard>().is_err(), "{refused}");
        }
        // Each user is in one block.
        let blocks: Vec<_> = (0..BLOCKS).map(|number| block(700, number)).collect();
        assert_eq!((blocks[0].start, blocks[63].end), (0, 700));
        assert!(blocks.windows(2).all(|two| two[0].end == two[1].start));
    }
}
