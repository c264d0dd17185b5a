//! The link to the gateway: handshakes by time, sessions, attaching to the mailbox.

use arrayvec::ArrayVec;
use directory::LinkKey;
use link::control::{CHALLENGE_BYTES, Control};
use link::{
    COOKIE_LIFETIME_NS, ClientKeys, Cookie, DATAGRAM_BYTES, Datagram, Initiations, Kind,
    LinkPublic, OpenJob, ReceiveSession, SendSession,
};
use rand_core::Rng;
use sphinx::Generator;
use sphinx::{BODY_BYTES, Id, PACKET_BYTES};

use super::departures::{HOLD_NS, Initiation};
use crate::event::Less;

/// Without a session that is answered: the mean wait before the first attempt. Each further wait is half as long again.
const ATTEMPT_NS: u64 = 700_000_000;
/// The longest mean wait between two attempts.
const ATTEMPT_LONGEST_NS: u64 = 30_000_000_000;
/// A working link gets its next handshake after this at the earliest, and after twice as long at the latest. A gateway
/// that was restarted is noticed by its silence long before.
const RENEW_NS: u64 = 120_000_000_000;
/// A gateway of whom nothing came for so many frames of its stream is silent, but not before a second has passed. That
/// stream has its pace whatever the client does, so what follows from a silence tells nothing.
const SILENT_FRAMES: f64 = 20.0;
const SILENT_NS: u64 = 1_000_000_000;
/// At the start there is a handshake to be made first.
const SILENT_AT_START_NS: u64 = 3_000_000_000;
/// An attachment that was not answered is repeated, in an ordinary slot.
const ATTACH_NS: u64 = 1_000_000_000;
/// A gateway without room is asked again after this, and each time it says so again after twice as long, up to the
/// second; up to half as long again is added at random.
const FULL_NS: u64 = 30_000_000_000;
const FULL_LONGEST_NS: u64 = 900_000_000_000;

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
    /// What was sent in the attempt that goes on.
    sent: Option<Initiations>,
    /// The gateway's, and until when it may be shown.
    cookie: Option<(Cookie, u64)>,
    /// When the next one is due.
    handshake_ns: u64,
    /// The last attempt began on a link that worked: what follows an answer to it leaves no sooner for an answer that is
    /// read soon.
    held: bool,
    /// The last attempt's message waits for its slot: the pause that begins when it leaves.
    unsent: Option<u64>,
    /// The random part of the wait after an answer to the last attempt.
    renewal_ns: u64,
    /// Attempts since the gateway last answered one.
    tries: u32,
    /// A session is missing or the gateway silent: attempts follow each other.
    wanting: bool,
    /// The newest first; the one before it still receives what is on the way.
    sessions: ArrayVec<Receiving, 2>,
    /// The sending half of the newest session, for those who seal.
    link: Option<SendSession>,
    /// The newest session had no frame from the gateway yet.
    fresh: bool,
    /// Slots a second of this client, and frames a second that the gateway has granted.
    rate_pps: f64,
    granted_pps: Option<f64>,
    /// It was said that this is less than was asked for.
    told_less: bool,
    /// When the gateway was last heard, or began to be waited for.
    heard_ns: Option<u64>,
    /// Up to when all that came has been looked at, where somebody says so.
    listened_ns: Option<u64>,
    /// When something last came that nobody can have made but the gateway, or who sees what is sent to it.
    answered_ns: Option<u64>,
    /// The epoch of the gateway's clock modulo 4, as its last frame says.
    epoch_bits: Option<u8>,
    /// What was last said of it.
    told_silent: bool,
    attach_ns: u64,
    attached: bool,
    announced: bool,
    /// How often the gateway has said that it has no room, since it last let this client in.
    refusals: u32,
    /// The last epoch in which the gateway serves, as it was told last, and whether that was its second word.
    leaves: Option<(u32, bool)>,
    /// The gateway wants to know whether this client is where its frames come from.
    challenge: Option<[u8; CHALLENGE_BYTES]>,
}

impl Attachment {
    pub(crate) fn new(mailbox: ClientKeys, rate_pps: f64, down_pps: u32) -> Self {
        Self {
            mailbox,
            down_pps,
            sent: None,
            cookie: None,
            handshake_ns: 0,
            held: false,
            unsent: None,
            renewal_ns: 0,
            tries: 0,
            wanting: false,
            sessions: ArrayVec::new(),
            link: None,
            fresh: false,
            rate_pps,
            granted_pps: None,
            told_less: false,
            heard_ns: None,
            listened_ns: None,
            answered_ns: None,
            epoch_bits: None,
            told_silent: false,
            attach_ns: 0,
            attached: false,
            announced: false,
            refusals: 0,
            leaves: None,
            challenge: None,
        }
    }

    pub(crate) fn is_attached(&self) -> bool {
        self.announced
    }

    /// The gateway has answered; `true` the first time.
    pub(crate) fn attached(&mut self, rate_pps: u32) -> bool {
        (self.attached, self.refusals) = (true, 0);
        // No gateway grants more than it was asked for; one that says so would have its own stream count as silent.
        self.granted_pps = Some(f64::from(rate_pps.min(self.down_pps).max(1)));
        !core::mem::replace(&mut self.announced, true)
    }

    /// What the gateway grants, if that is less than it was asked for.
    pub(crate) fn less(&self) -> Option<Less> {
        let (granted_pps, asked_pps) = (self.granted_pps? as u32, self.down_pps);
        (granted_pps < asked_pps).then_some(Less {
            granted_pps,
            asked_pps,
        })
    }

    /// The same, the first time.
    pub(crate) fn less_news(&mut self) -> Option<Less> {
        let less = self.less().filter(|_| !self.told_less)?;
        self.told_less = true;
        Some(less)
    }

    /// The gateway has no room for this client, or not any more: it is asked again later, each time after a longer pause.
    /// `true` the first time.
    pub(crate) fn refused(&mut self, now_ns: u64, rng: &mut Generator) -> bool {
        self.attached = false;
        let pause_ns = (FULL_NS << self.refusals.min(16)).min(FULL_LONGEST_NS);
        self.attach_ns = now_ns + pause_ns + rng.next_u64() % (pause_ns / 2);
        // Until then it owes nothing: no frame is no silence.
        self.heard_ns = Some(self.attach_ns);
        self.refusals = self.refusals.saturating_add(1);
        self.refusals == 1
    }

    /// The gateway says that it serves up to `epoch` and no longer. Whether that is news: the first time, and once when it
    /// is later than before, as a document can make it. Whoever says more tires the user.
    pub(crate) fn leaves(&mut self, epoch: u32) -> bool {
        let is_news = match self.leaves {
            None => true,
            Some((told, is_second)) => !is_second && epoch > told,
        };
        if is_news {
            self.leaves = Some((epoch, self.leaves.is_some()));
        }
        is_news
    }

    /// When something last came that nobody can have made but the gateway, or who sees what is sent to it, if ever. Anyone
    /// can send under its address.
    pub(crate) fn answered_ns(&self) -> Option<u64> {
        self.answered_ns
    }

    /// Which epoch it is by the gateway's clock, modulo 4, if it has said anything.
    pub(crate) fn epoch_bits(&self) -> Option<u8> {
        self.epoch_bits
    }

    /// Whether the gateway said last that it has no room.
    pub(crate) fn is_full(&self) -> bool {
        self.refusals > 0
    }

    /// Whether the gateway delivers to this client, on the newest session.
    pub(crate) fn is_served(&self, now_ns: u64) -> bool {
        self.attached && !self.is_silent(now_ns)
    }

    pub(crate) fn has_session(&self, now_ns: u64) -> bool {
        let live = |session: &Receiving| !session.half.expired(now_ns);
        self.sessions.first().is_some_and(live)
    }

    /// The sending half of a session that is new.
    pub(crate) fn take_link(&mut self) -> Option<SendSession> {
        self.link.take()
    }

    /// Nothing that came before this moment is still to be received.
    pub(crate) fn listened(&mut self, now_ns: u64) {
        self.listened_ns = Some(now_ns);
    }

    /// Whether nothing came from the gateway for longer than its stream ever pauses. A client that was busy itself has not
    /// listened: it must not handshake for that, where all can see it.
    fn is_silent(&self, now_ns: u64) -> bool {
        let now_ns = self.listened_ns.map_or(now_ns, |until| until.min(now_ns));
        // Before it has granted a rate it waits for one of our slots.
        let rate_pps = self.granted_pps.unwrap_or(self.rate_pps);
        let least_ns = match self.sessions.is_empty() {
            true => SILENT_AT_START_NS,
            false => SILENT_NS,
        };
        let patience_ns = ((SILENT_FRAMES * 1e9 / rate_pps) as u64).max(least_ns);
        self.heard_ns
            .is_some_and(|heard_ns| now_ns.saturating_sub(heard_ns) > patience_ns)
    }

    /// Whether the gateway has fallen silent (`true`) or is heard again, if that is news.
    pub(crate) fn news(&mut self, now_ns: u64) -> Option<bool> {
        let silent = self.is_silent(now_ns);
        // A session that was just opened, and on which nothing came yet, is no sign of life.
        let heard = !silent && !self.fresh && !self.sessions.is_empty();
        let news = if self.told_silent { heard } else { silent };
        news.then(|| {
            self.told_silent = silent;
            silent
        })
    }

    /// The wait until the next attempt if this one is not answered.
    fn pause(&self, rng: &mut Generator) -> u64 {
        let mean_ns = (ATTEMPT_NS as f64 * 1.5f64.powi(self.tries.min(30) as i32)) as u64;
        spread(rng, mean_ns.min(ATTEMPT_LONGEST_NS))
    }

    /// A slot has carried what was made for it. Where slots are rarer than attempts, a pause that began before would be
    /// over by then, and the next attempt would throw this one away before its answer can come.
    pub(crate) fn departed(&mut self, now_ns: u64) {
        if let Some(pause_ns) = self.unsent.take() {
            self.handshake_ns = now_ns + pause_ns;
        }
    }

    /// The first frame of a session, which asks to deliver there: in what slot it leaves hangs on the session alone.
    pub(crate) fn first(&mut self) -> Option<Frame> {
        if self.is_full() {
            return None;
        }
        self.attach_ns = self.attach_ns.saturating_add(ATTACH_NS);
        let rate_pps = self.down_pps;
        Some(Frame::control(&Control::Attach { rate_pps }))
    }

    /// A handshake's first message, when one is due, or soon; not asked for while the last one waits for its slot.
    pub(crate) fn handshake(
        &mut self,
        gateway: &LinkKey,
        now_ns: u64,
        rng: &mut Generator,
    ) -> Option<Initiation> {
        self.heard_ns.get_or_insert(now_ns);
        let wanting = !self.has_session(now_ns) || self.is_silent(now_ns);
        if wanting && !self.wanting {
            self.handshake_ns = self.handshake_ns.min(now_ns + self.pause(rng));
        }
        self.wanting = wanting;
        // Whoever knows how a client is kept busy must not see it in the moments at which none of its renewals begin.
        let is_renewal = !wanting && self.tries == 0;
        let ahead_ns = if is_renewal { HOLD_NS } else { 0 };
        // Made late it leaves a whole number of seconds late: how late shows no finer than that.
        let late_ns = now_ns.saturating_sub(self.handshake_ns);
        let step_ns = ahead_ns.max(1);
        let from_ns = self.handshake_ns + late_ns.next_multiple_of(step_ns);
        // A cookie came: it is shown in the next slot, or when the renewal's second is over.
        let follows = self.sent.as_ref().is_some_and(Initiations::owes);
        if !follows && now_ns.saturating_add(ahead_ns) < self.handshake_ns {
            return None;
        }
        if !follows {
            self.held = !wanting;
            self.tries = self.tries.saturating_add(1);
        }
        let leaves_ns = if follows { now_ns } else { from_ns };
        let pause_ns = self.pause(rng) + self.hold_ns();
        self.handshake_ns = now_ns + pause_ns;
        self.unsent = Some(pause_ns);
        self.renewal_ns = rng.next_u64() % RENEW_NS;
        let remote = LinkPublic {
            x25519: gateway.x25519,
            kem: gateway.kem.clone(),
        };
        let index = rng.next_u32();
        let cookie = self
            .cookie
            .as_ref()
            .filter(|(_, until_ns)| *until_ns > leaves_ns)
            .map(|(cookie, _)| cookie);
        let (sent, with) = (&mut self.sent, (index, cookie));
        let datagram = Initiations::next(sent, &self.mailbox, &remote, with, rng).ok()?;
        Some(Initiation {
            datagram: Box::new(datagram),
            from_ns,
            follows,
            held: self.held,
        })
    }

    /// How long what follows the answer that is waited for waits in any case.
    fn hold_ns(&self) -> u64 {
        if self.held { HOLD_NS } else { 0 }
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

    /// The gateway asks for a sign from this address.
    pub(crate) fn challenged(&mut self, nonce: [u8; CHALLENGE_BYTES]) {
        self.challenge = Some(nonce);
    }

    /// The answer to the gateway's challenge, if there is one.
    pub(crate) fn answer(&mut self) -> Option<Frame> {
        let nonce = self.challenge.take()?;
        Some(Frame::control(&Control::Answer { nonce }))
    }

    /// Takes a datagram; `None` for cover and for whatever is not an authentic frame.
    pub(crate) fn receive(
        &mut self,
        datagram: &mut [u8; DATAGRAM_BYTES],
        now_ns: u64,
        rng: &mut Generator,
    ) -> Option<Inbound> {
        match link::peek(&datagram[..]).ok()? {
            Datagram::Data {
                receiver_index,
                counter,
            } => self.open(datagram, receiver_index, counter, now_ns),
            Datagram::Response { .. } => {
                let session = self.sent.as_mut()?.finish(datagram, now_ns).ok()?;
                self.sent = None;
                self.answered_ns = Some(now_ns);
                // From here on the rare handshakes.
                self.unsent = None;
                self.handshake_ns = now_ns + RENEW_NS + self.renewal_ns;
                if self.is_silent(now_ns) {
                    // A gateway that was restarted streams once it is attached to, in a slot of ours.
                    self.granted_pps = None;
                }
                // It owes nothing before it is used, which is then at the latest.
                let used_ns = now_ns + self.hold_ns();
                (self.heard_ns, self.fresh) = (self.heard_ns.max(Some(used_ns)), true);
                self.sessions.truncate(1);
                let half = Receiving {
                    local_index: session.local_index,
                    half: session.receive,
                };
                self.sessions.insert(0, half);
                self.link = Some(session.send);
                self.attached = false;
                // A gateway without room is not asked sooner for that.
                if !self.is_full() {
                    self.attach_ns = used_ns;
                }
                None
            }
            Datagram::CookieReply { .. } => {
                let cookie = self.sent.as_mut()?.read_cookie(datagram, rng).ok()?;
                self.answered_ns = Some(now_ns);
                if let Some(cookie) = cookie {
                    self.cookie = Some((cookie, now_ns + COOKIE_LIFETIME_NS));
                }
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
        let newest = self.sessions.first().map(|session| session.local_index);
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
        self.answered_ns = Some(now_ns);
        self.epoch_bits = Some(opened.epoch);
        // The old session's stream is no sign that the gateway knows the new one.
        if !self.fresh || newest == Some(index) {
            self.heard_ns = self.heard_ns.max(Some(now_ns));
        }
        if self.fresh && newest == Some(index) {
            (self.fresh, self.tries) = (false, 0);
        }
        let content: &[u8; link::CONTENT_BYTES] =
            datagram.get(link::CONTENT_OFFSET..)?.first_chunk()?;
        match opened.kind {
            Kind::Delivery => {
                let (id, rest) = content.split_first_chunk()?;
                let body: &[u8; BODY_BYTES] = rest.first_chunk()?;
                Some(Inbound::Delivery(*id, Box::new(*body)))
            }
            Kind::Control => {
                let control = Control::decode(content).ok();
                // Who had no room for an older session may have it for this one, and who was attached by an older one is
                // not by this one.
                let is_of_session =
                    |control: &Control| matches!(control, Control::Full | Control::Attached { .. });
                control
                    .filter(|control| newest == Some(index) || !is_of_session(control))
                    .map(Inbound::Control)
            }
            Kind::Sphinx | Kind::Cover => None,
        }
    }
}

/// Between half of the mean and one and a half of it, so that clients do not fall into step.
fn spread(rng: &mut Generator, mean_ns: u64) -> u64 {
    mean_ns / 2 + rng.next_u64() % mean_ns
}
