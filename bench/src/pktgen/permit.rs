//! Where datagrams may be sent to: this is no weapon.

use std::io;
use std::net::{IpAddr, SocketAddr};

use crate::lost::refused;

/// Whether an address is of a host whose owner need not be asked for: this one, or one in a network that no router of the
/// Internet carries (RFC 1918, 3927, 4193, 4291).
fn is_near(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_private() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

/// Whether an address is one host's.
fn is_one_hosts(ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    let is_broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    !(ip.is_unspecified() || ip.is_multicast() || is_broadcast)
}

/// Lets `what` go to `target`, which belongs to whoever asks: by its address, as `is_own` says, or by their word.
///
/// # Errors
/// It may not.
pub(super) fn check(
    what: &str,
    target: SocketAddr,
    is_own: bool,
    has_word: bool,
) -> io::Result<()> {
    if !is_one_hosts(target.ip()) || target.port() == 0 {
        return Err(refused(format!(
            "--target {target} is no address of one host"
        )));
    }
    match is_near(target.ip()) || is_own || has_word {
        true => Ok(()),
        false => Err(refused(format!(
            "--target {target}: {what} goes to this host, to private networks and to nodes of one's own alone; if that \
             host is yours, say so with --i-own-this-host"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(target: &str, is_own: bool, has_word: bool) -> Result<(), String> {
        let checked = check("junk", target.parse().unwrap(), is_own, has_word);
        checked.map_err(|error| {
            assert_eq!(crate::lost::exit_code(&error), 64);
            error.to_string()
        })
    }

    #[test]
    fn junk_goes_to_this_host_and_to_private_networks() {
        for near in [
            "127.0.0.1:9000",
            "127.1.3.1:9000",
            "10.1.2.3:1",
            "172.31.0.1:9000",
            "192.168.0.1:65535",
            "169.254.1.1:9000",
            "[::1]:9000",
            "[fd77::1]:9000",
            "[fe80::1%2]:9000",
            "[::ffff:10.0.0.1]:9000",
        ] {
            assert_eq!(answer(near, false, false), Ok(()), "{near}");
        }
    }

    #[test]
    fn junk_goes_nowhere_else_without_a_word_of_the_owner() {
        for far in [
            "192.0.2.1:9000",
            "172.32.0.1:9000",
            "8.8.8.8:53",
            "100.64.0.1:9000",
            "[2001:db8::1]:9000",
            "[::ffff:192.0.2.1]:9000",
        ] {
            let said = answer(far, false, false).unwrap_err();
            assert!(said.contains("--i-own-this-host"), "{said}");
            assert_eq!(answer(far, false, true), Ok(()), "{far}");
            assert_eq!(answer(far, true, false), Ok(()), "{far}");
        }
    }

    #[test]
    fn many_hosts_and_none_are_no_target_whoever_owns_them() {
        for wrong in [
            "0.0.0.0:9000",
            "[::]:9000",
            "255.255.255.255:9000",
            "224.0.0.1:9000",
            "[ff02::1]:9000",
            "127.0.0.1:0",
        ] {
            let said = answer(wrong, true, true).unwrap_err();
            assert!(said.contains("no address of one host"), "{wrong}: {said}");
        }
    }
}
