//! What the kernel's refusals mean: a missing capability, a filter, another program, the driver's limits.

use std::error::Error;
use std::io;

use handover::protocol::Mode;
use rustix::thread::CapabilitySet;

use super::interface::Interface;
use crate::error::LoaderError;

/// The smallest MTU that every IPv6 link has (RFC 8200); a datagram with its headers fits.
pub(super) const MTU_MIN: u32 = 1280;
/// Ethernet's own, which every driver with native XDP takes.
const ETHERNET_MTU: u32 = 1500;

/// The capabilities the loader can't do without; CAP_SYS_ADMIN stands in for the newer two.
const CAPABILITIES: [(&str, CapabilitySet, bool); 4] = [
    ("CAP_BPF", CapabilitySet::BPF, true),
    ("CAP_PERFMON", CapabilitySet::PERFMON, true),
    ("CAP_NET_ADMIN", CapabilitySet::NET_ADMIN, false),
    ("CAP_NET_RAW", CapabilitySet::NET_RAW, false),
];

/// Names the capabilities this process lacks.
pub(super) fn missing_capabilities() -> Result<(), LoaderError> {
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
    match missing.is_empty() {
        true => Ok(()),
        false => Err(LoaderError::MissingCapabilities { missing }),
    }
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
pub(super) fn attach(
    interface: &Interface,
    mode: Mode,
    error: &(dyn Error + 'static),
) -> LoaderError {
    let (name, mtu) = (interface.name.clone(), interface.mtu);
    match errno(error) {
        Some(libc::EPERM | libc::EACCES) => permission(),
        Some(libc::EBUSY | libc::EEXIST) => LoaderError::OtherProgram {
            interface: name,
            program: interface.program.map(|(_, id)| id),
        },
        Some(libc::ENODEV) => LoaderError::InterfaceGone { interface: name },
        _ if mode == Mode::Generic => LoaderError::NoMode {
            interface: name,
            error: whole(error),
        },
        Some(libc::EOPNOTSUPP) => LoaderError::NoNativeMode { interface: name },
        Some(libc::ERANGE) => LoaderError::MtuTooLarge {
            interface: name,
            mtu,
        },
        Some(_) if mtu > ETHERNET_MTU => LoaderError::MtuTooLarge {
            interface: name,
            mtu,
        },
        Some(libc::ENOMEM | libc::ENOSPC) => LoaderError::NoQueuesLeft { interface: name },
        _ => LoaderError::DriverRefuses {
            interface: name,
            error: whole(error),
        },
    }
}

/// Why the kernel refused the program or its maps.
pub(super) fn load(error: &(dyn Error + 'static)) -> LoaderError {
    match errno(error) {
        Some(libc::EPERM | libc::EACCES) => permission(),
        _ => LoaderError::KernelRefuses {
            release: rustix::system::uname()
                .release()
                .to_string_lossy()
                .into_owned(),
            error: whole(error),
        },
    }
}

/// Why a map of an attached program can't be read or written.
pub(super) fn map(interface: &str, error: &(dyn Error + 'static)) -> LoaderError {
    let interface = interface.to_owned();
    match errno(error) {
        Some(libc::E2BIG) => LoaderError::Full { interface },
        _ => LoaderError::Maps {
            interface,
            error: whole(error),
        },
    }
}

/// Whether an interface can carry link datagrams at all.
pub(super) fn unsuitable(interface: &Interface) -> Result<(), LoaderError> {
    let name = || interface.name.clone();
    if interface.aggregate {
        return Err(LoaderError::Aggregate { interface: name() });
    }
    if interface.mac.is_none() {
        return Err(LoaderError::NotEthernet { interface: name() });
    }
    if interface.mtu < MTU_MIN {
        return Err(LoaderError::MtuTooSmall {
            interface: name(),
            mtu: interface.mtu,
            least: MTU_MIN,
        });
    }
    Ok(())
}

/// The kernel says no: for want of a capability, or although they are all there.
fn permission() -> LoaderError {
    missing_capabilities()
        .err()
        .unwrap_or(LoaderError::Forbidden)
}

/// Why a socket or its memory could not be made.
pub(super) fn socket(what: &str, error: io::Error) -> LoaderError {
    let what = what.to_owned();
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => permission(),
        Some(libc::EAFNOSUPPORT) => LoaderError::NoAfXdp,
        Some(libc::ENOBUFS | libc::ENOMEM) => LoaderError::Memory { what, error },
        Some(libc::EMFILE) => LoaderError::Descriptors { what },
        _ => LoaderError::Socket { what, error },
    }
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
            aggregate: false,
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
            let why = attach(&interface(mtu), Mode::Native, &error).to_string();
            assert!(why.contains("eth0"), "{why}");
            assert!(why.contains(remedy), "{number}: {why}");
        }
    }

    #[test]
    fn what_can_not_carry_a_datagram_is_unsuitable() {
        let ethernet = |mtu| Interface {
            mac: Some([2; 6]),
            ..interface(mtu)
        };
        assert!(unsuitable(&ethernet(1280)).is_ok());
        assert!(matches!(
            unsuitable(&ethernet(1279)).unwrap_err(),
            LoaderError::MtuTooSmall { mtu: 1279, .. }
        ));
        let bond = unsuitable(&Interface {
            aggregate: true,
            ..ethernet(1500)
        });
        let bond = bond.unwrap_err().to_string();
        assert!(bond.contains("eth0 is a bond"), "{bond}");
        assert!(matches!(
            unsuitable(&interface(1500)).unwrap_err(),
            LoaderError::NotEthernet { .. }
        ));
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
