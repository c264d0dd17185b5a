//! A client that does only what it is told.

use std::net::SocketAddr;

use arrayvec::ArrayVec;
use link::{
    CONTENT_OFFSET, ClientKeys, Cookie, DATAGRAM_BYTES, Initiator, Kind, LinkPublic, OpenJob,
    SealJob, Session, destination_tag, open_batch, seal_batch,
};
use port::sim::Endpoint;
use rand_core::Rng;
use sphinx::{BODY_BYTES, DestinationTag, PACKET_BYTES};

use super::{MS, Mesh, address};

/// A client that does only what it is told.
pub struct Client {
    pub endpoint: Endpoint,
    pub keys: ClientKeys,
    pub gateway: usize,
    pub worker: u8,
    pub session: Option<Session>,
    /// The last initiation it sent.
    pub initiation: [u8; DATAGRAM_BYTES],
    initiator: Option<Initiator>,
    cookie: Option<Cookie>,
}

/// What a client got: kind and content.
pub type Got = (Kind, [u8; PACKET_BYTES]);

impl Client {
    pub fn new(mesh: &mut Mesh, number: u8, gateway: usize) -> Client {
        let keys = ClientKeys::generate(&mut mesh.rng);
        Client::with_keys(mesh, number, gateway, keys)
    }

    /// A client of a new key with this address.
    pub fn at(mesh: &mut Mesh, gateway: usize, address: SocketAddr) -> Client {
        let keys = ClientKeys::generate(&mut mesh.rng);
        Client::with(mesh, gateway, address, keys)
    }

    pub fn with_keys(mesh: &Mesh, number: u8, gateway: usize, keys: ClientKeys) -> Client {
        let address = SocketAddr::from(([192, 168, 0, number], 5_000));
        Client::with(mesh, gateway, address, keys)
    }

    fn with(mesh: &Mesh, gateway: usize, address: SocketAddr, keys: ClientKeys) -> Client {
        let endpoint = mesh.network.open(address, 4_096).unwrap();
        Client {
            endpoint,
            keys,
            gateway,
            worker: 0,
            session: None,
            initiation: [0; DATAGRAM_BYTES],
            initiator: None,
            cookie: None,
        }
    }

    pub fn tag(&self) -> DestinationTag {
        destination_tag(self.keys.public_key())
    }

    fn destination(&self) -> SocketAddr {
        address(self.gateway, self.worker)
    }

    pub fn initiate(&mut self, mesh: &mut Mesh) {
        self.prepare(mesh);
        self.endpoint.send(self.destination(), &self.initiation);
    }

    /// Makes an initiation and does not send it.
    pub fn prepare(&mut self, mesh: &mut Mesh) {
        let node = mesh
            .consensus
            .find(&mesh.nodes[self.gateway].identity)
            .unwrap();
        let remote = LinkPublic {
            x25519: node.link.x25519,
            kem: node.link.kem.clone(),
        };
        let index = mesh.rng.next_u32();
        let cookie = self.cookie.as_ref();
        let (initiator, datagram) =
            Initiator::start(&self.keys, &remote, index, cookie, &mut mesh.rng).unwrap();
        self.initiator = Some(initiator);
        self.initiation = datagram;
    }

    /// Gets the cookie of its address; whether there was one.
    pub fn ask_for_cookie(&mut self, mesh: &mut Mesh) -> bool {
        self.cookie = None;
        self.initiate(mesh);
        mesh.run(20 * MS);
        let mut datagram = [0; DATAGRAM_BYTES];
        while self.endpoint.receive(&mut datagram).is_some() {
            let initiator = self.initiator.as_ref().unwrap();
            if let Ok(cookie) = initiator.read_cookie(&datagram) {
                self.cookie = Some(cookie);
                return true;
            }
        }
        false
    }

    /// Opens a session; says whether the gateway answered.
    pub fn connect(&mut self, mesh: &mut Mesh) -> bool {
        self.ask_for_cookie(mesh) && self.connect_with_cookie(mesh)
    }

    /// Opens a session with the cookie it has; says whether the gateway answered.
    pub fn connect_with_cookie(&mut self, mesh: &mut Mesh) -> bool {
        self.initiate(mesh);
        mesh.run(20 * MS);
        let mut datagram = [0; DATAGRAM_BYTES];
        while self.endpoint.receive(&mut datagram).is_some() {
            let initiator = self.initiator.as_mut().unwrap();
            if let Ok(session) = initiator.finish(&datagram, mesh.now_ns) {
                self.session = Some(session);
                return true;
            }
        }
        false
    }

    pub fn attach(&mut self, mesh: &mut Mesh, rate_pps: u32) {
        let mut content = [0; PACKET_BYTES];
        link::control::Control::Attach { rate_pps }.encode(&mut content);
        self.send(mesh, Kind::Control, &content);
        mesh.run(20 * MS);
    }

    /// Seals a frame without sending it.
    pub fn seal(
        &mut self,
        epoch: u32,
        kind: Kind,
        content: &[u8; PACKET_BYTES],
    ) -> [u8; DATAGRAM_BYTES] {
        let session = self.session.as_mut().unwrap();
        let counter = session.send.next_counter().unwrap();
        let mut datagram = [0; DATAGRAM_BYTES];
        datagram[CONTENT_OFFSET..CONTENT_OFFSET + PACKET_BYTES].copy_from_slice(content);
        let epoch = (epoch % 4) as u8;
        let key = session.send.key();
        seal_batch(&mut [SealJob {
            session: key,
            counter,
            kind,
            epoch,
            datagram: &mut datagram,
        }]);
        datagram
    }

    pub fn send(&mut self, mesh: &Mesh, kind: Kind, content: &[u8; PACKET_BYTES]) {
        let datagram = self.seal(mesh.consensus.epoch(), kind, content);
        self.endpoint.send(self.destination(), &datagram);
    }

    /// Opens everything that came.
    pub fn receive(&mut self) -> Vec<Got> {
        let mut all = Vec::new();
        let mut datagram = [0; DATAGRAM_BYTES];
        while let Some((_, length)) = self.endpoint.receive(&mut datagram) {
            assert_eq!(length, DATAGRAM_BYTES);
            let Some(session) = &self.session else {
                continue;
            };
            let mut verdicts = ArrayVec::new();
            let session = session.receive.key();
            open_batch(
                &mut [OpenJob {
                    session,
                    datagram: &mut datagram,
                }],
                &mut verdicts,
            );
            if let Some(Ok(opened)) = verdicts.pop() {
                let mut content = [0; PACKET_BYTES];
                content.copy_from_slice(&datagram[CONTENT_OFFSET..CONTENT_OFFSET + PACKET_BYTES]);
                all.push((opened.kind, content));
            }
        }
        all
    }

    /// Bodies delivered.
    pub fn deliveries(&mut self) -> Vec<[u8; BODY_BYTES]> {
        let deliveries = self
            .receive()
            .into_iter()
            .filter(|(kind, _)| *kind == Kind::Delivery);
        deliveries
            .map(|(_, content)| content[8..8 + BODY_BYTES].try_into().unwrap())
            .collect()
    }
}

/// A client with a session, attached to its gateway.
pub fn attached(mesh: &mut Mesh, number: u8, gateway: usize, rate_pps: u32) -> Client {
    let mut client = Client::new(mesh, number, gateway);
    assert!(client.connect(mesh));
    client.attach(mesh, rate_pps);
    client
}
