//! What people read of a node's workers: its loops, its drops, and all of it anew each second.

use control::api::shapes::{Drop, Drops, HopLoops, HopState, Loops, Status, Workers};
use handover::status::Bounded;

use super::table::{COLUMNS_MIN, Facts, cut, pace, status, wrap};

/// Drops that the screen of `top` has room for.
const TOP_DROPS: usize = 5;

/// The node's own packets that should come back to it.
pub(super) fn loops(loops: &Loops, columns: usize) -> String {
    let mut facts = Facts::new(columns.max(COLUMNS_MIN));
    let counted = &loops.loops;
    if counted.interval_ms == 0 {
        facts.say(
            "loops",
            "none are sent: [cover] loop_interval_ms is 0, and so nothing is known of loss",
        );
        return facts.lines.join("\n");
    }
    let sums = format!(
        "sent {}, returned {}, lost {}; one in {} ms",
        counted.sent, counted.returned, counted.lost, counted.interval_ms
    );
    facts.say("loops", &sums);
    let loss = match &loops.loss {
        None => "not known yet: none has come back or been given up".to_owned(),
        Some(loss) => format!(
            "{:.1} % in the last 15 minutes; with 95 % certainty from {:.1} to {:.1} %",
            100.0 * loss.mid,
            100.0 * loss.low,
            100.0 * loss.high
        ),
    };
    facts.say("loss", &loss);
    let round = &counted.round_us;
    if round.p99 > 0 {
        let took = format!(
            "median {} ms, 99 % within {} ms, in the last second; delays included",
            round.p50 / 1_000,
            round.p99.div_ceil(1_000)
        );
        facts.say("round", &took);
    }
    if !loops.is_measured {
        let silence = "not measured now: no loops are sent (a node without a place sends none), or this machine is too late to judge";
        facts.say("found", silence);
    }
    if loops.n1_suspected {
        let warning = "n-1 suspected: loops come home on no way; somebody may keep others' packets from this node";
        facts.say("warning", warning);
    }
    for hop in &loops.bad {
        let of = hop.operator.as_deref().unwrap_or("an unknown operator");
        let bad = format!(
            "node {} of {of} (epoch {}) loses packets",
            hop.index, loops.epoch
        );
        facts.say("bad hop", &bad);
    }
    if let Some(silence) = &loops.silence {
        let (silent, of) = (silence.silent, silence.of);
        let mut said = format!("{silent} of {of} before this node: {}", silence.meaning);
        if silent > 0 || loops.n1_suspected {
            said = format!("{said}; {}", silence.remedy);
        }
        facts.say("silent", &said);
    }
    let mut lines = facts.lines;
    lines.extend(hops(&loops.hops, columns.max(COLUMNS_MIN)));
    lines.join("\n")
}

/// Each next hop in a line: what it lost, how certain that is, what loops took beside their delays.
fn hops(hops: &[HopLoops], columns: usize) -> Vec<String> {
    if hops.is_empty() {
        return Vec::new();
    }
    let ms = |bounded: Option<Bounded>| match bounded {
        Some(bounded) => format!("{:.1}", f64::from(bounded.mid) / 1e3),
        None => "–".to_owned(),
    };
    let row = |hop: &HopLoops| {
        let loss = hop.loss.map_or((0.0, 0.0, 0.0), |loss| {
            (100.0 * loss.low, 100.0 * loss.mid, 100.0 * loss.high)
        });
        let state = match hop.state {
            HopState::Bad => "bad",
            HopState::Sound => "",
        };
        let (p50, p99) = (ms(hop.excess_us.p50), ms(hop.excess_us.p99));
        let line = format!(
            "{:>5}  {:>5.1}  {:>5.1}–{:<5.1}  {:>6}  {p50:>7}  {p99:>7}  {state:<4}  {}",
            hop.index,
            loss.1,
            loss.0,
            loss.2,
            hop.sent,
            hop.operator.as_deref().unwrap_or_default()
        );
        cut(line.trim_end(), columns)
    };
    let head =
        " next  % lost,  95 %        of    p50 ms   p99 ms        operator; ms beside the delays";
    let mut lines = vec![String::new(), cut(head, columns)];
    lines.extend(hops.iter().map(row));
    lines
}

/// What was dropped, why, and what to do.
pub(super) fn drops(drops: &Drops, columns: usize) -> String {
    let columns = columns.max(COLUMNS_MIN);
    if drops.drops.is_empty() {
        return "nothing was dropped".to_owned();
    }
    let mut lines = Vec::new();
    for drop in &drops.drops {
        lines.push(line(drop, columns));
        for text in [&drop.meaning, &drop.remedy] {
            let wrapped = wrap(text, columns - 4, 0);
            lines.extend(wrapped.iter().map(|line| format!("    {line}")));
        }
    }
    let over = format!("rates over {:.0} s", drops.over_s);
    lines.push(cut(&over, columns));
    lines.join("\n")
}

fn line(drop: &Drop, columns: usize) -> String {
    let per_s = drop.per_s.map(|per_s| format!("  {}", pace(per_s)));
    let line = format!(
        "{:<6}  {:<20}  {}{}",
        drop.source,
        drop.reason,
        drop.total,
        per_s.unwrap_or_default()
    );
    cut(&line, columns)
}

/// One screen of all that moves.
pub(super) fn top(
    of: &Status,
    workers: Option<&Workers>,
    drops: Option<&Drops>,
    columns: usize,
) -> String {
    let columns = columns.max(COLUMNS_MIN);
    let mut lines = vec![status(of, columns)];
    if let Some(told) = workers {
        let (late, hold) = (&told.lateness_us, &told.hold_us);
        let late = format!(
            "packets left {} µs late, 99 % within {}; held {} ms, 99 % within {}",
            late.p50,
            late.p99,
            hold.p50 / 1_000,
            hold.p99.div_ceil(1_000)
        );
        lines.push(String::new());
        lines.extend(wrap(&late, columns, 2));
        lines.push("worker      held   pool used  sessions".to_owned());
        for worker in &told.workers {
            let share = 100.0 * worker.pool.in_use as f64 / worker.pool.frames.max(1) as f64;
            let row = format!(
                "{:>6}  {:>8}  {share:>8.1} %  {:>8}",
                worker.number, worker.held, worker.sessions
            );
            lines.push(cut(&row, columns));
        }
    }
    if let Some(told) = drops.filter(|told| !told.drops.is_empty()) {
        lines.push(String::new());
        let first = told.drops.iter().take(TOP_DROPS);
        lines.extend(first.map(|drop| line(drop, columns)));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use control::api::shapes::{
        BadHop, Excess, HopLoops, HopState, Interval, Pool, Silence, State, Worker,
    };
    use handover::status::{Bounded, Loops as Counted, Quantiles};

    fn told() -> (Loops, Drops, Workers, Status) {
        let quantiles = Quantiles {
            p50: 102_000,
            p99: 730_001,
        };
        let loops = Loops {
            loops: Counted {
                interval_ms: 200,
                sent: 1 << 40,
                returned: 1 << 40,
                lost: 1 << 20,
                round_us: quantiles,
            },
            loss: Some(Interval {
                low: 0.0179,
                mid: 0.1,
                high: 0.4042,
            }),
            epoch: 7,
            is_measured: true,
            n1_suspected: true,
            bad: vec![BadHop {
                index: 2047,
                operator: Some("an operator with a long name".to_owned()),
            }],
            silence: Some(Silence {
                silent: 2046,
                of: 2047,
                share: 0.9995,
                meaning: "What it means, in a sentence that has some length".to_owned(),
                remedy: "what to do about it, likewise".to_owned(),
            }),
            hops: vec![HopLoops {
                index: 2047,
                operator: Some("an operator with a long name".to_owned()),
                sent: 16_384,
                returned: 8_192,
                overdue: 8_192,
                loss: Some(Interval {
                    low: 0.492,
                    mid: 0.5,
                    high: 0.508,
                }),
                excess_us: Excess {
                    p50: Some(Bounded {
                        low: 19_500,
                        mid: 20_100,
                        high: Some(21_000),
                    }),
                    p99: Some(Bounded {
                        low: 80_000,
                        mid: 90_000,
                        high: None,
                    }),
                },
                state: HopState::Bad,
            }],
        };
        let drop = |reason: &str, per_s| Drop {
            source: "kernel".to_owned(),
            reason: reason.to_owned(),
            total: 1 << 46,
            per_s,
            meaning: "What happened, in a sentence that has some length.".to_owned(),
            remedy: "What to do about it, likewise.".to_owned(),
        };
        let drops = Drops {
            over_s: 59.6,
            drops: vec![
                drop("handshake_queue_full", Some(1_234.5)),
                drop("mac", None),
            ],
        };
        let worker = Worker {
            number: 63,
            turns: 1 << 46,
            received: 1 << 46,
            held: 1 << 24,
            pool: Pool {
                frames: 512,
                in_use: 128,
            },
            sessions: 1 << 16,
        };
        let workers = Workers {
            lateness_us: quantiles,
            hold_us: quantiles,
            workers: vec![worker],
        };
        let status = Status {
            version: "0.1.0".to_owned(),
            unix_ms: 0,
            state: State::Ready,
            not_ready: Vec::new(),
            network: "ab".repeat(16),
            epoch: 1,
            ends_unix_ms: 1_000,
            document: None,
            node: None,
            counters: None,
            rates: None,
            anonymity: None,
            warnings: Vec::new(),
            clock: None,
        };
        (loops, drops, workers, status)
    }

    #[test]
    fn the_page_of_drops_is_the_table_that_the_api_tells_from() {
        let page = include_str!("../../../../ansible/docs/drops.md");
        assert!(
            page == handover::meaning::page(),
            "make it anew: mixctl why-dropped --all > ansible/docs/drops.md"
        );
    }

    #[test]
    fn no_line_is_wider_than_the_screen() {
        let (of_loops, of_drops, workers, status) = told();
        for columns in 40..=120 {
            let screens = [
                loops(&of_loops, columns),
                drops(&of_drops, columns),
                top(&status, Some(&workers), Some(&of_drops), columns),
                top(&status, None, None, columns),
            ];
            for line in screens.iter().flat_map(|screen| screen.lines()) {
                assert!(line.chars().count() <= columns, "{columns}: {line}");
            }
        }
    }

    #[test]
    fn loss_is_said_with_how_certain_it_is_and_drops_with_what_to_do() {
        let (mut of_loops, mut of_drops, workers, status) = told();
        let text = loops(&of_loops, 120);
        for words in [
            "10.0 %",
            "from 1.8 to 40.4 %",
            "median 102 ms",
            "within 731 ms",
            "n-1 suspected",
            "node 2047 of an operator",
            "50.0   49.2–50.8",
            "2046 of 2047",
            "What it means",
            "what to do about it",
            "20.1",
        ] {
            assert!(text.contains(words), "{words}: {text}");
        }
        assert!(!text.contains("not measured"));
        of_loops.is_measured = false;
        assert!(loops(&of_loops, 120).contains("not measured now"));
        of_loops.loss = None;
        assert!(loops(&of_loops, 120).contains("not known yet"));
        of_loops.loops.interval_ms = 0;
        assert!(loops(&of_loops, 120).contains("nothing is known of loss"));
        let text = drops(&of_drops, 120);
        for words in ["1234/s", "What happened", "What to do", "rates over 60 s"] {
            assert!(text.contains(words), "{words}: {text}");
        }
        let text = top(&status, Some(&workers), Some(&of_drops), 120);
        for words in ["ready: it would", "25.0 %", "handshake_queue_full"] {
            assert!(text.contains(words), "{words}: {text}");
        }
        of_drops.drops.clear();
        assert_eq!(drops(&of_drops, 80), "nothing was dropped");
    }
}
