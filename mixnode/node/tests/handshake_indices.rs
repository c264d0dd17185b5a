//! A receiver index is let in before anyone is told it, and kept out when what it was for is over.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use directory::{KEM_KEY_BYTES, LinkKey};
use link::{DATAGRAM_BYTES, LinkKeys, LinkPublic, Session};
use mixnode::handshake::{Handshaker, Members, Request};
use mixnode::loader_link::Indices;
use mixnode::path::epochs::{Epochs, Links};
use mixnode::path::half_open::Whose;
use mixnode::path::mail::Mail;
use mixnode::path::neighbours::Neighbours;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;

const SECOND: u64 = 1_000_000_000;

/// What was asked of one loader.
#[derive(Default)]
struct Asked {
    /// In order: let in, or kept out.
    events: Vec<(bool, u32)>,
    refuses: bool,
}

/// What the handshaker told.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Asked>>);

impl Told {
    fn events(&self) -> Vec<(bool, u32)> {
        self.0.lock().unwrap().events.clone()
    }

    /// What is in now.
    fn inside(&self) -> Vec<u32> {
        let mut inside = Vec::new();
        for (admitted, index) in self.events() {
            inside.retain(|other| *other != index);
            if admitted {
                inside.push(index);
            }
        }
        inside
    }

    /// From now on nothing is let in, or again.
    fn refuse(&self, refuse: bool) {
        self.0.lock().unwrap().refuses = refuse;
    }
}

impl Indices for Told {
    fn admit(&mut self, index: u32, _source: IpAddr) -> bool {
        let mut told = self.0.lock().unwrap();
        if !told.refuses {
            told.events.push((true, index));
        }
        !told.refuses
    }

    fn forget(&mut self, index: u32) {
        self.0.lock().unwrap().events.push((false, index));
    }
}

/// One side.
struct Side {
    handshaker: Handshaker<ChaCha20Rng>,
    public: Arc<LinkPublic>,
    told: Told,
    address: SocketAddr,
    /// Whether its worker's mailbox takes letters.
    takes: bool,
}

impl Side {
    fn new(number: u8) -> Side {
        let mut rng = ChaCha20Rng::seed_from_u64(number.into());
        let keys = LinkKeys::generate(&mut rng);
        let public = Arc::new(keys.public());
        let told = Told::default();
        Side {
            handshaker: Handshaker::new(keys, Arc::new(Members::new(true)), rng)
                .with_indices(Box::new(told.clone())),
            public,
            told,
            address: SocketAddr::from(([192, 0, 2, number], 9000)),
            takes: true,
        }
    }

    fn handle(&mut self, request: Request, now_ns: u64) -> Vec<Mail> {
        let mut letters = Vec::new();
        let takes = self.takes;
        let mut post = |_: u8, mail: Mail| {
            letters.push(mail);
            takes
        };
        self.handshaker.handle(request, now_ns, &mut post);
        while self.handshaker.serve(now_ns, &mut post) {}
        letters
    }

    fn poll(&mut self, now_ns: u64) -> Vec<Mail> {
        let mut letters = Vec::new();
        let mut post = |_: u8, mail: Mail| {
            letters.push(mail);
            true
        };
        self.handshaker.poll(now_ns, &mut post);
        letters
    }

    fn connect(&mut self, to: &Side, now_ns: u64) -> Vec<Mail> {
        let request = Request::Connect {
            worker: 0,
            link: 0,
            remote: Arc::clone(&to.public),
            destination: to.address,
        };
        self.handle(request, now_ns)
    }

    /// An initiation that shows its cookie.
    fn connect_with_cookie(&mut self, to: &mut Side, now_ns: u64) -> [u8; DATAGRAM_BYTES] {
        let letters = self.connect(to, now_ns);
        self.show_cookie(letters, to, now_ns)
    }

    /// The initiation that follows these letters: what they send, if it shows a cookie.
    fn show_cookie(
        &mut self,
        letters: Vec<Mail>,
        to: &mut Side,
        now_ns: u64,
    ) -> [u8; DATAGRAM_BYTES] {
        let initiation = sent(letters);
        if initiation[DATAGRAM_BYTES - 16..] != [0; 16] {
            return initiation;
        }
        let cookie = sent(to.receive(self.address, initiation, now_ns));
        sent(self.receive(to.address, cookie, now_ns))
    }

    fn receive(
        &mut self,
        from: SocketAddr,
        datagram: [u8; DATAGRAM_BYTES],
        now_ns: u64,
    ) -> Vec<Mail> {
        let request = Request::Datagram {
            worker: 0,
            source: from,
            datagram,
        };
        self.handle(request, now_ns)
    }
}

/// The one datagram that a side wants sent.
fn sent(letters: Vec<Mail>) -> [u8; DATAGRAM_BYTES] {
    match letters.into_iter().next() {
        Some(Mail::Send { datagram, .. }) => *datagram,
        Some(Mail::Accepted { reply, .. }) => *reply,
        _ => panic!("nothing is sent"),
    }
}

fn accepted(letters: Vec<Mail>) -> (Box<Session>, [u8; DATAGRAM_BYTES]) {
    match letters.into_iter().next() {
        Some(Mail::Accepted { session, reply, .. }) => (session, *reply),
        _ => panic!("not accepted"),
    }
}

#[test]
fn both_sides_let_their_index_in_and_the_initiator_keeps_it_out_when_it_is_answered() {
    let (mut one, mut other) = (Side::new(1), Side::new(2));
    let initiation = one.connect_with_cookie(&mut other, SECOND);
    assert_eq!(one.told.inside().len(), 1, "the answer must come in");
    let (session, reply) = accepted(other.receive(one.address, initiation, SECOND));
    assert_eq!(other.told.inside(), [session.local_index]);
    let connected = one.receive(other.address, reply, SECOND);
    assert!(matches!(connected.as_slice(), [Mail::Connected { .. }]));
    // Links carry data one way: nothing comes back any more.
    assert_eq!(one.told.inside(), [0; 0]);
    assert_eq!(other.told.inside(), [session.local_index]);
}

#[test]
fn nothing_is_sent_or_answered_while_no_index_can_be_let_in_and_it_is_tried_again() {
    let (mut one, mut other) = (Side::new(1), Side::new(2));
    one.told.refuse(true);
    assert!(one.connect(&other, SECOND).is_empty());
    assert_eq!(one.handshaker.counters().unadmitted, 1);
    one.told.refuse(false);
    let later = one.handshaker.deadline_ns().unwrap();
    let letters = one.poll(later);
    let initiation = one.show_cookie(letters, &mut other, later);

    other.told.refuse(true);
    assert!(other.receive(one.address, initiation, later).is_empty());
    let counters = other.handshaker.counters();
    assert_eq!((counters.unadmitted, counters.accepted), (1, 0));
    other.told.refuse(false);
    let later = one.handshaker.deadline_ns().unwrap();
    let initiation = sent(one.poll(later));
    // The first try's index is out, the second's in.
    assert_eq!(one.told.inside().len(), 1);
    let (_, reply) = accepted(other.receive(one.address, initiation, later));
    let connected = one.receive(other.address, reply, later);
    assert!(matches!(connected.as_slice(), [Mail::Connected { .. }]));
}

#[test]
fn an_index_whose_session_reaches_no_worker_and_that_of_a_link_given_up_are_kept_out_again() {
    let (mut one, mut other) = (Side::new(1), Side::new(2));
    let initiation = one.connect_with_cookie(&mut other, SECOND);
    other.takes = false;
    other.receive(one.address, initiation, SECOND);
    assert_eq!(other.told.events().len(), 2);
    assert_eq!(other.told.inside(), [0; 0]);
    // The number was another link's before.
    for (key, left) in [([7; 32], 1), (other.public.x25519, 0)] {
        let (worker, link) = (0, 0);
        let abandon = Request::Abandon { worker, link, key };
        assert!(one.handle(abandon, SECOND).is_empty());
        assert_eq!(one.told.inside().len(), left);
    }
}

#[test]
fn attack_a_responder_that_always_answers_with_a_cookie_draws_two_initiations_an_attempt() {
    let (mut one, other) = (Side::new(1), Side::new(2));
    let mut initiation = sent(one.connect(&other, SECOND));
    // Its secret is a new one each time: no cookie is ever right.
    let mut drawn = 1;
    for round in 0..100 {
        let keys = LinkKeys::generate(&mut ChaCha20Rng::seed_from_u64(2));
        let secret = ChaCha20Rng::seed_from_u64(1_000 + round);
        let mut forgetful = Side::new(2);
        forgetful.handshaker = Handshaker::new(keys, Arc::new(Members::new(true)), secret);
        let cookie = sent(forgetful.receive(one.address, initiation, SECOND + round));
        match one.receive(other.address, cookie, SECOND + round).pop() {
            Some(Mail::Send { datagram, .. }) => {
                initiation = *datagram;
                drawn += 1;
            }
            _ => break,
        }
    }
    assert_eq!(drawn, 2, "one immediate retry, then the timer");
    assert_eq!(one.handshaker.counters().initiations, 2);
    let later = one.handshaker.deadline_ns().unwrap();
    assert!(later >= SECOND + 500_000_000);
    assert_eq!(one.poll(later).len(), 1);
}

/// Attempts of `one` until it has a session with `other`, while somebody who sees its initiations answers each with so
/// many cookie replies of his own, before `other`'s answer and behind it; at most 100.
fn attempts_beside_forged_cookies(seed: u8, (before, behind): (usize, usize)) -> u32 {
    let (mut one, mut other) = (Side::new(seed), Side::new(2));
    // What makes a cookie reply is public: this one has another secret, and gives the cookies of other sources.
    let keys = LinkKeys::generate(&mut ChaCha20Rng::seed_from_u64(2));
    let mut forger = link::Responder::new(keys);
    let mut rng = ChaCha20Rng::seed_from_u64(100 + u64::from(seed));
    let mut elsewhere = 0..u32::MAX;
    let (mut now_ns, mut letters) = (SECOND, one.connect(&other, SECOND));
    for attempt in 1..=100 {
        while !letters.is_empty() {
            let initiation = sent(letters);
            let mut answers: Vec<_> = (&mut elsewhere)
                .take(before + behind)
                .map(|number| {
                    let source = SocketAddr::from((number.to_be_bytes(), 1));
                    let arrival = link::Arrival { source, now_ns };
                    *forger
                        .screen(&initiation, &arrival, &mut rng)
                        .unwrap()
                        .unwrap()
                })
                .collect();
            answers.insert(before, sent(other.receive(one.address, initiation, now_ns)));
            letters = Vec::new();
            for answer in answers {
                match one.receive(other.address, answer, now_ns).pop() {
                    Some(Mail::Connected { .. }) => return attempt,
                    Some(letter) => letters.push(letter),
                    None => {}
                }
            }
        }
        now_ns = one.handshaker.deadline_ns().unwrap();
        letters = one.poll(now_ns);
    }
    100
}

#[test]
fn attack_who_sees_initiations_and_answers_them_with_cookies_of_his_own_keeps_no_link_down() {
    let attempts = |forged| {
        let mut attempts: Vec<u32> = (10..20)
            .map(|seed| attempts_beside_forged_cookies(seed, forged))
            .collect();
        attempts.sort_unstable();
        println!("{forged:?} forged replies before and behind: attempts {attempts:?}");
        attempts
    };
    assert_eq!(attempts((0, 3)), [1; 10], "the first one is shown");
    // Each further attempt has one chance in two, in three, and in five.
    assert!(attempts((1, 0))[9] < 30);
    assert!(attempts((1, 1))[9] < 40);
    assert!(attempts((2, 2))[9] < 90);
}

/// Who guesses an index and forges its owner's address spends the owner's rate.
#[test]
fn attack_who_knows_an_index_does_not_guess_those_before_and_after_it() {
    let (mut one, mut other) = (Side::new(1), Side::new(2));
    let mut indices = Vec::new();
    for round in 1..=40 {
        let initiation = one.connect_with_cookie(&mut other, round * SECOND);
        let (session, _) = accepted(other.receive(one.address, initiation, round * SECOND));
        indices.push(session.local_index);
    }
    let asked: Vec<u32> = one.told.events().iter().map(|(_, index)| *index).collect();
    for indices in [indices, asked] {
        assert!(indices.len() >= 40, "{indices:?}");
        let mut sorted = indices.clone();
        sorted.sort_unstable();
        sorted.dedup();
        // Of 2^24 numbers.
        let near = sorted.windows(2).filter(|pair| pair[1] - pair[0] < 1 << 10);
        let (near, all) = (near.count(), sorted.len());
        println!("{near} of {all} indices lie within 1,024 of another");
        assert!(near <= 1, "{indices:?}");
    }
}

#[test]
fn strangers_datagrams_let_no_index_in() {
    let mut one = Side::new(1);
    for kind in 1..=4 {
        let mut datagram = [0x5a; DATAGRAM_BYTES];
        datagram[..8].copy_from_slice(&[kind, 0, 0, 0, 0, 0, 0, 0]);
        one.receive(SocketAddr::from(([198, 51, 100, 7], 1)), datagram, SECOND);
    }
    assert_eq!(one.told.events(), []);
    let counters = one.handshaker.counters();
    assert_eq!((counters.bad_mac1, counters.unasked), (1, 3));
}

/// Sessions that `other` accepts from `one`, and the one at `at_ns`.
fn session(one: &mut Side, other: &mut Side, at_ns: u64) -> Box<Session> {
    let initiation = one.connect_with_cookie(other, at_ns);
    let (session, reply) = accepted(other.receive(one.address, initiation, at_ns));
    one.receive(other.address, reply, at_ns);
    session
}

#[test]
fn a_worker_tells_every_session_that_is_over_once_and_none_that_lives() {
    let (mut one, mut other) = (Side::new(1), Side::new(2));
    let mut neighbours = Neighbours::new(64, 0);
    neighbours.remember_ended();
    let epochs = Epochs::default();
    let told = |neighbours: &mut Neighbours| {
        let mut told = Vec::new();
        neighbours.tell_ended(|index| {
            told.push(index);
            true
        });
        told
    };
    // A neighbour may have 16 sessions; the 17th takes the place of the oldest.
    let mut indices = Vec::new();
    for number in 0..17 {
        let session = session(&mut one, &mut other, (number + 1) * SECOND / 10);
        indices.push(session.local_index);
        neighbours
            .wait_for(session, Whose::Member, one.address)
            .unwrap();
        let index = indices[number as usize];
        neighbours
            .confirm(index, number, &epochs, |_| false)
            .unwrap();
    }
    assert_eq!(told(&mut neighbours), indices[..1]);
    assert_eq!(told(&mut neighbours), [0; 0]);
    // Refused for another reason than that its index lives.
    neighbours.refused(indices[0]);
    neighbours.refused(indices[5]);
    assert_eq!(told(&mut neighbours), indices[..1]);
    // Nobody takes it: told again.
    neighbours.expire(1 << 60);
    neighbours.tell_ended(|_| false);
    let mut rest = told(&mut neighbours);
    rest.sort_unstable();
    indices.remove(0);
    indices.sort_unstable();
    assert_eq!(rest, indices);
    assert_eq!(neighbours.session_count(), 0);
}

#[test]
fn a_link_that_is_no_more_is_told_of_once_though_its_number_is_anothers_and_not_if_it_is_back() {
    let (mut links, place) = (Links::default(), SocketAddr::from(([192, 0, 2, 1], 9000)));
    let open = |links: &mut Links, nodes: [u8; 2]| {
        nodes.map(|node| {
            let key = LinkKey {
                x25519: [node; 32],
                kem: Box::new([node; KEM_KEY_BYTES]),
            };
            links.open(&key, place)
        })
    };
    let told = |links: &mut Links| {
        let mut told = Vec::new();
        links.abandon(|number, key| {
            told.push((number, key[0]));
            true
        });
        told
    };
    assert_eq!(open(&mut links, [1, 2]), [0, 1]);
    // No epoch needs them.
    Epochs::default().tidy(&mut links);
    links.abandon(|_, _| false);
    assert_eq!(open(&mut links, [3, 2]), [0, 1]);
    assert_eq!(told(&mut links), [(0, 1)]);
    assert_eq!(told(&mut links), []);
}
