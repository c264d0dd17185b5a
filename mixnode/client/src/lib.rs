//! The user's client: a file goes from one user to another, and nobody on the way learns who talks to whom.
//!
//! [`Client`] is the whole client without its socket, clock and disk; [`run`] gives it those. What a user hands out
//! is an [`Address`]. Its rooms: `carrier` (everything that is a packet on the wire: slots, cover, reply blocks,
//! consensus), `transfer` (files, the first service that uses it), `store` (what is kept on disk), `face` (running it,
//! and the command).
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        // They panic when nobody reads: see crate `program`.
        clippy::print_stdout,
        clippy::print_stderr
    )
)]

mod address;
mod carrier;
mod client;
mod crypto;
mod elligator;
mod event;
mod face;
mod histogram;
mod identity;
#[cfg(any(test, feature = "probe"))]
mod probe;
mod store;
mod transfer;

pub use address::{Address, AddressError};
pub use carrier::{Documents, GuardState, Reserves, Stats};
pub use client::{Client, Config};
pub use event::{Event, Less};
pub use face::{Pace, arguments, control, run};
pub use histogram::Latency;
pub use identity::{IDENTITY_BYTES, Identity};
pub use store::{DiskStorage, Finish, MemoryStorage, Once, Source, Standing, Storage, home};
#[cfg(any(test, feature = "fuzz"))]
#[doc(hidden)]
pub use transfer::fuzz;
pub use transfer::{Failure, Manifest, Phase, Received, TransferId, TransferStats};
