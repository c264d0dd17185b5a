//! Pinning a worker's thread to a core. A room for unsafe code (one system call).

use std::io;

/// Pins the calling thread to the `number`-th of the cores this process may use.
///
/// # Errors
/// There are fewer cores, or the kernel refuses.
pub fn pin(number: usize) -> io::Result<()> {
    // SAFETY: an all-zero set is the empty set.
    let mut allowed: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes at most the size given into the set.
    if unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut allowed) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let cores = 0..libc::CPU_SETSIZE as usize;
    // SAFETY: `CPU_ISSET` reads inside the set for numbers below CPU_SETSIZE.
    let core = cores
        .filter(|core| unsafe { libc::CPU_ISSET(*core, &allowed) })
        .nth(number);
    let Some(core) = core else {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "fewer cores than workers: unset [worker] pin",
        ));
    };
    // SAFETY: as above.
    let mut one: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the core's number is below CPU_SETSIZE.
    unsafe { libc::CPU_SET(core, &mut one) };
    // SAFETY: the kernel reads the set, whose size is given.
    if unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &one) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
