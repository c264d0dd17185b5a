//! What the kernel says of the network interfaces of this namespace (rtnetlink).

use std::io;
use std::net::IpAddr;

use mixnode::frontend::protocol::Mode;
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage,
    NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage, LinkXdp, XdpAttached};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

/// Larger than any message of a dump (NLMSG_GOODSIZE is 8 KiB; a link with many virtual functions takes more).
const RECEIVE_BYTES: usize = 64 * 1024;

/// One interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Interface {
    /// Its number.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its link-layer address, if it has one of Ethernet's size.
    pub mac: Option<[u8; 6]>,
    /// Largest packet, bytes without the Ethernet header.
    pub mtu: u32,
    /// Whether it is up.
    pub up: bool,
    /// The XDP program on it, by the kernel's number, and how it runs.
    pub program: Option<(Mode, u32)>,
}

/// All interfaces.
pub(super) fn all() -> io::Result<Vec<Interface>> {
    let request = RouteNetlinkMessage::GetLink(LinkMessage::default());
    let mut interfaces = Vec::new();
    exchange(request, NLM_F_DUMP, |message| {
        if let RouteNetlinkMessage::NewLink(link) = message {
            interfaces.extend(interface(&link));
        }
    })?;
    Ok(interfaces)
}

/// The interface of this name, if there is one.
pub(super) fn named(name: &str) -> io::Result<Option<Interface>> {
    Ok(all()?.into_iter().find(|interface| interface.name == name))
}

/// The number of the interface that has this address, if one has.
pub(super) fn with_address(address: IpAddr) -> io::Result<Option<u32>> {
    let request = RouteNetlinkMessage::GetAddress(AddressMessage::default());
    let mut index = None;
    exchange(request, NLM_F_DUMP, |message| {
        if let RouteNetlinkMessage::NewAddress(found) = message {
            // On point-to-point links `Address` is the other end's and `Local` is ours.
            let local = found
                .attributes
                .iter()
                .find_map(|attribute| match attribute {
                    AddressAttribute::Local(local) => Some(*local),
                    _ => None,
                });
            let ours = local.or_else(|| {
                found
                    .attributes
                    .iter()
                    .find_map(|attribute| match attribute {
                        AddressAttribute::Address(address) => Some(*address),
                        _ => None,
                    })
            });
            if ours == Some(address) {
                index = Some(found.header.index);
            }
        }
    })?;
    Ok(index)
}

/// Has the kernel use its neighbour entry for `next_hop` as if it sent a packet there: an entry it is not sure of any
/// more is confirmed, a missing one resolved (NTF_USE).
pub(super) fn refresh(interface_index: u32, next_hop: IpAddr) -> io::Result<()> {
    let mut message = NeighbourMessage::default();
    let (family, address) = match next_hop {
        IpAddr::V4(address) => (AddressFamily::Inet, NeighbourAddress::Inet(address)),
        IpAddr::V6(address) => (AddressFamily::Inet6, NeighbourAddress::Inet6(address)),
    };
    message.header.family = family;
    message.header.ifindex = interface_index;
    message.header.flags = NeighbourFlags::Use;
    message
        .attributes
        .push(NeighbourAttribute::Destination(address));
    exchange(
        RouteNetlinkMessage::NewNeighbour(message),
        NLM_F_ACK | NLM_F_CREATE,
        |_| {},
    )
}

fn interface(link: &LinkMessage) -> Option<Interface> {
    let mut found = Interface {
        index: link.header.index,
        name: String::new(),
        mac: None,
        mtu: 0,
        up: link.header.flags.contains(LinkFlags::Up),
        program: None,
    };
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::IfName(name) => found.name.clone_from(name),
            LinkAttribute::Address(mac) => found.mac = mac.as_slice().try_into().ok(),
            LinkAttribute::Mtu(mtu) => found.mtu = *mtu,
            LinkAttribute::Xdp(xdp) => found.program = program(xdp),
            _ => {}
        }
    }
    (!found.name.is_empty()).then_some(found)
}

fn program(attributes: &[LinkXdp]) -> Option<(Mode, u32)> {
    let mut mode = None;
    let mut program = None;
    for attribute in attributes {
        match attribute {
            LinkXdp::Attached(XdpAttached::Driver | XdpAttached::Hardware) => {
                mode = Some(Mode::Native);
            }
            LinkXdp::Attached(XdpAttached::SocketBuffer) => mode = Some(Mode::Generic),
            LinkXdp::ProgId(id) => program = Some(*id),
            _ => {}
        }
    }
    mode.zip(program)
}

/// Sends one request and hands every message of the answer to `each`.
fn exchange(
    request: RouteNetlinkMessage,
    flags: u16,
    mut each: impl FnMut(RouteNetlinkMessage),
) -> io::Result<()> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | flags;
    header.sequence_number = 1;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::from(request));
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    socket.send(&bytes, 0)?;
    let mut buffer = vec![0; RECEIVE_BYTES];
    loop {
        let received = socket.recv(&mut &mut buffer[..], 0)?;
        let mut rest = buffer.get(..received).unwrap_or_default();
        while !rest.is_empty() {
            let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            match answer.payload {
                NetlinkPayload::Done(_) => return Ok(()),
                NetlinkPayload::Error(error) if error.code.is_none() => return Ok(()),
                NetlinkPayload::Error(error) => return Err(error.to_io()),
                NetlinkPayload::InnerMessage(message) => each(message),
                _ => {}
            }
            let length = answer.header.length.next_multiple_of(4) as usize;
            rest = rest.get(length.max(16)..).unwrap_or_default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_is_there_with_its_address() {
        let loopback = named("lo").unwrap().unwrap();
        assert_eq!((loopback.index, loopback.up), (1, true));
        assert!(loopback.mtu >= 1280);
        assert_eq!(with_address("127.0.0.1".parse().unwrap()).unwrap(), Some(1));
        assert_eq!(with_address("192.0.2.1".parse().unwrap()).unwrap(), None);
        assert_eq!(named("no-such-one").unwrap(), None);
    }

    #[test]
    fn the_kernels_refusal_is_an_error() {
        assert!(refresh(u32::MAX >> 1, "192.0.2.1".parse().unwrap()).is_err());
    }
}
