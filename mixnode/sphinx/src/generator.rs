//! A generator of random bytes that erases its key as it goes (Bernstein, "Fast-key-erasure random-number generators",
//! 2017).
//!
//! Every block it makes begins with the key of the next one, which replaces the key before any byte is handed out, and
//! what is handed out is wiped here. So whoever gets hold of its state learns nothing of what came out before: a secret
//! that was erased can't be made again. A generator that is seeded once and keeps its key (ChaCha20 with a counter, say)
//! makes all it ever made again.
//!
//! The state lies in one place for good: were it moved, what it left behind would still hold what is handed out later.

use alloc::boxed::Box;
use core::convert::Infallible;

use rand_core::{Rng, SeedableRng, TryCryptoRng, TryRng};

use crate::lanes::wipe::fill_below;
use crate::wipe::{Wiping, wipe};

const KEY_BYTES: usize = 32;
/// Bytes of one block behind the next key: a worker's draws of a batch.
const READY_BYTES: usize = 992;
/// More of the stack than it takes to make a block; a test compares.
const STACK_BYTES: usize = 16 * 1024;

/// The generator of everything secret. Not `Clone`: a copy would make the same again.
pub struct Generator(Box<State>);

struct State {
    key: Wiping<KEY_BYTES>,
    ready: Wiping<READY_BYTES>,
    /// Bytes of `ready` that were not handed out yet, its last ones.
    left: usize,
}

impl State {
    fn refill(&mut self) {
        self.make();
        // What was left of the key would make all of it again.
        fill_below::<STACK_BYTES>(0);
        self.left = READY_BYTES;
    }

    /// Not inlined, so that all of it lies below the caller who wipes.
    #[inline(never)]
    fn make(&mut self) {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        let mut output = hasher.finalize_xof();
        output.fill(&mut self.key[..]);
        output.fill(&mut self.ready[..]);
        zeroize::Zeroize::zeroize(&mut output);
        zeroize::Zeroize::zeroize(&mut hasher);
    }

    fn fill(&mut self, mut into: &mut [u8]) {
        while !into.is_empty() {
            if self.left == 0 {
                self.refill();
            }
            let count = into.len().min(self.left);
            let from = READY_BYTES - self.left;
            let (now, later) = into.split_at_mut(count);
            let taken = &mut self.ready[from..from + count];
            now.copy_from_slice(taken);
            wipe(taken);
            self.left -= count;
            into = later;
        }
    }
}

impl Generator {
    /// One whose seed `fill` writes where it stays.
    ///
    /// # Errors
    /// What `fill` says.
    pub fn seeded<E>(fill: impl FnOnce(&mut [u8]) -> Result<(), E>) -> Result<Generator, E> {
        let mut state = Box::new(State {
            key: Wiping::new([0; KEY_BYTES]),
            ready: Wiping::new([0; READY_BYTES]),
            left: 0,
        });
        fill(&mut state.key[..])?;
        Ok(Generator(state))
    }
}

impl SeedableRng for Generator {
    type Seed = [u8; KEY_BYTES];

    /// For a seed that is known anyway, as a simulation's.
    fn from_seed(seed: [u8; KEY_BYTES]) -> Generator {
        let Ok(generator) = Generator::seeded(|key| {
            key.copy_from_slice(&seed);
            Ok::<_, Infallible>(())
        });
        generator
    }

    fn from_rng<R: Rng + ?Sized>(rng: &mut R) -> Generator {
        let Ok(generator) = Generator::seeded(|key| {
            rng.fill_bytes(key);
            Ok::<_, Infallible>(())
        });
        generator
    }
}

impl TryRng for Generator {
    type Error = Infallible;

    #[inline]
    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.0.fill(&mut bytes);
        Ok(u32::from_le_bytes(bytes))
    }

    #[inline]
    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, into: &mut [u8]) -> Result<(), Infallible> {
        self.0.fill(into);
        Ok(())
    }
}

impl TryCryptoRng for Generator {}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::ChaCha20Rng;
    use std::vec;
    use std::vec::Vec;

    const SECRETS: usize = 200;

    fn secrets(rng: &mut impl Rng, count: usize) -> Vec<[u8; 32]> {
        let one = |_| {
            let mut secret = [0; 32];
            rng.fill_bytes(&mut secret);
            secret
        };
        (0..count).map(one).collect()
    }

    #[test]
    fn whoever_captures_the_state_can_not_make_what_came_out_before() {
        // What a generator that keeps its key gives away.
        let mut seeded = ChaCha20Rng::from_seed([1; 32]);
        let erased = secrets(&mut seeded, SECRETS);
        let mut captured = seeded.clone();
        captured.set_word_pos(0);
        assert_eq!(secrets(&mut captured, SECRETS), erased, "all of it");

        let mut generator = Generator::from_seed([1; 32]);
        let erased = secrets(&mut generator, SECRETS);
        let state = [&generator.0.key[..], &generator.0.ready[..]].concat();
        // Nothing that was handed out lies in it, nor is made from any 32 bytes of it as a key.
        for secret in &erased {
            assert!(!state.windows(32).any(|bytes| bytes == secret));
        }
        for key in state.windows(32) {
            let key: [u8; 32] = key.try_into().unwrap();
            let mut again = Generator::from_seed(key);
            let again = secrets(&mut again, 31);
            assert!(again.iter().all(|secret| !erased.contains(secret)));
        }
        // It goes on from there: that is what a captured state does give.
        let mut captured = Generator(Box::new(State {
            key: Wiping::new(*generator.0.key),
            ready: Wiping::new(*generator.0.ready),
            left: generator.0.left,
        }));
        assert_eq!(
            secrets(&mut captured, SECRETS),
            secrets(&mut generator, SECRETS)
        );
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn the_stack_wiped_after_a_block_is_deeper_than_making_it_goes() {
        use crate::lanes::wipe::tests::{PAINTED, depth_below};
        let (mut generator, mut copy) = (Generator::from_seed([3; 32]), [0; PAINTED]);
        fill_below::<PAINTED>(0xa5);
        generator.0.make();
        let depth = depth_below(0xa5, &mut copy);
        assert!(depth > 256 && depth < STACK_BYTES - 1024, "{depth}");
    }

    #[test]
    fn bytes_do_not_depend_on_how_they_are_asked_for() {
        let mut whole = vec![0; 5_000];
        Generator::from_seed([2; 32]).fill_bytes(&mut whole);
        let mut parts = Generator::from_seed([2; 32]);
        let mut pieced = Vec::new();
        for length in (0..100).cycle() {
            let mut part = vec![0; length];
            parts.fill_bytes(&mut part);
            pieced.extend(part);
            if pieced.len() >= whole.len() {
                break;
            }
        }
        assert_eq!(pieced[..whole.len()], whole[..]);
        let ones: u32 = whole.iter().map(|byte| byte.count_ones()).sum();
        // 20,000 expected, five deviations of 100.
        assert!((19_500..20_500).contains(&ones), "{ones}");
        assert_ne!(whole[..992], whole[992..1_984]);
    }
}
