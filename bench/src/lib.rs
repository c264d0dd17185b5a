//! mixbench: measurements of the mixnet's parts and of the whole, and reports on them.

mod clock;
pub mod crypto;
pub mod flood;
mod host;
pub mod lockstep;
mod rounds;
mod scene;
mod stats;
