//! Deliver: hands a packet that ends at this gateway to the client it names, unchecked. Forward packet or reply,
//! intact or altered: a gateway can't tell.

use sphinx::{BODY_BYTES, DestinationTag, HEADER_BYTES, Id};

use crate::path::clients::Whereabouts;
use crate::path::core::{Core, content};
use crate::path::mail::Mail;
use crate::path::reason::Reason;
use port::pool::Frame;

const BODY_AT: usize = size_of::<Id>();

/// Queues the packet's body for the client, here or on the worker it is attached to.
pub fn deliver(core: &mut Core, mut frame: Frame, destination: &DestinationTag, id: &Id) {
    match core.clients.find(destination) {
        Whereabouts::Here(slot) => {
            let content = content(core.ledger.datagram_mut(&mut frame));
            content.copy_within(HEADER_BYTES.., BODY_AT);
            write_id(content, id);
            queue(core, slot, frame);
        }
        Whereabouts::Worker(worker) => {
            let (_, packet) = content(core.ledger.datagram_mut(&mut frame)).split_at(HEADER_BYTES);
            let mut body = [0; BODY_BYTES];
            body.copy_from_slice(packet);
            let mail = Mail::Delivery {
                destination: *destination,
                id: *id,
                body,
            };
            match core
                .shared
                .mailboxes
                .get(usize::from(worker))
                .map(|mailbox| mailbox.post(mail))
            {
                Some(true) => core.ledger.absorb(frame),
                _ => core.ledger.reject(frame, Reason::MailboxFull),
            }
        }
        Whereabouts::Unknown => core.ledger.reject(frame, Reason::NoClient),
    }
}

/// Queues a delivery that another worker handed over.
pub fn deliver_body(
    core: &mut Core,
    destination: &DestinationTag,
    id: &Id,
    body: &[u8; BODY_BYTES],
) {
    let Some(mut frame) = core.ledger.adopt() else {
        return;
    };
    let Whereabouts::Here(slot) = core.clients.find(destination) else {
        return core.ledger.reject(frame, Reason::NoClient);
    };
    let content = content(core.ledger.datagram_mut(&mut frame));
    let (_, rest) = content.split_at_mut(BODY_AT);
    if let Some(place) = rest.first_chunk_mut() {
        *place = *body;
    }
    write_id(content, id);
    queue(core, slot, frame);
}

/// Queues a frame with its content in place, if client and clients together have room.
fn queue(core: &mut Core, slot: u16, frame: Frame) {
    if core.clients.queued() >= core.budget.queue_frames as usize {
        return core.ledger.reject(frame, Reason::QueuesFull);
    }
    if let Err(frame) = core.clients.queue(slot, frame) {
        core.ledger.reject(frame, Reason::ClientQueueFull);
    }
}

fn write_id(content: &mut [u8; link::CONTENT_BYTES], id: &Id) {
    let (head, rest) = content.split_at_mut(BODY_AT);
    head.copy_from_slice(id);
    let (_, unused) = rest.split_at_mut(BODY_BYTES);
    unused.fill(0);
}
