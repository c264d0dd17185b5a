//! Control frames of clients: attach, prove an address, and fetch a consensus. Answers take slots of the client's stream.
//! From a node one kind: that it was restarted.

use std::net::SocketAddr;

use link::control::{CHALLENGE_BYTES, Control};
use rand::RngExt;
use sphinx::DestinationTag;

use crate::path::clients::{Answer, Attachment, Outcome, Told};
use crate::path::core::{Core, Shared, content};
use crate::path::mail::Mail;
use crate::path::reason::Reason;
use crate::path::restart;
use port::pool::Frame;

/// Where an authenticated control frame came from.
pub struct From {
    /// Its session.
    pub session: u32,
    /// Which of two sessions is the newer, among all workers.
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

/// Serves a control frame, at a gateway from a client, or of a node.
pub fn control(core: &mut Core, mut frame: Frame, from: &From) {
    let is_node = core
        .neighbours
        .get(from.neighbour)
        .is_none_or(crate::path::neighbours::Neighbour::is_node);
    let decoded = Control::decode(content(core.ledger.datagram_mut(&mut frame)));
    if is_node && decoded == Ok(Control::Restarted) && restart::hear(core, from.session) {
        return core.ledger.absorb(frame);
    }
    if core.settings.clients_max == 0 || is_node {
        return core.ledger.reject(frame, Reason::Kind);
    }
    let served = match decoded {
        Ok(Control::Attach { rate_pps }) => attach(core, from, rate_pps),
        Ok(Control::Fetch { epoch, chunk }) => core
            .clients
            .attached(&from.destination)
            .is_some_and(|client| client.answer(Answer::Chunk { epoch, chunk })),
        Ok(Control::Answer { nonce }) => prove(core, from, &nonce),
        Ok(
            Control::Attached { .. }
            | Control::Chunk { .. }
            | Control::Challenge { .. }
            | Control::Leaving { .. }
            | Control::Full
            | Control::Restarted,
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
    let is_new = core
        .clients
        .attached(&destination)
        .is_none_or(|client| client.session != from.session);
    let with = Attachment {
        session: from.session,
        order: from.order,
        counter: from.counter,
        address: from.answered,
        rate_pps,
        now_ns: core.now_ns,
    };
    let ledger = &mut core.ledger;
    let freed = |frame| ledger.reject(frame, Reason::ClientGone);
    match core.clients.attach(destination, with, freed) {
        Outcome::Older => return false,
        Outcome::Full => {
            core.refused += 1;
            refuse(core, from.session, from.answered);
            return true;
        }
        Outcome::InPlaceOf(session, address) => {
            core.displaced += 1;
            core.revoke(session);
            refuse(core, session, address);
        }
        Outcome::Attached => {}
    }
    let granted_pps = core.clients.attached(&destination).map(|one| one.rate_pps);
    if let Some(granted_pps) = granted_pps
        && let Some(client) = core.neighbours.get_mut(from.neighbour)
    {
        client.bucket.grant(granted_pps, core.now_ns);
    }
    if let Some(client) = core.clients.attached(&destination) {
        let rng = &mut core.rng;
        client.heard(from.counter, from.source, core.now_ns, || rng.random());
    }
    if is_new {
        let workers = others(core);
        let post = letters(&core.shared, core.settings.number);
        core.clients.announce(&destination, workers, post);
    }
    true
}

/// The answer to a challenge: whether the client is where it comes from.
fn prove(core: &mut Core, from: &From, nonce: &[u8; CHALLENGE_BYTES]) -> bool {
    let clients = &mut core.clients;
    if !clients.answered(&from.destination, nonce, from.source) {
        return false;
    }
    if let Some(loader) = &core.loader
        && let Some(client) = clients.attached(&from.destination)
    {
        loader.bind(client.session, from.source.ip());
    }
    true
}

/// Says that there is no place. Where too many wait to be told, one is not: it asks again.
fn refuse(core: &mut Core, session: u32, address: SocketAddr) {
    let _ = core.refusals.try_push((session, address));
}

/// The other workers of the node, a bit each.
fn others(core: &Core) -> u128 {
    let number = core.settings.number;
    let others = (0..core.settings.workers).filter(|other| *other != number);
    others.fold(0, |all, other| {
        all | 1u128.checked_shl(other.into()).unwrap_or(0)
    })
}

/// Puts a letter about a client of this worker into another's mailbox; whether it was taken.
fn letters(shared: &Shared, worker: u8) -> impl FnMut(u8, Told) -> bool {
    move |other, told| {
        let (destination, order) = (told.destination, told.order);
        let letter = match told.is_gone {
            false => Mail::ClientAt {
                destination,
                worker,
                order,
            },
            true => Mail::ClientGone { destination, order },
        };
        let mailbox = shared.mailboxes.get(usize::from(other));
        mailbox.is_none_or(|mailbox| mailbox.post(letter))
    }
}

/// Tells the other workers of clients that have gone, and that attached here while their mailbox was full.
pub fn tell(core: &mut Core) {
    let post = letters(&core.shared, core.settings.number);
    core.clients.tell(post);
}
