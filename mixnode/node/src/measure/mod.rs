//! What a node measures of its network and of itself: pure, fed by the control loop with what workers publish.
//!
//! [`Detector`] finds hops that lose packets and the n−1 attack, [`Book`] says how each next hop does, [`Pool`] how many
//! packets a departing one could have been, [`Silence`] who of the layer before says nothing.

mod detector;
mod explain;
mod hops;
mod pool;
mod silence;
mod sums;

pub use detector::{Change, Detector, SETTLES_NS};
pub use hops::{Book, NodeKey};
pub use pool::{Bits, Change as PoolChange, LONG_S, Pool};
pub use silence::Silence;
pub use sums::THRESHOLD;
