//! Seal: numbers and encrypts a batch for its links.

use std::net::SocketAddr;

use arrayvec::ArrayVec;
use link::{Kind, SealJob, SendKey, seal_batch};
use rand::seq::SliceRandom;

use crate::path::core::{Core, Outgoing, OutgoingBatch, Via};
use crate::path::epochs::Links;
use crate::path::neighbours::Neighbours;
use crate::path::reason::Reason;
use port::{BATCH_MAX, Departing};

/// Seals all of `outgoing` into the batch that waits for the port, which is empty.
pub fn seal(core: &mut Core, outgoing: &mut OutgoingBatch) {
    // Frames of the wheel come in random order; this mixes what the worker made itself among them, before counters
    // give everything an order.
    outgoing.shuffle(&mut core.rng);
    let mut ready: ArrayVec<(Outgoing, u64, SocketAddr), BATCH_MAX> = ArrayVec::new();
    for one in outgoing.drain(..) {
        match number(core, one.via) {
            Some((counter, destination)) => ready.push((one, counter, destination)),
            None => core.ledger.reject(one.frame, Reason::NoSession),
        }
    }
    {
        let (links, neighbours) = (&core.links, &core.neighbours);
        let keys: ArrayVec<Option<&SendKey>, BATCH_MAX> = ready
            .iter()
            .map(|(one, _, _)| key(links, neighbours, one.via))
            .collect();
        let jobs = ready
            .iter()
            .map(|(one, counter, _)| (one.kind, one.epoch, *counter));
        let jobs: ArrayVec<(Kind, u8, u64), BATCH_MAX> = jobs.collect();
        let datagrams = core
            .ledger
            .datagrams_mut(ready.iter_mut().map(|(one, _, _)| &mut one.frame));
        let mut jobs: ArrayVec<SealJob<'_>, BATCH_MAX> = keys
            .iter()
            .zip(jobs)
            .zip(datagrams)
            // A session that gave a counter has a key.
            .filter_map(|((session, (kind, epoch, counter)), datagram)| {
                Some(SealJob {
                    session: (*session)?,
                    counter,
                    kind,
                    epoch,
                    datagram,
                })
            })
            .collect();
        seal_batch(&mut jobs);
    }
    for (one, _, destination) in ready {
        core.departing.push(Departing {
            frame: one.frame,
            destination,
            delivery: one.kind == Kind::Delivery,
            // A challenge asks whether anybody is there.
            proven: !matches!(one.via, Via::Challenge(_)),
        });
    }
}

/// The frame's number and where it goes; `None` without a session that may still be used.
fn number(core: &mut Core, via: Via) -> Option<(u64, SocketAddr)> {
    let now_ns = core.now_ns;
    match via {
        Via::Link(link) => {
            let link = core.links.get_mut(link)?;
            let session = link.session.as_mut()?;
            if session.send.expired(now_ns) {
                return None;
            }
            Some((session.send.next_counter()?, link.address))
        }
        Via::Refusal(index, address) => {
            let session = &mut core.neighbours.session_mut(index)?.session;
            if session.send.expired(now_ns) {
                return None;
            }
            Some((session.send.next_counter()?, address))
        }
        Via::Session(index) | Via::Challenge(index) => {
            let inbound = core.neighbours.session_mut(index)?;
            if inbound.session.send.expired(now_ns) {
                return None;
            }
            let client = core.clients.attached(&inbound.destination)?;
            let address = match via {
                Via::Challenge(_) => client.challenged()?,
                _ => client.address,
            };
            Some((inbound.session.send.next_counter()?, address))
        }
    }
}

fn key<'a>(links: &'a Links, neighbours: &'a Neighbours, via: Via) -> Option<&'a SendKey> {
    match via {
        Via::Link(link) => Some(links.get(link)?.session.as_ref()?.send.key()),
        Via::Session(index) | Via::Challenge(index) | Via::Refusal(index, _) => {
            Some(neighbours.session(index)?.session.send.key())
        }
    }
}
