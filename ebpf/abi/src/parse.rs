//! The one packet parser: Ethernet with up to two VLAN tags, IPv4 or IPv6, UDP, and the clear
//! bytes of a link datagram (mixnode/link/SPEC.md). It decides without any map: what follows in
//! the program (receiver index, rates, socket) is short.
//!
//! What is not ours passes, whatever it looks like; what is ours must be exact. A packet is ours
//! once its UDP destination port says so.
use core::net::{IpAddr, SocketAddr};

use crate::Reason;

/// UDP payload of every link datagram, in bytes.
pub const DATAGRAM_BYTES: usize = 1_232;
/// VLAN tags that are followed.
pub const TAGS_MAX: usize = 2;
/// IPv6 extension headers that are followed.
pub const EXTENSIONS_MAX: usize = 4;

const UDP_BYTES: usize = 8;
/// Where an initiation's mac2 is, its last 16 bytes: zero from whoever has no cookie.
const MAC2_OFFSET: usize = DATAGRAM_BYTES - 16;

/// An address as one number: IPv4 mapped into IPv6.
pub type Address = [u8; 16];

/// What makes a packet ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receiver {
    /// The node's UDP port.
    pub port: u16,
    /// The node's address; zero stands for any.
    pub address: Address,
}

impl Receiver {
    /// At any address.
    pub const fn any(port: u16) -> Self {
        Self {
            port,
            address: [0; 16],
        }
    }
}

impl From<SocketAddr> for Receiver {
    #[inline]
    fn from(address: SocketAddr) -> Self {
        Self {
            port: address.port(),
            address: match address.ip() {
                ip if ip.is_unspecified() => [0; 16],
                IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
                IpAddr::V6(ip) => ip.octets(),
            },
        }
    }
}

/// Whether two addresses are the same one: without a call of `memcmp`, which the kernel does not have.
#[inline(always)]
pub const fn same(one: &Address, other: &Address) -> bool {
    u128::from_ne_bytes(*one) == u128::from_ne_bytes(*other)
}

/// A frame that can be read at any offset: a slice on the host, the packet pointers in the kernel.
pub trait Packet {
    /// The `N` bytes at `offset`, or `None` if the frame ends before them.
    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]>;
}

impl Packet for [u8] {
    #[inline(always)]
    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        self.get(offset..)?.first_chunk().copied()
    }
}

/// A datagram of ours that is in order as far as its clear bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Datagram {
    /// A handshake's first message: nobody knows its sender yet.
    Initiation {
        /// Whether its mac2 is not zero: its sender says that it was given a cookie.
        mac2: bool,
    },
    /// Response, cookie reply or data frame: for the session or handshake with this index.
    Session(u32),
}

/// What the parser says of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// Passed or dropped for this reason.
    Decided(Reason),
    /// Ours. Whom its tokens are counted against: an IPv4 address mapped into IPv6, or the first
    /// 64 bits of an IPv6 address and zeros.
    Ours(Address, Datagram),
}

/// The network layer's account of a UDP packet.
struct Network {
    source: Address,
    destination: Address,
    udp_offset: usize,
    /// Set where a packet of ours is dropped whatever it carries.
    flaw: Option<Reason>,
    /// UDP header and payload, by the IP header's length field.
    udp_bytes: usize,
}

/// Parses a frame that may be for `receiver`.
#[inline(always)]
pub fn parse<P: Packet + ?Sized>(frame: &P, receiver: &Receiver) -> Parsed {
    match try_parse(frame, receiver) {
        Ok((source, datagram)) => Parsed::Ours(source, datagram),
        Err(reason) => Parsed::Decided(reason),
    }
}

#[inline(always)]
fn try_parse<P: Packet + ?Sized>(
    frame: &P,
    receiver: &Receiver,
) -> Result<(Address, Datagram), Reason> {
    let (ethertype, offset) = ethernet(frame)?;
    let network = match ethertype {
        0x0800 => ipv4(frame, offset)?,
        0x86dd => ipv6(frame, offset)?,
        0x8100 | 0x88a8 => return Err(Reason::ManyTags),
        _ => return Err(Reason::NotIp),
    };
    let udp: [u8; UDP_BYTES] = frame.read(network.udp_offset).ok_or(Reason::Truncated)?;
    if u16::from_be_bytes([udp[2], udp[3]]) != receiver.port {
        return Err(Reason::OtherPort);
    }
    let any = same(&receiver.address, &[0; 16]);
    if !any && !same(&receiver.address, &network.destination) {
        return Err(Reason::OtherHost);
    }
    if let Some(reason) = network.flaw {
        return Err(reason);
    }
    let whole = UDP_BYTES + DATAGRAM_BYTES;
    if usize::from(u16::from_be_bytes([udp[4], udp[5]])) != whole || network.udp_bytes != whole {
        return Err(Reason::WrongSize);
    }
    Ok((
        network.source,
        datagram(frame, network.udp_offset + UDP_BYTES)?,
    ))
}

/// The ethertype after the VLAN tags (IEEE 802.1Q) and the offset of what follows it. Tags of VLAN 0 carry a priority
/// and nothing else.
#[inline(always)]
fn ethernet<P: Packet + ?Sized>(frame: &P) -> Result<(u16, usize), Reason> {
    let mut offset = 12;
    let mut ethertype = u16::from_be_bytes(frame.read(offset).ok_or(Reason::Truncated)?);
    for _ in 0..TAGS_MAX {
        if ethertype != 0x8100 && ethertype != 0x88a8 {
            break;
        }
        let tag: [u8; 4] = frame.read(offset + 2).ok_or(Reason::Truncated)?;
        if u16::from_be_bytes([tag[0], tag[1]]) & 0x0fff != 0 {
            return Err(Reason::OtherVlan);
        }
        offset += 4;
        ethertype = u16::from_be_bytes([tag[2], tag[3]]);
    }
    Ok((ethertype, offset + 2))
}

/// RFC 791. Header checksums are left to the NIC and to the AEAD inside.
#[inline(always)]
fn ipv4<P: Packet + ?Sized>(frame: &P, offset: usize) -> Result<Network, Reason> {
    let header: [u8; 20] = frame.read(offset).ok_or(Reason::Truncated)?;
    let header_bytes = usize::from(header[0] & 0x0f) * 4;
    if header[0] >> 4 != 4 || header_bytes < 20 {
        return Err(Reason::Truncated);
    }
    if header[9] != 17 {
        return Err(Reason::NotUdp);
    }
    let fragment = u16::from_be_bytes([header[6], header[7]]);
    if fragment & 0x1fff != 0 {
        return Err(Reason::LaterFragment);
    }
    let flaw = if fragment & 0x2000 != 0 {
        Some(Reason::Fragment)
    } else if header_bytes != 20 {
        Some(Reason::Options)
    } else {
        None
    };
    let source = mapped([header[12], header[13], header[14], header[15]]);
    let destination = mapped([header[16], header[17], header[18], header[19]]);
    let total = usize::from(u16::from_be_bytes([header[2], header[3]]));
    Ok(Network {
        source,
        destination,
        udp_offset: offset + header_bytes,
        flaw,
        udp_bytes: total.wrapping_sub(header_bytes),
    })
}

#[inline(always)]
const fn mapped(v4: [u8; 4]) -> Address {
    let [a, b, c, d] = v4;
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d]
}

/// RFC 8200, with the extension headers that may stand before UDP: hop-by-hop options (0),
/// routing (43), fragment (44), destination options (60).
#[inline(always)]
fn ipv6<P: Packet + ?Sized>(frame: &P, offset: usize) -> Result<Network, Reason> {
    let header: [u8; 40] = frame.read(offset).ok_or(Reason::Truncated)?;
    if header[0] >> 4 != 6 {
        return Err(Reason::Truncated);
    }
    let mut next = header[6];
    let mut udp_offset = offset + 40;
    let mut flaw = None;
    for _ in 0..EXTENSIONS_MAX {
        let bytes = match next {
            0 | 43 | 44 | 60 => {
                let extension: [u8; 4] = frame.read(udp_offset).ok_or(Reason::Truncated)?;
                let fragment = next == 44;
                next = extension[0];
                if !fragment {
                    flaw = if let Some(Reason::Fragment) = flaw {
                        flaw
                    } else {
                        Some(Reason::Options)
                    };
                    (usize::from(extension[1]) + 1) * 8
                } else if u16::from_be_bytes([extension[2], extension[3]]) & 0xfff8 != 0 {
                    return Err(Reason::LaterFragment);
                } else {
                    flaw = Some(Reason::Fragment);
                    8
                }
            }
            _ => break,
        };
        udp_offset += bytes;
    }
    match next {
        17 => {}
        0 | 43 | 44 | 60 => return Err(Reason::ManyExtensions),
        _ => return Err(Reason::NotUdp),
    }
    let mut source = [0; 16];
    source[0] = header[8];
    source[1] = header[9];
    source[2] = header[10];
    source[3] = header[11];
    source[4] = header[12];
    source[5] = header[13];
    source[6] = header[14];
    source[7] = header[15];
    let destination: Address = frame.read(offset + 24).ok_or(Reason::Truncated)?;
    // Extension headers count into the payload, but such a packet is dropped before its size matters.
    let udp_bytes = usize::from(u16::from_be_bytes([header[4], header[5]]));
    Ok(Network {
        source,
        destination,
        udp_offset,
        flaw,
        udp_bytes,
    })
}

/// The clear bytes of a link datagram. The last bytes are read so that a frame that was cut short
/// never reaches a worker.
#[inline(always)]
fn datagram<P: Packet + ?Sized>(frame: &P, offset: usize) -> Result<Datagram, Reason> {
    let clear: [u8; 12] = frame.read(offset).ok_or(Reason::WrongSize)?;
    let last: [u8; 16] = frame.read(offset + MAC2_OFFSET).ok_or(Reason::WrongSize)?;
    let zero = clear[1] | clear[2] | clear[3] == 0;
    match clear[0] {
        1..=3 if !zero => Err(Reason::Reserved),
        1 => Ok(Datagram::Initiation {
            mac2: u128::from_ne_bytes(last) != 0,
        }),
        3 => Ok(Datagram::Session(u32::from_le_bytes([
            clear[4], clear[5], clear[6], clear[7],
        ]))),
        2 | 4 => Ok(Datagram::Session(u32::from_le_bytes([
            clear[8], clear[9], clear[10], clear[11],
        ]))),
        _ => Err(Reason::UnknownType),
    }
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
