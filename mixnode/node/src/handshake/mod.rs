//! Handshakes: answers neighbours and clients, opens sessions to next hops, retries.
//!
//! Nothing is computed or kept for an initiation before it shows the cookie of its source; everyone gets one. What shows it
//! waits in a queue that is fair between sources ([`fair`]), and only when its turn comes it is known whose it is: strangers
//! are answered by gateways alone. [`Handshaker`] has no thread, clock or socket: requests, time and randomness come in,
//! [`Mail`] for workers goes out. [`thread`] runs it beside the workers; a simulator polls it instead.

mod counters;
pub mod fair;
mod members;
mod reached;
mod recent;
pub mod thread;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use link::{
    Arrival, COOKIE_LIFETIME_NS, Cookie, DATAGRAM_BYTES, Datagram, HandshakeError, Initiations,
    LinkKeys, LinkPublic, Responder, Response, first_mac, peek,
};
use rand::RngExt;
use rand_core::CryptoRng;

use crate::loader_link::{Indices, Unfiltered};
use crate::path::mail::Mail;
use fair::Queue;
use recent::Recent;

pub use counters::HandshakeCounters;
pub use members::Members;
pub use reached::{Peer, Reached};

/// Requests that may wait for the handshaker. A full queue drops datagrams: their senders try again.
pub const QUEUE_REQUESTS: usize = 256;
/// While so many wait, initiations without a cookie are dropped: whoever likes sends those, and what costs their senders
/// more must find room. Nobody waits long behind this: to look at one takes microseconds.
pub const QUEUE_BARE: usize = QUEUE_REQUESTS / 2;
/// While so many wait, so are other initiations of strangers.
pub const QUEUE_STRANGERS: usize = QUEUE_REQUESTS / 4 * 3;
/// While so many wait, so are those of members' addresses, which anybody can forge: there must be room for answers to
/// what this node asked.
pub const QUEUE_MEMBERS: usize = QUEUE_REQUESTS / 8 * 7;
/// While so many wait, so are answers, which can be forged too: what remains is for what this node's workers ask.
pub const QUEUE_ANSWERS: usize = QUEUE_REQUESTS / 16 * 15;
/// An unanswered initiation is repeated after this, then after twice as long, and so on.
const RETRY_FIRST_NS: u64 = 500_000_000;
/// The longest wait between attempts.
const RETRY_LONGEST_NS: u64 = 16_000_000_000;
/// After so many unanswered attempts, seven seconds and more, a node counts as not reachable until it answers.
const TRIES_SILENT: u32 = 4;
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
    /// Open a session for a worker's link, and keep trying. Asked again while that goes on, it begins a new attempt at
    /// once, and those that follow come no sooner for it, unless the node has another key or address now.
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
    /// The link is no more: stop trying, and forget whether its node answered.
    Abandon {
        /// The worker.
        worker: u8,
        /// Its number of the link, which may be another one's by now.
        link: u16,
        /// The node's static key.
        key: [u8; 32],
    },
}

/// An initiation with the cookie of its source.
struct Waiting {
    worker: u8,
    source: SocketAddr,
    datagram: [u8; DATAGRAM_BYTES],
}

struct Attempt {
    remote: Arc<LinkPublic>,
    destination: SocketAddr,
    sent: Option<Initiations>,
    retry_ns: u64,
    tries: u32,
}

/// Both sides of all handshakes of one node.
pub struct Handshaker<R> {
    keys: LinkKeys,
    responder: Responder,
    members: Arc<Members>,
    /// Initiations that have shown their cookie.
    waiting: Queue<Waiting>,
    /// Initiations answered lately.
    answered: Recent,
    /// By worker and link: a fixed order, so that a seed reproduces a run.
    attempts: BTreeMap<(u8, u16), Attempt>,
    /// Our index of a handshake under way → whose it is.
    by_index: BTreeMap<u32, (u8, u16)>,
    /// By responder: its cookie, and until when it may be used.
    cookies: BTreeMap<[u8; 32], (Cookie, u64)>,
    counters: HandshakeCounters,
    /// Told of every index before anyone else is.
    indices: Box<dyn Indices>,
    rng: R,
}

impl<R: CryptoRng> Handshaker<R> {
    /// A handshaker with the node's static keys, which answers these members.
    pub fn new(keys: LinkKeys, members: Arc<Members>, rng: R) -> Handshaker<R> {
        Handshaker {
            responder: Responder::new(keys.clone()),
            keys,
            members,
            waiting: Queue::default(),
            answered: Recent::default(),
            attempts: BTreeMap::new(),
            by_index: BTreeMap::new(),
            cookies: BTreeMap::new(),
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

    /// Takes one request; initiations that have shown their cookie wait for [`Handshaker::serve`]. Letters go to `post`
    /// with the worker's number; it says whether the letter was taken.
    pub fn handle(
        &mut self,
        request: Request,
        now_ns: u64,
        post: &mut dyn FnMut(u8, Mail) -> bool,
    ) {
        match request {
            Request::Datagram {
                worker,
                source,
                datagram,
            } => match peek(&datagram) {
                Ok(Datagram::Initiation { .. }) => {
                    let arrival = Arrival { source, now_ns };
                    self.screen(worker, &datagram, &arrival, post);
                }
                Ok(Datagram::Response { receiver_index, .. }) => {
                    self.finish(receiver_index, &datagram, now_ns, post);
                }
                Ok(Datagram::CookieReply { receiver_index }) => {
                    self.read_cookie(receiver_index, &datagram, now_ns, post);
                }
                // Workers hand over sound handshake messages alone.
                Ok(Datagram::Data { .. }) | Err(_) => self.counters.unasked += 1,
            },
            Request::Connect {
                worker,
                link,
                remote,
                destination,
            } => {
                // A node that says again and again that it was restarted has nobody begin anew with what never answers.
                let last = self.attempts.get(&(worker, link)).filter(|last| {
                    last.destination == destination && last.remote.x25519 == remote.x25519
                });
                let tries = last.map_or(0, |last| last.tries.min(TRIES_SILENT));
                self.abandon(worker, link);
                let attempt = Attempt {
                    remote,
                    destination,
                    sent: None,
                    retry_ns: now_ns,
                    tries,
                };
                self.attempts.insert((worker, link), attempt);
                self.attempt((worker, link), now_ns, post);
            }
            Request::Abandon { worker, link, key } => {
                self.members.reached().forget(&key);
                let attempt = self.attempts.get(&(worker, link));
                if attempt.is_some_and(|attempt| attempt.remote.x25519 == key) {
                    self.abandon(worker, link);
                }
            }
        }
    }

    /// Answers one of the initiations that wait; says whether more do.
    pub fn serve(&mut self, now_ns: u64, post: &mut dyn FnMut(u8, Mail) -> bool) -> bool {
        if let Some(one) = self.waiting.pop() {
            self.respond(&one, now_ns, post);
        }
        self.is_behind()
    }

    /// Whether initiations wait for [`Handshaker::serve`].
    pub fn is_behind(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Repeats what was not answered in time.
    pub fn poll(&mut self, now_ns: u64, post: &mut dyn FnMut(u8, Mail) -> bool) {
        while let Some(link) = self
            .attempts
            .iter()
            .find(|(_, attempt)| attempt.retry_ns <= now_ns)
            .map(|(link, _)| *link)
        {
            self.attempt(link, now_ns, post);
        }
    }

    /// When [`Handshaker::poll`] next has something to do.
    pub fn deadline_ns(&self) -> Option<u64> {
        self.attempts.values().map(|attempt| attempt.retry_ns).min()
    }

    /// A receiver index no handshake under way uses, at random: who guesses one spends the budget of whom it belongs
    /// to. A worker that has a session of that number refuses the new one.
    fn fresh_index(&mut self, worker: u8) -> u32 {
        loop {
            let random = self.rng.next_u32() & ((1 << INDEX_BITS) - 1);
            let index = u32::from(worker) << INDEX_BITS | random;
            if !self.by_index.contains_key(&index) {
                return index;
            }
        }
    }

    /// The cheap checks. Who has not shown its cookie gets it, and nothing else happens; who has waits for its turn.
    fn screen(
        &mut self,
        worker: u8,
        datagram: &[u8; DATAGRAM_BYTES],
        arrival: &Arrival,
        post: &mut dyn FnMut(u8, Mail) -> bool,
    ) {
        match self.responder.screen(datagram, arrival, &mut self.rng) {
            Ok(None) if self.answered.contains(&first_mac(datagram)) => {
                self.counters.duplicates += 1;
            }
            Ok(None) => {
                let source = arrival.source;
                let class = self.members.class_of(&source);
                let one = Waiting {
                    worker,
                    source,
                    datagram: *datagram,
                };
                let gone = self.waiting.push(class, source.ip(), one);
                self.counters.over_rate += u64::from(gone.is_some());
            }
            Ok(Some(reply)) => {
                self.counters.cookies += 1;
                let mail = Mail::Send {
                    destination: arrival.source,
                    datagram: reply,
                };
                self.deliver(worker, mail, post);
            }
            Err(HandshakeError::Mac) => self.counters.bad_mac1 += 1,
            Err(_) => self.counters.forged += 1,
        }
    }

    fn respond(&mut self, one: &Waiting, now_ns: u64, post: &mut dyn FnMut(u8, Mail) -> bool) {
        let Waiting {
            worker,
            source,
            ref datagram,
        } = *one;
        if self.answered.contains(&first_mac(datagram)) {
            self.counters.duplicates += 1;
            return;
        }
        let arrival = Arrival { source, now_ns };
        let index = self.fresh_index(worker);
        let members = &self.members;
        let mut member = false;
        let welcome = |key: &[u8; 32]| {
            member = members.lists(key);
            member || members.welcomes_strangers()
        };
        let answer = self
            .responder
            .answer(datagram, &arrival, index, welcome, &mut self.rng);
        let (reply, session) = match answer {
            Ok(Response::Accepted { reply, session }) => (reply, session),
            Err(HandshakeError::Unwelcome) => {
                self.counters.strangers += 1;
                return;
            }
            // It gave its cookie before.
            Ok(Response::Cookie { .. }) | Err(_) => {
                self.counters.forged += 1;
                return;
            }
        };
        // Before the answer: the first frame may follow it at once.
        if !self.indices.admit(index, source.ip()) {
            self.counters.unadmitted += 1;
            return;
        }
        self.counters.accepted += 1;
        self.answered.insert(first_mac(datagram));
        let mail = Mail::Accepted {
            session,
            whose: self.members.whose(member, &source),
            source,
            reply,
        };
        if !self.deliver(worker, mail, post) {
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
            .and_then(|key| Some((*key, self.attempts.get_mut(key)?.sent.as_mut()?)))
            .and_then(|(key, sent)| Some((key, sent.finish(datagram, now_ns).ok()?)));
        let Some(((worker, link), session)) = finished else {
            self.counters.unasked += 1;
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
            if let Some(attempt) = self.attempts.get(&(worker, link)) {
                let reached = self.members.reached();
                reached.note(&attempt.remote.x25519, attempt.destination, true);
            }
            self.abandon(worker, link);
        }
    }

    fn read_cookie(
        &mut self,
        index: u32,
        datagram: &[u8; DATAGRAM_BYTES],
        now_ns: u64,
        post: &mut dyn FnMut(u8, Mail) -> bool,
    ) {
        let read = self.by_index.get(&index).and_then(|key| {
            let attempt = self.attempts.get_mut(key)?;
            let sent = attempt.sent.as_mut()?;
            let cookie = sent.read_cookie(datagram, &mut self.rng).ok()?;
            Some((*key, attempt.remote.x25519, cookie, sent.owes()))
        });
        let Some((key, remote, cookie, owes)) = read else {
            self.counters.unasked += 1;
            return;
        };
        self.cookies.retain(|_, (_, until_ns)| *until_ns > now_ns);
        if let Some(cookie) = cookie {
            let until_ns = now_ns + COOKIE_LIFETIME_NS;
            self.cookies.insert(remote, (cookie, until_ns));
        }
        if owes {
            // Under the same index, which is let in already.
            self.initiate(key, index, now_ns, post);
        }
    }

    /// Begins an attempt, and sets the time of the next one.
    fn attempt(&mut self, key: (u8, u16), now_ns: u64, post: &mut dyn FnMut(u8, Mail) -> bool) {
        let index = self.fresh_index(key.0);
        let Some(attempt) = self.attempts.get_mut(&key) else {
            return;
        };
        if let Some(last) = attempt.sent.take() {
            self.by_index.remove(&last.local_index());
            self.indices.forget(last.local_index());
        }
        let wait_ns = RETRY_FIRST_NS
            .saturating_mul(1 << attempt.tries.min(16))
            .min(RETRY_LONGEST_NS);
        if attempt.tries >= TRIES_SILENT {
            let reached = self.members.reached();
            reached.note(&attempt.remote.x25519, attempt.destination, false);
        }
        attempt.tries += 1;
        let destination = attempt.destination;
        // Jitter keeps nodes that started together from trying together.
        attempt.retry_ns = now_ns + wait_ns + self.rng.random_range(0..=wait_ns / 4);
        // The answer carries the index. Afterwards nothing does: links carry data one way.
        if !self.indices.admit(index, destination.ip()) {
            self.counters.unadmitted += 1;
            return;
        }
        self.initiate(key, index, now_ns, post);
    }

    fn initiate(
        &mut self,
        key: (u8, u16),
        index: u32,
        now_ns: u64,
        post: &mut dyn FnMut(u8, Mail) -> bool,
    ) {
        let Some(attempt) = self.attempts.get_mut(&key) else {
            return;
        };
        let cookie = self
            .cookies
            .get(&attempt.remote.x25519)
            .filter(|(_, until_ns)| *until_ns > now_ns)
            .map(|(cookie, _)| cookie);
        let (keys, remote) = (&self.keys, &attempt.remote);
        let (sent, with) = (&mut attempt.sent, (index, cookie));
        match Initiations::next(sent, keys, remote, with, &mut self.rng) {
            Ok(datagram) => {
                let destination = attempt.destination;
                self.by_index.insert(index, key);
                self.counters.initiations += 1;
                let mail = Mail::Send {
                    destination,
                    datagram: Box::new(datagram),
                };
                self.deliver(key.0, mail, post);
            }
            // The consensus carries an unusable key: trying again changes nothing.
            Err(_) => {
                self.counters.unusable += 1;
                self.attempts.remove(&key);
                self.by_index.remove(&index);
                self.indices.forget(index);
            }
        }
    }

    fn abandon(&mut self, worker: u8, link: u16) {
        let attempt = self.attempts.remove(&(worker, link));
        if let Some(sent) = attempt.and_then(|attempt| attempt.sent) {
            self.by_index.remove(&sent.local_index());
            self.indices.forget(sent.local_index());
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
