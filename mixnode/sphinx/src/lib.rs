//! Sphinx packets: geometry, wrap, batched unwrap, single-use reply blocks. No I/O, no clock, and no
//! allocation but of what is secret and stays.
//!
//! The native suite is KEM Sphinx: instead of one group element that every hop blinds, each hop's own X25519
//! ciphertext travels inside the encrypted routing block, so that opening a packet costs one scalar multiplication.
//! The byte format, the key schedule and the order of checks are in `SPEC.md` beside this crate; `vectors/` holds
//! packets that an independent implementation can be checked against.
//!
//! * A sender builds packets with [`wrap`], or, to be answered without being known, a reply block with
//!   [`surb_create`]; whoever holds the reply block spends it with [`surb_use`] and its creator reads the answer
//!   with [`surb_open`].
//!   Several of these at once, in common batches, are made by [`wrap_batch`].
//! * A hop opens packets with [`Engine::unwrap_batch`], up to [`BATCH_MAX`] at a time and in place.
//!
//! Layer order, epochs, the replay filter and the waiting are the caller's.
#![no_std]
#![cfg_attr(coverage, feature(coverage_attribute))]
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic)
)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod generator;
mod geometry;
mod hctr2;
mod header;
mod keys;
// Counters in its inner loops would cost several times what they count.
#[cfg_attr(coverage, coverage(off))]
pub mod lanes;
#[cfg(feature = "nym")]
pub mod nym;
mod pairs;
#[cfg(feature = "parts")]
#[doc(hidden)]
pub mod parts;
mod surb;
mod unwrap;
mod wipe;
mod wrap;
mod wrap_batch;

pub use generator::Generator;
pub use geometry::{
    BATCH_MAX, BODY_BYTES, CHECK_BYTES, FINAL_BLOCK_BYTES, GeometryField, HEADER_BYTES,
    HOP_BLOCK_BYTES, HOPS_MAX, KEM_BYTES, MAC_BYTES, PACKET_BYTES, REPLY_BYTES, ROUTING_BYTES,
    SURB_BYTES, geometry,
};
pub use header::{Command, DestinationTag, Id, Terminal};
pub use keys::{EpochSecret, ReplayTag};
pub use lanes::wipe::leaving_nothing;
pub use surb::{Surb, SurbSecret, surb_create, surb_open, surb_use};
pub use unwrap::{Engine, Job, Reject, ReplayFilter, Unwrapped};
pub use wrap::{PathHop, WrapError, wrap};
pub use wrap_batch::{WrapJob, Wrapped, wrap_batch};
