//! `mixctl status`, `nodes` and `epoch`: what mixctld knows of the node on this host and its network, for people in as many
//! columns as there are, for programs as JSON.

mod table;

use std::io;
use std::path::PathBuf;

use clap::Args;
use control::api::client::get;
use control::api::shapes::{Epochs, Nodes, State, Status};
use control::config::HTTP_SOCKET_PATH;
use control::exit::Failure;
use serde::Serialize;

/// Columns where nobody says how many there are.
const COLUMNS: usize = 120;

/// Whom to ask, and how to say it.
#[derive(Debug, Args)]
pub struct Asking {
    /// Where mixctld answers: its [http] socket
    #[arg(long, value_name = "PATH", default_value = HTTP_SOCKET_PATH)]
    socket: PathBuf,
    /// Prints one JSON document
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
    Ok(status.state == State::Ready)
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
