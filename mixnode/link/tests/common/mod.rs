//! Two ends and the shortest ways to a handshake and a frame.
#![allow(dead_code, reason = "each test file uses a part")]

use std::net::SocketAddr;

use arrayvec::ArrayVec;
use link::*;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

pub type Packet = [u8; DATAGRAM_BYTES];
pub const NOW_NS: u64 = 5_000_000_000;

pub fn rng(seed: u64) -> ChaCha20Rng {
    ChaCha20Rng::seed_from_u64(seed)
}

pub fn source() -> SocketAddr {
    "127.1.0.7:9000".parse().unwrap()
}

pub fn arrival() -> Arrival {
    Arrival {
        source: source(),
        now_ns: NOW_NS,
    }
}

pub struct Ends {
    pub rng: ChaCha20Rng,
    pub client: ClientKeys,
    pub responder: Responder,
}

impl Ends {
    pub fn new(seed: u64) -> Self {
        let mut rng = rng(seed);
        let client = ClientKeys::generate(&mut rng);
        let responder = Responder::new(LinkKeys::generate(&mut rng));
        Self {
            rng,
            client,
            responder,
        }
    }

    pub fn start(&mut self, cookie: Option<&Cookie>) -> (Initiator, Packet) {
        let remote = self.responder.public().clone();
        Initiator::start(&self.client, &remote, 0x0102_0304, cookie, &mut self.rng).unwrap()
    }

    pub fn respond(
        &mut self,
        datagram: &Packet,
        arrival: &Arrival,
    ) -> Result<Response, HandshakeError> {
        self.responder
            .respond(datagram, arrival, 0x0506_0708, |_| true, &mut self.rng)
    }

    /// As if the cookie had been right.
    pub fn answer(&mut self, datagram: &Packet) -> Result<Response, HandshakeError> {
        self.responder
            .answer(datagram, &arrival(), 0x0506_0708, |_| true, &mut self.rng)
    }

    /// The cookie of [`source`].
    pub fn cookie(&mut self) -> Cookie {
        let (initiator, initiation) = self.start(None);
        let reply = cookie_reply(self.respond(&initiation, &arrival()));
        initiator.read_cookie(&reply).unwrap()
    }

    pub fn sessions(&mut self) -> (Session, Session) {
        let (mut initiator, initiation) = self.start(None);
        let (reply, session) = accepted(self.answer(&initiation));
        (initiator.finish(&reply, NOW_NS).unwrap(), session)
    }
}

pub fn accepted(response: Result<Response, HandshakeError>) -> (Packet, Session) {
    match response {
        Ok(Response::Accepted { reply, session }) => (*reply, *session),
        Ok(Response::Cookie { .. }) => panic!("a cookie reply"),
        Err(error) => panic!("{error}"),
    }
}

pub fn cookie_reply(response: Result<Response, HandshakeError>) -> Packet {
    match response {
        Ok(Response::Cookie { reply }) => *reply,
        Ok(Response::Accepted { .. }) => panic!("accepted without a cookie"),
        Err(error) => panic!("{error}"),
    }
}

pub fn seal(send: &mut SendSession, kind: Kind, epoch: u8, fill: u8) -> Packet {
    let mut datagram = [fill; DATAGRAM_BYTES];
    let counter = send.next_counter().unwrap();
    seal_batch(&mut [SealJob {
        session: send.key(),
        counter,
        kind,
        epoch,
        datagram: &mut datagram,
    }]);
    datagram
}

pub fn open(receive: &ReceiveSession, datagram: &mut Packet) -> Result<Opened, OpenError> {
    let mut verdicts = ArrayVec::new();
    open_batch(
        &mut [OpenJob {
            session: receive.key(),
            datagram,
        }],
        &mut verdicts,
    );
    verdicts[0]
}

/// Writes the first mac that `recipient` expects, as anyone can who knows it (context string of `SPEC.md`).
pub fn remac(datagram: &mut Packet, recipient: &[u8; 32]) {
    let key = blake3::derive_key("fogmix link v1 mac1", recipient);
    let mac = blake3::keyed_hash(&key, &datagram[..DATAGRAM_BYTES - 32]);
    datagram[DATAGRAM_BYTES - 32..DATAGRAM_BYTES - 16].copy_from_slice(&mac.as_bytes()[..16]);
}

/// Every encoding whose multiples are all zero (RFC 7748's curve and its twist, reduced and not), with the unused top
/// bit clear and set.
pub fn low_order_points() -> Vec<[u8; 32]> {
    let mut order_8_a = [0; 32];
    let mut order_8_b = [0; 32];
    order_8_a.copy_from_slice(&hex(
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    ));
    order_8_b.copy_from_slice(&hex(
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    ));
    let small = |value: u8| {
        let mut point = [0; 32];
        point[0] = value;
        point
    };
    let near_p = |low: u8| {
        let mut point = [0xff; 32];
        (point[0], point[31]) = (low, 0x7f);
        point
    };
    let mut points = vec![
        small(0),
        small(1),
        near_p(0xec),
        near_p(0xed),
        near_p(0xee),
        order_8_a,
        order_8_b,
    ];
    for mut point in points.clone() {
        point[31] |= 0x80;
        points.push(point);
    }
    points
}

pub fn hex(text: &str) -> Vec<u8> {
    text.as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}
