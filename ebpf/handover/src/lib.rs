//! The hand-over: what the loader (`mixctld`), the node (`mixnode`) and the operator's `mixctl` say to each other over
//! a unix socket, the sizes of the memory and rings that go from one to the other, the memory that outlives the node, and
//! what drops mean.

#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic)
)]

pub mod channel;
pub mod chunk;
pub mod meaning;
pub mod protocol;
mod refusal;
pub mod status;
pub mod vault;

pub use channel::Channel;
/// Most AF_XDP sockets of one interface.
pub use ebpf_abi::XSKS_MAX;
