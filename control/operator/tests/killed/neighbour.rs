//! A neighbour of a real node, played in the test: the production code for documents, handshakes and frames, around a
//! socket of its own.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;

use arrayvec::ArrayVec;
use directory::store::Store;
use directory::vrf::VrfSecret;
use directory::{Identity, LinkKey, Role};
use link::control::Control;
use link::{
    CONTENT_OFFSET, DATAGRAM_BYTES, Datagram, Kind, LinkKeys, LinkPublic, OpenJob, SealJob,
    Session, open_batch, peek, seal_batch,
};
use mixnode::handshake::{Handshaker, Members, Request};
use mixnode::keys::epoch::{Clocks, EpochState, Sizes};
use mixnode::path::mail::Mail;
use mixnode::process::follower::{Follower, Profile};
use mixnode::process::unix_ms;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use sphinx::PACKET_BYTES;

pub struct Neighbour {
    pub address: SocketAddr,
    socket: UdpSocket,
    follower: Follower,
    handshaker: Handshaker<ChaCha20Rng>,
    rng: ChaCha20Rng,
    /// What it sends on.
    sending: Option<Box<Session>>,
    /// What it was opened.
    receiving: Vec<Session>,
    /// What is in force.
    pub state: Option<Arc<EpochState>>,
    /// Sessions on which a node said that it was restarted.
    pub told: Vec<u32>,
}

impl Neighbour {
    /// At a free port of `ip`.
    pub fn new(ip: &str, role: Role, seed: u64) -> Neighbour {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let socket = UdpSocket::bind((ip, 0)).unwrap();
        socket.set_nonblocking(true).unwrap();
        let address = socket.local_addr().unwrap();
        let keys = LinkKeys::generate(&mut rng);
        let public = keys.public();
        let profile = Profile {
            role,
            operator: format!("played {seed}"),
            addresses: vec![address],
            link: LinkKey {
                x25519: public.x25519,
                kem: public.kem,
            },
            capacity_pps: 100_000,
        };
        let identity = Identity::generate(&mut rng);
        Neighbour {
            address,
            socket,
            follower: Follower::new(
                identity,
                VrfSecret::from_bytes(&[seed as u8; 32]),
                profile,
                Sizes {
                    max_pps: 100,
                    workers: 1,
                },
            ),
            handshaker: Handshaker::new(keys, Arc::new(Members::new(true)), rng.clone()),
            rng,
            sending: None,
            receiving: Vec::new(),
            state: None,
            told: Vec::new(),
        }
    }

    /// Follows the folder.
    pub fn follow(&mut self, store: &Store) {
        let clocks = Clocks {
            unix_ms: unix_ms(),
            boot_ns: port::boot_ns(),
        };
        let state = self.follower.turn(store, clocks, &mut self.rng).unwrap();
        let fit = state.filter(|state| state.own().is_some());
        self.state = fit.or(self.state.take());
    }

    /// Asks for a session with a node that has forgotten the last one.
    pub fn connect(&mut self, node: &Arc<LinkPublic>, destination: SocketAddr) {
        self.ask(Request::Connect {
            worker: 0,
            link: 0,
            remote: Arc::clone(node),
            destination,
        });
    }

    pub fn is_connected(&self) -> bool {
        self.sending.is_some()
    }

    /// Sends a packet on its session.
    pub fn send(&mut self, packet: &[u8; PACKET_BYTES], epoch: u32, to: SocketAddr) {
        let Some(session) = &mut self.sending else {
            return;
        };
        let mut datagram = [0; DATAGRAM_BYTES];
        datagram[CONTENT_OFFSET..][..PACKET_BYTES].copy_from_slice(packet);
        let counter = session.send.next_counter().unwrap();
        seal_batch(&mut [SealJob {
            session: session.send.key(),
            counter,
            kind: Kind::Sphinx,
            epoch: (epoch % 4) as u8,
            datagram: &mut datagram,
        }]);
        // Nobody may be there.
        let _ = self.socket.send_to(&datagram, to);
    }

    /// Takes what has come: the Sphinx packets among it.
    pub fn receive(&mut self) -> Vec<[u8; PACKET_BYTES]> {
        let mut packets = Vec::new();
        let mut datagram = [0; DATAGRAM_BYTES];
        while let Ok((DATAGRAM_BYTES, source)) = self.socket.recv_from(&mut datagram) {
            match peek(&datagram) {
                Ok(Datagram::Data { receiver_index, .. }) => {
                    let mut sessions = self.receiving.iter();
                    let Some(session) =
                        sessions.find(|session| session.local_index == receiver_index)
                    else {
                        continue;
                    };
                    let mut verdicts = ArrayVec::new();
                    let mut jobs = [OpenJob {
                        session: session.receive.key(),
                        datagram: &mut datagram,
                    }];
                    open_batch(&mut jobs, &mut verdicts);
                    let peer = session.peer;
                    let content = datagram[CONTENT_OFFSET..][..PACKET_BYTES]
                        .try_into()
                        .unwrap();
                    match verdicts[0].map(|opened| opened.kind) {
                        Ok(Kind::Sphinx) => packets.push(content),
                        Ok(Kind::Control) => self.hear(receiver_index, &peer, &content),
                        _ => {}
                    }
                }
                Ok(_) => self.ask(Request::Datagram {
                    worker: 0,
                    source,
                    datagram,
                }),
                Err(_) => {}
            }
        }
        let mut letters = Vec::new();
        let mut post = |_, mail| {
            letters.push(mail);
            true
        };
        self.handshaker.poll(port::monotonic_ns(), &mut post);
        self.read(letters);
        packets
    }

    /// What a real node does when a next hop says that it was restarted: it takes a new session.
    fn hear(&mut self, session: u32, peer: &[u8; 32], content: &[u8; PACKET_BYTES]) {
        assert_eq!(Control::decode(content), Ok(Control::Restarted));
        if self.told.contains(&session) {
            return;
        }
        self.told.push(session);
        let state = self.state.clone().unwrap();
        let node = state.node_of(peer).unwrap();
        let node = state.consensus().node(node).unwrap();
        let LinkKey { x25519, kem } = node.link.clone();
        self.connect(&Arc::new(LinkPublic { x25519, kem }), node.addresses[0]);
    }

    fn ask(&mut self, request: Request) {
        let mut letters = Vec::new();
        let mut post = |_, mail| {
            letters.push(mail);
            true
        };
        let now_ns = port::monotonic_ns();
        self.handshaker.handle(request, now_ns, &mut post);
        while self.handshaker.serve(now_ns, &mut post) {}
        self.read(letters);
    }

    fn read(&mut self, letters: Vec<Mail>) {
        for letter in letters {
            match letter {
                Mail::Send {
                    destination,
                    datagram,
                } => {
                    let _ = self.socket.send_to(&*datagram, destination);
                }
                Mail::Accepted {
                    session,
                    source,
                    reply,
                    ..
                } => {
                    self.receiving.push(*session);
                    let _ = self.socket.send_to(&*reply, source);
                }
                Mail::Connected { session, .. } => self.sending = Some(session),
                _ => {}
            }
        }
    }
}
