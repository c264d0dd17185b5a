//! Where something comes from, as far as sources are counted: who has one address of a network may have them all.

use std::net::IpAddr;

/// An address or a network of addresses, IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix([u8; 9]);

impl Prefix {
    /// In order none comes after it.
    pub const LAST: Prefix = Prefix([u8::MAX; 9]);

    /// The network that one customer or one site may have whole: /24 of IPv4, /48 of IPv6.
    pub fn network(address: IpAddr) -> Prefix {
        Prefix::of(address, 3, 6)
    }

    /// What one customer of a registry may have whole, as many networks: /16 of IPv4, /32 of IPv6.
    pub fn block(address: IpAddr) -> Prefix {
        Prefix::of(address, 2, 4)
    }

    /// What one host may have whole: /32 of IPv4, /64 of IPv6.
    pub fn host(address: IpAddr) -> Prefix {
        Prefix::of(address, 4, 8)
    }

    fn of(address: IpAddr, bytes_v4: usize, bytes_v6: usize) -> Prefix {
        let mut prefix = [0; 9];
        let [family, rest @ ..] = &mut prefix;
        let mut copy = |octets: &[u8], bytes: usize| {
            let octets = octets.iter().take(bytes);
            rest.iter_mut()
                .zip(octets)
                .for_each(|(place, octet)| *place = *octet);
        };
        match address.to_canonical() {
            IpAddr::V4(v4) => {
                copy(&v4.octets(), bytes_v4);
                *family = 4;
            }
            IpAddr::V6(v6) => {
                copy(&v6.octets(), bytes_v6);
                *family = 6;
            }
        }
        Prefix(prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_as_long_as_it_says_and_families_are_apart() {
        let at = |text: &str| text.parse::<IpAddr>().unwrap();
        let network = |text| Prefix::network(at(text));
        let host = |text| Prefix::host(at(text));
        let block = |text| Prefix::block(at(text));
        assert_eq!(network("192.0.2.1"), network("192.0.2.254"));
        assert_ne!(network("192.0.2.1"), network("192.0.3.1"));
        assert_ne!(host("192.0.2.1"), host("192.0.2.2"));
        assert_eq!(block("192.0.2.1"), block("192.0.255.1"));
        assert_ne!(block("192.0.2.1"), block("192.1.2.1"));
        assert_eq!(block("2001:db8:1::1"), block("2001:db8:ffff::1"));
        assert_ne!(block("2001:db8::1"), block("2001:db9::1"));
        assert!(host("ffff:ffff:ffff:ffff::1") < Prefix::LAST);
        assert_eq!(network("2001:db8:1:2::1"), network("2001:db8:1:3::1"));
        assert_ne!(network("2001:db8:1::1"), network("2001:db8:2::1"));
        assert_eq!(host("2001:db8:1:2::1"), host("2001:db8:1:2:ffff::9"));
        assert_ne!(host("2001:db8:1:2::1"), host("2001:db8:1:3::1"));
        assert_ne!(network("2001:db8:1:2::1"), host("2001:db8:1:2::1"));
        assert_eq!(host("::ffff:192.0.2.1"), host("192.0.2.1"));
        assert_ne!(host("4::"), host("0.4.0.0"));
    }
}
