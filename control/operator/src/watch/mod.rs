//! `mixctl status`, `nodes`, `epoch`, `loops`, `why-dropped` and `top`: what mixctld knows of the node on this host and its
//! network, for people in as many columns as there are, for programs as JSON.

mod measures;
mod table;

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use control::api::client::get;
use control::api::shapes::{Dashboard, Drops, Epochs, Loops, Nodes, Status, Workers};
use control::config::HTTP_SOCKET_PATH;
use control::exit::Failure;
use serde::Serialize;

/// Between two screens of `top`: the node says how it is once a second.
const SECOND: Duration = Duration::from_secs(1);
/// Clears the screen and goes to its corner.
const CLEAR: &str = "\x1b[2J\x1b[H";
/// Columns where nobody says how many there are.
const COLUMNS: usize = 120;

/// Whom to ask, and how to say it.
#[derive(Debug, Args)]
pub struct Asking {
    /// Where mixctld answers: its [http] socket
    #[arg(long, value_name = "PATH", default_value = HTTP_SOCKET_PATH)]
    socket: PathBuf,
    /// Prints JSON, a document a line
    #[arg(long)]
    json: bool,
}

impl Asking {
    /// Asks, and prints the answer.
    fn show<T: serde::de::DeserializeOwned + Serialize>(
        &self,
        route: &str,
        table: impl FnOnce(&T, usize) -> String,
    ) -> Result<T, Failure> {
        let answer: T = get(&self.socket, route)?;
        program::print(&match self.json {
            true => serde_json::to_string(&answer).map_err(io::Error::from)?,
            false => table(&answer, columns()),
        })?;
        Ok(answer)
    }
}

/// Says how the node fares; whether it would forward a packet.
///
/// # Errors
/// mixctld does not answer.
pub fn status(asking: &Asking) -> Result<bool, Failure> {
    let status: Status = asking.show("/api/v1/status", table::status)?;
    Ok(status.is_ready())
}

/// Lists the nodes.
///
/// # Errors
/// mixctld does not answer, or has no document.
pub fn nodes(asking: &Asking) -> Result<(), Failure> {
    // Which of them is the node here only the status says.
    let own = match asking.json {
        true => None,
        false => get::<Status>(&asking.socket, "/api/v1/status")?.node,
    };
    let own = own.map(|node| node.identity);
    let nodes = asking.show("/api/v1/nodes", |nodes: &Nodes, columns| {
        table::nodes(nodes, own.as_deref(), columns)
    });
    nodes.map(drop)
}

/// Says which epoch it is.
///
/// # Errors
/// mixctld does not answer.
pub fn epoch(asking: &Asking) -> Result<(), Failure> {
    let now_ms = mixnode::process::unix_ms();
    let epochs = asking.show("/api/v1/epochs", |epochs: &Epochs, columns| {
        table::epochs(epochs, now_ms, columns)
    });
    epochs.map(drop)
}

/// Says what became of the node's own packets that should come back.
///
/// # Errors
/// mixctld does not answer, or the node says nothing to it.
pub fn loops(asking: &Asking) -> Result<(), Failure> {
    asking
        .show("/api/v1/loops", |told: &Loops, columns| {
            measures::loops(told, columns)
        })
        .map(drop)
}

/// Says what was dropped, why, and what to do; rates are of the time since `since` ago.
///
/// # Errors
/// mixctld does not answer, or neither the node nor the XDP program says anything.
pub fn why_dropped(asking: &Asking, since: Duration) -> Result<(), Failure> {
    let route = format!("/api/v1/drops?since={}", since.as_secs());
    asking
        .show(&route, |told: &Drops, columns| {
            measures::drops(told, columns)
        })
        .map(drop)
}

/// Prints what each reason of a drop means.
///
/// # Errors
/// It can't be written.
pub fn reasons() -> Result<(), Failure> {
    Ok(program::print(handover::meaning::page().trim_end())?)
}

/// Says where the page is, with its token.
///
/// # Errors
/// mixctld does not answer, or has no page.
pub fn dashboard(asking: &Asking) -> Result<(), Failure> {
    asking
        .show("/api/v1/dashboard", |told: &Dashboard, _| told.url.clone())
        .map(drop)
}

/// Shows all that moves, each second anew, until it is interrupted; once where nobody looks at a terminal.
///
/// # Errors
/// mixctld does not answer.
pub fn top(asking: &Asking) -> Result<(), Failure> {
    let is_screen = io::stdout().is_terminal();
    loop {
        let status: Status = get(&asking.socket, "/api/v1/status")?;
        // Of a node that says nothing there is the status alone.
        let workers: Option<Workers> = get(&asking.socket, "/api/v1/workers").ok();
        let drops: Option<Drops> = get(&asking.socket, "/api/v1/drops").ok();
        if asking.json {
            let all = serde_json::json!({"status": status, "workers": workers, "drops": drops});
            program::print(&all.to_string())?;
        } else {
            let screen = measures::top(&status, workers.as_ref(), drops.as_ref(), columns());
            let clear = if is_screen { CLEAR } else { "" };
            program::print(&format!("{clear}{screen}"))?;
        }
        if !is_screen {
            return Ok(());
        }
        std::thread::sleep(SECOND);
    }
}

/// The width of the terminal, or what COLUMNS says.
fn columns() -> usize {
    let said = std::env::var("COLUMNS")
        .ok()
        .and_then(|said| said.parse().ok());
    let terminal = || {
        let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
        Some(usize::from(size.ws_col))
    };
    let columns = said.or_else(terminal).filter(|columns| *columns > 0);
    columns.unwrap_or(COLUMNS)
}
