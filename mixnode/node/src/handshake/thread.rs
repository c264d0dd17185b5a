//! The handshaker on a thread of its own, so that no worker ever computes ML-KEM.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};
use rand_core::CryptoRng;

use super::{HandshakeCounters, Handshaker, QUEUE_REQUESTS, Request};
use crate::path::mail::Mailbox;
use port::monotonic_ns;

/// Requests that are looked at between two answers. To look at so many takes about as long as to answer one, so that no
/// flood of either kind has more than half of this thread.
const LOOKED_AT: usize = 64;
/// Longest sleep, so that a stop is noticed.
const NAP: Duration = Duration::from_millis(100);

/// The bounded queue from workers to the handshaker. Senders use `try_send` and count a full queue.
pub fn queue() -> (Sender<Request>, Receiver<Request>) {
    bounded(QUEUE_REQUESTS)
}

/// Serves `requests` until `stop` is set or every sender is gone; answers go to `mailboxes` by worker number.
pub fn run<R: CryptoRng>(
    mut handshaker: Handshaker<R>,
    requests: &Receiver<Request>,
    mailboxes: &[Mailbox],
    published: &Mutex<HandshakeCounters>,
    stop: &Arc<AtomicBool>,
) {
    let mut post = |worker: u8, mail| {
        mailboxes
            .get(usize::from(worker))
            .is_some_and(|mailbox| mailbox.post(mail))
    };
    while !stop.load(Ordering::Relaxed) {
        let now_ns = monotonic_ns();
        let nap = match handshaker.deadline_ns() {
            _ if handshaker.is_behind() => Duration::ZERO,
            Some(at_ns) => NAP.min(Duration::from_nanos(at_ns.saturating_sub(now_ns))),
            None => NAP,
        };
        match requests.recv_timeout(nap) {
            Ok(request) => handshaker.handle(request, monotonic_ns(), &mut post),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        // What arrived is looked at before one of those that may be answered is: so the queue behind the cookie decides
        // who waits, and not who came first.
        for request in requests.try_iter().take(LOOKED_AT) {
            handshaker.handle(request, monotonic_ns(), &mut post);
        }
        handshaker.poll(monotonic_ns(), &mut post);
        handshaker.serve(monotonic_ns(), &mut post);
        if let Ok(mut counters) = published.lock() {
            *counters = handshaker.counters();
        }
    }
}
