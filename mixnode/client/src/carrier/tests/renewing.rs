//! What shows of a renewal: types and receiver indices are in the clear.

use std::collections::BTreeMap;

use arrayvec::ArrayVec;
use link::{Kind, OpenJob, SealJob, Session};

use super::super::departures::HOLD_NS;
use super::*;

const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MS;
const SOURCE: ([u8; 4], u16) = ([10, 9, 9, 9], 1);

/// A gateway of one client.
struct Gateway {
    responder: Responder,
    rng: Generator,
    sessions: BTreeMap<u32, Session>,
    /// The session that its stream goes to.
    attached: Option<u32>,
}

impl Gateway {
    fn frame(&mut self, control: Option<&Control>) -> Option<Box<[u8; DATAGRAM_BYTES]>> {
        let session = self.sessions.get_mut(&self.attached?)?;
        let mut datagram = Box::new([0; DATAGRAM_BYTES]);
        if let Some(control) = control {
            let content = &mut datagram[link::CONTENT_OFFSET..];
            control.encode(content.first_chunk_mut().unwrap());
        }
        let counter = session.send.next_counter().unwrap();
        link::seal_batch(&mut [SealJob {
            session: session.send.key(),
            counter,
            kind: control.map_or(Kind::Cover, |_| Kind::Control),
            epoch: 0,
            datagram: &mut datagram,
        }]);
        Some(datagram)
    }

    /// Takes what the client sent; the answer that goes out at once.
    fn take(
        &mut self,
        mut datagram: [u8; DATAGRAM_BYTES],
        now_ns: u64,
    ) -> Option<Box<[u8; DATAGRAM_BYTES]>> {
        let index = match link::peek(&datagram[..]).unwrap() {
            Datagram::Data { receiver_index, .. } => receiver_index,
            _ => {
                let source = SOURCE.into();
                let arrival = Arrival { source, now_ns };
                let index = self.sessions.len() as u32;
                let (responder, rng) = (&mut self.responder, &mut self.rng);
                let answer = responder.respond(&datagram, &arrival, index, |_| true, rng);
                return match answer.unwrap() {
                    Response::Accepted { reply, session } => {
                        self.sessions.insert(index, *session);
                        Some(reply)
                    }
                    Response::Cookie { reply } => Some(reply),
                };
            }
        };
        let session = self.sessions.get_mut(&index).unwrap();
        let mut verdicts = ArrayVec::new();
        let (session, datagram) = (session.receive.key(), &mut datagram);
        link::open_batch(&mut [OpenJob { session, datagram }], &mut verdicts);
        let opened = verdicts.pop().unwrap().unwrap();
        let content = datagram[link::CONTENT_OFFSET..].first_chunk().unwrap();
        match Control::decode(content) {
            Ok(Control::Attach { rate_pps }) if opened.kind == Kind::Control => {
                self.attached = Some(index);
                self.frame(Some(&Control::Attached { rate_pps }))
            }
            _ => None,
        }
    }
}

/// What left in a slot.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Sent {
    Initiation,
    /// A frame under the session of this index, and to which the gateway's stream goes from then on.
    Frame(u32, Option<u32>),
}

/// What leaves of a client, and when, in 500 s in which the rest of it looks after it every so often and the gateway is
/// restarted after so long; and when handshakes were due. One that `stands` between its looks does so in the middle of what
/// it receives: it makes what it sends before it has received the rest.
fn departures_of(
    looks_every_ns: u64,
    restarts_ns: u64,
    stands: bool,
) -> (Vec<(u64, Sent)>, Vec<u64>) {
    let mut rng = Generator::seed_from_u64(5);
    let (authority, documents, gateways, mut keys) = network(&mut rng);
    let settings = settings(&authority, gateways[0], (20.0, 0.1), &mut rng);
    let keys = keys.swap_remove(0);
    let mut gateway = Gateway {
        responder: Responder::new(keys.clone()),
        rng: Generator::from_rng(&mut rng),
        sessions: BTreeMap::new(),
        attached: None,
    };
    let (mut carrier, mut departures) = Carrier::new(settings, documents, rng, 0);
    carrier.supply_ahead();
    let (mut arrived, mut sent, mut due) = (Vec::new(), Vec::new(), Vec::new());
    for now_ns in (0..500 * SECOND).step_by(5 * MS as usize) {
        if let Some((_, datagram)) = departures.depart(now_ns) {
            arrived.extend(gateway.take(datagram, now_ns));
            sent.push((
                now_ns,
                match link::peek(&datagram[..]).unwrap() {
                    Datagram::Data { receiver_index, .. } => {
                        Sent::Frame(receiver_index, gateway.attached)
                    }
                    _ => Sent::Initiation,
                },
            ));
        }
        if now_ns == restarts_ns {
            (gateway.attached, gateway.responder) = (None, Responder::new(keys.clone()));
        }
        if now_ns % (40 * MS) == 0 {
            arrived.extend(gateway.frame(None));
        }
        // Of the first connection nothing follows.
        let is_busy = now_ns > 10 * SECOND;
        if is_busy && now_ns % looks_every_ns != 0 {
            continue;
        }
        if stands {
            carrier.departed(departures.gone(), now_ns);
            carrier.refill(&mut [], now_ns, 1_000);
        }
        for mut datagram in arrived.drain(..) {
            carrier.receive(&mut [], now_ns, &mut datagram);
        }
        carrier.listened(now_ns);
        carrier.departed(departures.gone(), now_ns);
        // The wall clock stands, so that no document ends.
        carrier.refill(&mut [], now_ns, 1_000);
        while let Some(supply) = carrier.supply() {
            if let Supply::Handshake(initiation) = &supply
                && !initiation.follows
            {
                due.push(initiation.from_ns);
            }
            departures.take(supply);
        }
    }
    (sent, due)
}

#[test]
fn attack_who_keeps_a_client_busy_does_not_see_it_in_the_slots_of_its_renewals() {
    for looks_every_ns in [5 * MS, 300 * MS, 900 * MS] {
        let (sent, due) = departures_of(looks_every_ns, u64::MAX, false);
        // First one without a cookie, then one with it.
        let initiations: Vec<u64> = sent
            .iter()
            .filter(|(_, sent)| *sent == Sent::Initiation)
            .map(|(at_ns, _)| *at_ns)
            .collect();
        let first_from = |from_ns: u64| sent.iter().find(|(at_ns, _)| *at_ns >= from_ns);
        let (renewals, _) = initiations.as_chunks::<2>();
        assert!((3..7).contains(&renewals.len()), "{initiations:?}");
        for (number, [first_ns, second_ns]) in (0..).zip(renewals).skip(1) {
            let from_ns = due.get(number as usize).copied().unwrap();
            assert_eq!(first_from(from_ns).unwrap().0, *first_ns);
            let due = first_from(first_ns + HOLD_NS).map(|(at_ns, _)| at_ns);
            let switched = sent
                .iter()
                .find(|(_, sent)| matches!(sent, Sent::Frame(index, _) if *index == number));
            let slots = |from: u64, to: u64| {
                let between = |(at_ns, _): &&(u64, Sent)| (from..to).contains(at_ns);
                sent.iter().filter(between).count()
            };
            println!(
                "looked after every {} ms: {} slots after a renewal's message comes the one with its cookie, {} later the new \
                 session",
                looks_every_ns / MS,
                slots(*first_ns, *second_ns),
                slots(*second_ns, switched.unwrap().0)
            );
            assert_eq!(due, Some(second_ns));
            // Its first frame asks to deliver to it.
            assert_eq!(switched, first_from(second_ns + HOLD_NS));
            assert_eq!(switched.unwrap().1, Sent::Frame(number, Some(number)));
        }
    }
}

#[test]
fn a_client_whose_gateway_was_restarted_waits_for_nothing_but_its_next_slot() {
    let restarts_ns = 60 * SECOND;
    let (sent, _) = departures_of(5 * MS, restarts_ns, false);
    let is_first = |(at_ns, sent): &(u64, Sent)| *at_ns > restarts_ns && *sent == Sent::Initiation;
    let first = sent.iter().position(is_first).unwrap();
    let after_ns = sent[first].0 - restarts_ns;
    assert!((SECOND..4 * SECOND).contains(&after_ns), "{after_ns}");
    // Without a cookie, with it, and attached.
    let back: Vec<Sent> = sent[first..first + 3]
        .iter()
        .map(|(_, sent)| *sent)
        .collect();
    let attached = Sent::Frame(1, Some(1));
    assert_eq!(back, [Sent::Initiation, Sent::Initiation, attached]);
}

/// A gateway whose frames wait in the socket is not silent, however long its client stood still.
#[test]
fn attack_who_keeps_a_client_busy_for_seconds_draws_no_handshake_before_its_time() {
    let (sent, _) = departures_of(1_500 * MS, u64::MAX, true);
    let initiations = sent.iter().filter(|(_, sent)| *sent == Sent::Initiation);
    let initiations: Vec<u64> = initiations.map(|(at_ns, _)| *at_ns).collect();
    assert!(initiations.len() >= 6, "{initiations:?}");
    for pair in initiations.windows(2) {
        let apart_ns = pair[1] - pair[0];
        let is_one_attempt = apart_ns < 10 * SECOND;
        assert!(is_one_attempt || apart_ns > 119 * SECOND, "{initiations:?}");
    }
    let renewals = initiations
        .windows(2)
        .filter(|pair| pair[1] - pair[0] > 10 * SECOND);
    assert!(renewals.count() <= 4, "{initiations:?}");
}
