//! What a finished handshake leaves: one sending and one receiving half, each with its own key and counters.

use crate::window::{Window, WindowError};
use crate::{ReceiveKey, SendKey};

/// A sender starts the next handshake when a session is this old, in nanoseconds: ten minutes.
pub const REKEY_AFTER_NS: u64 = 600 * 1_000_000_000;

/// A session this old, in nanoseconds, is used by neither side: fifteen minutes.
pub const EXPIRE_AFTER_NS: u64 = 900 * 1_000_000_000;

/// A sender starts the next handshake after this many frames.
pub const REKEY_AFTER_FRAMES: u64 = 1 << 31;

/// No session carries more frames than this, in one direction. 2^32 frames of 76 blocks keep the distinguishing
/// advantage against AES-GCM below 2^-50 (the birthday bound on its blocks).
pub const FRAMES_MAX: u64 = 1 << 32;

/// A finished handshake. Links between nodes use one half (the initiator sends), links of clients both.
pub struct Session {
    /// Our frames to the peer.
    pub send: SendSession,
    /// The peer's frames to us.
    pub receive: ReceiveSession,
    /// The peer's static X25519 key, authenticated.
    pub peer: [u8; 32],
    /// Our index of the session: the receiver index of the frames we get.
    pub local_index: u32,
    /// The peer's index of the session: the receiver index of the frames we send.
    pub remote_index: u32,
}

impl Session {
    pub(crate) fn new(
        (send, receive): (&[u8; 32], &[u8; 32]),
        peer: [u8; 32],
        (local_index, remote_index): (u32, u32),
        now_ns: u64,
    ) -> Self {
        Self {
            send: SendSession {
                key: SendKey::new(send, remote_index),
                next: 0,
                established_ns: now_ns,
            },
            receive: ReceiveSession {
                key: ReceiveKey::new(receive),
                window: Window::new(),
                established_ns: now_ns,
            },
            peer,
            local_index,
            remote_index,
        }
    }
}

/// The sending half of a session.
pub struct SendSession {
    key: SendKey,
    next: u64,
    established_ns: u64,
}

impl SendSession {
    /// The key for [`crate::SealJob`].
    #[must_use]
    pub fn key(&self) -> &SendKey {
        &self.key
    }

    /// The next frame's counter; `None` when the session has carried [`FRAMES_MAX`] frames and only a new one helps.
    pub fn next_counter(&mut self) -> Option<u64> {
        let counter = self.next;
        if counter >= FRAMES_MAX {
            return None;
        }
        self.next += 1;
        Some(counter)
    }

    /// Whether it is time for the next handshake, by age or by count.
    #[must_use]
    pub fn needs_rekey(&self, now_ns: u64) -> bool {
        self.next >= REKEY_AFTER_FRAMES
            || now_ns.saturating_sub(self.established_ns) >= REKEY_AFTER_NS
    }

    /// Whether the session may no longer be used.
    #[must_use]
    pub fn expired(&self, now_ns: u64) -> bool {
        self.next >= FRAMES_MAX || now_ns.saturating_sub(self.established_ns) >= EXPIRE_AFTER_NS
    }
}

/// The receiving half of a session.
pub struct ReceiveSession {
    key: ReceiveKey,
    window: Window,
    established_ns: u64,
}

impl ReceiveSession {
    /// The key for [`crate::OpenJob`].
    #[must_use]
    pub fn key(&self) -> &ReceiveKey {
        &self.key
    }

    /// Whether a frame with this counter would be taken. Asked before the AEAD, marks nothing.
    ///
    /// # Errors
    /// [`WindowError`] if the counter was seen, is too old, or is beyond a session's last.
    pub fn check(&self, counter: u64) -> Result<(), WindowError> {
        self.window.check(counter)
    }

    /// Marks the counter of a frame whose AEAD held. Two copies of a frame in one batch pass [`Self::check`] both;
    /// the second is refused here.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub fn admit(&mut self, counter: u64) -> Result<(), WindowError> {
        self.window.admit(counter)
    }

    /// Whether the session may no longer be used.
    #[must_use]
    pub fn expired(&self, now_ns: u64) -> bool {
        now_ns.saturating_sub(self.established_ns) >= EXPIRE_AFTER_NS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_asks_for_renewal_by_count_and_its_counter_never_passes_the_last_frame() {
        let mut session = Session::new((&[1; 32], &[2; 32]), [0; 32], (1, 2), 0).send;
        session.next = REKEY_AFTER_FRAMES - 1;
        assert!(!session.needs_rekey(0));
        assert_eq!(session.next_counter(), Some(REKEY_AFTER_FRAMES - 1));
        assert!(session.needs_rekey(0));
        session.next = FRAMES_MAX - 1;
        assert!(!session.expired(0));
        assert_eq!(session.next_counter(), Some(FRAMES_MAX - 1));
        assert_eq!(
            (session.next_counter(), session.next_counter()),
            (None, None)
        );
        assert!(session.expired(0));
    }
}
