//! What the node says to the loader once a second, kept for who asks: the newest, and what was counted in the last hour.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use handover::meaning::{KERNEL, Meaning, NODE, Source};
use handover::status::{NodeStatus, Totals};

use super::page::Page;
use super::shapes::{Drop, Interval, Rates, State};

/// A node that says nothing for so long is down: it speaks once a second.
const SILENCE: Duration = Duration::from_secs(3);
/// How much is remembered, a sample a second; and of one of many nodes, of which rates alone are asked.
const SAMPLES: usize = 3_600;
const SAMPLES_BRIEF: usize = 10;
/// What rates of traffic are taken over, and the loss of loops.
const RATES: Duration = Duration::from_secs(5);
const LOSS: Duration = Duration::from_secs(900);
/// Both ends of a normal distribution outside of which 5 % lie.
const Z: f64 = 1.96;

/// Totals at one moment.
#[derive(Clone, Debug)]
struct Sample {
    at: Instant,
    totals: Totals,
    returned: u64,
    lost: u64,
    /// By position in [`NODE`], then in [`KERNEL`].
    drops: [u64; NODE.len() + KERNEL.len()],
}

#[derive(Debug)]
struct Heard {
    /// The newest, and when it came. None before the first, and after the connection's end.
    now: Option<(Instant, Arc<NodeStatus>)>,
    /// What a node said last, if there was one, its end notwithstanding.
    last: Option<Arc<NodeStatus>>,
    samples: VecDeque<Sample>,
    samples_max: usize,
}

/// Where the loader puts it, and the API reads it.
#[derive(Clone, Debug)]
pub(crate) struct Witness(Arc<Mutex<Heard>>);

impl Default for Witness {
    fn default() -> Witness {
        Witness::remembering(SAMPLES)
    }
}

impl Witness {
    /// Of one of many nodes: it remembers no more than rates take.
    pub(super) fn brief() -> Witness {
        Witness::remembering(SAMPLES_BRIEF)
    }

    fn remembering(samples_max: usize) -> Witness {
        Witness(Arc::new(Mutex::new(Heard {
            now: None,
            last: None,
            samples: VecDeque::new(),
            samples_max,
        })))
    }

    /// The node said this, or its connection has ended.
    pub(crate) fn hear(&self, now: Instant, status: Option<NodeStatus>) {
        let mut heard = self.heard();
        let Some(status) = status else {
            heard.now = None;
            heard.samples.clear();
            return;
        };
        // Another process has other counters.
        let before = heard.now.as_ref().map(|(_, status)| status.started_unix_ms);
        if before.is_some_and(|before| before != status.started_unix_ms) {
            heard.samples.clear();
        }
        if heard.samples.len() == heard.samples_max {
            heard.samples.pop_front();
        }
        heard.samples.push_back(Sample::of(now, &status));
        let status = Arc::new(status);
        heard.last = Some(Arc::clone(&status));
        heard.now = Some((now, status));
    }

    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the node said last, if that is not too long ago.
    pub(super) fn status(&self, now: Instant) -> Option<Arc<NodeStatus>> {
        let heard = self.heard();
        let (at, status) = heard.now.as_ref()?;
        (now.saturating_duration_since(*at) <= SILENCE).then(|| Arc::clone(status))
    }

    /// What the node said last, however long ago.
    pub(super) fn last(&self) -> Option<Arc<NodeStatus>> {
        self.heard().last.clone()
    }

    /// How the node fares, if there is or was one that says so.
    pub(super) fn page(&self, now: Instant) -> Option<Page> {
        let Some(status) = self.status(now) else {
            let heard = self.heard();
            let why = match (&heard.now, heard.last.is_some()) {
                (Some(_), _) => "the node says nothing any more: restart it, and report it",
                (None, true) => {
                    "the node's process has ended: start it (systemctl start mixnode); its log says why"
                }
                (None, false) => return None,
            };
            return Some(Page::bare(State::Down, why));
        };
        let totals = &status.totals;
        Some(Page {
            state: match (status.is_stopping, status.not_ready.is_empty()) {
                (true, _) => State::Draining,
                (false, true) => State::Ready,
                (false, false) => State::Waiting,
            },
            not_ready: status.not_ready.clone(),
            port: Some(status.port.clone()),
            keys_origin: Some(status.keys_origin.clone()),
            counters: Some(*totals),
        })
    }

    /// A second's traffic.
    pub(super) fn rates(&self) -> Option<Rates> {
        let heard = self.heard();
        let (then, last, s) = heard.span(RATES)?;
        let per_s = |of: fn(&Totals) -> u64| rate(of(&then.totals), of(&last.totals), s);
        Some(Rates {
            received: per_s(|totals| totals.received),
            transmitted: per_s(|totals| totals.transmitted),
            rejected: per_s(|totals| totals.rejected),
        })
    }

    /// The share of loops that were lost lately.
    pub(super) fn loss(&self) -> Option<Interval> {
        let heard = self.heard();
        let (then, last, _) = heard.span(LOSS)?;
        let lost = last.lost.saturating_sub(then.lost);
        wilson(lost, lost + last.returned.saturating_sub(then.returned))
    }

    /// What was dropped, and over how many seconds the rates are: `since` at most.
    pub(super) fn drops(&self, since: Duration) -> (f64, Vec<Drop>) {
        let heard = self.heard();
        let Some((_, status)) = &heard.now else {
            return (0.0, Vec::new());
        };
        let span = heard.span(since);
        let per_s = |place: Option<usize>| {
            let (then, last, s) = span?;
            let place = place?;
            Some(rate(*then.drops.get(place)?, *last.drops.get(place)?, s))
        };
        let of = |source: Source, counts: &[(String, u64)]| -> Vec<Drop> {
            let one = |(reason, total): &(String, u64)| {
                let (place, of) = find(source, reason).unzip();
                told(source, reason, *total, per_s(place), of)
            };
            counts.iter().map(one).collect()
        };
        let mut drops = of(Source::Node, &status.drops);
        drops.extend(of(Source::Kernel, &status.shed));
        (span.map_or(0.0, |(_, _, s)| s), drops)
    }
}

/// A drop as it is told.
pub(super) fn told(
    source: Source,
    reason: &str,
    total: u64,
    per_s: Option<f64>,
    of: Option<Meaning>,
) -> Drop {
    let unknown = "A reason that this mixctld does not know.";
    Drop {
        source: source.name().to_owned(),
        reason: reason.to_owned(),
        total,
        per_s,
        meaning: of.map_or(unknown, |of| of.meaning).to_owned(),
        remedy: of
            .map_or("Give both the same version.", |of| of.remedy)
            .to_owned(),
    }
}

/// Where a reason's count lies in a sample, and what it means.
fn find(source: Source, reason: &str) -> Option<(usize, Meaning)> {
    let (table, first) = match source {
        Source::Node => (NODE, 0),
        Source::Kernel => (KERNEL, NODE.len()),
        Source::Xdp => return None,
    };
    let place = table.iter().position(|of| of.reason == reason)?;
    Some((first + place, *table.get(place)?))
}

fn rate(then: u64, now: u64, s: f64) -> f64 {
    now.saturating_sub(then) as f64 / s
}

impl Heard {
    /// The oldest sample not older than `since`, the newest, and the seconds between.
    fn span(&self, since: Duration) -> Option<(&Sample, &Sample, f64)> {
        let last = self.samples.back()?;
        let age = |sample: &Sample| last.at.saturating_duration_since(sample.at);
        // By age: the first that is young enough.
        let from = self.samples.partition_point(|sample| age(sample) > since);
        let then = self.samples.get(from)?;
        let s = age(then).as_secs_f64();
        (s > 0.0).then_some((then, last, s))
    }
}

impl Sample {
    fn of(at: Instant, status: &NodeStatus) -> Sample {
        let mut drops = [0; NODE.len() + KERNEL.len()];
        let named = [
            (Source::Node, &status.drops),
            (Source::Kernel, &status.shed),
        ];
        for (source, counts) in named {
            for (reason, count) in counts {
                let place = find(source, reason).and_then(|(place, _)| drops.get_mut(place));
                if let Some(place) = place {
                    *place = *count;
                }
            }
        }
        Sample {
            at,
            totals: status.totals,
            returned: status.loops.returned,
            lost: status.loops.lost,
            drops,
        }
    }
}

/// The share `hits / tries` with its 95 % interval (Wilson, 1927): it holds also where there are few, or none.
pub(super) fn wilson(hits: u64, tries: u64) -> Option<Interval> {
    if tries == 0 {
        return None;
    }
    let n = tries as f64;
    let mid = hits as f64 / n;
    let z2 = Z * Z;
    let middle = mid + z2 / (2.0 * n);
    let half = Z * (mid * (1.0 - mid) / n + z2 / (4.0 * n * n)).sqrt();
    let whole = 1.0 + z2 / n;
    Some(Interval {
        low: ((middle - half) / whole).max(0.0),
        mid,
        high: ((middle + half) / whole).min(1.0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use handover::status::Loops;

    fn said(started: u64, received: u64, mac: u64) -> NodeStatus {
        NodeStatus {
            started_unix_ms: started,
            port: "plain".to_owned(),
            totals: Totals {
                received,
                ..Totals::default()
            },
            drops: vec![("mac".to_owned(), mac), ("from_tomorrow".to_owned(), 1)],
            shed: vec![("ring_full".to_owned(), 2 * mac)],
            loops: Loops {
                returned: received,
                lost: mac,
                ..Loops::default()
            },
            ..NodeStatus::default()
        }
    }

    #[test]
    fn a_node_is_ready_waits_falls_silent_and_ends() {
        let (witness, start) = (Witness::default(), Instant::now());
        let state = |now| witness.page(now).map(|page| page.state);
        assert_eq!(state(start), None, "none ever said anything");
        witness.hear(start, Some(said(1, 0, 0)));
        assert_eq!(state(start), Some(State::Ready));
        let waiting = NodeStatus {
            not_ready: vec!["no loop".to_owned()],
            ..said(1, 0, 0)
        };
        witness.hear(start, Some(waiting.clone()));
        assert_eq!(state(start), Some(State::Waiting));
        let stopping = NodeStatus {
            is_stopping: true,
            ..waiting
        };
        witness.hear(start, Some(stopping));
        assert_eq!(state(start), Some(State::Draining));
        let later = start + SILENCE + Duration::from_millis(1);
        assert_eq!(state(start + SILENCE), Some(State::Draining));
        assert_eq!(state(later), Some(State::Down));
        assert!(witness.page(later).unwrap().not_ready[0].contains("says nothing"));
        witness.hear(later, None);
        assert!(witness.page(later).unwrap().not_ready[0].contains("has ended"));
        witness.hear(later, Some(said(2, 0, 0)));
        assert_eq!(state(later), Some(State::Ready));
    }

    #[test]
    fn rates_are_of_the_time_asked_for_and_of_one_process_alone() {
        let (witness, start) = (Witness::default(), Instant::now());
        let at = |s: u64| start + Duration::from_secs(s);
        assert_eq!(witness.rates(), None);
        for s in 0..=20u64 {
            // Ten drops a second in the last ten seconds, none before.
            let mac = 10 * s.saturating_sub(10);
            witness.hear(at(s), Some(said(1, 100 * s, mac)));
        }
        assert_eq!(witness.rates().unwrap().received, 100.0);
        let mac = |since: u64| {
            let (over, drops) = witness.drops(Duration::from_secs(since));
            let of = |name: &str| drops.iter().find(|drop| drop.reason == name).unwrap();
            let (mac, ring) = (of("mac"), of("ring_full"));
            assert_eq!((mac.total, mac.source.as_str()), (100, "node"));
            assert_eq!((ring.total, ring.source.as_str()), (200, "kernel"));
            assert_eq!(ring.per_s.unwrap(), 2.0 * mac.per_s.unwrap());
            assert!(mac.meaning.contains("header") && !mac.remedy.is_empty());
            let unknown = of("from_tomorrow");
            assert_eq!((unknown.total, unknown.per_s), (1, None));
            assert!(unknown.meaning.contains("does not know"));
            (over, mac.per_s.unwrap())
        };
        assert_eq!(mac(10), (10.0, 10.0));
        assert_eq!(mac(20), (20.0, 5.0));
        assert_eq!(mac(3_600), (20.0, 5.0), "no more is known");
        let loss = witness.loss().unwrap();
        assert_eq!(loss.mid, 100.0 / 2_100.0);
        // It was started again: what the one before counted is none of its.
        witness.hear(at(21), Some(said(2, 5, 0)));
        assert_eq!(witness.rates(), None);
        assert_eq!(witness.loss(), None);
        witness.hear(at(22), Some(said(2, 10, 0)));
        assert_eq!(witness.rates().unwrap().received, 5.0);
    }

    #[test]
    fn no_more_than_an_hour_is_kept() {
        let (witness, start) = (Witness::default(), Instant::now());
        for s in 0..5_000 {
            witness.hear(start + Duration::from_secs(s), Some(said(1, s, 0)));
        }
        assert_eq!(witness.heard().samples.len(), SAMPLES);
        let (over, _) = witness.drops(Duration::from_secs(86_400));
        assert_eq!(over, 3_599.0);
    }

    #[test]
    fn the_interval_is_wilsons() {
        assert_eq!(wilson(0, 0), None);
        // By hand: 1 of 10 at 95 %.
        let one = wilson(1, 10).unwrap();
        assert!((one.low - 0.0179).abs() < 1e-3 && (one.high - 0.4042).abs() < 1e-3);
        let none = wilson(0, 10).unwrap();
        assert!(none.low < 1e-9 && (none.high - 0.2775).abs() < 1e-3);
        let all = wilson(10, 10).unwrap();
        assert!((all.low - 0.7225).abs() < 1e-3 && all.high > 1.0 - 1e-9);
    }
}
