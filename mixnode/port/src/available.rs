//! Whether io_uring can be had, and if not, who forbids it: what the operator needs to change it.
#![allow(unsafe_code, reason = "pushes an entry whose memory must outlive it")]

use std::io;

use io_uring::register::Restriction;
use io_uring::{IoUring, Submitter, opcode, types};

use super::wake::remaining;

/// Why io_uring can't be used here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UringUnavailable {
    /// A seccomp filter (container runtime, systemd unit) answers EPERM.
    #[error(
        "io_uring is forbidden by a seccomp filter: allow io_uring_setup, io_uring_enter and io_uring_register"
    )]
    Seccomp,
    /// The sysctl keeps this process out.
    #[error(
        "io_uring is disabled by kernel.io_uring_disabled = {0}: set it to 0 (1 admits kernel.io_uring_group)"
    )]
    Sysctl(u8),
    /// The kernel has none.
    #[error(
        "this kernel has no io_uring (or a filter hides it): Linux 6.1 or newer with CONFIG_IO_URING is needed"
    )]
    Missing,
    /// The kernel's is too old for what the port needs.
    #[error(
        "io_uring of this kernel lacks what the port needs ({0}): Linux 6.1 or newer is needed"
    )]
    TooOld(&'static str),
    /// The limit on locked memory or on memory was met.
    #[error("no memory for io_uring: raise the limit on locked memory (LimitMEMLOCK)")]
    Memory,
    /// No descriptors left.
    #[error("no file descriptor for io_uring: raise the limit on open files (LimitNOFILE)")]
    Descriptors,
    /// Something else, by error number.
    #[error("io_uring_setup failed with error {0}")]
    Other(i32),
}

/// A ring set up as the port does it: one thread submits, completions are processed when that thread asks.
/// It is born disabled, so that another thread than the one that uses it may build it.
pub(super) fn builder() -> io_uring::Builder {
    let mut builder = IoUring::builder();
    builder
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_taskrun_flag()
        .setup_submit_all()
        .setup_r_disabled();
    builder
}

/// `IORING_UNREGISTER_PBUF_RING`: how a port gets its buffers back.
const UNREGISTER_BUFFER_RING: u8 = 23;
/// `IOSQE_BUFFER_SELECT`: the kernel picks the buffer.
const BUFFER_SELECT: u8 = 1 << 5;

/// Leaves a disabled ring nothing but these operations once it is enabled. What a ring does passes by seccomp, so
/// without this a node taken over could open files and make sockets through its ring. Registrations come before:
/// after, only buffers can be taken back, and restrictions can't be lifted.
pub(super) fn restrict(ring: &Submitter<'_>, operations: &[u8]) -> io::Result<()> {
    let mut allowed = vec![
        Restriction::register_op(UNREGISTER_BUFFER_RING),
        Restriction::sqe_flags_allowed(BUFFER_SELECT),
    ];
    allowed.extend(operations.iter().map(|code| Restriction::sqe_op(*code)));
    ring.register_restrictions(&mut allowed)
}

/// Submits what is queued and sleeps until a completion is there or `deadline_ns` of the monotonic clock has come. The
/// caller takes the completions next.
///
/// # Errors
/// What the kernel answered, but not for a timeout, a signal, or completions that have to be taken first.
pub(super) fn sleep(ring: &Submitter<'_>, deadline_ns: Option<u64>) -> io::Result<()> {
    let timeout = deadline_ns.map(|deadline_ns| {
        let (seconds, nanoseconds) = remaining(deadline_ns);
        types::Timespec::new()
            .sec(seconds as u64)
            .nsec(nanoseconds as u32)
    });
    let args = types::SubmitArgs::new();
    let outcome = match &timeout {
        Some(timeout) => ring.submit_with_args(1, &args.timespec(timeout)),
        None => ring.submit_with_args(1, &args),
    };
    match outcome {
        Ok(_) => Ok(()),
        Err(error) => match error.raw_os_error() {
            Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN) => Ok(()),
            _ => Err(error),
        },
    }
}

/// Tries to set up a ring, and explains.
///
/// # Errors
/// Who or what forbids it.
pub fn uring_available() -> Result<(), UringUnavailable> {
    let ring = builder().build(8).map_err(|error| explain(&error))?;
    if !ring.params().is_feature_ext_arg() {
        return Err(UringUnavailable::TooOld("waiting with a timeout"));
    }
    let mut probe = io_uring::Probe::new();
    ring.submitter()
        .register_probe(&mut probe)
        .map_err(|error| explain(&error))?;
    let needed = [
        opcode::RecvMsg::CODE,
        opcode::SendMsg::CODE,
        opcode::PollAdd::CODE,
        opcode::AsyncCancel::CODE,
    ];
    if needed.iter().any(|&code| !probe.is_supported(code)) {
        return Err(UringUnavailable::TooOld("an operation"));
    }
    Ok(())
}

/// Tells the causes of one error number apart.
pub(super) fn explain(error: &io::Error) -> UringUnavailable {
    match error.raw_os_error().unwrap_or(0) {
        libc::EPERM | libc::EACCES => {
            let sysctl =
                std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default();
            match sysctl.trim().parse() {
                Ok(level @ 1..) => UringUnavailable::Sysctl(level),
                _ => UringUnavailable::Seccomp,
            }
        }
        libc::ENOSYS => UringUnavailable::Missing,
        libc::EINVAL => UringUnavailable::TooOld("a set-up flag"),
        libc::ENOMEM => UringUnavailable::Memory,
        libc::EMFILE | libc::ENFILE => UringUnavailable::Descriptors,
        other => UringUnavailable::Other(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_told_apart() {
        let explained = |number| explain(&io::Error::from_raw_os_error(number));
        assert_eq!(explained(libc::ENOSYS), UringUnavailable::Missing);
        assert_eq!(explained(libc::ENOMEM), UringUnavailable::Memory);
        assert_eq!(explained(libc::EMFILE), UringUnavailable::Descriptors);
        assert!(matches!(
            explained(libc::EINVAL),
            UringUnavailable::TooOld(_)
        ));
        assert_eq!(explained(libc::EIO), UringUnavailable::Other(libc::EIO));
    }

    #[test]
    fn a_restricted_ring_does_what_it_was_left_and_nothing_else() {
        if let Err(reason) = uring_available() {
            eprintln!("SKIPPED: {reason}");
            return;
        }
        let mut ring = builder().build(8).unwrap();
        restrict(&ring.submitter(), &[opcode::PollAdd::CODE]).unwrap();
        ring.submitter().register_enable_rings().unwrap();
        let event = crate::EventFd::new().unwrap();
        event.signal();
        let fd = io_uring::types::Fd(std::os::fd::AsRawFd::as_raw_fd(&event));
        let poll = opcode::PollAdd::new(fd, libc::POLLIN as u32).build();
        let path = c"/etc/passwd";
        let open = opcode::OpenAt::new(io_uring::types::Fd(libc::AT_FDCWD), path.as_ptr()).build();
        let linked = opcode::PollAdd::new(fd, libc::POLLIN as u32)
            .build()
            .flags(io_uring::squeue::Flags::ASYNC);
        for (entry, allowed) in [(poll, true), (open, false), (linked, false)] {
            // SAFETY: the path and the event outlive the operation, which is waited for.
            unsafe { ring.submission().push(&entry).unwrap() };
            ring.submit_and_wait(1).unwrap();
            let result = ring.completion().next().unwrap().result();
            assert_eq!(result >= 0, allowed, "{result}");
            assert!(allowed || result == -libc::EACCES, "{result}");
        }
        let refused = ring.submitter().register_files(&[0]).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EACCES));
        assert!(restrict(&ring.submitter(), &[opcode::OpenAt::CODE]).is_err());
    }
}
