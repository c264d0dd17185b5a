//! `mixctl lab`: a whole network on this machine, unprivileged, one small process a node.
//!
//! The lab's parent is the authority: it signs a document an epoch into a folder that the nodes watch. With
//! `--authorities` it follows several processes that agree on it: see [`authorities`].
//! Node N listens on 127.1.N.1 and is its own operator. Everything ends with the parent. With `--xdp`, as root, each
//! node is on a host of its own: see [`hosts`].

mod authorities;
mod bed;
pub mod child;
mod folder;
mod hint;
mod hosts;
mod network;
mod node;
mod options;
mod printer;
mod status;
mod summary;
mod table;
mod transfer;

use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

pub use self::bed::Bed;
use self::child::Node;
use self::folder::Folder;
use self::hosts::Hosts;
use self::network::{Lock, Network};
pub use self::options::{GATEWAYS, Options, UDP_PORT};
use self::status::Status;
use self::table::{Row, Screen};
use self::transfer::{Outcome, Transfer};
use crate::duration;
use control::exit::{self, Failure};
use program::signals::{self, Stop};

/// How often signals, children and the transfer are looked at.
const TICK: Duration = Duration::from_millis(50);
/// How often the table is drawn.
const DRAW: Duration = Duration::from_millis(1_000);
/// How often a line is printed where there is no terminal.
const LINE: Duration = Duration::from_secs(10);

/// Descriptors that a node takes in the lab's own process, and those beside them.
const NODE_DESCRIPTORS: u64 = 6;
const DESCRIPTORS: u64 = 64;
/// Between two starts of one node.
const RESTART_PAUSE: Duration = Duration::from_secs(1);

/// Runs a lab until the transfer ends, or without one until Ctrl-C.
///
/// # Errors
/// Everything that keeps the network from coming up, with its exit code.
pub fn run(options: &Options) -> Result<ExitCode, Failure> {
    if let Some(file) = &options.send {
        check_file(file)?;
    }
    crate::authority::set::check_rounds(&options.parameters(0), options.authorities.into())?;
    let count = options.nodes().count() as u64;
    program::limits::descriptors(DESCRIPTORS + count * NODE_DESCRIPTORS)
        .map_err(|error| Failure::new(exit::OS, error.to_string()))?;
    // The second signal ends the process at once, and the nodes with it.
    let stop = signals::of_terminal()?;
    let screen = Screen::new();
    let (port, why) = network::resolve_port(options)?;
    let _lock = Lock::take(options)?;
    introduce(&screen, options, port, why.as_deref());

    let mut folder = match &options.dir {
        Some(dir) => Folder::at(dir)?,
        None => Folder::temporary()?,
    };
    let root = folder.root().to_owned();
    if options.send.is_some() {
        for name in ["alice", "bob", "inbox"] {
            folder.claim(name)?;
        }
    }
    let mut hosts = None;
    if options.xdp {
        folder.claim("hosts")?;
        let made = Hosts::create(options, &root)?;
        screen.say(&format!(
            "  each in a network namespace, the XDP program in {} mode before it",
            made.mode()
        ));
        hosts = Some(made);
    }
    let mut network = Network::create(&mut folder, options)?;
    if options.xdp {
        hosts::give_files(&root, options)?;
    }
    if let Some(listen) = options.http {
        folder.claim("http.sock")?;
        folder.claim("http.token")?;
        let url = network.show_at(listen, options)?;
        screen.say(&format!("  dashboard: {url}"));
    }
    let mut nodes = Vec::new();
    for (number, role) in options.nodes() {
        let namespace = hosts.as_ref().and_then(|hosts| hosts.of_node(number));
        let config = network.config_path(number);
        let ear = network.ear(number);
        nodes.push(Node::start(
            number,
            role,
            &config,
            namespace.as_deref(),
            ear,
        )?);
    }
    let began = Instant::now();
    let result = network.open(&mut nodes, &stop).and_then(|()| {
        Lab {
            options,
            screen: &screen,
            network: &mut network,
            nodes: &mut nodes,
            hosts: &mut hosts,
            stop: &stop,
            began,
            last: Vec::new(),
            gone: Vec::new(),
        }
        .run()
    });
    child::stop_all(&mut nodes);
    let outcome = result?;
    Ok(conclude(&screen, options, outcome))
}

/// Whether a file can be sent, before a network is started for it.
fn check_file(file: &Path) -> Result<(), Failure> {
    let refused =
        |why: &str| Failure::new(exit::USAGE, format!("--send {}: {why}", file.display()));
    let found = std::fs::metadata(file).map_err(|error| refused(&error.to_string()))?;
    if found.is_dir() {
        return Err(refused("it is a folder: name one file"));
    }
    if !found.is_file() {
        return Err(refused("it is no regular file"));
    }
    // Of a regular file that doesn't wait.
    std::fs::File::open(file).map_err(|error| refused(&error.to_string()))?;
    Ok(())
}

/// Prints what the transfer came to and says how the process ends.
fn conclude(screen: &Screen, options: &Options, outcome: Option<Outcome>) -> ExitCode {
    let Some(outcome) = outcome else {
        screen.say("Lab stopped.");
        return ExitCode::SUCCESS;
    };
    let file = options
        .send
        .as_ref()
        .and_then(|file| file.file_name())
        .map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let shown = outcome
        .summary
        .show(screen, &file, &outcome.sent_hash, &outcome.received_hash);
    screen.say(&format!("\n{shown}"));
    if options.json
        && let Ok(line) = serde_json::to_string(&outcome.summary)
    {
        screen.say(&line);
    }
    if outcome.summary.identical {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(exit::SOFTWARE)
    }
}

fn introduce(screen: &Screen, options: &Options, port: &str, why: Option<&str>) {
    let count = options.nodes().count();
    screen.say(&screen.bold(&format!(
        "Fogmix lab: {} layers of {} mixes, {} gateways",
        options.layers, options.mixes, options.gateways
    )));
    screen.say(&format!(
        "  {} a hop on average, {} packets/s a client, an epoch of {}{}",
        duration::show(options.mean_delay),
        options.rate,
        duration::show(options.epoch_length()),
        if options.loss > 0.0 {
            format!(", each datagram lost with probability {}", options.loss)
        } else {
            String::new()
        }
    ));
    let last = options.address(u16::try_from(count).unwrap_or(u16::MAX));
    screen.say(&format!(
        "  {count} nodes on {} to {last}, port `{port}`",
        options.address(1)
    ));
    if options.authorities > 1 {
        let (first, last) = (1, options.authorities);
        screen.say(&format!(
            "  {last} authorities on {} to {}; the first document takes them up to two epochs",
            options.authority_address(first),
            options.authority_address(last)
        ));
    }
    if let Some(why) = why {
        screen.say(&format!("  not on io_uring: {why}"));
    }
}

/// A lab whose network is up.
struct Lab<'a> {
    options: &'a Options,
    screen: &'a Screen,
    network: &'a mut Network,
    nodes: &'a mut Vec<Node>,
    hosts: &'a mut Option<Hosts>,
    stop: &'a Stop,
    began: Instant,
    /// Each node's status at the last drawing, and when that was.
    last: Vec<(Status, Instant)>,
    /// Nodes that are known to be gone, and since when.
    gone: Vec<(u16, Instant)>,
}

impl Lab<'_> {
    fn run(mut self) -> Result<Option<Outcome>, Failure> {
        if self.stopped() {
            return self.interrupted();
        }
        let signed = self
            .network
            .current()
            .map(network::name_of)
            .unwrap_or_default();
        let after = self.began.elapsed().as_secs_f64();
        self.screen
            .say(&format!("  up after {after:.1} s, {signed}"));
        let mut transfer = match &self.options.send {
            Some(file) => {
                let mut namespace = None;
                if let Some(hosts) = self.hosts.as_mut() {
                    hosts.mark()?;
                    namespace = Some(hosts.of_clients());
                }
                Some(Transfer::start(
                    file,
                    self.network,
                    self.options,
                    namespace,
                )?)
            }
            None => None,
        };
        if transfer.is_none() {
            self.explain();
        }
        let interval = if self.screen.is_terminal() {
            DRAW
        } else {
            LINE
        };
        let mut next = Instant::now() + interval / 2;
        while !self.stopped() {
            self.network.turn()?;
            self.look_after_nodes()?;
            if let Some(outcome) = transfer.as_mut().and_then(Transfer::outcome) {
                let mut outcome = outcome?;
                if let Some(hosts) = self.hosts.as_ref() {
                    outcome.summary.xdp = Some(hosts.counted()?);
                }
                return Ok(Some(outcome));
            }
            if let Some(transfer) = &transfer
                && let Some(why) = self.hopeless(transfer)
            {
                return Err(why);
            }
            if Instant::now() >= next {
                next = Instant::now() + interval;
                self.show(transfer.as_ref());
            }
            thread::sleep(TICK);
        }
        self.interrupted()
    }

    /// How a lab ends that was asked to stop.
    fn interrupted(&self) -> Result<Option<Outcome>, Failure> {
        match self.options.send {
            Some(_) => Err(Failure::new(
                self.stop.exit_code(),
                "interrupted before the file had arrived",
            )),
            None => Ok(None),
        }
    }

    fn stopped(&self) -> bool {
        self.stop.is_asked()
    }

    /// Says which node or authority is gone, and with `--restart` starts nodes again.
    fn look_after_nodes(&mut self) -> Result<(), Failure> {
        for text in self.network.gone_authorities() {
            self.screen.say(&self.screen.bad(&format!("  {text}")));
        }
        for node in self.nodes.iter_mut() {
            let Some(status) = node.gone() else { continue };
            let (number, role) = (node.number, node.role);
            let since = self.gone.iter().find(|(gone, _)| *gone == number);
            let Some((_, since)) = since else {
                self.gone.push((number, Instant::now()));
                let next = if self.options.restart {
                    "; it is started again"
                } else {
                    ""
                };
                let text = format!("  node {number} ({role}) is gone: {status}{next}");
                self.screen.say(&self.screen.bad(&text));
                continue;
            };
            if self.options.restart && since.elapsed() >= RESTART_PAUSE {
                let namespace = self.hosts.as_ref().and_then(|hosts| hosts.of_node(number));
                let config = self.network.config_path(number);
                let ear = self.network.ear(number);
                *node = Node::start(number, role, &config, namespace.as_deref(), ear)?;
                self.gone.retain(|(gone, _)| *gone != number);
            }
        }
        Ok(())
    }

    /// Why a transfer has no end: one of its clients' gateways is gone, and nobody starts it again. An address names its
    /// gateway, so there is no way around it.
    fn hopeless(&self, transfer: &Transfer) -> Option<Failure> {
        let gone = self.gone.iter().map(|(number, _)| *number);
        let gateway = gone.into_iter().find(|number| transfer.hangs_on(*number))?;
        let text = format!(
            "node {gateway}, a gateway of the transfer, is gone: the file can't arrive (--restart starts nodes again)"
        );
        (!self.options.restart).then(|| Failure::new(exit::OS, text))
    }

    /// How to use the network from other terminals.
    fn explain(&mut self) {
        let file = hint::quoted(&self.network.bootstrap_path());
        // Clients of a lab with namespaces belong into one of them.
        let fog = self.hosts.as_ref().map_or_else(hint::fog, |hosts| {
            format!(
                "nsenter --net={} {}",
                hosts.of_clients().display(),
                hint::fog()
            )
        });
        let text = format!(
            "\n{}\n{}\n\n{}\n{}\n\n{}\n",
            self.screen.bold("Receive in one terminal:"),
            format_args!(
                "  {fog} --home bob init --network {file}\n  {fog} --home bob recv --out inbox"
            ),
            self.screen.bold("Send in another:"),
            format_args!(
                "  {fog} --home alice init --network {file}\n  {fog} --home alice send ADDRESS FILE"
            ),
            self.screen.dim("Ctrl-C stops the lab."),
        );
        self.screen.say(&text);
    }

    fn show(&mut self, transfer: Option<&Transfer>) {
        let rows = self.rows();
        let progress = transfer.map(|transfer| self.progress_line(transfer));
        if self.screen.is_terminal() {
            let mut text = format!("\n{}", table::nodes(self.screen, &rows));
            if let Some(line) = progress {
                text.push('\n');
                text.push_str(&line);
            }
            self.screen.draw(&text);
        } else {
            let epoch = self
                .network
                .current()
                .map_or(0, directory::Consensus::epoch);
            let line = table::one_line(&rows, self.began.elapsed(), epoch);
            self.screen.say(&line);
            if let Some(line) = progress {
                self.screen.say(&line);
            }
        }
    }

    fn progress_line(&self, transfer: &Transfer) -> String {
        let progress = transfer.progress();
        let waits = progress
            .waits_for
            .as_ref()
            .map(|wait| format!(", waiting: {wait}"))
            .unwrap_or_default();
        if progress.acknowledged_bytes == 0 || progress.total_bytes == 0 {
            return format!("  {}{waits}", progress.phase);
        }
        let fraction = progress.acknowledged_bytes as f64 / progress.total_bytes as f64;
        // While nothing moves, nobody can tell how long it takes.
        let left = if progress.is_moving && waits.is_empty() {
            let left_s = transfer.elapsed().as_secs_f64() * (1.0 - fraction) / fraction;
            format!(", {left_s:.0} s left")
        } else {
            waits
        };
        format!(
            "  {} {:>3.0} %  {} of {} bytes, {}{left}",
            table::bar(fraction, 24),
            fraction * 100.0,
            summary::grouped(progress.acknowledged_bytes),
            summary::grouped(progress.total_bytes),
            progress.phase,
        )
    }

    fn rows(&mut self) -> Vec<Row> {
        let now = Instant::now();
        let layers: Vec<(u16, u8)> = self.network.current().map_or_else(Vec::new, |consensus| {
            let layer =
                |node: &directory::Node| Some((network::number_of(&node.operator)?, node.layer));
            consensus.nodes().iter().filter_map(layer).collect()
        });
        let mut fresh = Vec::new();
        let mut rows = Vec::new();
        for (position, node) in self.nodes.iter_mut().enumerate() {
            let status = node.status();
            let (before, at) = self
                .last
                .get(position)
                .cloned()
                .unwrap_or_else(|| (status.clone(), now));
            let seconds = now.duration_since(at).as_secs_f64();
            let rate = |new: u64, old: u64| {
                if seconds > 0.0 {
                    new.saturating_sub(old) as f64 / seconds
                } else {
                    0.0
                }
            };
            rows.push(Row {
                number: node.number,
                role: node.role,
                layer: layers
                    .iter()
                    .find(|(number, _)| *number == node.number)
                    .map(|(_, layer)| *layer),
                alive: node.gone().is_none(),
                received_pps: rate(status.received, before.received),
                sent_pps: rate(status.sent(), before.sent()),
                dropped_pps: rate(status.rejected, before.rejected),
                status: status.clone(),
            });
            fresh.push((status, now));
        }
        self.last = fresh;
        rows
    }
}
