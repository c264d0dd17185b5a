//! That what uses the network needs to know of services alone.

use std::net::SocketAddr;

use authority::Authority;
use directory::{Consensus, Head, LinkKey, Parameters, Record, Role};
use link::{Arrival, Datagram, LinkKeys, Responder, Response};
use sphinx::{EpochSecret, Surb};

use super::*;

const PARAMETERS: Parameters = Parameters {
    genesis_unix_ms: 0,
    epoch_ms: 60_000,
    mean_delay_us: 1_000,
    client_rate_pps: 100,
    layers: 3,
};

/// A service with something to say in every slot.
struct Chatter {
    /// The gateway of whom it writes to.
    to: [u8; 32],
    letters: u32,
    /// Reply blocks to answer through.
    owed: Vec<Surb>,
}

impl Chatter {
    fn new(to: [u8; 32]) -> Self {
        Self {
            to,
            letters: 0,
            owed: Vec::new(),
        }
    }
}

impl Service for Chatter {
    fn tick(&mut self, _now_ns: u64, _epoch: u32) {}

    fn reply(&mut self, _now_ns: u64, packets: &Packets<'_>) -> Option<Reply> {
        let surb = self.owed.pop()?;
        assert_eq!(packets.use_of(&surb), Use::Now);
        let plaintext = [1; sphinx::REPLY_BYTES];
        Some(Reply { surb, plaintext })
    }

    fn letter(&mut self, _now_ns: u64, packets: &mut Packets<'_>) -> Option<Letter> {
        self.letters += 1;
        let token = Token {
            conversation: [9; 16],
            part: self.letters,
        };
        let blocks = packets.reply_blocks(&self.to, token, 2)?;
        let mut body = [0; BODY_BYTES];
        body[..blocks[0].len()].copy_from_slice(&blocks[0]);
        Some(Letter {
            gateway: self.to,
            destination: [3; 16],
            body,
        })
    }

    fn on_body(&mut self, _body: &[u8; BODY_BYTES], _now_ns: u64) -> bool {
        false
    }

    fn on_reply(&mut self, _token: Token, _plaintext: &[u8; sphinx::REPLY_BYTES], _now_ns: u64) {}
}

/// The documents of epochs 0 and 1, the identities of two gateways, and the link keys of the first.
fn network(rng: &mut Generator) -> (Authority, Documents, [[u8; 32]; 2], LinkKeys) {
    let authority = directory::Identity::generate(rng);
    let authority = Authority::found(authority, PARAMETERS).unwrap();
    let mut gateway_keys = None;
    let mut nodes: Vec<Record> = (0..8)
        .map(|node| {
            let keys = LinkKeys::generate(rng);
            let link = keys.public();
            gateway_keys.get_or_insert(keys);
            Record {
                // Two gateways, two mixes a layer.
                layer: node / 2,
                identity: directory::Identity::generate(rng).public(),
                role: if node < 2 { Role::Gateway } else { Role::Mix },
                operator: format!("operator-{node}"),
                addresses: vec![SocketAddr::from(([10, node, 0, 1], 9_000))],
                link: LinkKey {
                    x25519: link.x25519,
                    kem: link.kem,
                },
                epoch_key: *EpochSecret::generate(rng).public_key(),
                weight: 1_000,
                vrf_key: [node; 32],
                vrf_since: 0,
                flags: 0,
                vrf_proof: None,
            }
        })
        .collect();
    let gateways = [nodes[0].identity, nodes[1].identity];
    nodes.sort_unstable_by_key(|node| node.identity);
    let consensus = |epoch| Consensus::new(Head::bare(PARAMETERS, epoch), nodes.clone()).unwrap();
    let mut documents = Documents::from(consensus(0));
    documents.insert(consensus(1));
    (authority, documents, gateways, gateway_keys.unwrap())
}

#[test]
fn services_take_turns_with_letters_and_answers_leave_them_every_second_slot() {
    let mut rng = Generator::seed_from_u64(1);
    let (authority, documents, gateways, _) = network(&mut rng);
    let settings = Settings {
        mailbox: ClientKeys::generate(&mut rng),
        gateway: gateways[0],
        authorities: authority.chain().clone(),
        rate_pps: 100.0,
        loop_share: 0.0,
    };
    let (mut carrier, _) = Carrier::new(settings, documents, rng, 0);
    let [mut first, mut second] = [Chatter::new(gateways[1]), Chatter::new(gateways[1])];
    let unix_ms = 1_000;
    // The gateway is asked to attach.
    carrier.next_frame(&mut [&mut first, &mut second], 1, unix_ms);
    for _ in 0..10 {
        carrier.next_frame(&mut [&mut first, &mut second], 2, unix_ms);
    }
    assert_eq!((first.letters, second.letters), (5, 5));
    let token = Token {
        conversation: [0; 16],
        part: 0,
    };
    let own = carrier.place.gateway;
    let mut packets = carrier.packets(0, unix_ms).unwrap();
    let blocks = packets.reply_blocks(&own, token, 3).unwrap();
    second.owed.extend(blocks.iter().map(Surb::from_bytes));
    // An answer, a letter, an answer, a letter, an answer.
    for _ in 0..5 {
        carrier.next_frame(&mut [&mut first, &mut second], 3, unix_ms);
    }
    assert!(second.owed.is_empty());
    assert_eq!((first.letters, second.letters), (6, 6));
    assert_eq!(carrier.stats.drops_sent, 0);
}

/// Slots that pass before a client of this rate has a session, its main thread looking after it ten times a second
/// as one does whose slots are another thread's, and answers taking as long; at most 50.
fn slots_to_a_session(seed: u64, rate_pps: f64) -> u64 {
    let mut rng = Generator::seed_from_u64(seed);
    let (authority, documents, gateways, keys) = network(&mut rng);
    let settings = Settings {
        mailbox: ClientKeys::generate(&mut rng),
        gateway: gateways[0],
        authorities: authority.chain().clone(),
        rate_pps,
        loop_share: 0.0,
    };
    let mut gateway = (Responder::new(keys), Generator::from_rng(&mut rng));
    let (mut carrier, mut departures) = Carrier::new(settings, documents, rng, 0);
    carrier.supply_ahead();
    // The wall clock stands, so that no document ends.
    let unix_ms = 1_000;
    let mut answer: Option<Box<[u8; DATAGRAM_BYTES]>> = None;
    for now_ns in (0..).step_by(100_000_000) {
        let sent = departures.depart(now_ns);
        carrier.departed(departures.gone(), now_ns);
        if let Some(mut answer) = answer.take() {
            carrier.receive(&mut [], now_ns, &mut answer);
        }
        if let Some((_, datagram)) = sent
            && let Datagram::Initiation { .. } = link::peek(&datagram[..]).unwrap()
        {
            let arrival = Arrival {
                source: ([10, 9, 9, 9], 1).into(),
                now_ns,
            };
            let (responder, rng) = &mut gateway;
            match responder.respond(&datagram, &arrival, 1, |_| true, rng) {
                Ok(Response::Accepted { reply, .. } | Response::Cookie { reply }) => {
                    answer = Some(reply);
                }
                Err(_) => {}
            }
        }
        let slots = departures.gone().slots;
        if carrier.attachment.has_session(now_ns) || slots >= 50 {
            return slots;
        }
        carrier.refill(&mut [], now_ns, unix_ms);
        while let Some(supply) = carrier.supply() {
            departures.take(supply);
        }
    }
    unreachable!("time does not end")
}

#[test]
fn a_client_of_a_hundredth_of_a_slot_a_second_connects() {
    for rate_pps in [1.0, 0.02, 0.01] {
        let mut slots: Vec<u64> = (1..9)
            .map(|seed| slots_to_a_session(seed, rate_pps))
            .collect();
        slots.sort_unstable();
        println!("{rate_pps} slots a second: a session after so many of them: {slots:?}");
        assert!(slots[4] < 10 && slots[7] < 50);
    }
}
