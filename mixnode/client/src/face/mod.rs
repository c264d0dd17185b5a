//! The client on a real socket, clock and disk. The command `fog` itself is beside this, a program of its own.

mod departing;
pub mod run;
mod wait;
