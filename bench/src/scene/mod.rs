//! What a node is measured in: its neighbourhood, and the network between.

pub(crate) mod place;
pub(crate) mod veth;
pub(crate) mod world;

/// Frames of the node's packet memory.
pub(crate) const FRAMES: u32 = 4096;
