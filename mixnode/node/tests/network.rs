//! Whole nodes on a simulated network: what enters, leaves, is held and is refused, to the frame.

#[path = "network/clients.rs"]
mod clients;
#[path = "network/limits.rs"]
mod limits;
mod mesh;
#[path = "network/packets.rs"]
mod packets;
#[path = "network/queues.rs"]
mod queues;
