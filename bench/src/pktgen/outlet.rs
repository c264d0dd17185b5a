//! One flow: a port, its packet memory, and an address of its own.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;

use link::DATAGRAM_BYTES;
use port::pool::FramePool;
use port::{
    Departing, DepartingBatch, EventFd, PlainPort, Port, PortParts, ReceivedBatch, SocketOptions,
    UringPort, socket, uring_available,
};

/// Frames of a flow's packet memory: what waits in the port both ways.
pub(super) const FRAMES: u32 = 1_024;

/// What datagrams leave by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Via {
    /// `io_uring`.
    Uring,
    /// The kernel's sockets.
    Plain,
}

impl Via {
    /// What is there, if nobody asks for one by name.
    pub(super) fn usual() -> Via {
        match uring_available() {
            Ok(()) => Via::Uring,
            Err(_) => Via::Plain,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Via::Uring => "uring",
            Via::Plain => "plain",
        }
    }
}

/// What comes to a flow, and may be answered: a datagram and who sent it.
pub(super) type Listener<'a> =
    dyn FnMut(&mut [u8; DATAGRAM_BYTES], SocketAddr) -> Option<Box<[u8; DATAGRAM_BYTES]>> + 'a;

/// A flow.
pub(super) struct Outlet {
    port: Box<dyn Port>,
    pool: FramePool,
    received: ReceivedBatch,
    departing: DepartingBatch,
    answers: Vec<(SocketAddr, Box<[u8; DATAGRAM_BYTES]>)>,
    /// For datagrams of another length, which no port sends.
    bare: Option<UdpSocket>,
    /// Datagrams of the generator that the port had no room for.
    no_room: u64,
    /// What the port had counted before the generator began.
    failed_before: u64,
}

/// The address of this host that datagrams to `target` come from.
///
/// # Errors
/// No route leads there.
pub(super) fn source_of(target: SocketAddr) -> io::Result<IpAddr> {
    let any: IpAddr = match target {
        SocketAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(target)?;
    Ok(socket.local_addr()?.ip())
}

impl Outlet {
    /// A flow from `local`; with port 0 the kernel chooses one.
    ///
    /// # Errors
    /// The address or the port can't be had.
    pub(super) fn open(via: Via, local: SocketAddr) -> io::Result<Outlet> {
        let socket = socket::open(&SocketOptions::new(local))?;
        let bare = match via {
            Via::Plain => {
                socket.set_nonblocking(true)?;
                Some(socket.try_clone()?)
            }
            Via::Uring => None,
        };
        let parts = PortParts {
            socket,
            event: Arc::new(EventFd::new()?),
        };
        let pool = FramePool::new(FRAMES)?;
        let port: Box<dyn Port> = match via {
            Via::Uring => Box::new(UringPort::new(parts, &pool)?),
            Via::Plain => Box::new(PlainPort::new(parts, &pool)?),
        };
        Ok(Outlet::of(port, pool, bare))
    }

    fn of(port: Box<dyn Port>, pool: FramePool, bare: Option<UdpSocket>) -> Outlet {
        Outlet {
            port,
            pool,
            received: ReceivedBatch::new(),
            departing: DepartingBatch::new(),
            answers: Vec::new(),
            bare,
            no_room: 0,
            failed_before: 0,
        }
    }

    /// Hands one datagram to the port; whether that took it.
    pub(super) fn send(
        &mut self,
        destination: SocketAddr,
        fill: impl FnOnce(&mut [u8; DATAGRAM_BYTES]),
    ) -> bool {
        self.port.reclaim(&mut self.pool);
        let Some(mut frame) = self.pool.take() else {
            self.no_room += 1;
            return false;
        };
        fill(self.pool.datagram_mut(&mut frame));
        self.departing.push(Departing {
            frame,
            destination,
            delivery: false,
            proven: true,
        });
        let taken = self.port.transmit(&mut self.departing) > 0;
        for left in self.departing.drain(..) {
            self.pool.release(left.frame);
            self.no_room += 1;
        }
        taken
    }

    /// Hands a datagram of any length to the kernel; whether it took it.
    pub(super) fn send_bare(&mut self, destination: SocketAddr, bytes: &[u8]) -> bool {
        let socket = self.bare.as_ref();
        let taken = socket.is_some_and(|socket| socket.send_to(bytes, destination).is_ok());
        self.no_room += u64::from(!taken);
        taken
    }

    /// Takes what came, if anything, and sends the answers.
    pub(super) fn listen(&mut self, listener: &mut Listener<'_>) {
        self.port.receive(&mut self.pool, &mut self.received);
        for mut one in self.received.drain(..) {
            if one.length == DATAGRAM_BYTES
                && let Some(answer) = listener(self.pool.datagram_mut(&mut one.frame), one.source)
            {
                self.answers.push((one.source, answer));
            }
            self.pool.release(one.frame);
        }
        while let Some((destination, answer)) = self.answers.pop() {
            self.send(destination, |datagram| *datagram = *answer);
        }
        self.port.reclaim(&mut self.pool);
    }

    /// Sleeps until something comes, or until then on the monotonic clock.
    ///
    /// # Errors
    /// The port's.
    pub(super) fn wait(&mut self, until_ns: u64) -> io::Result<()> {
        self.port.wait(Some(until_ns))
    }

    /// From now on it is the generator's datagrams that count.
    pub(super) fn begin(&mut self) {
        self.no_room = 0;
        self.failed_before = self.failed();
    }

    fn failed(&self) -> u64 {
        let counters = self.port.counters();
        counters.transmit_failed + counters.transmit_dropped
    }

    /// Datagrams that were taken and never left: known once nothing is in flight any more.
    pub(super) fn lost_inside(&self) -> u64 {
        self.failed() - self.failed_before
    }

    /// Datagrams that were not taken.
    pub(super) fn no_room(&self) -> u64 {
        self.no_room
    }

    /// Whether the port holds nothing that is to leave.
    pub(super) fn is_empty(&mut self) -> bool {
        self.port.reclaim(&mut self.pool);
        self.port.in_flight() == 0
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        self.port.close(&mut self.pool);
    }
}
