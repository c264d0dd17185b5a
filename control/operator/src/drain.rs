//! `mixctl drain`: the node here leaves the network, and nothing that is on its way to it is lost.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use handover::protocol::{NodeState, Reply, Request, SOCKET_PATH};
use serde_json::json;

use control::exit::{self, Failure};

/// Between looks how far the node is. It says so once a second itself.
const LOOK: Duration = Duration::from_secs(1);
/// A node that has just been told says that it leaves within two of its seconds.
const PATIENCE: u32 = 10;
/// Looks at which no node is there: one that has just come has not said how it is.
const MISSED: u32 = 3;

/// Whom to ask, and how to print.
#[derive(Debug, Args)]
pub struct Options {
    /// Where mixctld listens
    #[arg(long, value_name = "PATH", default_value = SOCKET_PATH)]
    socket: PathBuf,
    /// Ends as soon as the node has begun to leave
    #[arg(long)]
    no_wait: bool,
    /// Prints one JSON document a change
    #[arg(long)]
    json: bool,
}

/// Has the node leave, and waits until nothing is on its way to it any more: about two epochs.
///
/// # Errors
/// mixctld is not running or refused; no node is there, or it went while it left.
pub fn run(options: &Options) -> Result<(), Failure> {
    let (mut said, mut looks, mut missed) = (None, 0u32, 0u32);
    loop {
        // Asked again it says how far the node is, and tells a node that was not told: mixctld may have been restarted.
        let state = match loader::ask(&options.socket, &Request::Drain)? {
            Reply::Draining { state: Some(state) } => state,
            Reply::Draining { state: None } if missed < MISSED => {
                missed += 1;
                std::thread::sleep(LOOK);
                continue;
            }
            Reply::Draining { state: None } => {
                let why = match said {
                    None => {
                        "no node reports to mixctld: only one that runs, with port = \"xsk\" or [keys] vault = true, and is of \
                         this release does; set [keys] vault = true in mixnode.toml and restart it"
                    }
                    Some(_) => "the node is gone while it left",
                };
                return Err(Failure::new(exit::OS, why));
            }
            _ => {
                return Err(Failure::new(
                    exit::SOFTWARE,
                    "mixctld is of another version: no such answer is known",
                ));
            }
        };
        if said != Some(state) {
            say(options, state)?;
            said = Some(state);
        }
        let leaves = matches!(state, NodeState::Draining | NodeState::Drained);
        if state == NodeState::Drained || (leaves && options.no_wait) {
            return Ok(());
        }
        looks += 1;
        if !leaves && looks > PATIENCE {
            return Err(Failure::new(
                exit::OS,
                "the node does not begin to leave: is it of an older release?",
            ));
        }
        std::thread::sleep(LOOK);
    }
}

fn say(options: &Options, state: NodeState) -> Result<(), Failure> {
    let text = match state {
        _ if options.json => json!({ "state": state }).to_string(),
        NodeState::Waiting | NodeState::Ready => "asked the node to leave".to_owned(),
        NodeState::Draining => "leaving: from the next document but one at the latest the node has no place, and what \
                                was sent to it before is forwarded until its keys are erased"
            .to_owned(),
        NodeState::Drained => "drained: nothing is on its way to the node any more. It stays registered as long as it \
                               runs; `systemctl stop mixnode` ends it, a restart brings it back"
            .to_owned(),
    };
    Ok(program::print(&text)?)
}
