//! A run in parts, on as many machines as there are: each simulates some of the senders and writes counts, and counts add
//! up. Users are in blocks that draw of streams of their own, so that the sum is the same however blocks are dealt out.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::time::Instant;

use directory::DELAY_CAP_MEANS;
use serde::{Deserialize, Serialize};

use super::calendar::OUTSIDE;
use super::checks::{Check, DISTANCE_MOST, DRAWS, links_check, pool};
use super::law::{distance_from_poisson, distance_in_bins, sums};
use super::model::{Pools, Tally, Traffic, run_part};
use super::network::{Network, Size};
use super::{CHECKED, Large};
use crate::envelope::{Envelope, Results};

/// Blocks of users: no run has more parts.
const BLOCKS: u32 = 64;
/// Of the delays of paths.
const BIN_US: u64 = 1_000;
/// Mean delays between looks at the pools: one look says little of the next.
const APART: f64 = 4.0;
/// Mean delays until pools are full.
const FULL: f64 = 20.0;
/// What a run can be at most, as the command line says.
pub(super) const USERS_MOST: u32 = 10_000_000;
pub(super) const RATE_MOST: f64 = 1_000.0;
pub(super) const SECONDS_MOST: u32 = 86_400;
/// By which small counts may be over what is far over the mean.
const SPARE: f64 = 1_000.0;

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
        parsed
            .filter(Shard::is_there)
            .ok_or_else(|| format!("not as 1/4, and {BLOCKS} parts at most"))
    }
}

impl Shard {
    fn is_there(&self) -> bool {
        (1..=BLOCKS).contains(&self.of) && (1..=self.of).contains(&self.number)
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

/// Looks at the pools in so many seconds.
fn looks(seconds: f64, mean_us: f64) -> usize {
    ((seconds * 1e6 / mean_us - FULL) / APART).max(0.0) as usize
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
    let looks = looks(traffic.seconds, mean_us);
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

fn refused(why: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.into())
}

/// The part in a file that `--shard` made.
///
/// # Errors
/// The file is none, or not whole.
pub(super) fn read(file: &Path) -> io::Result<Part> {
    let broken = |why: String| refused(format!("{}: {why}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|error| broken(error.to_string()))?;
    let envelope: Envelope = serde_json::from_str(&text).map_err(|error| {
        broken(match error.is_eof() {
            true => format!("the file is cut short: {error}"),
            false => error.to_string(),
        })
    })?;
    let part = match envelope.results {
        Results::Anonymity(report) => report.part,
        _ => None,
    };
    let part = part.ok_or_else(|| broken("no part of a run: --shard makes them".to_owned()))?;
    part.examine().map_err(broken)?;
    Ok(part)
}

/// All parts of a run as one.
///
/// # Errors
/// A part is missing, is there twice, is of another run, or says what no part can.
pub(crate) fn merge(mut parts: Vec<Part>) -> io::Result<Part> {
    parts.sort_by_key(|part| part.shard.number);
    let run = |part: &Part| {
        (
            part.shard.of,
            part.seed,
            part.users,
            part.rate_pps,
            part.simulated_seconds,
        )
    };
    let first = parts
        .first()
        .ok_or_else(|| refused("no part of a run is there"))?;
    let Shard { number, of } = first.shard;
    for part in &parts {
        let named = format!("part {} of {}", part.shard.number, part.shard.of);
        part.examine()
            .map_err(|why| refused(format!("{named}: {why}")))?;
        if run(part) != run(first) {
            return Err(refused(format!(
                "{named} is of another run than part {number} of {of}"
            )));
        }
    }
    let numbers: Vec<u32> = parts.iter().map(|part| part.shard.number).collect();
    let wanted: Vec<u32> = (1..=of).collect();
    if numbers != wanted {
        let missing = wanted.iter().filter(|number| !numbers.contains(number));
        return Err(refused(format!(
            "of {of} parts each has to be there once: these are {numbers:?}, missing are {:?}",
            missing.collect::<Vec<_>>()
        )));
    }
    let mut parts = parts.into_iter();
    let mut whole = parts
        .next()
        .ok_or_else(|| refused("no part of a run is there"))?;
    for part in parts {
        whole.counts.add(&part.counts);
        whole.took_seconds += part.took_seconds;
    }
    whole.shard = Shard { number: 1, of: 1 };
    Ok(whole)
}

impl Part {
    fn traffic(&self) -> Traffic {
        Traffic {
            users: self.users,
            rate_pps: self.rate_pps,
            seconds: self.simulated_seconds,
            seed: self.seed,
        }
    }

    /// What another machine wrote may be damaged, and how much memory its sum takes follows from its figures: so before
    /// anything is added up they have to be such as a part can have.
    fn examine(&self) -> Result<(), String> {
        let Shard { number, of } = self.shard;
        let Counts {
            packets,
            events,
            links,
            pools,
            delays_ms,
        } = &self.counts;
        if !self.shard.is_there() {
            return Err(format!(
                "part {number} of {of} can't be: a run has {BLOCKS} parts at most"
            ));
        }
        let is_run = self.users <= USERS_MOST
            && (0.0..=RATE_MOST).contains(&self.rate_pps)
            && (0.0..=f64::from(SECONDS_MOST)).contains(&self.simulated_seconds);
        let sent = f64::from(self.users) * self.rate_pps * self.simulated_seconds;
        if !is_run || *packets as f64 > 2.0 * sent + SPARE {
            return Err(format!(
                "{packets} packets of {} users at {}/s in {} s can't be",
                self.users, self.rate_pps, self.simulated_seconds
            ));
        }
        let mean_us = mean_us(CHECKED);
        let hops = u64::from(CHECKED.layers) + 1;
        let carried = links
            .iter()
            .try_fold(*packets, |sum, (.., count)| sum.checked_add(*count));
        if carried != Some(*events) || *events > packets * (hops + 1) {
            return Err(format!(
                "its links don't carry what it counted, {packets} packets and {events} events: it is damaged or not whole"
            ));
        }
        let mixes = usize::from(CHECKED.mixes) * usize::from(CHECKED.layers);
        let looked = looks(self.simulated_seconds, mean_us) * mixes;
        if pools.len() != looked {
            return Err(format!(
                "{} pools are in it and {looked} belong there: it is damaged or not whole",
                pools.len()
            ));
        }
        let network = Network::new(CHECKED).map_err(|error| error.to_string())?;
        let most = 10.0 * pool(&network, &self.traffic(), mean_us) / f64::from(of) + SPARE;
        if let Some(held) = pools.iter().find(|held| f64::from(**held) > most) {
            return Err(format!("{held} packets in one pool can't be"));
        }
        let longest_us = hops as f64 * mean_us * f64::from(DELAY_CAP_MEANS);
        let arrived = delays_ms
            .iter()
            .try_fold(0u64, |sum, count| sum.checked_add(*count));
        if delays_ms.len() as f64 > longest_us / BIN_US as f64 + 1.0
            || arrived.is_none_or(|arrived| arrived > *packets)
        {
            return Err("its delays are longer or more than can be".to_owned());
        }
        Ok(())
    }

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
        let traffic = self.traffic();
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
mod tests;
