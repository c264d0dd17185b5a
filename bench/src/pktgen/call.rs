//! Handshakes with a node, from the side that begins them, and frames under what they bring.

use std::io;
use std::net::SocketAddr;

use link::{
    CONTENT_OFFSET, ClientKeys, Cookie, DATAGRAM_BYTES, Initiator, Kind, LinkPublic, SealJob,
    Session, seal_batch,
};
use port::monotonic_ns;
use sphinx::{Generator, PACKET_BYTES};

use super::outlet::{Listener, Outlet};

/// How long an answer of a node is waited for.
const PATIENCE_NS: u64 = 5_000_000_000;
/// Until a question without an answer is asked again.
pub(super) const ASK_AGAIN_NS: u64 = 500_000_000;
/// Between a look at what came and the next.
pub(super) const TURN_NS: u64 = 20_000_000;
/// The bits of an index beside the worker's number, which is 0.
pub(super) const LOCAL_INDEX: u32 = (1 << 24) - 1;

/// A handshake to be.
pub(super) struct Call<'a, K> {
    /// Who calls.
    pub(super) keys: &'a K,
    pub(super) remote: &'a LinkPublic,
    pub(super) address: SocketAddr,
    pub(super) index: u32,
}

/// What is waited for.
enum Wanted {
    Cookie,
    Session,
}

/// What came of it.
enum Got {
    Cookie(Cookie),
    Session(Box<Session>),
}

impl<K: AsRef<ClientKeys>> Call<'_, K> {
    /// A session; meanwhile `others` is asked about everything else that comes.
    ///
    /// # Errors
    /// The node does not answer.
    pub(super) fn session(
        &self,
        outlet: &mut Outlet,
        rng: &mut Generator,
        others: &mut Listener<'_>,
    ) -> io::Result<Session> {
        match self.run(&Wanted::Session, outlet, rng, others)? {
            Got::Session(session) => Ok(*session),
            Got::Cookie(_) => Err(io::Error::other("a cookie where none is asked for")),
        }
    }

    /// The cookie of the outlet's address.
    ///
    /// # Errors
    /// The node does not answer.
    pub(super) fn cookie(&self, outlet: &mut Outlet, rng: &mut Generator) -> io::Result<Cookie> {
        match self.run(&Wanted::Cookie, outlet, rng, &mut |_, _| None)? {
            Got::Cookie(cookie) => Ok(cookie),
            Got::Session(_) => Err(io::Error::other("a session where none is asked for")),
        }
    }

    fn run(
        &self,
        wanted: &Wanted,
        outlet: &mut Outlet,
        rng: &mut Generator,
        others: &mut Listener<'_>,
    ) -> io::Result<Got> {
        let mut cookie: Option<Cookie> = None;
        let end_ns = monotonic_ns() + PATIENCE_NS;
        while monotonic_ns() < end_ns {
            let (keys, index) = (self.keys, self.index);
            let started = Initiator::start(keys, self.remote, index, cookie.as_ref(), rng);
            let (mut initiator, datagram) = started.map_err(io::Error::other)?;
            outlet.send(self.address, |frame| *frame = datagram);
            let again_ns = monotonic_ns() + ASK_AGAIN_NS;
            let mut got = None;
            let mut has_new_cookie = false;
            while monotonic_ns() < again_ns && got.is_none() && !has_new_cookie {
                outlet.wait(monotonic_ns() + TURN_NS)?;
                outlet.listen(&mut |datagram, source| {
                    if source == self.address {
                        if let Ok(session) = initiator.finish(datagram, monotonic_ns()) {
                            got = Some(Got::Session(Box::new(session)));
                            return None;
                        }
                        if let Ok(fresh) = initiator.read_cookie(datagram) {
                            has_new_cookie = cookie.is_none();
                            cookie = Some(fresh);
                            return None;
                        }
                    }
                    others(datagram, source)
                });
            }
            match (
                got,
                wanted,
                cookie.take_if(|_| matches!(wanted, Wanted::Cookie)),
            ) {
                (Some(got), ..) => return Ok(got),
                (None, Wanted::Cookie, Some(cookie)) => return Ok(Got::Cookie(cookie)),
                _ => {}
            }
        }
        Err(io::Error::other(format!(
            "{} does not answer a handshake",
            self.address
        )))
    }
}

/// A frame with this content under a session.
///
/// # Errors
/// The session is spent.
pub(super) fn seal(
    session: &mut Session,
    kind: Kind,
    slot: u8,
    content: &[u8; PACKET_BYTES],
) -> io::Result<[u8; DATAGRAM_BYTES]> {
    let mut datagram = [0; DATAGRAM_BYTES];
    seal_into(session, kind, slot, content, &mut datagram)?;
    Ok(datagram)
}

/// The same, where it lies already.
///
/// # Errors
/// The session is spent.
pub(super) fn seal_into(
    session: &mut Session,
    kind: Kind,
    slot: u8,
    content: &[u8; PACKET_BYTES],
    datagram: &mut [u8; DATAGRAM_BYTES],
) -> io::Result<()> {
    let counter = session.send.next_counter();
    let counter = counter.ok_or_else(|| io::Error::other("the session is spent"))?;
    datagram[CONTENT_OFFSET..CONTENT_OFFSET + PACKET_BYTES].copy_from_slice(content);
    seal_batch(&mut [SealJob {
        session: session.send.key(),
        counter,
        kind,
        epoch: slot,
        datagram,
    }]);
    Ok(())
}
