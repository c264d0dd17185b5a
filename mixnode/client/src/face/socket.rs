//! The client's socket.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use rustix::net::sockopt::{self, Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery};

/// A socket for datagrams to gateways of this family.
pub(super) fn open(v6: bool) -> io::Result<UdpSocket> {
    let any: SocketAddr = if v6 {
        (Ipv6Addr::UNSPECIFIED, 0).into()
    } else {
        (Ipv4Addr::UNSPECIFIED, 0).into()
    };
    let socket = UdpSocket::bind(any)?;
    socket.set_nonblocking(true)?;
    // As nodes do: DF, and no path MTU that somebody tells. A datagram fits IPv6's minimum MTU, and who forges
    // "fragmentation needed" would have this client send fragments, which stand out and which nodes drop. Without DF the
    // kernel numbers what this host sends, all sockets together, in each datagram's identification.
    if v6 {
        sockopt::set_ipv6_mtu_discover(&socket, Ipv6PathMtuDiscovery::PROBE)?;
    } else {
        sockopt::set_ip_mtu_discover(&socket, Ipv4PathMtuDiscovery::PROBE)?;
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attack_who_forges_fragmentation_needed_has_no_client_send_fragments() {
        let socket = open(false).unwrap();
        let set = sockopt::ip_mtu_discover(&socket).unwrap();
        assert_eq!(set, Ipv4PathMtuDiscovery::PROBE);
        // A host may have no IPv6.
        if let Ok(socket) = open(true) {
            let set = sockopt::ipv6_mtu_discover(&socket).unwrap();
            assert_eq!(set, Ipv6PathMtuDiscovery::PROBE);
        }
    }
}
