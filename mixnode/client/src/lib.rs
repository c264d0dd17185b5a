//! The user's client: a file goes from one user to another, and nobody on the way learns who talks to whom.
//!
//! [`Client`] is the whole client without its socket, clock and disk; [`run`] gives it those. What a user hands out
//! is an [`Address`]. The formats end to end are described where they are written: [`address`], `sealed` (what is
//! sealed to a recipient's X25519 key alone), `session` (user data under X25519 and ML-KEM-768 together) and
//! `content` (what travels inside).
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic)
)]

pub mod address;
mod attachment;
mod client;
#[cfg(test)]
mod clocks;
mod content;
mod crypto;
pub mod disk;
mod documents;
#[cfg(any(test, feature = "fuzz"))]
#[doc(hidden)]
#[allow(clippy::panic)] // An oracle speaks by panicking.
pub mod fuzz;
mod histogram;
pub mod home;
mod identity;
mod incoming;
mod outgoing;
mod ranges;
mod round_trip;
pub mod run;
mod sealed;
mod session;
mod storage;
mod wait;

pub use address::{Address, AddressError};
pub use client::{Client, Config, Event, RATE_MIN_PPS, Stats};
pub use content::{CHUNK_BYTES, Manifest, TransferId, TransferState};
pub use documents::Documents;
pub use histogram::Latency;
pub use identity::{IDENTITY_BYTES, Identity, KEM_KEY_BYTES};
pub use incoming::Received;
pub use outgoing::{Failure, Phase, TransferStats};
pub use session::CONTENT_BYTES;
pub use storage::{Finish, MemoryStorage, Source, Standing, Storage};
