//! What an authority reads at its start and again at a SIGHUP: its key, the network's file, the list of nodes.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::TcpListener;
use std::path::Path;

use authority::admission::Admission;
use directory::authority_set::SignedSet;
use directory::store::hex;
use directory::{Bootstrap, Chain, Identity, SignedConsensus};

use super::disk::Disk;
use super::{key, nodes, service};
use crate::config::AuthorityConfig;
use crate::exit::{self, Failure};

/// What an operator gives an authority.
pub(super) struct Files {
    pub(super) key: Identity,
    pub(super) chain: Chain,
    pub(super) recent: Option<SignedConsensus>,
    pub(super) admission: Admission,
}

/// Looks at the key, the network's file, the list of nodes, the folder and the address as a start does, and makes nothing:
/// what `--check-config` does for an authority.
///
/// What is no error and most likely a mistake, or can't be known, is returned in words.
///
/// # Errors
/// The first that a start would fail for.
pub fn check(config: &AuthorityConfig) -> Result<Vec<String>, Failure> {
    let files = read(config)?;
    let doubts = doubts(config, &files).into_iter();
    let mut lines: Vec<String> = doubts.map(|doubt| format!("warning: {doubt}")).collect();
    crate::folder::can_be_written(&config.state_dir)
        .and_then(|()| Disk::record_in(&config.state_dir))
        .map_err(|error| service::of_state(config, &error))?;
    match TcpListener::bind(config.listen) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::AddrInUse => lines.push(format!(
            "unchecked: [authority] listen: a process listens at {} already, maybe this authority itself",
            config.listen
        )),
        Err(error) => return Err(service::of_listen(config, &error)),
    }
    Ok(lines)
}

/// What is right on one host and most likely a mistake anywhere else, each with its remedy.
pub(super) fn doubts(config: &AuthorityConfig, files: &Files) -> Vec<String> {
    let own = files.key.public();
    let mut sets = files.chain.sets().iter().rev().map(SignedSet::set);
    let Some(set) = sets.find(|set| set.members.iter().any(|member| member.key == own)) else {
        return Vec::new();
    };
    let Some(member) = set.members.iter().find(|member| member.key == own) else {
        return Vec::new();
    };
    let (listen, address) = (config.listen, member.address);
    let what = match listen.ip() {
        _ if set.is_on_one_host() => return Vec::new(),
        ip if ip.is_loopback() => "no other host reaches it".to_owned(),
        ip if ip.is_unspecified() && set.members.len() > 1 => {
            "the other authorities know this one by the address that its requests come from"
                .to_owned()
        }
        _ => return Vec::new(),
    };
    vec![format!(
        "[authority] listen: {listen}, while the set of authorities says http://{address}: {what}: name the address of that URL"
    )]
}

/// Reads them.
///
/// # Errors
/// The first that is missing or wrong; a list of nodes that is not there yet is an empty one.
pub(super) fn read(config: &AuthorityConfig) -> Result<Files, Failure> {
    let key = key::read(&config.key)?;
    let own = key.public();
    let (chain, recent) = read_network(&config.network)?;
    let mut members = chain.sets().iter().flat_map(|set| &set.set().members);
    if !members.any(|member| member.key == own) {
        return Err(Failure::new(
            exit::CONFIG,
            format!(
                "authority {} is in no set of {}: `mixctl authority set`",
                hex(&own),
                config.network.display()
            ),
        ));
    }
    // A network is founded before its first node asks to be let in.
    let admission = read_admission(&config.admission)?.unwrap_or_else(|| {
        tracing::warn!("{}: nobody is admitted before", no_list(&config.admission));
        Admission::List(BTreeMap::new())
    });
    Ok(Files {
        key,
        chain,
        recent,
        admission,
    })
}

/// The network's file: who the authorities are, and a document if there is one.
///
/// # Errors
/// It can't be read or is none.
pub fn read_network(file: &Path) -> Result<(Chain, Option<SignedConsensus>), Failure> {
    match Bootstrap::read(file) {
        Ok(bootstrap) => Ok((bootstrap.chain, bootstrap.consensus)),
        Err(error) => Err(Failure::new(
            exit::CONFIG,
            format!(
                "{}: {error}: `mixctl network join FILE` puts it there",
                file.display()
            ),
        )),
    }
}

/// Whom to admit: a list's path, or `open`. None where no list lies there.
fn read_admission(admission: &str) -> Result<Option<Admission>, Failure> {
    match admission {
        "open" => Ok(Some(Admission::Open)),
        file => nodes::read(Path::new(file))
            .map(|list| list.map(Admission::List))
            .map_err(|error| Failure::new(exit::CONFIG, error.to_string())),
    }
}

/// The same for an authority that has a list already. One that is gone is a mistake more often than the wish to admit
/// nobody.
///
/// # Errors
/// The list is wrong, or not there.
pub(super) fn read_admission_again(admission: &str) -> Result<Admission, Failure> {
    read_admission(admission)?.ok_or_else(|| Failure::new(exit::CONFIG, no_list(admission)))
}

fn no_list(file: &str) -> String {
    format!(
        "no list of nodes {file}: `mixctl authority nodes add --file {file}` makes it, and SIGHUP has it read"
    )
}
