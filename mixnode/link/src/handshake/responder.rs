//! The side that is reached.

use alloc::boxed::Box;
use core::net::SocketAddr;

use ml_kem::ml_kem_768::Ciphertext;
use rand_core::CryptoRng;

use super::mac::{self, CookieJar};
use super::{
    HandshakeError, INITIATION_HEADER_BYTES, INITIATION_PAYLOAD_BYTES, KEM_CIPHERTEXT_BYTES,
    KEM_OFFSET, MAC1_OFFSET, MAC2_OFFSET, RESPONSE_HEADER_BYTES, RESPONSE_PAYLOAD_BYTES, kem_key,
    noise, prologue, psk,
};
use crate::wire::{TYPE_RESPONSE, peek, read};
use crate::{DATAGRAM_BYTES, Datagram, LinkKeys, LinkPublic, Malformed, Session};

/// When and from where an initiation arrived.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// Where it came from, and where the answer goes.
    pub source: SocketAddr,
    /// The monotonic clock, nanoseconds.
    pub now_ns: u64,
}

/// What to do about an initiation that was not refused. The reply goes to the source in both cases.
pub enum Response {
    /// The peer is authenticated and gets datagrams at the source.
    Accepted {
        /// The second message.
        reply: Box<[u8; DATAGRAM_BYTES]>,
        /// The session, usable at once, half-open until its first authentic frame: until then this may be an initiation
        /// that was recorded and played again, and nothing that matters follows from it.
        session: Box<Session>,
    },
    /// The source has not shown that it gets what is sent to it.
    Cookie {
        /// The cookie reply.
        reply: Box<[u8; DATAGRAM_BYTES]>,
    },
}

/// Answers initiations. Keeps no state for any of them.
pub struct Responder {
    keys: LinkKeys,
    public: LinkPublic,
    mac1_key: [u8; 32],
    cookies: CookieJar,
}

impl Responder {
    /// A responder with these keys.
    #[must_use]
    pub fn new(keys: LinkKeys) -> Self {
        let public = keys.public();
        let mac1_key = mac::mac1_key(&public.x25519);
        let cookies = CookieJar::new(&public.x25519);
        Self {
            keys,
            public,
            mac1_key,
            cookies,
        }
    }

    /// The public keys that reach this responder.
    #[must_use]
    pub fn public(&self) -> &LinkPublic {
        &self.public
    }

    /// Answers an initiation, with a cookie unless it shows one: [`Responder::screen`], then [`Responder::answer`].
    ///
    /// # Errors
    /// Why it gets no answer.
    pub fn respond<R: CryptoRng + ?Sized>(
        &mut self,
        datagram: &[u8; DATAGRAM_BYTES],
        arrival: &Arrival,
        local_index: u32,
        welcome: impl FnOnce(&[u8; 32]) -> bool,
        rng: &mut R,
    ) -> Result<Response, HandshakeError> {
        match self.screen(datagram, arrival, rng)? {
            Some(reply) => Ok(Response::Cookie { reply }),
            None => self.answer(datagram, arrival, local_index, welcome, rng),
        }
    }

    /// What costs little and comes before all else: type, first mac, cookie. The cookie reply, for a source that has
    /// not shown its cookie; nothing else may then be done for it.
    ///
    /// # Errors
    /// Why it gets no answer at all.
    pub fn screen<R: CryptoRng + ?Sized>(
        &mut self,
        datagram: &[u8; DATAGRAM_BYTES],
        arrival: &Arrival,
        rng: &mut R,
    ) -> Result<Option<Box<[u8; DATAGRAM_BYTES]>>, HandshakeError> {
        let Datagram::Initiation { .. } = peek(datagram)? else {
            return Err(HandshakeError::Unexpected);
        };
        if !mac::mac1_holds(&self.mac1_key, datagram) {
            return Err(HandshakeError::Mac);
        }
        let Arrival { source, now_ns } = *arrival;
        if self.cookies.accepts(datagram, source, now_ns, rng) {
            return Ok(None);
        }
        Ok(Some(Box::new(self.cookies.reply(datagram, source, rng))))
    }

    /// Answers an initiation that [`Responder::screen`] let pass; `local_index` becomes the session's index. `welcome`
    /// is asked about the initiator's static key as soon as it is known, before the decapsulation.
    ///
    /// # Errors
    /// Why it gets no answer.
    pub fn answer<R: CryptoRng + ?Sized>(
        &self,
        datagram: &[u8; DATAGRAM_BYTES],
        arrival: &Arrival,
        local_index: u32,
        welcome: impl FnOnce(&[u8; 32]) -> bool,
        rng: &mut R,
    ) -> Result<Response, HandshakeError> {
        let Datagram::Initiation { sender_index } = peek(datagram)? else {
            return Err(HandshakeError::Unexpected);
        };
        let mut state = noise::state(self.keys.as_ref(), None, &prologue(datagram), rng)?;
        // snow wants room for the tag too.
        let mut payload = [0; INITIATION_PAYLOAD_BYTES + 16];
        let length =
            state.read_message(&datagram[INITIATION_HEADER_BYTES..KEM_OFFSET], &mut payload)?;
        if payload[..length].iter().any(|&byte| byte != 0) {
            return Err(HandshakeError::Malformed(Malformed::Reserved));
        }
        let peer: [u8; 32] = state
            .get_remote_static()
            .and_then(|key| key.try_into().ok())
            .ok_or(HandshakeError::State)?;
        if !welcome(&peer) {
            return Err(HandshakeError::Unwelcome);
        }

        let ciphertext: [u8; KEM_CIPHERTEXT_BYTES] = read(datagram, KEM_OFFSET);
        let shared = self.keys.decapsulate(&Ciphertext::from(ciphertext));
        let kem_key = kem_key(&shared, &ciphertext, &self.public.kem);

        let mut reply = Box::new([0; DATAGRAM_BYTES]);
        reply[0] = TYPE_RESPONSE;
        reply[4..8].copy_from_slice(&local_index.to_le_bytes());
        reply[8..RESPONSE_HEADER_BYTES].copy_from_slice(&sender_index.to_le_bytes());
        state.set_psk(2, &*psk(&kem_key, &read(&reply, 0)))?;
        state.write_message(
            &[0; RESPONSE_PAYLOAD_BYTES],
            &mut reply[RESPONSE_HEADER_BYTES..MAC1_OFFSET],
        )?;
        let mac1 = mac::mac1(&mac::mac1_key(&peer), &reply);
        reply[MAC1_OFFSET..MAC2_OFFSET].copy_from_slice(&mac1);

        let (receive, send) = noise::split(&mut state);
        let session = Session::new(
            (&send, &receive),
            peer,
            (local_index, sender_index),
            arrival.now_ns,
        );
        Ok(Response::Accepted {
            reply,
            session: Box::new(session),
        })
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng;

    use super::*;
    use crate::keys::DECAPSULATIONS;
    use crate::{ClientKeys, Initiator};

    #[test]
    fn attack_a_stranger_whom_nobody_welcomes_costs_no_decapsulation() {
        let rng = &mut ChaCha20Rng::seed_from_u64(1);
        let client = ClientKeys::generate(rng);
        let responder = Responder::new(LinkKeys::generate(rng));
        let started = Initiator::start(&client, responder.public(), 1, None, rng);
        let (_, initiation) = started.unwrap();
        let arrival = Arrival {
            source: ([192, 0, 2, 1], 9).into(),
            now_ns: 0,
        };
        let mut cost = |welcome| {
            let before = DECAPSULATIONS.get();
            let answer = responder.answer(&initiation, &arrival, 2, |_| welcome, rng);
            (answer.err(), DECAPSULATIONS.get() - before)
        };
        assert_eq!(cost(false), (Some(HandshakeError::Unwelcome), 0));
        assert_eq!(cost(true), (None, 1));
    }
}
