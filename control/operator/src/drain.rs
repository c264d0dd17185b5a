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
/// mixctld is not running or refused; no node is there, or it went or was restarted while it left.
pub fn run(options: &Options) -> Result<(), Failure> {
    let ask = |request: &Request| Ok(loader::ask(&options.socket, request)?);
    follow(options, ask, || std::thread::sleep(LOOK))
}

/// Orders it until a node is there that hears it, and looks from then on: the same node after a restart is not meant.
fn follow(
    options: &Options,
    ask: impl Fn(&Request) -> Result<Reply, Failure>,
    wait: impl Fn(),
) -> Result<(), Failure> {
    let (mut said, mut looks, mut missed) = (None, 0u32, 0u32);
    let mut request = Request::Drain;
    loop {
        let state = match ask(&request)? {
            Reply::Draining { state: Some(state) } => state,
            Reply::Draining { state: None } if missed < MISSED => {
                missed += 1;
                wait();
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
        request = Request::Node;
        let leaves = leaves(state);
        if !leaves && said.is_some_and(self::leaves) {
            return Err(Failure::new(
                exit::OS,
                "the node was restarted while it left, which ends that: it stays in the network, unless it is told again",
            ));
        }
        if said != Some(state) {
            say(options, state)?;
            said = Some(state);
        }
        if state == NodeState::Drained || (leaves && options.no_wait) {
            return Ok(());
        }
        looks += 1;
        if !leaves && looks > PATIENCE {
            return Err(Failure::new(
                exit::OS,
                "the node does not begin to leave: was it restarted a moment ago, or is it of an older release?",
            ));
        }
        wait();
    }
}

fn leaves(state: NodeState) -> bool {
    matches!(state, NodeState::Draining | NodeState::Drained)
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

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::NodeState::{Drained, Draining, Ready, Waiting};
    use super::*;

    /// What becomes of it if the node says this, a look after the other; and what mixctld was asked.
    fn played(states: &[Option<NodeState>]) -> (Result<(), String>, Vec<Request>) {
        let options = Options {
            socket: PathBuf::new(),
            no_wait: false,
            json: true,
        };
        let asked = RefCell::new(Vec::new());
        let answer = |request: &Request| {
            let state = states[asked.borrow().len()];
            asked.borrow_mut().push(request.clone());
            Ok(Reply::Draining { state })
        };
        let outcome = follow(&options, answer, || {});
        (outcome.map_err(|error| error.message), asked.into_inner())
    }

    #[test]
    fn the_node_is_told_once_it_is_there_and_never_again() {
        let (outcome, asked) = played(&[None, Some(Ready), Some(Draining), Some(Drained)]);
        assert_eq!(outcome, Ok(()));
        let [drain, node] = [Request::Drain, Request::Node];
        assert_eq!(asked, [drain.clone(), drain, node.clone(), node]);
    }

    #[test]
    fn a_node_that_is_restarted_while_it_leaves_stays_and_that_is_said() {
        let (outcome, asked) = played(&[Some(Ready), Some(Draining), None, Some(Waiting)]);
        assert!(outcome.unwrap_err().contains("was restarted"));
        assert_eq!(asked[1..], [const { Request::Node }; 3]);
        let (outcome, asked) = played(&[Some(Ready); 11]);
        assert!(outcome.unwrap_err().contains("does not begin"));
        assert_eq!(asked[1..], [const { Request::Node }; 10]);
    }
}
