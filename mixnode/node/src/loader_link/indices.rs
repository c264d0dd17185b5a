//! Receiver indices that something before the node lets in.

use std::net::IpAddr;

/// What is told of the receiver indices in use. The XDP program drops datagrams of indices it does not know, so an index
/// is let in before the datagram that names it leaves, and kept out when its session or handshake is over.
pub trait Indices: Send {
    /// Lets datagrams of `index` in, which come from `source`; whether they come in from now on. If not, nobody may be
    /// told the index.
    fn admit(&mut self, index: u32, source: IpAddr) -> bool;

    /// Keeps them out again. Without effect on an index that was not let in.
    fn forget(&mut self, index: u32);
}

/// For ports with nothing before them: every datagram comes in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unfiltered;

impl Indices for Unfiltered {
    fn admit(&mut self, _index: u32, _source: IpAddr) -> bool {
        true
    }

    fn forget(&mut self, _index: u32) {}
}
