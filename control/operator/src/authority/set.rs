//! `mixctl authority set`: who the authorities are. One proposes, each signs the same file in turn, and whoever has the
//! last signature publishes.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{Args, Subcommand};
use control::authority::key::{self, KEY_PATH};
use control::config::NETWORK_PATH;
use control::exit::{self, Failure};
use control::http::client::parse_url;
use directory::authority_set::{AuthoritySet, Chain, Member, SET_BYTES_MAX, SetError, SignedSet};
use directory::store::{hex, read_bounded, unhex, write_atomic};
use directory::{Bootstrap, Parameters};
use program::complain;
use serde_json::json;

use crate::duration;
use crate::network::{of_file, read_network};

/// A set that follows another is proposed for no earlier than so many epochs ahead: everyone has it by then.
const EPOCHS_AHEAD: u32 = 3;
/// Shortest epoch of authorities that talk to each other: a round is one part in 32.
const EPOCH_MS_MIN: u64 = 8_000;

/// Mean delays that a packet is on its way, at most: five hops, each ten of them.
const DELAYS_MEANS: u32 = 50;

/// What to do with a set of authorities.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Writes a proposal: the founding of a network, or with --network the next set of one
    Propose(Box<Proposal>),
    /// Adds this authority's signature
    Sign {
        /// The proposal
        file: PathBuf,
        /// This authority's key
        #[arg(long, value_name = "FILE", default_value = KEY_PATH)]
        key: PathBuf,
        /// The network's file: asked where the key is not in the proposal, for one that is in the set before
        #[arg(long, value_name = "FILE", default_value = NETWORK_PATH)]
        network: PathBuf,
        /// Prints one JSON document
        #[arg(long)]
        json: bool,
    },
    /// Makes the network's file of a set that all have signed, or adds the set to it
    Publish {
        /// The signed proposal
        file: PathBuf,
        /// The network's file: made for a founding set, and added to for all later ones
        #[arg(long, value_name = "FILE")]
        network: PathBuf,
        /// Prints one JSON document
        #[arg(long)]
        json: bool,
    },
}

/// A proposal.
#[derive(Debug, Args)]
pub struct Proposal {
    /// Where to write it
    file: PathBuf,
    /// Each authority: its public key and where it is reached
    #[arg(long = "member", value_name = "KEY=URL", required = true, value_parser = parse_member)]
    members: Vec<Member>,
    /// The network's file, for a set that follows another
    #[arg(long, value_name = "FILE", conflicts_with_all = ["epoch", "mean_delay", "client_rate", "layers"])]
    network: Option<PathBuf>,
    /// From which epoch on; with --network
    #[arg(long, value_name = "EPOCH", requires = "network")]
    first_epoch: Option<u32>,
    /// Length of an epoch
    #[arg(long, value_name = "TIME", default_value = "20m", value_parser = duration::parse)]
    epoch: Duration,
    /// Mean delay at each hop
    #[arg(long, value_name = "TIME", default_value = "50ms", value_parser = duration::parse)]
    mean_delay: Duration,
    /// Packets a second that each client sends, whatever it has to say
    #[arg(long, value_name = "PACKETS", default_value_t = 20)]
    client_rate: u32,
    /// Layers of mixes
    #[arg(long, default_value_t = 3)]
    layers: u8,
    /// Prints one JSON document
    #[arg(long)]
    json: bool,
}

fn parse_member(text: &str) -> Result<Member, String> {
    let (key, url) = text.split_once('=').ok_or("write KEY=URL")?;
    let key = unhex(key)
        .ok_or("the key is 64 hexadecimal digits, as `mixctl authority init` prints them")?;
    // TLS would bring nothing: everything is signed and public. A proxy may put it before an authority for others.
    let address = parse_url(url)?;
    Ok(Member { key, address })
}

/// Runs one command.
///
/// # Errors
/// A file can't be read or written, or a rule of the chain forbids it.
pub fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Propose(proposal) => propose(*proposal),
        Command::Sign {
            file,
            key,
            network,
            json,
        } => sign(&file, &key, &network, json),
        Command::Publish {
            file,
            network,
            json,
        } => publish(&file, &network, json),
    }
}

fn propose(proposal: Proposal) -> Result<(), Failure> {
    let members = proposal.members;
    let now_ms = unix_ms()?;
    let proposed = match &proposal.network {
        None => {
            let parameters = Parameters {
                genesis_unix_ms: now_ms,
                epoch_ms: whole(proposal.epoch.as_millis())?,
                mean_delay_us: whole(proposal.mean_delay.as_micros())?,
                client_rate_pps: proposal.client_rate,
                layers: proposal.layers,
            };
            check_rounds(&parameters, members.len())?;
            check_delay(&parameters)?;
            SignedSet::founding(parameters, members)
        }
        Some(network) => {
            let chain = read_network(network)?.chain;
            let now = chain.parameters().epoch_at(now_ms);
            let earliest = now.saturating_add(EPOCHS_AHEAD + 1);
            let first_epoch = proposal.first_epoch.unwrap_or(earliest);
            if first_epoch < earliest {
                let message = format!(
                    "epoch {first_epoch} is too soon: {earliest} is the first that all hear of in time"
                );
                return Err(Failure::new(exit::USAGE, message));
            }
            chain.propose(first_epoch, members)
        }
    };
    let proposal_file = proposal.file;
    let signed = proposed.map_err(|error| Failure::new(exit::USAGE, error.to_string()))?;
    write(&proposal_file, &signed.encode())?;
    let count = signed.set().members.len();
    if count.is_multiple_of(2) {
        complain!(
            "mixctl: warning: {count} authorities bear no more faults than {}",
            count - 1
        );
    }
    Ok(program::print(&match proposal.json {
        true => document(&signed, &proposal_file),
        false => format!(
            "{}\neach authority signs {}: `mixctl authority set sign`",
            describe(signed.set()),
            proposal_file.display()
        ),
    })?)
}

/// More than one authority talks in rounds, and messages take their time.
///
/// # Errors
/// Epochs are too short for that.
pub fn check_rounds(parameters: &Parameters, authorities: usize) -> Result<(), Failure> {
    if authorities <= 1 || parameters.epoch_ms >= EPOCH_MS_MIN {
        return Ok(());
    }
    let message =
        format!("--epoch: {EPOCH_MS_MIN} ms at least where authorities talk to each other");
    Err(Failure::new(exit::USAGE, message))
}

/// A packet of an epoch arrives while the epoch's keys live: what all its delays take at most fits into the quarter of a
/// round that senders leave it.
fn check_delay(parameters: &Parameters) -> Result<(), Failure> {
    let delays_us = u64::from(parameters.mean_delay_us) * u64::from(DELAYS_MEANS);
    let quarter_us = parameters.round_ms() * 1_000 / 4;
    if delays_us <= quarter_us {
        return Ok(());
    }
    let shown = |us| duration::show(Duration::from_micros(us));
    let message = format!(
        "--mean-delay: all delays of a packet may take {} ({DELAYS_MEANS} means), and a quarter of a round, which is \
         {} of such epochs, is what they have: a --mean-delay of {} at most, or an --epoch of {} at least",
        shown(delays_us),
        shown(quarter_us),
        shown(quarter_us / u64::from(DELAYS_MEANS)),
        shown((delays_us * 4).div_ceil(1_000) * 32 * 1_000)
    );
    Err(Failure::new(exit::USAGE, message))
}

fn sign(file: &Path, key: &Path, network: &Path, as_json: bool) -> Result<(), Failure> {
    let mut signed = read(file)?;
    let key = key::read(key)?;
    check_signer(signed.set(), &key.public(), network)?;
    signed.sign(&key);
    write(file, &signed.encode())?;
    Ok(program::print(&match as_json {
        true => document(&signed, file),
        false => format!(
            "{}\nsigned as {}",
            describe(signed.set()),
            hex(&key.public())
        ),
    })?)
}

/// One signature that does not belong there spoils a set for everyone.
fn check_signer(set: &AuthoritySet, key: &[u8; 32], network: &Path) -> Result<(), Failure> {
    if has(set, key) {
        return Ok(());
    }
    let stranger = format!("authority {} is no member of the proposed set", hex(key));
    let Some(generation) = set.generation.checked_sub(1) else {
        return Err(Failure::new(exit::USAGE, stranger));
    };
    let bootstrap = read_network(network).map_err(|failure| {
        let message = format!(
            "{stranger}; whether it is of the set before, the network's file says (--network): {failure}"
        );
        Failure::new(failure.code, message)
    })?;
    let chain = bootstrap.chain;
    let before = chain.generation(generation);
    match before.is_some_and(|before| *chain.network() == set.network && has(before, key)) {
        true => Ok(()),
        false => {
            let message = format!("{stranger}, nor of the one before in {}", network.display());
            Err(Failure::new(exit::USAGE, message))
        }
    }
}

fn has(set: &AuthoritySet, key: &[u8; 32]) -> bool {
    set.members.iter().any(|member| member.key == *key)
}

/// Who could sign still: the set's members, and those of the set before.
fn unsigned(signed: &SignedSet, before: Option<&AuthoritySet>) -> String {
    let before = before.into_iter().flat_map(|set| &set.members);
    let gone = before.filter(|member| !has(signed.set(), &member.key));
    let all = signed.set().members.iter().chain(gone);
    let missing = all.filter(|member| !signed.is_signed_by(&member.key));
    missing
        .map(|member| {
            format!(
                "\nnot signed by {}  http://{}",
                hex(&member.key),
                member.address
            )
        })
        .collect()
}

fn publish(file: &Path, network: &Path, as_json: bool) -> Result<(), Failure> {
    let signed = read(file)?;
    let known = match network.exists() {
        true => Some(read_network(network)?),
        false => None,
    };
    let before = known.as_ref().and_then(|known| {
        let generation = signed.set().generation.checked_sub(1)?;
        known.chain.generation(generation)
    });
    let missing = unsigned(&signed, before);
    let refused = |error: SetError| {
        let missing = match error {
            SetError::NewMember | SetError::Signatures { .. } => missing.as_str(),
            _ => "",
        };
        Failure::new(
            exit::CONFIG,
            format!("{}: {error}{missing}", file.display()),
        )
    };
    let generation = signed.set().generation;
    let bootstrap = match (known, generation) {
        (Some(_), 0) => {
            let message = format!(
                "{} is there already: a network is founded once",
                network.display()
            );
            return Err(Failure::new(exit::USAGE, message));
        }
        // Without a document: nodes upload by the authorities' URLs until there is one.
        (None, 0) => Bootstrap {
            chain: Chain::found(signed).map_err(refused)?,
            consensus: None,
        },
        (known, _) => {
            let mut bootstrap = known.map_or_else(|| read_network(network), Ok)?;
            bootstrap.chain.extend(signed).map_err(refused)?;
            bootstrap
        }
    };
    bootstrap
        .write(network)
        .map_err(|error| of_file(network, error))?;
    let id = hex(bootstrap.chain.network());
    Ok(program::print(&match as_json {
        true => json!({ "network": id, "generation": generation, "file": network.display().to_string() }).to_string(),
        false => format!(
            "network {id}, authority set {generation}\n{} is what authorities, nodes and clients join with",
            network.display()
        ),
    })?)
}

/// What is proposed in a file, and who has signed it.
fn document(signed: &SignedSet, file: &Path) -> String {
    let set = signed.set();
    let parameters = set.parameters.as_ref().map(|parameters| {
        json!({
            "epoch_ms": parameters.epoch_ms, "mean_delay_us": parameters.mean_delay_us,
            "client_rate_pps": parameters.client_rate_pps, "layers": parameters.layers,
        })
    });
    let members = set.members.iter().map(|member| {
        json!({
            "authority": hex(&member.key), "url": format!("http://{}", member.address),
            "signed": signed.is_signed_by(&member.key),
        })
    });
    json!({
        "generation": set.generation, "first_epoch": set.first_epoch, "parameters": parameters,
        "members": members.collect::<Vec<_>>(), "file": file.display().to_string(),
    })
    .to_string()
}

/// What whoever signs puts their name to.
fn describe(set: &AuthoritySet) -> String {
    let mut lines = vec![format!(
        "authority set {}, from epoch {} on",
        set.generation, set.first_epoch
    )];
    if let Some(parameters) = &set.parameters {
        lines.push(format!(
            "epochs of {} ms, a mean delay of {} us a hop, {} packets a second a client, layers: {}",
            parameters.epoch_ms, parameters.mean_delay_us, parameters.client_rate_pps, parameters.layers
        ));
    }
    lines.extend(
        set.members
            .iter()
            .map(|member| format!("{}  http://{}", hex(&member.key), member.address)),
    );
    lines.join("\n")
}

fn read(file: &Path) -> Result<SignedSet, Failure> {
    let bytes = read_bounded(file, SET_BYTES_MAX).map_err(|error| of_file(file, error))?;
    SignedSet::decode(&bytes)
        .map_err(|error| Failure::new(exit::CONFIG, format!("{}: {error}", file.display())))
}

fn write(file: &Path, bytes: &[u8]) -> Result<(), Failure> {
    write_atomic(file, bytes).map_err(|error| of_file(file, error))
}

fn whole<T: TryFrom<u128>>(value: u128) -> Result<T, Failure> {
    T::try_from(value).map_err(|_| Failure::new(exit::USAGE, "a duration is too long"))
}

fn unix_ms() -> Result<u64, Failure> {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_err(|_| Failure::new(exit::OS, "the clock is before 1970"))?;
    whole(since.as_millis())
}
