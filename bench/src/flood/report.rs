//! What a flood came to, as JSON and as a table.

use std::fmt::Write;
use std::ops::Range;

use mixnode::path::reason::Reason;
use serde::{Deserialize, Serialize};

use super::Phase;
use super::junk::Kind;
use crate::scene::place::SENDERS;

/// Everything `mixbench flood` says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Report {
    /// The node's port; only `xsk` has the XDP program before it.
    pub(crate) port: String,
    /// What shares which core.
    pub(crate) cores: String,
    /// Packets a second that the whole node forwards in lockstep on one core.
    pub(crate) capacity_pps: u32,
    /// Honest packets a second that were to be sent.
    pub(crate) honest_pps: u32,
    /// Honest packets a second that were sent without junk: less if the sending core is too slow.
    pub(crate) baseline_sent_pps: f64,
    /// Honest packets a second that were forwarded without junk.
    pub(crate) baseline_pps: f64,
    /// From a peer's send to the next hop's receive, microseconds, without junk.
    pub(crate) baseline_p99_us: u64,
    /// Where honest packets ended without junk, from the node's start.
    pub(crate) baseline_deaths: Vec<(String, u64)>,
    pub(crate) kinds: Vec<Row>,
}

/// One kind of junk.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Row {
    pub(crate) kind: String,
    /// Junk datagrams a second that were sent.
    pub(crate) junk_pps: f64,
    /// Share of honest packets forwarded, over that share without junk; of the peers in whose name no junk came.
    pub(crate) kept: f64,
    /// The same of the peer in whose name junk comes, if any does: peer 0.
    pub(crate) kept_attacked: f64,
    pub(crate) p99_us: u64,
    /// Where most of the junk ended: the part of the node, and its reason.
    pub(crate) died_at: String,
    /// All places where it ended, with counts.
    pub(crate) deaths: Vec<(String, u64)>,
    /// CPU time of worker and handshake thread beyond what the honest packets take, nanoseconds a junk datagram.
    pub(crate) cpu_ns_per_junk: f64,
    /// One run of the XDP program, nanoseconds, as the kernel measures it, on the core that takes the packets in.
    pub(crate) xdp_ns: Option<f64>,
}

impl Row {
    pub(super) fn new(kind: Kind, baseline: &Phase, phase: &Phase) -> Row {
        let kept = |peers: Range<usize>| {
            let share = |phase: &Phase| {
                let (forwarded, sent) = phase.honest(peers.clone());
                forwarded as f64 / sent.max(1) as f64
            };
            (share(phase) / share(baseline).max(1e-9) * 1_000.0).round() / 1_000.0
        };
        let forwarded = |phase: &Phase| phase.honest(0..SENDERS).0 as f64;
        let expected = baseline.cpu_ns as f64 / forwarded(baseline).max(1.0) * forwarded(phase);
        let extra = (phase.cpu_ns as f64 - expected).max(0.0) / phase.junk.max(1) as f64;
        let deaths = deaths(phase);
        Row {
            kind: kind.name().to_owned(),
            junk_pps: (phase.junk as f64 / phase.seconds).round(),
            kept: kept(1..SENDERS),
            kept_attacked: kept(0..1),
            p99_us: phase.p99_us(),
            died_at: deaths
                .first()
                .map_or_else(|| "nowhere".to_owned(), |(place, _)| place.clone()),
            deaths,
            cpu_ns_per_junk: extra.round(),
            xdp_ns: phase.program_ns.map(f64::round),
        }
    }
}

impl Row {
    /// Where most of the junk ended.
    #[cfg(test)]
    pub(super) fn died_at(&self) -> &str {
        &self.died_at
    }

    /// The places where more than a hundredth of it ended.
    fn places(&self) -> String {
        let all: u64 = self.deaths.iter().map(|(_, count)| count).sum();
        let most = self.deaths.iter().filter(|(_, count)| count * 100 > all);
        most.map(|(place, _)| place.as_str())
            .collect::<Vec<_>>()
            .join(", ")
    }
}

/// Where datagrams ended without being forwarded, the largest count first.
pub(super) fn deaths(phase: &Phase) -> Vec<(String, u64)> {
    let dropped = |name: &str| {
        ebpf_abi::Reason::ALL
            .iter()
            .any(|reason| reason.name() == name && reason.action() == ebpf_abi::Action::Drop)
    };
    let program = phase.program.iter().filter(|(name, _)| dropped(name));
    let mut deaths: Vec<(String, u64)> = program
        .map(|(name, count)| (format!("xdp: {name}"), *count))
        .collect();
    for reason in Reason::ALL {
        let place = match reason {
            Reason::LowOrder | Reason::Mac | Reason::Replay | Reason::ReplayFull => "sphinx",
            _ => "link",
        };
        let count = phase.ended.worker.rejected(*reason);
        deaths.push((format!("{place}: {}", reason.name()), count));
    }
    let handshakes = &phase.ended.handshakes;
    deaths.push(("handshake: refused".into(), handshakes.refused()));
    // Honest sessions are opened without the handshake thread.
    deaths.push(("handshake: half-open".into(), handshakes.accepted));
    deaths.push((
        "handshake: answered with a cookie".into(),
        handshakes.cookies,
    ));
    deaths.push(("xsk: ring full".into(), phase.ended.port.ring_full));
    deaths.push(("socket: dropped".into(), phase.ended.port.kernel_dropped));
    deaths.retain(|(_, count)| *count > 0);
    deaths.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    deaths
}

impl Report {
    /// For people.
    pub(crate) fn table(&self) -> String {
        let mut out = format!(
            "port      {}\ncores     {}\ncapacity  {} packets/s a core in lockstep\n\
             honest    {} packets/s wanted, {:.0} sent, {:.0} forwarded without junk, p99 {} µs\n\n",
            self.port,
            self.cores,
            self.capacity_pps,
            self.honest_pps,
            self.baseline_sent_pps,
            self.baseline_pps,
            self.baseline_p99_us
        );
        let _ = writeln!(
            out,
            "{:<28} {:>9} {:>6} {:>8} {:>9} {:>12} {:>7}  died at",
            "junk", "a second", "kept", "attacked", "p99 µs", "CPU ns each", "XDP ns"
        );
        for row in &self.kinds {
            let _ = writeln!(
                out,
                "  {:<26} {:>9.0} {:>6.3} {:>8.3} {:>9} {:>12.0} {:>7}  {}",
                row.kind,
                row.junk_pps,
                row.kept,
                row.kept_attacked,
                row.p99_us,
                row.cpu_ns_per_junk,
                row.xdp_ns.map_or("-".to_owned(), |ns| format!("{ns:.0}")),
                row.places()
            );
        }
        out
    }
}
