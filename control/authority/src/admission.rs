//! Whom an authority lists: its allow-list, or in a laboratory whoever comes.

use std::collections::BTreeMap;
use std::net::IpAddr;

use directory::authority_set::AuthoritySet;
use directory::{Chain, Descriptor, Role};

/// Where everyone is admitted, so many nodes share a /24 or /48 at most.
pub const OPEN_PREFIX_NODES_MAX: usize = 4;

/// What the allow-list says of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// The role that was agreed on.
    pub role: Role,
    /// Who runs it.
    pub operator: String,
    /// It weighs no more than this, packets a second.
    pub weight_max: u32,
    /// It is listed and carries nothing.
    pub paused: bool,
}

/// Whom an authority lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Everyone, [`OPEN_PREFIX_NODES_MAX`] a prefix: for laboratories.
    Open,
    /// These identities.
    List(BTreeMap<[u8; 32], Admitted>),
}

/// Why a descriptor is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Not on the allow-list.
    #[error("unknown-node")]
    Unknown,
    /// It says another role or operator than the allow-list.
    #[error("admission")]
    Admission,
    /// Of another network.
    #[error("network")]
    Network,
    /// It names an address that means another host to everyone.
    #[error("address")]
    Address,
    /// Without a key for the epoch that is being decided.
    #[error("epoch")]
    Epoch,
}

/// What stands behind a word that a descriptor is refused with, where it takes an operator, the node's or the
/// authority's, to mend it.
pub fn cause(word: &str) -> Option<&'static str> {
    Some(match word {
        "unknown-node" => {
            "the list of nodes does not name the node: `mixctl authority nodes add` does it, on the authority's host"
        }
        "admission" => {
            "the list of nodes has another role or operator for the node than [node] in its mixnode.toml: one of both is wrong"
        }
        "address" => {
            "[node] listen in the node's mixnode.toml is no address that means one host to all: name its public one"
        }
        "stale" => {
            "a newer one is held, or its time is far from now: the node's clock is off, or another host uses its identity"
        }
        "prefix" => "enough nodes of its /24 or /48 are here, for anybody is let in",
        _ => return None,
    })
}

impl Admission {
    /// Whether this node may be in the document of `epoch`. Who it is can be asked before any signature is checked.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, descriptor: &Descriptor, chain: &Chain, epoch: u32) -> Result<(), Refusal> {
        if let Admission::List(list) = self {
            let admitted = list.get(&descriptor.identity).ok_or(Refusal::Unknown)?;
            if (admitted.role, &admitted.operator) != (descriptor.role, &descriptor.operator) {
                return Err(Refusal::Admission);
            }
        }
        if descriptor.network != *chain.network() {
            return Err(Refusal::Network);
        }
        let mut addresses = descriptor.addresses.iter();
        let of_one_host = chain.at(epoch).is_some_and(AuthoritySet::is_on_one_host);
        if !of_one_host && addresses.any(|address| means_another_host_to_each(address.ip())) {
            return Err(Refusal::Address);
        }
        match descriptor.key_at(epoch) {
            Some(_) => Ok(()),
            None => Err(Refusal::Epoch),
        }
    }

    /// Whether this identity may be listed at all: to be asked before a signature is checked.
    pub fn knows(&self, identity: &[u8; 32]) -> bool {
        *self == Admission::Open || self.of(identity).is_some()
    }

    /// What the list says of a node; nothing where everyone is admitted.
    pub(crate) fn of(&self, identity: &[u8; 32]) -> Option<&Admitted> {
        match self {
            Admission::Open => None,
            Admission::List(list) => list.get(identity),
        }
    }
}

/// Whether packets to this address end at the sender's own host or link, whoever it is.
fn means_another_host_to_each(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            ip.is_loopback() || ip.is_link_local() || ip.is_broadcast() || ip.octets()[0] == 0
        }
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unicast_link_local(),
    }
}

/// The prefix that counts as one neighbourhood: a /24 or a /48.
pub fn prefix(address: IpAddr) -> (bool, u128) {
    match address {
        IpAddr::V4(ip) => (false, u128::from(ip.to_bits() >> 8)),
        IpAddr::V6(ip) => (true, ip.to_bits() >> 80),
    }
}
