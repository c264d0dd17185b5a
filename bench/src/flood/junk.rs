//! Junk: what an attacker sends, one kind at a time.
//!
//! Bursts of datagrams go out in one send each, cut apart by the kernel: the attacker needs less CPU than the node.

use std::io;
use std::net::UdpSocket;

use link::{ClientKeys, DATAGRAM_BYTES, Initiator};
use port::socket;
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use sphinx::PACKET_BYTES;

use crate::scene::place::Place;
use crate::scene::world::World;

/// Datagrams of one send.
const BURST: usize = 16;
/// Different bursts that are made, and sent over and over.
const BURSTS: usize = 64;
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
pub(super) enum Kind {
    RandomBytes,
    WrongSize,
    Replayed,
    ForgedPeer,
    UnknownSession,
    Handshakes,
    BadMac,
    GuessedIndices,
}

impl Kind {
    pub(super) const ALL: [Kind; 8] = [
        Kind::RandomBytes,
        Kind::WrongSize,
        Kind::Replayed,
        Kind::ForgedPeer,
        Kind::UnknownSession,
        Kind::Handshakes,
        Kind::BadMac,
        Kind::GuessedIndices,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::RandomBytes => "random_bytes",
            Kind::WrongSize => "wrong_size",
            Kind::Replayed => "replayed_frames",
            Kind::ForgedPeer => "forged_source_of_a_peer",
            Kind::UnknownSession => "unknown_sessions",
            Kind::Handshakes => "handshake_flood",
            Kind::BadMac => "bad_mac_from_a_peer",
            Kind::GuessedIndices => "guessed_indices_of_a_peer",
        }
    }
}

/// A source of one kind.
pub(super) struct Junk {
    kind: Kind,
    sockets: Vec<UdpSocket>,
    bursts: Vec<Vec<u8>>,
    next: usize,
    rng: ChaCha20Rng,
}

impl Junk {
    /// Prepares it. `frames` are honest frames of peer 0 that the node has seen or will see.
    pub(super) fn new(
        kind: Kind,
        world: &World,
        place: &Place,
        frames: &[[u8; DATAGRAM_BYTES]],
    ) -> io::Result<Junk> {
        let mut rng = ChaCha20Rng::seed_from_u64(3);
        let mut sockets = Vec::new();
        let mut bytes = DATAGRAM_BYTES;
        match kind {
            Kind::Handshakes => {
                for number in 0..SOURCES {
                    sockets.push(place.stranger(number)?);
                }
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
        for number in 0..BURSTS {
            let mut burst = vec![0; BURST * bytes];
            rng.fill_bytes(&mut burst);
            for (place, datagram) in burst.chunks_mut(bytes).enumerate() {
                match kind {
                    Kind::RandomBytes | Kind::BadMac => {}
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
                        datagram.copy_from_slice(&initiation(world, number, &mut rng)?);
                    }
                }
            }
            bursts.push(burst);
        }
        Ok(Junk {
            kind,
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
    number: usize,
    rng: &mut ChaCha20Rng,
) -> io::Result<[u8; DATAGRAM_BYTES]> {
    let keys = ClientKeys::generate(rng);
    let remote = world.node_keys().public();
    let started = Initiator::start(&keys, &remote, number as u32, None, rng);
    Ok(started.map_err(io::Error::other)?.1)
}
