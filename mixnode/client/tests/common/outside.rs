//! The network around a program: its gateway is a real socket, whose arrivals are recorded.

use std::collections::BTreeSet;
use std::io::IoSliceMut;
use std::net::{SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use directory::Bootstrap;
use fog::Address;
use fog::home::Home;
use link::DATAGRAM_BYTES;
use nix::sys::socket::sockopt::ReceiveTimestampns;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrIn, recvmsg, setsockopt};
use nix::sys::time::TimeSpec;
use rand_chacha::ChaCha20Rng;
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::common::{Boxed, Conditions, Network};

/// Slots a second of the program.
pub const RATE_PPS: u32 = 200;

/// The network lives so long at most between two looks at the clock.
const STRIDE_NS: u64 = 20_000_000;

pub fn pin(cpu: usize) {
    let mut set = CpuSet::new();
    set.set(cpu);
    // With one processor alone both ends share it.
    let _ = sched_setaffinity(None, &set);
}

/// A datagram's length, source, and when the kernel had it from its sender: how late this thread gets to run is not the
/// sender's doing.
fn hear(socket: &UdpSocket, datagram: &mut [u8]) -> Option<(usize, SocketAddr, Instant)> {
    let mut parts = [IoSliceMut::new(datagram)];
    let mut space = nix::cmsg_space!(TimeSpec);
    let flags = MsgFlags::empty();
    let heard =
        recvmsg::<SockaddrIn>(socket.as_raw_fd(), &mut parts, Some(&mut space), flags).ok()?;
    let from = SocketAddrV4::from(heard.address?).into();
    let stamp = heard.cmsgs().ok()?.find_map(|message| match message {
        ControlMessageOwned::ScmTimestampns(stamp) => Some(Duration::from(stamp)),
        _ => None,
    });
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let at = Instant::now() - now.saturating_sub(stamp.expect("asked for"));
    Some((heard.bytes, from, at))
}

/// The network around the program.
pub struct Outside {
    pub network: Network,
    socket: Arc<UdpSocket>,
    arrivals: Receiver<(Instant, SocketAddr, Boxed)>,
    to_client: Receiver<Boxed>,
    client: Option<SocketAddr>,
    /// Where datagrams came from: a client that starts anew has another port.
    #[allow(dead_code)] // Not every test file that shares this module needs it.
    pub sources: BTreeSet<SocketAddr>,
    seat: usize,
    began: Instant,
}

impl Outside {
    #[allow(dead_code)] // Likewise.
    pub fn new() -> Self {
        Self::at(RATE_PPS)
    }

    /// The same whose clients have so many slots a second.
    pub fn at(rate_pps: u32) -> Self {
        let socket = Arc::new(UdpSocket::bind("127.0.0.1:0").unwrap());
        setsockopt(&socket, ReceiveTimestampns, &true).unwrap();
        let unix_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let conditions = Conditions {
            mean_delay_us: 5_000,
            rate_pps,
            genesis_ms: u64::try_from(unix_ms.as_millis()).unwrap(),
            ..Conditions::default()
        };
        let began = Instant::now();
        let mut network = Network::new(70, conditions);
        network.descriptors[1].addresses = vec![socket.local_addr().unwrap()];
        let (say, to_client) = mpsc::channel();
        let seat = network.seat(Some(say));
        let (tell, arrivals) = mpsc::channel();
        let ear = Arc::clone(&socket);
        thread::spawn(move || {
            pin(1);
            let mut datagram = [0; DATAGRAM_BYTES];
            while let Some((length, from, at)) = hear(&ear, &mut datagram) {
                let arrived = (at, from, Box::new(datagram));
                if length != DATAGRAM_BYTES || tell.send(arrived).is_err() {
                    return;
                }
            }
        });
        Self {
            network,
            socket,
            arrivals,
            to_client,
            client: None,
            sources: BTreeSet::new(),
            seat,
            began,
        }
    }

    /// Lets the network live; what arrived meanwhile.
    pub fn live(&mut self, span: Duration) -> Vec<Instant> {
        let began = Instant::now();
        let mut seen = Vec::new();
        while began.elapsed() < span {
            let first = self.arrivals.recv_timeout(Duration::from_micros(500));
            let arrived: Vec<_> = first.into_iter().chain(self.arrivals.try_iter()).collect();
            let now_ns = u64::try_from(self.began.elapsed().as_nanos()).unwrap();
            // On a machine too busy for it the network lags: it does not run ever longer after a clock that runs away.
            let reached_ns = self.network.now_ns + STRIDE_NS;
            self.network.run(now_ns.min(reached_ns), |_| false);
            for (at, from, datagram) in arrived {
                seen.push(at);
                self.client = Some(from);
                self.sources.insert(from);
                self.network.arrives(1, self.seat, datagram);
            }
            for datagram in self.to_client.try_iter() {
                let to = self.client.unwrap();
                self.socket.send_to(&datagram[..], to).unwrap();
            }
        }
        for (at, from, datagram) in self.arrivals.try_iter().collect::<Vec<_>>() {
            seen.push(at);
            self.client = Some(from);
            self.network.arrives(1, self.seat, datagram);
        }
        // What waited before is of another block.
        seen.retain(|at| (began..began + span).contains(at));
        seen
    }

    /// A home of the program in this network; its address.
    pub fn init(&mut self, folder: &Path, home: &Path, rng: &mut ChaCha20Rng) -> Address {
        let bootstrap = Bootstrap {
            chain: self.network.authorities(),
            consensus: Some(self.network.document(0)),
        };
        let file = folder.join("network");
        bootstrap.write(&file).unwrap();
        let gateway = self.network.gateway(1);
        Home::init(home, &file, Some(gateway), rng).unwrap()
    }
}
