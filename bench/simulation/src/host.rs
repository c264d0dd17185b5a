//! Who is where on the simulated network.

use std::net::{IpAddr, SocketAddr};

/// Each node has a /24 of its own in 10/8: paths avoid neighbours.
const NODE_PORT: u16 = 9_000;
/// Neighbours in number are of different blocks of networks, as people are: a gateway counts its clients by block.
const USER_NETS: u8 = 172;
const USER_PORT: u16 = 5_000;

/// Someone on the simulated network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    /// A node, by its number in the world.
    Node(usize),
    /// A user, by number.
    User(usize),
}

impl Host {
    /// Where it is.
    pub fn address(self) -> SocketAddr {
        match self {
            Host::Node(number) => {
                let [high, low] = (number as u16).to_be_bytes();
                SocketAddr::from(([10, high, low, 1], NODE_PORT))
            }
            Host::User(number) => {
                let [high, low] = (number as u16).to_be_bytes();
                SocketAddr::from(([USER_NETS, low, high, 1], USER_PORT))
            }
        }
    }

    /// Who is there.
    pub fn at(address: SocketAddr) -> Option<Host> {
        let IpAddr::V4(ip) = address.ip() else {
            return None;
        };
        let host = match (ip.octets(), address.port()) {
            ([10, high, low, 1], NODE_PORT) => {
                Host::Node(usize::from(u16::from_be_bytes([high, low])))
            }
            ([USER_NETS, low, high, 1], USER_PORT) => {
                Host::User(usize::from(u16::from_be_bytes([high, low])))
            }
            _ => return None,
        };
        Some(host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_host_is_found_at_its_address() {
        for number in [0, 1, 255, 256, 3_000, 65_535] {
            for host in [Host::Node(number), Host::User(number)] {
                assert_eq!(Host::at(host.address()), Some(host));
            }
        }
        assert_eq!(Host::at("[::1]:9000".parse().unwrap()), None);
        assert_eq!(Host::at("10.0.0.2:9000".parse().unwrap()), None);
        assert_eq!(Host::at("9.9.9.9:5000".parse().unwrap()), None);
    }
}
