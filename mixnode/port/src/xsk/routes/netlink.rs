//! Questions to the kernel's routing table, and its news (RFC 3549; linux/rtnetlink.h).

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteType, RouteVia,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

use super::Mac;

/// Multicast groups: neighbours, IPv4 routes, IPv6 routes.
const GROUPS: [u32; 3] = [3, 7, 11];
/// How long the kernel may take to answer.
const PATIENCE: Duration = Duration::from_secs(1);
/// Longest answer of one read, bytes: the kernel's dumps come in at most half of it.
const BUFFER_BYTES: usize = 64 * 1024;

/// A neighbour as the kernel has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Neighbour {
    /// Its address.
    pub(super) ip: IpAddr,
    /// Its link-layer address, if it can be sent to.
    pub(super) mac: Option<Mac>,
    /// The kernel no longer knows whether it is there.
    pub(super) stale: bool,
}

/// Something the kernel told unasked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// A neighbour on the interface came, changed or went.
    Neighbour(Neighbour),
    /// Some route changed.
    Route,
    /// News were lost: everything has to be read again.
    Lost,
}

/// Two sockets: one that asks, one that listens.
pub(super) struct Netlink {
    interface_index: u32,
    asking: Socket,
    listening: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Netlink {
    /// Opens both, in the calling thread's network namespace.
    ///
    /// # Errors
    /// What the kernel answered.
    pub(super) fn open(interface_index: u32) -> io::Result<Netlink> {
        let mut asking = Socket::new(NETLINK_ROUTE)?;
        asking.bind_auto()?;
        asking.connect(&SocketAddr::new(0, 0))?;
        rustix::net::sockopt::set_socket_timeout(
            &asking,
            rustix::net::sockopt::Timeout::Recv,
            Some(PATIENCE),
        )?;
        let mut listening = Socket::new(NETLINK_ROUTE)?;
        listening.bind_auto()?;
        listening.set_non_blocking(true)?;
        for group in GROUPS {
            listening.add_membership(group)?;
        }
        Ok(Netlink {
            interface_index,
            asking,
            listening,
            sequence: 0,
            buffer: vec![0; BUFFER_BYTES],
        })
    }

    /// The descriptor that is readable when there is news.
    pub(super) fn listening(&self) -> BorrowedFd<'_> {
        self.listening.as_fd()
    }

    /// Calls `tell` with all the news there are.
    pub(super) fn news(&mut self, mut tell: impl FnMut(News)) {
        loop {
            match self.listening.recv_from(&mut self.buffer.as_mut_slice(), 0) {
                // Nobody but the kernel has anything to say here.
                Ok((_, sender)) if sender.port_number() != 0 => {}
                Ok((bytes, _)) => {
                    let interface_index = self.interface_index;
                    messages(self.buffer.get(..bytes).unwrap_or_default(), |message| {
                        match message {
                            RouteNetlinkMessage::NewNeighbour(entry) => {
                                neighbour(&entry, interface_index).map(News::Neighbour)
                            }
                            RouteNetlinkMessage::DelNeighbour(entry) => {
                                neighbour(&entry, interface_index)
                                    .map(|gone| News::Neighbour(Neighbour { mac: None, ..gone }))
                            }
                            RouteNetlinkMessage::NewRoute(_) | RouteNetlinkMessage::DelRoute(_) => {
                                Some(News::Route)
                            }
                            _ => None,
                        }
                        .into_iter()
                        .for_each(&mut tell);
                        true
                    });
                }
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => tell(News::Lost),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }

    /// All neighbours on the interface.
    ///
    /// # Errors
    /// What the kernel answered; it did not answer in time.
    pub(super) fn neighbours(&mut self) -> io::Result<Vec<Neighbour>> {
        let interface_index = self.interface_index;
        let mut found = Vec::new();
        let question = RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default());
        self.ask(question, NLM_F_DUMP, |message| {
            if let RouteNetlinkMessage::NewNeighbour(entry) = message {
                found.extend(neighbour(&entry, interface_index));
            }
        })?;
        Ok(found)
    }

    /// The next hop of packets from `source` to `destination`, if it lies behind the interface.
    ///
    /// # Errors
    /// What the kernel answered: `NetworkUnreachable` and the like; it did not answer in time.
    pub(super) fn next_hop(
        &mut self,
        source: IpAddr,
        destination: IpAddr,
    ) -> io::Result<Option<IpAddr>> {
        let interface_index = self.interface_index;
        let mut question = RouteMessage::default();
        question.header = RouteHeader {
            address_family: match destination {
                IpAddr::V4(_) => AddressFamily::Inet,
                IpAddr::V6(_) => AddressFamily::Inet6,
            },
            destination_prefix_length: if destination.is_ipv4() { 32 } else { 128 },
            ..RouteHeader::default()
        };
        question
            .attributes
            .push(RouteAttribute::Destination(destination.into()));
        if !source.is_unspecified() && source.is_ipv4() == destination.is_ipv4() {
            question.header.source_prefix_length = question.header.destination_prefix_length;
            question
                .attributes
                .push(RouteAttribute::Source(source.into()));
        }
        if let IpAddr::V6(ip) = destination
            && ip.is_unicast_link_local()
        {
            question
                .attributes
                .push(RouteAttribute::Oif(interface_index));
        }
        let mut next_hop = None;
        self.ask(RouteNetlinkMessage::GetRoute(question), 0, |message| {
            if let RouteNetlinkMessage::NewRoute(route) = message {
                next_hop = through(&route, interface_index, destination);
            }
        })?;
        Ok(next_hop)
    }

    /// Sends a question and calls `see` with each message of its answer.
    fn ask(
        &mut self,
        question: RouteNetlinkMessage,
        flags: u16,
        mut see: impl FnMut(RouteNetlinkMessage),
    ) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(question));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.asking.send(&bytes, 0)?;
        let several = flags & NLM_F_DUMP != 0;
        loop {
            let count = match self.asking.recv(&mut self.buffer.as_mut_slice(), 0) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other?,
            };
            let mut left = self.buffer.get(..count).unwrap_or_default();
            while let Ok(message) = NetlinkMessage::<RouteNetlinkMessage>::deserialize(left) {
                left = rest(left, message.header.length);
                // An answer to a question that was given up.
                if message.header.sequence_number != self.sequence {
                    continue;
                }
                match message.payload {
                    NetlinkPayload::InnerMessage(inner) => {
                        see(inner);
                        if !several {
                            return Ok(());
                        }
                    }
                    NetlinkPayload::Done(_) => return Ok(()),
                    NetlinkPayload::Error(error) if error.code.is_some() => {
                        return Err(error.to_io());
                    }
                    NetlinkPayload::Overrun(_) => return Err(io::ErrorKind::Interrupted.into()),
                    _ => {}
                }
                if left.is_empty() {
                    break;
                }
            }
        }
    }
}

/// What follows a message of `length` bytes: messages are aligned to four.
fn rest(bytes: &[u8], length: u32) -> &[u8] {
    let length = (length as usize).max(1).next_multiple_of(4);
    bytes.get(length..).unwrap_or_default()
}

/// Calls `see` with each message in `bytes` that can be read, until it says that it has seen enough.
fn messages(mut bytes: &[u8], mut see: impl FnMut(RouteNetlinkMessage) -> bool) {
    while !bytes.is_empty()
        && let Ok(message) = NetlinkMessage::<RouteNetlinkMessage>::deserialize(bytes)
    {
        bytes = rest(bytes, message.header.length);
        if let NetlinkPayload::InnerMessage(inner) = message.payload
            && !see(inner)
        {
            return;
        }
    }
}

/// The neighbour of a message, if it is on the interface.
fn neighbour(message: &NeighbourMessage, interface_index: u32) -> Option<Neighbour> {
    if message.header.ifindex != interface_index {
        return None;
    }
    let (mut ip, mut mac) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(one)) => {
                ip = Some((*one).into())
            }
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(one)) => {
                ip = Some((*one).into());
            }
            NeighbourAttribute::LinkLayerAddress(bytes) => {
                mac = Mac::try_from(bytes.as_slice()).ok()
            }
            _ => {}
        }
    }
    // States in which the kernel itself would send to this address.
    let usable = matches!(
        message.header.state,
        NeighbourState::Reachable
            | NeighbourState::Stale
            | NeighbourState::Delay
            | NeighbourState::Probe
            | NeighbourState::Permanent
            | NeighbourState::Noarp
    );
    Some(Neighbour {
        ip: ip?,
        mac: mac.filter(|_| usable),
        stale: message.header.state == NeighbourState::Stale,
    })
}

/// The next hop of a route to `destination`, if it is one to somebody else behind the interface.
fn through(route: &RouteMessage, interface_index: u32, destination: IpAddr) -> Option<IpAddr> {
    if route.header.kind != RouteType::Unicast {
        return None;
    }
    let mut next_hop = destination;
    let mut behind = false;
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Oif(index) => behind = *index == interface_index,
            RouteAttribute::Gateway(RouteAddress::Inet(ip))
            | RouteAttribute::Via(RouteVia::Inet(ip)) => next_hop = (*ip).into(),
            RouteAttribute::Gateway(RouteAddress::Inet6(ip))
            | RouteAttribute::Via(RouteVia::Inet6(ip)) => next_hop = (*ip).into(),
            // Encapsulated: only the kernel knows how.
            RouteAttribute::Encap(_) => return None,
            _ => {}
        }
    }
    behind.then_some(next_hop)
}
