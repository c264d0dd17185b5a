//! Ethernet, IP and UDP headers around a datagram in its chunk: read where the kernel put them, written in place.
//!
//! A datagram lies [`HEADROOM_BYTES`] into its chunk. That is where the kernel puts it when the loader has set the
//! packet memory's headroom for the address family; a datagram that came to lie elsewhere (a VLAN tag before it) is
//! moved.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use ebpf_abi::{Packet, Parsed, parse};

use crate::pool::{CHUNK_BYTES, DATAGRAM_BYTES, HEADROOM_BYTES};

/// A link-layer address.
pub type Mac = [u8; 6];

const ETHERNET_BYTES: usize = 14;
const IPV4_BYTES: usize = 20;
const IPV6_BYTES: usize = 40;
const UDP_BYTES: usize = 8;
/// UDP header and datagram.
const UDP_LENGTH: u16 = (UDP_BYTES + DATAGRAM_BYTES) as u16;
/// Time to live, hop limit: Linux's default, like the kernel's own sockets.
const HOPS: u8 = 64;
const UDP: u8 = 17;

/// Bytes before the datagram in a frame to an address like `destination`.
pub const fn header_bytes(destination: &SocketAddr) -> usize {
    match destination {
        SocketAddr::V4(_) => V4_BYTES,
        SocketAddr::V6(_) => V6_BYTES,
    }
}

const _: () = assert!(V6_BYTES <= HEADROOM_BYTES);

/// Bytes before the datagram over IPv4.
const V4_BYTES: usize = ETHERNET_BYTES + IPV4_BYTES + UDP_BYTES;
/// Bytes before the datagram over IPv6.
const V6_BYTES: usize = ETHERNET_BYTES + IPV6_BYTES + UDP_BYTES;

/// The headers of a port's frames, but for where they go: with zeros there and in the checksums.
#[derive(Clone, Debug)]
pub struct Sender {
    address: SocketAddr,
    template: Template,
}

/// Headers, and the sums of what the checksums cover in them.
#[derive(Clone, Debug)]
enum Template {
    V4 {
        headers: [u8; V4_BYTES],
        ip: u64,
        udp: u64,
    },
    V6 {
        headers: [u8; V6_BYTES],
        udp: u64,
    },
}

impl Sender {
    /// Of a node at `address` behind an interface with the link-layer address `mac`.
    pub fn new(mac: Mac, address: SocketAddr) -> Sender {
        let udp = udp_header(address.port());
        // The pseudo-header's protocol and length are covered beside the header itself.
        let covered = sum(&udp) + u64::from(UDP) + u64::from(UDP_LENGTH);
        let template = match address {
            SocketAddr::V4(from) => {
                let ip = ipv4_header(*from.ip());
                Template::V4 {
                    headers: join(&[&ethernet_header(mac, 0x0800), &ip, &udp]),
                    ip: sum(&ip),
                    udp: covered + sum(&from.ip().octets()),
                }
            }
            SocketAddr::V6(from) => {
                let ip = ipv6_header(*from.ip());
                Template::V6 {
                    headers: join(&[&ethernet_header(mac, 0x86dd), &ip, &udp]),
                    udp: covered + sum(&from.ip().octets()),
                }
            }
        };
        Sender { address, template }
    }

    /// The node's address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Writes the headers of a frame to `destination`, whose next hop has the link-layer address `next_hop`, before the
    /// datagram in `chunk`. Returns the frame's place in the chunk, or `None` if the node's address is of another
    /// family than `destination`.
    #[inline]
    pub fn write(
        &self,
        chunk: &mut [u8; CHUNK_BYTES],
        destination: SocketAddr,
        next_hop: Mac,
    ) -> Option<std::ops::Range<usize>> {
        let (headroom, datagram) = chunk.split_at_mut(HEADROOM_BYTES);
        let datagram = datagram.first_chunk::<DATAGRAM_BYTES>()?;
        let port = destination.port().to_be_bytes();
        let bytes = match (&self.template, destination) {
            (Template::V4 { headers, ip, udp }, SocketAddr::V4(to)) => {
                let place = headroom.last_chunk_mut::<V4_BYTES>()?;
                *place = *headers;
                let to = to.ip().octets();
                let checksum = !fold(ip + sum(&to));
                place[..6].copy_from_slice(&next_hop);
                place[24..26].copy_from_slice(&checksum.to_be_bytes());
                place[30..34].copy_from_slice(&to);
                place[36..38].copy_from_slice(&port);
                let covered = udp + sum(&to) + u64::from(u16::from_be_bytes(port));
                place[40..].copy_from_slice(&udp_checksum(covered, datagram));
                V4_BYTES
            }
            (Template::V6 { headers, udp }, SocketAddr::V6(to)) => {
                let place = headroom.last_chunk_mut::<V6_BYTES>()?;
                *place = *headers;
                let to = to.ip().octets();
                place[..6].copy_from_slice(&next_hop);
                place[38..54].copy_from_slice(&to);
                place[56..58].copy_from_slice(&port);
                let covered = udp + sum(&to) + u64::from(u16::from_be_bytes(port));
                place[60..].copy_from_slice(&udp_checksum(covered, datagram));
                V6_BYTES
            }
            _ => return None,
        };
        Some(HEADROOM_BYTES - bytes..HEADROOM_BYTES + DATAGRAM_BYTES)
    }
}

/// Puts headers after each other; they fill `N` bytes.
fn join<const N: usize>(parts: &[&[u8]]) -> [u8; N] {
    let mut joined = [0; N];
    let bytes = parts.iter().copied().flatten();
    joined
        .iter_mut()
        .zip(bytes)
        .for_each(|(to, byte)| *to = *byte);
    joined
}

/// To nobody yet.
fn ethernet_header(from: Mac, ethertype: u16) -> [u8; ETHERNET_BYTES] {
    let mut header = [0; ETHERNET_BYTES];
    header[6..12].copy_from_slice(&from);
    header[12..].copy_from_slice(&ethertype.to_be_bytes());
    header
}

/// RFC 791; don't-fragment is set, so the identification means nothing (RFC 6864) and is zero, as the kernel sends it.
fn ipv4_header(from: Ipv4Addr) -> [u8; IPV4_BYTES] {
    let mut header = [0; IPV4_BYTES];
    header[0] = 0x45;
    header[2..4].copy_from_slice(&(IPV4_BYTES as u16 + UDP_LENGTH).to_be_bytes());
    header[6] = 0x40;
    header[8] = HOPS;
    header[9] = UDP;
    header[12..16].copy_from_slice(&from.octets());
    header
}

/// RFC 8200, traffic class and flow label zero.
fn ipv6_header(from: Ipv6Addr) -> [u8; IPV6_BYTES] {
    let mut header = [0; IPV6_BYTES];
    header[0] = 0x60;
    header[4..6].copy_from_slice(&UDP_LENGTH.to_be_bytes());
    header[6] = UDP;
    header[7] = HOPS;
    header[8..24].copy_from_slice(&from.octets());
    header
}

/// RFC 768.
fn udp_header(from: u16) -> [u8; UDP_BYTES] {
    let mut header = [0; UDP_BYTES];
    header[..2].copy_from_slice(&from.to_be_bytes());
    header[4..6].copy_from_slice(&UDP_LENGTH.to_be_bytes());
    header
}

/// The checksum over `covered`, a sum, and the datagram. Never sent as zero, which would mean "none" over IPv4 (RFC 768)
/// and is forbidden over IPv6 (RFC 8200, 8.1).
fn udp_checksum(covered: u64, datagram: &[u8; DATAGRAM_BYTES]) -> [u8; 2] {
    match !fold(covered + sum(datagram)) {
        0 => [0xff, 0xff],
        checksum => checksum.to_be_bytes(),
    }
}

/// Sum of `bytes` as big-endian 16-bit words (RFC 1071), folded. Eight bytes at a time in the machine's order, in four
/// sums that don't wait for each other; order and width are put right at the end, for the sum does not depend on them
/// (RFC 1071, 2). Sums of 128 bits are an addition and one of its carry: several times faster than what the compiler
/// makes of narrower ones with the vector instructions every x86-64 has.
fn sum<const N: usize>(bytes: &[u8; N]) -> u64 {
    const { assert!(N.is_multiple_of(4)) };
    let (blocks, rest) = bytes.as_chunks::<32>();
    let mut lanes = [0_u128; 4];
    for block in blocks {
        for (lane, word) in lanes.iter_mut().zip(block.as_chunks::<8>().0) {
            *lane += u128::from(u64::from_ne_bytes(*word));
        }
    }
    let mut native: u128 = lanes.iter().sum();
    for word in rest.as_chunks::<4>().0 {
        native += u128::from(u32::from_ne_bytes(*word));
    }
    let native = u64::from(fold(native as u64)) + u64::from(fold((native >> 64) as u64));
    u64::from(u16::from_ne_bytes(fold(native).to_be_bytes()))
}

/// Adds the carries back in until 16 bits are left.
fn fold(sum: u64) -> u16 {
    let sum = (sum >> 32) + (sum & 0xffff_ffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    sum as u16
}

/// A frame of ours: who sent it and where its datagram starts, counted from the frame's first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrived {
    /// The sender's address as the packet has it.
    pub source: SocketAddr,
    /// Offset of the datagram.
    pub datagram: usize,
}

/// Reads the headers of `frame`, which came in on an interface numbered `interface_index`. `None` unless it is a
/// datagram of the right size to `receiver` that the XDP program would steer here. Checksums are not looked at: veth
/// leaves them unfinished, NICs have checked them, and the AEAD inside does.
pub fn read(frame: &[u8], receiver: SocketAddr, interface_index: u32) -> Option<Arrived> {
    let Parsed::Ours(..) = parse(frame, &receiver.into()) else {
        return None;
    };
    // The parser has followed the tags; all that is left to find is how many there were.
    let mut offset = 12;
    let ethertype = loop {
        match u16::from_be_bytes(frame.read(offset)?) {
            0x8100 | 0x88a8 => offset += 4,
            ethertype => break ethertype,
        }
    };
    let ip = offset + 2;
    // No options and no extension headers: the parser has none of ours with any.
    let (source, udp) = match ethertype {
        0x0800 => (IpAddr::from(frame.read::<4>(ip + 12)?), ip + IPV4_BYTES),
        _ => (IpAddr::from(frame.read::<16>(ip + 8)?), ip + IPV6_BYTES),
    };
    let port = u16::from_be_bytes(frame.read(udp)?);
    let source = match source {
        IpAddr::V4(ip) => SocketAddr::V4(SocketAddrV4::new(ip, port)),
        IpAddr::V6(ip) => {
            // As the kernel's sockets say it: an address of the link belongs to the interface.
            let scope = if ip.is_unicast_link_local() {
                interface_index
            } else {
                0
            };
            SocketAddr::V6(SocketAddrV6::new(ip, port, 0, scope))
        }
    };
    Some(Arrived {
        source,
        datagram: udp + UDP_BYTES,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 1071 word by word, as an oracle.
    fn oracle(words: impl IntoIterator<Item = u8>) -> u16 {
        let bytes: Vec<u8> = words.into_iter().collect();
        let mut sum = 0_u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum as u16
    }

    fn addresses(
        v6: bool,
        a: [u8; 16],
        b: [u8; 16],
        ports: (u16, u16),
    ) -> (SocketAddr, SocketAddr) {
        let ip = |bytes: [u8; 16]| match v6 {
            true => IpAddr::from(bytes),
            false => IpAddr::from(*bytes.first_chunk::<4>().unwrap()),
        };
        (
            SocketAddr::new(ip(a), ports.0),
            SocketAddr::new(ip(b), ports.1),
        )
    }

    proptest! {
        #[test]
        fn a_written_frame_has_right_checksums_and_is_read_back(
            v6: bool, a: [u8; 16], b: [u8; 16], ports in (1_u16.., 1_u16..), fill: u8, seed: u64,
            tags in 0_usize..3,
        ) {
            let (from, to) = addresses(v6, a, b, ports);
            let mut chunk = [0xaa; CHUNK_BYTES];
            let mut state = seed;
            for byte in &mut chunk[HEADROOM_BYTES..] {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                *byte = (state >> 56) as u8 & fill;
            }
            // A data frame's type.
            chunk[HEADROOM_BYTES] = 1;
            chunk[HEADROOM_BYTES + 1..HEADROOM_BYTES + 4].fill(0);
            let before = chunk;
            let sender = Sender::new([2, 0, 0, 0, 0, 1], from);
            let place = sender.write(&mut chunk, to, [2, 0, 0, 0, 0, 2]).unwrap();
            prop_assert_eq!(&chunk[..place.start], &before[..place.start]);
            prop_assert_eq!(&chunk[HEADROOM_BYTES..], &before[HEADROOM_BYTES..]);
            prop_assert_eq!(place.len(), header_bytes(&to) + DATAGRAM_BYTES);
            let mut frame = chunk[place].to_vec();
            let (ip_bytes, address_bytes) = if v6 { (40, 8..40) } else { (20, 12..20) };
            let udp = &frame[14 + ip_bytes..];
            if !v6 {
                prop_assert_eq!(oracle(frame[14..34].iter().copied()), 0xffff);
            }
            let pseudo = frame[14..][address_bytes].iter().copied()
                .chain([0, 17]).chain(UDP_LENGTH.to_be_bytes());
            prop_assert_eq!(oracle(pseudo.chain(udp.iter().copied())), 0xffff);
            prop_assert_ne!(&udp[6..8], &[0, 0]);
            for _ in 0..tags {
                // A priority, and no VLAN.
                frame.splice(12..12, [0x81, 0, 0xa0, 0]);
            }
            let arrived = read(&frame, to, 0).unwrap();
            prop_assert_eq!((arrived.source.ip(), arrived.source.port()), (from.ip(), from.port()));
            prop_assert_eq!(&frame[arrived.datagram..], &chunk[HEADROOM_BYTES..][..DATAGRAM_BYTES]);
            let mut elsewhere = frame.clone();
            elsewhere.splice(12..12, [0x81, 0, 0, 5]);
            prop_assert!(read(&elsewhere, to, 0).is_none(), "another VLAN's is not ours");
            // To another port, or another address, it is not ours.
            prop_assert!(read(&frame, SocketAddr::new(to.ip(), to.port() ^ 1), 0).is_none());
            if from.ip() != to.ip() && !from.ip().is_unspecified() {
                prop_assert!(read(&frame, SocketAddr::new(from.ip(), to.port()), 0).is_none());
            }
        }

        #[test]
        fn no_bytes_make_reading_panic(frame in proptest::collection::vec(any::<u8>(), 0..1_400), cut in 0_usize..1_400) {
            let receiver = "10.0.0.1:9000".parse().unwrap();
            let _ = read(&frame, receiver, 1);
            let mut chunk = [1; CHUNK_BYTES];
            chunk[HEADROOM_BYTES + 1..HEADROOM_BYTES + 4].fill(0);
            let sender = Sender::new([0; 6], receiver);
            let place = sender.write(&mut chunk, receiver, [0; 6]).unwrap();
            let whole = &chunk[place];
            prop_assert!(read(whole, receiver, 1).is_some());
            if let Some(short) = whole.get(..cut) {
                prop_assert!(cut == whole.len() || read(short, receiver, 1).is_none());
            }
        }
    }

    #[test]
    fn a_checksum_that_comes_out_as_zero_is_sent_as_all_ones() {
        let (from, to) = (
            "[2001:db8::1]:1".parse().unwrap(),
            "[2001:db8::2]:2".parse().unwrap(),
        );
        let sender = Sender::new([0; 6], from);
        let mut chunk = [0; CHUNK_BYTES];
        let checksum = |chunk: &mut [u8; CHUNK_BYTES]| {
            sender.write(chunk, to, [0; 6]).unwrap();
            u16::from_be_bytes([chunk[HEADROOM_BYTES - 2], chunk[HEADROOM_BYTES - 1]])
        };
        // Adding the checksum itself to the data makes the next one zero.
        let first = checksum(&mut chunk);
        chunk[HEADROOM_BYTES..HEADROOM_BYTES + 2].copy_from_slice(&first.to_be_bytes());
        assert_eq!(checksum(&mut chunk), 0xffff);
    }

    #[test]
    fn addresses_of_two_families_make_no_frame() {
        let sender = Sender::new([0; 6], "10.0.0.1:1".parse().unwrap());
        let mut chunk = [0; CHUNK_BYTES];
        assert!(
            sender
                .write(&mut chunk, "[::1]:1".parse().unwrap(), [0; 6])
                .is_none()
        );
    }

    #[test]
    fn a_neighbour_by_its_link_local_address_belongs_to_the_interface() {
        let from: SocketAddr = "[fe80::1]:7".parse().unwrap();
        let to = "[fe80::2]:9".parse().unwrap();
        let mut chunk = [0; CHUNK_BYTES];
        chunk[HEADROOM_BYTES] = 4;
        let sender = Sender::new([0; 6], from);
        let place = sender.write(&mut chunk, to, [0; 6]).unwrap();
        let arrived = read(&chunk[place], to, 3).unwrap();
        assert_eq!(arrived.source, "[fe80::1%3]:7".parse().unwrap());
    }
}
