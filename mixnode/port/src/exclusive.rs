//! One process per UDP port.
//!
//! Workers share a port under SO_REUSEPORT, which would let a second process of the same user join in and take
//! part of the traffic. Two checks keep it out, and both vanish with the process, however it dies:
//! an abstract unix socket named after the address, held for life, and a bind without SO_REUSEPORT before the
//! workers' own, which fails if anyone at all has the port, also through a wildcard address.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixListener};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

/// The kernel may hold a dead process's port for some milliseconds more (longer under io_uring), so the bind is
/// repeated for a while before it counts.
const ATTEMPTS: u32 = 100;
const PAUSE: Duration = Duration::from_millis(10);

/// Why a port can't be had.
#[derive(Debug, thiserror::Error)]
pub enum ExclusiveError {
    /// Another mixnode holds it.
    #[error(
        "another mixnode process already receives on {0}: stop it, or choose another address in [node] listen"
    )]
    OtherNode(SocketAddr),
    /// Another program holds it.
    #[error(
        "another program already receives on {0}: see `ss -ulpn`, or choose another address in [node] listen"
    )]
    OtherProgram(SocketAddr),
    /// Low ports need a privilege.
    #[error(
        "no permission to receive on {0}: ports below net.ipv4.ip_unprivileged_port_start need CAP_NET_BIND_SERVICE"
    )]
    Permission(SocketAddr),
    /// The address is not this host's.
    #[error("{0} is not an address of this host: see `ip address`, or correct [node] listen")]
    NotLocal(SocketAddr),
    /// Everybody's on its network.
    #[error("{0} is a broadcast address: name the one of this host")]
    Broadcast(SocketAddr),
    /// Anything else the kernel said.
    #[error("can't receive on {0}: {1}")]
    Other(SocketAddr, #[source] io::Error),
}

/// The right to receive on one UDP address; released when dropped, or by the kernel with the process.
#[derive(Debug)]
pub struct Exclusive {
    address: SocketAddr,
    /// None where a stranger squats on the name.
    _lock: Option<UnixListener>,
}

impl Exclusive {
    /// Takes the right to `address`. With port 0 the kernel chooses one; see [`Exclusive::address`].
    ///
    /// # Errors
    /// [`ExclusiveError`], worded for the operator. May take a second to be sure.
    pub fn acquire(address: SocketAddr) -> Result<Exclusive, ExclusiveError> {
        if address.port() == 0 {
            let address = probe(address).and_then(|socket| socket.local_addr());
            let address =
                address.map_err(|error| explain(SocketAddr::from(([0, 0, 0, 0], 0)), error))?;
            return Exclusive::acquire(address);
        }
        let lock = match lock(address) {
            Ok(lock) => Some(lock),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                if is_held_by_us(address) {
                    return Err(ExclusiveError::OtherNode(address));
                }
                // The name is anyone's to take; the port is not: who can't join it under SO_REUSEPORT, which is for one
                // user's processes, can't hold it either without the bind below noticing.
                None
            }
            Err(error) => return Err(ExclusiveError::Other(address, error)),
        };
        probe_patiently(address).map_err(|error| explain(address, error))?;
        Ok(Exclusive {
            address,
            _lock: lock,
        })
    }

    /// Whether `address` could be had now, without taking it. Nobody is kept from taking it meanwhile.
    ///
    /// # Errors
    /// As for [`Exclusive::acquire`].
    pub fn examine(address: SocketAddr) -> Result<(), ExclusiveError> {
        let Err(error) = probe(address) else {
            return sends_from(address);
        };
        // Only a node's own lock tells it from other programs; a start that comes at this moment fails anyway.
        if error.kind() == io::ErrorKind::AddrInUse && is_held_by_us(address) {
            return Err(ExclusiveError::OtherNode(address));
        }
        probe_patiently(address).map_err(|error| explain(address, error))
    }

    /// The address, its port chosen.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// An abstract unix socket belongs to the network namespace, as UDP ports do, and leaves no file behind.
fn lock(address: SocketAddr) -> io::Result<UnixListener> {
    UnixListener::bind_addr(&UnixAddress::from_abstract_name(format!(
        "fogmix/udp/{address}"
    ))?)
}

/// Whether a process of this user holds the name: the kernel says who listens there. One that can't be asked, for want of
/// room in its queue, may be a stranger's.
fn is_held_by_us(address: SocketAddr) -> bool {
    let ours = rustix::process::geteuid();
    let holder = || -> io::Result<rustix::process::Uid> {
        let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
        let name = format!("\0fogmix/udp/{address}");
        socket.connect(&socket2::SockAddr::unix(name)?)?;
        Ok(rustix::net::sockopt::socket_peercred(&socket)?.uid)
    };
    holder().is_ok_and(|uid| uid == ours)
}

/// The kernel binds to an address that is a network's broadcast, and then sends nothing from it.
fn sends_from(address: SocketAddr) -> Result<(), ExclusiveError> {
    let reached = probe(address).and_then(|socket| socket.connect(address));
    match reached {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Err(ExclusiveError::Broadcast(address))
        }
        _ => Ok(()),
    }
}

/// Binds alone, and lets go; tries for a while.
fn probe_patiently(address: SocketAddr) -> io::Result<()> {
    for attempt in 1.. {
        match probe(address) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && attempt < ATTEMPTS => {
                std::thread::sleep(PAUSE);
            }
            Err(error) => return Err(error),
            Ok(_) => break,
        }
    }
    Ok(())
}

/// Binds alone, and lets go.
fn probe(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::DGRAM,
        Some(Protocol::UDP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    Ok(socket.into())
}

fn explain(address: SocketAddr, error: io::Error) -> ExclusiveError {
    match error.kind() {
        io::ErrorKind::AddrInUse => ExclusiveError::OtherProgram(address),
        io::ErrorKind::PermissionDenied => ExclusiveError::Permission(address),
        io::ErrorKind::AddrNotAvailable => ExclusiveError::NotLocal(address),
        _ => ExclusiveError::Other(address, error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holder_is_refused_and_a_later_one_let_in() {
        let first = Exclusive::acquire("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = first.address();
        assert!(matches!(
            Exclusive::acquire(address),
            Err(ExclusiveError::OtherNode(_))
        ));
        drop(first);
        assert_eq!(Exclusive::acquire(address).unwrap().address(), address);
    }

    #[test]
    fn a_foreign_socket_is_noticed_also_under_a_wildcard_address() {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        let refused = Exclusive::acquire(SocketAddr::from(([127, 0, 0, 1], port)));
        assert!(
            matches!(refused, Err(ExclusiveError::OtherProgram(_))),
            "{refused:?}"
        );
    }

    #[test]
    #[ignore = "takes another user's identity, which needs root"]
    fn a_stranger_who_squats_on_the_name_keeps_no_node_from_its_port() {
        let address = Exclusive::acquire("127.0.0.1:0".parse().unwrap())
            .unwrap()
            .address();
        // The identity of a thread: the kernel notes who listens.
        let squatter = std::thread::spawn(move || {
            rustix::thread::set_thread_uid(rustix::process::Uid::from_raw(65_534)).unwrap();
            lock(address).unwrap()
        });
        let _squatter = squatter.join().unwrap();
        assert_eq!(Exclusive::acquire(address).unwrap().address(), address);
        // Whoever has the port itself is noticed all the same.
        let socket = UdpSocket::bind(address).unwrap();
        let refused = Exclusive::acquire(address);
        assert!(
            matches!(refused, Err(ExclusiveError::OtherProgram(_))),
            "{refused:?}"
        );
        drop(socket);
    }

    #[test]
    fn a_foreign_address_is_named_as_such() {
        let refused = Exclusive::acquire("192.0.2.1:9000".parse().unwrap());
        assert!(
            matches!(refused, Err(ExclusiveError::NotLocal(_))),
            "{refused:?}"
        );
    }
}
