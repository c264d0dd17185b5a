//! What a laboratory came to, and what of it is wrong.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::{Deserialize, Serialize};

use super::Seen;
use super::crowd::{FILE_BYTES, LOOP_SHARE};
use super::nodes;
use super::theory::{self, DISTANCE_MOST, HELD, Law, PROBES_LEAST, Verdict};
use crate::envelope::{Session, Skipped};
use crate::node::points::Quantiles;
use crate::rows::thousands;
use crate::stats::median;

/// Points of the drawing, at equal shares of the law.
const POINTS: usize = 48;
/// Memory may grow so many times from the third and fourth epoch to the last two.
const GROWTH_MOST: f64 = 1.02;
/// A slot that is filled later than this in one of a hundred cases makes figures of a busy machine.
const LATE_MOST_US: u64 = 5_000;

/// All that was measured.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Report {
    pub(crate) clients: u16,
    pub(crate) rate_pps: u32,
    pub(crate) gateways: u16,
    pub(crate) mixes: u16,
    pub(crate) mean_delay_ms: u32,
    pub(crate) port: String,
    /// For how long probes were sent.
    pub(crate) probing_seconds: f64,
    /// Datagrams that clients sent meanwhile.
    pub(crate) datagrams: u64,
    pub(crate) probes: Probes,
    pub(crate) files: FileCounts,
    pub(crate) lost_messages: u64,
    /// From the client's hands to the recipient's.
    pub(crate) one_way: Quantiles,
    pub(crate) theory: Theory,
    /// How late clients filled their slots.
    pub(crate) late: Quantiles,
    /// Of the time in which probes were sent.
    pub(crate) cpu_s_by_role: BTreeMap<String, f64>,
    /// Datagrams that the kernel had no room for, of all sockets.
    pub(crate) kernel_drops: u64,
    /// Most memory of all nodes together, by epoch; the last is not whole.
    pub(crate) rss_bytes: Vec<u64>,
    /// The last two whole epochs' over the third's and fourth's.
    pub(crate) memory_growth: Option<f64>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Probes {
    pub(crate) sent: u64,
    pub(crate) delivered: u64,
    /// Not sent, for another was in line.
    pub(crate) crowded: u64,
    /// So many are by the law.
    pub(crate) crowded_by_law: f64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FileCounts {
    pub(crate) senders: u64,
    pub(crate) file_bytes: u64,
    pub(crate) sent: u64,
    pub(crate) delivered: u64,
    /// Those that arrived while probes were sent.
    pub(crate) delivered_meanwhile: u64,
    pub(crate) chunks_retransmitted: u64,
    /// Of those.
    pub(crate) goodput_bytes_per_s: f64,
}

/// The law of one-way times, and how far what was measured is from it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Theory {
    pub(crate) distribution: String,
    pub(crate) letters_pps: f64,
    pub(crate) stream_pps: f64,
    /// Of that, what else comes to a recipient.
    pub(crate) mail_pps: f64,
    /// Of the probes, whose senders fetched a document.
    pub(crate) fetching_share: f64,
    pub(crate) ks_d: f64,
    pub(crate) ks_d_most: f64,
    pub(crate) n: u64,
    /// Probes that all take so much longer are still near enough.
    pub(crate) unseen_us: f64,
    pub(crate) is_judged: bool,
    /// Why not, if not.
    pub(crate) why_not_judged: Option<String>,
    /// Median measured, less that of the law.
    pub(crate) added_us: f64,
    /// Share of one-way times up to each.
    pub(crate) shares: Vec<Share>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Share {
    pub(crate) one_way_us: f64,
    pub(crate) measured: f64,
    pub(crate) law: f64,
}

/// What was set up, and what its nodes took.
pub(super) struct Setting {
    pub(super) clients: u16,
    /// Those that send files.
    pub(super) busy: usize,
    pub(super) rate_pps: u32,
    pub(super) gateways: u16,
    pub(super) mixes: u16,
    pub(super) mean_delay_ms: u32,
    pub(super) port: String,
    /// Gateways, mixes, clients.
    pub(super) cpu_seconds: [f64; 3],
    pub(super) kernel_drops: u64,
    pub(super) rss_bytes: Vec<u64>,
    pub(super) seed: u64,
}

impl Setting {
    /// Clients that send probes and get them.
    fn quiet(&self) -> f64 {
        (usize::from(self.clients) - self.busy).max(1) as f64
    }

    /// Probes that were to be sent, and how many for each slot for letters.
    fn given(&self, seen: &Seen) -> (u64, f64) {
        let given = seen.probes_sent + seen.crowded;
        let slots = seen.letters_pps * self.quiet() * seen.seconds;
        (given, given as f64 / slots)
    }

    /// The law that probes here should follow.
    pub(super) fn law(&self, seen: &Seen) -> Law {
        let probes_pps = seen.probes_sent as f64 / seen.seconds / self.quiet();
        let loops_pps = f64::from(self.rate_pps) * LOOP_SHARE;
        let sent = seen.fetching.iter().flatten().sum::<u64>().max(1) as f64;
        Law {
            mean_us: f64::from(self.mean_delay_ms) * 1e3,
            letters_pps: seen.letters_pps,
            stream_pps: seen.granted_pps,
            mail_pps: loops_pps + probes_pps,
            fetching: seen.fetching.map(|of| of.map(|count| count as f64 / sent)),
        }
    }
}

/// Why what was measured is not judged, and how many probes would find another in line by the law.
fn doubt(setting: &Setting, seen: &Seen, verdict: &Verdict) -> (Option<String>, f64) {
    let (given, per_slot) = setting.given(seen);
    let share = |count: f64| count / given.max(1) as f64;
    let fetching = setting.law(seen).senders_fetching();
    let by_law = theory::crowded_of(per_slot, fetching) * given as f64;
    let crowded = seen.crowded as f64;
    let why = if !verdict.is_enough {
        let arrived = seen.took_us.len();
        Some(format!(
            "it takes {PROBES_LEAST} probes to tell, and {arrived} arrived"
        ))
    } else if share(crowded) > theory::crowded_most(per_slot, fetching, given) {
        Some(format!(
            "{:.1} % of the probes found another in line and were not sent, {:.1} % are by the law: those that were sent had luck",
            share(crowded) * 100.0,
            share(by_law) * 100.0
        ))
    } else {
        None
    };
    (why, by_law)
}

/// Makes the report, and says what is wrong or doubtful.
pub(super) fn conclude(setting: &Setting, seen: &Seen, law: Law, session: &mut Session) -> Report {
    let mut sorted = seen.took_us.clone();
    sorted.sort_by(f64::total_cmp);
    let draws = law.all(setting.seed);
    let verdict = theory::judge(&sorted, &draws);
    let (sent, delivered) = (seen.probes_sent, seen.took_us.len() as u64);
    let files = &seen.files;
    let lost_files = files.sent.saturating_sub(files.delivered);
    let lost = sent.saturating_sub(delivered) + lost_files;
    let growth = nodes::growth(&setting.rss_bytes);
    if lost > 0 {
        session.failures.push(format!(
            "{lost} messages got lost: {} of {sent} probes, {lost_files} of {} files",
            sent.saturating_sub(delivered),
            files.sent
        ));
    }
    if verdict.is_enough && !verdict.is_near {
        session.failures.push(format!(
            "one-way times are not what the law says: D = {:.4} of {delivered} probes, {DISTANCE_MOST} is too much",
            verdict.distance
        ));
    }
    let (why_not_judged, crowded_by_law) = doubt(setting, seen, &verdict);
    if let Some(why) = &why_not_judged {
        let what = "whether one-way times follow the law";
        session.skipped.push(Skipped::new(what, why));
        // A short run has few.
        if verdict.is_enough || !session.quick() {
            session
                .failures
                .push(format!("{what} is not judged: {why}"));
        }
    }
    match growth {
        Ok(growth) if growth > GROWTH_MOST => session.failures.push(format!(
            "the nodes' memory grew {:.1} % from the third and fourth epoch to the last two",
            (growth - 1.0) * 100.0
        )),
        Ok(_) => {}
        Err(why) => session
            .skipped
            .push(Skipped::new("whether memory stays", why)),
    }
    if seen.late.p99_us > LATE_MOST_US {
        session.warnings.push(format!(
            "one slot of a hundred was filled {} µs late or later: the machine was busy with something else",
            seen.late.p99_us
        ));
    }
    session
        .warnings
        .extend(seen.troubles.iter().take(5).cloned());
    let round = |value: f64, parts: f64| (value * parts).round() / parts;
    let [gateways_s, mixes_s, clients_s] = setting.cpu_seconds;
    let roles = [
        ("gateways", gateways_s),
        ("mixes", mixes_s),
        ("clients", clients_s),
    ];
    let middle = |values: &[f64]| {
        if values.is_empty() {
            0.0
        } else {
            median(values)
        }
    };
    Report {
        clients: setting.clients,
        rate_pps: setting.rate_pps,
        gateways: setting.gateways,
        mixes: setting.mixes,
        mean_delay_ms: setting.mean_delay_ms,
        port: setting.port.clone(),
        probing_seconds: round(seen.seconds, 10.0),
        datagrams: seen.datagrams,
        probes: Probes {
            sent,
            delivered,
            crowded: seen.crowded,
            crowded_by_law: round(crowded_by_law, 1.0),
        },
        files: FileCounts {
            senders: setting.busy as u64,
            file_bytes: FILE_BYTES as u64,
            sent: files.sent,
            delivered: files.delivered,
            delivered_meanwhile: seen.files_meanwhile,
            chunks_retransmitted: files.retransmitted,
            goodput_bytes_per_s: round(
                seen.files_meanwhile as f64 * FILE_BYTES as f64 / seen.seconds,
                1.0,
            ),
        },
        lost_messages: lost,
        one_way: quantiles(&sorted),
        theory: Theory {
            distribution: format!(
                "four delays of {} ms on average, cut at ten times that, and waits for slots, {:.2} and {:.2} a second, less {:.2} of other mail and what the {:.0} % take that fetch a document",
                setting.mean_delay_ms,
                law.letters_pps,
                law.stream_pps,
                law.mail_pps,
                law.senders_fetching() * 100.0
            ),
            letters_pps: round(law.letters_pps, 1e3),
            stream_pps: round(law.stream_pps, 1e3),
            mail_pps: round(law.mail_pps, 1e3),
            fetching_share: round(law.senders_fetching(), 1e3),
            ks_d: round(verdict.distance, 1e5),
            ks_d_most: DISTANCE_MOST,
            n: delivered,
            unseen_us: round(theory::unseen_us(&draws), 1.0),
            is_judged: why_not_judged.is_none(),
            why_not_judged,
            added_us: round(middle(&sorted) - middle(&draws), 1.0),
            shares: shares(&sorted, &draws),
        },
        late: seen.late,
        cpu_s_by_role: roles
            .map(|(role, s)| (role.to_owned(), round(s, 100.0)))
            .into(),
        kernel_drops: setting.kernel_drops,
        rss_bytes: setting.rss_bytes.clone(),
        memory_growth: growth.ok().map(|growth| round(growth, 1e4)),
    }
}

pub(super) fn quantiles(sorted_us: &[f64]) -> Quantiles {
    let at = |part: f64| {
        let place = (sorted_us.len().saturating_sub(1) as f64 * part).round() as usize;
        sorted_us.get(place).copied().unwrap_or(0.0) as u64
    };
    Quantiles {
        count: sorted_us.len() as u64,
        p50_us: at(0.5),
        p99_us: at(0.99),
        p999_us: at(0.999),
        max_us: at(1.0),
    }
}

fn shares(sorted_us: &[f64], law_us: &[f64]) -> Vec<Share> {
    let point = |number: usize| {
        let place = (law_us.len() * number / POINTS).min(law_us.len() - 1);
        let one_way_us = law_us[place];
        let below = sorted_us.partition_point(|us| *us <= one_way_us);
        let rounded = |share: f64| (share * 1e4).round() / 1e4;
        Share {
            one_way_us: one_way_us.round(),
            measured: rounded(below as f64 / sorted_us.len().max(1) as f64),
            law: rounded(number as f64 / POINTS as f64),
        }
    };
    (1..POINTS).map(point).collect()
}

impl Report {
    /// How long hops hold a probe on average, milliseconds.
    pub(crate) fn held_ms(&self) -> f64 {
        f64::from(self.mean_delay_ms) * HELD as f64
    }

    /// For people.
    pub(crate) fn table(&self) -> String {
        let Report {
            probes,
            files,
            theory,
            ..
        } = self;
        let ms = |us: u64| us as f64 / 1e3;
        let mut out = format!(
            "network  {} clients at {}/s, {} gateways, {} mixes a layer, {} ms a hop, port {}, {:.0} s\n\n",
            thousands(f64::from(self.clients)),
            self.rate_pps,
            self.gateways,
            self.mixes,
            self.mean_delay_ms,
            self.port,
            self.probing_seconds
        );
        let mut line = |name: &str, text: String| {
            let _ = writeln!(out, "  {name:<14} {text}");
        };
        line(
            "probes",
            format!(
                "{} sent, {} delivered; {} not sent, for another was in line, {} by the law",
                thousands(probes.sent as f64),
                thousands(probes.delivered as f64),
                thousands(probes.crowded as f64),
                thousands(probes.crowded_by_law)
            ),
        );
        line(
            "files",
            format!(
                "{} sent, {} delivered, {} chunks again, {} bytes/s",
                thousands(files.sent as f64),
                thousands(files.delivered as f64),
                thousands(files.chunks_retransmitted as f64),
                thousands(files.goodput_bytes_per_s)
            ),
        );
        line(
            "lost",
            format!(
                "{} messages; {} datagrams for want of room in a socket",
                self.lost_messages, self.kernel_drops
            ),
        );
        line(
            "one way",
            format!(
                "p50 {:.1} ms, p99 {:.1} ms, p99.9 {:.1} ms, most {:.1} ms",
                ms(self.one_way.p50_us),
                ms(self.one_way.p99_us),
                ms(self.one_way.p999_us),
                ms(self.one_way.max_us)
            ),
        );
        line("law", theory.distribution.clone());
        let judged = match theory.is_judged {
            true => "",
            false => " and it is not judged",
        };
        line(
            "D",
            format!(
                "{:.4} of {} probes, less than {} is asked{judged}; {:.0} ms more for each would not be seen, the median is {:.1} ms off",
                theory.ks_d,
                thousands(theory.n as f64),
                theory.ks_d_most,
                theory.unseen_us / 1e3,
                theory.added_us / 1e3
            ),
        );
        let cpu = self.cpu_s_by_role.iter();
        let cpu = cpu.map(|(role, seconds)| format!("{role} {seconds:.1} s"));
        line("CPU", cpu.collect::<Vec<_>>().join(", "));
        let memory = self.rss_bytes.iter();
        let memory = memory.map(|bytes| format!("{:.1}", *bytes as f64 / 1e6));
        line(
            "memory, MB",
            format!("{} by epoch", memory.collect::<Vec<_>>().join(", ")),
        );
        line(
            "late slots",
            format!(
                "p50 {} µs, p99 {} µs, most {} µs",
                thousands(self.late.p50_us as f64),
                thousands(self.late.p99_us as f64),
                thousands(self.late.max_us as f64)
            ),
        );
        out
    }
}

#[cfg(test)]
mod tests;
