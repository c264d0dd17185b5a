//! Transmit: gives the port what it takes; the rest waits, and nothing else is released meanwhile.

use link::DATAGRAM_BYTES;
use std::net::SocketAddr;

use crate::path::core::Core;
use port::{Departing, Port};

/// Offers the waiting batch to the port.
pub fn transmit<P: Port>(core: &mut Core, port: &mut P) {
    if !core.departing.is_empty() {
        core.ledger.depart(port, &mut core.departing);
    }
}

/// Puts a handshake message among what waits for the port; `false` if there is no room or no frame.
pub fn send_raw(core: &mut Core, destination: SocketAddr, datagram: &[u8; DATAGRAM_BYTES]) -> bool {
    if core.departing.is_full() {
        return false;
    }
    let Some(mut frame) = core.ledger.generate() else {
        return false;
    };
    *core.ledger.datagram_mut(&mut frame) = *datagram;
    core.departing.push(Departing {
        frame,
        destination,
        delivery: false,
        // Anyone can make up the source that an answer goes to.
        proven: false,
    });
    true
}
