//! Who is admitted: the one decision over buckets, compiled for the program and for the host that tests it.
//!
//! A rule runs through it: nobody spends what is another's. A frame takes from its source's bucket only for a session
//! that is that source's, an initiation in the name of a node of the consensus only from that node's bucket, and those
//! that may show a cookie never from the bucket of those that can't.

use crate::maps::{Config, Rate, Rates};
use crate::parse::{Address, Datagram, same};
use crate::reason::Reason;

/// Where owners, rates and buckets are.
pub trait Tables {
    /// The clock of the buckets.
    fn now_ns(&self) -> u64;
    /// The source a receiver index belongs to; zero if to nobody that is proved, `None` if there is no such index.
    fn owner(&self, index: u32) -> Option<Address>;
    /// The rate of a source's frames if it is a node of the consensus.
    fn peer(&self, source: &Address) -> Option<Rate>;
    /// Takes a token for a frame of the source's own session.
    fn take_source(&self, source: &Address, now_ns: u64, rate: &Rate) -> bool;
    /// Takes a token for a frame of a node of the consensus that its own rate has no room for.
    fn take_beyond(&self, now_ns: u64) -> bool;
    /// Takes a token for a frame of a session that is another's, or nobody's yet.
    fn take_stranger(&self, source: &Address, now_ns: u64, rate: &Rate) -> bool;
    /// Takes a token for an initiation in the name of a node of the consensus.
    fn take_member_handshake(
        &self,
        source: &Address,
        mac2: bool,
        now_ns: u64,
        rates: &Rates,
    ) -> bool;
    /// Takes a token for an initiation of another source.
    fn take_handshake(&self, source: &Address, mac2: bool, now_ns: u64, rates: &Rates) -> bool;
    /// Takes a token of all those other sources together.
    fn take_any_handshake(&self, mac2: bool, now_ns: u64, rates: &Rates) -> bool;
}

/// Why a datagram of ours is dropped, if it is.
#[inline(always)]
pub fn admit(
    tables: &impl Tables,
    config: &Config,
    source: &Address,
    datagram: Datagram,
) -> Option<Reason> {
    match datagram {
        Datagram::Session(index) => session(tables, config, source, index),
        Datagram::Initiation { mac2 } => initiation(tables, config, source, mac2),
    }
}

/// The index first, and whose it is: a forged source without a session of its own can't spend a peer's tokens.
#[inline(always)]
fn session(tables: &impl Tables, config: &Config, source: &Address, index: u32) -> Option<Reason> {
    let Some(owner) = tables.owner(index) else {
        return Some(Reason::UnknownIndex);
    };
    let now_ns = tables.now_ns();
    if !same(&owner, source) {
        let admitted = tables.take_stranger(source, now_ns, &config.source);
        return if admitted {
            None
        } else {
            Some(Reason::StrangerRate)
        };
    }
    let peer = tables.peer(source);
    let rate = match peer {
        Some(wanted) => config.peer(&wanted),
        None => config.source,
    };
    // Only the session's key tells a node's frames from forged ones: as many of both pass as a worker can ask it about.
    if tables.take_source(source, now_ns, &rate) || (peer.is_some() && tables.take_beyond(now_ns)) {
        None
    } else {
        Some(Reason::SourceRate)
    }
}

#[inline(always)]
fn initiation(
    tables: &impl Tables,
    config: &Config,
    source: &Address,
    mac2: bool,
) -> Option<Reason> {
    let now_ns = tables.now_ns();
    if tables.peer(source).is_some() {
        let admitted = tables.take_member_handshake(source, mac2, now_ns, &config.member);
        return if admitted {
            None
        } else {
            Some(Reason::HandshakeMemberRate)
        };
    }
    if !tables.take_handshake(source, mac2, now_ns, &config.stranger) {
        Some(Reason::HandshakeSourceRate)
    } else if tables.take_any_handshake(mac2, now_ns, &config.strangers) {
        None
    } else if mac2 {
        Some(Reason::HandshakeCookieRate)
    } else {
        Some(Reason::HandshakeRate)
    }
}
