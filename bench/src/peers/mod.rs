//! `mixbench peers`: how many packets, and how many bytes of users, a core forwards with the node one would write around
//! the crate `sphinx-packet` on tokio, and with this one, in the same run.

mod rig;
mod tokio_sphinx;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::io;

use serde::{Deserialize, Serialize};

use crate::cases::{Case, Samples, measure};
use crate::clock;
use crate::envelope::{Envelope, Results, Session};
use crate::host;
use crate::lockstep;
use crate::rows::{micros, thousands};
use crate::scene::PortName;
use crate::stats::{Ratio, Spread};
use rig::{BARE, BATCH, Bare, Maker, Rig};
use tokio_sphinx::Options;

/// What `mixbench peers` is told.
#[derive(clap::Args)]
pub struct Arguments {
    /// Few rounds: seconds less, medians less steady.
    #[arg(long)]
    quick: bool,
    /// Bytes of a user's in each of the peer's packets; this node's carry 880.
    #[arg(long, default_value_t = OURS_PAYLOAD_BYTES, value_parser = payload)]
    payload: usize,
    /// Connections to the peer, and from it.
    #[arg(long, default_value_t = 32, value_parser = connections)]
    connections: usize,
}

fn payload(text: &str) -> Result<usize, String> {
    within(text, 1..=32_768)
}

fn connections(text: &str) -> Result<usize, String> {
    within(text, 1..=256)
}

fn within(text: &str, range: std::ops::RangeInclusive<usize>) -> Result<usize, String> {
    match text.parse() {
        Ok(value) if range.contains(&value) => Ok(value),
        _ => Err(format!("not from {} to {}", range.start(), range.end())),
    }
}

const ROUNDS: usize = 200;
const ROUNDS_QUICK: usize = 30;
/// What is left of a body for a user.
const OURS_PAYLOAD_BYTES: usize = sphinx::BODY_BYTES - sphinx::CHECK_BYTES;
/// What is left in the packets that Nym's network carries, 2,413 bytes each.
const THEIRS_PAYLOAD_BYTES: usize = 2_048;
/// A peer that reaches less of its own cryptography proves nothing.
const PEER_LEAST: f64 = 0.8;

const BARE_NAME: &str = "sphinx-packet process() alone";
const TOKIO: &str = "tokio + sphinx-packet, one core";

/// The nodes beside each other.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Report {
    /// Measurements that count.
    pub(crate) rounds: usize,
    pub(crate) connections: usize,
    /// Where this node's packets went; the peer's went over TCP on loopback.
    pub(crate) network: String,
    pub(crate) nodes: Vec<Row>,
}

/// One node, and what its job is.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) packets_per_s_core: f64,
    /// Users' bytes.
    pub(crate) goodput_bytes_per_s_core: f64,
    pub(crate) cpu_per_packet: Spread,
    /// Of users' bytes.
    pub(crate) cpu_ns_per_byte: f64,
    /// On the wire, without IP and UDP or TCP.
    pub(crate) datagram_bytes: usize,
    /// A user's in each packet.
    pub(crate) payload_bytes: usize,
    /// Multiplications on the curve that a hop does.
    pub(crate) hops_dh: u32,
    pub(crate) batching: String,
    pub(crate) replay: String,
    pub(crate) delay: String,
    pub(crate) links: String,
}

/// A node's job, in words.
struct Job {
    name: String,
    datagram_bytes: usize,
    payload_bytes: usize,
    hops_dh: u32,
    batching: &'static str,
    replay: &'static str,
    delay: &'static str,
    links: &'static str,
}

/// The builds of the peer: name, user's bytes, all cores, hash set.
fn builds(payload: usize) -> [(String, usize, bool, bool); 4] {
    [
        (TOKIO.to_owned(), payload, false, false),
        (format!("{TOKIO}, hash set"), payload, false, true),
        (
            "tokio + sphinx-packet, all cores, hash set".to_owned(),
            payload,
            true,
            true,
        ),
        (
            format!("{TOKIO}, hash set, 2,413 bytes"),
            THEIRS_PAYLOAD_BYTES,
            false,
            true,
        ),
    ]
}

/// Measures the nodes.
///
/// # Errors
/// Sockets can't be had, or packets got lost on the way.
pub fn run(arguments: &Arguments) -> io::Result<Envelope> {
    clock::pin_to_this_core()?;
    let rounds = match arguments.quick {
        true => ROUNDS_QUICK,
        false => ROUNDS,
    };
    measured(arguments, rounds)
}

fn measured(arguments: &Arguments, rounds: usize) -> io::Result<Envelope> {
    let mut session = Session::begin(arguments.quick, 2);
    let wanted = [PortName::Plain, PortName::Xsk];
    let (mut cases, network) = lockstep::node_cases(&wanted, &mut session.skipped)?;
    session.skipped.retain(|skipped| skipped.what != "uring");
    let mut jobs: Vec<Job> = cases.iter().map(|case| ours(&case.name)).collect();
    // This thread keeps to its core, so the peer's has another if there is one.
    let core = clock::another_core(host::cores());
    let bare = Maker::new(arguments.connections, arguments.payload);
    jobs.push(theirs(BARE_NAME, &bare, arguments.payload, "none", "none"));
    cases.push(Case::new(BARE_NAME, BARE, Bare::new(bare)));
    for (name, payload, all_cores, remembers) in builds(arguments.payload) {
        let maker = Maker::new(arguments.connections, payload);
        let replay = if remembers { "hash set" } else { "none" };
        jobs.push(theirs(&name, &maker, payload, replay, "DelayQueue"));
        let options = Options {
            all_cores,
            remembers,
            core,
        };
        cases.push(Case::new(&name, BATCH, Rig::new(maker, options)?));
    }
    let (samples, warning) = measure(&mut cases, rounds)?;
    session.warnings.extend(warning);
    let ratios = ratios(&samples);
    session.warnings.extend(slow_peer(&ratios));
    let nodes = samples.iter().zip(jobs);
    let report = Report {
        rounds,
        connections: arguments.connections,
        network: network.to_owned(),
        nodes: nodes.map(|(samples, job)| Row::new(samples, job)).collect(),
    };
    Ok(session.end(Results::Peers(report), ratios))
}

fn ours(port: &str) -> Job {
    Job {
        name: format!("this node, {port}"),
        datagram_bytes: link::DATAGRAM_BYTES,
        payload_bytes: OURS_PAYLOAD_BYTES,
        hops_dh: 1,
        batching: "64 packets, eight lanes where the CPU has them",
        replay: "table of 64-bit fingerprints",
        delay: "timing wheel, released shuffled",
        links: "datagrams, AES-256-GCM",
    }
}

fn theirs(
    name: &str,
    maker: &Maker,
    payload_bytes: usize,
    replay: &'static str,
    delay: &'static str,
) -> Job {
    Job {
        name: name.to_owned(),
        datagram_bytes: maker.packet_bytes(),
        payload_bytes,
        hops_dh: 2,
        batching: "none",
        replay,
        delay,
        links: match name == BARE_NAME {
            true => "none",
            false => "TCP, not encrypted",
        },
    }
}

impl Row {
    fn new(samples: &Samples, job: Job) -> Row {
        let spread = Spread::of(&samples.ns);
        let packets = 1e9 / spread.median_ns;
        let per_byte = spread.median_ns / job.payload_bytes as f64;
        Row {
            name: job.name,
            packets_per_s_core: packets.round(),
            goodput_bytes_per_s_core: (packets * job.payload_bytes as f64).round(),
            cpu_per_packet: spread,
            cpu_ns_per_byte: (per_byte * 100.0).round() / 100.0,
            datagram_bytes: job.datagram_bytes,
            payload_bytes: job.payload_bytes,
            hops_dh: job.hops_dh,
            batching: job.batching.to_owned(),
            replay: job.replay.to_owned(),
            delay: job.delay.to_owned(),
            links: job.links.to_owned(),
        }
    }
}

/// How many times as many packets a core forwards; and what the peer reaches of its own cryptography.
fn ratios(samples: &[Samples]) -> BTreeMap<String, Ratio> {
    let of = |name: &str| {
        let found = samples.iter().find(|one| one.name == name);
        found.map(|one| one.ns.as_slice())
    };
    let remembering = format!("{TOKIO}, hash set");
    let compared = [
        ("tokio_of_bare_process", BARE_NAME, TOKIO),
        ("plain_vs_tokio", TOKIO, "plain"),
        ("xsk_vs_tokio", TOKIO, "xsk"),
        ("plain_vs_tokio_hash_set", &remembering, "plain"),
        ("xsk_vs_tokio_hash_set", &remembering, "xsk"),
    ];
    compared
        .into_iter()
        .filter_map(|(name, slow, fast)| Some((name.to_owned(), Ratio::of(of(slow)?, of(fast)?))))
        .collect()
}

/// Says so if the peer is slower than it should be.
fn slow_peer(ratios: &BTreeMap<String, Ratio>) -> Option<String> {
    let reached = ratios.get("tokio_of_bare_process")?;
    (reached.median < PEER_LEAST).then(|| {
        format!(
            "the tokio node reaches {:.2} of what its cryptography alone does, less than {PEER_LEAST}: a slow peer proves nothing",
            reached.median
        )
    })
}

impl Report {
    /// For people.
    pub(crate) fn table(&self) -> String {
        let mut out = format!(
            "rounds   {}, CPU time of the nodes' threads, cases interleaved\nnetwork  this node: {}; tokio: TCP on loopback, {} connections each way\n\n",
            self.rounds, self.network, self.connections
        );
        let _ = writeln!(
            out,
            "  {:<54} {:>9} {:>17} {:>10} {:>8} {:>9}",
            "", "µs", "its 95 %", "packets/s", "MB/s", "ns a byte"
        );
        for row in &self.nodes {
            let _ = writeln!(
                out,
                "  {:<54} {:>9} {:>17} {:>10} {:>8.1} {:>9.2}",
                row.name,
                micros(row.cpu_per_packet.median_ns),
                row.cpu_per_packet.median_95_ns.map(micros).join(" to "),
                thousands(row.packets_per_s_core),
                row.goodput_bytes_per_s_core / 1e6,
                row.cpu_ns_per_byte
            );
        }
        out.push_str("\n  The jobs differ:\n");
        for row in &self.nodes {
            let _ = writeln!(
                out,
                "  {:<54} {} of {} bytes a user's; DH a hop: {}; batches: {}; replay: {}; delay: {}; links: {}",
                row.name,
                row.payload_bytes,
                row.datagram_bytes,
                row.hops_dh,
                row.batching,
                row.replay,
                row.delay,
                row.links
            );
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_node_and_the_peer_are_measured_in_one_run_and_their_jobs_told_apart() {
        let arguments = Arguments {
            quick: true,
            payload: OURS_PAYLOAD_BYTES,
            connections: 4,
        };
        let envelope = measured(&arguments, 1).unwrap();
        let json = crate::envelope::assert_valid(&envelope);
        let nodes = json["results"]["nodes"].as_array().unwrap();
        let of = |name: &str| nodes.iter().find(|row| row["name"] == name).unwrap();
        assert_eq!(of("this node, plain")["hops_dh"], 1);
        assert_eq!(of(TOKIO)["hops_dh"], 2);
        assert_eq!(
            of(TOKIO)["payload_bytes"],
            of("this node, plain")["payload_bytes"]
        );
        let large = format!("{TOKIO}, hash set, 2,413 bytes");
        assert_eq!(of(&large)["datagram_bytes"], 2_413);
        assert!(json["ratios"]["plain_vs_tokio"]["median"].as_f64().unwrap() > 0.0);
        assert!(envelope.text().contains("The jobs differ"));
    }

    #[test]
    fn a_peer_that_is_slow_is_told() {
        let ratios = |slow: f64| {
            let one = |name: &str, ns| Samples {
                name: name.into(),
                batch: None,
                ns: vec![ns; 5],
            };
            ratios(&[one(BARE_NAME, 160.0), one(TOKIO, slow), one("plain", 16.0)])
        };
        assert_eq!(slow_peer(&ratios(190.0)), None);
        assert!(slow_peer(&ratios(210.0)).unwrap().contains("0.76"));
        assert_eq!(ratios(190.0)["plain_vs_tokio"].median, 11.875);
    }

    #[test]
    fn a_number_out_of_range_is_refused() {
        assert_eq!(connections("32"), Ok(32));
        assert!(connections("0").is_err());
        assert!(payload("many").is_err());
    }
}
