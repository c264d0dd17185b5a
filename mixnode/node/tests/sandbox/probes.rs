//! System calls that a node must not be able to make, each tried for real.
#![allow(
    unsafe_code,
    reason = "what a confined process must not do, done by hand"
)]

use std::io;

/// How a probe ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The kernel did it.
    Done,
    /// The kernel refused with this error number.
    Error(i32),
}

/// What a right that is gone looks like.
pub const REFUSED: Outcome = Outcome::Error(libc::EPERM);

/// A name for messages, and what is tried.
pub type Probe = (&'static str, fn() -> Outcome);

fn outcome(result: libc::c_long) -> Outcome {
    if result < 0 {
        Outcome::Error(io::Error::last_os_error().raw_os_error().unwrap())
    } else {
        Outcome::Done
    }
}

/// A raw system call.
macro_rules! call {
    ($number:ident $(, $argument:expr)*) => {{
        // SAFETY: every pointer given is null or valid for its call, and the calls that would change the process
        // are expected to be refused; where they are not, the test fails.
        outcome(unsafe { libc::syscall(libc::$number $(, $argument as libc::c_long)*) })
    }};
}

const NULL: usize = 0;

/// `BPF_MAP_CREATE` of an array, `struct bpf_attr`.
fn create_map() -> Outcome {
    // type BPF_MAP_TYPE_ARRAY, key 4 bytes, value 4 bytes, 1 entry
    let mut attributes = [0u32; 32];
    attributes[..4].copy_from_slice(&[2, 4, 4, 1]);
    call!(SYS_bpf, 0, attributes.as_ptr(), size_of_val(&attributes))
}

fn xdp_socket() -> Outcome {
    call!(SYS_socket, libc::AF_XDP, libc::SOCK_RAW, 0)
}

fn packet_socket() -> Outcome {
    call!(SYS_socket, libc::AF_PACKET, libc::SOCK_RAW, 0)
}

fn udp_socket() -> Outcome {
    call!(SYS_socket, libc::AF_INET, libc::SOCK_DGRAM, 0)
}

/// A socket such as the loader is reached with.
pub fn unix_socket() -> Outcome {
    let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
    call!(SYS_socket, libc::AF_UNIX, kind, 0)
}

fn unix_stream() -> Outcome {
    call!(SYS_socket, libc::AF_UNIX, libc::SOCK_STREAM, 0)
}

fn uring() -> Outcome {
    // `struct io_uring_params`, 120 bytes.
    let mut parameters = [0u64; 15];
    call!(SYS_io_uring_setup, 8, parameters.as_mut_ptr())
}

fn uring_register() -> Outcome {
    // IORING_REGISTER_FILES on something that is no ring: without the filter EOPNOTSUPP or EBADF.
    call!(SYS_io_uring_register, 0, 2, NULL, 0)
}

fn other_user() -> Outcome {
    call!(SYS_setresuid, 12_345, 12_345, 12_345)
}

fn regain_capabilities() -> Outcome {
    // Version 3, this thread; all capabilities in every set.
    let header = [0x2008_0522u32, 0];
    let sets = [u32::MAX; 6];
    call!(SYS_capset, header.as_ptr(), sets.as_ptr())
}

fn raise_ambient() -> Outcome {
    let (ambient, raise, net_admin) = (47, 2, 12);
    call!(SYS_prctl, ambient, raise, net_admin, 0, 0)
}

fn mount() -> Outcome {
    let (none, target) = (c"none", c"/mnt");
    call!(
        SYS_mount,
        none.as_ptr(),
        target.as_ptr(),
        c"tmpfs".as_ptr(),
        0,
        NULL
    )
}

fn new_network() -> Outcome {
    call!(SYS_unshare, libc::CLONE_NEWNET)
}

fn other_network() -> Outcome {
    call!(SYS_setns, 0, libc::CLONE_NEWNET)
}

fn trace_parent() -> Outcome {
    // SAFETY: takes nothing, returns a number.
    let parent = unsafe { libc::getppid() };
    call!(SYS_ptrace, libc::PTRACE_SEIZE, parent, NULL, NULL)
}

fn read_parent() -> Outcome {
    // SAFETY: takes nothing, returns a number.
    let parent = unsafe { libc::getppid() };
    read_memory(parent)
}

fn read_memory(of: libc::pid_t) -> Outcome {
    let mut byte = 0u8;
    let local = libc::iovec {
        iov_base: (&raw mut byte).cast(),
        iov_len: 1,
    };
    // Where the other process has no memory: a permitted call would say EFAULT.
    let remote = libc::iovec {
        iov_base: std::ptr::null_mut(),
        iov_len: 1,
    };
    call!(
        SYS_process_vm_readv,
        of,
        &raw const local,
        1,
        &raw const remote,
        1,
        0
    )
}

fn signal_parent() -> Outcome {
    // Under the filter getppid is refused as well; process 1 is always another one.
    call!(SYS_kill, 1, 0)
}

fn trace_init() -> Outcome {
    call!(SYS_ptrace, libc::PTRACE_SEIZE, 1, NULL, NULL)
}

fn read_init() -> Outcome {
    read_memory(1)
}

fn execute() -> Outcome {
    let program = c"/bin/true";
    let arguments = [program.as_ptr(), std::ptr::null()];
    call!(
        SYS_execve,
        program.as_ptr(),
        arguments.as_ptr(),
        arguments[1..].as_ptr()
    )
}

fn fork() -> Outcome {
    let made = call!(SYS_fork);
    // A child, should there be one, must not run the rest of the test; the parent sees Done and fails.
    made
}

fn new_thread() -> Outcome {
    match std::thread::Builder::new().spawn(|| ()) {
        Ok(_) => Outcome::Done,
        Err(error) => Outcome::Error(error.raw_os_error().unwrap()),
    }
}

fn memory_that_runs() -> Outcome {
    let rights = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    call!(SYS_mmap, NULL, 4096, rights, flags, -1, 0)
}

fn memory_file() -> Outcome {
    call!(SYS_memfd_create, c"code".as_ptr(), 0)
}

fn open_by_handle() -> Outcome {
    call!(SYS_open_by_handle_at, -100, NULL, 0)
}

fn trace_me() -> Outcome {
    call!(SYS_ptrace, libc::PTRACE_TRACEME, 0, NULL, NULL)
}

fn module() -> Outcome {
    call!(SYS_finit_module, 0, c"".as_ptr(), 0)
}

/// What capabilities, dumpability and Landlock refuse without a filter.
pub const WITHOUT_CAPABILITIES: &[Probe] = &[
    ("bpf(BPF_MAP_CREATE)", create_map),
    ("socket(AF_XDP)", xdp_socket),
    ("socket(AF_PACKET)", packet_socket),
    ("setresuid", other_user),
    ("capset", regain_capabilities),
    ("prctl(PR_CAP_AMBIENT_RAISE)", raise_ambient),
    ("mount", mount),
    ("unshare(CLONE_NEWNET)", new_network),
    ("ptrace of the parent", trace_parent),
    ("process_vm_readv of the parent", read_parent),
    ("kill of process 1", signal_parent),
];

/// What the filter refuses, whatever else allows.
pub const UNDER_THE_FILTER: &[Probe] = &[
    ("bpf(BPF_MAP_CREATE)", create_map),
    ("socket(AF_XDP)", xdp_socket),
    ("socket(AF_PACKET)", packet_socket),
    ("socket(AF_INET)", udp_socket),
    ("socket(AF_UNIX, SOCK_STREAM)", unix_stream),
    ("io_uring_setup", uring),
    ("io_uring_register(IORING_REGISTER_FILES)", uring_register),
    ("setresuid", other_user),
    ("capset", regain_capabilities),
    ("prctl(PR_CAP_AMBIENT_RAISE)", raise_ambient),
    ("mount", mount),
    ("unshare(CLONE_NEWNET)", new_network),
    ("setns", other_network),
    ("ptrace of another", trace_init),
    ("ptrace(PTRACE_TRACEME)", trace_me),
    ("process_vm_readv", read_init),
    ("kill", signal_parent),
    ("execve", execute),
    ("fork", fork),
    ("clone of a thread", new_thread),
    ("mmap(PROT_EXEC)", memory_that_runs),
    ("memfd_create", memory_file),
    ("open_by_handle_at", open_by_handle),
    ("finit_module", module),
];
