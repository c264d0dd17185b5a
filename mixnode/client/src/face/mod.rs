//! The client on a real socket, clock and disk. The command `fog` itself is beside this, a program of its own.

mod departing;
mod lookout;
mod pace;
pub mod run;
mod session;
mod source;
mod wait;

pub use pace::Pace;
