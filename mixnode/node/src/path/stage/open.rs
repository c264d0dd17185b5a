//! Open: the AEAD of the link, a batch at a time. Only a frame whose tag held marks its counter.

use std::sync::atomic::Ordering;

use arrayvec::ArrayVec;
use link::{Kind, OpenError, OpenJob, Opened as Verdict, open_batch};
use rand::RngExt;
use sphinx::DestinationTag;

use super::{Opened, OpenedBatch, Sealed, SealedBatch, control};
use crate::path::core::Core;
use crate::path::grant::TOKENS_TO_ATTACH;
use crate::path::neighbours::InstallError;
use crate::path::reason::Reason;
use port::BATCH_MAX;

/// Opens all of `sealed`. Sphinx packets go on into `opened`; cover, control and refused frames end here.
pub fn open(core: &mut Core, sealed: &mut SealedBatch, opened: &mut OpenedBatch) {
    let mut verdicts: ArrayVec<Result<Verdict, OpenError>, BATCH_MAX> = ArrayVec::new();
    let mut sessions = ArrayVec::<_, BATCH_MAX>::new();
    let mut known = SealedBatch::new();
    for one in sealed.drain(..) {
        // Nothing was opened since `admit`, so what it found is still there.
        match core.neighbours.receiving(one.session) {
            Some((receive, _)) => {
                sessions.push(receive.key());
                known.push(one);
            }
            None => {
                core.ledger.reject(one.frame, Reason::UnknownSession);
            }
        }
    }
    {
        let datagrams = core
            .ledger
            .datagrams_mut(known.iter_mut().map(|one| &mut one.frame));
        let mut jobs: ArrayVec<OpenJob<'_>, BATCH_MAX> = sessions
            .iter()
            .zip(datagrams)
            .map(|(session, datagram)| OpenJob { session, datagram })
            .collect();
        open_batch(&mut jobs, &mut verdicts);
    }
    drop(sessions);
    for (one, verdict) in known.into_iter().zip(verdicts) {
        match verdict {
            Ok(verdict) => accept(core, one, verdict, opened),
            Err(error) => core.ledger.reject(one.frame, error.into()),
        }
    }
}

fn accept(core: &mut Core, one: Sealed, verdict: Verdict, opened: &mut OpenedBatch) {
    let Sealed {
        frame,
        session,
        counter,
        source,
    } = one;
    // A frame before it in the batch may have brought a session that took the place of this one.
    let Some(receive) = core.neighbours.receiving_mut(session) else {
        return core.ledger.reject(frame, Reason::UnknownSession);
    };
    if let Err(error) = receive.admit(counter) {
        return core.ledger.reject(frame, error.into());
    }
    let clients = &core.clients;
    let attached = |destination: &DestinationTag| clients.is_attached(destination);
    let is_new = core.neighbours.session(session).is_none();
    if is_new
        && let Err(error) = {
            let order = core.shared.orders.fetch_add(1, Ordering::Relaxed);
            let epochs = &core.epochs;
            core.neighbours.confirm(session, order, epochs, attached)
        }
    {
        debug_assert_eq!(error, InstallError::Full, "its session was there");
        return core.ledger.reject(frame, Reason::SessionsFull);
    }
    let Some(inbound) = core.neighbours.session(session) else {
        return core.ledger.reject(frame, Reason::UnknownSession);
    };
    if is_new && let Some(loader) = &core.loader {
        loader.bind(session, inbound.answered.ip());
    }
    let (neighbour, order, destination) = (inbound.neighbour, inbound.order, inbound.destination);
    let answered = inbound.answered;
    if let Some(client) = core.clients.attached(&destination)
        && client.session == session
    {
        let rng = &mut core.rng;
        client.heard(counter, source, core.now_ns, || rng.random());
    }
    // Who is not attached yet has few tokens, and must not spend on packets those that an attach frame needs: its own
    // slots would keep it out for ever.
    let kept = match verdict.kind {
        Kind::Control => 0,
        _ if core.clients.is_attached(&destination) => 0,
        _ => TOKENS_TO_ATTACH,
    };
    if let Some(sender) = core.neighbours.get_mut(neighbour) {
        if !sender.is_node() && !sender.bucket.take(core.now_ns, kept) {
            return core.ledger.reject(frame, Reason::ClientRate);
        }
        // What its frames cost from here on is its own doing.
        if sender.is_node()
            && let Some(bucket) = &mut sender.node_bucket
            && !bucket.take(core.now_ns, 0)
        {
            return core.ledger.reject(frame, Reason::NeighbourRate);
        }
    }
    match verdict.kind {
        Kind::Sphinx => opened.push(Opened {
            frame,
            neighbour,
            epoch: verdict.epoch,
        }),
        Kind::Cover => core.ledger.absorb(frame),
        Kind::Control => {
            let from = control::From {
                session,
                order,
                neighbour,
                destination,
                counter,
                source,
                answered,
            };
            control::control(core, frame, &from);
        }
        // Deliveries only ever flow from a gateway to a client.
        Kind::Delivery => core.ledger.reject(frame, Reason::Kind),
    }
}
