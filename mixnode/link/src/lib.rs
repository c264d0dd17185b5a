//! Links between neighbours: a hybrid Noise IKpsk2 handshake and AES-256-GCM frames in batches.
//!
//! No I/O and no clock: datagrams, time and randomness come in as parameters, so that a seed reproduces a run. Every
//! datagram of every kind is [`DATAGRAM_BYTES`] long. The bytes are specified in `SPEC.md` beside this crate.
//!
//! The way of a datagram that arrived: [`peek`] (size, type, reserved bytes) → the session by its receiver index →
//! [`ReceiveSession::check`] (counter window) → [`open_batch`] (AEAD) → [`ReceiveSession::admit`] (only now is the
//! counter marked).
#![no_std]
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic)
)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod control;
mod frame;
mod handshake;
mod keys;
mod session;
mod window;
mod wire;

pub use frame::{
    Kind, OpenError, OpenJob, Opened, ReceiveKey, SealJob, SendKey, open_batch, seal_batch,
};
pub use handshake::{
    Arrival, COOKIE_LIFETIME_NS, Cookie, HandshakeError, Initiations, Initiator, Responder,
    Response, first_mac, is_bare,
};
pub use keys::{
    ClientKeys, KEM_PUBLIC_BYTES, LINK_KEYS_BYTES, LinkKeys, LinkPublic, destination_tag,
};
pub use session::{
    EXPIRE_AFTER_NS, FRAMES_MAX, REKEY_AFTER_FRAMES, REKEY_AFTER_NS, ReceiveSession, SendSession,
    Session,
};
pub use window::{WINDOW_FRAMES, Window, WindowError};
pub use wire::{Datagram, Malformed, peek};

/// Length of every datagram's UDP payload, all kinds, both directions. Fits IPv6's minimum MTU of 1,280 bytes.
pub const DATAGRAM_BYTES: usize = 1232;

/// Length of a data frame's content.
pub const CONTENT_BYTES: usize = 1200;

/// Where the content starts in a data frame: 12 clear bytes, then kind 1, epoch mod 4 1, zero 2.
pub const CONTENT_OFFSET: usize = 16;

/// The most jobs that one call of [`seal_batch`] or [`open_batch`] takes.
pub const BATCH_MAX: usize = 64;

const _: () = assert!(CONTENT_OFFSET + CONTENT_BYTES + frame::TAG_BYTES == DATAGRAM_BYTES);
