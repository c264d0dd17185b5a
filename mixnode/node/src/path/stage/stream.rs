//! Stream: the next frame of every client whose Poisson slot has come.

use link::control::{AUTHORITIES, Control, LATEST};
use link::{CONTENT_BYTES, Kind};

use crate::keys::epoch::EpochState;
use crate::path::clients::{Answer, Content};
use crate::path::core::{Core, Outgoing, OutgoingBatch, Via, content};
use crate::path::cover::exponential_ns;
use crate::path::epochs::slot_of;

/// Adds what is said to those for whom there is no place. They have no stream whose slots it could take.
pub fn refuse(core: &mut Core, outgoing: &mut OutgoingBatch) {
    while !outgoing.is_full()
        && let Some((session, address)) = core.refusals.pop()
    {
        if let Some(frame) = write_control(core, &Control::Full) {
            outgoing.push(Outgoing {
                frame,
                via: Via::Refusal(session, address),
                kind: Kind::Control,
                epoch: slot_of(core.epochs.now()),
            });
        }
    }
}

/// Adds the frames of due slots to `outgoing`, as far as it has room.
pub fn stream(core: &mut Core, outgoing: &mut OutgoingBatch) {
    while !outgoing.is_full()
        && let Some((slot, at_ns)) = core.clients.due(core.now_ns)
    {
        let Some(client) = core.clients.get(slot) else {
            continue;
        };
        let (session, rate_pps) = (client.session, client.rate_pps);
        let mean_ns = 1_000_000_000 / u64::from(rate_pps.max(1));
        // The process goes on from the time that was due, so that its rate holds; after a pause it starts anew.
        let start_ns = if core.now_ns - at_ns > 1_000_000_000 {
            core.now_ns
        } else {
            at_ns
        };
        let next_ns = start_ns + exponential_ns(mean_ns, &mut core.rng);
        core.clients.schedule(slot, next_ns);
        let epoch = slot_of(core.epochs.now());
        let own = Via::Session(session);
        let (frame, kind, via) = match core.clients.next_content(slot, core.now_ns) {
            Content::Delivery(frame) => (Some(frame), Kind::Delivery, own),
            Content::Answer(answer) => {
                let control = control_of(core, answer, rate_pps);
                (write_control(core, &control), Kind::Control, own)
            }
            Content::Challenge(nonce) => {
                let frame = write_control(core, &Control::Challenge { nonce });
                (frame, Kind::Control, Via::Challenge(session))
            }
            Content::Cover => (write_cover(core), Kind::Cover, own),
        };
        // Without a free frame the slot passes empty: a full node shows that anyway.
        if let Some(frame) = frame {
            outgoing.push(Outgoing {
                frame,
                via,
                kind,
                epoch,
            });
        }
    }
}

fn write_cover(core: &mut Core) -> Option<port::pool::Frame> {
    let mut frame = core.ledger.generate()?;
    *content(core.ledger.datagram_mut(&mut frame)) = [0; CONTENT_BYTES];
    Some(frame)
}

fn control_of(core: &Core, answer: Answer, rate_pps: u32) -> Control {
    match answer {
        Answer::Attached => Control::Attached { rate_pps },
        Answer::Chunk {
            epoch: AUTHORITIES,
            chunk,
        } => {
            let newest = core.epochs.document_of(LATEST);
            let chain = newest.map_or(&[][..], EpochState::authorities);
            Control::chunk_of(AUTHORITIES, chain, chunk)
        }
        Answer::Chunk { epoch, chunk } => match core.epochs.document_of(epoch) {
            Some(state) => Control::chunk_of(state.epoch(), state.document(), chunk),
            None => Control::chunk_of(epoch, &[], chunk),
        },
        Answer::Leaving { epoch } => Control::Leaving { epoch },
    }
}

fn write_control(core: &mut Core, control: &Control) -> Option<port::pool::Frame> {
    let mut frame = core.ledger.generate()?;
    control.encode(content(core.ledger.datagram_mut(&mut frame)));
    Some(frame)
}
