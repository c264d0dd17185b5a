//! `mixctl xdp`: the operator's side of the loader.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use ebpf_abi::{Action, Reason};
use handover::protocol::{InterfaceStats, InterfaceStatus, Mode, Reply, Request, SOCKET_PATH};
use serde_json::{Value, json};

use control::exit::{self, Failure};
use loader;

/// What to do with the XDP front end.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Puts the program on an interface, or replaces it without losing a packet
    Attach {
        /// The interface that has the node's address
        interface: String,
        /// The node's UDP port
        #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
        port: u16,
        /// Takes generic mode (slower) where the driver has no native one
        #[arg(long)]
        allow_generic: bool,
        /// What the node can do, packets a second: no source gets more than a quarter of it
        #[arg(long, value_name = "PACKETS", default_value_t = 100_000)]
        capacity: u32,
        /// Where mixctld is, and how to print
        #[command(flatten)]
        common: Common,
    },
    /// Takes the program off, with everything pinned for it
    Detach {
        /// The interface
        interface: String,
        /// Where mixctld is, and how to print
        #[command(flatten)]
        common: Common,
    },
    /// Shows what is attached where, and to which node
    Status {
        /// Where mixctld is, and how to print
        #[command(flatten)]
        common: Common,
    },
    /// Shows what became of the packets, by reason
    Stats {
        /// Where mixctld is, and how to print
        #[command(flatten)]
        common: Common,
    },
}

/// Options of all of them.
#[derive(Debug, Args)]
pub struct Common {
    /// Where mixctld listens
    #[arg(long, value_name = "PATH", default_value = SOCKET_PATH)]
    socket: PathBuf,
    /// Prints one JSON document
    #[arg(long)]
    json: bool,
}

/// Runs one command.
///
/// # Errors
/// mixctld is not running or refused: its words and its exit code.
pub fn run(command: Command) -> Result<(), Failure> {
    let (request, common) = request(command);
    let reply = loader::ask(&common.socket, &request)?;
    let unexpected = || {
        Failure::new(
            exit::SOFTWARE,
            "mixctld is of another version: no such answer is known",
        )
    };
    let (document, text) = match (&request, reply) {
        (
            Request::Attach {
                interface, port, ..
            },
            Reply::Attached {
                mode,
                degraded,
                replaced,
            },
        ) => {
            let document = json!({
                "interface": interface, "port": port, "mode": mode, "degraded": degraded, "replaced": replaced,
            });
            let verb = if replaced { "replaced" } else { "attached" };
            let mut text = format!("{interface}: {verb}, {} mode, UDP port {port}", word(mode));
            if let Some(why) = degraded {
                text.push_str(&format!("\nnot in native mode: {why}"));
            }
            (document, text)
        }
        (Request::Detach { interface }, Reply::Done) => (
            json!({ "interface": interface, "detached": true }),
            format!("{interface}: detached"),
        ),
        (Request::Status, Reply::Status { interfaces }) => (
            json!({ "interfaces": interfaces }),
            status_table(&interfaces),
        ),
        (Request::Stats, Reply::Stats { interfaces }) => {
            (stats_document(&interfaces), stats_table(&interfaces))
        }
        _ => return Err(unexpected()),
    };
    let text = if common.json {
        document.to_string()
    } else {
        text
    };
    Ok(program::print(&text)?)
}

fn request(command: Command) -> (Request, Common) {
    match command {
        Command::Attach {
            interface,
            port,
            allow_generic,
            capacity,
            common,
        } => {
            let request = Request::Attach {
                interface,
                port,
                allow_generic,
                capacity_pps: capacity,
            };
            (request, common)
        }
        Command::Detach { interface, common } => (Request::Detach { interface }, common),
        Command::Status { common } => (Request::Status, common),
        Command::Stats { common } => (Request::Stats, common),
    }
}

fn word(mode: Mode) -> &'static str {
    match mode {
        Mode::Native => "native",
        Mode::Generic => "generic",
    }
}

const NOTHING: &str = "nothing is attached: `mixctl xdp attach INTERFACE --port PORT`";

fn status_table(interfaces: &[InterfaceStatus]) -> String {
    if interfaces.is_empty() {
        return NOTHING.to_owned();
    }
    let mut text = format!(
        "{:<16} {:<8} {:>5} {:>7} {:>8} {:>8} {:>6}  node",
        "interface", "mode", "port", "queues", "steered", "indices", "peers"
    );
    for found in interfaces {
        let node = found
            .node
            .map_or("none".to_owned(), |address| address.to_string());
        text.push_str(&format!(
            "\n{:<16} {:<8} {:>5} {:>7} {:>8} {:>8} {:>6}  {node}",
            found.interface,
            word(found.mode),
            found.port,
            found.queues,
            found.steered,
            found.indices,
            found.peers,
        ));
    }
    for fault in interfaces.iter().filter_map(|found| found.fault.as_ref()) {
        text.push_str(&format!("\n{fault}"));
    }
    text
}

/// What the program does with packets of this reason's name.
fn action(name: &str) -> &'static str {
    match Reason::ALL
        .iter()
        .find(|reason| reason.name() == name)
        .map(|reason| reason.action())
    {
        Some(Action::Pass) => "passed",
        Some(Action::Drop) => "dropped",
        Some(Action::Redirect) => "steered",
        None => "",
    }
}

fn stats_document(interfaces: &[InterfaceStats]) -> Value {
    let interfaces: Vec<Value> = interfaces
        .iter()
        .map(|found| {
            let reasons: Vec<Value> = found
                .packets
                .iter()
                .map(|(name, packets)| {
                    json!({ "reason": name, "action": action(name), "packets": packets })
                })
                .collect();
            json!({ "interface": found.interface, "reasons": reasons })
        })
        .collect();
    json!({ "interfaces": interfaces })
}

fn stats_table(interfaces: &[InterfaceStats]) -> String {
    if interfaces.is_empty() {
        return NOTHING.to_owned();
    }
    let mut text = String::new();
    for found in interfaces {
        let total: u64 = found.packets.iter().map(|(_, packets)| packets).sum();
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&format!("{}: {total} packets", found.interface));
        for (name, packets) in found.packets.iter().filter(|(_, packets)| *packets > 0) {
            text.push_str(&format!("\n  {name:<24} {:<8} {packets:>14}", action(name)));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_say_what_there_is_and_what_to_do_when_there_is_nothing() {
        assert!(status_table(&[]).contains("mixctl xdp attach"));
        assert!(stats_table(&[]).contains("mixctl xdp attach"));
        let status = InterfaceStatus {
            interface: "eth0".to_owned(),
            port: 4711,
            mode: Mode::Native,
            queues: 4,
            steered: 2,
            node: Some("192.0.2.1:4711".parse().unwrap()),
            indices: 9,
            peers: 3,
            fault: None,
        };
        let faulty = InterfaceStatus {
            fault: Some("eth0 is down".to_owned()),
            ..status.clone()
        };
        assert!(status_table(&[faulty]).ends_with("\neth0 is down"));
        let table = status_table(&[status]);
        assert!(
            table.contains("native") && table.ends_with("192.0.2.1:4711"),
            "{table}"
        );
        let stats = InterfaceStats {
            interface: "eth0".to_owned(),
            packets: vec![
                ("steered".to_owned(), 5),
                ("wrong_size".to_owned(), 2),
                ("options".to_owned(), 0),
            ],
        };
        let table = stats_table(std::slice::from_ref(&stats));
        assert!(
            table.contains("eth0: 7 packets") && !table.contains("options"),
            "{table}"
        );
        let document = stats_document(&[stats]);
        assert_eq!(document["interfaces"][0]["reasons"][1]["action"], "dropped");
    }
}
