//! What the kernel says of the network interfaces of this namespace (rtnetlink).

use std::io;
use std::net::IpAddr;

use handover::protocol::Mode;
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage,
    NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{
    InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, LinkXdp, XdpAttached,
};
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
    /// Whether it stands for several others, a bond or a team: packets come on their queues.
    pub aggregate: bool,
    /// The XDP program on it, by the kernel's number, and how it runs.
    pub program: Option<(Mode, u32)>,
}

/// All interfaces.
pub(super) fn all() -> io::Result<Vec<Interface>> {
    let request = RouteNetlinkMessage::GetLink(LinkMessage::default());
    let mut interfaces = Vec::new();
    Route::open()?.exchange(request, NLM_F_DUMP, |message| {
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
    Route::open()?.exchange(request, NLM_F_DUMP, |message| {
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

/// Has the kernel use its neighbour entries for `next_hops` as if it sent packets there: an entry it is not sure of any
/// more is confirmed, a missing one resolved (NTF_USE). One that the kernel refuses, say of another link, does not keep
/// the others from being used; the last refusal is returned.
pub(super) fn refresh(interface_index: u32, next_hops: &[IpAddr]) -> io::Result<()> {
    let mut route = Route::open()?;
    let mut result = Ok(());
    for next_hop in next_hops {
        let mut message = NeighbourMessage::default();
        let (family, address) = match *next_hop {
            IpAddr::V4(address) => (AddressFamily::Inet, NeighbourAddress::Inet(address)),
            IpAddr::V6(address) => (AddressFamily::Inet6, NeighbourAddress::Inet6(address)),
        };
        message.header.family = family;
        message.header.ifindex = interface_index;
        message.header.flags = NeighbourFlags::Use;
        message
            .attributes
            .push(NeighbourAttribute::Destination(address));
        let request = RouteNetlinkMessage::NewNeighbour(message);
        let used = route.exchange(request, NLM_F_ACK | NLM_F_CREATE, |_| {});
        result = used.and(result);
    }
    result
}

fn interface(link: &LinkMessage) -> Option<Interface> {
    let mut found = Interface {
        index: link.header.index,
        name: String::new(),
        mac: None,
        mtu: 0,
        up: link.header.flags.contains(LinkFlags::Up),
        aggregate: false,
        program: None,
    };
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::IfName(name) => found.name.clone_from(name),
            LinkAttribute::Address(mac) => found.mac = mac.as_slice().try_into().ok(),
            LinkAttribute::Mtu(mtu) => found.mtu = *mtu,
            LinkAttribute::Xdp(xdp) => found.program = program(xdp),
            LinkAttribute::LinkInfo(info) => found.aggregate = is_aggregate(info),
            _ => {}
        }
    }
    (!found.name.is_empty()).then_some(found)
}

fn is_aggregate(info: &[LinkInfo]) -> bool {
    info.iter().any(|info| match info {
        LinkInfo::Kind(InfoKind::Bond) => true,
        LinkInfo::Kind(InfoKind::Other(name)) => name == "team",
        _ => false,
    })
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

/// A conversation with the kernel.
struct Route {
    socket: Socket,
    buffer: Vec<u8>,
}

impl Route {
    fn open() -> io::Result<Route> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        let buffer = vec![0; RECEIVE_BYTES];
        Ok(Route { socket, buffer })
    }

    /// Sends one request and hands every message of the answer to `each`.
    fn exchange(
        &mut self,
        request: RouteNetlinkMessage,
        flags: u16,
        mut each: impl FnMut(RouteNetlinkMessage),
    ) -> io::Result<()> {
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = 1;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(request));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;
        loop {
            let received = self.socket.recv(&mut &mut self.buffer[..], 0)?;
            let mut rest = self.buffer.get(..received).unwrap_or_default();
            while let Some((length, kind)) = head(rest) {
                match NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest) {
                    Ok(answer) => match answer.payload {
                        NetlinkPayload::Done(_) => return Ok(()),
                        NetlinkPayload::Error(error) if error.code.is_none() => return Ok(()),
                        NetlinkPayload::Error(error) => return Err(error.to_io()),
                        NetlinkPayload::InnerMessage(message) => each(message),
                        _ => {}
                    },
                    // An interface of a kind newer than the parser: the others count.
                    Err(error) if kind >= NLMSG_MIN_TYPE => {
                        tracing::debug!("a message of rtnetlink is skipped: {error}");
                    }
                    Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
                }
                let next = (length as usize).next_multiple_of(4);
                rest = rest.get(next..).unwrap_or_default();
            }
        }
    }
}

/// Messages of a protocol over netlink start here; what is below is netlink's own.
const NLMSG_MIN_TYPE: u16 = 16;

/// Length and type of the message that `bytes` begin with (`struct nlmsghdr`, 16 bytes).
fn head(bytes: &[u8]) -> Option<(u32, u16)> {
    let (length, rest) = bytes.split_first_chunk()?;
    let length = u32::from_ne_bytes(*length);
    let kind = u16::from_ne_bytes(*rest.first_chunk()?);
    (length >= 16).then_some((length, kind))
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
    fn a_bond_and_a_team_are_told_from_a_single_interface() {
        let told = |kind: Option<InfoKind>| {
            let mut link = LinkMessage::default();
            let info = kind.map(|kind| LinkAttribute::LinkInfo(vec![LinkInfo::Kind(kind)]));
            link.attributes.extend(info);
            link.attributes.push(LinkAttribute::IfName("b0".to_owned()));
            interface(&link).unwrap().aggregate
        };
        assert!(told(Some(InfoKind::Bond)));
        assert!(told(Some(InfoKind::Other("team".to_owned()))));
        assert!(!told(Some(InfoKind::Veth)));
        assert!(!told(None));
    }

    #[test]
    fn a_message_has_a_head_or_is_none() {
        let mut bytes = 20_u32.to_ne_bytes().to_vec();
        bytes.extend(16_u16.to_ne_bytes());
        assert_eq!(head(&bytes), Some((20, 16)));
        for bytes in [&[][..], &[1, 0, 0], &[1, 0, 0, 0, 16, 0]] {
            assert_eq!(head(bytes), None);
        }
    }

    #[test]
    fn the_kernels_refusal_is_an_error() {
        let next_hops = ["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()];
        assert!(refresh(u32::MAX >> 1, &next_hops).is_err());
        assert!(refresh(u32::MAX >> 1, &[]).is_ok());
    }
}
