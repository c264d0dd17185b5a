//! Junk of one kind, as `mixbench flood` sends it, made ahead as far as that is possible.

use std::io;
use std::net::SocketAddr;

use link::control::Control;
use link::{CONTENT_BYTES, ClientKeys, DATAGRAM_BYTES, Datagram, Initiator, Kind, Session, peek};
use port::monotonic_ns;
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use sphinx::{Generator, PACKET_BYTES};

use super::call::{self, ASK_AGAIN_NS, Call, LOCAL_INDEX};
use super::outlet::Outlet;
use super::seat::{self, Network, Seat, link_of};
use crate::flood::Kind as JunkKind;

/// Handshakes of a flow that are made ahead and sent over and over.
const HANDSHAKES: usize = 256;
/// Frames of a flow that are sent over and over: the first time each is sound.
const FRAMES: usize = 256;
/// The rate that a client asks for which then sends at another.
const CLIENT_PPS: u32 = 1;
/// How long the first frame of a client's stream is waited for.
const PATIENCE_NS: u64 = 10_000_000_000;
/// The type byte of data frames.
const DATA: u8 = 4;
/// Where a data frame's receiver index is.
const INDEX: std::ops::Range<usize> = 8..12;
/// Content that is new in every packet which is sealed.
const FRESH_BYTES: usize = 64;

/// What a kind of junk takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Needs {
    /// An address.
    Target,
    /// The target's keys: the network's file.
    Network,
    /// A session of one of its neighbours: that one's keys too.
    Seat,
}

impl Needs {
    pub(super) fn of(kind: JunkKind) -> Needs {
        match kind {
            JunkKind::RandomBytes | JunkKind::WrongSize | JunkKind::UnknownSession => Needs::Target,
            JunkKind::Handshakes | JunkKind::Unfinished | JunkKind::OverRate => Needs::Network,
            JunkKind::Replayed
            | JunkKind::ForgedPeer
            | JunkKind::BadMac
            | JunkKind::GuessedIndices => Needs::Seat,
        }
    }
}

/// What one flow has ready.
struct Ready {
    /// Datagrams that are sent over and over.
    made: Vec<[u8; DATAGRAM_BYTES]>,
    /// Under which the others are made.
    session: Option<Session>,
}

/// A source of one kind.
pub(super) struct Junk {
    kind: JunkKind,
    slot: u8,
    flows: Vec<Ready>,
    rng: ChaCha20Rng,
    /// Taken as long as this is sent.
    _seat: Option<Seat>,
}

/// Whose junk it is.
pub(super) struct Grounds<'a> {
    pub(super) target: SocketAddr,
    pub(super) network: Option<&'a Network>,
    pub(super) seat: Option<Seat>,
}

impl Junk {
    /// Prepares it on all flows.
    ///
    /// # Errors
    /// The target does not answer where it has to, or is no gateway where clients are played.
    pub(super) fn prepare(
        kind: JunkKind,
        mut grounds: Grounds<'_>,
        outlets: &mut [Outlet],
    ) -> io::Result<Junk> {
        let mut rng = seat::random()?;
        let mut flows = Vec::new();
        for outlet in outlets {
            flows.push(match Needs::of(kind) {
                Needs::Target => Ready {
                    made: Vec::new(),
                    session: None,
                },
                Needs::Network => of_stranger(kind, &grounds, outlet, &mut rng)?,
                Needs::Seat => of_neighbour(kind, &mut grounds, outlet)?,
            });
        }
        Ok(Junk {
            kind,
            slot: grounds.network.map_or(0, Network::slot),
            flows,
            rng: ChaCha20Rng::from_rng(&mut rng),
            _seat: grounds.seat,
        })
    }

    /// Writes the next datagram of a flow.
    ///
    /// # Errors
    /// The session is spent.
    pub(super) fn fill(
        &mut self,
        flow: usize,
        number: u64,
        datagram: &mut [u8; DATAGRAM_BYTES],
    ) -> io::Result<()> {
        let flows = self.flows.len() as u64;
        let ready = &mut self.flows[flow];
        // Of this flow.
        let number = number / flows;
        match self.kind {
            JunkKind::RandomBytes | JunkKind::WrongSize => self.rng.fill_bytes(datagram),
            JunkKind::UnknownSession => {
                self.rng.fill_bytes(datagram);
                datagram[0] = DATA;
            }
            JunkKind::Handshakes | JunkKind::Unfinished | JunkKind::Replayed => {
                let made = &ready.made[number as usize % ready.made.len()];
                *datagram = *made;
            }
            JunkKind::ForgedPeer | JunkKind::GuessedIndices => {
                self.rng.fill_bytes(datagram);
                // A counter far from those in use would die before the AEAD.
                let head = (number + 1) << 8 | u64::from(DATA);
                datagram[..INDEX.start].copy_from_slice(&head.to_le_bytes());
                let index = ready
                    .session
                    .as_ref()
                    .map_or(0, |session| session.remote_index);
                // Of the one worker's: its number is the highest byte.
                let guess = index & !LOCAL_INDEX | self.rng.next_u32() & LOCAL_INDEX;
                let index = match self.kind {
                    JunkKind::ForgedPeer => index,
                    _ => guess,
                };
                datagram[INDEX].copy_from_slice(&index.to_le_bytes());
            }
            JunkKind::BadMac | JunkKind::OverRate => {
                let mut packet = [0; PACKET_BYTES];
                self.rng.fill_bytes(&mut packet[..FRESH_BYTES]);
                if let Some(session) = &mut ready.session {
                    call::seal_into(session, Kind::Sphinx, self.slot, &packet, datagram)?;
                }
            }
        }
        Ok(())
    }
}

/// Junk of somebody whom the target does not know.
fn of_stranger(
    kind: JunkKind,
    grounds: &Grounds<'_>,
    outlet: &mut Outlet,
    rng: &mut Generator,
) -> io::Result<Ready> {
    let network = grounds
        .network
        .ok_or_else(|| io::Error::other("no network"))?;
    let remote = link_of(network.at(grounds.target)?);
    let keys = ClientKeys::generate(rng);
    let call = Call {
        keys: &keys,
        remote: &remote,
        address: grounds.target,
        index: rng.next_u32() & LOCAL_INDEX,
    };
    let (mut made, mut session, mut cookie) = (Vec::new(), None, None);
    match kind {
        JunkKind::OverRate => session = Some(attach(&call, outlet, network.slot(), rng)?),
        JunkKind::Unfinished => cookie = Some(call.cookie(outlet, rng)?),
        _ => {}
    }
    if session.is_none() {
        for _ in 0..HANDSHAKES {
            let (keys, index) = (ClientKeys::generate(rng), rng.next_u32());
            let started = Initiator::start(&keys, &remote, index, cookie.as_ref(), rng);
            let (_, datagram) = started.map_err(io::Error::other)?;
            made.push(datagram);
        }
    }
    Ok(Ready { made, session })
}

/// A client that is attached, at the lowest rate.
fn attach(
    call: &Call<'_, ClientKeys>,
    outlet: &mut Outlet,
    slot: u8,
    rng: &mut Generator,
) -> io::Result<Session> {
    let mut session = call.session(outlet, rng, &mut |_, _| None)?;
    let mut content = [0; CONTENT_BYTES];
    Control::Attach {
        rate_pps: CLIENT_PPS,
    }
    .encode(&mut content);
    let end_ns = monotonic_ns() + PATIENCE_NS;
    while monotonic_ns() < end_ns {
        let datagram = call::seal(&mut session, Kind::Control, slot, &content)?;
        outlet.send(call.address, |frame| *frame = datagram);
        let again_ns = monotonic_ns() + ASK_AGAIN_NS;
        let mut streams = false;
        while monotonic_ns() < again_ns && !streams {
            outlet.wait(again_ns)?;
            outlet.listen(&mut |datagram, _| {
                streams |= matches!(peek(&datagram[..]), Ok(Datagram::Data { .. }));
                None
            });
        }
        if streams {
            return Ok(session);
        }
    }
    Err(io::Error::other(format!(
        "{} takes no client: is it a gateway?",
        call.address
    )))
}

/// Junk of a neighbour whose keys are at hand.
fn of_neighbour(
    kind: JunkKind,
    grounds: &mut Grounds<'_>,
    outlet: &mut Outlet,
) -> io::Result<Ready> {
    let (Some(network), Some(seat)) = (grounds.network, grounds.seat.as_mut()) else {
        return Err(io::Error::other("no keys"));
    };
    let remote = link_of(network.at(grounds.target)?);
    let mut session = seat.connect(outlet, &remote, grounds.target)?;
    let cover = [0; CONTENT_BYTES];
    // From its first frame on the session counts.
    let first = call::seal(&mut session, Kind::Cover, network.slot(), &cover)?;
    outlet.send(grounds.target, |frame| *frame = first);
    let mut made = Vec::new();
    if kind == JunkKind::Replayed {
        for _ in 0..FRAMES {
            let frame = call::seal(&mut session, Kind::Cover, network.slot(), &cover)?;
            made.push(frame);
        }
    }
    Ok(Ready {
        made,
        session: Some(session),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of kinds that need nobody's keys.
    fn of(kind: JunkKind) -> Junk {
        let grounds = Grounds {
            target: ([127, 0, 0, 1], 9).into(),
            network: None,
            seat: None,
        };
        let mut junk = Junk::prepare(kind, grounds, &mut []).unwrap();
        let made = Vec::new();
        junk.flows.push(Ready {
            made,
            session: None,
        });
        junk
    }

    #[test]
    fn junk_is_never_twice_the_same_where_it_is_random() {
        for kind in [
            JunkKind::RandomBytes,
            JunkKind::WrongSize,
            JunkKind::UnknownSession,
        ] {
            let mut junk = of(kind);
            let mut datagrams = [[0; DATAGRAM_BYTES]; 2];
            for (datagram, number) in datagrams.iter_mut().zip(0..) {
                junk.fill(0, number, datagram).unwrap();
            }
            assert_ne!(datagrams[0], datagrams[1], "{}", kind.name());
            let is_frame = matches!(peek(&datagrams[0][..]), Ok(Datagram::Data { .. }));
            assert!(is_frame || kind != JunkKind::UnknownSession);
        }
    }

    #[test]
    fn a_kind_needs_no_more_keys_than_it_uses() {
        let needs = |kind: JunkKind| Needs::of(kind);
        let all = JunkKind::ALL.map(needs);
        let count = |needs| all.iter().filter(|one| **one == needs).count();
        assert_eq!(
            (
                count(Needs::Target),
                count(Needs::Network),
                count(Needs::Seat)
            ),
            (3, 3, 4)
        );
    }
}
