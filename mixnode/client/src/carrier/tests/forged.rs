//! What comes for a client beside what its gateway says, and what it says of a session that is over.

use super::*;

/// Slots a second.
const RATE_PPS: f64 = 1.0;
/// After so many of them nobody waits any more.
const SLOTS_MAX: u64 = 400;
const STEP_NS: u64 = 50_000_000;

/// A client and its gateway, whose answers take no time.
struct Pair {
    carrier: Carrier,
    departures: Departures,
    gateway: Responder,
    rng: Generator,
    now_ns: u64,
}

impl Pair {
    fn new(seed: u64) -> (Self, LinkKeys) {
        let mut rng = Generator::seed_from_u64(seed);
        let (authority, documents, gateways, mut keys) = network(&mut rng);
        let settings = settings(&authority, gateways[0], (RATE_PPS, 0.0), &mut rng);
        let keys = keys.swap_remove(0);
        let gateway = Responder::new(keys.clone());
        let own = Generator::from_rng(&mut rng);
        let (carrier, departures) = Carrier::new(settings, documents, own, 0);
        let pair = Self {
            carrier,
            departures,
            gateway,
            rng,
            now_ns: 0,
        };
        (pair, keys)
    }

    /// The next datagram that leaves.
    fn departs(&mut self) -> [u8; DATAGRAM_BYTES] {
        loop {
            let now_ns = self.now_ns;
            self.now_ns += STEP_NS;
            let sent = self.departures.depart(now_ns);
            self.carrier.departed(self.departures.gone(), now_ns);
            // The wall clock stands, so that no document ends.
            self.carrier.refill(&mut [], now_ns, 1_000);
            while let Some(supply) = self.carrier.supply() {
                self.departures.take(supply);
            }
            if let Some((_, datagram)) = sent {
                return datagram;
            }
        }
    }

    fn comes(&mut self, mut datagram: Box<[u8; DATAGRAM_BYTES]>) {
        let now_ns = self.now_ns;
        self.carrier.receive(&mut [], now_ns, &mut datagram);
    }
}

/// What this responder answers, and the session that this begins.
fn answer(
    responder: &mut Responder,
    initiation: &[u8; DATAGRAM_BYTES],
    now_ns: u64,
    rng: &mut Generator,
) -> (Box<[u8; DATAGRAM_BYTES]>, Option<Box<link::Session>>) {
    let source = ([10, 9, 9, 9], 1).into();
    let arrival = Arrival { source, now_ns };
    let index = rng.next_u32();
    match responder.respond(initiation, &arrival, index, |_| true, rng) {
        Ok(Response::Accepted { reply, session }) => (reply, Some(session)),
        Ok(Response::Cookie { reply }) => (reply, None),
        Err(error) => panic!("{error}"),
    }
}

/// Slots that pass before a client has a session, while somebody who sees its initiations answers each with so many cookie
/// replies of his own, before the gateway's answer and behind it.
fn slots_beside_forged_cookies(seed: u64, (before, behind): (usize, usize)) -> u64 {
    let (mut pair, keys) = Pair::new(seed);
    // What makes a cookie reply is public: this one has another secret, and gives the cookies of other sources.
    let mut forger = Responder::new(keys);
    let mut elsewhere = 0..u32::MAX;
    while !pair.carrier.attachment.has_session(pair.now_ns) {
        let slots = pair.departures.gone().slots;
        if slots >= SLOTS_MAX {
            return slots;
        }
        let datagram = pair.departs();
        let Datagram::Initiation { .. } = link::peek(&datagram[..]).unwrap() else {
            continue;
        };
        let now_ns = pair.now_ns;
        let rng = &mut Generator::from_rng(&mut pair.rng);
        let mut answers: Vec<_> = (&mut elsewhere)
            .take(before + behind)
            .map(|number| {
                let source = (number.to_be_bytes(), 1).into();
                let arrival = Arrival { source, now_ns };
                forger.screen(&datagram, &arrival, rng).unwrap().unwrap()
            })
            .collect();
        let true_one = answer(&mut pair.gateway, &datagram, now_ns, rng).0;
        answers.insert(before, true_one);
        for answer in answers {
            pair.comes(answer);
        }
    }
    pair.departures.gone().slots
}

#[test]
fn attack_who_sees_initiations_and_answers_them_with_cookies_of_his_own_keeps_nobody_out() {
    let slots = |forged| {
        let mut slots: Vec<u64> = (1..9)
            .map(|seed| slots_beside_forged_cookies(seed, forged))
            .collect();
        slots.sort_unstable();
        println!("{forged:?} forged replies before and behind: slots to a session {slots:?}");
        slots
    };
    let undisturbed = slots((0, 0));
    assert_eq!(slots((0, 3)), undisturbed, "the first one is shown");
    assert!(slots((1, 0))[7] < SLOTS_MAX);
    assert!(slots((1, 1))[7] < SLOTS_MAX);
}

#[test]
fn who_is_said_to_be_attached_by_a_session_that_is_over_attaches_by_the_newest() {
    let (mut pair, _) = Pair::new(7);
    let mut sessions: Vec<link::Session> = Vec::new();
    let mut attaches = [0; 2];
    for _ in 0..SLOTS_MAX {
        let mut datagram = pair.departs();
        let now_ns = pair.now_ns;
        if let Datagram::Initiation { .. } = link::peek(&datagram[..]).unwrap() {
            let rng = &mut Generator::from_rng(&mut pair.rng);
            let (reply, session) = answer(&mut pair.gateway, &datagram, now_ns, rng);
            pair.comes(reply);
            sessions.extend(session.map(|session| *session));
        } else if let Some(session) = sessions.last_mut() {
            let receive = &session.receive;
            let mut verdicts = arrayvec::ArrayVec::new();
            let job = link::OpenJob {
                session: receive.key(),
                datagram: &mut datagram,
            };
            link::open_batch(&mut [job], &mut verdicts);
            let content = datagram[link::CONTENT_OFFSET..].first_chunk().unwrap();
            let opened = verdicts.pop().unwrap().ok();
            let is_control = opened.is_some_and(|opened| opened.kind == link::Kind::Control);
            let count = sessions.len();
            if is_control && matches!(Control::decode(content), Ok(Control::Attach { .. })) {
                attaches[count - 1] += 1;
            }
        }
        if let [old, _] = &mut sessions[..] {
            // What was on its way for the old one.
            let mut datagram = Box::new([0; DATAGRAM_BYTES]);
            let content = datagram[link::CONTENT_OFFSET..].first_chunk_mut();
            Control::Attached { rate_pps: 2 }.encode(content.unwrap());
            let counter = old.send.next_counter().unwrap();
            link::seal_batch(&mut [link::SealJob {
                session: old.send.key(),
                counter,
                kind: link::Kind::Control,
                epoch: 0,
                datagram: &mut datagram,
            }]);
            pair.comes(datagram);
            assert!(!pair.carrier.attachment.is_served(pair.now_ns));
            if attaches[1] > 0 {
                return;
            }
        }
        assert!(sessions.len() < 3, "it opens session after session");
    }
    panic!("{} sessions, attach frames {attaches:?}", sessions.len());
}

#[test]
fn a_gateway_that_says_it_grants_more_than_was_asked_for_is_not_silent_sooner() {
    let (mut pair, _) = Pair::new(8);
    while !pair.carrier.attachment.has_session(pair.now_ns) {
        let datagram = pair.departs();
        if let Datagram::Initiation { .. } = link::peek(&datagram[..]).unwrap() {
            let rng = &mut Generator::from_rng(&mut pair.rng);
            let (reply, _) = answer(&mut pair.gateway, &datagram, pair.now_ns, rng);
            pair.comes(reply);
        }
    }
    // Two a second were asked for: twenty frames take ten seconds.
    for rate_pps in [u32::MAX, 2, 0] {
        pair.carrier.attachment.attached(rate_pps);
        let after = |seconds: u64| pair.now_ns + seconds * 1_000_000_000;
        assert!(pair.carrier.attachment.is_served(after(9)), "{rate_pps}");
        let is_zero = rate_pps == 0;
        assert_eq!(
            pair.carrier.attachment.is_served(after(12)),
            is_zero,
            "{rate_pps}"
        );
    }
}
