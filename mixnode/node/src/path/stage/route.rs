//! Route: does what an unwrapped packet asks for. Its next hop is chosen here, and the wheel holds it until it is due;
//! loops and drop cover end.

use directory::sample_delay_us;

use super::{Delayed, Route, Unwrapped, UnwrappedBatch, deliver};
use crate::path::core::Core;
use crate::path::mail::Mail;
use crate::path::reason::Reason;
use port::pool::Frame;

/// Takes all of `unwrapped`.
pub fn route(core: &mut Core, unwrapped: &mut UnwrappedBatch) {
    for one in unwrapped.drain(..) {
        let sender = core.neighbours.get(one.neighbour);
        if sender.is_none_or(|sender| sender.layer(one.epoch).is_none()) {
            from_client(core, one);
            continue;
        }
        match one.command {
            sphinx::Command::Forward { next } => match route_of(core, one.epoch, next) {
                Ok((route, _)) => hold(core, one, route),
                Err(reason) => core.ledger.reject(one.frame, reason),
            },
            // A node may send here only from the layer before, which for a gateway is the last: see `unwrap`.
            sphinx::Command::Deliver { destination, id } => {
                if core.settings.clients_max == 0 {
                    core.ledger.reject(one.frame, Reason::NotGateway);
                } else if one.delay_us == 0 {
                    // The client's own Poisson stream mixes it again.
                    deliver::deliver(core, one.frame, &destination, &id);
                } else {
                    hold(core, one, Route::Deliver { destination, id });
                }
            }
            sphinx::Command::Loop { id } => loop_returned(core, one.frame, id),
            sphinx::Command::Drop => core.ledger.absorb(one.frame),
        }
    }
}

/// A client's packet goes on to a mix of layer 1, and to nothing else: a packet for another client must not get around
/// the mixes. How long it waits here is this gateway's own draw: whoever made a reply block wrote its header, and must
/// not choose how long the one who answers is held. The header's field was checked against the bound like any other.
fn from_client(core: &mut Core, mut one: Unwrapped) {
    let sphinx::Command::Forward { next } = one.command else {
        return core.ledger.reject(one.frame, Reason::ClientRoute);
    };
    match route_of(core, one.epoch, next) {
        Ok((route, mean_delay_us)) => {
            one.delay_us = sample_delay_us(mean_delay_us, &mut core.rng);
            hold(core, one, route);
        }
        Err(Reason::Layer) => core.ledger.reject(one.frame, Reason::ClientRoute),
        Err(reason) => core.ledger.reject(one.frame, reason),
    }
}

/// The link to `next`, if the layer graph of the packet's epoch has one, and the epoch's mean delay.
fn route_of(core: &Core, epoch: u8, next: u16) -> Result<(Route, u32), Reason> {
    let (state, own) = core.epochs.accepted(epoch).ok_or(Reason::Epoch)?;
    if !state.consensus().may_forward(own.layer, next) {
        return Err(Reason::Layer);
    }
    let link = core.epochs.link(epoch, next).ok_or(Reason::NoSession)?;
    let mean_delay_us = state.consensus().parameters().mean_delay_us;
    Ok((Route::Forward { link, epoch }, mean_delay_us))
}

fn hold(core: &mut Core, one: Unwrapped, route: Route) {
    if core.wheel.len() >= core.budget.wheel_frames as usize {
        return core.ledger.reject(one.frame, Reason::WheelFull);
    }
    core.neighbours.hold(one.neighbour);
    core.wheel.insert(Delayed {
        frame: one.frame,
        neighbour: one.neighbour,
        since_ns: core.now_ns,
        due_ns: core.now_ns + u64::from(one.delay_us) * 1_000,
        route,
    });
}

/// The first byte of a loop's id is the worker that waits for it.
fn loop_returned(core: &mut Core, frame: Frame, id: sphinx::Id) {
    let [worker, ..] = id;
    if worker == core.settings.number {
        match loop_home(core, &id, core.now_ns) {
            true => core.ledger.absorb(frame),
            false => core.ledger.reject(frame, Reason::UnknownLoop),
        }
        return;
    }
    let mail = Mail::Loop {
        id,
        returned_ns: core.now_ns,
    };
    match core
        .shared
        .mailboxes
        .get(usize::from(worker))
        .map(|mailbox| mailbox.post(mail))
    {
        Some(true) => core.ledger.absorb(frame),
        Some(false) => core.ledger.reject(frame, Reason::MailboxFull),
        None => core.ledger.reject(frame, Reason::UnknownLoop),
    }
}

/// Counts a loop of this worker that came back; `false` if it is none.
pub fn loop_home(core: &mut Core, id: &sphinx::Id, returned_ns: u64) -> bool {
    let Some(round_ns) = core.loops.returned(id, returned_ns) else {
        return false;
    };
    core.distributions
        .loop_us
        .saturating_record(round_ns / 1_000);
    true
}
