//! Junk: what an attacker sends, one kind at a time.
//!
//! Bursts of datagrams go out in one send each, cut apart by the kernel: the attacker needs less CPU than the node.

use std::io;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use link::control::Control;
use link::{ClientKeys, Cookie, DATAGRAM_BYTES, Initiator, Session};
use port::socket;
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use sphinx::PACKET_BYTES;

use crate::scene::place::Place;
use crate::scene::running::Node;
use crate::scene::world::{self, World};

/// Datagrams of one send.
const BURST: usize = 16;
/// Different bursts that are made, and sent over and over.
const BURSTS: usize = 64;
/// The same for initiations with a cookie, of which those answered lately are known again.
const BURSTS_WITH_COOKIE: usize = 256;
/// Addresses that these come from; each has bursts of its own.
const SOURCES_WITH_COOKIE: usize = 64;
/// How long an answer of the node is waited for.
const PATIENCE: Duration = Duration::from_secs(10);
/// Until a question without an answer is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(250);
/// Addresses that a flood of handshakes comes from.
const SOURCES: usize = 200;
/// Bytes of a datagram of the wrong size.
const WRONG_BYTES: usize = 1_200;
/// The type byte of data frames.
const DATA: u8 = 4;
/// Where a data frame's receiver index is.
const INDEX: std::ops::Range<usize> = 8..12;

/// A kind of junk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    RandomBytes,
    WrongSize,
    Replayed,
    ForgedPeer,
    UnknownSession,
    Handshakes,
    BadMac,
    GuessedIndices,
    Unfinished,
    OverRate,
}

impl Kind {
    pub(crate) const ALL: [Kind; 10] = [
        Kind::RandomBytes,
        Kind::WrongSize,
        Kind::Replayed,
        Kind::ForgedPeer,
        Kind::UnknownSession,
        Kind::Handshakes,
        Kind::BadMac,
        Kind::GuessedIndices,
        Kind::Unfinished,
        Kind::OverRate,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::RandomBytes => "random_bytes",
            Kind::WrongSize => "wrong_size",
            Kind::Replayed => "replayed_frames",
            Kind::ForgedPeer => "forged_source_of_a_peer",
            Kind::UnknownSession => "unknown_sessions",
            Kind::Handshakes => "handshake_flood",
            Kind::BadMac => "bad_mac_from_a_peer",
            Kind::GuessedIndices => "guessed_indices_of_a_peer",
            Kind::Unfinished => "unfinished_handshakes",
            Kind::OverRate => "client_over_its_rate",
        }
    }
}

impl clap::ValueEnum for Kind {
    fn value_variants<'a>() -> &'a [Kind] {
        &Kind::ALL
    }

    fn to_possible_value(&self) -> Option<clap::builder::PossibleValue> {
        Some(clap::builder::PossibleValue::new(self.name()))
    }
}

/// A source of one kind.
pub(super) struct Junk {
    kind: Kind,
    /// Of the client that is attached.
    client: Option<Session>,
    sockets: Vec<UdpSocket>,
    bursts: Vec<Vec<u8>>,
    next: usize,
    rng: ChaCha20Rng,
}

impl Junk {
    /// Prepares it. `frames` are honest frames of peer 0 that the node has seen or will see.
    pub(super) fn new(
        kind: Kind,
        world: &mut World,
        place: &Place,
        node: &Node,
        frames: &[[u8; DATAGRAM_BYTES]],
    ) -> io::Result<Junk> {
        let mut rng = ChaCha20Rng::seed_from_u64(3);
        let mut sockets = Vec::new();
        let (mut cookies, mut client) = (Vec::new(), None);
        let mut count = BURSTS;
        let mut bytes = DATAGRAM_BYTES;
        match kind {
            Kind::Handshakes => {
                for number in 0..SOURCES {
                    sockets.push(place.stranger(number)?);
                }
            }
            Kind::Unfinished => {
                count = BURSTS_WITH_COOKIE;
                for number in 0..SOURCES_WITH_COOKIE {
                    let socket = place.stranger(number)?;
                    cookies.push(cookie(world, &socket, &mut rng)?);
                    sockets.push(socket);
                }
            }
            Kind::OverRate => {
                let socket = place.stranger(0)?;
                client = Some(attach(world, place, node, &socket)?);
                sockets.push(socket);
            }
            Kind::RandomBytes => sockets.push(place.stranger(0)?),
            Kind::WrongSize => {
                bytes = WRONG_BYTES;
                sockets.push(place.stranger(0)?);
            }
            // Also in a peer's name.
            Kind::UnknownSession => {
                sockets.extend([place.stranger(0)?, place.senders[0].try_clone()?]);
            }
            Kind::Replayed | Kind::ForgedPeer | Kind::BadMac | Kind::GuessedIndices => {
                sockets.push(place.senders[0].try_clone()?);
            }
        }
        for one in &sockets {
            socket::segment(one, bytes)?;
        }
        let known: [u8; 4] = frames
            .first()
            .and_then(|frame| frame.get(INDEX)?.try_into().ok())
            .unwrap_or_default();
        let mut bursts = Vec::new();
        for number in 0..count {
            let mut burst = vec![0; BURST * bytes];
            rng.fill_bytes(&mut burst);
            for (place, datagram) in burst.chunks_mut(bytes).enumerate() {
                match kind {
                    Kind::RandomBytes | Kind::BadMac | Kind::OverRate => {}
                    Kind::WrongSize | Kind::UnknownSession => datagram[0] = DATA,
                    Kind::ForgedPeer => {
                        // A counter far from those in use would die before the AEAD.
                        let counter = (number * BURST + place) as u64 + frames.len() as u64;
                        datagram[..8]
                            .copy_from_slice(&(counter << 8 | u64::from(DATA)).to_le_bytes());
                        datagram[INDEX].copy_from_slice(&known);
                    }
                    Kind::GuessedIndices => {
                        // Sessions of other peers and some that nobody has, all in the name of peer 0.
                        datagram[0] = DATA;
                        let guess = u32::from_le_bytes(known).wrapping_add(1 + place as u32);
                        datagram[INDEX].copy_from_slice(&guess.to_le_bytes());
                    }
                    Kind::Replayed => {
                        let frame = &frames[(number * BURST + place) % frames.len().max(1)];
                        datagram.copy_from_slice(frame);
                    }
                    Kind::Handshakes => {
                        datagram.copy_from_slice(&initiation(world, None, &mut rng)?.1);
                    }
                    Kind::Unfinished => {
                        let cookie = cookies.get(number % SOURCES_WITH_COOKIE);
                        datagram.copy_from_slice(&initiation(world, cookie, &mut rng)?.1);
                    }
                }
            }
            bursts.push(burst);
        }
        Ok(Junk {
            kind,
            client,
            sockets,
            bursts,
            next: 0,
            rng,
        })
    }

    /// Sends one burst; says how many datagrams it was.
    pub(super) fn send(&mut self, world: &mut World) -> io::Result<u64> {
        let number = self.next % self.bursts.len();
        let socket = &self.sockets[self.next % self.sockets.len()];
        self.next += 1;
        if let Some(session) = &mut self.client {
            let mut packet = [0; PACKET_BYTES];
            self.rng.fill_bytes(&mut packet);
            for datagram in self.bursts[number].chunks_mut(DATAGRAM_BYTES) {
                datagram.copy_from_slice(&world::seal(session, link::Kind::Sphinx, &packet)?);
            }
        }
        if self.kind == Kind::BadMac {
            let mut packet = [0; PACKET_BYTES];
            self.rng.fill_bytes(&mut packet[..64]);
            for datagram in self.bursts[number].chunks_mut(DATAGRAM_BYTES) {
                packet[0] = packet[0].wrapping_add(1);
                datagram.copy_from_slice(&world.seal(0, &packet)?);
            }
        }
        match socket.send(&self.bursts[number]) {
            Ok(_) => Ok(BURST as u64),
            // The device's queue is full: what an attacker meets too.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            Err(error) => Err(error),
        }
    }
}

/// A sound first message from someone new.
fn initiation(
    world: &World,
    cookie: Option<&Cookie>,
    rng: &mut ChaCha20Rng,
) -> io::Result<(Initiator, [u8; DATAGRAM_BYTES])> {
    let keys = ClientKeys::generate(rng);
    let remote = world.node_keys().public();
    let index = rng.next_u32();
    Initiator::start(&keys, &remote, index, cookie, rng).map_err(io::Error::other)
}

/// What comes to a socket that does not block, until something `fits`; asked for again as long as nothing did, as a
/// datagram may be lost.
fn await_answer<T>(
    socket: &UdpSocket,
    mut ask: impl FnMut() -> io::Result<()>,
    mut fits: impl FnMut(&[u8; DATAGRAM_BYTES]) -> Option<T>,
) -> io::Result<T> {
    let end = Instant::now() + PATIENCE;
    let mut ask_at = Instant::now();
    let mut datagram = [0; DATAGRAM_BYTES];
    while Instant::now() < end {
        if Instant::now() >= ask_at {
            ask()?;
            ask_at = Instant::now() + ASK_AGAIN;
        }
        match socket.recv(&mut datagram) {
            Ok(_) => {
                if let Some(answer) = fits(&datagram) {
                    return Ok(answer);
                }
            }
            Err(_) => std::thread::sleep(Duration::from_millis(1)),
        }
    }
    Err(io::Error::other("the node does not answer a stranger"))
}

/// The cookie of a socket's address, from the node.
fn cookie(world: &World, socket: &UdpSocket, rng: &mut ChaCha20Rng) -> io::Result<Cookie> {
    let (initiator, datagram) = initiation(world, None, rng)?;
    let ask = || socket.send(&datagram).map(drop);
    await_answer(socket, ask, |answer| initiator.read_cookie(answer).ok())
}

/// A client that is attached, at the lowest rate.
fn attach(
    world: &mut World,
    place: &Place,
    node: &Node,
    socket: &UdpSocket,
) -> io::Result<Session> {
    let source = socket.local_addr()?;
    let (mut session, accepted) = world.connect_client(source)?;
    node.accept(place, accepted, source, false)?;
    // The node has the accepted handshake already and answers it by itself.
    let ask = || Ok(());
    await_answer(socket, ask, |answer| {
        matches!(link::peek(answer), Ok(link::Datagram::Response { .. })).then_some(())
    })?;
    let mut content = [0; PACKET_BYTES];
    Control::Attach { rate_pps: 1 }.encode(&mut content);
    let ask = || {
        let datagram = world::seal(&mut session, link::Kind::Control, &content)?;
        socket.send(&datagram).map(drop)
    };
    await_answer(socket, ask, |answer| {
        matches!(link::peek(answer), Ok(link::Datagram::Data { .. })).then_some(())
    })?;
    Ok(session)
}
