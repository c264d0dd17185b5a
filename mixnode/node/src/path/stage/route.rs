//! Route: takes due frames out of the wheel, in random order, and gives each its session.

use arrayvec::ArrayVec;
use link::Kind;

use super::deliver;
use crate::path::core::{Core, Outgoing, OutgoingBatch, Route, Via};
use crate::path::reason::Reason;
use port::BATCH_MAX;
use port::pool::Frame;

/// Fills `outgoing`, which is empty, with due frames. Returns how many left the wheel: a full batch may mean that
/// more are due.
pub fn route(core: &mut Core, outgoing: &mut OutgoingBatch) -> usize {
    let mut due: ArrayVec<Frame, BATCH_MAX> = ArrayVec::new();
    let count = core.wheel.advance(core.now_ns, &mut core.rng, &mut due);
    for frame in due {
        let Some(held) = core
            .held
            .get_mut(frame.index() as usize)
            .and_then(Option::take)
        else {
            // Every frame in the wheel has its entry; a frame without one has no way to go.
            core.reject(frame, Reason::NoSession);
            continue;
        };
        core.neighbours.let_go(held.neighbour);
        core.distributions
            .lateness_us
            .saturating_record(core.now_ns.saturating_sub(held.due_ns) / 1_000);
        core.distributions
            .hold_us
            .saturating_record(core.now_ns.saturating_sub(held.since_ns) / 1_000);
        match held.route {
            Route::Forward { link, epoch } => {
                outgoing.push(Outgoing {
                    frame,
                    via: Via::Link(link),
                    kind: Kind::Sphinx,
                    epoch,
                });
            }
            Route::Deliver { destination, id } => deliver::deliver(core, frame, &destination, &id),
        }
    }
    count
}
