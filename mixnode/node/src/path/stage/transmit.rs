//! Transmit: gives the port what it takes; the rest waits, and nothing else is released meanwhile.

use link::DATAGRAM_BYTES;
use std::net::SocketAddr;

use crate::path::core::Core;
use port::{Departing, Port};

/// Offers the waiting batch to the port.
pub fn transmit<P: Port>(core: &mut Core, port: &mut P) {
    if core.departing.is_empty() {
        return;
    }
    let taken = port.transmit(&mut core.departing);
    for delivery in core.departing_deliveries.drain(..taken) {
        if delivery {
            core.counters.delivered += 1;
        } else {
            core.counters.transmitted += 1;
        }
    }
}

/// Puts a handshake message among what waits for the port; `false` if there is no room or no frame.
pub fn send_raw(core: &mut Core, destination: SocketAddr, datagram: &[u8; DATAGRAM_BYTES]) -> bool {
    if core.departing.is_full() {
        return false;
    }
    let Some(mut frame) = core.generate() else {
        return false;
    };
    *core.pool.datagram_mut(&mut frame) = *datagram;
    core.departing.push(Departing { frame, destination });
    core.departing_deliveries.push(false);
    true
}
