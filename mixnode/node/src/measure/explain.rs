//! Two ways to explain the loops that are overdue: some hops lose what goes through them, or everything is lost alike,
//! whichever way it takes. How well each fits is a log-likelihood; a hop to blame and an attack have a price, for with enough
//! of them anything is explained.

use crate::path::loops::Way;

/// What it costs to blame a hop, in nats: by chance alone no hop of a dozen looks that bad.
const HOP_COST: f64 = 5.0;
/// What it costs to suspect an attack: two hops that die together explain losses for less, three do not.
const ATTACK_COST: f64 = 11.0;
/// Who fits less than this much worse than the best can't be told from it.
const RIVAL: f64 = 5.0;
/// Hops blamed at once.
const BLAMED_MAX: usize = 8;

/// A loop whose fate is known.
#[derive(Debug)]
pub(super) struct Loop<'a> {
    pub way: &'a Way,
    pub overdue: bool,
}

/// A hop that loses packets.
#[derive(Debug)]
pub(super) struct Blamed {
    pub hop: u16,
    /// Those that explain nearly as much in its place: it can't be told from them.
    pub rivals: Vec<u16>,
    /// What is lost is explained much worse without it, whoever is blamed in its place.
    pub is_clear: bool,
}

/// Hops that explain what is overdue, the one that was found first before others.
#[derive(Debug, Default)]
pub(super) struct Explanation {
    /// None where an attack fits better.
    pub blamed: Vec<Blamed>,
    /// How much better they fit than an attack, in nats.
    pub lead: f64,
    /// Loops looked at.
    pub loops: usize,
    /// Loops past all of the blamed that came home.
    pub home_besides: usize,
}

/// Explains these loops, of which a share of `p0` is lost anyway. `leaves_a_way` says of hops whether each place of a way has
/// another one: where all of a layer lose everything, nobody can say that it is not the node itself.
pub(super) fn explain(
    loops: &[Loop<'_>],
    p0: f64,
    leaves_a_way: impl Fn(&[u16]) -> bool,
) -> Explanation {
    let losses = Losses { loops, p0 };
    let mut best = losses.search(None, &leaves_a_way);
    let others = |best: &Blames| -> Vec<Blames> {
        let hops = best.hops.iter();
        hops.map(|hop| losses.search(Some(*hop), &leaves_a_way))
            .collect()
    };
    let all = Counted::of(loops.iter());
    let attack = all.best_fit() - ATTACK_COST;
    // Where an attack fits better nobody is named, so nobody has to be told from others.
    let mut without = match best.fit > attack {
        true => others(&best),
        false => Vec::new(),
    };
    // Two that died together may both be met by ways through a third, which is on more of what is lost than either.
    for _ in 0..BLAMED_MAX {
        let better = without.iter().filter(|other| other.fit > best.fit + 1e-9);
        let Some(better) = better.max_by(|a, b| a.fit.total_cmp(&b.fit)) else {
            break;
        };
        best = better.clone();
        without = others(&best);
    }
    let blamed = best.hops.iter().zip(without).map(|(hop, other)| {
        let mut rivals = losses.in_place_of(*hop, &best.hops);
        let is_worse = other.fit < best.fit - RIVAL;
        if !is_worse {
            let is_new = |rival: &u16| !best.hops.contains(rival) && !rivals.contains(rival);
            let new: Vec<u16> = other.hops.into_iter().filter(is_new).collect();
            rivals.extend(new);
        }
        Blamed {
            hop: *hop,
            is_clear: is_worse && rivals.is_empty(),
            rivals,
        }
    });
    let besides = losses.besides(&best.hops);
    Explanation {
        lead: best.fit - attack,
        loops: loops.len(),
        home_besides: besides.filter(|one| !one.overdue).count(),
        blamed: blamed.collect(),
    }
}

/// Hops, and how well it fits that they are to blame.
#[derive(Clone, Debug)]
struct Blames {
    hops: Vec<u16>,
    fit: f64,
}

/// Loops whose fate is known, and the share of them that is lost anyway.
struct Losses<'a> {
    loops: &'a [Loop<'a>],
    p0: f64,
}

impl Losses<'_> {
    /// Loops past all of these hops.
    fn besides(&self, blamed: &[u16]) -> impl Iterator<Item = &Loop<'_>> {
        let past = |one: &&Loop<'_>| !one.way.iter().any(|hop| blamed.contains(hop));
        self.loops.iter().filter(past)
    }

    /// The log-likelihood where nobody is to blame.
    fn usual(&self, of: Counted) -> f64 {
        let (home, overdue) = (f64::from(of.loops - of.overdue), f64::from(of.overdue));
        overdue * self.p0.ln() + home * (1.0 - self.p0).ln()
    }

    /// By how much each hop explains what the others leave, in nats, by number.
    fn gains(&self, others: &[u16]) -> Vec<f64> {
        let gain = |of: Counted| match f64::from(of.overdue) > self.p0 * f64::from(of.loops) {
            true => of.best_fit() - self.usual(of),
            false => 0.0,
        };
        by_hop(self.besides(others)).into_iter().map(gain).collect()
    }

    fn gain(&self, others: &[u16], hop: u16) -> f64 {
        let gains = self.gains(others);
        gains.get(usize::from(hop)).copied().unwrap_or(0.0)
    }

    /// The hop that explains most of what the others leave.
    fn best(&self, others: &[u16], may: impl Fn(u16) -> bool) -> Option<(u16, f64)> {
        let gains = (0u16..).zip(self.gains(others));
        let gains = gains.filter(|(hop, gain)| *gain > 0.0 && may(*hop));
        gains.max_by(|a, b| a.1.total_cmp(&b.1))
    }

    /// Whoever was blamed first was so for all that was lost on its ways, by others among it. So each is held against what
    /// all the others leave: one that explains nothing of that is not to blame, and one that another hop explains better
    /// gives way to it.
    fn settle(&self, blamed: &mut Vec<u16>, may: impl Fn(&[u16], u16) -> bool) {
        let mut place = 0;
        // Each exchange explains more; this ends what rounding would let go on.
        for _ in 0..4 * BLAMED_MAX {
            let Some(hop) = blamed.get(place).copied() else {
                return;
            };
            let mut others = blamed.clone();
            others.remove(place);
            let gain = self.gain(&others, hop);
            match self.best(&others, |hop| may(&others, hop)) {
                Some((better, more)) if more > gain + 1e-9 && more > HOP_COST => {
                    blamed[place] = better;
                    place = 0;
                }
                _ if gain <= HOP_COST => {
                    *blamed = others;
                    place = 0;
                }
                _ => place += 1,
            }
        }
    }

    /// Hops that explain what the others who are blamed leave nearly as well as this one of them.
    fn in_place_of(&self, hop: u16, blamed: &[u16]) -> Vec<u16> {
        let mut others = blamed.to_vec();
        others.retain(|other| *other != hop);
        let gains = self.gains(&others);
        let own = gains.get(usize::from(hop)).copied().unwrap_or(0.0);
        let near = (0u16..).zip(gains).filter(|(_, gain)| *gain >= own - RIVAL);
        let near = near.map(|(hop, _)| hop);
        near.filter(|hop| !blamed.contains(hop)).collect()
    }

    /// Who is to blame, if it is not `innocent`.
    fn search(&self, innocent: Option<u16>, leaves_a_way: &impl Fn(&[u16]) -> bool) -> Blames {
        let may = |others: &[u16], hop: u16| {
            let all = [others, &[hop]].concat();
            let is_new = Some(hop) != innocent && !others.contains(&hop);
            is_new && (others.is_empty() || leaves_a_way(&all))
        };
        let mut hops: Vec<u16> = Vec::new();
        while hops.len() < BLAMED_MAX {
            match self.best(&hops, |hop| may(&hops, hop)) {
                Some((hop, gain)) if gain > HOP_COST => hops.push(hop),
                _ => break,
            }
        }
        self.settle(&mut hops, may);
        let mut fit = self.usual(Counted::of(self.loops.iter()));
        for (place, hop) in hops.iter().enumerate() {
            fit += self.gain(&hops[..place], *hop) - HOP_COST;
        }
        Blames { hops, fit }
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Counted {
    loops: u32,
    overdue: u32,
}

impl Counted {
    fn of<'a>(loops: impl Iterator<Item = &'a Loop<'a>>) -> Counted {
        let mut sum = Counted::default();
        loops.for_each(|one| sum.count(one.overdue));
        sum
    }

    fn count(&mut self, overdue: bool) {
        self.loops += 1;
        self.overdue += u32::from(overdue);
    }

    /// The log-likelihood where the share that was lost is the one to be expected.
    fn best_fit(self) -> f64 {
        let part = |count: u32| match count {
            0 => 0.0,
            some => f64::from(some) * (f64::from(some) / f64::from(self.loops)).ln(),
        };
        part(self.overdue) + part(self.loops - self.overdue)
    }
}

/// By number, up to the largest on these ways.
fn by_hop<'a>(loops: impl Iterator<Item = &'a Loop<'a>>) -> Vec<Counted> {
    let mut counted: Vec<Counted> = Vec::new();
    for one in loops {
        for hop in one.way {
            let place = usize::from(*hop);
            if place >= counted.len() {
                counted.resize(place + 1, Counted::default());
            }
            counted[place].count(one.overdue);
        }
    }
    counted
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of loops through these pairs of hops, so many of each lost and home: who is to blame, and whether that is clear. Two
    /// hops of one layer have the same tens.
    fn blamed(of: &[([u16; 2], u32, u32)]) -> Vec<(u16, bool)> {
        let ways: Vec<(Way, bool)> = of
            .iter()
            .flat_map(|(hops, lost, home)| {
                let fates = [(*lost, true), (*home, false)];
                let way: Way = hops.iter().copied().collect();
                fates.into_iter().flat_map(move |(count, overdue)| {
                    std::iter::repeat_n((way.clone(), overdue), count as usize)
                })
            })
            .collect();
        let loops: Vec<Loop<'_>> = ways
            .iter()
            .map(|(way, overdue)| Loop {
                way,
                overdue: *overdue,
            })
            .collect();
        let leaves_a_way = |blamed: &[u16]| {
            (1..=2).all(|layer| (0..3).any(|number| !blamed.contains(&(10 * layer + number))))
        };
        let found = explain(&loops, 0.02, leaves_a_way).blamed;
        let mut found: Vec<(u16, bool)> = found
            .into_iter()
            .map(|one| (one.hop, one.is_clear))
            .collect();
        found.sort_unstable();
        found
    }

    #[test]
    fn one_that_loses_everything_is_to_blame_and_soon_clearly() {
        let early = [([10, 20], 1, 0), ([10, 21], 1, 0), ([11, 20], 0, 1)];
        assert_eq!(blamed(&early), [(10, false)]);
        let later = [([10, 20], 2, 0), ([10, 21], 2, 0), ([11, 20], 0, 2)];
        assert_eq!(blamed(&later), [(10, true)]);
        assert!(blamed(&[([10, 20], 0, 9), ([11, 21], 0, 9)]).is_empty());
    }

    #[test]
    fn one_that_is_on_the_ways_of_two_dead_ones_is_not_to_blame() {
        // 10 and 11 are dead, and by chance nothing of what went by 20 missed them.
        let chance = [
            ([10, 20], 3, 0),
            ([11, 20], 3, 0),
            ([10, 21], 1, 0),
            ([11, 22], 1, 0),
            ([12, 21], 0, 3),
            ([12, 22], 0, 3),
        ];
        let said = blamed(&chance);
        let names: Vec<u16> = said.iter().map(|(hop, _)| *hop).collect();
        assert_eq!(names, [10, 11], "{said:?}");
        assert!(said.iter().all(|(_, is_clear)| !is_clear), "{said:?}");
        // What comes home by it tells them apart.
        let more = [([12, 20], 0, 2), ([10, 22], 1, 0), ([11, 21], 1, 0)];
        let said = blamed(&[&chance[..], &more].concat());
        assert_eq!(said, [(10, true), (11, true)]);
    }
}
