//! `mixctl authority`: keys, sets and the list of nodes of those who make the network's documents.

mod nodes;
pub(crate) mod set;

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use authority::admission::cause;
use clap::Subcommand;
use control::authority::key::{self, KEY_PATH};
use control::config;
use control::exit::{self, Failure};
use control::folder;
use control::http::client::Ask;
use directory::store::hex;
use serde_json::{Value, json};

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Makes this authority's key and prints its public half
    Init {
        /// Where the key is to lie
        #[arg(long, value_name = "FILE", default_value = KEY_PATH)]
        key: PathBuf,
        /// Prints one JSON document
        #[arg(long)]
        json: bool,
    },
    /// Says who the authorities are: each of them signs
    #[command(subcommand)]
    Set(set::Command),
    /// Says who may be in the network
    #[command(subcommand)]
    Nodes(nodes::Command),
    /// Asks the authority on this host how it fares: documents, who is missing, who signed two things
    Status {
        /// Its configuration
        #[arg(
            long,
            value_name = "FILE",
            default_value = "/etc/fogmix/authority.toml"
        )]
        config: PathBuf,
        /// Prints one JSON document
        #[arg(long)]
        json: bool,
    },
}

/// Runs one command.
///
/// # Errors
/// What it needs can't be had, or a rule forbids it.
pub fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Init { key, json } => {
            folder::make_for(&key, Path::new(KEY_PATH))?;
            let public = hex(&key::create(&key)?.public());
            Ok(program::print(&match json {
                true => json!({ "authority": public, "key": key }).to_string(),
                false => format!(
                    "authority {public}\nits key lies in {}: keep a copy where nobody else reads it",
                    key.display()
                ),
            })?)
        }
        Command::Set(command) => set::run(command),
        Command::Nodes(command) => nodes::run(command),
        Command::Status { config, json } => status(&config, json),
    }
}

fn status(file: &Path, json: bool) -> Result<(), Failure> {
    let config =
        config::load(file).map_err(|error| Failure::new(exit::CONFIG, error.to_string()))?;
    let Some(authority) = config.authority else {
        let message = format!("{}: no section [authority]", file.display());
        return Err(Failure::new(exit::CONFIG, message));
    };
    let mut address = authority.listen;
    if address.ip().is_unspecified() {
        address.set_ip(match address.is_ipv4() {
            true => Ipv4Addr::LOCALHOST.into(),
            false => Ipv6Addr::LOCALHOST.into(),
        });
    }
    let ask = Ask {
        to: address,
        path: "/v1/status".to_owned(),
        body: None,
        held: None,
        from: Some(address.ip()),
        bytes_max: 1 << 20,
        within: Duration::from_secs(30),
    };
    let refused =
        |error: String| Failure::new(exit::OS, format!("the authority at {address}: {error}"));
    let answered = ask
        .run_alone()
        .map_err(|error| refused(error.to_string()))?;
    let status: Value =
        serde_json::from_slice(&answered.body).map_err(|error| refused(error.to_string()))?;
    Ok(program::print(&match json {
        true => status.to_string(),
        false => table(&status),
    })?)
}

fn table(status: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let document = match &status["document"] {
        Value::Null => "no document yet".to_owned(),
        held => format!(
            "document of epoch {}, {} nodes, {}",
            held["epoch"],
            held["nodes"],
            text(&held["digest"])
        ),
    };
    let mut lines = vec![
        format!(
            "network {}, authority set {}",
            text(&status["network"]),
            status["generation"]
        ),
        format!("epoch {}: {document}", status["epoch"]),
    ];
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    for other in list(&status["others"]) {
        lines.push(format!(
            "with {} at {}",
            text(&other["authority"]),
            text(&other["url"])
        ));
    }
    for name in list(&status["evidence"]) {
        lines.push(format!("evidence (epoch-author-kind): {}", text(&name)));
    }
    for missed in list(&status["missed_proofs"]) {
        lines.push(format!(
            "mix {} of {:?} brought no proof for {} documents since this authority began, and has no place in each and the \
             next: often, it may choose when it carries; `mixctl authority nodes pause` keeps it out",
            text(&missed["identity"]),
            text(&missed["operator"]),
            missed["documents"]
        ));
    }
    for (word, count) in status["refused"].as_object().into_iter().flatten() {
        let cause = cause(word).map_or_else(String::new, |cause| format!(": {cause}"));
        lines.push(format!("refused as {word}: {count}{cause}"));
    }
    lines.push(format!(
        "connections that found no room: {}",
        status["connections_refused"]
    ));
    lines.extend(list(&status["news"]).iter().map(|news| text(&news["text"])));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_that_an_operator_can_mend_is_counted_with_its_cause() {
        let status = json!({
            "network": "n", "generation": 0, "epoch": 3, "connections_refused": 0,
            "refused": { "admission": 13, "epoch": 2 },
        });
        let table = table(&status);
        let with_cause = "refused as admission: 13: the list of nodes has another role or operator";
        assert!(table.contains(with_cause), "{table}");
        assert!(table.contains("refused as epoch: 2\n"), "{table}");
    }
}
