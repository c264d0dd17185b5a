//! Cover: the loop and drop packets a node sends by itself.

use directory::loop_path;
use link::control::Control;
use link::{CONTENT_BYTES, Kind};
use rand_core::Rng;
use sphinx::{BODY_BYTES, Id, Terminal, wrap};

use crate::path::core::{Core, Outgoing, OutgoingBatch, Via, content};
use crate::path::cover::CoverKind;
use crate::path::epochs::slot_of;

/// Leading body bytes that the last hop of a loop or drop packet finds zero.
const CHECK_BYTES: usize = sphinx::CHECK_BYTES;

/// Adds a frame for every new session of a link, which says nothing but, where that is due, that this node was restarted:
/// until the first one, the session does not count at the other end.
pub fn greet(core: &mut Core, outgoing: &mut OutgoingBatch) {
    while let Some(number) = core.greetings.last().copied()
        && !outgoing.is_full()
        && let Some(mut frame) = core.ledger.generate()
    {
        core.greetings.pop();
        let content = content(core.ledger.datagram_mut(&mut frame));
        let link = core.links.get_mut(number);
        let kind = match link.filter(|link| link.tells > 0) {
            Some(link) => {
                link.tells -= 1;
                core.restarts.told += 1;
                Control::Restarted.encode(content);
                Kind::Control
            }
            None => {
                *content = [0; CONTENT_BYTES];
                Kind::Cover
            }
        };
        outgoing.push(Outgoing {
            frame,
            via: Via::Link(number),
            kind,
            epoch: slot_of(core.epochs.now()),
        });
    }
}

/// Adds due cover packets to `outgoing`, as far as it has room.
pub fn cover(core: &mut Core, outgoing: &mut OutgoingBatch) {
    while !outgoing.is_full()
        && let Some(kind) = core.cover.due(core.now_ns, &mut core.rng)
    {
        if let Some(one) = make(core, kind) {
            outgoing.push(one);
        }
    }
}

/// Makes one packet, if the node takes part in the current epoch, a way exists and a frame is free.
fn make(core: &mut Core, kind: CoverKind) -> Option<Outgoing> {
    if kind == CoverKind::Loop && !core.loops.has_room() {
        return None;
    }
    let (state, own) = core.epochs.sending()?;
    let number = state.epoch();
    let epoch = slot_of(number);
    let mut path = loop_path(state.consensus(), &mut core.rng, own.index).ok()?;
    let mut id: Id = [0; 8];
    core.rng.fill_bytes(&mut id);
    let terminal = match kind {
        CoverKind::Loop => {
            // The worker that waits for it; only this node ever reads it.
            let [worker, ..] = &mut id;
            *worker = core.settings.number;
            Terminal::Loop { id }
        }
        CoverKind::Drop => {
            // The way of a loop, one hop shorter: it ends at the neighbour before this node.
            path.pop();
            Terminal::Drop
        }
    };
    let link = core.epochs.link(epoch, path.first()?.node)?;
    core.links.get(link)?.session.as_ref()?;
    let mut frame = core.ledger.generate()?;
    let mut body = [0; BODY_BYTES];
    let (_, random) = body.split_at_mut(CHECK_BYTES);
    core.rng.fill_bytes(random);
    let packet = content(core.ledger.datagram_mut(&mut frame));
    if wrap(&mut core.rng, &path, &terminal, &body, packet).is_err() {
        // Not reached with a path from a verified consensus; the frame is spent on nothing.
        core.ledger.absorb(frame);
        return None;
    }
    if kind == CoverKind::Loop {
        core.loops.sent(id, number, &path, core.now_ns);
    }
    Some(Outgoing {
        frame,
        via: Via::Link(link),
        kind: Kind::Sphinx,
        epoch,
    })
}
