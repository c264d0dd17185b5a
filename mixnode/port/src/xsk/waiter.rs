//! What a worker over AF_XDP sleeps in: an io_uring that polls its sockets and its mailbox's event.
//!
//! Polls are multishot: they report each time the kernel wakes the descriptor, and are armed again when they end.
//! A report can be older than what it reports, so the port looks before it waits; it can't be missing, because
//! anything that comes after the look makes a new one.
#![allow(
    unsafe_code,
    reason = "io_uring polls a descriptor that must stay open"
)]

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

use io_uring::{IoUring, cqueue, opcode, types};

use crate::available::{builder, explain, restrict, sleep};
use crate::wake::EventFd;

/// Entries into the kernel that a shutdown may take, each with a timeout.
const CANCEL_ROUNDS: u32 = 64;
const CANCEL_ROUND_NS: u32 = 20_000_000;
/// Poll's words for a socket that is of no more use: its interface is gone.
const FAILURES: i32 = (libc::POLLERR | libc::POLLHUP | libc::POLLNVAL) as i32;
/// What a cancellation's completion belongs to; below are the numbers of descriptors.
const CANCEL: u64 = 1 << 32;

/// One poll.
struct Watch {
    fd: types::Fd,
    armed: bool,
    ready: bool,
    /// An error was reported. That would be reported again and again, so such a poll is not armed again.
    failed: bool,
}

/// Polls descriptors for reading. Belongs to the thread that first uses it.
pub(super) struct Waiter {
    ring: IoUring,
    event: Arc<EventFd>,
    /// The event's first, then those of [`Waiter::new`] in their order.
    watches: Vec<Watch>,
    enabled: bool,
    /// The event was signalled, and no wait has returned since: also when that showed outside of a wait.
    rung: bool,
    closed: bool,
}

impl Waiter {
    /// Polls `event` and the descriptors `fds`, which must outlive this.
    ///
    /// # Errors
    /// [`super::super::UringUnavailable`] inside an error of kind `Unsupported`.
    pub(super) fn new(
        event: Arc<EventFd>,
        fds: impl IntoIterator<Item = RawFd>,
    ) -> io::Result<Waiter> {
        let watches: Vec<Watch> = std::iter::once(event.as_raw_fd())
            .chain(fds)
            .map(|fd| Watch {
                fd: types::Fd(fd),
                armed: false,
                ready: false,
                failed: false,
            })
            .collect();
        // Room for a report of each before the completion queue has to be looked at; the kernel keeps what is more.
        let entries = (watches.len() as u32 + 1).next_power_of_two();
        let ring = builder()
            .setup_cqsize((4 * entries).max(64))
            .build(entries)
            .and_then(|ring| {
                let operations = [opcode::PollAdd::CODE, opcode::AsyncCancel2::CODE];
                restrict(&ring.submitter(), &operations)?;
                Ok(ring)
            })
            .map_err(|error| io::Error::new(io::ErrorKind::Unsupported, explain(&error)))?;
        Ok(Waiter {
            ring,
            event,
            watches,
            enabled: false,
            rung: false,
            closed: false,
        })
    }

    /// Makes the calling thread the ring's, and starts the polls that are not running.
    fn arm(&mut self) {
        if self.closed {
            return;
        }
        if !self.enabled {
            self.enabled = self.ring.submitter().register_enable_rings().is_ok();
        }
        let mut submission = self.ring.submission();
        for (number, watch) in self.watches.iter_mut().enumerate() {
            if !watch.armed && !watch.failed {
                let poll = opcode::PollAdd::new(watch.fd, libc::POLLIN as u32)
                    .multi(true)
                    .build()
                    .user_data(number as u64);
                // SAFETY: a poll has no memory of ours.
                watch.armed = unsafe { submission.push(&poll).is_ok() };
            }
        }
    }

    /// Takes all completions there are; whether one was the cancellation's.
    fn settle(&mut self) -> bool {
        let mut cancelled = false;
        for completion in self.ring.completion() {
            let number = completion.user_data();
            let Some(watch) = self.watches.get_mut(number as usize) else {
                cancelled |= number == CANCEL;
                continue;
            };
            watch.armed &= cqueue::more(completion.flags());
            let result = completion.result();
            if number == 0 {
                self.rung |= self.event.clear();
            } else if result != -libc::ECANCELED {
                watch.ready = true;
                // The kernel's own socket, which comes first, says such a thing of one datagram.
                watch.failed |= number > 1 && (result < 0 || result & FAILURES != 0);
            }
        }
        cancelled
    }

    /// Looks for reports without waiting; enters the kernel only if it has some.
    pub(super) fn poll(&mut self) {
        self.arm();
        let submission = self.ring.submission();
        let asked = !submission.is_empty() || submission.taskrun() || submission.cq_overflow();
        drop(submission);
        if asked {
            // What could not be submitted stays queued for the next entry.
            let _ = self.ring.submit();
        }
        self.settle();
    }

    /// Whether descriptor `number` of [`Waiter::new`]'s was reported since this was last asked.
    pub(super) fn take_ready(&mut self, number: usize) -> bool {
        self.watches
            .get_mut(number + 1)
            .is_some_and(|watch| std::mem::take(&mut watch.ready))
    }

    /// Notes that descriptor `number` has more to read than was read.
    pub(super) fn still_ready(&mut self, number: usize) {
        if let Some(watch) = self.watches.get_mut(number + 1) {
            watch.ready = true;
        }
    }

    /// Whether an error was reported of descriptor `number`.
    pub(super) fn has_failed(&self, number: usize) -> bool {
        self.watches
            .get(number + 1)
            .is_some_and(|watch| watch.failed)
    }

    /// Whether descriptor `number` is reported and not asked for.
    pub(super) fn is_ready(&self, number: usize) -> bool {
        self.watches
            .get(number + 1)
            .is_some_and(|watch| watch.ready)
    }

    /// Whether the event was signalled since the last time a wait returned or this was asked; forgets it.
    pub(super) fn take_rung(&mut self) -> bool {
        self.settle();
        std::mem::take(&mut self.rung)
    }

    /// Sleeps until something is reported or `deadline_ns` of the monotonic clock has come.
    ///
    /// # Errors
    /// What the kernel answered, never `EINTR`.
    pub(super) fn wait(&mut self, deadline_ns: Option<u64>) -> io::Result<()> {
        self.arm();
        let outcome = sleep(&self.ring.submitter(), deadline_ns);
        self.settle();
        self.rung = false;
        outcome
    }

    /// Ends all polls and waits for their last reports, so that the ring holds no descriptor any more; whether that
    /// came about.
    pub(super) fn close(&mut self) -> bool {
        self.closed = true;
        if !self.enabled {
            // Nothing was ever submitted: pushes before enabling don't exist for the kernel.
            return true;
        }
        let _ = self.ring.submit();
        let cancel = opcode::AsyncCancel2::new(types::CancelBuilder::any().all())
            .build()
            .user_data(CANCEL);
        let mut asked = false;
        for _ in 0..CANCEL_ROUNDS {
            asked &= !self.settle();
            if self.watches.iter().all(|watch| !watch.armed) {
                return true;
            }
            if !asked {
                // SAFETY: a cancellation has no memory of ours.
                asked = unsafe { self.ring.submission().push(&cancel).is_ok() };
            }
            let timeout = types::Timespec::new().nsec(CANCEL_ROUND_NS);
            let args = types::SubmitArgs::new().timespec(&timeout);
            if let Err(error) = self.ring.submitter().submit_with_args(1, &args)
                && error.raw_os_error() == Some(libc::EEXIST)
            {
                // Another thread's ring: only closing it is left.
                return false;
            }
        }
        false
    }
}
