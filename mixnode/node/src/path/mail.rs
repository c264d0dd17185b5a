//! Mailboxes: how other threads reach a worker. Bounded; the sender decides what a full one means.

use std::net::SocketAddr;
use std::sync::Arc;

use crossbeam::queue::ArrayQueue;
use link::{DATAGRAM_BYTES, Session};
use sphinx::{BODY_BYTES, DestinationTag, Id};

use crate::keys::epoch::EpochState;
use crate::path::half_open::Whose;
use port::{BATCH_MAX, EventFd};

/// Letters a mailbox holds: a burst of deliveries of four full batches.
pub const MAILBOX_LETTERS: usize = 256;
/// Strays that wait for a worker: as many as it takes from its port in one turn. They have a queue of their own, so
/// that no flood of them keeps a letter out.
pub const STRAYS_MAX: usize = 4 * BATCH_MAX;

/// A frame of a worker's session that landed on another worker. It lies in the queue itself, so that handing it over
/// allocates nothing.
pub struct Stray {
    /// Where it came from.
    pub source: SocketAddr,
    /// The frame as received.
    pub datagram: [u8; DATAGRAM_BYTES],
}

/// What a worker gets from other threads.
///
/// Bodies lie in the letter itself, so that handing over a delivery allocates nothing; the boxes belong to handshakes,
/// which are not the packet path.
#[allow(clippy::large_enum_variant)]
pub enum Mail {
    /// An initiation was answered: install the session, then send the reply.
    Accepted {
        /// The new session; its index carries this worker's number.
        session: Box<Session>,
        /// Whose it is, as far as its key and its address say.
        whose: Whose,
        /// Where the initiation came from.
        source: SocketAddr,
        /// The second message of the handshake.
        reply: Box<[u8; DATAGRAM_BYTES]>,
    },
    /// A session to a next hop is there.
    Connected {
        /// The link it was asked for.
        link: u16,
        /// Whom it reaches, for a link whose number was given to another node meanwhile.
        session: Box<Session>,
    },
    /// A handshake message to send.
    Send {
        /// Where to.
        destination: SocketAddr,
        /// The message.
        datagram: Box<[u8; DATAGRAM_BYTES]>,
    },
    /// A delivery for a client attached to this worker.
    Delivery {
        /// The client.
        destination: DestinationTag,
        /// Meant for the client.
        id: Id,
        /// Meant for the client.
        body: [u8; BODY_BYTES],
    },
    /// A loop packet that this worker sent came back to another one.
    Loop {
        /// As it was sent.
        id: Id,
        /// When, on the monotonic clock.
        returned_ns: u64,
    },
    /// A client attached to a worker; older attachments elsewhere end.
    ClientAt {
        /// The client.
        destination: DestinationTag,
        /// The worker it attached to.
        worker: u8,
        /// Which of two of its sessions is the newer: the larger.
        order: u64,
    },
    /// A client has gone from a worker.
    ClientGone {
        /// The client.
        destination: DestinationTag,
        /// Its newest session had this order.
        order: u64,
    },
    /// The node with this static link key was restarted: a link to it needs a new session.
    Restarted {
        /// The key.
        key: [u8; 32],
    },
    /// This gateway leaves the network: its clients are told.
    Leaving {
        /// The last epoch in which it serves.
        epoch: u32,
    },
    /// An epoch's consensus and keys.
    Epoch(Arc<EpochState>),
    /// Take nothing new, send what is held, then stop.
    Drain,
}

/// The way into one worker. Clones share it.
#[derive(Clone)]
pub struct Mailbox {
    letters: Arc<ArrayQueue<Mail>>,
    strays: Arc<ArrayQueue<Stray>>,
    event: Arc<EventFd>,
}

impl Mailbox {
    /// A mailbox whose worker sleeps on `event`.
    pub fn new(event: Arc<EventFd>) -> Mailbox {
        Mailbox {
            letters: Arc::new(ArrayQueue::new(MAILBOX_LETTERS)),
            strays: Arc::new(ArrayQueue::new(STRAYS_MAX)),
            event,
        }
    }

    /// Puts a letter in and wakes the worker; `false` if the mailbox is full and the letter lost.
    #[must_use = "a full mailbox loses the letter"]
    pub fn post(&self, mail: Mail) -> bool {
        let taken = self.letters.push(mail).is_ok();
        if taken {
            self.event.signal();
        }
        taken
    }

    /// Takes the oldest letter.
    pub fn take(&self) -> Option<Mail> {
        self.letters.pop()
    }

    /// Hands a stray over and wakes the worker; `false` if its queue is full and the stray lost.
    #[must_use = "a full queue loses the stray"]
    pub fn post_stray(&self, stray: Stray) -> bool {
        let taken = self.strays.push(stray).is_ok();
        if taken {
            self.event.signal();
        }
        taken
    }

    /// Takes the oldest stray.
    pub fn take_stray(&self) -> Option<Stray> {
        self.strays.pop()
    }

    /// Whether there is anything to take, letter or stray.
    pub fn is_empty(&self) -> bool {
        self.letters.is_empty() && self.strays.is_empty()
    }

    /// Wakes the worker without a letter.
    pub fn wake(&self) {
        self.event.signal();
    }

    /// The event the worker's port sleeps on.
    pub fn event(&self) -> &Arc<EventFd> {
        &self.event
    }
}
