//! The client on a real socket, clock and disk. The command `fog` itself is beside this, a program of its own.

pub mod arguments;
mod clock;
pub mod control;
mod departing;
mod linger;
mod lookout;
mod notice;
mod pace;
pub mod run;
mod send;
mod session;
mod socket;
mod source;
mod transit;
mod wait;

pub use pace::Pace;
