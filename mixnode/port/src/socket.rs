//! UDP sockets of a node: options, addresses, and what the kernel made of them.
#![allow(
    unsafe_code,
    reason = "socket options and control messages without a safe call"
)]

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket};
use std::os::fd::AsRawFd;

use rustix::net::sockopt::{self, Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery};
use socket2::{Domain, Protocol, Socket, Type};

use crate::door;

/// How a worker's socket is opened.
#[derive(Clone, Copy, Debug)]
pub struct SocketOptions {
    /// Where to receive; port 0 lets the kernel choose.
    pub address: SocketAddr,
    /// Bytes of the kernel's receive buffer to ask for, and of its send buffer.
    pub receive_buffer_bytes: usize,
    /// Several workers share the port (SO_REUSEPORT); the lock of [`super::Exclusive`] keeps others out.
    pub shared: bool,
}

impl SocketOptions {
    /// One socket on `address` with room for about 1,600 datagrams in the kernel.
    pub fn new(address: SocketAddr) -> SocketOptions {
        SocketOptions {
            address,
            receive_buffer_bytes: 4 << 20,
            shared: false,
        }
    }
}

/// Opens and binds a UDP socket that never fragments, and takes in nothing but datagrams of
/// [`crate::pool::DATAGRAM_BYTES`].
///
/// # Errors
/// What the kernel answered: `AddrInUse`, `PermissionDenied`, `AddrNotAvailable`, …
pub fn open(options: &SocketOptions) -> io::Result<UdpSocket> {
    let socket = Socket::new(
        Domain::for_address(options.address),
        Type::DGRAM,
        Some(Protocol::UDP),
    )?;
    if options.address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    if options.shared {
        socket.set_reuse_port(true)?;
    }
    forbid_fragments(&socket, options.address)?;
    // Before it is bound: nothing else ever gets in.
    door::close_to_other_lengths(&socket)?;
    socket.set_recv_buffer_size(options.receive_buffer_bytes)?;
    socket.set_send_buffer_size(options.receive_buffer_bytes)?;
    socket.bind(&options.address.into())?;
    // The kernel doubles what it grants for its own bookkeeping and clamps silently.
    let asked = options.receive_buffer_bytes;
    let granted = socket.recv_buffer_size()? / 2;
    if granted < asked {
        tracing::warn!(
            asked,
            granted,
            "the kernel granted a smaller receive buffer: bursts may be lost; sysctl -w net.core.rmem_max={asked}"
        );
    }
    let granted = socket.send_buffer_size()? / 2;
    if granted < asked {
        tracing::warn!(
            asked,
            granted,
            "the kernel granted a smaller send buffer: neighbours that do not answer may hold everything up; \
             sysctl -w net.core.wmem_max={asked}"
        );
    }
    Ok(socket.into())
}

/// Sets DF and ignores learnt path MTUs: a datagram fits IPv6's minimum MTU, and a forged "fragmentation needed"
/// must not make the kernel cut it into pieces.
fn forbid_fragments(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    match address {
        SocketAddr::V4(_) => {
            sockopt::set_ip_mtu_discover(socket, Ipv4PathMtuDiscovery::PROBE)?;
        }
        SocketAddr::V6(_) => {
            sockopt::set_ipv6_mtu_discover(socket, Ipv6PathMtuDiscovery::PROBE)?;
        }
    }
    Ok(())
}

/// Has the kernel cut each send of `socket` into datagrams of `bytes` (UDP_SEGMENT).
///
/// # Errors
/// What the kernel answered: it is older than Linux 4.18, or `bytes` is no size of a datagram.
pub fn segment(socket: &UdpSocket, bytes: usize) -> io::Result<()> {
    let value = libc::c_int::try_from(bytes).map_err(io::Error::other)?;
    // SAFETY: the option takes one int, and that is what the pointer and the length describe.
    let outcome = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_UDP,
            libc::UDP_SEGMENT,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    match outcome {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// An address as the kernel writes it: room for both families.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) union KernelAddress {
    pub(crate) family: libc::sa_family_t,
    v4: libc::sockaddr_in,
    v6: libc::sockaddr_in6,
}

/// Bytes of the larger of the two.
pub(crate) const KERNEL_ADDRESS_BYTES: usize = size_of::<KernelAddress>();
const _: () = assert!(KERNEL_ADDRESS_BYTES == size_of::<libc::sockaddr_in6>());

impl KernelAddress {
    /// All zero: no family.
    pub(crate) fn empty() -> KernelAddress {
        // SAFETY: every field is plain data for which zero bytes are a value.
        unsafe { std::mem::zeroed() }
    }

    /// Writes `address`; returns the bytes that count.
    pub(crate) fn set(&mut self, address: SocketAddr) -> libc::socklen_t {
        *self = KernelAddress::empty();
        match address {
            SocketAddr::V4(address) => {
                self.v4 = libc::sockaddr_in {
                    sin_family: libc::AF_INET as libc::sa_family_t,
                    sin_port: address.port().to_be(),
                    sin_addr: libc::in_addr {
                        s_addr: u32::from_ne_bytes(address.ip().octets()),
                    },
                    sin_zero: [0; 8],
                };
                size_of::<libc::sockaddr_in>() as libc::socklen_t
            }
            SocketAddr::V6(address) => {
                self.v6 = libc::sockaddr_in6 {
                    sin6_family: libc::AF_INET6 as libc::sa_family_t,
                    sin6_port: address.port().to_be(),
                    sin6_flowinfo: address.flowinfo(),
                    sin6_addr: libc::in6_addr {
                        s6_addr: address.ip().octets(),
                    },
                    sin6_scope_id: address.scope_id(),
                };
                size_of::<libc::sockaddr_in6>() as libc::socklen_t
            }
        }
    }

    /// Reads what the kernel wrote. An unknown family (can't happen on a UDP socket) gives the unspecified
    /// address, which matches no session.
    pub(crate) fn get(&self) -> SocketAddr {
        // SAFETY: all bytes are initialised, and every field accepts every bit pattern.
        unsafe {
            match i32::from(self.family) {
                libc::AF_INET => {
                    let ip = Ipv4Addr::from(self.v4.sin_addr.s_addr.to_ne_bytes());
                    SocketAddr::V4(SocketAddrV4::new(ip, u16::from_be(self.v4.sin_port)))
                }
                libc::AF_INET6 => {
                    let ip = Ipv6Addr::from(self.v6.sin6_addr.s6_addr);
                    let port = u16::from_be(self.v6.sin6_port);
                    SocketAddr::V6(SocketAddrV6::new(ip, port, 0, self.v6.sin6_scope_id))
                }
                _ => SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_the_kernels_form() {
        for text in [
            "127.1.2.3:9000",
            "[::1]:9001",
            "[fe80::1%3]:65535",
            "255.255.255.255:1",
        ] {
            let address: SocketAddr = text.parse().unwrap();
            let mut kernel = KernelAddress::empty();
            let length = kernel.set(address);
            assert_eq!(length as usize, if address.is_ipv4() { 16 } else { 28 });
            assert_eq!(kernel.get(), address);
        }
        assert_eq!(KernelAddress::empty().get().port(), 0);
    }
}
