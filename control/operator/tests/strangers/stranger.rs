//! Who speaks the links' protocol with a gateway and does only what it is told.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrayvec::ArrayVec;
use directory::Role;
use link::control::Control;
use link::{
    CONTENT_OFFSET, ClientKeys, Cookie, DATAGRAM_BYTES, Initiator, Kind, LinkPublic, OpenJob,
    SealJob, Session, open_batch, seal_batch,
};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::live::Network;

/// How long an answer is waited for before the question is put again.
pub const ANSWER: Duration = Duration::from_millis(500);

/// The gateway, for whoever has its keys.
#[derive(Clone)]
pub struct Gateway {
    address: SocketAddr,
    keys: Arc<LinkPublic>,
}

impl Gateway {
    pub fn find(network: &Network) -> Gateway {
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
pub struct Stranger {
    pub socket: UdpSocket,
    gateway: Gateway,
    cookie: Option<Cookie>,
    pub rng: ChaCha20Rng,
}

impl Stranger {
    pub fn at(address: [u8; 4], gateway: &Gateway) -> Stranger {
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

    pub fn initiation(&mut self, keys: &ClientKeys) -> (Initiator, [u8; DATAGRAM_BYTES]) {
        let (index, cookie) = (self.rng.next_u32(), self.cookie.as_ref());
        Initiator::start(keys, &self.gateway.keys, index, cookie, &mut self.rng).unwrap()
    }

    fn receive(&self) -> Option<[u8; DATAGRAM_BYTES]> {
        let mut datagram = [0; DATAGRAM_BYTES];
        let received = self.socket.recv(&mut datagram);
        received.is_ok().then_some(datagram)
    }

    /// Opens a session of these keys, until `end`.
    pub fn connect(&mut self, keys: &ClientKeys, end: Instant) -> Option<Session> {
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

    pub fn send(&self, session: &mut Session, control: &Control) {
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
    pub fn attach(&self, session: &mut Session, end: Instant) -> bool {
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
