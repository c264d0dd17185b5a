//! A node's neighbourhood: the consensus it is in, neighbours with sessions, packets for it.
//!
//! The node measured is a mix of layer 1. Gateways before it send; mixes of layer 2 after it are its next hops, and
//! their halves of the handshakes are played here, with the production code and without a wire.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use arrayvec::ArrayVec;
use directory::{Consensus, Head, LinkKey, Parameters, Record, Role};
use link::{
    Arrival, CONTENT_OFFSET, DATAGRAM_BYTES, Initiator, Kind, LinkKeys, LinkPublic, OpenJob,
    Responder, Response, SealJob, Session, open_batch, seal_batch,
};
use mixnode::keys::epoch::{Clocks, EpochState, KeyRing, Sizes};
use rand::RngExt;
use rand_chacha::ChaCha20Rng;
use rand_core::Rng;
use sphinx::{BODY_BYTES, EpochSecret, PACKET_BYTES, PathHop, Terminal, wrap};

/// Wall clock of a lockstep run's first instant.
pub(crate) const GENESIS_MS: u64 = 1_700_000_000_000;
/// Epoch of every packet.
const EPOCH: u32 = 0;
/// The replay table holds the tags of a run many times over, as a node's does; it is larger than any cache.
const REPLAY_PPS: u32 = 1_000;
const EPOCH_MS: u64 = 3_600_000;
/// Mean delay of the network, microseconds.
pub(crate) const MEAN_DELAY_US: u32 = 20_000;
/// Longest delay that packets here ask for, microseconds.
pub(crate) const DELAY_MAX_US: u32 = 5_000;

/// A node beside the one measured.
pub(crate) struct Neighbour {
    /// Where it is.
    pub(crate) address: SocketAddr,
    index: u16,
    keys: LinkKeys,
    secret: EpochSecret,
    /// A sender's half of its session with the node, or a next hop's.
    session: Option<Session>,
}

/// The node measured and all its neighbours.
pub(crate) struct World {
    /// What the node has in force.
    pub(crate) state: Arc<EpochState>,
    /// The gateways before the node.
    pub(crate) senders: Vec<Neighbour>,
    next_hops: Vec<Neighbour>,
    keys: LinkKeys,
    public_key: [u8; 32],
    index: u16,
    fresh_index: u32,
    /// When its sessions begin, by the clock of the node measured.
    pub(crate) now_ns: u64,
    /// For packets and choices.
    pub(crate) rng: ChaCha20Rng,
}

/// What a node's receiving half of a handshake is.
pub(crate) struct Accepted {
    /// The session, for the node.
    pub(crate) session: Box<Session>,
    /// The node's answer, which it sends.
    pub(crate) reply: Box<[u8; DATAGRAM_BYTES]>,
}

fn broken(what: impl std::fmt::Display) -> io::Error {
    io::Error::other(what.to_string())
}

impl World {
    /// A node at `node` between `senders` and `next_hops`.
    ///
    /// # Errors
    /// No memory for the replay table.
    pub(crate) fn new(
        node: SocketAddr,
        senders: &[SocketAddr],
        next_hops: &[SocketAddr],
        mut rng: ChaCha20Rng,
    ) -> io::Result<World> {
        let parameters = Parameters {
            genesis_unix_ms: GENESIS_MS,
            epoch_ms: EPOCH_MS,
            mean_delay_us: MEAN_DELAY_US,
            client_rate_pps: 100,
            layers: 2,
        };
        let mut ring = KeyRing::default();
        ring.advance(EPOCH, Some(&parameters), Clocks::default(), &mut rng);
        let secret = ring.secret(EPOCH).ok_or_else(|| broken("no epoch key"))?;
        let public_key = *secret.public_key();
        let keys = LinkKeys::generate(&mut rng);
        // Identities are numbers, so that the order in the document is that of this list.
        let mut described = vec![record((0, 1), Role::Mix, node, &keys, public_key)];
        let mut neighbour = |address: SocketAddr, role, layer| {
            let (keys, secret) = (
                LinkKeys::generate(&mut rng),
                EpochSecret::generate(&mut rng),
            );
            let index = described.len() as u16;
            let public_key = *secret.public_key();
            described.push(record((index, layer), role, address, &keys, public_key));
            Neighbour {
                address,
                index,
                keys,
                secret,
                session: None,
            }
        };
        let senders: Vec<_> = senders
            .iter()
            .map(|address| neighbour(*address, Role::Gateway, 0))
            .collect();
        let next_hops = next_hops
            .iter()
            .map(|address| neighbour(*address, Role::Mix, 2))
            .collect();
        let consensus = Consensus::new(Head::bare(parameters, EPOCH), described).map_err(broken)?;
        let state = EpochState::new(
            consensus,
            Vec::new(),
            &identity(0),
            &mut ring,
            Sizes {
                max_pps: REPLAY_PPS,
                workers: 1,
            },
            &mut rng,
        )?;
        Ok(World {
            state: Arc::new(state),
            senders,
            next_hops,
            keys,
            public_key,
            index: 0,
            fresh_index: 1,
            now_ns: 0,
            rng,
        })
    }

    /// Makes the node's replay table resident, as the node does before an epoch.
    ///
    /// # Errors
    /// There is no memory, or the kernel can't.
    pub(crate) fn touch_replay_table(&self) -> io::Result<()> {
        let Some(own) = self.state.own() else {
            return Err(broken("the node has no part in its epoch"));
        };
        let mut from = Some(0);
        while let Some(at) = from {
            from = own.replay.touch(at)?;
        }
        Ok(())
    }

    /// The node's static keys.
    pub(crate) fn node_keys(&self) -> LinkKeys {
        self.keys.clone()
    }

    fn handshake(
        &mut self,
        initiator: &LinkKeys,
        responder: LinkKeys,
        source: SocketAddr,
    ) -> io::Result<(Session, Accepted)> {
        let remote: LinkPublic = responder.public();
        // Both halves are of worker 0: its number is the index's high byte.
        self.fresh_index += 2;
        let (ours, theirs) = (self.fresh_index, self.fresh_index + 1);
        let (mut initiator, datagram) =
            Initiator::start(initiator, &remote, ours, None, &mut self.rng).map_err(broken)?;
        let arrival = Arrival {
            source,
            now_ns: self.now_ns,
        };
        let responder = Responder::new(responder);
        // Both ends are here, so no cookie has to prove an address.
        match responder.answer(&datagram, &arrival, theirs, |_| true, &mut self.rng) {
            Ok(Response::Accepted { reply, session }) => {
                let sending = initiator.finish(&reply, self.now_ns).map_err(broken)?;
                Ok((sending, Accepted { session, reply }))
            }
            Ok(Response::Cookie { .. }) => Err(broken("a cookie where none is asked for")),
            Err(error) => Err(broken(error)),
        }
    }

    /// Opens the session of a sender; the node's half is returned.
    ///
    /// # Errors
    /// Never with the keys made here.
    pub(crate) fn connect_sender(&mut self, number: usize) -> io::Result<Accepted> {
        let sender = &self.senders[number];
        let (keys, address) = (sender.keys.clone(), sender.address);
        let (session, accepted) = self.handshake(&keys, self.keys.clone(), address)?;
        self.senders[number].session = Some(session);
        Ok(accepted)
    }

    /// Opens a session of a client at `address` with the node: its half, and the node's.
    ///
    /// # Errors
    /// Never with the keys made here.
    pub(crate) fn connect_client(
        &mut self,
        address: SocketAddr,
    ) -> io::Result<(Session, Accepted)> {
        let keys = LinkKeys::generate(&mut self.rng);
        self.handshake(&keys, self.keys.clone(), address)
    }

    /// The node's sending session to the next hop with these keys.
    ///
    /// # Errors
    /// There is no such next hop.
    pub(crate) fn connect_node(&mut self, remote: &LinkPublic) -> io::Result<Session> {
        let found = self
            .next_hops
            .iter()
            .position(|hop| hop.keys.public().x25519 == remote.x25519);
        let number = found.ok_or_else(|| broken("the node wants a session with a stranger"))?;
        let hop = &self.next_hops[number];
        let (responder, address) = (hop.keys.clone(), hop.address);
        let keys = self.keys.clone();
        let (sending, accepted) = self.handshake(&keys, responder, address)?;
        self.next_hops[number].session = Some(*accepted.session);
        Ok(sending)
    }

    /// A fresh packet through the node to a random next hop, sealed by sender `number`.
    ///
    /// # Errors
    /// The sender has no session.
    pub(crate) fn datagram(&mut self, number: usize) -> io::Result<[u8; DATAGRAM_BYTES]> {
        let next = self.rng.random_range(0..self.next_hops.len());
        let delay_us = self.rng.random_range(0..DELAY_MAX_US);
        let packet = self.packet(next, delay_us)?;
        self.seal(number, &packet.bytes)
    }

    /// A fresh packet through the node to next hop `next`.
    ///
    /// # Errors
    /// Never with the keys made here.
    pub(crate) fn packet(&mut self, next: usize, delay_us: u32) -> io::Result<Packet> {
        let hop = &self.next_hops[next];
        let path = [
            PathHop {
                public_key: self.public_key,
                node: self.index,
                delay_us,
            },
            PathHop {
                public_key: *hop.secret.public_key(),
                node: hop.index,
                delay_us: 0,
            },
        ];
        let mut body = [0; BODY_BYTES];
        self.rng.fill_bytes(&mut body[sphinx::CHECK_BYTES..]);
        // A packet's ephemeral secrets are the first it draws, 32 bytes a hop.
        let mut same = self.rng.clone();
        let mut secrets = [[0; 32]; 2];
        secrets
            .iter_mut()
            .for_each(|secret| same.fill_bytes(secret));
        let mut bytes = [0; PACKET_BYTES];
        wrap(&mut self.rng, &path, &Terminal::Drop, &body, &mut bytes).map_err(broken)?;
        Ok(Packet {
            bytes,
            next_secret: secrets[1],
        })
    }

    /// A frame with `packet` from sender `number`.
    ///
    /// # Errors
    /// The sender has no session.
    pub(crate) fn seal(
        &mut self,
        number: usize,
        packet: &[u8; PACKET_BYTES],
    ) -> io::Result<[u8; DATAGRAM_BYTES]> {
        let session = self.senders[number].session.as_mut();
        let session = session.ok_or_else(|| broken("the sender has no session"))?;
        seal(session, Kind::Sphinx, packet)
    }

    /// The packet in a frame that next hop `number` got.
    pub(crate) fn open(
        &self,
        number: usize,
        datagram: &mut [u8; DATAGRAM_BYTES],
    ) -> Option<[u8; PACKET_BYTES]> {
        let session = self.next_hops.get(number)?.session.as_ref()?.receive.key();
        let mut verdicts = ArrayVec::new();
        open_batch(&mut [OpenJob { session, datagram }], &mut verdicts);
        verdicts.pop()?.ok()?;
        datagram.get(CONTENT_OFFSET..)?.first_chunk().copied()
    }
}

/// A frame with this content under a session.
///
/// # Errors
/// The session is spent.
pub(crate) fn seal(
    session: &mut Session,
    kind: Kind,
    content: &[u8; PACKET_BYTES],
) -> io::Result<[u8; DATAGRAM_BYTES]> {
    let mut datagram = [0; DATAGRAM_BYTES];
    datagram[CONTENT_OFFSET..CONTENT_OFFSET + PACKET_BYTES].copy_from_slice(content);
    let counter = session.send.next_counter();
    seal_batch(&mut [SealJob {
        session: session.send.key(),
        counter: counter.ok_or_else(|| broken("the session is spent"))?,
        kind,
        epoch: (EPOCH % 4) as u8,
        datagram: &mut datagram,
    }]);
    Ok(datagram)
}

/// A packet for the node.
pub(crate) struct Packet {
    /// Its bytes.
    pub(crate) bytes: [u8; PACKET_BYTES],
    /// The next hop finds the X25519 public key of this at the packet's beginning: by that it is known again.
    pub(crate) next_secret: [u8; 32],
}

fn identity(number: u16) -> [u8; 32] {
    let mut identity = [0; 32];
    identity[..2].copy_from_slice(&number.to_be_bytes());
    identity
}

fn record(
    (number, layer): (u16, u8),
    role: Role,
    address: SocketAddr,
    keys: &LinkKeys,
    public_key: [u8; 32],
) -> Record {
    let public = keys.public();
    Record {
        layer,
        identity: identity(number),
        role,
        operator: format!("operator {number}"),
        addresses: vec![address],
        link: LinkKey {
            x25519: public.x25519,
            kem: public.kem,
        },
        epoch_key: public_key,
        weight: 1_000,
        vrf_key: [0; 32],
        vrf_since: EPOCH,
        flags: 0,
        vrf_proof: None,
    }
}
