//! The sliding window of frame counters (RFC 6479's ring of words, so that sliding is clearing, not shifting).

/// How far behind the newest counter a frame may arrive and still be taken.
pub const WINDOW_FRAMES: u64 = 8192;

const WORD_BITS: u64 = 64;
/// One word more than the window: the word of the newest counter is only partly used.
const WORDS: usize = (WINDOW_FRAMES / WORD_BITS) as usize + 1;

/// Why a counter is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WindowError {
    /// A frame with this counter was already taken.
    #[error("the counter was seen before")]
    Replayed,
    /// The counter is further back than the window reaches, so nobody knows.
    #[error("the counter is behind the window")]
    Old,
    /// The counter is at or above [`crate::FRAMES_MAX`], where no session goes.
    #[error("the counter is beyond a session's last frame")]
    Exhausted,
}

/// Which counters of one session were taken.
#[derive(Clone)]
pub struct Window {
    /// One above the highest counter taken.
    next: u64,
    seen: [u64; WORDS],
}

impl Default for Window {
    fn default() -> Self {
        Self::new()
    }
}

impl Window {
    /// A window that has seen nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            next: 0,
            seen: [0; WORDS],
        }
    }

    /// Tells whether `counter` would be taken, without marking it.
    ///
    /// # Errors
    /// [`WindowError`] if not.
    pub fn check(&self, counter: u64) -> Result<(), WindowError> {
        if counter >= crate::FRAMES_MAX {
            return Err(WindowError::Exhausted);
        }
        if counter >= self.next {
            return Ok(());
        }
        if self.next - counter > WINDOW_FRAMES {
            return Err(WindowError::Old);
        }
        let (word, bit) = place(counter);
        if self.seen[word] & bit != 0 {
            Err(WindowError::Replayed)
        } else {
            Ok(())
        }
    }

    /// Marks `counter` as taken. Only for frames whose AEAD held: anything else would let a forger move the window.
    ///
    /// # Errors
    /// [`WindowError`] if it can't be taken (again); nothing changes then.
    pub fn admit(&mut self, counter: u64) -> Result<(), WindowError> {
        self.check(counter)?;
        if counter >= self.next {
            self.slide(counter);
        }
        let (word, bit) = place(counter);
        self.seen[word] |= bit;
        Ok(())
    }

    /// Makes `counter` the newest: clears the words that the ring reuses for it.
    fn slide(&mut self, counter: u64) {
        let newest_word = counter / WORD_BITS;
        // The word of `next - 1` is in use; in a new window no word is, and all are clear.
        let used_words = self.next.div_ceil(WORD_BITS);
        let first = used_words.max((newest_word + 1).saturating_sub(WORDS as u64));
        for word in first..=newest_word {
            self.seen[(word % WORDS as u64) as usize] = 0;
        }
        self.next = counter + 1;
    }
}

fn place(counter: u64) -> (usize, u64) {
    (
        ((counter / WORD_BITS) % WORDS as u64) as usize,
        1 << (counter % WORD_BITS),
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// The window as one would define it: a set of counters, and how far back it may be asked.
    #[derive(Default)]
    struct Oracle {
        taken: BTreeSet<u64>,
    }

    impl Oracle {
        fn admit(&mut self, counter: u64) -> Result<(), WindowError> {
            if counter >= crate::FRAMES_MAX {
                Err(WindowError::Exhausted)
            } else if self
                .taken
                .last()
                .is_some_and(|newest| counter + WINDOW_FRAMES <= *newest)
            {
                Err(WindowError::Old)
            } else if self.taken.insert(counter) {
                Ok(())
            } else {
                Err(WindowError::Replayed)
            }
        }
    }

    fn agree(counters: impl IntoIterator<Item = u64>) {
        let (mut window, mut oracle) = (Window::new(), Oracle::default());
        for counter in counters {
            let checked = window.check(counter);
            let admitted = window.admit(counter);
            assert_eq!(checked, admitted, "checking and admitting {counter}");
            assert_eq!(admitted, oracle.admit(counter), "counter {counter}");
        }
    }

    proptest! {
        #[test]
        fn the_window_agrees_with_a_set_of_counters_under_steps_of_every_size(
            steps in proptest::collection::vec((-9000_i64..9000, 0_u32..5), 1..400),
        ) {
            let mut at = 20_000_i64;
            agree(steps.into_iter().map(|(step, scale)| {
                at = (at + (step >> (scale * 3))).max(0);
                at.cast_unsigned()
            }));
        }

        #[test]
        fn the_window_agrees_with_a_set_of_counters_at_its_edges(
            newest in 0_u64..crate::FRAMES_MAX,
            around in proptest::collection::vec((0_usize..5, -70_i64..70), 1..300),
        ) {
            let window = WINDOW_FRAMES.cast_signed();
            let edges = [0, -window, window, -window / 2, 2 * window];
            agree([newest].into_iter().chain(around.into_iter().map(|(edge, offset)| {
                newest.saturating_add_signed(edges[edge] + offset)
            })));
        }
    }

    #[test]
    fn the_window_reaches_exactly_8192_frames_back() {
        let mut window = Window::new();
        window.admit(WINDOW_FRAMES).unwrap();
        assert_eq!(window.check(1), Ok(()));
        assert_eq!(window.check(0), Err(WindowError::Old));
    }

    #[test]
    fn every_counter_in_order_and_then_backwards_is_taken_once() {
        agree((0..3 * WINDOW_FRAMES).chain((0..3 * WINDOW_FRAMES).rev()));
        agree((0..3 * WINDOW_FRAMES).rev());
    }

    #[test]
    fn counters_beyond_a_sessions_last_are_refused() {
        let mut window = Window::new();
        assert_eq!(window.admit(crate::FRAMES_MAX), Err(WindowError::Exhausted));
        assert_eq!(window.admit(u64::MAX), Err(WindowError::Exhausted));
        assert_eq!(window.admit(crate::FRAMES_MAX - 1), Ok(()));
        assert_eq!(
            window.admit(crate::FRAMES_MAX - 1),
            Err(WindowError::Replayed)
        );
    }
}
