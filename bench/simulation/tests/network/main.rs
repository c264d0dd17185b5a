//! Whole nodes on a simulated network: what enters, leaves, is held and is refused, to the frame.

mod addresses;
mod clients;
mod epochs;
mod full;
mod handshakes;
mod leaving;
mod limits;
mod mesh;
mod packets;
mod queues;
mod restarts;
