//! What a generator did, as JSON and as a table.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

use crate::envelope::Session;
use crate::hdr;
use crate::node::points::{Quantiles, counts};
use crate::rows::thousands;

use super::generator::{Load, Outcome};

/// Everything `mixbench pktgen` says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Report {
    /// `packets`, or the kind of junk.
    pub(crate) what: String,
    pub(crate) target: String,
    /// What the datagrams left by.
    pub(crate) via: String,
    pub(crate) flows: usize,
    pub(crate) wanted_pps: f64,
    /// From the first datagram to the last.
    pub(crate) sending_seconds: f64,
    pub(crate) sent: u64,
    /// Sent a second.
    pub(crate) pps: f64,
    /// Datagrams that neither the port nor the kernel had room for, or that it refused.
    pub(crate) send_errors: u64,
    /// Datagrams that were not sent, for their time had passed before the generator came to them.
    pub(crate) behind: u64,
    /// Of valid packets alone, as all below.
    pub(crate) returned: Option<u64>,
    /// From here to here, by way of all hops and their delays.
    pub(crate) loop_us: Option<Quantiles>,
    /// The same less the delays that each packet asked for.
    pub(crate) added: Option<Quantiles>,
    /// All of `loop_us`: microseconds, and how many packets, to three digits.
    pub(crate) loop_us_counts: Option<Vec<(u64, u64)>>,
    /// The same as other programs read it: HdrHistogram V2 in base64.
    pub(crate) loop_us_histogram: Option<String>,
}

/// How it was asked to.
pub(super) struct Setting {
    pub(super) what: String,
    pub(super) target: String,
    pub(super) via: &'static str,
    pub(super) flows: usize,
    pub(super) pps: f64,
}

impl Report {
    pub(super) fn new(setting: Setting, outcome: &Outcome, load: &Load) -> Report {
        let loops = match load {
            Load::Loops(loops, _) => Some(loops),
            Load::Junk(_) | Load::Short(_) => None,
        };
        let seconds = outcome.seconds.max(1e-9);
        Report {
            what: setting.what,
            target: setting.target,
            via: setting.via.to_owned(),
            flows: setting.flows,
            wanted_pps: setting.pps,
            sending_seconds: (outcome.seconds * 1_000.0).round() / 1_000.0,
            sent: outcome.sent,
            pps: (outcome.sent as f64 / seconds).round(),
            send_errors: outcome.send_errors,
            behind: outcome.behind,
            returned: loops.map(|loops| loops.returned),
            loop_us: loops.map(|loops| Quantiles::of(&loops.loop_us)),
            added: loops.map(|loops| Quantiles::of(&loops.added_us)),
            loop_us_counts: loops.map(|loops| counts(&loops.loop_us)),
            loop_us_histogram: loops.map(|loops| hdr::base64_v2(&loops.loop_us)),
        }
    }

    /// Says what makes the figures doubtful, or wrong.
    /// In a laboratory, whose nodes have nothing else to do, most packets come back.
    pub(super) fn judge(&self, is_lab: bool, session: &mut Session) {
        if self.behind * 100 > self.sent + self.behind {
            session.warnings.push(format!(
                "the generator did not keep up: {} of {} datagrams were not sent, for their time had passed",
                thousands(self.behind as f64),
                thousands((self.sent + self.send_errors + self.behind) as f64)
            ));
        }
        if self.send_errors > 0 {
            session.warnings.push(format!(
                "{} datagrams did not leave: the port or the kernel had no room, or refused them",
                thousands(self.send_errors as f64)
            ));
        }
        let Some(returned) = self.returned else {
            return;
        };
        let lost = self.sent.saturating_sub(returned);
        let told = format!(
            "{} of {} packets did not come back, and times are those of the others alone",
            thousands(lost as f64),
            thousands(self.sent as f64)
        );
        if self.sent > 0 && returned == 0 {
            let what =
                "no packet came back: the target does not forward, or what follows it does not";
            session.failures.push(what.to_owned());
        } else if is_lab && lost > returned {
            session.failures.push(told);
        } else if lost > 0 {
            session.warnings.push(told);
        }
    }

    /// For people.
    pub(crate) fn table(&self) -> String {
        let mut out = format!(
            "\n  {} to {} via {}, {} flow{}\n",
            self.what.replace('_', " "),
            self.target,
            self.via,
            self.flows,
            if self.flows == 1 { "" } else { "s" },
        );
        let mut row = |name: &str, value: String| {
            let _ = writeln!(out, "  {name:<28} {value:>12}");
        };
        row("asked for, a second", thousands(self.wanted_pps));
        row("sent", thousands(self.sent as f64));
        row("sent, a second", thousands(self.pps));
        row("behind, not sent", thousands(self.behind as f64));
        row("send errors", thousands(self.send_errors as f64));
        if let Some(returned) = self.returned {
            row("came back", thousands(returned as f64));
        }
        let spreads = [
            ("whole loop", &self.loop_us),
            ("less its delays", &self.added),
        ];
        for (name, spread) in spreads {
            if let Some(spread) = spread.as_ref().filter(|spread| spread.count > 0) {
                let _ = writeln!(
                    out,
                    "  {name:<28} p50 {} µs, p99 {} µs, p99.9 {} µs, max {} µs",
                    thousands(spread.p50_us as f64),
                    thousands(spread.p99_us as f64),
                    thousands(spread.p999_us as f64),
                    thousands(spread.max_us as f64),
                );
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::envelope::{Results, assert_valid};

    fn report(sent: u64, behind: u64, returned: Option<u64>) -> Report {
        let spread = || {
            returned.map(|count| Quantiles {
                count,
                p50_us: 80_000,
                p99_us: 200_000,
                p999_us: 300_000,
                max_us: 300_000,
            })
        };
        Report {
            what: "packets".into(),
            target: "127.1.3.1:9000".into(),
            via: "plain".into(),
            flows: 1,
            wanted_pps: 1_000.0,
            sending_seconds: 1.0,
            sent,
            pps: sent as f64,
            send_errors: 0,
            behind,
            returned,
            loop_us: spread(),
            added: spread(),
            loop_us_counts: returned.map(|count| vec![(80_000, count)]),
            loop_us_histogram: returned.map(|_| String::new()),
        }
    }

    /// Warnings and failures.
    fn judged(report: Report, is_lab: bool) -> (Vec<String>, Vec<String>) {
        let mut session = Session::begin(true, 0);
        report.judge(is_lab, &mut session);
        let envelope = session.end(Results::Pktgen(report), BTreeMap::new());
        assert_valid(&envelope);
        let text = envelope.text();
        assert!(text.contains("behind, not sent"), "{text}");
        (envelope.warnings, envelope.failures)
    }

    #[test]
    fn a_generator_that_lags_is_told() {
        let lagged = |(warnings, _): &(Vec<String>, Vec<String>)| {
            let mut warnings = warnings.iter();
            warnings.any(|warning| warning.contains("did not keep up"))
        };
        assert!(lagged(&judged(report(980, 20, None), false)));
        assert!(!lagged(&judged(report(995, 5, None), false)));
    }

    #[test]
    fn packets_none_of_which_came_back_are_a_failure_and_junk_is_none() {
        let failures = |returned, is_lab| judged(report(1_000, 0, returned), is_lab).1;
        assert_eq!(failures(Some(0), false).len(), 1);
        assert_eq!(failures(Some(1), false), Vec::<String>::new());
        assert_eq!(failures(None, true), Vec::<String>::new());
        // Figures of a few that were left are of no use.
        let said = failures(Some(499), true);
        assert!(said[0].starts_with("501 of 1,000 packets"), "{said:?}");
        assert_eq!(failures(Some(500), true), Vec::<String>::new());
        let warned = |returned| {
            let (warnings, _) = judged(report(1_000, 0, Some(returned)), true);
            warnings
                .iter()
                .any(|said| said.contains("did not come back"))
        };
        assert!(warned(999) && !warned(1_000));
    }
}
