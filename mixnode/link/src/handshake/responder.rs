//! The side that is reached.

use alloc::boxed::Box;
use core::net::SocketAddr;

use ml_kem::ml_kem_768::Ciphertext;
use rand_core::CryptoRng;

use super::mac::{self, CookieJar};
use super::timestamps::{TIMESTAMPS_MAX, Timestamps};
use super::{
    HandshakeError, INITIATION_HEADER_BYTES, KEM_CIPHERTEXT_BYTES, KEM_OFFSET, MAC1_OFFSET,
    MAC2_OFFSET, RESPONSE_HEADER_BYTES, RESPONSE_PAYLOAD_BYTES, TIMESTAMP_BYTES, kem_key, noise,
    prologue, psk,
};
use crate::wire::{TYPE_RESPONSE, peek, read};
use crate::{DATAGRAM_BYTES, Datagram, LinkKeys, LinkPublic, Session};

/// When, from where and in which situation an initiation arrived.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// Where it came from, and where the answer goes.
    pub source: SocketAddr,
    /// The wall clock, milliseconds of Unix time.
    pub unix_ms: u64,
    /// The monotonic clock, nanoseconds.
    pub now_ns: u64,
    /// Whether to ask for a cookie first.
    pub under_load: bool,
}

/// What to do about an initiation that was not refused. The reply goes to the source in both cases.
pub enum Response {
    /// The peer is authenticated and fresh.
    Accepted {
        /// The second message.
        reply: Box<[u8; DATAGRAM_BYTES]>,
        /// The session, usable at once. The peer has proved nothing about its address yet: what follows the newest
        /// session (a client's attachment) waits for its first authentic frame.
        session: Box<Session>,
    },
    /// Under load, and the source has not shown that it gets what is sent to it.
    Cookie {
        /// The cookie reply.
        reply: Box<[u8; DATAGRAM_BYTES]>,
    },
}

/// Answers initiations. Keeps no state for a handshake, only the last timestamp of each peer.
pub struct Responder {
    keys: LinkKeys,
    public: LinkPublic,
    mac1_key: [u8; 32],
    cookies: CookieJar,
    timestamps: Timestamps,
}

impl Responder {
    /// A responder with these keys that remembers up to [`TIMESTAMPS_MAX`] peers.
    #[must_use]
    pub fn new(keys: LinkKeys) -> Self {
        Self::with_peers_max(keys, TIMESTAMPS_MAX)
    }

    /// A responder that remembers up to `peers_max` peers.
    #[must_use]
    pub fn with_peers_max(keys: LinkKeys, peers_max: usize) -> Self {
        let public = keys.public();
        let mac1_key = mac::mac1_key(&public.x25519);
        let cookies = CookieJar::new(&public.x25519);
        Self {
            keys,
            public,
            mac1_key,
            cookies,
            timestamps: Timestamps::new(peers_max),
        }
    }

    /// The public keys that reach this responder.
    #[must_use]
    pub fn public(&self) -> &LinkPublic {
        &self.public
    }

    /// Answers an initiation; cheap checks first, `local_index` becomes the session's index.
    ///
    /// # Errors
    /// Why it gets no answer. Nothing was changed then.
    pub fn respond<R: CryptoRng + ?Sized>(
        &mut self,
        datagram: &[u8; DATAGRAM_BYTES],
        arrival: &Arrival,
        local_index: u32,
        rng: &mut R,
    ) -> Result<Response, HandshakeError> {
        let Datagram::Initiation { sender_index } = peek(datagram)? else {
            return Err(HandshakeError::Unexpected);
        };
        if !mac::mac1_holds(&self.mac1_key, datagram) {
            return Err(HandshakeError::Mac);
        }
        if arrival.under_load
            && !self
                .cookies
                .accepts(datagram, arrival.source, arrival.unix_ms, rng)
        {
            return Ok(Response::Cookie {
                reply: Box::new(self.cookies.reply(datagram, arrival.source, rng)),
            });
        }

        let mut state = noise::state(self.keys.as_ref(), None, &prologue(datagram), rng)?;
        let mut timestamp = [0; TIMESTAMP_BYTES + 16];
        state.read_message(
            &datagram[INITIATION_HEADER_BYTES..KEM_OFFSET],
            &mut timestamp,
        )?;
        let peer: [u8; 32] = state
            .get_remote_static()
            .and_then(|key| key.try_into().ok())
            .ok_or(HandshakeError::State)?;
        let [
            timestamp @ ..,
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            _,
        ] = timestamp;
        self.timestamps
            .admit(&peer, u64::from_le_bytes(timestamp), arrival.unix_ms)?;

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
