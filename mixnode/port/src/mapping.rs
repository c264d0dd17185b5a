//! Mapped memory: where frames, rings and replay tables get their pages from, and give them back.
//!
//! A room for unsafe code. What makes its face safe: a mapping lies at an address of the kernel's choice and so
//! overlaps nothing; it ends with its value; and what it gives out is either an address, which is of no use without
//! unsafe code, or atomic words, for which any bytes and any other writer will do.
#![allow(unsafe_code, reason = "memory mapped from the kernel")]

use std::io;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

use rustix::mm::{Advice, MapFlags, MlockFlags, ProtFlags};

/// Bytes of a huge page (x86-64, and aarch64 with pages of 4 KiB).
pub const HUGE_BYTES: usize = 2 << 20;

/// What a mapping is of.
#[derive(Clone, Copy, Debug)]
pub enum Backing<'a> {
    /// Fresh zero pages, this process' alone.
    Anonymous,
    /// A file, from an offset on that is a multiple of the page: shared with all who have it. Touching what lies past
    /// its end is SIGBUS: see to it that the file is long enough and stays so.
    File(BorrowedFd<'a>, u64),
}

/// Whether pages may be swapped out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lock {
    /// They may.
    #[default]
    No,
    /// They may not, and all are touched now.
    Now,
    /// They may not once touched; nothing is touched for it.
    OnTouch,
}

/// How a mapping is to lie in memory. The default is pages that come as they are touched.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Touches all pages now, on the calling thread's node.
    pub populate: bool,
    /// Keeps them out of swap, as far as the limit on locked memory allows: [`Mapping::is_locked`] tells.
    pub lock: Lock,
    /// Keeps them out of core dumps.
    pub secret: bool,
    /// Lies on a border of huge pages and asks the kernel for them; not together with `populate`, which comes too early
    /// for it. Whatever is not available is had in small pages. Up to [`HUGE_BYTES`]
    /// more than asked for may be taken.
    pub huge: bool,
}

/// A readable and writable mapping.
#[derive(Debug)]
pub struct Mapping {
    base: NonNull<u8>,
    /// What was asked for.
    bytes: usize,
    /// What has to be unmapped.
    whole: usize,
    locked: bool,
}

// SAFETY: mapped memory has no thread affinity.
unsafe impl Send for Mapping {}
// SAFETY: a shared mapping gives out addresses and atomic words only.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps `bytes` of `backing`.
    ///
    /// # Errors
    /// What `mmap` answered: no bytes, no memory, a file that can't be mapped.
    pub fn new(bytes: usize, backing: Backing<'_>, options: Options) -> io::Result<Mapping> {
        let populate = match options.populate {
            true => MapFlags::POPULATE,
            false => MapFlags::empty(),
        };
        let mapping = match backing {
            Backing::Anonymous if options.huge => Mapping::aligned(bytes)?,
            Backing::Anonymous => Mapping::anonymous(bytes, populate)?,
            Backing::File(file, offset) if options.huge => {
                let mapping = Mapping::aligned(bytes)?;
                let (place, flags) = (mapping.base.as_ptr(), MapFlags::FIXED | MapFlags::SHARED);
                // SAFETY: the place is the beginning of the mapping just made, which is at least as long, this value's
                // alone and without references to it; what was there goes. All of it is unmapped with the value.
                unsafe { Mapping::map(place.cast(), bytes, flags, file, offset)? };
                mapping
            }
            Backing::File(file, offset) => {
                let flags = MapFlags::SHARED | populate;
                // SAFETY: a mapping at an address of the kernel's choice touches no memory of ours.
                let base =
                    unsafe { Mapping::map(std::ptr::null_mut(), bytes, flags, file, offset)? };
                Mapping::own(base, bytes)?
            }
        };
        mapping.settle(options)
    }

    /// Maps a file, readable and writable.
    ///
    /// # Safety
    /// As for `mmap`: with MAP_FIXED nothing may refer to what lies at `place`.
    unsafe fn map(
        place: *mut std::ffi::c_void,
        bytes: usize,
        flags: MapFlags,
        file: BorrowedFd<'_>,
        offset: u64,
    ) -> io::Result<*mut std::ffi::c_void> {
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: the caller's.
        Ok(unsafe { rustix::mm::mmap(place, bytes, access, flags, file, offset)? })
    }

    fn own(base: *mut std::ffi::c_void, bytes: usize) -> io::Result<Mapping> {
        Ok(Mapping {
            base: NonNull::new(base.cast()).ok_or(io::ErrorKind::OutOfMemory)?,
            bytes,
            whole: bytes,
            locked: false,
        })
    }

    fn anonymous(bytes: usize, populate: MapFlags) -> io::Result<Mapping> {
        // What is not touched is not counted, so that a table may be larger than what is free just now.
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE | populate;
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: as above.
        let base =
            unsafe { rustix::mm::mmap_anonymous(std::ptr::null_mut(), bytes, access, flags)? };
        Mapping::own(base, bytes)
    }

    /// Anonymous memory that begins and ends on borders of huge pages.
    fn aligned(bytes: usize) -> io::Result<Mapping> {
        let whole = bytes
            .checked_next_multiple_of(HUGE_BYTES)
            .filter(|whole| *whole > 0)
            .ok_or(io::ErrorKind::InvalidInput)?;
        let reserved = whole
            .checked_add(HUGE_BYTES)
            .ok_or(io::ErrorKind::OutOfMemory)?;
        let mut mapping = Mapping::anonymous(reserved, MapFlags::empty())?;
        let first = mapping.base.as_ptr();
        let before = first.align_offset(HUGE_BYTES);
        // SAFETY: `before` is below HUGE_BYTES, hence all of what follows lies in the mapping just made. Its two ends
        // are nobody's: they are given back, and only the middle is this value's from here on. An end that can't be
        // given back stays reserved and untouched, which costs nothing.
        unsafe {
            let middle = mapping.base.add(before);
            if before > 0 {
                let _ = rustix::mm::munmap(first.cast(), before);
            }
            let _ = rustix::mm::munmap(middle.add(whole).as_ptr().cast(), HUGE_BYTES - before);
            mapping.base = middle;
        }
        mapping.whole = whole;
        mapping.bytes = bytes;
        Ok(mapping)
    }

    /// What is asked for besides memory. None of it is an error where the kernel does not grant it.
    fn settle(mut self, options: Options) -> io::Result<Mapping> {
        let address = self.base.as_ptr().cast();
        // SAFETY: all calls name exactly this mapping, and none of them changes what it holds.
        unsafe {
            if options.secret {
                let _ = rustix::mm::madvise(address, self.whole, Advice::LinuxDontDump);
            }
            if options.huge {
                let _ = rustix::mm::madvise(address, self.whole, Advice::LinuxHugepage);
            }
            self.locked = match options.lock {
                Lock::No => false,
                Lock::Now => rustix::mm::mlock(address, self.whole).is_ok(),
                Lock::OnTouch => {
                    rustix::mm::mlock_with(address, self.whole, MlockFlags::ONFAULT).is_ok()
                }
            };
        }
        Ok(self)
    }

    /// Touches the pages of `range`, which begins on a page, as if written to. What they hold stays, also while others
    /// write there. What lies beyond the mapping is left out.
    ///
    /// # Errors
    /// There is no memory, or the kernel (before Linux 5.14) can't; the pages then come as they are used.
    pub fn populate(&self, range: Range<usize>) -> io::Result<()> {
        let end = range.end.min(self.bytes);
        if range.start >= end {
            return Ok(());
        }
        // SAFETY: the range lies in this mapping, and what it holds does not change.
        unsafe {
            let start = self.base.add(range.start).as_ptr();
            rustix::mm::madvise(start.cast(), end - range.start, Advice::LinuxPopulateWrite)?;
        }
        Ok(())
    }

    /// Whether all of `range` that fills huge pages lies in such; what does not yet is moved if the kernel can. The range
    /// begins on a page; what lies beyond the mapping is left out.
    pub fn collapse(&self, range: Range<usize>) -> bool {
        let end = range.end.min(self.bytes);
        if range.start >= end {
            return true;
        }
        // SAFETY: the range lies in this mapping, and what it holds does not change.
        let outcome = unsafe {
            let start = self.base.add(range.start).as_ptr();
            // Linux 6.1; rustix does not name it.
            libc::madvise(start.cast(), end - range.start, libc::MADV_COLLAPSE)
        };
        outcome == 0
    }

    /// The first byte.
    #[inline]
    pub fn address(&self) -> NonNull<u8> {
        self.base
    }

    /// Address of `count` values `T` that begin `offset` bytes into the mapping, if they lie in it and are aligned.
    pub fn at<T>(&self, offset: usize, count: usize) -> Option<NonNull<T>> {
        let end = count.checked_mul(size_of::<T>())?.checked_add(offset)?;
        if end > self.bytes || !offset.is_multiple_of(align_of::<T>()) {
            return None;
        }
        // SAFETY: the offset is inside the mapping, whose base is on a page and so aligned for any `T`.
        Some(unsafe { self.base.add(offset) }.cast())
    }

    /// The whole mapping as words that anyone may change at any time. Whoever writes through its addresses, too, does
    /// so atomically.
    #[inline]
    pub fn as_atomics(&self) -> &[AtomicU64] {
        // SAFETY: as many aligned words as fit, mapped for `self`'s life; any bytes are a value.
        unsafe {
            std::slice::from_raw_parts(
                self.base.as_ptr().cast::<AtomicU64>(),
                self.bytes / size_of::<AtomicU64>(),
            )
        }
    }

    /// Bytes asked for.
    #[inline]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether its pages are kept out of swap.
    pub fn is_locked(&self) -> bool {
        self.locked
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's, and nothing borrowed from it outlives it.
        let _ = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), self.whole) };
    }
}

/// Asks the processor to load the cache line at `address`, which will be needed soon. Any address will do: nothing is
/// read as far as the program can tell.
#[inline]
pub fn prefetch<T>(address: *const T) {
    #[cfg(target_arch = "x86_64")]
    {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch has no architectural effect, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::sync::atomic::Ordering;

    use super::*;

    #[test]
    fn words_of_a_fresh_mapping_are_zero_and_stay_what_is_written_when_touched_again() {
        for huge in [false, true] {
            let options = Options {
                lock: Lock::OnTouch,
                secret: true,
                huge,
                ..Options::default()
            };
            let bytes = HUGE_BYTES + 40;
            let mapping = Mapping::new(bytes, Backing::Anonymous, options).unwrap();
            let words = mapping.as_atomics();
            assert_eq!((mapping.bytes(), words.len()), (bytes, bytes / 8));
            assert!(!huge || mapping.address().addr().get().is_multiple_of(HUGE_BYTES));
            assert!(words.iter().all(|word| word.load(Ordering::Relaxed) == 0));
            words[bytes / 8 - 1].store(7, Ordering::Relaxed);
            mapping.populate(0..usize::MAX).unwrap();
            mapping.populate(bytes..bytes).unwrap();
            let _ = mapping.collapse(0..usize::MAX);
            assert!(
                mapping.collapse(bytes..usize::MAX),
                "nothing is left to move"
            );
            assert_eq!(words[bytes / 8 - 1].load(Ordering::Relaxed), 7);
            assert_eq!(words[0].load(Ordering::Relaxed), 0);
        }
    }

    #[test]
    fn two_mappings_of_a_file_are_one_memory_from_the_offset_on() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(1 << 17).unwrap();
        let options = Options {
            populate: true,
            ..Options::default()
        };
        let map = |offset| Mapping::new(1 << 16, Backing::File(file.as_fd(), offset), options);
        let (whole, rest) = (map(0).unwrap(), map(1 << 15).unwrap());
        whole.as_atomics()[(1 << 15) / 8 + 3].store(9, Ordering::Relaxed);
        assert_eq!(rest.as_atomics()[3].load(Ordering::Relaxed), 9);
        assert!(map(1).is_err(), "an offset within a page");
    }

    #[test]
    fn a_file_in_huge_pages_is_the_file_and_lies_on_their_border() {
        let file = tempfile::tempfile().unwrap();
        let bytes = HUGE_BYTES + 4096;
        file.set_len(bytes as u64).unwrap();
        let plain = Options::default();
        let huge = Options {
            huge: true,
            ..plain
        };
        let map = |options| Mapping::new(bytes, Backing::File(file.as_fd(), 0), options).unwrap();
        let (one, other) = (map(huge), map(plain));
        assert!(one.address().addr().get().is_multiple_of(HUGE_BYTES));
        for at in [0, bytes / 8 - 1] {
            one.as_atomics()[at].store(7, Ordering::Relaxed);
            assert_eq!(other.as_atomics()[at].load(Ordering::Relaxed), 7);
        }
        one.populate(0..usize::MAX).unwrap();
        let _ = one.collapse(0..usize::MAX);
        assert_eq!(one.as_atomics()[0].load(Ordering::Relaxed), 7);
    }

    #[test]
    fn addresses_outside_or_not_aligned_are_not_given_out() {
        let mapping = Mapping::new(4096, Backing::Anonymous, Options::default()).unwrap();
        assert!(mapping.at::<u64>(0, 512).is_some());
        assert!(mapping.at::<u64>(0, 513).is_none());
        assert!(mapping.at::<u64>(4, 1).is_none());
        assert!(mapping.at::<u8>(4096, 1).is_none());
        assert!(mapping.at::<u64>(8, usize::MAX / 8).is_none());
        assert!(mapping.at::<u64>(usize::MAX - 7, 1).is_none());
    }

    #[test]
    fn mappings_of_nothing_and_of_everything_are_refused() {
        for huge in [false, true] {
            let options = Options {
                huge,
                ..Options::default()
            };
            for bytes in [0, usize::MAX, usize::MAX - (3 << 20)] {
                assert!(Mapping::new(bytes, Backing::Anonymous, options).is_err());
            }
        }
    }
}
