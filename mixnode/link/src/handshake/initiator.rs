//! The side that knows whom it wants to reach.

use ml_kem::kem::Encapsulate;
use ml_kem::ml_kem_768::EncapsulationKey;
use rand_core::CryptoRng;
use snow::HandshakeState;
use zeroize::Zeroizing;

use super::mac::{self, Cookie};
use super::{
    HandshakeError, INITIATION_HEADER_BYTES, INITIATION_PAYLOAD_BYTES, KEM_OFFSET, MAC_BYTES,
    MAC1_OFFSET, MAC2_OFFSET, RESPONSE_HEADER_BYTES, RESPONSE_PAYLOAD_BYTES, kem_key, noise,
    prologue, psk,
};
use crate::wire::{TYPE_INITIATION, peek, read};
use crate::{ClientKeys, DATAGRAM_BYTES, Datagram, LinkPublic, Malformed, Session};

/// A handshake that waits for its response. One for each initiation sent: a repeated attempt starts anew.
pub struct Initiator {
    state: HandshakeState,
    kem_key: Zeroizing<[u8; 32]>,
    local_index: u32,
    remote: [u8; 32],
    mac1_sent: [u8; MAC_BYTES],
    /// The key of the first mac in messages to us.
    mac1_key: [u8; 32],
}

impl Initiator {
    /// Makes the first message to `remote`.
    ///
    /// `cookie` is the one that `remote` gave to an initiation from the same address: without it the answer is a cookie
    /// reply.
    ///
    /// # Errors
    /// [`HandshakeError::KemKey`] or [`HandshakeError::LowOrder`] if the remote's keys are unusable.
    pub fn start<R: CryptoRng + ?Sized>(
        local: &impl AsRef<ClientKeys>,
        remote: &LinkPublic,
        local_index: u32,
        cookie: Option<&Cookie>,
        rng: &mut R,
    ) -> Result<(Self, [u8; DATAGRAM_BYTES]), HandshakeError> {
        let local = local.as_ref();
        let kem =
            EncapsulationKey::new(&(*remote.kem).into()).map_err(|_| HandshakeError::KemKey)?;
        let (ciphertext, shared) = kem.encapsulate_with_rng(rng);
        let shared = Zeroizing::new(shared.into());

        let mut datagram = [0; DATAGRAM_BYTES];
        datagram[0] = TYPE_INITIATION;
        datagram[4..INITIATION_HEADER_BYTES].copy_from_slice(&local_index.to_le_bytes());
        datagram[KEM_OFFSET..MAC1_OFFSET].copy_from_slice(&ciphertext);
        let mut state = noise::state(local, Some(&remote.x25519), &prologue(&datagram), rng)?;
        state.write_message(
            &[0; INITIATION_PAYLOAD_BYTES],
            &mut datagram[INITIATION_HEADER_BYTES..KEM_OFFSET],
        )?;

        let kem_key = kem_key(&shared, &ciphertext, &remote.kem);
        let mac1_sent = mac::mac1(&mac::mac1_key(&remote.x25519), &datagram);
        datagram[MAC1_OFFSET..MAC2_OFFSET].copy_from_slice(&mac1_sent);
        if let Some(cookie) = cookie {
            let mac2 = mac::mac2(cookie, &datagram);
            datagram[MAC2_OFFSET..].copy_from_slice(&mac2);
        }
        let mac1_key = mac::mac1_key(local.public_key());
        Ok((
            Self {
                state,
                kem_key,
                local_index,
                remote: remote.x25519,
                mac1_sent,
                mac1_key,
            },
            datagram,
        ))
    }

    /// Our index of the session to come: the receiver index of the answer.
    #[must_use]
    pub fn local_index(&self) -> u32 {
        self.local_index
    }

    /// Reads the response. A refused one changes nothing: the true one may still come.
    ///
    /// # Errors
    /// Why the datagram is not the response to this initiation.
    pub fn finish(
        &mut self,
        datagram: &[u8; DATAGRAM_BYTES],
        now_ns: u64,
    ) -> Result<Session, HandshakeError> {
        let Datagram::Response {
            sender_index,
            receiver_index,
        } = peek(datagram)?
        else {
            return Err(HandshakeError::Unexpected);
        };
        if receiver_index != self.local_index {
            return Err(HandshakeError::Index);
        }
        if !mac::mac1_holds(&self.mac1_key, datagram) {
            return Err(HandshakeError::Mac);
        }
        // A responder never shows a cookie, so its second mac is empty.
        if datagram[MAC2_OFFSET..] != [0; MAC_BYTES] {
            return Err(HandshakeError::Malformed(Malformed::Reserved));
        }
        self.state
            .set_psk(2, &*psk(&self.kem_key, &read(datagram, 0)))?;
        // snow wants room for the tag too.
        let mut padding = [0; RESPONSE_PAYLOAD_BYTES + 16];
        let length = self
            .state
            .read_message(&datagram[RESPONSE_HEADER_BYTES..MAC1_OFFSET], &mut padding)?;
        if padding[..length].iter().any(|&byte| byte != 0) {
            return Err(HandshakeError::Malformed(Malformed::Reserved));
        }
        let (send, receive) = noise::split(&mut self.state);
        Ok(Session::new(
            (&send, &receive),
            self.remote,
            (self.local_index, sender_index),
            now_ns,
        ))
    }

    /// Reads a cookie reply to this initiation; the next one carries the cookie, for
    /// [`crate::COOKIE_LIFETIME_NS`] at most.
    ///
    /// # Errors
    /// Why the datagram is not a cookie reply to this initiation.
    pub fn read_cookie(&self, datagram: &[u8; DATAGRAM_BYTES]) -> Result<Cookie, HandshakeError> {
        let Datagram::CookieReply { receiver_index } = peek(datagram)? else {
            return Err(HandshakeError::Unexpected);
        };
        if receiver_index != self.local_index {
            return Err(HandshakeError::Index);
        }
        mac::open_reply(datagram, &self.remote, &self.mac1_sent)
    }
}
