//! Data frames: AES-256-GCM in place, key schedules kept in the session, many frames a call.

use aes_gcm::Aes256Gcm;
use aes_gcm::aead::{AeadInOut, KeyInit};
use arrayvec::ArrayVec;

use crate::wire::{CLEAR_BYTES, TYPE_DATA, read};
use crate::{BATCH_MAX, CONTENT_OFFSET, DATAGRAM_BYTES};

pub(crate) const TAG_BYTES: usize = 16;
const TAG_OFFSET: usize = DATAGRAM_BYTES - TAG_BYTES;

/// What a data frame's content is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A Sphinx packet for the next hop.
    Sphinx = 1,
    /// What came out of the last hop, for a client: id 8, body 896, zeros.
    Delivery = 2,
    /// Nothing: it keeps a link's process of departures going.
    Cover = 3,
    /// A message between a client and its gateway.
    Control = 4,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Sphinx),
            2 => Some(Self::Delivery),
            3 => Some(Self::Cover),
            4 => Some(Self::Control),
            _ => None,
        }
    }
}

/// Seals the frames of one session. Holds the expanded key (zeroized on drop) and the receiver's index.
#[derive(Clone)]
pub struct SendKey {
    cipher: Aes256Gcm,
    receiver_index: u32,
}

impl SendKey {
    /// Expands a key. Sessions do this once, when they are made.
    #[must_use]
    pub fn new(key: &[u8; 32], receiver_index: u32) -> Self {
        Self {
            cipher: Aes256Gcm::new(key.into()),
            receiver_index,
        }
    }
}

/// Opens the frames of one session. Holds the expanded key (zeroized on drop).
#[derive(Clone)]
pub struct ReceiveKey {
    cipher: Aes256Gcm,
}

impl ReceiveKey {
    /// Expands a key. Sessions do this once, when they are made.
    #[must_use]
    pub fn new(key: &[u8; 32]) -> Self {
        Self {
            cipher: Aes256Gcm::new(key.into()),
        }
    }
}

/// One frame to seal. The content is already at [`CONTENT_OFFSET`].
pub struct SealJob<'a> {
    /// The session's key.
    pub session: &'a SendKey,
    /// The frame's number, from [`crate::SendSession::next_counter`]: **never twice with one key**.
    pub counter: u64,
    /// What the content is.
    pub kind: Kind,
    /// The epoch of the content; the frame carries its two lowest bits.
    pub epoch: u8,
    /// The frame, sealed in place.
    pub datagram: &'a mut [u8; DATAGRAM_BYTES],
}

/// One frame to open in place.
pub struct OpenJob<'a> {
    /// The key of the session that the receiver index names.
    pub session: &'a ReceiveKey,
    /// The frame. If it is refused its bytes are unspecified.
    pub datagram: &'a mut [u8; DATAGRAM_BYTES],
}

/// What an authentic frame says. Its content is at [`CONTENT_OFFSET`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// The frame's number, for [`crate::ReceiveSession::admit`].
    pub counter: u64,
    /// What the content is.
    pub kind: Kind,
    /// The content's epoch modulo 4.
    pub epoch: u8,
}

/// Why a frame was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The tag does not hold: not made by the peer, or altered.
    #[error("the frame is not authentic")]
    Forged,
    /// Authentic, but of an unknown kind, an epoch above 3 or with reserved bytes set: the peer is broken or rogue.
    #[error("an authentic frame with an unknown kind or reserved bits")]
    Reserved,
}

/// Seals frames in place: writes the clear bytes, kind and epoch, encrypts, appends the tag.
pub fn seal_batch(jobs: &mut [SealJob<'_>]) {
    for job in jobs {
        let frame = &mut *job.datagram;
        frame[..8].copy_from_slice(&(job.counter << 8 | u64::from(TYPE_DATA)).to_le_bytes());
        frame[8..CLEAR_BYTES].copy_from_slice(&job.session.receiver_index.to_le_bytes());
        frame[CLEAR_BYTES..CONTENT_OFFSET].copy_from_slice(&[job.kind as u8, job.epoch & 3, 0, 0]);
        let clear: [u8; CLEAR_BYTES] = read(frame, 0);
        // GCM refuses only messages of 64 GiB and more, so there is always a tag.
        let sealed = &mut frame[CLEAR_BYTES..TAG_OFFSET];
        let tag = job
            .session
            .cipher
            .encrypt_inout_detached(&clear.into(), &clear, sealed.into())
            .unwrap_or_default();
        frame[TAG_OFFSET..].copy_from_slice(&tag);
    }
}

/// Opens frames in place, the first [`BATCH_MAX`] of `jobs`; `verdicts` gets one entry a frame, in order.
///
/// Only the AEAD is checked here: the caller asks the session's window before and marks it after.
pub fn open_batch(
    jobs: &mut [OpenJob<'_>],
    verdicts: &mut ArrayVec<Result<Opened, OpenError>, BATCH_MAX>,
) {
    debug_assert!(
        jobs.len() <= BATCH_MAX,
        "a batch has at most {BATCH_MAX} frames"
    );
    verdicts.clear();
    verdicts.extend(jobs.iter_mut().take(BATCH_MAX).map(open));
}

fn open(job: &mut OpenJob<'_>) -> Result<Opened, OpenError> {
    let frame = &mut *job.datagram;
    let clear: [u8; CLEAR_BYTES] = read(frame, 0);
    let tag: [u8; TAG_BYTES] = read(frame, TAG_OFFSET);
    let sealed = &mut frame[CLEAR_BYTES..TAG_OFFSET];
    job.session
        .cipher
        .decrypt_inout_detached(&clear.into(), &clear, sealed.into(), &tag.into())
        .map_err(|_| OpenError::Forged)?;
    let [kind, epoch, zeros @ ..]: [u8; 4] = read(frame, CLEAR_BYTES);
    match Kind::from_byte(kind) {
        Some(kind) if epoch < 4 && zeros == [0; 2] => Ok(Opened {
            counter: u64::from_le_bytes(read(frame, 0)) >> 8,
            kind,
            epoch,
        }),
        _ => Err(OpenError::Reserved),
    }
}
