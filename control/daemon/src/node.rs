//! The daemon beside a node: the loader of the XDP front end, until a signal ends it.

use std::io::Write;
use std::os::unix::net::UnixStream;

use loader::{Loader, Options};

use crate::exit::Failure;

/// Runs a loader until SIGTERM or SIGINT. What it attached stays.
///
/// # Errors
/// The loader's; no memory or descriptors for the signals.
pub fn run(options: Options) -> Result<(), Failure> {
    let (stop, stopped) = UnixStream::pair()?;
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        signal_hook::low_level::pipe::register(signal, stop.try_clone()?)?;
    }
    let socket = options.socket.clone();
    let loader = Loader::new(options)?;
    // Nobody needs to read it.
    let _ = writeln!(
        std::io::stdout(),
        "mixctld: listening at {}",
        socket.display()
    );
    Ok(loader.run(stopped.into())?)
}
