//! The link to the gateway: handshakes by time, sessions, attaching to the mailbox.

use arrayvec::ArrayVec;
use directory::LinkKey;
use link::control::Control;
use link::{
    ClientKeys, Cookie, DATAGRAM_BYTES, Datagram, Initiator, Kind, LinkPublic, OpenJob,
    ReceiveSession, SendSession, TimestampSource,
};
use rand_core::Rng;
use sphinx::Generator;
use sphinx::{BODY_BYTES, Id, PACKET_BYTES};

/// Without a session: the mean wait between two attempts.
const ATTEMPT_NS: u64 = 700_000_000;
/// With a session: the mean wait until the next handshake. Only time decides, so that loss and a gateway's restart
/// change nothing that can be seen; a restarted gateway is found again within a few of these.
const REKEY_NS: u64 = 45_000_000_000;
/// An attachment that was not answered is repeated, in an ordinary slot.
const ATTACH_NS: u64 = 1_000_000_000;

/// Content of a slot, not sealed yet.
pub(crate) struct Frame {
    pub(super) kind: Kind,
    pub(super) epoch: u8,
    pub(super) content: Box<[u8; PACKET_BYTES]>,
}

impl Frame {
    pub(crate) fn sphinx(packet: [u8; PACKET_BYTES], epoch: u32) -> Self {
        Self {
            kind: Kind::Sphinx,
            epoch: (epoch % 4) as u8,
            content: Box::new(packet),
        }
    }

    pub(crate) fn control(control: &Control) -> Self {
        let mut content = Box::new([0; PACKET_BYTES]);
        control.encode(&mut content);
        Self {
            kind: Kind::Control,
            epoch: 0,
            content,
        }
    }

    /// A frame that says nothing.
    pub(crate) fn cover() -> Self {
        Self {
            kind: Kind::Cover,
            epoch: 0,
            content: Box::new([0; PACKET_BYTES]),
        }
    }
}

/// What the gateway sent.
pub(crate) enum Inbound {
    Delivery(Id, Box<[u8; BODY_BYTES]>),
    Control(Control),
}

/// What is left of a session without its sending half.
struct Receiving {
    local_index: u32,
    half: ReceiveSession,
}

/// The link's state.
pub(crate) struct Attachment {
    mailbox: ClientKeys,
    down_pps: u32,
    timestamps: TimestampSource,
    initiator: Option<Initiator>,
    cookie: Option<Cookie>,
    handshake_ns: u64,
    /// The newest first; the one before it still receives what is on the way.
    sessions: ArrayVec<Receiving, 2>,
    /// The sending half of the newest session, for those who seal.
    link: Option<SendSession>,
    attach_ns: u64,
    attached: bool,
    announced: bool,
}

impl Attachment {
    pub(crate) fn new(mailbox: ClientKeys, down_pps: u32) -> Self {
        Self {
            mailbox,
            down_pps,
            timestamps: TimestampSource::default(),
            initiator: None,
            cookie: None,
            handshake_ns: 0,
            sessions: ArrayVec::new(),
            link: None,
            attach_ns: 0,
            attached: false,
            announced: false,
        }
    }

    pub(crate) fn is_attached(&self) -> bool {
        self.announced
    }

    /// The gateway has answered; `true` the first time.
    pub(crate) fn attached(&mut self) -> bool {
        self.attached = true;
        !core::mem::replace(&mut self.announced, true)
    }

    pub(crate) fn has_session(&self, now_ns: u64) -> bool {
        let live = |session: &Receiving| !session.half.expired(now_ns);
        self.sessions.first().is_some_and(live)
    }

    /// The sending half of a session that is new.
    pub(crate) fn take_link(&mut self) -> Option<SendSession> {
        self.link.take()
    }

    /// A handshake's first message, when one is due.
    pub(crate) fn handshake(
        &mut self,
        gateway: &LinkKey,
        (now_ns, unix_ms): (u64, u64),
        rng: &mut Generator,
    ) -> Option<[u8; DATAGRAM_BYTES]> {
        let connected = self.has_session(now_ns);
        // Between the attempts that a missing session needs and the rare ones of a working link.
        let due_ns = if connected {
            self.handshake_ns
        } else {
            self.handshake_ns.min(now_ns + ATTEMPT_NS * 2)
        };
        if now_ns < due_ns {
            self.handshake_ns = due_ns;
            return None;
        }
        self.handshake_ns = now_ns + spread(rng, if connected { REKEY_NS } else { ATTEMPT_NS });
        let remote = LinkPublic {
            x25519: gateway.x25519,
            kem: gateway.kem.clone(),
        };
        let index = rng.next_u32();
        let timestamp = self.timestamps.next(unix_ms);
        let cookie = self.cookie.as_ref();
        let started =
            Initiator::start(&self.mailbox, &remote, index, timestamp, cookie, rng).ok()?;
        self.initiator = Some(started.0);
        Some(started.1)
    }

    /// The request to deliver here, when it is due.
    pub(crate) fn attach(&mut self, now_ns: u64) -> Option<Frame> {
        if self.attached || now_ns < self.attach_ns {
            return None;
        }
        self.attach_ns = now_ns + ATTACH_NS;
        let rate_pps = self.down_pps;
        Some(Frame::control(&Control::Attach { rate_pps }))
    }

    /// Takes a datagram; `None` for cover and for whatever is not an authentic frame.
    pub(crate) fn receive(
        &mut self,
        datagram: &mut [u8; DATAGRAM_BYTES],
        now_ns: u64,
    ) -> Option<Inbound> {
        match link::peek(&datagram[..]).ok()? {
            Datagram::Data {
                receiver_index,
                counter,
            } => self.open(datagram, receiver_index, counter, now_ns),
            Datagram::Response { .. } => {
                let session = self.initiator.as_mut()?.finish(datagram, now_ns).ok()?;
                self.initiator = None;
                self.cookie = None;
                if self.sessions.is_empty() {
                    // The first session: from here on the rare handshakes.
                    self.handshake_ns = now_ns + REKEY_NS;
                }
                self.sessions.truncate(1);
                let half = Receiving {
                    local_index: session.local_index,
                    half: session.receive,
                };
                self.sessions.insert(0, half);
                self.link = Some(session.send);
                (self.attached, self.attach_ns) = (false, 0);
                None
            }
            Datagram::CookieReply { .. } => {
                let cookie = self.initiator.as_ref()?.read_cookie(datagram).ok()?;
                self.cookie = Some(cookie);
                None
            }
            Datagram::Initiation { .. } => None,
        }
    }

    fn open(
        &mut self,
        datagram: &mut [u8; DATAGRAM_BYTES],
        index: u32,
        counter: u64,
        now_ns: u64,
    ) -> Option<Inbound> {
        let live = |session: &&mut Receiving| {
            session.local_index == index && !session.half.expired(now_ns)
        };
        let session = &mut self.sessions.iter_mut().find(live)?.half;
        session.check(counter).ok()?;
        let mut verdicts = ArrayVec::new();
        let job = OpenJob {
            session: session.key(),
            datagram,
        };
        link::open_batch(&mut [job], &mut verdicts);
        let opened = verdicts.pop()?.ok()?;
        session.admit(opened.counter).ok()?;
        let content: &[u8; link::CONTENT_BYTES] =
            datagram.get(link::CONTENT_OFFSET..)?.first_chunk()?;
        match opened.kind {
            Kind::Delivery => {
                let (id, rest) = content.split_first_chunk()?;
                let body: &[u8; BODY_BYTES] = rest.first_chunk()?;
                Some(Inbound::Delivery(*id, Box::new(*body)))
            }
            Kind::Control => Control::decode(content).ok().map(Inbound::Control),
            Kind::Sphinx | Kind::Cover => None,
        }
    }
}

/// Between half of the mean and one and a half of it, so that clients do not fall into step.
fn spread(rng: &mut Generator, mean_ns: u64) -> u64 {
    mean_ns / 2 + rng.next_u64() % mean_ns
}
