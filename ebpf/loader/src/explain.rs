//! What the kernel's refusals mean, in sentences that say what to do.

use std::error::Error;
use std::io;

use handover::protocol::Mode;
use rustix::thread::CapabilitySet;

use super::interface::Interface;
use crate::exit::{self, Failure};

/// The smallest MTU that every IPv6 link has (RFC 8200); a datagram with its headers fits.
const MTU_MIN: u32 = 1280;

/// The capabilities the loader can't do without; CAP_SYS_ADMIN stands in for the newer two.
const CAPABILITIES: [(&str, CapabilitySet, bool); 4] = [
    ("CAP_BPF", CapabilitySet::BPF, true),
    ("CAP_PERFMON", CapabilitySet::PERFMON, true),
    ("CAP_NET_ADMIN", CapabilitySet::NET_ADMIN, false),
    ("CAP_NET_RAW", CapabilitySet::NET_RAW, false),
];

/// Names the capabilities this process lacks.
pub(super) fn missing_capabilities() -> Result<(), Failure> {
    let held = rustix::thread::capabilities(None)
        .map_err(io::Error::from)?
        .effective;
    let missing: Vec<&str> = CAPABILITIES
        .into_iter()
        .filter(|(_, capability, newer)| {
            let older = *newer && held.contains(CapabilitySet::SYS_ADMIN);
            !older && !held.contains(*capability)
        })
        .map(|(name, ..)| name)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let message = format!(
        "the loader lacks {}: run it as root, or from a unit with AmbientCapabilities= of these",
        missing.join(", ")
    );
    Err(Failure::new(exit::PERMISSION, message))
}

/// The system's error number somewhere below an error.
pub(super) fn errno(error: &(dyn Error + 'static)) -> Option<i32> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(number) = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::raw_os_error)
        {
            return Some(number);
        }
        next = error.source();
    }
    None
}

/// An error with everything below it, in one line.
pub(super) fn whole(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        next = error.source();
    }
    // The verifier's log ends with its verdict.
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let lines: Vec<&str> = lines.collect();
    match lines.as_slice() {
        [first, .., last] => format!("{first} … {last}"),
        _ => text,
    }
}

/// Whether another program is in the way.
pub(super) fn is_taken(error: &(dyn Error + 'static)) -> bool {
    matches!(errno(error), Some(libc::EBUSY | libc::EEXIST))
}

/// Whether generic mode might work where the driver refused with this error.
pub(super) fn generic_might_work(error: &(dyn Error + 'static)) -> bool {
    !is_taken(error)
        && !matches!(
            errno(error),
            Some(libc::EPERM | libc::EACCES | libc::ENODEV)
        )
}

/// Why an interface refused the program.
pub(super) fn attach(interface: &Interface, mode: Mode, error: &(dyn Error + 'static)) -> Failure {
    let Interface { name, mtu, .. } = interface;
    let message = match errno(error) {
        Some(libc::EPERM | libc::EACCES) => return permission(),
        Some(libc::EBUSY | libc::EEXIST) => {
            let number = interface
                .program
                .map_or(String::new(), |(_, id)| format!(" (number {id})"));
            format!(
                "another XDP program{number} is on {name}: take it off with `ip link set dev {name} xdp off`, or \
                 unpin its link if `bpftool link` shows one"
            )
        }
        Some(libc::ENODEV) => format!("{name} is gone: see `ip link`"),
        _ if mode == Mode::Generic => {
            format!("{name} takes the program in no mode: {}", whole(error))
        }
        Some(libc::EOPNOTSUPP) => format!(
            "the driver of {name} has no native XDP as it is set up: on a virtual NIC try `ethtool -K {name} lro off \
             rx-gro-hw off`, else attach with --allow-generic (slower)"
        ),
        Some(libc::ERANGE) => too_large(name, *mtu),
        Some(_) if *mtu > 1500 => too_large(name, *mtu),
        Some(libc::ENOMEM | libc::ENOSPC) => format!(
            "the driver of {name} has too few queues left for XDP's own: use fewer with `ethtool -L {name} combined \
             N`, or attach with --allow-generic (slower)"
        ),
        _ => format!(
            "the driver of {name} refuses native XDP ({}): attach with --allow-generic (slower)",
            whole(error)
        ),
    };
    Failure::new(exit::OS, message)
}

fn too_large(name: &str, mtu: u32) -> String {
    format!(
        "the driver of {name} refuses native XDP at this MTU ({mtu} bytes, or what the other end of a veth has): `ip \
         link set dev {name} mtu 1500` on both ends, or attach with --allow-generic (slower)"
    )
}

/// Why the kernel refused the program or its maps.
pub(super) fn load(error: &(dyn Error + 'static)) -> Failure {
    match errno(error) {
        Some(libc::EPERM | libc::EACCES) => permission(),
        _ => {
            let kernel = rustix::system::uname();
            let message = format!(
                "the kernel ({}) refused the XDP program, which needs Linux 5.15 or newer with CONFIG_BPF_SYSCALL and \
                 CONFIG_XDP_SOCKETS: {}",
                kernel.release().to_string_lossy(),
                whole(error)
            );
            Failure::new(exit::OS, message)
        }
    }
}

/// Why a map of an attached program can't be read or written.
pub(super) fn map(interface: &str, error: &(dyn Error + 'static)) -> Failure {
    let message = match errno(error) {
        Some(libc::E2BIG) => {
            format!("{interface}: the program has no room for more sessions or peers")
        }
        _ => format!(
            "the maps of the program on {interface} can't be used ({}): `mixctl xdp detach {interface}`, then attach",
            whole(error)
        ),
    };
    Failure::new(exit::OS, message)
}

/// Whether an interface can carry link datagrams at all.
pub(super) fn unsuitable(interface: &Interface) -> Result<(), Failure> {
    let Interface { name, mtu, .. } = interface;
    if interface.mac.is_none() {
        let message =
            format!("{name} is no Ethernet interface: attach to the one below it (`ip link`)");
        return Err(Failure::new(exit::OS, message));
    }
    if *mtu < MTU_MIN {
        let message = format!(
            "{name} has an MTU of {mtu} bytes, less than IPv6 and a datagram of Fogmix need: `ip link set dev {name} \
             mtu 1500`, or at least {MTU_MIN}"
        );
        return Err(Failure::new(exit::OS, message));
    }
    Ok(())
}

/// The kernel says no and the process has the usual capabilities.
fn permission() -> Failure {
    match missing_capabilities() {
        Err(failure) => failure,
        Ok(()) => Failure::new(
            exit::PERMISSION,
            "the kernel forbids BPF here although the capabilities are there: look for a seccomp filter, a security \
             module or lockdown",
        ),
    }
}

/// Why a socket or its memory could not be made.
pub(super) fn socket(what: &str, error: io::Error) -> Failure {
    let message = match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => return permission(),
        Some(libc::EAFNOSUPPORT) => {
            "the kernel has no AF_XDP sockets: it needs CONFIG_XDP_SOCKETS=y".to_owned()
        }
        Some(libc::ENOBUFS | libc::ENOMEM) => format!(
            "{what}: not enough memory may be locked ({error}): give the loader CAP_IPC_LOCK or LimitMEMLOCK=infinity, \
             or the node a smaller pool"
        ),
        Some(libc::EMFILE) => {
            format!("{what}: too many open files: raise LimitNOFILE of the loader")
        }
        _ => format!("{what}: {error}"),
    };
    Failure::new(exit::OS, message)
}

/// A queue stayed taken.
pub(super) fn queue_taken(interface: &str, queue: u32) -> Failure {
    let message = format!(
        "queue {queue} of {interface} is taken by another process's AF_XDP socket: stop that process (`ss --xdp` or \
         `lsof | grep XDP` may name it)"
    );
    Failure::new(exit::OS, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(mtu: u32) -> Interface {
        Interface {
            index: 2,
            name: "eth0".to_owned(),
            mac: None,
            mtu,
            up: true,
            program: Some((Mode::Native, 77)),
        }
    }

    #[test]
    fn every_refusal_names_the_interface_and_a_remedy() {
        for (number, mtu, remedy) in [
            (libc::EBUSY, 1500, "xdp off"),
            (libc::EEXIST, 1500, "77"),
            (libc::EOPNOTSUPP, 1500, "--allow-generic"),
            (libc::ERANGE, 1500, "mtu 1500"),
            (libc::EINVAL, 9000, "mtu 1500"),
            (libc::ENOMEM, 1500, "ethtool -L"),
            (libc::EINVAL, 1500, "--allow-generic"),
        ] {
            let error = io::Error::from_raw_os_error(number);
            let failure = attach(&interface(mtu), Mode::Native, &error);
            assert!(failure.message.contains("eth0"), "{failure}");
            assert!(failure.message.contains(remedy), "{number}: {failure}");
        }
    }

    #[test]
    fn what_can_not_carry_a_datagram_is_unsuitable() {
        let ethernet = |mtu| Interface {
            mac: Some([2; 6]),
            ..interface(mtu)
        };
        assert!(unsuitable(&ethernet(1280)).is_ok());
        assert!(
            unsuitable(&ethernet(1279))
                .unwrap_err()
                .message
                .contains("mtu 1500")
        );
        assert!(
            unsuitable(&interface(1500))
                .unwrap_err()
                .message
                .contains("no Ethernet")
        );
    }

    #[test]
    fn an_error_number_is_found_below_other_errors() {
        #[derive(Debug, thiserror::Error)]
        #[error("outer")]
        struct Outer(#[source] io::Error);
        let error = Outer(io::Error::from_raw_os_error(libc::ERANGE));
        assert_eq!(errno(&error), Some(libc::ERANGE));
        assert!(whole(&error).starts_with("outer: "));
        assert!(generic_might_work(&error));
        assert!(!generic_might_work(&Outer(io::Error::from_raw_os_error(
            libc::EBUSY
        ))));
    }
}
