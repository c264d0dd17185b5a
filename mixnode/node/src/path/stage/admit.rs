//! Admit: size, type, receiver index, counter window. Handshakes and other workers' frames turn off here.

use std::net::{IpAddr, SocketAddr};

use link::{Datagram, peek};
use rand::RngExt;

use super::{Sealed, SealedBatch};
use crate::handshake::{
    QUEUE_ANSWERS, QUEUE_BARE, QUEUE_MEMBERS, QUEUE_STRANGERS, Request, worker_of,
};
use crate::path::core::Core;
use crate::path::mail::{Mailbox, Stray};
use crate::path::reason::Reason;
use port::pool::Frame;
use port::{BATCH_MAX, Received, ReceivedBatch};

/// Takes a burst from the port.
pub fn admit(core: &mut Core, received: &mut ReceivedBatch, sealed: &mut SealedBatch) {
    for Received {
        frame,
        source,
        length,
    } in received.drain(..)
    {
        match check(core, &frame, &source, length) {
            Ok(Datagram::Data {
                receiver_index,
                counter,
            }) => {
                if worker_of(receiver_index) == core.settings.number {
                    admit_data(core, frame, source, (receiver_index, counter), sealed);
                } else {
                    hand_over(core, frame, source, worker_of(receiver_index));
                }
            }
            Ok(message) => handshake(core, frame, source, &message),
            Err(reason) => core.ledger.reject(frame, reason),
        }
    }
}

/// Takes frames that other workers handed over, as many as a batch has room for. Returns how many.
pub fn admit_strays(core: &mut Core, sealed: &mut SealedBatch) -> usize {
    let mut count = 0;
    while count < BATCH_MAX
        && let Some(Stray { source, datagram }) = core.mailbox().and_then(Mailbox::take_stray)
    {
        count += 1;
        let Some(mut frame) = core.ledger.adopt() else {
            continue;
        };
        *core.ledger.datagram_mut(&mut frame) = datagram;
        match peek(core.ledger.datagram(&frame)) {
            Ok(Datagram::Data {
                receiver_index,
                counter,
            }) => admit_data(core, frame, source, (receiver_index, counter), sealed),
            // Only data frames are handed over.
            Ok(_) | Err(_) => core.ledger.reject(frame, Reason::Type),
        }
    }
    count
}

fn check(
    core: &mut Core,
    frame: &Frame,
    source: &SocketAddr,
    length: usize,
) -> Result<Datagram, Reason> {
    if core.settings.loss > 0.0 && core.rng.random::<f64>() < core.settings.loss {
        return Err(Reason::Fault);
    }
    if core.draining {
        return Err(Reason::Stopping);
    }
    if length != link::DATAGRAM_BYTES {
        return Err(Reason::Size);
    }
    if !is_somebodys(source, core.is_on_loopback) {
        return Err(Reason::Source);
    }
    Ok(peek(core.ledger.datagram(frame))?)
}

/// Whether an answer may go to this address. It is what the sender wrote, and before the XDP program no kernel has looked
/// at it: answers to addresses of this host would reach what listens there for this host alone.
fn is_somebodys(source: &SocketAddr, is_on_loopback: bool) -> bool {
    let ip = source.ip().to_canonical();
    let is_broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
    let is_nobodys = ip.is_unspecified() || ip.is_multicast() || is_broadcast;
    source.port() != 0 && !is_nobodys && (is_on_loopback || !ip.is_loopback())
}

fn admit_data(
    core: &mut Core,
    frame: Frame,
    source: SocketAddr,
    (session, counter): (u32, u64),
    sealed: &mut SealedBatch,
) {
    let checked = match core.neighbours.receiving(session) {
        None => Err(Reason::UnknownSession),
        Some((receive, neighbour)) => match receive.check(counter) {
            Err(error) => Err(error.into()),
            // Before the AEAD: it has the more time for the others.
            Ok(()) if neighbour.is_some_and(|one| one.is_over_its_rate(core.now_ns)) => {
                Err(Reason::NeighbourRate)
            }
            Ok(()) if neighbour.is_some_and(|one| core.has_its_share(one)) => {
                Err(Reason::NeighbourShare)
            }
            Ok(()) => Ok(()),
        },
    };
    match checked {
        // One batch from the port never exceeds the batch of this stage, which is empty when it begins.
        Ok(()) => sealed.push(Sealed {
            frame,
            session,
            counter,
            source,
        }),
        Err(reason) => core.ledger.reject(frame, reason),
    }
}

/// The NIC's or kernel's hashing put a frame of another worker's session here.
fn hand_over(core: &mut Core, frame: Frame, source: SocketAddr, worker: u8) {
    core.strayed += 1;
    let Some(mailbox) = core.shared.mailboxes.get(usize::from(worker)) else {
        return core.ledger.reject(frame, Reason::UnknownSession);
    };
    let datagram = *core.ledger.datagram(&frame);
    if mailbox.post_stray(Stray { source, datagram }) {
        core.ledger.absorb(frame);
    } else {
        core.ledger.reject(frame, Reason::StraysFull);
    }
}

/// Hands a message to the handshaker, if its queue has room for such a one.
fn handshake(core: &mut Core, frame: Frame, source: SocketAddr, message: &Datagram) {
    let datagram = *core.ledger.datagram(&frame);
    let waiting = core.shared.handshakes.len();
    let has_room = match message {
        Datagram::Initiation { .. } if waiting >= QUEUE_BARE => {
            let shows_cookie = !link::is_bare(&datagram);
            let member = || core.shared.members.is_at(&source.ip());
            (shows_cookie && waiting < QUEUE_STRANGERS) || (waiting < QUEUE_MEMBERS && member())
        }
        Datagram::Initiation { .. } => true,
        _ => waiting < QUEUE_ANSWERS,
    };
    let request = Request::Datagram {
        worker: core.settings.number,
        source,
        datagram,
    };
    if has_room && core.shared.handshakes.try_send(request).is_ok() {
        core.ledger.absorb(frame);
    } else {
        core.ledger.reject(frame, Reason::HandshakeQueueFull);
    }
}
