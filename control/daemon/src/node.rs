//! The daemon beside a node: the loader of the XDP front end, until a signal ends it.

use std::os::unix::net::UnixStream;

use loader::{Loader, Options};

use crate::exit::{self, Failure};

/// Descriptors of a loader: its connections, a node's queues and packet memory while it hands them over, maps, and room.
const DESCRIPTORS: u64 = 256;

/// Runs a loader until SIGTERM or SIGINT. What it attached stays.
///
/// # Errors
/// The loader's; no memory or descriptors for the signals.
pub fn run(options: Options) -> Result<(), Failure> {
    program::limits::descriptors(DESCRIPTORS)
        .map_err(|error| Failure::new(exit::OS, error.to_string()))?;
    program::signals::pass_over_hangups()?;
    let (stop, stopped) = UnixStream::pair()?;
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        signal_hook::low_level::pipe::register(signal, stop.try_clone()?)?;
    }
    let socket = options.socket.clone();
    let loader = Loader::new(options)?;
    program::say!("mixctld: listening at {}", socket.display());
    tracing::info!(
        version = directory::version(),
        socket = %socket.display(),
        "started"
    );
    loader.run(stopped.into())?;
    tracing::info!("stopped; what is attached stays");
    Ok(())
}
