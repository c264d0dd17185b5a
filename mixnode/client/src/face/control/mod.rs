//! What a `fog` that runs on a home takes from other commands of the same user: files to send, questions, the word to
//! stop.
//!
//! A home has one attachment to its gateway, so whoever else wants to send hands its file over. It goes through a
//! socket in the home; both ends are here.

mod asking;
mod channel;
mod protocol;
mod serving;

pub(super) use asking::{is_running, send};
pub use asking::{status, stop};
pub(super) use protocol::Order;
pub use protocol::{Item, Status};
pub(super) use serving::Control;
