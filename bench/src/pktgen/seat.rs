//! A node's place in its network, taken with its own keys: links to those after it, and from those before it.
//!
//! The node itself must be down: its address is taken too. To those before it the generator is that node, restarted.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use arrayvec::ArrayVec;
use directory::{Bootstrap, Consensus, Node};
use link::control::Control;
use link::{
    Arrival, CONTENT_BYTES, CONTENT_OFFSET, DATAGRAM_BYTES, Datagram, Kind, LinkKeys, LinkPublic,
    OpenJob, Responder, Response, Session, open_batch, peek,
};
use mixnode::keys::files;
use mixnode::loader_link::Indices;
use port::{Exclusive, monotonic_ns};
use rand_core::{Rng, SeedableRng};
use sphinx::Generator;

use super::call::{ASK_AGAIN_NS, Call, LOCAL_INDEX, TURN_NS, seal};
use super::outlet::Outlet;
use crate::lost::refused;

/// How long those before may take to open their links.
const COMING_NS: u64 = 15_000_000_000;
/// Times that a node is told of the restart: nothing answers.
const TELLS: usize = 3;

/// A generator seeded by the system.
pub(super) fn random() -> io::Result<Generator> {
    Generator::seeded(getrandom::fill)
        .map_err(|error| io::Error::other(format!("no randomness: {error}")))
}

/// A network, by its file.
pub(super) struct Network {
    pub(super) consensus: Consensus,
}

impl Network {
    /// The document in force in a network's file.
    ///
    /// # Errors
    /// It can't be read, is none, or is of another epoch than this.
    pub(super) fn read(file: &Path) -> io::Result<Network> {
        let named = |error: &dyn std::fmt::Display| {
            io::Error::other(format!("--network {}: {error}", file.display()))
        };
        let bootstrap = Bootstrap::read(file).map_err(|error| named(&error))?;
        let consensus = bootstrap.verify().map_err(|error| named(&error))?;
        let now = consensus.epoch_at(unix_ms());
        match consensus.epoch() == now {
            true => Ok(Network { consensus }),
            false => Err(named(&format!(
                "its document is of epoch {}, and it is epoch {now}: `mixctl consensus fetch` brings the newest",
                consensus.epoch()
            ))),
        }
    }

    /// The node that listens at `target`.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn at(&self, target: SocketAddr) -> io::Result<&Node> {
        let mut nodes = self.consensus.nodes().iter();
        nodes
            .find(|node| node.addresses.contains(&target))
            .ok_or_else(|| {
                refused(format!(
                    "--target {target}: no node of the network is there"
                ))
            })
    }

    /// Whether one operator runs node `index` and the one at `target`.
    ///
    /// # Errors
    /// There is none at `target`.
    pub(super) fn operators_are_one(&self, index: u16, target: SocketAddr) -> io::Result<bool> {
        let own = self.consensus.node(index);
        let other = self.at(target)?;
        Ok(own.is_some_and(|own| own.operator == other.operator))
    }

    /// An epoch as links say it.
    pub(super) fn slot(&self) -> u8 {
        (self.consensus.epoch() % 4) as u8
    }
}

/// The wall clock.
pub(super) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}

/// A node's public link keys.
pub(super) fn link_of(node: &Node) -> LinkPublic {
    LinkPublic {
        x25519: node.link.x25519,
        kem: node.link.kem.clone(),
    }
}

/// What a datagram is that came to the seat.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Arrived {
    /// To be answered so.
    Answer(Box<[u8; DATAGRAM_BYTES]>),
    /// A packet, by its first bytes.
    Packet([u8; 8]),
    /// Nothing that matters here.
    Other,
}

/// The place.
pub(super) struct Seat {
    pub(super) keys: LinkKeys,
    /// The node's index in the document.
    pub(super) index: u16,
    /// Where it listens.
    pub(super) address: SocketAddr,
    responder: Responder,
    before: Vec<(LinkPublic, SocketAddr)>,
    /// Sessions of those before, by our index.
    inbound: HashMap<u32, Box<Session>>,
    /// Those before, a frame of whose came: until then a session may be one that they have given up.
    proven: HashSet<[u8; 32]>,
    /// Told of every index before anyone else is.
    pub(super) indices: Box<dyn Indices>,
    rng: Generator,
    _exclusive: Exclusive,
}

impl Seat {
    /// Takes the place of the node whose keys are in `keys`, to send to `target`.
    ///
    /// # Errors
    /// No such keys, none of this network's nodes, not before `target` in it, or the node is up.
    pub(super) fn take(
        network: &Network,
        keys: &Path,
        target: SocketAddr,
        indices: Box<dyn Indices>,
    ) -> io::Result<Seat> {
        let named = |what: &dyn std::fmt::Display| format!("--as {}: {what}", keys.display());
        if !files::are_all_there(keys) {
            let what = "the keys of a node are not all there: name its state folder";
            return Err(refused(named(&what)));
        }
        let mut rng = random()?;
        let own = files::load_or_create(keys, &mut rng)
            .map_err(|error| io::Error::other(named(&format!("{error}; {}", error.remedy()))))?;
        let consensus = &network.consensus;
        let node = consensus.find(&own.identity.public()).ok_or_else(|| {
            let what = "these are the keys of no node that the network's document lists";
            refused(named(&what))
        })?;
        let to = network.at(target)?;
        if !consensus.may_forward(node.layer, to.index) {
            let next = consensus.layer(consensus.next_layer(node.layer));
            let next: Vec<String> = next
                .flat_map(|node| &node.addresses)
                .map(SocketAddr::to_string)
                .collect();
            return Err(refused(format!(
                "--target {target}: packets of that node don't go there; they go to {}",
                next.join(", ")
            )));
        }
        let same_family = |address: &&SocketAddr| address.is_ipv6() == target.is_ipv6();
        let address = node.addresses.iter().find(same_family).copied();
        let address = address.ok_or_else(|| {
            refused(named(
                &"the node has no address of the target's version of IP",
            ))
        })?;
        let exclusive = Exclusive::acquire(address).map_err(|error| {
            io::Error::other(named(&format!(
                "{error} (the generator takes that node's place: the node itself must be down)"
            )))
        })?;
        let mut layers = 0..=consensus.parameters().layers;
        let before = layers.find(|layer| consensus.next_layer(*layer) == node.layer);
        let before = before.into_iter().flat_map(|layer| consensus.layer(layer));
        let before = before.filter_map(|node| {
            let address = node.addresses.iter().find(same_family)?;
            Some((link_of(node), *address))
        });
        Ok(Seat {
            responder: Responder::new(own.link.clone()),
            keys: own.link,
            index: node.index,
            address,
            before: before.collect(),
            inbound: HashMap::new(),
            proven: HashSet::new(),
            indices,
            rng,
            _exclusive: exclusive,
        })
    }

    /// Tells those before that the node was restarted, and waits until they have opened their links; how many have not.
    ///
    /// # Errors
    /// The port's.
    pub(super) fn gather(&mut self, outlet: &mut Outlet, slot: u8) -> io::Result<usize> {
        let mut content = [0; CONTENT_BYTES];
        Control::Restarted.encode(&mut content);
        let mut told = Vec::new();
        for (remote, address) in self.before.clone() {
            // One that does not answer is missed below.
            if let Ok(session) = self.connect(outlet, &remote, address) {
                told.push((session, address));
            }
        }
        let deadline_ns = monotonic_ns() + COMING_NS;
        for round in 0.. {
            if round < TELLS {
                for (session, address) in &mut told {
                    let datagram = seal(session, Kind::Control, slot, &content)?;
                    outlet.send(*address, |frame| *frame = datagram);
                }
            }
            let until_ns = monotonic_ns() + ASK_AGAIN_NS;
            while monotonic_ns() < until_ns && self.missing() > 0 {
                outlet.wait(monotonic_ns() + TURN_NS)?;
                outlet.listen(&mut |datagram, source| self.answer(datagram, source));
            }
            if self.missing() == 0 || monotonic_ns() >= deadline_ns {
                break;
            }
        }
        Ok(self.missing())
    }

    /// Those before that have no link to here: who opens one sends its first frame at once.
    fn missing(&self) -> usize {
        let has = |(remote, _): &&(LinkPublic, SocketAddr)| self.proven.contains(&remote.x25519);
        self.before.len() - self.before.iter().filter(has).count()
    }

    /// Opens a session with a node after it, or before, as this one.
    ///
    /// # Errors
    /// It does not answer.
    pub(super) fn connect(
        &mut self,
        outlet: &mut Outlet,
        remote: &LinkPublic,
        address: SocketAddr,
    ) -> io::Result<Session> {
        let keys = self.keys.clone();
        let mut rng = Generator::from_rng(&mut self.rng);
        let index = rng.next_u32() & LOCAL_INDEX;
        if !self.indices.admit(index, address.ip()) {
            return Err(io::Error::other("the loader does not let an index in"));
        }
        let call = Call {
            keys: &keys,
            remote,
            address,
            index,
        };
        call.session(outlet, &mut rng, &mut |datagram, source| {
            self.answer(datagram, source)
        })
    }

    fn answer(
        &mut self,
        datagram: &mut [u8; DATAGRAM_BYTES],
        source: SocketAddr,
    ) -> Option<Box<[u8; DATAGRAM_BYTES]>> {
        match self.arrived(datagram, source) {
            Arrived::Answer(answer) => Some(answer),
            Arrived::Packet(_) | Arrived::Other => None,
        }
    }

    /// Looks at a datagram, and opens it if it is a frame of one before.
    pub(super) fn arrived(
        &mut self,
        datagram: &mut [u8; DATAGRAM_BYTES],
        source: SocketAddr,
    ) -> Arrived {
        match peek(&datagram[..]) {
            Ok(Datagram::Initiation { .. }) => self.respond(datagram, source),
            Ok(Datagram::Data {
                receiver_index,
                counter,
            }) => self.open(receiver_index, counter, datagram),
            _ => Arrived::Other,
        }
    }

    fn respond(&mut self, datagram: &[u8; DATAGRAM_BYTES], source: SocketAddr) -> Arrived {
        let index = self.rng.next_u32() & LOCAL_INDEX;
        let arrival = Arrival {
            source,
            now_ns: monotonic_ns(),
        };
        let before = &self.before;
        let welcome = |key: &[u8; 32]| before.iter().any(|(remote, _)| remote.x25519 == *key);
        let answer = self
            .responder
            .respond(datagram, &arrival, index, welcome, &mut self.rng);
        match answer {
            Ok(Response::Cookie { reply }) => Arrived::Answer(reply),
            Ok(Response::Accepted { reply, session }) if self.indices.admit(index, source.ip()) => {
                self.inbound.insert(index, session);
                Arrived::Answer(reply)
            }
            Ok(Response::Accepted { .. }) | Err(_) => Arrived::Other,
        }
    }

    fn open(&mut self, index: u32, counter: u64, datagram: &mut [u8; DATAGRAM_BYTES]) -> Arrived {
        let Some(session) = self.inbound.get_mut(&index) else {
            return Arrived::Other;
        };
        if session.receive.check(counter).is_err() {
            return Arrived::Other;
        }
        let mut verdicts = ArrayVec::new();
        let mut jobs = [OpenJob {
            session: session.receive.key(),
            datagram,
        }];
        open_batch(&mut jobs, &mut verdicts);
        let Some(Ok(opened)) = verdicts.pop() else {
            return Arrived::Other;
        };
        if session.receive.admit(counter).is_err() {
            return Arrived::Other;
        }
        self.proven.insert(session.peer);
        let content = datagram.get(CONTENT_OFFSET..);
        match content.and_then(<[u8]>::first_chunk) {
            Some(mark) if opened.kind == Kind::Sphinx => Arrived::Packet(*mark),
            _ => Arrived::Other,
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
