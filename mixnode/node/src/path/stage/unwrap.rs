//! Unwrap: this hop's layer of Sphinx, a batch at a time, with the replay filter between header and body.

use arrayvec::ArrayVec;
use sphinx::{Job, Reject};

use super::{Opened, OpenedBatch, Unwrapped, UnwrappedBatch};
use crate::keys::epoch::{EpochState, OwnPart};
use crate::keys::replay::ReplayRefusal;
use crate::path::core::{Core, content};
use crate::path::neighbours::Neighbour;
use crate::path::reason::Reason;
use port::BATCH_MAX;

/// Unwraps all of `opened`; what passed is in `unwrapped`.
pub fn unwrap(core: &mut Core, opened: &mut OpenedBatch, unwrapped: &mut UnwrappedBatch) {
    let mut parts: ArrayVec<&OwnPart, BATCH_MAX> = ArrayVec::new();
    let mut allowed = OpenedBatch::new();
    for one in opened.drain(..) {
        let checked = core
            .epochs
            .accepted(one.epoch)
            .ok_or(Reason::Epoch)
            .and_then(|(state, own)| {
                may_send(state, own, core.neighbours.get(one.neighbour), one.epoch)
            });
        match checked {
            Ok(own) => {
                parts.push(own);
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
        let mut jobs: ArrayVec<Job<'_>, BATCH_MAX> = parts
            .iter()
            .zip(datagrams)
            .map(|(own, datagram)| Job {
                packet: content(datagram),
                secret: &own.secret,
            })
            .collect();
        let mut replay = |job: usize, tag: &sphinx::ReplayTag| match parts.get(job) {
            Some(own) => own.replay.insert(tag).map_err(|refusal| match refusal {
                ReplayRefusal::Seen => Reject::Replay,
                ReplayRefusal::Full => Reject::ReplayFull,
            }),
            None => Err(Reject::ReplayFull),
        };
        core.engine
            .unwrap_batch(&mut jobs, &mut replay, &mut verdicts);
    }
    drop(parts);
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

/// Holds the way in against the layer graph: nodes send to the next layer, everyone else to gateways.
fn may_send<'a>(
    state: &EpochState,
    own: &'a OwnPart,
    neighbour: Option<&Neighbour>,
    slot: u8,
) -> Result<&'a OwnPart, Reason> {
    let neighbour = neighbour.ok_or(Reason::UnknownSession)?;
    let allowed = match neighbour.layer(slot) {
        Some(layer) => state.consensus().next_layer(layer) == own.layer,
        None => own.layer == 0,
    };
    if allowed { Ok(own) } else { Err(Reason::Layer) }
}
