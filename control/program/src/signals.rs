//! What ends a program, and what does not.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

/// Set by the signals that ask a program to stop.
#[derive(Clone, Debug)]
pub struct Stop {
    asked: Arc<AtomicBool>,
    signal: Arc<AtomicUsize>,
}

impl Stop {
    /// Whether to stop.
    pub fn is_asked(&self) -> bool {
        self.asked.load(Ordering::Acquire)
    }

    /// The flag itself.
    pub fn flag(&self) -> &Arc<AtomicBool> {
        &self.asked
    }

    /// How a program ends that was stopped before its work was done: 128 and the signal's number.
    pub fn exit_code(&self) -> u8 {
        match self.signal.load(Ordering::Acquire) {
            0 => 130,
            signal => u8::try_from(128 + signal).unwrap_or(130),
        }
    }
}

/// For a program that somebody runs in a terminal: SIGINT, SIGTERM and SIGHUP ask it to stop, the second of them ends it
/// at once. Under nohup SIGHUP stays ignored.
///
/// # Errors
/// The system's.
pub fn of_terminal() -> io::Result<Stop> {
    let stop = Stop {
        asked: Arc::new(AtomicBool::new(false)),
        signal: Arc::new(AtomicUsize::new(0)),
    };
    let hangup = (!is_ignored(SIGHUP)).then_some(SIGHUP);
    for signal in [SIGINT, SIGTERM].into_iter().chain(hangup) {
        // The order counts: the first signal finds the flag unset.
        flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&stop.asked))?;
        flag::register(signal, Arc::clone(&stop.asked))?;
        flag::register_usize(
            signal,
            Arc::clone(&stop.signal),
            signal.unsigned_abs() as usize,
        )?;
    }
    Ok(stop)
}

/// For a daemon: SIGTERM and SIGINT ask it to stop. SIGHUP does nothing: there is nothing to read again.
///
/// # Errors
/// The system's.
pub fn of_daemon() -> io::Result<Arc<AtomicBool>> {
    let stop = Arc::default();
    for signal in [SIGTERM, SIGINT] {
        flag::register(signal, Arc::clone(&stop))?;
    }
    pass_over_hangups()?;
    Ok(stop)
}

/// SIGHUP does nothing from now on.
///
/// # Errors
/// The system's.
pub fn pass_over_hangups() -> io::Result<()> {
    flag::register(SIGHUP, Arc::default()).map(|_| ())
}

/// Whether this process was started with `signal` ignored.
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    ignores(&status, signal)
}

/// `SigIgn` is a mask in hexadecimal, signal 1 its lowest bit (proc_pid_status(5)).
fn ignores(status: &str, signal: i32) -> bool {
    let line = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.unwrap_or(0) >> (signal - 1) & 1 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mask_of_ignored_signals_is_read() {
        let status = "Name:\tfog\nSigBlk:\tffffffffffffffff\nSigIgn:\t0000000000001001\n";
        assert!(ignores(status, SIGHUP));
        assert!(!ignores(status, SIGINT));
        assert!(!ignores("", SIGHUP));
    }
}
