//! Control frames of clients: attach, prove an address, and fetch a consensus. Answers take slots of the client's stream.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;

use link::control::Control;
use rand::RngExt;
use sphinx::DestinationTag;

use crate::path::clients::{Answer, Attachment};
use crate::path::core::{Core, content};
use crate::path::mail::Mail;
use crate::path::reason::Reason;
use port::pool::Frame;

/// Where an authenticated control frame came from.
pub struct From {
    /// Its session.
    pub session: u32,
    /// Which of two sessions is the newer.
    pub order: u64,
    /// The neighbour's number.
    pub neighbour: u16,
    /// Under this name the sender is reached as a client.
    pub destination: DestinationTag,
    /// Number of the frame in the session.
    pub counter: u64,
    /// The address.
    pub source: SocketAddr,
    /// Where the response of the session's handshake went.
    pub answered: SocketAddr,
}

/// Serves a control frame, at a gateway, from a client.
pub fn control(core: &mut Core, mut frame: Frame, from: &From) {
    let is_node = core
        .neighbours
        .get(from.neighbour)
        .is_none_or(crate::path::neighbours::Neighbour::is_node);
    if core.settings.clients_max == 0 || is_node {
        return core.ledger.reject(frame, Reason::Kind);
    }
    let served = match Control::decode(content(core.ledger.datagram_mut(&mut frame))) {
        Ok(Control::Attach { rate_pps }) => attach(core, from, rate_pps),
        Ok(Control::Fetch { epoch, chunk }) => core
            .clients
            .attached(&from.destination)
            .is_some_and(|client| client.answer(Answer::Chunk { epoch, chunk })),
        Ok(Control::Answer { nonce }) => core
            .clients
            .attached(&from.destination)
            .is_some_and(|client| client.proves(&nonce, from.source)),
        Ok(
            Control::Attached { .. }
            | Control::Chunk { .. }
            | Control::Challenge { .. }
            | Control::Leaving { .. }
            | Control::Full,
        )
        | Err(_) => false,
    };
    if served {
        core.ledger.absorb(frame);
    } else {
        core.ledger.reject(frame, Reason::Control);
    }
}

/// A client is named by the key it proved, so nobody can attach under another's tag.
fn attach(core: &mut Core, from: &From, rate_pps: u32) -> bool {
    let destination = from.destination;
    let rate_pps = rate_pps.clamp(1, core.settings.client_rate_max_pps.max(1));
    let known = core
        .clients
        .attached(&destination)
        .map(|client| (client.session, client.attachment));
    let attachment = match known {
        Some((session, attachment)) if session == from.session => attachment,
        _ => core.shared.attachments.fetch_add(1, Ordering::Relaxed),
    };
    let attached = core.clients.attach(
        destination,
        Attachment {
            session: from.session,
            order: from.order,
            attachment,
            counter: from.counter,
            address: from.answered,
            rate_pps,
            now_ns: core.now_ns,
        },
    );
    if attached {
        if let Some(client) = core.neighbours.get_mut(from.neighbour) {
            client.bucket.grant(rate_pps, core.now_ns);
        }
        if let Some(client) = core.clients.attached(&destination) {
            let rng = &mut core.rng;
            client.heard(from.counter, from.source, core.now_ns, || rng.random());
        }
        announce(core, destination, attachment);
    }
    attached
}

/// Tells the other workers. One that misses it (its mailbox is full) learns with the client's next attach frame;
/// clients repeat them.
fn announce(core: &Core, destination: DestinationTag, attachment: u64) {
    for (number, mailbox) in (0u8..).zip(&core.shared.mailboxes) {
        if number != core.settings.number {
            let _ = mailbox.post(Mail::ClientAt {
                destination,
                worker: core.settings.number,
                attachment,
            });
        }
    }
}
