//! What an initiator sends in one attempt, and which cookies it believes.
//!
//! A cookie reply is sealed under a key that everybody has, and proves no more than that its maker saw the initiation. Of
//! several replies nobody can tell which is true. The first one to come is shown at once, so who is slower than the
//! responder gets nothing by it. Who is faster has that one message shown in vain, and no answer to the other
//! one lost: both messages of the attempt are waited on until it ends, and the next attempt begins with any of the cookies
//! that came, at random, so that with a few false ones to each it is the true one every few attempts.

use rand_core::CryptoRng;

use super::{Cookie, HandshakeError, Initiator};
use crate::{ClientKeys, DATAGRAM_BYTES, LinkPublic, Session};

/// The messages of one attempt: the one that begins it, and the one that shows a cookie at once. Another cookie waits for
/// the next attempt: otherwise the other end could draw messages at the pace of the round trip.
pub struct Initiations {
    opening: Initiator,
    showing: Option<Initiator>,
    /// Cookie replies to them so far.
    replies: u32,
    /// The first one's, until it is shown.
    owed: Option<Cookie>,
}

impl Initiations {
    /// The next message: the one that shows the cookie which `attempt` owes, under the same index or another one, else the
    /// first one of an attempt that takes its place, as [`Initiator::start`] makes it.
    ///
    /// # Errors
    /// Those of [`Initiator::start`].
    pub fn next<R: CryptoRng + ?Sized>(
        attempt: &mut Option<Self>,
        local: &impl AsRef<ClientKeys>,
        remote: &LinkPublic,
        (local_index, cookie): (u32, Option<&Cookie>),
        rng: &mut R,
    ) -> Result<[u8; DATAGRAM_BYTES], HandshakeError> {
        let owed = attempt.as_mut().and_then(|attempt| attempt.owed.take());
        let cookie = owed.as_ref().or(cookie);
        let (initiator, datagram) = Initiator::start(local, remote, local_index, cookie, rng)?;
        match attempt {
            Some(attempt) if owed.is_some() => attempt.showing = Some(initiator),
            _ => {
                *attempt = Some(Self {
                    opening: initiator,
                    showing: None,
                    replies: 0,
                    owed: None,
                });
            }
        }
        Ok(datagram)
    }

    /// Whether a cookie came that is to be shown at once.
    #[must_use]
    pub fn owes(&self) -> bool {
        self.owed.is_some()
    }

    /// The index of the first message.
    #[must_use]
    pub fn local_index(&self) -> u32 {
        self.opening.local_index()
    }

    /// Reads the response to either message. A refused one changes nothing.
    ///
    /// # Errors
    /// Why the datagram is not the response to the first message, if it is none to the other.
    pub fn finish(
        &mut self,
        datagram: &[u8; DATAGRAM_BYTES],
        now_ns: u64,
    ) -> Result<Session, HandshakeError> {
        if let Some(showing) = &mut self.showing
            && let Ok(session) = showing.finish(datagram, now_ns)
        {
            return Ok(session);
        }
        self.opening.finish(datagram, now_ns)
    }

    /// Reads a cookie reply to either message. The cookie is the one to begin the next attempt with, for
    /// [`crate::COOKIE_LIFETIME_NS`] at most; without one that is still one of those that came before.
    ///
    /// # Errors
    /// Why the datagram is not a cookie reply to the first message, if it is none to the other.
    pub fn read_cookie<R: CryptoRng + ?Sized>(
        &mut self,
        datagram: &[u8; DATAGRAM_BYTES],
        rng: &mut R,
    ) -> Result<Option<Cookie>, HandshakeError> {
        let shown = self.showing.as_ref();
        let cookie = match shown.map(|showing| showing.read_cookie(datagram)) {
            Some(Ok(cookie)) => cookie,
            Some(Err(_)) | None => self.opening.read_cookie(datagram)?,
        };
        self.replies = self.replies.saturating_add(1);
        if self.replies == 1 {
            self.owed = Some(cookie.clone());
            return Ok(Some(cookie));
        }
        let is_drawn = rng.next_u32().is_multiple_of(self.replies);
        Ok(is_drawn.then_some(cookie))
    }
}
