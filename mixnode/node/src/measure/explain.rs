//! Two ways to explain the loops that are overdue: some hops lose what goes through them, or everything is lost alike,
//! whichever way it takes. How well each fits is a log-likelihood; a hop to blame and an attack have a price, for with enough
//! of them anything is explained.

use crate::path::loops::Way;

/// What it costs to blame a hop, in nats: by chance alone no hop of a dozen looks that bad.
const HOP_COST: f64 = 5.0;
/// What it costs to suspect an attack: two hops that die together explain losses for less, three do not.
const ATTACK_COST: f64 = 11.0;
/// Hops that fit this much worse than the best can't be told from it.
const RIVAL: f64 = 5.0;
/// Hops blamed at once.
const BLAMED_MAX: usize = 8;

/// A loop whose fate is known.
#[derive(Debug)]
pub(super) struct Loop<'a> {
    pub way: &'a Way,
    pub overdue: bool,
}

/// Hops that explain what is overdue, the one that explains most first.
#[derive(Debug, Default)]
pub(super) struct Explanation {
    /// Each with those it can't be told from.
    pub blamed: Vec<(u16, Vec<u16>)>,
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
    let usual = |of: Counted| {
        let (home, overdue) = (f64::from(of.loops - of.overdue), f64::from(of.overdue));
        overdue * p0.ln() + home * (1.0 - p0).ln()
    };
    let mut rest: Vec<&Loop<'_>> = loops.iter().collect();
    let all = Counted::of(&rest);
    let (mut fit, mut blamed, mut gains) = (usual(all), Vec::new(), Vec::new());
    while blamed.len() < BLAMED_MAX {
        let counted = by_hop(&rest);
        let gain = |of: &Counted| match f64::from(of.overdue) > p0 * f64::from(of.loops) {
            true => of.best_fit() - usual(*of),
            false => 0.0,
        };
        let by_gain: Vec<f64> = counted.iter().map(gain).collect();
        let best = (0u16..).zip(&by_gain).filter(|(hop, gain)| {
            let with = |hop| [&blamed[..], &[hop]].concat();
            **gain > HOP_COST && (blamed.is_empty() || leaves_a_way(&with(*hop)))
        });
        let Some((hop, gain)) = best.max_by(|a, b| a.1.total_cmp(b.1)) else {
            break;
        };
        fit += gain - HOP_COST;
        blamed.push(hop);
        gains.push((*gain, by_gain));
        rest.retain(|one| !one.way.contains(&hop));
    }
    let rivals = |(gain, by_gain): (f64, Vec<f64>)| {
        let near = (0u16..)
            .zip(by_gain)
            .filter(move |(_, other)| *other >= gain - RIVAL);
        let others = near.map(|(hop, _)| hop);
        others.filter(|hop| !blamed.contains(hop)).collect()
    };
    let rivals: Vec<Vec<u16>> = gains.into_iter().map(rivals).collect();
    Explanation {
        lead: fit - (all.best_fit() - ATTACK_COST),
        loops: loops.len(),
        home_besides: rest.iter().filter(|one| !one.overdue).count(),
        blamed: blamed.into_iter().zip(rivals).collect(),
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Counted {
    loops: u32,
    overdue: u32,
}

impl Counted {
    fn of(loops: &[&Loop<'_>]) -> Counted {
        let mut sum = Counted::default();
        loops.iter().for_each(|one| sum.count(one.overdue));
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
fn by_hop(loops: &[&Loop<'_>]) -> Vec<Counted> {
    let hops = loops.iter().flat_map(|one| one.way).copied();
    let mut counted = vec![Counted::default(); hops.max().map_or(0, |hop| usize::from(hop) + 1)];
    for one in loops {
        for hop in one.way {
            if let Some(of) = counted.get_mut(usize::from(*hop)) {
                of.count(one.overdue);
            }
        }
    }
    counted
}
