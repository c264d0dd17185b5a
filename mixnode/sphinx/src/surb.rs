//! Single-use reply blocks: a header made by the one who wants the answer, spent by the one who gives it.

use crate::geometry::{CHECK_BYTES, CIPHER_KEY_BYTES, read};
use crate::header::is_zero;
use crate::keys::KeyDerivation;
use crate::lanes::Lanes;
use crate::pairs::Pairs;
use crate::wrap::{BodyKeys, Draft};
use crate::{
    BODY_BYTES, DestinationTag, HEADER_BYTES, Id, PACKET_BYTES, PathHop, REPLY_BYTES, Reject,
    SURB_BYTES, Terminal, WrapError, hctr2,
};
use rand_core::CryptoRng;
use zeroize::Zeroizing;

const FIRST_HOP_OFFSET: usize = 4;
const HEADER_OFFSET: usize = 6;
const KEY_OFFSET: usize = HEADER_OFFSET + HEADER_BYTES;

/// A reply block as the replier holds it. It carries one key that no hop has and none that a hop has, so its holder
/// can't follow the reply. Wiped when dropped: whoever holds it can read the reply on its first link.
///
/// Spend it once: hops reject its second use as a replay.
pub struct Surb(Zeroizing<[u8; SURB_BYTES]>);

impl Surb {
    /// Any bytes are accepted: a reply block that makes no sense only fails to come back.
    pub fn from_bytes(bytes: &[u8; SURB_BYTES]) -> Self {
        Self(Zeroizing::new(*bytes))
    }

    /// The bytes that travel to the replier.
    pub fn as_bytes(&self) -> &[u8; SURB_BYTES] {
        &self.0
    }

    /// The epoch whose keys the header is made for.
    pub fn epoch(&self) -> u32 {
        u32::from_le_bytes(read(&*self.0, 0))
    }

    /// Index, in that epoch's consensus, of the node to send the reply to.
    pub fn first_hop(&self) -> u16 {
        u16::from_le_bytes(read(&*self.0, FIRST_HOP_OFFSET))
    }
}

/// What the creator of a reply block keeps to read the reply. Wiped when dropped.
pub struct SurbSecret {
    hops: BodyKeys,
    replier: ReplierKey,
}

/// Makes a reply block whose reply takes `path`, valid in `epoch`, to the client `destination`, where `id` names it.
///
/// From `rng` come what [`wrap`](crate::wrap()) draws and then the replier's key, 16 bytes.
///
/// # Errors
/// See [`WrapError`].
pub fn surb_create<R: CryptoRng + ?Sized>(
    rng: &mut R,
    path: &[PathHop],
    epoch: u32,
    destination: DestinationTag,
    id: Id,
) -> Result<(Surb, SurbSecret), WrapError> {
    let derivation = KeyDerivation::new();
    let mut pairs = Pairs::new();
    let draft = Draft::draw(rng, path, &mut pairs)?;
    let replier = draw_replier_key(rng);
    pairs.multiply(Lanes::detect());
    let terminal = Terminal::Deliver { destination, id };
    let (header, hops) = draft.header(path, &terminal, &pairs, &derivation)?;
    assemble(path, epoch, &header, hops, replier)
}

/// The one key that the replier gets.
pub(crate) type ReplierKey = Zeroizing<[u8; CIPHER_KEY_BYTES]>;

pub(crate) fn draw_replier_key<R: CryptoRng + ?Sized>(rng: &mut R) -> ReplierKey {
    let mut key = ReplierKey::default();
    rng.fill_bytes(&mut *key);
    key
}

/// The reply block of a header, and what its creator keeps.
pub(crate) fn assemble(
    path: &[PathHop],
    epoch: u32,
    header: &[u8; HEADER_BYTES],
    hops: BodyKeys,
    replier: ReplierKey,
) -> Result<(Surb, SurbSecret), WrapError> {
    let first = path.first().ok_or(WrapError::PathEmpty)?;
    let mut bytes = Zeroizing::new([0; SURB_BYTES]);
    bytes[..FIRST_HOP_OFFSET].copy_from_slice(&epoch.to_le_bytes());
    bytes[FIRST_HOP_OFFSET..HEADER_OFFSET].copy_from_slice(&first.node.to_le_bytes());
    bytes[HEADER_OFFSET..KEY_OFFSET].copy_from_slice(header);
    bytes[KEY_OFFSET..].copy_from_slice(&*replier);
    Ok((Surb(bytes), SurbSecret { hops, replier }))
}

/// Writes the packet that carries `plaintext` to the reply block's creator; send it to [`Surb::first_hop`].
pub fn surb_use(surb: &Surb, plaintext: &[u8; REPLY_BYTES], packet: &mut [u8; PACKET_BYTES]) {
    let (header, body) = packet.split_at_mut(HEADER_BYTES);
    header.copy_from_slice(&surb.0[HEADER_OFFSET..KEY_OFFSET]);
    body[..CHECK_BYTES].fill(0);
    body[CHECK_BYTES..].copy_from_slice(plaintext);
    let key = Zeroizing::new(read(&*surb.0, KEY_OFFSET));
    hctr2::encrypt(&key, body);
}

/// Reads the body that the last gateway delivered under the reply block's id: puts back the layers that the hops
/// took off, last hop first, then takes off the replier's.
///
/// # Errors
/// [`Reject::Body`] if anybody altered it; `body` is then unspecified.
pub fn surb_open(
    secret: &SurbSecret,
    body: &mut [u8; BODY_BYTES],
) -> Result<[u8; REPLY_BYTES], Reject> {
    for key in secret.hops.iter().rev() {
        hctr2::encrypt(key, body);
    }
    hctr2::decrypt(&secret.replier, body);
    if is_zero::<CHECK_BYTES>(&read(body, 0)) {
        Ok(read(body, CHECK_BYTES))
    } else {
        Err(Reject::Body)
    }
}
