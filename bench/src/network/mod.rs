//! `mixbench network`: a laboratory of real nodes and up to a thousand clients and more, and whether what it does is what
//! theory says.
//!
//! Nodes are `mixctl lab`'s, one process each on 127.1.N.1; clients are production ones on one thread, each with a socket of
//! its own in 127.16 to 127.215. A tenth of them send files to each other. Between the others go probes: letters of one packet, given
//! at the moments of a Poisson process to a client that has none in line, so that a queue's law is not measured with them.
//! `Client::transmit` makes a packet in its slot; packets that are made ahead, as `fog` does, would be another law. All
//! times are of one clock.

mod crowd;
mod nodes;
mod report;
mod scaling;
mod theory;

use std::collections::BTreeMap;
use std::io;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::thread;
use std::time::Duration;

use directory::Role;
use operator::lab::{Bed, Options};
use program::signals::Stop;

use crate::clock;
use crate::envelope::{Envelope, Results, Session};
use crate::node::points::Quantiles;
use crowd::{Crowd, Files, Plan};
use nodes::Memory;
pub(crate) use report::{Report, Share};
pub(crate) use scaling::{By, Scale, Scaling};

/// What `mixbench network` is told.
#[derive(Clone, clap::Args)]
pub struct Arguments {
    /// Few clients for some seconds: nothing may get lost, and the law is not judged.
    #[arg(long)]
    quick: bool,
    /// Laboratories of several sizes, one after the other: with more users, more nodes, and nodes on fewer cores.
    #[arg(long, conflicts_with_all = ["clients", "mixes"])]
    scaling: bool,
    /// Clients.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(4..=10_000))]
    clients: Option<u16>,
    /// Slots a second of each.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rate: Option<u32>,
    /// Gateways.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(2..=14))]
    gateways: u16,
    /// Mixes in each of three layers.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=80))]
    mixes: u16,
    /// For how long probes are sent.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=86_400))]
    seconds: Option<u32>,
    /// Mean delay of a hop, milliseconds.
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    mean_delay: Option<u32>,
    /// Share of the clients that send files.
    #[arg(long, value_name = "P", default_value_t = 0.1, value_parser = share)]
    file_share: f64,
    /// Nodes drop each datagram with this probability: to see that it is noticed.
    #[arg(long, value_name = "P", default_value_t = 0.0, value_parser = share)]
    loss: f64,
    /// How long what is under way at the end is waited for, seconds.
    #[arg(long, value_name = "N")]
    patience: Option<u32>,
    /// UDP port of every node.
    #[arg(long, value_name = "NUMBER", default_value_t = 9_200, value_parser = clap::value_parser!(u16).range(1..))]
    udp_port: u16,
    /// Everything random that is not the nodes'.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(share) if (0.0..=0.5).contains(&share) => Ok(share),
        _ => Err("not from 0 to 0.5".to_owned()),
    }
}

/// How much is done.
struct Effort {
    clients: u16,
    rate_pps: u32,
    seconds: u32,
    mean_delay_ms: u32,
    epoch: Duration,
    /// Probes for each slot for letters: few, so that they hardly meet.
    probes: f64,
    joins_pps: f64,
    /// How long the last ones are waited for.
    patience: Duration,
}

const FULL: Effort = Effort {
    clients: 1_000,
    rate_pps: 4,
    seconds: 600,
    mean_delay_ms: 50,
    epoch: Duration::from_secs(60),
    probes: 0.05,
    joins_pps: 50.0,
    patience: Duration::from_secs(120),
};
const QUICK: Effort = Effort {
    clients: 20,
    rate_pps: 20,
    seconds: 5,
    mean_delay_ms: 10,
    epoch: Duration::from_secs(1_200),
    probes: 0.2,
    joins_pps: 50.0,
    patience: Duration::from_secs(60),
};

/// How long clients may take to attach, beyond the time in which they come.
const JOINING: Duration = Duration::from_secs(60);
/// Nodes that have just come into a document shake hands with each other yet, when there is something to send: what comes
/// to them meanwhile is lost.
pub(crate) const SETTLES: Duration = Duration::from_secs(10);
/// How often nodes and documents are looked after.
const TICK: Duration = Duration::from_millis(50);
const TICK_NS: u64 = 50_000_000;
const SECOND_NS: u64 = 1_000_000_000;

/// What the clients' thread is at.
const JOINS: u8 = 0;
const MEASURES: u8 = 1;
const WAITS: u8 = 2;

impl Effort {
    fn of(arguments: &Arguments) -> Effort {
        let usual = if arguments.quick { QUICK } else { FULL };
        Effort {
            clients: arguments.clients.unwrap_or(usual.clients),
            rate_pps: arguments.rate.unwrap_or(usual.rate_pps),
            seconds: arguments.seconds.unwrap_or(usual.seconds),
            mean_delay_ms: arguments.mean_delay.unwrap_or(usual.mean_delay_ms),
            patience: arguments
                .patience
                .map_or(usual.patience, |s| Duration::from_secs(s.into())),
            ..usual
        }
    }
}

/// What the clients saw.
#[derive(Clone, Debug)]
struct Seen {
    seconds: f64,
    probes_sent: u64,
    crowded: u64,
    /// Of the probes sent, by whether sender and recipient fetched a document then.
    fetching: [[u64; 2]; 2],
    took_us: Vec<f64>,
    files: Files,
    /// Those that had arrived when the last probe was given.
    files_meanwhile: u64,
    datagrams: u64,
    late: Quantiles,
    letters_pps: f64,
    granted_pps: f64,
    cpu_seconds: f64,
    troubles: Vec<String>,
}

/// What a laboratory did, and what its nodes took.
struct Lab {
    seen: Seen,
    /// Clients that sent files.
    busy: usize,
    port: String,
    /// Gateways, mixes, clients.
    cpu_seconds: [f64; 3],
    kernel_drops: u64,
    rss_bytes: Vec<u64>,
}

/// Runs a laboratory and measures it.
///
/// # Errors
/// The laboratory does not come up, a node ends, or clients find no gateway.
pub fn run(arguments: &Arguments) -> io::Result<Envelope> {
    let mut session = Session::begin(arguments.quick, 0);
    let stop = program::signals::of_terminal()?;
    if arguments.scaling {
        let scaling = scaling::run(arguments, &stop, &mut session)?;
        return Ok(session.end(Results::Scaling(scaling), BTreeMap::new()));
    }
    let effort = Effort::of(arguments);
    let lab = laboratory(arguments, &effort, None, &stop)?;
    let setting = report::Setting {
        clients: effort.clients,
        busy: lab.busy,
        rate_pps: effort.rate_pps,
        gateways: arguments.gateways,
        mixes: arguments.mixes,
        mean_delay_ms: effort.mean_delay_ms,
        port: lab.port,
        cpu_seconds: lab.cpu_seconds,
        kernel_drops: lab.kernel_drops,
        rss_bytes: lab.rss_bytes,
        seed: arguments.seed,
    };
    let law = setting.law(&lab.seen);
    let report = report::conclude(&setting, &lab.seen, law, &mut session);
    Ok(session.end(Results::Network(Box::new(report)), BTreeMap::new()))
}

/// Runs one; its nodes have so many cores, or all.
fn laboratory(
    arguments: &Arguments,
    effort: &Effort,
    cores: Option<usize>,
    stop: &Stop,
) -> io::Result<Lab> {
    let sockets = u64::from(effort.clients) + 256;
    program::limits::descriptors(sockets).map_err(io::Error::other)?;
    let options = options(arguments, effort)?;
    let start = || Bed::start(&options, stop).map_err(said);
    let mut bed = match cores {
        Some(cores) => clock::confined(cores, start)?,
        None => start(),
    }?;
    let (chain, consensus) = bed.documents().map_err(said)?;
    let (chain, consensus) = (chain.clone(), consensus.clone());
    let parameters = *chain.parameters();
    let processes: Vec<(Role, u32)> = bed.processes().collect();
    let plan = Plan {
        count: effort.clients.into(),
        rate_pps: effort.rate_pps.into(),
        joins_pps: effort.joins_pps,
        chain: &chain,
        consensus: &consensus,
        seed: arguments.seed,
    };
    // Pairs.
    let busy = (f64::from(effort.clients) * arguments.file_share / 2.0) as usize * 2;
    let (phase, halt) = (AtomicU8::new(JOINS), AtomicBool::new(false));
    let (mut memory, mut cpu, mut drops) = (Memory::default(), [[0.0; 2]; 2], [0; 2]);
    let seen = thread::scope(|scope| {
        let clients = scope.spawn(|| drive(&plan, effort, busy, &phase, &halt));
        let (mut at, mut trouble) = (JOINS, None);
        while !clients.is_finished() {
            if let Err(error) = bed.turn() {
                trouble = Some(said(error));
            }
            if trouble.is_some() || stop.is_asked() {
                halt.store(true, Ordering::Release);
            }
            memory.look(&processes, parameters.epoch_at(crowd::unix_ms()));
            let now = phase.load(Ordering::Acquire);
            if now != at && (now == MEASURES || now == WAITS) {
                let end = usize::from(now == WAITS);
                cpu[end] = nodes::cpu_by_role(&processes);
                drops[end] = nodes::kernel_drops();
                at = now;
            }
            thread::sleep(TICK);
        }
        if at != WAITS {
            // The last probe arrived at once.
            cpu[1] = nodes::cpu_by_role(&processes);
            drops[1] = nodes::kernel_drops();
        }
        let seen = clients
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the clients panicked")));
        trouble.map_or(seen, Err)
    })?;
    let by_role = |role: usize| cpu[1][role] - cpu[0][role];
    Ok(Lab {
        busy,
        port: bed.port().to_owned(),
        cpu_seconds: [by_role(0), by_role(1), seen.cpu_seconds],
        kernel_drops: drops[1].saturating_sub(drops[0]),
        rss_bytes: memory.peaks,
        seen,
    })
}

/// The subcommand that the laboratory starts its nodes by.
pub fn node(config: &std::path::Path, parent: u32) -> ExitCode {
    match operator::lab::child::run(config, parent, None) {
        Ok(code) => code,
        Err(failure) => {
            program::complain!("mixbench: {failure}");
            ExitCode::from(failure.code)
        }
    }
}

fn said(failure: impl std::fmt::Display) -> io::Error {
    io::Error::other(failure.to_string())
}

fn options(arguments: &Arguments, effort: &Effort) -> io::Result<Options> {
    #[derive(clap::Parser)]
    struct Flags {
        #[command(flatten)]
        options: Options,
    }
    let flags: Flags = clap::Parser::try_parse_from(["lab"]).map_err(io::Error::other)?;
    Ok(Options {
        mixes: arguments.mixes,
        gateways: arguments.gateways,
        clients: effort.clients,
        mean_delay: Duration::from_millis(effort.mean_delay_ms.into()),
        rate: effort.rate_pps,
        epoch: Some(effort.epoch),
        loss: arguments.loss,
        udp_port: arguments.udp_port,
        ..flags.options
    })
}

/// The clients' thread: all attach, probes and files go, the last of them arrive.
fn drive(
    plan: &Plan,
    effort: &Effort,
    busy: usize,
    phase: &AtomicU8,
    halt: &AtomicBool,
) -> io::Result<Seen> {
    let mut crowd = Crowd::new(plan)?;
    let joined_ns = (plan.count as f64 / plan.joins_pps * 1e9) as u64 + ns(JOINING);
    while crowd.attached() < plan.count {
        let now_ns = crowd.now_ns();
        if now_ns > joined_ns {
            let text = format!(
                "only {} of {} clients attached",
                crowd.attached(),
                plan.count
            );
            return Err(io::Error::other(text));
        }
        crowd.work(now_ns + TICK_NS, halt)?;
    }
    let settled_ns = crowd.now_ns() + ns(SETTLES);
    while crowd.now_ns() < settled_ns {
        crowd.work(settled_ns.min(crowd.now_ns() + TICK_NS), halt)?;
    }
    let (letters_pps, granted_pps) = crowd.slots_pps();
    let probes_pps = (plan.count - busy) as f64 * letters_pps * effort.probes;
    let (datagrams, cpu_ns) = (crowd.datagrams(), clock::thread_cpu_ns());
    crowd.late_us.reset();
    phase.store(MEASURES, Ordering::Release);
    let from_ns = crowd.now_ns();
    let until_ns = from_ns + u64::from(effort.seconds) * SECOND_NS;
    let (mut files_ns, mut next_ns) = (from_ns, from_ns + crowd.gap_ns(probes_pps));
    while crowd.now_ns() < until_ns {
        if crowd.now_ns() >= files_ns {
            crowd.send_files(busy);
            files_ns += SECOND_NS;
        }
        crowd.work(next_ns.min(files_ns).min(until_ns), halt)?;
        next_ns = crowd.give_probes(busy, probes_pps, next_ns, until_ns);
    }
    let seconds = (crowd.now_ns() - from_ns) as f64 / 1e9;
    let datagrams = crowd.datagrams() - datagrams;
    let files_meanwhile = crowd.files.delivered;
    let cpu_seconds = (clock::thread_cpu_ns() - cpu_ns) as f64 / 1e9;
    let late = Quantiles::of(&crowd.late_us);
    phase.store(WAITS, Ordering::Release);
    let patience_ns = crowd.now_ns() + ns(effort.patience);
    while !crowd.is_quiet() && crowd.now_ns() < patience_ns {
        let until_ns = crowd.now_ns() + TICK_NS;
        crowd.work(until_ns, halt)?;
    }
    Ok(Seen {
        seconds,
        probes_sent: crowd.probes_sent(),
        crowded: crowd.crowded,
        fetching: crowd.fetching,
        took_us: crowd.took_us.values().copied().collect(),
        files: crowd.files,
        files_meanwhile,
        datagrams,
        late,
        letters_pps,
        granted_pps,
        cpu_seconds,
        troubles: std::mem::take(&mut crowd.troubles),
    })
}

fn ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
