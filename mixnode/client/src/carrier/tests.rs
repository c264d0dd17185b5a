//! That what uses the network needs to know of services alone.

use std::net::SocketAddr;

use authority::Authority;
use directory::{Consensus, Head, LinkKey, Parameters, Record, Role};
use link::{Arrival, Datagram, LinkKeys, Responder, Response};
use sphinx::{EpochSecret, SURB_BYTES, Surb};

use super::*;

mod forged;
mod leaving;
mod renewing;

const PARAMETERS: Parameters = Parameters {
    genesis_unix_ms: 0,
    epoch_ms: 60_000,
    mean_delay_us: 1_000,
    client_rate_pps: 100,
    layers: 3,
};

/// A service with something to say whenever it is asked.
struct Chatter {
    /// The gateway of whom it writes to; without one it has no letters.
    to: Option<[u8; 32]>,
    letters: u32,
    /// A reply block to answer through, again and again.
    owed: Option<[u8; SURB_BYTES]>,
    answers: u32,
    /// What it was told last.
    epoch: Option<u32>,
}

impl Chatter {
    fn new(to: Option<[u8; 32]>, owed: Option<[u8; SURB_BYTES]>) -> Self {
        Self {
            to,
            letters: 0,
            owed,
            answers: 0,
            epoch: None,
        }
    }
}

impl Service for Chatter {
    fn tick(&mut self, _now_ns: u64, epoch: Option<u32>) {
        self.epoch = epoch;
    }

    fn reply(&mut self, _now_ns: u64, packets: &Packets<'_>) -> Option<Reply> {
        let surb = Surb::from_bytes(&self.owed?);
        assert_eq!(packets.use_of(&surb), Use::Now);
        self.answers += 1;
        let plaintext = [1; sphinx::REPLY_BYTES];
        Some(Reply { surb, plaintext })
    }

    fn letter(&mut self, _now_ns: u64, _packets: &mut Packets<'_>) -> Option<Letter> {
        let gateway = self.to?;
        self.letters += 1;
        Some(Letter {
            gateway,
            destination: [3; 16],
            body: [0; BODY_BYTES],
        })
    }

    fn on_body(&mut self, _body: &[u8; BODY_BYTES], _now_ns: u64) -> bool {
        false
    }

    fn on_reply(&mut self, _token: Token, _plaintext: &[u8; sphinx::REPLY_BYTES], _now_ns: u64) {}
}

/// The documents of epochs 0 and 1, the identities of two gateways, and the link keys of both.
fn network(rng: &mut Generator) -> (Authority, Documents, [[u8; 32]; 2], Vec<LinkKeys>) {
    let authority = directory::Identity::generate(rng);
    let authority = Authority::found(authority, PARAMETERS).unwrap();
    let mut link_keys = Vec::new();
    let mut nodes: Vec<Record> = (0..8)
        .map(|node| {
            let keys = LinkKeys::generate(rng);
            let link = keys.public();
            link_keys.push(keys);
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
    link_keys.truncate(2);
    (authority, documents, gateways, link_keys)
}

/// A client of that gateway, with a rate in packets a second and the share of them that loops take.
fn settings(
    authority: &Authority,
    gateway: [u8; 32],
    (rate_pps, loop_share): (f64, f64),
    rng: &mut Generator,
) -> Settings {
    Settings {
        mailbox: ClientKeys::generate(rng),
        gateway,
        authorities: authority.chain().clone(),
        rate_pps,
        loop_share,
    }
}

fn carrier(seed: u64) -> (Carrier, [[u8; 32]; 2]) {
    let mut rng = Generator::seed_from_u64(seed);
    let (authority, documents, gateways, _) = network(&mut rng);
    let settings = settings(&authority, gateways[0], (100.0, 0.1), &mut rng);
    let (mut carrier, _) = Carrier::new(settings, documents, rng, 0);
    // The gateway is asked to attach, once for all that follows.
    while carrier.attachment.attach(1).is_some() {}
    (carrier, gateways)
}

#[test]
fn services_take_turns_with_letters() {
    let (mut carrier, gateways) = carrier(1);
    let [mut first, mut second] = [(); 2].map(|()| Chatter::new(Some(gateways[1]), None));
    for _ in 0..40 {
        carrier.next_frame(&mut [&mut first, &mut second], 2, 1_000);
    }
    assert!(first.letters.abs_diff(second.letters) <= 1);
    assert!(first.letters > 8, "{}", first.letters);
}

/// What a client has to do besides a loop now and then.
#[derive(Clone, Copy, Debug)]
struct Work {
    letters: bool,
    answers: bool,
    document: bool,
}

/// The numbers of the slots with a letter and of those with an answer, of so many.
fn slots_of(work: Work, count: usize) -> [Vec<usize>; 2] {
    let (mut carrier, gateways) = carrier(2);
    // Late in the epoch the next one's document is due, and early not.
    let unix_ms = 60_000 + if work.document { 58_000 } else { 10_000 };
    let token = Token {
        conversation: [0; 16],
        part: 0,
    };
    let own = carrier.place.gateway;
    let mut packets = carrier.packets(0, unix_ms).unwrap();
    let blocks = packets.reply_blocks(&own, token, 1).unwrap();
    let owed = work.answers.then_some(blocks[0]);
    let mut service = Chatter::new(work.letters.then_some(gateways[1]), owed);
    let mut slots = [vec![], vec![]];
    for slot in 0..count {
        let before = (service.letters, service.answers);
        carrier.next_frame(&mut [&mut service], 2, unix_ms);
        if service.letters > before.0 {
            slots[0].push(slot);
        }
        if service.answers > before.1 {
            slots[1].push(slot);
        }
    }
    slots
}

#[test]
fn attack_who_asks_for_answers_in_every_slot_moves_none_of_the_owners_letters() {
    const SLOTS: usize = 600;
    let quiet = Work {
        letters: true,
        answers: false,
        document: false,
    };
    let [letters, _] = slots_of(quiet, SLOTS);
    let flooded = Work {
        answers: true,
        ..quiet
    };
    let [beside, answers] = slots_of(flooded, SLOTS);
    println!(
        "of {SLOTS} slots {} hold letters, in a flood of questions {}, and {} answers",
        letters.len(),
        beside.len(),
        answers.len()
    );
    assert_eq!(letters, beside, "their slots show the flood");
    let share = |slots: &[usize]| slots.len() as f64 / SLOTS as f64;
    assert!((0.05..0.14).contains(&share(&answers)));
    // Nothing else is left unused: 0.81 of the slots are for letters while no document is due.
    assert!((0.77..0.85).contains(&share(&letters)));
    // Who asks does not see whether the owner writes,
    let idle = Work {
        letters: false,
        ..flooded
    };
    assert_eq!(slots_of(idle, SLOTS), [vec![], answers.clone()]);
    // nor that a document is fetched, which costs letters two slots of nine.
    let fetching = Work {
        document: true,
        ..flooded
    };
    let [fewer, same] = slots_of(fetching, SLOTS);
    assert_eq!(same, answers);
    assert!(fewer.iter().all(|slot| letters.contains(slot)));
    assert!((0.58..0.68).contains(&share(&fewer)));
}

/// Of one client at the turn to epoch 1, after its start in steps of 20 ms: when its packets turn, and for two of its
/// conversations when the first reply block of the next epoch comes, when a question first names it, and when the last
/// block of the old one comes.
fn edges(seed: u64) -> (u64, [[u64; 3]; 2]) {
    const STEP_MS: u64 = 20;
    let (mut carrier, gateways) = carrier(seed);
    let turns_ms = carrier.documents.turns_ms(1);
    let mut edges = [[0; 3]; 2];
    // Epochs of a minute: R / 2 is 0.94 s.
    for step in 0..250 {
        let unix_ms = 57_000 + step * STEP_MS;
        for (conversation, edges) in edges.iter_mut().enumerate() {
            let token = Token {
                conversation: [conversation as u8; 16],
                part: 1,
            };
            let mut packets = carrier.packets(0, unix_ms).unwrap();
            let lasting = packets.lasting_blocks(&gateways[1], token, 2).unwrap();
            let key = packets.reply_blocks(&gateways[1], token, 1).unwrap();
            let epoch = |block: &[u8; SURB_BYTES]| Surb::from_bytes(block).epoch();
            if edges[0] == 0 && lasting.iter().any(|block| epoch(block) == 1) {
                edges[0] = unix_ms;
            }
            if edges[1] == 0 && epoch(&key[0]) == 1 {
                edges[1] = unix_ms;
            }
            if lasting.iter().any(|block| epoch(block) == 0) {
                edges[2] = unix_ms;
            }
        }
    }
    (turns_ms, edges)
}

#[test]
fn attack_two_correspondents_do_not_find_one_client_by_the_moment_it_turns() {
    const CLIENTS: u64 = 16;
    let mut alike = [[0; 3]; 2];
    for seed in 0..CLIENTS {
        let (turns_ms, [one, other]) = edges(seed);
        for edge in 0..3 {
            // Both, less what is between a turn and this edge, which everybody knows.
            alike[0][edge] += u64::from(one[edge].abs_diff(other[edge]) <= 40);
        }
        alike[1][1] += u64::from(one[1].abs_diff(turns_ms) <= 40);
    }
    println!(
        "of {CLIENTS} clients two correspondents see the same first block of the next epoch, name and last block of the \
         old one to 40 ms: {:?}; the name and the packets turn together: {}",
        alike[0], alike[1][1]
    );
    // One in twelve by chance.
    assert!(alike.iter().flatten().all(|alike| *alike <= CLIENTS / 3));
}

#[test]
fn attack_who_names_the_epoch_after_next_does_not_learn_a_recipients_clock() {
    let mut off = 0;
    for seed in 0..8 {
        let (mut carrier, _) = carrier(seed);
        let mut service = Chatter::new(None, None);
        for unix_ms in (59_900..61_100).step_by(10) {
            carrier.refill(&mut [&mut service], 2, unix_ms);
            let packets = carrier.packets(0, unix_ms).unwrap().consensus.epoch();
            off += u32::from(service.epoch != Some(packets));
        }
    }
    println!("at {off} of 960 moments a service has another epoch than the client's packets");
    assert_eq!(off, 0);
    // Without a document in force it knows of none.
    let (mut carrier, _) = carrier(1);
    let mut service = Chatter::new(None, None);
    carrier.refill(&mut [&mut service], 2, 60_000 * 5);
    assert_eq!(service.epoch, None);
}

/// Slots that pass before a client of this rate has a session, its main thread looking after it ten times a second
/// as one does whose slots are another thread's, and answers taking as long; at most 50.
fn slots_to_a_session(seed: u64, rate_pps: f64) -> u64 {
    let mut rng = Generator::seed_from_u64(seed);
    let (authority, documents, gateways, mut keys) = network(&mut rng);
    let settings = settings(&authority, gateways[0], (rate_pps, 0.0), &mut rng);
    let mut gateway = (
        Responder::new(keys.swap_remove(0)),
        Generator::from_rng(&mut rng),
    );
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
