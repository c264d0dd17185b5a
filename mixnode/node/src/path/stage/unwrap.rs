//! Unwrap: this hop's layer of Sphinx, a batch at a time, with the replay filter between header and body.

use arrayvec::ArrayVec;
use sphinx::{Job, Reject, ReplayFilter, ReplayTag};

use super::{Opened, OpenedBatch, Part, Unwrapped, UnwrappedBatch};
use crate::keys::epoch::{EpochState, OwnPart};
use crate::keys::replay::ReplayRefusal;
use crate::path::core::{Core, content};
use crate::path::neighbours::Neighbour;
use crate::path::reason::Reason;
use port::BATCH_MAX;

/// The tables of a batch, a job each, and who is told when they were asked.
struct Tables<'a, M> {
    of: ArrayVec<&'a OwnPart, BATCH_MAX>,
    mark: &'a mut M,
}

impl<M: FnMut(Part)> ReplayFilter for Tables<'_, M> {
    #[inline]
    fn expect(&mut self, job: usize, tag: &ReplayTag) {
        if let Some(own) = self.of.get(job) {
            own.replay.prefetch(tag);
        }
    }

    fn admit(&mut self, job: usize, tag: &ReplayTag) -> Result<(), Reject> {
        let own = self.of.get(job).ok_or(Reject::ReplayFull)?;
        (self.mark)(Part::Sphinx);
        let inserted = own.replay.insert(tag);
        (self.mark)(Part::Replay);
        inserted.map_err(|refusal| match refusal {
            ReplayRefusal::Seen => Reject::Replay,
            ReplayRefusal::Full => Reject::ReplayFull,
        })
    }
}

/// Unwraps all of `opened`; what passed is in `unwrapped`.
pub fn unwrap(
    core: &mut Core,
    opened: &mut OpenedBatch,
    unwrapped: &mut UnwrappedBatch,
    mark: &mut impl FnMut(Part),
) {
    let mut tables = Tables {
        of: ArrayVec::new(),
        mark,
    };
    let mut allowed = OpenedBatch::new();
    for one in opened.drain(..) {
        let checked = core
            .epochs
            .accepted(one.epoch)
            .ok_or(Reason::Epoch)
            .and_then(|(state, own)| {
                let (neighbour, worker) =
                    (core.neighbours.get(one.neighbour), core.settings.number);
                may_send(state, own, neighbour, (one.epoch, worker))
            });
        match checked {
            Ok(own) => {
                tables.of.push(own);
                allowed.push(one);
            }
            Err(reason) => {
                core.ledger.reject(one.frame, reason);
            }
        }
    }
    if allowed.is_empty() {
        return;
    }
    core.distributions
        .unwrap_batch
        .saturating_record(allowed.len() as u64);
    let mut verdicts = ArrayVec::new();
    {
        let datagrams = core
            .ledger
            .datagrams_mut(allowed.iter_mut().map(|one| &mut one.frame));
        let mut jobs: ArrayVec<Job<'_>, BATCH_MAX> = tables
            .of
            .iter()
            .zip(datagrams)
            .map(|(own, datagram)| Job {
                packet: content(datagram),
                secret: &own.secret,
            })
            .collect();
        core.engine
            .unwrap_batch_filtered(&mut jobs, &mut tables, &mut verdicts);
    }
    drop(tables);
    for (
        Opened {
            frame,
            neighbour,
            epoch,
        },
        verdict,
    ) in allowed.into_iter().zip(verdicts)
    {
        match verdict {
            Ok(sphinx::Unwrapped { command, delay_us }) => {
                unwrapped.push(Unwrapped {
                    frame,
                    neighbour,
                    epoch,
                    command,
                    delay_us,
                });
            }
            Err(reject) => core.ledger.reject(frame, reject.into()),
        }
    }
}

/// Holds the way in against the layer graph: nodes send to the next layer, everyone else to gateways. What comes from a
/// node is counted at this worker.
fn may_send<'a>(
    state: &EpochState,
    own: &'a OwnPart,
    neighbour: Option<&Neighbour>,
    (slot, worker): (u8, u8),
) -> Result<&'a OwnPart, Reason> {
    let neighbour = neighbour.ok_or(Reason::UnknownSession)?;
    match neighbour.place(slot) {
        Some((layer, index)) if state.consensus().next_layer(layer) == own.layer => {
            state.heard().count(worker, index);
            Ok(own)
        }
        None if own.layer == 0 => Ok(own),
        _ => Err(Reason::Layer),
    }
}
