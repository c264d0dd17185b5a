//! The daemon beside a node: the loader of the XDP front end and the follower of the network, until a signal ends both.

use std::io::Read;
use std::os::unix::net::UnixStream;

use loader::{Loader, Options};

use crate::config::DirectoryConfig;
use crate::exit::{self, Failure};
use crate::follower::Follower;

/// Descriptors of a loader: its connections, a node's queues and packet memory while it hands them over, maps, and room.
const DESCRIPTORS: u64 = 256;

/// Runs a loader, a follower, or both until SIGTERM or SIGINT. What the loader attached stays.
///
/// # Errors
/// The loader's; what the follower needs at its start is not there; no memory or descriptors for the signals.
pub fn run(options: Option<Options>, directory: Option<&DirectoryConfig>) -> Result<(), Failure> {
    program::limits::descriptors(DESCRIPTORS)
        .map_err(|error| Failure::new(exit::OS, error.to_string()))?;
    program::signals::pass_over_hangups()?;
    let (stop, mut stopped) = UnixStream::pair()?;
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        signal_hook::low_level::pipe::register(signal, stop.try_clone()?)?;
    }
    let loader = match options {
        Some(options) => {
            let socket = options.socket.clone();
            Some((Loader::new(options)?, socket))
        }
        None => None,
    };
    if let Some(config) = directory {
        let mut follower = Follower::new(config)?;
        // It ends with the process: whatever it writes, it writes whole or not.
        std::thread::Builder::new()
            .name("follower".to_owned())
            .spawn(move || {
                loop {
                    follower.turn();
                    std::thread::sleep(follower.pace());
                }
            })?;
        program::say!(
            "mixctld: following the network into {}",
            config.folder.display()
        );
    }
    let Some((loader, socket)) = loader else {
        tracing::info!(version = ::directory::version(), "started");
        stopped.read_exact(&mut [0])?;
        tracing::info!("stopped");
        return Ok(());
    };
    program::say!("mixctld: listening at {}", socket.display());
    tracing::info!(
        version = ::directory::version(),
        socket = %socket.display(),
        "started"
    );
    loader.run(stopped.into())?;
    tracing::info!("stopped; what is attached stays");
    Ok(())
}
