//! What a client tells of gateways that say that they leave.

use link::{CONTENT_OFFSET, Kind, SealJob, Session};

use super::*;

const STEP_NS: u64 = 10_000_000;

/// A gateway that lets every client in, and says whatever it is made to.
struct Gateway {
    responder: Responder,
    rng: Generator,
    session: Option<Session>,
}

impl Gateway {
    fn answer(
        &mut self,
        datagram: &[u8; DATAGRAM_BYTES],
        now_ns: u64,
    ) -> Option<Box<[u8; DATAGRAM_BYTES]>> {
        let arrival = Arrival {
            source: ([10, 9, 9, 9], 1).into(),
            now_ns,
        };
        let rng = &mut self.rng;
        let response = self
            .responder
            .respond(datagram, &arrival, 1, |_| true, rng)
            .ok()?;
        match response {
            Response::Accepted { reply, session } => {
                self.session = Some(*session);
                Some(reply)
            }
            Response::Cookie { reply } => Some(reply),
        }
    }

    fn says(&mut self, control: &Control) -> Box<[u8; DATAGRAM_BYTES]> {
        let session = self.session.as_mut().unwrap();
        let mut datagram = Box::new([0; DATAGRAM_BYTES]);
        control.encode(datagram[CONTENT_OFFSET..].first_chunk_mut().unwrap());
        let counter = session.send.next_counter().unwrap();
        link::seal_batch(&mut [SealJob {
            session: session.send.key(),
            counter,
            kind: Kind::Control,
            epoch: 0,
            datagram: &mut datagram,
        }]);
        datagram
    }
}

/// Epochs that the client tells of when `gateway` says these, each three times.
fn told(carrier: &mut Carrier, gateway: &mut Gateway, now_ns: u64, epochs: &[u32]) -> Vec<u32> {
    for epoch in epochs {
        for _ in 0..3 {
            let mut datagram = gateway.says(&Control::Leaving { epoch: *epoch });
            carrier.receive(&mut [], now_ns, &mut datagram);
        }
    }
    let leaving = |event| match event {
        Event::GatewayLeaving { epoch } => Some(epoch),
        _ => None,
    };
    carrier.events.drain(..).filter_map(leaving).collect()
}

#[test]
fn a_gateways_last_epoch_is_told_and_a_later_one_once_more_and_that_of_the_next_gateway_too() {
    let mut rng = Generator::seed_from_u64(3);
    let (authority, documents, identities, keys) = network(&mut rng);
    let settings = settings(&authority, identities[0], (10.0, 0.0), &mut rng);
    let reserves = Reserves {
        gateways: vec![(identities[1], ClientKeys::generate(&mut rng))],
        // Its guard lets it in by the handshake alone, so that it may leave it at once.
        state: GuardState {
            at: 0,
            unserved_s: 3_600,
        },
        moves: true,
    };
    let mut gateways: Vec<Gateway> = keys
        .into_iter()
        .map(|keys| Gateway {
            responder: Responder::new(keys),
            rng: Generator::from_rng(&mut rng),
            session: None,
        })
        .collect();
    let (mut carrier, mut departures) = Carrier::new(settings, documents, rng, 0);
    carrier.set_reserves(reserves);
    let mut guard_has_said = false;
    for now_ns in (0..).step_by(STEP_NS as usize) {
        assert!(now_ns < 120_000_000_000, "the client does not move");
        let sent = departures.depart(now_ns);
        carrier.departed(departures.gone(), now_ns);
        if let Some((to, datagram)) = sent {
            let number = usize::from(to == ([10, 1, 0, 1], 9_000).into());
            let gateway = &mut gateways[number];
            let answer = match link::peek(&datagram[..]).unwrap() {
                Datagram::Initiation { .. } => gateway.answer(&datagram, now_ns),
                // The first frame that the reserve gets asks it for the attachment.
                _ => (number == 1).then(|| gateway.says(&Control::Attached { rate_pps: 10 })),
            };
            if let Some(mut answer) = answer {
                carrier.receive(&mut [], now_ns, &mut answer);
            }
        }
        if !guard_has_said && carrier.attachment.has_session(now_ns) {
            guard_has_said = true;
            // Said out of order too: the network does not keep any.
            let told = told(&mut carrier, &mut gateways[0], now_ns, &[7, 6, 8, 7, 9]);
            assert_eq!(told, [7, 8]);
        }
        if carrier.place().gateway == identities[1] {
            let told = told(&mut carrier, &mut gateways[1], now_ns, &[7]);
            assert_eq!(told, [7]);
            break;
        }
        carrier.refill(&mut [], now_ns, 1_000);
        while let Some(supply) = carrier.supply() {
            departures.take(supply);
        }
    }
    assert!(guard_has_said);
}
