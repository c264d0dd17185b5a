//! Strangers at work against real nodes in processes of their own: handshakes that are never finished, and sessions of
//! throwaway keys that attach. Members' links go on and are renewed, newcomers attach, and memory stays as it was.

mod live;
mod programs;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arrayvec::ArrayVec;
use directory::Role;
use link::control::Control;
use link::{
    CONTENT_OFFSET, ClientKeys, Cookie, DATAGRAM_BYTES, Initiator, Kind, LinkPublic, OpenJob,
    SealJob, Session, open_batch, seal_batch,
};
use live::{Network, Node, ROLES};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// How long an answer is waited for before the question is put again.
const ANSWER: Duration = Duration::from_millis(500);
/// Addresses that junk comes from, and networks that they are in.
const SOURCES: u8 = 128;
const NETWORKS: u8 = 16;

/// The gateway, for whoever has its keys.
#[derive(Clone)]
struct Gateway {
    address: SocketAddr,
    keys: Arc<LinkPublic>,
}

impl Gateway {
    fn find(network: &Network) -> Gateway {
        let descriptors = network.store.read_descriptors().unwrap();
        let gateway = descriptors
            .into_iter()
            .find(|one| one.role == Role::Gateway);
        let gateway = gateway.unwrap();
        Gateway {
            address: gateway.addresses[0],
            keys: Arc::new(LinkPublic {
                x25519: gateway.link.x25519,
                kem: gateway.link.kem.clone(),
            }),
        }
    }
}

/// Somebody at an address of the loopback network.
struct Stranger {
    socket: UdpSocket,
    gateway: Gateway,
    cookie: Option<Cookie>,
    rng: ChaCha20Rng,
}

impl Stranger {
    fn at(address: [u8; 4], gateway: &Gateway) -> Stranger {
        let socket = UdpSocket::bind((Ipv4Addr::from(address), 0)).unwrap();
        socket.connect(gateway.address).unwrap();
        socket.set_read_timeout(Some(ANSWER)).unwrap();
        Stranger {
            socket,
            gateway: gateway.clone(),
            cookie: None,
            rng: ChaCha20Rng::seed_from_u64(u32::from_be_bytes(address).into()),
        }
    }

    fn initiation(&mut self, keys: &ClientKeys) -> (Initiator, [u8; DATAGRAM_BYTES]) {
        let (index, cookie) = (self.rng.next_u32(), self.cookie.as_ref());
        Initiator::start(keys, &self.gateway.keys, index, cookie, &mut self.rng).unwrap()
    }

    fn receive(&self) -> Option<[u8; DATAGRAM_BYTES]> {
        let mut datagram = [0; DATAGRAM_BYTES];
        let received = self.socket.recv(&mut datagram);
        received.is_ok().then_some(datagram)
    }

    /// Opens a session of these keys, until `end`.
    fn connect(&mut self, keys: &ClientKeys, end: Instant) -> Option<Session> {
        while Instant::now() < end {
            let (mut initiator, datagram) = self.initiation(keys);
            self.socket.send(&datagram).unwrap();
            while let Some(answer) = self.receive() {
                if let Ok(session) = initiator.finish(&answer, 0) {
                    return Some(session);
                }
                if let Ok(cookie) = initiator.read_cookie(&answer) {
                    self.cookie = Some(cookie);
                    break;
                }
            }
        }
        None
    }

    fn send(&self, session: &mut Session, control: &Control) {
        let mut datagram = [0; DATAGRAM_BYTES];
        let content = &mut datagram[CONTENT_OFFSET..];
        control.encode(content.first_chunk_mut().unwrap());
        let counter = session.send.next_counter().unwrap();
        let job = SealJob {
            session: session.send.key(),
            counter,
            kind: Kind::Control,
            epoch: 0,
            datagram: &mut datagram,
        };
        seal_batch(&mut [job]);
        self.socket.send(&datagram).unwrap();
    }

    /// Attaches, and hears that it is, until `end`.
    fn attach(&self, session: &mut Session, end: Instant) -> bool {
        while Instant::now() < end {
            self.send(session, &Control::Attach { rate_pps: 20 });
            let asked = Instant::now();
            while asked.elapsed() < ANSWER {
                let Some(mut datagram) = self.receive() else {
                    break;
                };
                let mut verdicts = ArrayVec::new();
                let job = OpenJob {
                    session: session.receive.key(),
                    datagram: &mut datagram,
                };
                open_batch(&mut [job], &mut verdicts);
                let control = datagram[CONTENT_OFFSET..].first_chunk().unwrap();
                if matches!(verdicts.pop(), Some(Ok(opened)) if opened.kind == Kind::Control)
                    && matches!(Control::decode(control), Ok(Control::Attached { .. }))
                {
                    return true;
                }
            }
        }
        false
    }
}

/// What is done to the gateway.
#[derive(Clone, Copy)]
struct Assault {
    /// Initiations a second that are never finished; as many as go out if none.
    unfinished_pps: Option<u32>,
    /// Sessions of throwaway keys, each with its first frame: an attach frame.
    keys: u64,
}

/// An assault under way.
struct Assailants {
    stop: Arc<AtomicBool>,
    unfinished: Arc<AtomicU64>,
    finished: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

/// The address of source `number` of those whose second byte is `kind`.
fn source(kind: u8, number: u8) -> [u8; 4] {
    [127, kind, number % NETWORKS, 1 + number / NETWORKS]
}

impl Assailants {
    fn start(assault: Assault, gateway: &Gateway) -> Assailants {
        let (stop, unfinished, finished) = Default::default();
        let mut assailants = Assailants {
            stop,
            unfinished,
            finished,
            threads: Vec::new(),
        };
        assailants.spawn(gateway, move |stop, gateway, counts| {
            never_finish(assault, stop, gateway, &counts.0);
        });
        for part in 0..2 {
            assailants.spawn(gateway, move |stop, gateway, counts| {
                throw_away(assault, part, stop, gateway, &counts.1);
            });
        }
        assailants
    }

    fn spawn(
        &mut self,
        gateway: &Gateway,
        work: impl FnOnce(&AtomicBool, &Gateway, (Arc<AtomicU64>, Arc<AtomicU64>)) + Send + 'static,
    ) {
        let (stop, gateway) = (Arc::clone(&self.stop), gateway.clone());
        let counts = (Arc::clone(&self.unfinished), Arc::clone(&self.finished));
        self.threads
            .push(std::thread::spawn(move || work(&stop, &gateway, counts)));
    }

    /// Initiations never finished and sessions of throwaway keys so far.
    fn counts(&self) -> (u64, u64) {
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (count(&self.unfinished), count(&self.finished))
    }

    fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().unwrap();
        }
    }
}

/// Sends initiations and reads no answer.
fn never_finish(assault: Assault, stop: &AtomicBool, gateway: &Gateway, count: &AtomicU64) {
    let mut sources: Vec<Stranger> = (0..SOURCES)
        .map(|number| Stranger::at(source(66, number), gateway))
        .collect();
    let initiations: Vec<_> = sources
        .iter_mut()
        .map(|one| {
            let keys = ClientKeys::generate(&mut one.rng);
            one.initiation(&keys).1
        })
        .collect();
    let start = Instant::now();
    let mut sent = 0;
    while !stop.load(Ordering::Relaxed) {
        if let Some(pps) = assault.unfinished_pps
            && sent as f64 >= start.elapsed().as_secs_f64() * f64::from(pps)
        {
            std::thread::sleep(Duration::from_millis(1));
            continue;
        }
        let number = sent as usize % sources.len();
        // A full buffer is what an attacker meets too.
        let _ = sources[number].socket.send(&initiations[number]);
        sent += 1;
        count.store(sent, Ordering::Relaxed);
    }
}

/// Opens one half of all sessions of throwaway keys, speaks on each, and forgets it.
fn throw_away(assault: Assault, part: u8, stop: &AtomicBool, gateway: &Gateway, count: &AtomicU64) {
    let mut sources: Vec<Stranger> = (0..SOURCES / 2)
        .map(|number| Stranger::at(source(67, 2 * number + part), gateway))
        .collect();
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) && count.load(Ordering::Relaxed) < assault.keys {
        let sources_count = sources.len();
        let one = &mut sources[number % sources_count];
        number += 1;
        let keys = ClientKeys::generate(&mut one.rng);
        if let Some(mut session) = one.connect(&keys, Instant::now() + ANSWER) {
            one.send(&mut session, &Control::Attach { rate_pps: 1 });
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A TCP address nobody has now.
fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

/// A counter of a node's metrics.
fn counter(metrics: SocketAddr, series: &str) -> u64 {
    let mut stream = TcpStream::connect(metrics).unwrap();
    write!(stream, "GET /metrics HTTP/1.1\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let value = text.lines().find_map(|line| line.strip_prefix(series));
    value.unwrap().trim().parse().unwrap()
}

/// Memory that a node has, KiB.
fn memory_kib(node: &Node) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", node.child.id())).unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let resident = resident.unwrap().trim().trim_end_matches(" kB");
    resident.parse().unwrap()
}

/// Nodes under assault.
struct Scene {
    network: Network,
    nodes: Vec<Node>,
    metrics: Vec<SocketAddr>,
    gateway: Gateway,
    newcomers: u16,
}

impl Scene {
    fn open(epoch_ms: u64, clients_max: u32) -> Scene {
        let network = Network::new(epoch_ms, None);
        let udp = UdpSocket::bind("0.0.0.0:0").unwrap();
        let udp_port = udp.local_addr().unwrap().port();
        drop(udp);
        let metrics: Vec<SocketAddr> = ROLES.iter().map(|_| free_address()).collect();
        let mut nodes: Vec<Node> = (1..=ROLES.len())
            .map(|number| {
                let listen = format!("127.3.{number}.1:{udp_port}").parse().unwrap();
                let mut more = format!(
                    "[worker]\nmax_pps = 1000\n[metrics]\nlisten = \"{}\"\n",
                    metrics[number - 1]
                );
                if number == 1 {
                    more += &format!("[gateway]\nclients_max = {clients_max}\nqueue_frames = 8\n");
                }
                network.start(number, listen, "auto", &more)
            })
            .collect();
        network.open(&mut nodes);
        nodes[0].await_loops(&network, 1);
        let gateway = Gateway::find(&network);
        Scene {
            network,
            nodes,
            metrics,
            gateway,
            newcomers: 0,
        }
    }

    /// Someone nobody knows comes from a network of its own; whether it is attached within so long.
    fn newcomer(&mut self, patience: Duration) -> bool {
        self.newcomers += 1;
        self.network.turn();
        let [high, low] = self.newcomers.to_be_bytes();
        let mut one = Stranger::at([127, 77 + high, low, 1], &self.gateway);
        let keys = ClientKeys::generate(&mut one.rng);
        let end = Instant::now() + patience;
        let session = one.connect(&keys, end);
        session.is_some_and(|mut session| one.attach(&mut session, end))
    }

    /// Links that each node has opened so far.
    fn renewals(&self) -> Vec<u64> {
        let series = "mixnode_handshakes_total{outcome=\"connected\"} ";
        let nodes = self.metrics.iter();
        nodes.map(|metrics| counter(*metrics, series)).collect()
    }

    fn of_gateway(&self, outcome: &str) -> u64 {
        let series = format!("mixnode_handshakes_total{{outcome=\"{outcome}\"}} ");
        counter(self.metrics[0], &series)
    }
}

#[test]
fn members_renew_and_newcomers_attach_while_strangers_open_what_they_like() {
    let mut scene = Scene::open(10_000, 32);
    let before = scene.renewals();
    let assault = Assault {
        unfinished_pps: Some(300),
        keys: 400,
    };
    let assailants = Assailants::start(assault, &scene.gateway);
    let until = Instant::now() + live::PATIENCE;
    let mut attached = 0;
    let mut memory = None;
    // Until all of it was done, ten newcomers came, and every node has renewed its links meanwhile.
    loop {
        if attached < 10 {
            assert!(scene.newcomer(live::PATIENCE), "after {attached} others");
            attached += 1;
        } else {
            scene.network.turn();
            std::thread::sleep(Duration::from_millis(100));
        }
        let (_, finished) = assailants.counts();
        if finished > assault.keys / 4 {
            memory.get_or_insert_with(|| memory_kib(&scene.nodes[0]));
        }
        let renewals = scene.renewals();
        let renewed = renewals.iter().zip(&before).all(|(now, then)| now > then);
        if renewed && attached == 10 && finished >= assault.keys {
            break;
        }
        assert!(
            Instant::now() < until,
            "{renewals:?} after {before:?}, {finished} sessions"
        );
    }
    let status = scene.nodes[0].await_loops(&scene.network, 5);
    assert!(status.clients <= 32, "{status:?}");
    let grown = memory_kib(&scene.nodes[0]).saturating_sub(memory.unwrap());
    assert!(grown < 16_384, "{grown} KiB more");
    assert!(scene.of_gateway("accepted") >= assault.keys);
    assailants.end();
}

/// One phase of the long run: for `span`, and until all keys were used; what came of it.
fn phase(scene: &mut Scene, assault: Assault, span: Duration) -> (u32, u32) {
    let before = scene.renewals();
    let assailants = Assailants::start(assault, &scene.gateway);
    let start = Instant::now();
    let (mut attempts, mut attached, mut memory) = (0, 0, None);
    while start.elapsed() < span || assailants.counts().1 < assault.keys {
        attempts += 1;
        attached += u32::from(scene.newcomer(Duration::from_secs(5)));
        if start.elapsed() > span / 8 {
            memory.get_or_insert_with(|| memory_kib(&scene.nodes[0]));
        }
        std::thread::sleep(Duration::from_millis(500));
    }
    let (unfinished, finished) = assailants.counts();
    let seconds = start.elapsed().as_secs_f64();
    assailants.end();
    let renewals = scene.renewals();
    let renewed: Vec<u64> = renewals
        .iter()
        .zip(&before)
        .map(|(now, then)| now - then)
        .collect();
    let (memory, now) = (memory.unwrap(), memory_kib(&scene.nodes[0]));
    let dropped = |series: &str| counter(scene.metrics[0], &format!("mixnode_{series}"));
    println!(
        "{seconds:.0} s: {unfinished} initiations never finished ({:.0}/s), {finished} sessions of throwaway keys; \
         {attached} of {attempts} newcomers attached within 5 s; links renewed by node: {renewed:?}; \
         gateway's memory {memory} KiB, then {now} KiB; cookies {}, accepted {}, over_rate {}; dropped {} as sessions_full, {} as handshake_queue_full, {} at the socket",
        unfinished as f64 / seconds,
        scene.of_gateway("cookie"),
        scene.of_gateway("accepted"),
        scene.of_gateway("over_rate"),
        dropped("rejected_total{reason=\"sessions_full\"} "),
        dropped("rejected_total{reason=\"handshake_queue_full\"} "),
        dropped("kernel_dropped_total "),
    );
    assert!(renewed.iter().all(|renewed| *renewed > 0), "{renewed:?}");
    assert!(now < memory + 16_384, "it grew");
    (attached, attempts)
}

#[test]
#[ignore = "minutes of a machine's whole attention: its figures are the point"]
fn seventy_thousand_throwaway_sessions_and_two_floods_leave_newcomers_and_members_alone() {
    let mut scene = Scene::open(20_000, 256);
    let slow = Assault {
        unfinished_pps: Some(300),
        keys: 70_000,
    };
    let fast = Assault {
        unfinished_pps: None,
        keys: 0,
    };
    let (attached, attempts) = phase(&mut scene, slow, Duration::from_secs(120));
    assert!(attached * 100 >= attempts * 95, "{attached} of {attempts}");
    // At line rate the flood takes its share of these very cores and of the socket's buffer, which only a front end
    // spares: how many of the newcomers were in time is for the reader.
    phase(&mut scene, fast, Duration::from_secs(60));
    scene.nodes[0].await_loops(&scene.network, 5);
}
