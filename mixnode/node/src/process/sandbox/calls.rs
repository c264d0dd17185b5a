//! Seccomp: the system calls of a running node, and EPERM for every other.

use std::collections::BTreeMap;
use std::error::Error;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

/// `IORING_REGISTER_ENABLE_RINGS` and `IORING_UNREGISTER_PBUF_RING`: the last is how a port is closed.
const URING_REGISTERS: [u64; 2] = [12, 23];

/// What the filter must leave to this node beside the calls of every node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    /// The loader may have to be reached again: unix sockets of its kind.
    pub loader: bool,
}

/// Calls that are allowed whatever their arguments. Descriptors can't be made but by openat (which Landlock bounds),
/// accept4 on the metrics' listener and recvmsg on the loader's connection; memory can't become code; no thread and
/// no process is started.
const ALLOWED: &[i64] = &[
    // packets, the worker's wait, the loader's connection, the netlink socket
    libc::SYS_io_uring_enter,
    libc::SYS_recvmmsg,
    libc::SYS_sendmmsg,
    libc::SYS_recvmsg,
    libc::SYS_sendmsg,
    libc::SYS_recvfrom,
    libc::SYS_sendto,
    libc::SYS_ppoll,
    libc::SYS_poll,
    libc::SYS_getsockopt,
    libc::SYS_getsockname,
    // descriptors: events, status lines, the log, the metrics' connections
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_close,
    libc::SYS_accept4,
    libc::SYS_shutdown,
    // the directory folder
    libc::SYS_openat,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_lseek,
    libc::SYS_getdents64,
    libc::SYS_rename,
    libc::SYS_unlink,
    // memory
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_mlock,
    libc::SYS_mlock2,
    libc::SYS_munlock,
    // time, threads, randomness
    libc::SYS_clock_gettime,
    libc::SYS_gettimeofday,
    libc::SYS_time,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_futex,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_getcpu,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_getrandom,
    libc::SYS_getpid,
    libc::SYS_gettid,
    // signals and the end
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// Puts the filter on every thread of the process. It can't be taken off again.
pub(super) fn filter(calls: Calls) -> Result<(), Box<dyn Error>> {
    let filter = SeccompFilter::new(
        rules(calls)?,
        SeccompAction::Errno(libc::EPERM.unsigned_abs()),
        SeccompAction::Allow,
        std::env::consts::ARCH.try_into()?,
    )?;
    let program: BpfProgram = filter.try_into()?;
    seccompiler::apply_filter_all_threads(&program)?;
    Ok(())
}

fn rules(calls: Calls) -> Result<BTreeMap<i64, Vec<SeccompRule>>, seccompiler::BackendError> {
    use SeccompCmpOp::{Eq, MaskedEq};
    let when = |argument, operator, value| {
        // The kernel reads these arguments as 32-bit values, so nobody can hide one in the upper half.
        SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value)
    };
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        ALLOWED.iter().map(|call| (*call, Vec::new())).collect();
    let mut allow = |call, conditions| -> Result<(), seccompiler::BackendError> {
        rules
            .entry(call)
            .or_default()
            .push(SeccompRule::new(conditions)?);
        Ok(())
    };
    for register in URING_REGISTERS {
        allow(libc::SYS_io_uring_register, vec![when(1, Eq, register)?])?;
    }
    let executable = MaskedEq(libc::PROT_EXEC as u64);
    allow(libc::SYS_mmap, vec![when(2, executable.clone(), 0)?])?;
    allow(libc::SYS_mprotect, vec![when(2, executable, 0)?])?;
    for command in [
        libc::F_GETFD,
        libc::F_SETFD,
        libc::F_GETFL,
        libc::F_SETFL,
        libc::F_DUPFD_CLOEXEC,
        // Of memory that the loader hands over.
        libc::F_GET_SEALS,
    ] {
        allow(libc::SYS_fcntl, vec![when(1, Eq, command as u64)?])?;
    }
    allow(libc::SYS_ioctl, vec![when(1, Eq, libc::FIONBIO)?])?;
    // Timeouts of a scraper's connection and of the loader's.
    for option in [
        libc::SO_RCVTIMEO,
        libc::SO_SNDTIMEO,
        libc::SO_RCVTIMEO_NEW,
        libc::SO_SNDTIMEO_NEW,
    ] {
        allow(
            libc::SYS_setsockopt,
            vec![
                when(1, Eq, libc::SOL_SOCKET as u64)?,
                when(2, Eq, option as u64)?,
            ],
        )?;
    }
    // A thread names itself as it starts; abort signals itself.
    allow(
        libc::SYS_prctl,
        vec![when(0, Eq, libc::PR_SET_NAME as u64)?],
    )?;
    let own = u64::from(std::process::id());
    allow(libc::SYS_tgkill, vec![when(0, Eq, own)?])?;
    if calls.loader {
        let kind = (libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC) as u64;
        allow(
            libc::SYS_socket,
            vec![
                when(0, Eq, libc::AF_UNIX as u64)?,
                when(1, Eq, kind)?,
                when(2, Eq, 0)?,
            ],
        )?;
        rules.insert(libc::SYS_connect, Vec::new());
    }
    Ok(rules)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_compiles_and_knows_nothing_that_makes_rights() {
        for calls in [Calls::default(), Calls { loader: true }] {
            let rules = rules(calls).unwrap();
            for never in [
                libc::SYS_bpf,
                libc::SYS_io_uring_setup,
                libc::SYS_ptrace,
                libc::SYS_process_vm_readv,
                libc::SYS_process_vm_writev,
                libc::SYS_mount,
                libc::SYS_setns,
                libc::SYS_unshare,
                libc::SYS_execve,
                libc::SYS_execveat,
                libc::SYS_clone,
                libc::SYS_clone3,
                libc::SYS_fork,
                libc::SYS_vfork,
                libc::SYS_bind,
                libc::SYS_listen,
                libc::SYS_setuid,
                libc::SYS_capset,
                libc::SYS_kill,
                libc::SYS_memfd_create,
                libc::SYS_userfaultfd,
                libc::SYS_perf_event_open,
                libc::SYS_keyctl,
            ] {
                assert!(!rules.contains_key(&never), "{never}");
            }
            assert_eq!(rules.contains_key(&libc::SYS_socket), calls.loader);
            assert_eq!(rules.contains_key(&libc::SYS_connect), calls.loader);
        }
    }
}
