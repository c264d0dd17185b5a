//! The XDP program on an interface: loaded, attached, pinned, taken over, replaced, taken off.
//!
//! Everything that must outlive the loader is pinned in a folder of the BPF file system named after the interface: the
//! link and every map. The link is pinned last and removed first, so that a folder without one is a failed attempt.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::xdp::{XdpLink, XdpLinkId};
use aya::programs::{ProgramError, Xdp, XdpMode};
use aya::{Ebpf, EbpfLoader};
use handover::protocol::Mode;

use super::explain;
use super::interface::{self, Interface};
use super::maps::{INDICES_MAX, Limits, Maps, NAMES};
use crate::error::LoaderError;
use crate::netns;

static OBJECT: &[u8] = aya::include_bytes_aligned!("../../programs/steer.o");

const LINK: &str = "link";
/// How long the kernel may take to let go of an interface; it does so from a work queue.
const DETACH_DEADLINE: Duration = Duration::from_secs(5);

/// How long an interface may stay taken: a loader that was killed while it took its program off has left that to the
/// kernel, which does so from a work queue.
const TAKEN_DEADLINE: Duration = Duration::from_millis(500);

/// What an attempt to attach came to.
pub(super) struct Attached {
    /// How the program runs.
    pub mode: Mode,
    /// Why not natively.
    pub degraded: Option<String>,
    /// Whether it took another one's place.
    pub replaced: bool,
    /// Its maps.
    pub maps: Maps,
}

/// The folder of an interface's pins. Names that could leave `pins` are no interfaces'.
pub(super) fn folder(pins: &Path, interface: &str) -> Result<PathBuf, LoaderError> {
    if interface.is_empty() || interface.contains('/') || interface == "." || interface == ".." {
        return Err(LoaderError::NotAName(interface.to_owned()));
    }
    Ok(pins.join(interface))
}

/// Makes the folder for all pins, which must lie on a BPF file system.
pub(super) fn prepare(pins: &Path) -> Result<(), LoaderError> {
    let folder = pins.to_owned();
    make_folder(pins).map_err(|error| LoaderError::Pins { folder, error })?;
    if netns::is_bpffs(pins) {
        return Ok(());
    }
    let _ = fs::remove_dir(pins);
    Err(LoaderError::NotBpffs {
        folder: pins.to_owned(),
    })
}

/// Attaches the program, or replaces the one that is there, atomically and with its maps. `current` is how an
/// attachment of ours runs on this interface.
pub(super) fn attach(
    pins: &Path,
    interface: &Interface,
    current: Option<Mode>,
    limits: Limits,
    allow_generic: bool,
) -> Result<Attached, LoaderError> {
    let folder = folder(pins, &interface.name)?;
    match current {
        Some(Mode::Generic) if !allow_generic => Err(LoaderError::GenericMode {
            interface: interface.name.clone(),
        }),
        Some(mode) => replace(&folder, interface, mode, limits),
        None => {
            // What is pinned there is not on the interface: a failed attempt, or an interface that was made anew.
            remove(&folder)?;
            make_folder(&folder)?;
            let attached = attach_first(&folder, interface, limits, allow_generic);
            if attached.is_err() {
                let _ = remove(&folder);
            }
            attached
        }
    }
}

fn replace(
    folder: &Path,
    interface: &Interface,
    mode: Mode,
    limits: Limits,
) -> Result<Attached, LoaderError> {
    let (mut ebpf, mut maps) = load(folder)?;
    let program = program(&mut ebpf)?;
    let link = PinnedLink::from_pin(folder.join(LINK)).map_err(|error| explain::load(&error))?;
    let link = XdpLink::try_from(FdLink::from(link)).map_err(|error| explain::load(&error))?;
    maps.configure(limits)
        .map_err(|error| explain::load(&error))?;
    program
        .attach_to_link(link)
        .map_err(|error| explain::attach(interface, mode, &error))?;
    let degraded = (mode == Mode::Generic).then(|| {
        format!(
            "the program was in generic mode already: `mixctl xdp detach {}` and attach again to try native mode",
            interface.name
        )
    });
    Ok(Attached {
        mode,
        degraded,
        replaced: true,
        maps,
    })
}

fn attach_first(
    folder: &Path,
    interface: &Interface,
    limits: Limits,
    allow_generic: bool,
) -> Result<Attached, LoaderError> {
    let (mut ebpf, mut maps) = load(folder)?;
    maps.configure(limits)
        .map_err(|error| explain::load(&error))?;
    let program = program(&mut ebpf)?;
    let (id, mode, degraded) = match attach_in(program, interface, XdpMode::Driver) {
        Ok(id) => (id, Mode::Native, None),
        Err(error) => {
            let why = explain::attach(interface, Mode::Native, &error);
            if !allow_generic || !explain::generic_might_work(&error) {
                return Err(why);
            }
            let id = attach_in(program, interface, XdpMode::Skb)
                .map_err(|error| explain::attach(interface, Mode::Generic, &error))?;
            (id, Mode::Generic, Some(why.to_string()))
        }
    };
    let link = program
        .take_link(id)
        .map_err(|error| explain::load(&error))?;
    // Kernels before 5.9 attach without a link, which can't be pinned.
    let link = FdLink::try_from(link).map_err(|error| explain::load(&error))?;
    link.pin(folder.join(LINK))
        .map_err(|error| explain::load(&error))?;
    Ok(Attached {
        mode,
        degraded,
        replaced: false,
        maps,
    })
}

/// Attaches in one mode; waits a moment if another program is there.
fn attach_in(
    program: &mut Xdp,
    interface: &Interface,
    mode: XdpMode,
) -> Result<XdpLinkId, ProgramError> {
    let deadline = Instant::now() + TAKEN_DEADLINE;
    loop {
        match program.attach_to_if_index(interface.index, mode) {
            Err(error) if explain::is_taken(&error) && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(5));
            }
            other => return other,
        }
    }
}

/// Loads the program over the maps pinned in `folder`, which are made if they are not there.
fn load(folder: &Path) -> Result<(Ebpf, Maps), LoaderError> {
    let mut loader = EbpfLoader::new();
    loader.map_max_entries("SESSIONS", INDICES_MAX);
    for name in NAMES {
        loader.map_pin_path(name, folder.join(name));
    }
    let mut ebpf = loader.load(OBJECT).map_err(|error| explain::load(&error))?;
    program(&mut ebpf)?.load().map_err(|error| match &error {
        ProgramError::LoadError { io_error, .. }
            if io_error.raw_os_error() == Some(libc::EACCES) =>
        {
            // The verifier's refusal looks like a missing permission.
            LoaderError::Verifier(explain::whole(&error))
        }
        _ => explain::load(&error),
    })?;
    let maps = Maps::open(folder).map_err(|error| LoaderError::OtherVersion {
        folder: folder.to_owned(),
        error: explain::whole(&error),
    })?;
    Ok((ebpf, maps))
}

fn program(ebpf: &mut Ebpf) -> Result<&mut Xdp, LoaderError> {
    let program = ebpf.program_mut("steer").ok_or(LoaderError::NoProgram)?;
    program.try_into().map_err(|_| LoaderError::NoProgram)
}

/// What was left attached to this interface and pinned in `folder`: its maps and how the program runs. `None` if the link
/// pinned there is not the one that is on the interface.
pub(super) fn take_over(
    folder: &Path,
    interface: &Interface,
) -> Result<Option<(Mode, Maps)>, LoaderError> {
    let Ok(link) = PinnedLink::from_pin(folder.join(LINK)) else {
        return Ok(None);
    };
    let info = FdLink::from(link)
        .info()
        .map_err(|error| explain::load(&error))?;
    match interface.program {
        Some((mode, program)) if program == info.program_id() => {
            let maps = Maps::open(folder).map_err(|error| explain::load(&error))?;
            Ok(Some((mode, maps)))
        }
        _ => Ok(None),
    }
}

/// Has what is pinned for an interface follow it to its new name; what was pinned under that is another's that is gone.
pub(super) fn rename(pins: &Path, old: &str, new: &str) -> Result<(), LoaderError> {
    let (old, new) = (folder(pins, old)?, folder(pins, new)?);
    remove(&new)?;
    Ok(fs::rename(old, new)?)
}

/// The interfaces that have a folder.
pub(super) fn pinned(pins: &Path) -> Vec<String> {
    let entries = fs::read_dir(pins).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}

/// Whether a folder has no link: nothing was ever attached from it.
pub(super) fn is_failed_attempt(folder: &Path) -> bool {
    folder.is_dir() && !folder.join(LINK).exists()
}

/// Takes the program off and removes everything pinned for it; true if anything was. Returns when the kernel has let go
/// of the interface.
pub(super) fn detach(pins: &Path, name: &str) -> Result<bool, LoaderError> {
    let folder = folder(pins, name)?;
    if !folder.exists() {
        return Ok(false);
    }
    let link = PinnedLink::from_pin(folder.join(LINK)).ok();
    let program = link
        .and_then(|link| FdLink::from(link).info().ok())
        .map(|info| info.program_id());
    remove(&folder)?;
    let deadline = Instant::now() + DETACH_DEADLINE;
    while let Some(interface) = interface::named(name)? {
        let on = interface.program.map(|(_, id)| id);
        if on.is_none() || on != program {
            break;
        }
        if Instant::now() > deadline {
            return Err(LoaderError::StillAttached {
                interface: name.to_owned(),
            });
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(true)
}

fn make_folder(folder: &Path) -> io::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
}

/// Removes a folder of pins; no error if it is not there.
pub(super) fn remove(folder: &Path) -> Result<(), LoaderError> {
    let gone = |result: io::Result<()>| match result {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            let folder = folder.to_owned();
            Err(LoaderError::Remove { folder, error })
        }
        _ => Ok(()),
    };
    gone(fs::remove_file(folder.join(LINK)))?;
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        gone(fs::remove_file(entry.path()))?;
    }
    gone(fs::remove_dir(folder))
}
