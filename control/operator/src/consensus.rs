//! `mixctl consensus`: the documents themselves.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Subcommand;
use control::api::shapes::Node;
use control::config::NETWORK_PATH;
use control::exit::{self, Failure};
use control::http::client::{Answered, Ask, AskError, parse_url};
use directory::authority_set::{SetError, SignedSet};
use directory::store::{hex, read_bounded};
use directory::{
    BOOTSTRAP_BYTES_MAX, Bootstrap, CONSENSUS_BYTES_MAX, Chain, Consensus, Held, Parameters,
    SignedConsensus, WAITING,
};
use serde_json::{Value, json};

use crate::network::{of_file, read_network};

/// Exit code for a document that breaks a rule (`EX_DATAERR`).
const DATA: u8 = 65;

/// Rounds of an epoch after which the document of the next one is published.
const MADE_ROUNDS: u64 = 20;

/// What to do with documents.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Prints the document in a network's file
    Show {
        /// The network's file
        #[arg(long, value_name = "FILE", default_value = NETWORK_PATH)]
        network: PathBuf,
        /// Prints one JSON document
        #[arg(long)]
        json: bool,
    },
    /// Puts the newest document into a network's file, and authority sets that are newer: what clients begin with
    Fetch {
        /// An authority's URL; all that the file names, one after the other, if there is none
        #[arg(value_parser = parse_url)]
        url: Option<SocketAddr>,
        /// The network's file
        #[arg(long, value_name = "FILE", default_value = NETWORK_PATH)]
        network: PathBuf,
        /// Prints one JSON document
        #[arg(long)]
        json: bool,
    },
    /// Checks a document by every rule; exit code 65 and the first rule that it breaks
    Verify {
        /// A signed consensus, as authorities hand it out, or a network's file
        file: PathBuf,
        /// The network's file, whose authorities must have signed
        #[arg(long, value_name = "FILE", default_value = NETWORK_PATH)]
        network: PathBuf,
        /// Prints one JSON document
        #[arg(long)]
        json: bool,
    },
}

/// Runs one command.
///
/// # Errors
/// A file can't be read or written, nobody answers, or a document breaks a rule.
pub fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Show { network, json } => {
            let bootstrap = read_network(&network)?;
            let consensus = bootstrap
                .verify()
                .map_err(|error| Failure::new(DATA, format!("{}: {error}", network.display())))?;
            Ok(program::print(&match json {
                true => document(&consensus).to_string(),
                false => table(&consensus),
            })?)
        }
        Command::Fetch { url, network, json } => fetch(url, &network, json),
        Command::Verify {
            file,
            network,
            json,
        } => {
            let chain = read_network(&network)?.chain;
            let consensus = read_any(&file, &chain)?;
            Ok(program::print(&match json {
                true => document(&consensus).to_string(),
                false => format!("{}: good\n{}", file.display(), summary(&consensus)),
            })?)
        }
    }
}

/// Reads a signed consensus or the one in a network's file, and verifies it.
fn read_any(file: &Path, chain: &Chain) -> Result<Consensus, Failure> {
    let broken = |error: String| Failure::new(DATA, format!("{}: {error}", file.display()));
    let bytes = read_bounded(file, BOOTSTRAP_BYTES_MAX).map_err(|error| of_file(file, error))?;
    let signed = match Bootstrap::decode(&bytes) {
        Ok(bootstrap) => {
            bootstrap
                .check_network(chain)
                .map_err(|error| broken(error.to_string()))?;
            let held = bootstrap.consensus;
            held.ok_or_else(|| broken("the network has no document yet".to_owned()))?
        }
        Err(_) => SignedConsensus::decode(&bytes).map_err(|error| broken(error.to_string()))?,
    };
    signed
        .verify(chain, &Held::default())
        .map_err(|error| broken(error.to_string()))
}

fn fetch(from: Option<SocketAddr>, network: &Path, as_json: bool) -> Result<(), Failure> {
    let mut bootstrap = read_network(network)?;
    let known = bootstrap.chain.sets().len();
    let last = bootstrap.chain.sets().last();
    let members = last.into_iter().flat_map(|set| &set.set().members);
    let all: Vec<SocketAddr> = members.map(|member| member.address).collect();
    let mut failure = Failure::new(exit::OS, "the network's file names no authority");
    let mut without_news = Vec::new();
    for to in from.map_or(all, |from| vec![from]) {
        let url = format!("http://{to}");
        if let Err(error) = learn_sets(&mut bootstrap.chain, to) {
            failure = Failure::new(DATA, format!("{url}: {error}"));
            continue;
        }
        let signed = match ask(to, "/v1/consensus/latest") {
            Ok(answered) => {
                SignedConsensus::decode(&answered.body).map_err(|error| error.to_string())
            }
            Err(AskError::Refused { status: 404, .. }) => {
                let none = none_yet(bootstrap.chain.parameters(), mixnode::process::unix_ms());
                failure = Failure::new(exit::OS, format!("{url}: {none}"));
                continue;
            }
            Err(error) => {
                failure = Failure::new(exit::OS, format!("{url}: {error}"));
                continue;
            }
        };
        let verified = signed.and_then(|signed| {
            let consensus = signed.verify(&bootstrap.chain, &Held::default());
            Ok((consensus.map_err(|error| error.to_string())?, signed))
        });
        let (consensus, signed) = match verified {
            Ok(verified) => verified,
            Err(error) => {
                failure = Failure::new(DATA, format!("{url}: {error}"));
                continue;
            }
        };
        let held = bootstrap.verify().ok().map(|held| held.epoch());
        let is_news = held < Some(consensus.epoch());
        if is_news {
            bootstrap.consensus = Some(signed);
        }
        if is_news || bootstrap.chain.sets().len() > known {
            bootstrap
                .write(network)
                .map_err(|error| of_file(network, error))?;
        }
        if !is_news {
            // Another may have one: this one may be late, or lie.
            without_news.push(url);
            continue;
        }
        return Ok(program::print(&match as_json {
            true => {
                json!({ "file": network.display().to_string(), "document": document(&consensus) })
                    .to_string()
            }
            false => format!("{}\n{}", summary(&consensus), network.display()),
        })?);
    }
    if without_news.is_empty() {
        return Err(failure);
    }
    Ok(program::print(&match as_json {
        true => {
            json!({ "file": network.display().to_string(), "document": null, "without_news": without_news }).to_string()
        }
        false => format!(
            "{}: no newer document at {}",
            network.display(),
            without_news.join(", ")
        ),
    })?)
}

fn ask(to: SocketAddr, path: &str) -> Result<Answered, AskError> {
    let ask = Ask {
        to,
        path: path.to_owned(),
        body: None,
        held: None,
        from: None,
        bytes_max: CONSENSUS_BYTES_MAX,
        within: Duration::from_secs(60),
    };
    ask.run_alone()
}

/// Takes up the authority sets that this authority hands out and the file does not know.
fn learn_sets(chain: &mut Chain, to: SocketAddr) -> Result<(), SetError> {
    loop {
        let known = chain.sets().len();
        let Ok(answered) = ask(to, &format!("/v1/authorities/{known}")) else {
            return Ok(());
        };
        chain.extend(SignedSet::decode(&answered.body)?)?;
        if chain.sets().len() == known {
            return Ok(());
        }
    }
}

/// That there is no document, and when one is due.
fn none_yet(parameters: &Parameters, now_ms: u64) -> String {
    let epoch = parameters.epoch_at(now_ms);
    let made = |epoch| parameters.epoch_starts_ms(epoch) + MADE_ROUNDS * parameters.round_ms();
    let due_ms = match made(epoch) {
        due_ms if due_ms > now_ms => due_ms,
        _ => made(epoch.saturating_add(1)),
    };
    let in_s = due_ms.saturating_sub(now_ms).div_ceil(1_000);
    format!(
        "no document yet: the authorities make one in each epoch, of the nodes that they admit; the next is due in {in_s} s"
    )
}

fn summary(consensus: &Consensus) -> String {
    let gateways = consensus.gateways().count();
    let waiting = consensus
        .nodes()
        .iter()
        .filter(|node| node.layer == WAITING);
    let waiting = waiting.count();
    let mixes = consensus.nodes().len() - gateways - waiting;
    format!(
        "epoch {}, {gateways} gateways, {mixes} mixes in layers, {waiting} waiting, digest {}",
        consensus.epoch(),
        hex(consensus.digest())
    )
}

fn table(consensus: &Consensus) -> String {
    let mut lines = vec![
        summary(consensus),
        format!("beacon {}", hex(consensus.beacon())),
    ];
    lines.extend(consensus.nodes().iter().map(|node| {
        let place = match node.layer {
            0 => "gateway".to_owned(),
            WAITING => "waiting".to_owned(),
            layer => format!("layer {layer}"),
        };
        let address = node.addresses.first().map(ToString::to_string);
        format!(
            "{:>4}  {place:<8}  {:>9}  {:<24}  {}  {}",
            node.index,
            node.weight,
            address.unwrap_or_default(),
            hex(&node.identity),
            node.operator
        )
    }));
    lines.join("\n")
}

fn document(consensus: &Consensus) -> Value {
    let head = consensus.head();
    json!({
        "network": hex(&head.network), "generation": head.generation, "method": head.method, "epoch": head.epoch,
        "digest": hex(consensus.digest()), "previous": hex(&head.previous.digest),
        "previous_epoch": head.previous.epoch, "beacon": hex(&head.beacon), "nodes": Node::all(consensus),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_document_is_due_in_this_epoch_or_in_the_next() {
        let parameters = Parameters {
            genesis_unix_ms: 1_000,
            epoch_ms: 32_000,
            mean_delay_us: 1_000,
            client_rate_pps: 20,
            layers: 3,
        };
        for (now_ms, due) in [
            (0, "in 21 s"),
            (1_000, "in 20 s"),
            (20_999, "in 1 s"),
            (21_000, "in 32 s"),
            (33_000, "in 20 s"),
        ] {
            let said = none_yet(&parameters, now_ms);
            assert!(said.ends_with(due), "{now_ms}: {said}");
        }
    }
}
