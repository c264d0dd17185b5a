//! Rights of the process as a whole: privileges, capabilities, dumps.

use std::error::Error;
use std::io;

use rustix::process::{Resource, Rlimit};
use rustix::thread::{CapabilitySet, CapabilitySets};

/// Capabilities the kernel may know one day: its numbers have 64 bits.
const CAPABILITY_NUMBERS: u32 = 64;

/// Lets packet memory and replay tables be locked as far as a privilege of now allows: CAP_IPC_LOCK and
/// CAP_SYS_RESOURCE are gone when the memory is mapped.
pub fn raise_memory_limit() {
    let wanted = Rlimit {
        current: None,
        maximum: None,
    };
    if rustix::process::setrlimit(Resource::Memlock, wanted).is_err() {
        // The unprivileged go as far as the service manager lets them.
        let maximum = rustix::process::getrlimit(Resource::Memlock).maximum;
        let _ = rustix::process::setrlimit(
            Resource::Memlock,
            Rlimit {
                current: maximum,
                maximum,
            },
        );
    }
}

/// Keeps all memory of the process out of swap where no limit forbids it, and logs whether it does.
pub fn lock_memory() {
    match program::limits::lock_memory() {
        Ok(()) => tracing::info!("all memory is locked: no key gets into swap"),
        Err(reason) => tracing::warn!(
            %reason,
            "memory is not locked, so keys may be swapped out: set LimitMEMLOCK=infinity, or run without swap"
        ),
    }
}

/// Sets no_new_privs, and reads it back.
pub(super) fn forbid_new() -> Result<(), Box<dyn Error>> {
    rustix::thread::set_no_new_privs(true)?;
    if rustix::thread::no_new_privs()? {
        Ok(())
    } else {
        Err("the kernel did not keep PR_SET_NO_NEW_PRIVS".into())
    }
}

/// Empties every set of capabilities of this thread, and reads them back.
///
/// The bounding set takes CAP_SETPCAP to change. A process that never had it keeps its bounding set, which means
/// nothing under no_new_privs: only an execve that adds rights reads it.
pub(super) fn drop_capabilities() -> Result<bool, Box<dyn Error>> {
    // A kernel before 4.3 has no ambient set, and answers EINVAL.
    let _ = rustix::thread::clear_ambient_capability_set();
    let may_bound = rustix::thread::capabilities(None)?
        .effective
        .contains(CapabilitySet::SETPCAP);
    if may_bound {
        for capability in known()? {
            rustix::thread::remove_capability_from_bounding_set(capability)?;
        }
    }
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    rustix::thread::set_capabilities(None, none)?;

    if rustix::thread::capabilities(None)? != none {
        return Err("capabilities were dropped, and read back they are still there".into());
    }
    for capability in known()? {
        let bounded = may_bound && rustix::thread::capability_is_in_bounding_set(capability)?;
        if bounded || rustix::thread::capability_is_in_ambient_set(capability).unwrap_or(false) {
            return Err(format!("{capability:?} was dropped, and is still there").into());
        }
    }
    Ok(true)
}

/// The capabilities this kernel knows.
fn known() -> io::Result<Vec<CapabilitySet>> {
    let mut all = Vec::new();
    for number in 0..CAPABILITY_NUMBERS {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        match rustix::thread::capability_is_in_bounding_set(capability) {
            Ok(_) => all.push(capability),
            Err(rustix::io::Errno::INVAL) => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(all)
}

/// Threads of this process, where /proc tells.
pub(super) fn threads() -> Option<usize> {
    std::fs::read_dir("/proc/self/task")
        .ok()
        .map(Iterator::count)
}
