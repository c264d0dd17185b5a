//! The two macs of handshake messages and the cookie between them.
//!
//! The first proves that the sender knows whom it talks to, so that scanners get no answer. The second proves that the
//! sender gets datagrams at its source address: without it nothing is computed or kept for anyone.

use core::net::{IpAddr, SocketAddr};

use aes_gcm::Aes256Gcm;
use aes_gcm::aead::{AeadInOut, KeyInit};
use rand_core::CryptoRng;
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::{HandshakeError, MAC_BYTES, MAC1_OFFSET, MAC2_OFFSET};
use crate::DATAGRAM_BYTES;
use crate::wire::{TYPE_COOKIE_REPLY, read};

/// How long an initiator may use a cookie, in nanoseconds: two minutes. The responder's secret changes as often, and the
/// one before it still counts, so that no cookie ends before its time, however slow its holder's slots are.
pub const COOKIE_LIFETIME_NS: u64 = 120 * 1_000_000_000;

const MAC1_CONTEXT: &str = "fogmix link v1 mac1";
const MAC2_CONTEXT: &str = "fogmix link v1 mac2";
const COOKIE_CONTEXT: &str = "fogmix link v1 cookie";

const NONCE_OFFSET: usize = 8;
const SEALED_OFFSET: usize = NONCE_OFFSET + 12;
const TAG_OFFSET: usize = DATAGRAM_BYTES - 16;

/// What a responder gives an initiator to prove its address with, in its next initiation.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Cookie(pub(crate) [u8; MAC_BYTES]);

/// The key of the first mac in messages to the end with this static key. No secret.
pub(super) fn mac1_key(recipient: &[u8; 32]) -> [u8; 32] {
    blake3::derive_key(MAC1_CONTEXT, recipient)
}

/// Over everything before it.
pub(super) fn mac1(key: &[u8; 32], datagram: &[u8; DATAGRAM_BYTES]) -> [u8; MAC_BYTES] {
    truncate(&blake3::keyed_hash(key, &datagram[..MAC1_OFFSET]))
}

pub(super) fn mac1_holds(key: &[u8; 32], datagram: &[u8; DATAGRAM_BYTES]) -> bool {
    mac1(key, datagram)
        .ct_eq(&datagram[MAC1_OFFSET..MAC2_OFFSET])
        .into()
}

/// The first mac of an initiation: no two initiations have the same.
#[must_use]
pub fn first_mac(initiation: &[u8; DATAGRAM_BYTES]) -> [u8; MAC_BYTES] {
    read(initiation, MAC1_OFFSET)
}

/// Whether an initiation shows no cookie at all.
#[must_use]
pub fn is_bare(initiation: &[u8; DATAGRAM_BYTES]) -> bool {
    initiation[MAC2_OFFSET..] == [0; MAC_BYTES]
}

/// Over everything before it, the first mac included.
pub(super) fn mac2(cookie: &Cookie, datagram: &[u8; DATAGRAM_BYTES]) -> [u8; MAC_BYTES] {
    let key = Zeroizing::new(blake3::derive_key(MAC2_CONTEXT, &cookie.0));
    truncate(&blake3::keyed_hash(&key, &datagram[..MAC2_OFFSET]))
}

fn truncate(hash: &blake3::Hash) -> [u8; MAC_BYTES] {
    let mut mac = [0; MAC_BYTES];
    mac.copy_from_slice(&hash.as_bytes()[..MAC_BYTES]);
    mac
}

/// Where cookies come from: a secret that changes every [`COOKIE_LIFETIME_NS`], and the one before it. So nothing is
/// stored for a source.
pub(super) struct CookieJar {
    secrets: Zeroizing<[[u8; 32]; 2]>,
    born_ns: Option<u64>,
    reply_cipher: Aes256Gcm,
}

impl CookieJar {
    pub(super) fn new(local_public: &[u8; 32]) -> Self {
        Self {
            secrets: Zeroizing::new([[0; 32]; 2]),
            born_ns: None,
            reply_cipher: reply_cipher(local_public),
        }
    }

    /// Whether the second mac holds for this source.
    pub(super) fn accepts<R: CryptoRng + ?Sized>(
        &mut self,
        datagram: &[u8; DATAGRAM_BYTES],
        source: SocketAddr,
        now_ns: u64,
        rng: &mut R,
    ) -> bool {
        self.refresh(now_ns, rng);
        // Who has no cookie yet says so: no mac is computed for it.
        !is_bare(datagram)
            && self.secrets.iter().any(|secret| {
                mac2(&cookie(secret, source), datagram)
                    .ct_eq(&datagram[MAC2_OFFSET..])
                    .into()
            })
    }

    /// The answer to an initiation without a valid second mac: a fresh 96-bit nonce, the cookie and zeros sealed under
    /// a key that everyone who knows the responder has, and the initiation's first mac as associated data, so that
    /// only who saw the initiation can answer it.
    pub(super) fn reply<R: CryptoRng + ?Sized>(
        &self,
        initiation: &[u8; DATAGRAM_BYTES],
        source: SocketAddr,
        rng: &mut R,
    ) -> [u8; DATAGRAM_BYTES] {
        let mut reply = [0; DATAGRAM_BYTES];
        reply[0] = TYPE_COOKIE_REPLY;
        reply[4..8].copy_from_slice(&initiation[4..8]);
        let mut nonce = [0; 12];
        rng.fill_bytes(&mut nonce);
        reply[NONCE_OFFSET..SEALED_OFFSET].copy_from_slice(&nonce);
        let sealed = &mut reply[SEALED_OFFSET..TAG_OFFSET];
        let [newest, _] = &*self.secrets;
        sealed[..MAC_BYTES].copy_from_slice(&cookie(newest, source).0);
        let mac1: [u8; MAC_BYTES] = read(initiation, MAC1_OFFSET);
        // GCM refuses only messages of 64 GiB and more.
        let tag = self
            .reply_cipher
            .encrypt_inout_detached(&nonce.into(), &mac1, sealed.into())
            .unwrap_or_default();
        reply[TAG_OFFSET..].copy_from_slice(&tag);
        reply
    }

    fn refresh<R: CryptoRng + ?Sized>(&mut self, now_ns: u64, rng: &mut R) {
        let [newest, before] = &mut *self.secrets;
        match self.born_ns {
            Some(born_ns) if now_ns < born_ns.saturating_add(COOKIE_LIFETIME_NS) => {}
            Some(born_ns) if now_ns < born_ns.saturating_add(2 * COOKIE_LIFETIME_NS) => {
                *before = *newest;
                rng.fill_bytes(newest);
                self.born_ns = Some(born_ns.saturating_add(COOKIE_LIFETIME_NS));
            }
            // There was none, or its cookies have all ended.
            _ => {
                rng.fill_bytes(newest);
                rng.fill_bytes(before);
                self.born_ns = Some(now_ns);
            }
        }
    }
}

/// The cookie of a source.
fn cookie(secret: &[u8; 32], source: SocketAddr) -> Cookie {
    let mut address = [0; 18];
    let ip = match source.ip() {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    address[..16].copy_from_slice(&ip.octets());
    address[16..].copy_from_slice(&source.port().to_le_bytes());
    Cookie(truncate(&blake3::keyed_hash(secret, &address)))
}

fn reply_cipher(responder: &[u8; 32]) -> Aes256Gcm {
    Aes256Gcm::new(&blake3::derive_key(COOKIE_CONTEXT, responder).into())
}

/// Reads a cookie reply to the initiation with this first mac.
pub(super) fn open_reply(
    datagram: &[u8; DATAGRAM_BYTES],
    responder: &[u8; 32],
    mac1: &[u8; MAC_BYTES],
) -> Result<Cookie, HandshakeError> {
    let nonce: [u8; 12] = read(datagram, NONCE_OFFSET);
    let tag: [u8; 16] = read(datagram, TAG_OFFSET);
    let mut sealed = Zeroizing::new(*datagram);
    let sealed = &mut sealed[SEALED_OFFSET..TAG_OFFSET];
    reply_cipher(responder)
        .decrypt_inout_detached(&nonce.into(), mac1, (&mut *sealed).into(), &tag.into())
        .map_err(|_| HandshakeError::Forged)?;
    let mut cookie = Cookie([0; MAC_BYTES]);
    let (value, padding) = sealed.split_at(MAC_BYTES);
    if padding.iter().any(|&byte| byte != 0) {
        return Err(HandshakeError::Malformed(crate::Malformed::Reserved));
    }
    cookie.0.copy_from_slice(value);
    Ok(cookie)
}
