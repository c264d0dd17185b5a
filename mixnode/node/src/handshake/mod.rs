//! Handshakes: answers neighbours and clients, opens sessions to next hops, retries, gives cookies under load.
//!
//! [`Handshaker`] has no thread, clock or socket: requests, time and randomness come in, [`Mail`] for workers goes
//! out. [`thread`] runs it beside the workers; a simulator polls it instead.

pub mod thread;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use link::{
    Arrival, COOKIE_LIFETIME_MS, Cookie, DATAGRAM_BYTES, Datagram, Initiator, LinkKeys, LinkPublic,
    Responder, Response, TimestampSource, peek,
};
use rand::RngExt;
use rand_core::CryptoRng;

use crate::loader_link::{Indices, Unfiltered};
use crate::path::mail::Mail;

/// Requests that may wait for the handshaker. A full queue drops initiations: their senders try again.
pub const QUEUE_REQUESTS: usize = 256;
/// Above this backlog initiators must show a cookie.
const BACKLOG_UNDER_LOAD: usize = QUEUE_REQUESTS / 8;
/// So many initiations in one second also count as load, whatever the backlog.
const INITIATIONS_UNDER_LOAD: u32 = 1_000;
/// An unanswered initiation is repeated after this, then after twice as long, and so on.
const RETRY_FIRST_NS: u64 = 500_000_000;
/// The longest wait between attempts.
const RETRY_LONGEST_NS: u64 = 16_000_000_000;
/// Bits of a receiver index below the worker's number.
const INDEX_BITS: u32 = 24;

/// The worker a receiver index belongs to.
pub const fn worker_of(receiver_index: u32) -> u8 {
    (receiver_index >> INDEX_BITS) as u8
}

/// What workers ask of the handshaker. The datagram lies in the request: handing it over allocates nothing.
#[allow(clippy::large_enum_variant)]
pub enum Request {
    /// A handshake message that arrived.
    Datagram {
        /// The worker it landed on, whose session it will be.
        worker: u8,
        /// Where it came from.
        source: SocketAddr,
        /// The message.
        datagram: [u8; DATAGRAM_BYTES],
    },
    /// Open a session for a worker's link, and keep trying.
    Connect {
        /// The worker that will send on it.
        worker: u8,
        /// Its number of the link.
        link: u16,
        /// Keys of the node to reach.
        remote: Arc<LinkPublic>,
        /// Its address.
        destination: SocketAddr,
    },
    /// Stop trying for this link.
    Abandon {
        /// The worker.
        worker: u8,
        /// Its number of the link.
        link: u16,
    },
}

/// What the handshaker counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HandshakeCounters {
    /// Sessions accepted.
    pub accepted: u64,
    /// Sessions opened.
    pub connected: u64,
    /// Initiations sent, repeats included.
    pub initiations: u64,
    /// Cookies given.
    pub cookies: u64,
    /// Messages refused: forged, replayed, late, of nobody.
    pub refused: u64,
    /// Letters lost to a full mailbox; the peer or the retry timer tries again.
    pub undelivered: u64,
    /// Handshakes given up for now because their receiver index could not be let in: the loader is gone or full. The
    /// peer or the retry timer tries again.
    pub unadmitted: u64,
}

impl HandshakeCounters {
    /// Every counter, by the name that the metric gives it.
    pub fn named(&self) -> [(&'static str, u64); 7] {
        [
            ("accepted", self.accepted),
            ("connected", self.connected),
            ("initiation", self.initiations),
            ("cookie", self.cookies),
            ("refused", self.refused),
            ("undelivered", self.undelivered),
            ("unadmitted", self.unadmitted),
        ]
    }
}

struct Attempt {
    remote: Arc<LinkPublic>,
    destination: SocketAddr,
    initiator: Option<Initiator>,
    retry_ns: u64,
    tries: u32,
}

/// Both sides of all handshakes of one node.
pub struct Handshaker<R> {
    keys: LinkKeys,
    responder: Responder,
    timestamps: TimestampSource,
    /// By worker and link: a fixed order, so that a seed reproduces a run.
    attempts: BTreeMap<(u8, u16), Attempt>,
    /// Our index of a handshake under way → whose it is.
    by_index: BTreeMap<u32, (u8, u16)>,
    cookies: BTreeMap<[u8; 32], (Cookie, u64)>,
    next_index: u32,
    second: u64,
    initiations_this_second: u32,
    counters: HandshakeCounters,
    /// Told of every index before anyone else is.
    indices: Box<dyn Indices>,
    rng: R,
}

impl<R: CryptoRng> Handshaker<R> {
    /// A handshaker with the node's static keys.
    pub fn new(keys: LinkKeys, mut rng: R) -> Handshaker<R> {
        Handshaker {
            responder: Responder::new(keys.clone()),
            keys,
            timestamps: TimestampSource::default(),
            attempts: BTreeMap::new(),
            by_index: BTreeMap::new(),
            cookies: BTreeMap::new(),
            next_index: rng.next_u32(),
            second: 0,
            initiations_this_second: 0,
            counters: HandshakeCounters::default(),
            indices: Box::new(Unfiltered),
            rng,
        }
    }

    /// Has every receiver index let in before it is used.
    #[must_use]
    pub fn with_indices(mut self, indices: Box<dyn Indices>) -> Handshaker<R> {
        self.indices = indices;
        self
    }

    /// What it counted so far.
    pub fn counters(&self) -> HandshakeCounters {
        self.counters
    }

    /// Serves one request; `backlog` more are waiting. Answers go to `post` with the worker's number; it says
    /// whether the letter was taken.
    pub fn handle(
        &mut self,
        request: Request,
        backlog: usize,
        now_ns: u64,
        unix_ms: u64,
        post: &mut dyn FnMut(u8, Mail) -> bool,
    ) {
        match request {
            Request::Datagram {
                worker,
                source,
                datagram,
            } => match peek(&datagram) {
                Ok(Datagram::Initiation { .. }) => {
                    let under_load = self.under_load(backlog, now_ns);
                    let arrival = Arrival {
                        source,
                        unix_ms,
                        now_ns,
                        under_load,
                    };
                    self.respond(worker, &datagram, &arrival, post);
                }
                Ok(Datagram::Response { receiver_index, .. }) => {
                    self.finish(receiver_index, &datagram, now_ns, post);
                }
                Ok(Datagram::CookieReply { receiver_index }) => {
                    self.read_cookie(receiver_index, &datagram, now_ns, unix_ms, post);
                }
                Ok(Datagram::Data { .. }) | Err(_) => self.counters.refused += 1,
            },
            Request::Connect {
                worker,
                link,
                remote,
                destination,
            } => {
                self.abandon(worker, link);
                let attempt = Attempt {
                    remote,
                    destination,
                    initiator: None,
                    retry_ns: now_ns,
                    tries: 0,
                };
                self.attempts.insert((worker, link), attempt);
                self.initiate((worker, link), now_ns, unix_ms, post);
            }
            Request::Abandon { worker, link } => self.abandon(worker, link),
        }
    }

    /// Repeats what was not answered in time.
    pub fn poll(&mut self, now_ns: u64, unix_ms: u64, post: &mut dyn FnMut(u8, Mail) -> bool) {
        while let Some(link) = self
            .attempts
            .iter()
            .find(|(_, attempt)| attempt.retry_ns <= now_ns)
            .map(|(link, _)| *link)
        {
            self.initiate(link, now_ns, unix_ms, post);
        }
    }

    /// When [`Handshaker::poll`] next has something to do.
    pub fn deadline_ns(&self) -> Option<u64> {
        self.attempts.values().map(|attempt| attempt.retry_ns).min()
    }

    fn under_load(&mut self, backlog: usize, now_ns: u64) -> bool {
        let second = now_ns / 1_000_000_000;
        if second != self.second {
            self.second = second;
            self.initiations_this_second = 0;
        }
        self.initiations_this_second = self.initiations_this_second.saturating_add(1);
        backlog > BACKLOG_UNDER_LOAD || self.initiations_this_second > INITIATIONS_UNDER_LOAD
    }

    /// A receiver index no handshake under way uses. Indices come round after 2^24 handshakes; a worker that still
    /// has a session of that number refuses the new one.
    fn fresh_index(&mut self, worker: u8) -> u32 {
        loop {
            self.next_index = self.next_index.wrapping_add(1);
            let index = u32::from(worker) << INDEX_BITS | self.next_index & ((1 << INDEX_BITS) - 1);
            if !self.by_index.contains_key(&index) {
                return index;
            }
        }
    }

    fn respond(
        &mut self,
        worker: u8,
        datagram: &[u8; DATAGRAM_BYTES],
        arrival: &Arrival,
        post: &mut dyn FnMut(u8, Mail) -> bool,
    ) {
        let index = self.fresh_index(worker);
        let mail = match self
            .responder
            .respond(datagram, arrival, index, &mut self.rng)
        {
            Ok(Response::Accepted { reply, session }) => {
                // Before the answer: the first frame may follow it at once.
                if !self.indices.admit(index, arrival.source.ip()) {
                    self.counters.unadmitted += 1;
                    return;
                }
                self.counters.accepted += 1;
                Mail::Accepted {
                    session,
                    source: arrival.source,
                    reply,
                }
            }
            Ok(Response::Cookie { reply }) => {
                self.counters.cookies += 1;
                Mail::Send {
                    destination: arrival.source,
                    datagram: reply,
                }
            }
            Err(_) => {
                self.counters.refused += 1;
                return;
            }
        };
        let admitted = matches!(mail, Mail::Accepted { .. });
        if !self.deliver(worker, mail, post) && admitted {
            self.indices.forget(index);
        }
    }

    fn finish(
        &mut self,
        index: u32,
        datagram: &[u8; DATAGRAM_BYTES],
        now_ns: u64,
        post: &mut dyn FnMut(u8, Mail) -> bool,
    ) {
        let finished = self
            .by_index
            .get(&index)
            .and_then(|key| Some((*key, self.attempts.get_mut(key)?.initiator.as_mut()?)))
            .and_then(|(key, initiator)| Some((key, initiator.finish(datagram, now_ns).ok()?)));
        let Some(((worker, link), session)) = finished else {
            self.counters.refused += 1;
            return;
        };
        // If the mailbox is full the attempt stays, and the timer opens another session.
        if self.deliver(
            worker,
            Mail::Connected {
                link,
                session: Box::new(session),
            },
            post,
        ) {
            self.counters.connected += 1;
            self.abandon(worker, link);
        }
    }

    fn read_cookie(
        &mut self,
        index: u32,
        datagram: &[u8; DATAGRAM_BYTES],
        now_ns: u64,
        unix_ms: u64,
        post: &mut dyn FnMut(u8, Mail) -> bool,
    ) {
        let read = self.by_index.get(&index).and_then(|key| {
            let attempt = self.attempts.get(key)?;
            let cookie = attempt.initiator.as_ref()?.read_cookie(datagram).ok()?;
            Some((*key, attempt.remote.x25519, cookie))
        });
        let Some((key, remote, cookie)) = read else {
            self.counters.refused += 1;
            return;
        };
        self.cookies.retain(|_, (_, until_ms)| *until_ms > unix_ms);
        self.cookies
            .insert(remote, (cookie, unix_ms + COOKIE_LIFETIME_MS));
        self.initiate(key, now_ns, unix_ms, post);
    }

    fn initiate(
        &mut self,
        key: (u8, u16),
        now_ns: u64,
        unix_ms: u64,
        post: &mut dyn FnMut(u8, Mail) -> bool,
    ) {
        let index = self.fresh_index(key.0);
        let timestamp_ms = self.timestamps.next(unix_ms);
        let Some(attempt) = self.attempts.get_mut(&key) else {
            return;
        };
        if let Some(last) = attempt.initiator.take() {
            self.by_index.remove(&last.local_index());
            self.indices.forget(last.local_index());
        }
        let wait_ns = RETRY_FIRST_NS
            .saturating_mul(1 << attempt.tries.min(16))
            .min(RETRY_LONGEST_NS);
        attempt.tries += 1;
        // Jitter keeps nodes that started together from trying together.
        attempt.retry_ns = now_ns + wait_ns + self.rng.random_range(0..=wait_ns / 4);
        let destination = attempt.destination;
        // The answer carries the index. Afterwards nothing does: links carry data one way.
        if !self.indices.admit(index, destination.ip()) {
            self.counters.unadmitted += 1;
            return;
        }
        let cookie = self
            .cookies
            .get(&attempt.remote.x25519)
            .filter(|(_, until_ms)| *until_ms > unix_ms)
            .map(|(cookie, _)| cookie);
        match Initiator::start(
            &self.keys,
            &attempt.remote,
            index,
            timestamp_ms,
            cookie,
            &mut self.rng,
        ) {
            Ok((initiator, datagram)) => {
                attempt.initiator = Some(initiator);
                self.by_index.insert(index, key);
                self.counters.initiations += 1;
                self.deliver(
                    key.0,
                    Mail::Send {
                        destination,
                        datagram: Box::new(datagram),
                    },
                    post,
                );
            }
            // The consensus carries an unusable key: trying again changes nothing.
            Err(_) => {
                self.counters.refused += 1;
                self.attempts.remove(&key);
                self.indices.forget(index);
            }
        }
    }

    fn abandon(&mut self, worker: u8, link: u16) {
        if let Some(Attempt {
            initiator: Some(initiator),
            ..
        }) = self.attempts.remove(&(worker, link))
        {
            self.by_index.remove(&initiator.local_index());
            self.indices.forget(initiator.local_index());
        }
    }

    fn deliver(&mut self, worker: u8, mail: Mail, post: &mut dyn FnMut(u8, Mail) -> bool) -> bool {
        let taken = post(worker, mail);
        if !taken {
            self.counters.undelivered += 1;
        }
        taken
    }
}
