use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use authority::Authority;
use authority::round::Newest;
use directory::{Bootstrap, Identity, Mark, Parameters, Previous, Report};
use hyper::StatusCode;

use super::*;
use crate::authority::desk::Desk;
use crate::authority::evidence::Evidence;
use crate::authority::shelf::Shelf;
use crate::clock::Reading;
use crate::http::rooms::{Class, Rooms};
use crate::http::{Answer, Answers, Asked, serve};
use crate::network;

const EPOCH_MS: u64 = 600_000;

/// An authority's desk, and what was asked and brought there.
struct Recorder {
    desk: Desk,
    asked: Arc<Mutex<Vec<String>>>,
    /// Takes nothing that is brought.
    refuses: Arc<AtomicBool>,
}

impl Answers for Recorder {
    fn refuses(&self, path: &str, class: Class) -> Option<Answer> {
        self.desk.refuses(path, class)
    }

    fn body_bytes_max(&self, path: &str) -> Option<usize> {
        self.desk.body_bytes_max(path)
    }

    async fn answer(&self, asked: Asked) -> Answer {
        self.asked.lock().unwrap().push(asked.path.clone());
        match asked.is_post {
            true if self.refuses.load(Ordering::Acquire) => {
                Answer::word(StatusCode::BAD_REQUEST, "unknown-node")
            }
            true => Answer::word(StatusCode::OK, "taken"),
            false => self.desk.answer(asked).await,
        }
    }
}

/// A network in its epoch 1, whose authority is of a second set since then; and a folder that was joined before.
struct World {
    folder: tempfile::TempDir,
    shelf: Arc<Mutex<Shelf>>,
    asked: Arc<Mutex<Vec<String>>>,
    refuses: Arc<AtomicBool>,
    chain: Chain,
    members: Vec<network::Member>,
    documents: [Newest; 2],
}

fn key() -> Identity {
    Identity::from_bytes(&[7; 32])
}

fn made(authority: &Authority, members: &[network::Member], before: Option<&Consensus>) -> Newest {
    let previous = before.map_or_else(Previous::default, Consensus::as_previous);
    let epoch = before.map_or(0, |before| before.epoch() + 1);
    let signed: Vec<_> = members
        .iter()
        .map(|member| member.signed(epoch, &previous))
        .collect();
    let signed = authority.make(before, epoch, &signed).unwrap();
    let consensus = signed.verify(authority.chain(), &Held::default()).unwrap();
    Newest { consensus, signed }
}

impl World {
    fn new() -> World {
        let folder = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address: SocketAddr = listener.local_addr().unwrap();
        let parameters = Parameters {
            genesis_unix_ms: unix_ms() - EPOCH_MS - 1_000,
            epoch_ms: EPOCH_MS,
            ..network::PARAMETERS
        };
        let founding = Chain::founded_by(parameters, &[(&key(), address)]).unwrap();
        let members = founding.sets()[0].set().members.clone();
        let mut chain = founding.clone();
        let mut second = chain.propose(1, members).unwrap();
        second.sign(&key());
        chain.extend(second).unwrap();
        let mut members = network::nodes(1, 3);
        for member in &mut members {
            member.network = *chain.network();
        }
        let first = made(&Authority::of(key(), founding.clone()), &members, None);
        let authority = Authority::of(key(), chain.clone());
        let second = made(&authority, &members, Some(&first.consensus));
        let bootstrap = Bootstrap {
            chain: founding,
            consensus: Some(first.signed.clone()),
        };
        bootstrap.write(&folder.path().join("network")).unwrap();
        let shelf = Arc::default();
        let asked = Arc::default();
        let refuses = Arc::default();
        let recorder = Recorder {
            desk: Desk {
                shelf: Arc::clone(&shelf),
                evidence: Evidence::open(&folder.path().join("evidence")).unwrap(),
                questions: std::sync::mpsc::sync_channel(1).0,
            },
            asked: Arc::clone(&asked),
            refuses: Arc::clone(&refuses),
        };
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                serve(listener, Rooms::default(), Arc::new(recorder)).await;
            });
        });
        World {
            folder,
            shelf,
            asked,
            refuses,
            chain,
            members,
            documents: [first, second],
        }
    }

    /// The authority hands out both documents.
    fn publish(&self) {
        for document in &self.documents {
            Shelf::fill(&self.shelf, &self.chain, Some(document));
        }
    }

    fn config(&self) -> DirectoryConfig {
        DirectoryConfig {
            network: self.folder.path().join("network"),
            folder: self.folder.path().join("directory"),
        }
    }

    fn store(&self) -> Store {
        Store::open(&self.config().folder).unwrap()
    }

    /// How often this was asked for.
    fn asked(&self, path: &str) -> usize {
        let asked = self.asked.lock().unwrap();
        asked.iter().filter(|asked| *asked == path).count()
    }

    /// The first node writes a report about the document of `epoch`.
    fn reports(&self, epoch: u32, mark: Mark) {
        let member = &self.members[0];
        let report = Report {
            network: *self.chain.network(),
            identity: member.identity.public(),
            epoch,
            marks: vec![mark; 4],
        };
        let report = report.sign(&member.identity).unwrap();
        self.store().publish_report(&report).unwrap();
    }

    fn stored_chain(&self) -> Chain {
        Chain::decode(&self.store().read_authorities().unwrap().unwrap()).unwrap()
    }
}

#[test]
fn a_follower_learns_a_new_authority_set_and_takes_the_document_that_it_signed_as_a_diff() {
    let world = World::new();
    world.publish();
    let mut follower = Follower::new(&world.config()).unwrap();
    assert_eq!(world.stored_chain().sets().len(), 1);
    follower.turn();
    assert_eq!(world.stored_chain(), world.chain);
    let stored = world.store().read_consensus(1).unwrap().unwrap();
    assert_eq!(stored.encode(), world.documents[1].signed.encode());
    assert_eq!(world.asked("/v1/consensus/1/from/0"), 1);
    // Asked once more, to compare; what is held does not come again.
    assert_eq!(world.asked("/v1/consensus/1"), 1);
    // It is known after a start too, whatever the network's file says.
    drop(follower);
    let follower = Follower::new(&world.config()).unwrap();
    assert_eq!(world.stored_chain(), world.chain);
    assert_eq!(follower.chain, world.chain);
}

#[test]
fn where_a_diff_is_wrong_or_not_there_the_whole_document_is_taken() {
    for wrong in [None, Some(Bytes::from_static(b"FXU1")), Some(Bytes::new())] {
        let world = World::new();
        world.publish();
        let mut shelf = world.shelf.lock().unwrap();
        let diffs = &mut shelf.documents.last_mut().unwrap().diffs;
        let diff = diffs.remove(&0).unwrap();
        if let Some(wrong) = wrong {
            diffs.insert(0, wrong);
        } else {
            // One that leads elsewhere than it says.
            let mut bytes = diff.to_vec();
            bytes[36] ^= 1;
            diffs.insert(0, bytes.into());
        }
        drop(shelf);
        let mut follower = Follower::new(&world.config()).unwrap();
        follower.turn();
        assert!(world.store().read_consensus(1).unwrap().is_some());
    }
}

#[test]
fn descriptor_and_report_are_brought_once_and_a_report_about_an_epoch_that_is_over_is_not() {
    let world = World::new();
    let mut follower = Follower::new(&world.config()).unwrap();
    let (store, member) = (world.store(), &world.members[0]);
    let descriptor = member.signed(2, &Previous::default());
    store.publish_descriptor(&descriptor).unwrap();
    let report = |epoch| world.reports(epoch, Mark::Reachable);
    report(0);
    follower.turn();
    let brought = || (world.asked("/v1/descriptor"), world.asked("/v1/report"));
    assert_eq!(brought(), (1, 0));
    report(1);
    follower.turn();
    follower.turn();
    assert_eq!(brought(), (1, 1));
}

#[test]
fn a_report_that_was_refused_or_is_late_is_not_brought_and_a_descriptor_is_until_it_is_taken() {
    let world = World::new();
    let mut follower = Follower::new(&world.config()).unwrap();
    let descriptor = world.members[0].signed(2, &Previous::default());
    world.store().publish_descriptor(&descriptor).unwrap();
    world.reports(1, Mark::Reachable);
    let brought = || (world.asked("/v1/descriptor"), world.asked("/v1/report"));
    let (start_ms, round_ms) = {
        let parameters = follower.chain.parameters();
        (parameters.epoch_starts_ms(1), parameters.round_ms())
    };
    let mut at = |round: u64| follower.upload(start_ms + round * round_ms).unwrap();
    world.refuses.store(true, Ordering::Release);
    at(1);
    at(2);
    assert_eq!(brought(), (1, 1));
    at(4);
    assert_eq!(brought(), (2, 1));
    // What it says now it has not said before.
    world.reports(1, Mark::Unreachable);
    at(5);
    assert_eq!(brought(), (2, 2));
    world.refuses.store(false, Ordering::Release);
    world.reports(1, Mark::NotMine);
    at(12);
    at(20);
    assert_eq!(brought(), (3, 2));
}

#[test]
fn a_folder_of_many_nodes_is_brought_whole_through_a_room_for_few() {
    let world = World::new();
    let mut follower = Follower::new(&world.config()).unwrap();
    let nodes = network::nodes(4, 16);
    for node in &nodes {
        let descriptor = node.signed(2, &Previous::default());
        world.store().publish_descriptor(&descriptor).unwrap();
    }
    follower.turn();
    assert_eq!(world.asked("/v1/descriptor"), nodes.len());
}

#[test]
fn a_second_valid_document_of_an_epoch_is_kept_beside_the_first_and_counts_nowhere() {
    let world = World::new();
    world.publish();
    let mut follower = Follower::new(&world.config()).unwrap();
    follower.turn();
    // The authority made another one for the same epoch, which lists fewer.
    let [first, second] = &world.documents;
    let authority = Authority::of(key(), world.chain.clone());
    let other = made(&authority, &world.members[..3], Some(&first.consensus));
    *world.shelf.lock().unwrap() = Shelf::default();
    Shelf::fill(&world.shelf, &world.chain, Some(&other));
    follower.compare();
    let stored = || world.store().read_consensus(1).unwrap().unwrap();
    assert_eq!(stored().encode(), second.signed.encode());
    let name = format!("equivocation-1-{}", hex(other.consensus.digest()));
    let beside = std::fs::read(world.store().root().join(name)).unwrap();
    assert_eq!(beside, other.signed.encode());
    // Nor is it taken later.
    follower.turn();
    assert_eq!(stored().encode(), second.signed.encode());
}

#[test]
fn damaged_files_in_the_folder_are_passed_over_and_come_anew() {
    let world = World::new();
    world.publish();
    let mut follower = Follower::new(&world.config()).unwrap();
    follower.turn();
    drop(follower);
    let root = world.store().root().to_owned();
    // What a power cut may leave of the newest document, and of the authority sets.
    let whole = &world.documents[1].signed.encode();
    for left in [0, 100, whole.len() - 1] {
        std::fs::write(root.join("consensus/1"), &whole[..left]).unwrap();
        std::fs::write(root.join("authorities"), vec![0; left << 10]).unwrap();
        let mut follower = Follower::new(&world.config()).unwrap();
        assert_eq!(follower.newest(), Some(0), "{left}");
        follower.turn();
        assert_eq!(follower.newest(), Some(1), "{left}");
        let stored = world.store().read_consensus(1).unwrap().unwrap();
        assert_eq!(&stored.encode(), whole);
        assert_eq!(world.stored_chain(), world.chain);
    }
}

#[test]
fn a_document_that_can_not_be_stored_is_asked_for_once_a_round_and_in_one_way() {
    let world = World::new();
    let mut follower = Follower::new(&world.config()).unwrap();
    world.publish();
    // As full as a disk can be for the one document that is to come.
    std::fs::create_dir(world.store().root().join("consensus/1")).unwrap();
    follower.turn();
    assert_eq!(follower.newest(), Some(0));
    assert_eq!(world.asked("/v1/consensus/1/from/0"), 1);
    assert_eq!(world.asked("/v1/consensus/latest"), 0);
    std::fs::remove_dir(world.store().root().join("consensus/1")).unwrap();
    follower.looking = None;
    follower.turn();
    assert_eq!(follower.newest(), Some(1));
}

/// An authority that knows nothing and whose clock is an hour ahead: it answers so many questions.
fn ahead(questions: usize) -> SocketAddr {
    use std::io::{BufRead, BufReader, Write};
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().take(questions) {
            let mut stream = stream.unwrap();
            let lines = BufReader::new(&stream).lines();
            let asked = lines
                .map_while(Result::ok)
                .take_while(|line| !line.is_empty());
            assert!(asked.count() > 0);
            let hour = std::time::SystemTime::now() + Duration::from_secs(3_600);
            let date = httpdate::fmt_http_date(hour);
            write!(
                stream,
                "HTTP/1.1 404 Not Found\r\nDate: {date}\r\nContent-Length: 0\r\n\r\n"
            )
            .unwrap();
        }
    });
    address
}

#[test]
fn a_clock_that_is_not_the_authorities_is_known_by_any_answer_until_they_are_silent() {
    let behind = |follower: &Follower| {
        let clocks = &follower.board.read().clocks;
        let medians = crate::clock::medians_ms(clocks, unix_ms(), crate::clock::boot_ms());
        medians.map(|(behind_ms, _)| behind_ms)
    };
    let world = World::new();
    world.publish();
    let mut follower = Follower::new(&world.config()).unwrap();
    assert_eq!(behind(&follower), None);
    follower.turn();
    assert_eq!(behind(&follower), Some(0));

    // What has no document has a clock.
    let folder = tempfile::tempdir().unwrap();
    let parameters = Parameters {
        genesis_unix_ms: unix_ms() - EPOCH_MS - 1_000,
        epoch_ms: EPOCH_MS,
        ..network::PARAMETERS
    };
    // A set and two kinds of document: three questions a turn.
    let chain = Chain::founded_by(parameters, &[(&key(), ahead(3))]).unwrap();
    let bootstrap = Bootstrap {
        chain,
        consensus: None,
    };
    bootstrap.write(&folder.path().join("network")).unwrap();
    let config = DirectoryConfig {
        network: folder.path().join("network"),
        folder: folder.path().join("directory"),
    };
    let mut follower = Follower::new(&config).unwrap();
    follower.turn();
    let hour = 3_590_000..3_610_000;
    let found = behind(&follower).unwrap();
    assert!(hour.contains(&-found), "{found}");
    follower.looking = None;
    follower.turn();
    assert_eq!(behind(&follower), None);
}

#[test]
fn authorities_are_asked_again_a_round_later_if_the_clock_was_set_or_is_said_to_be_off() {
    let world = World::new();
    world.publish();
    let mut follower = Follower::new(&world.config()).unwrap();
    let questions = || world.asked("/v1/consensus/1");
    let round_ms = follower.chain.parameters().round_ms() as i64;
    follower.turn();
    assert_eq!(questions(), 1);
    let mut later = |set_ms: i64, after_ms: i64, reading: Option<Reading>| {
        let (asked_ms, here_ms) = follower.clocks.asked.unwrap();
        follower.clocks.asked = Some((asked_ms - after_ms, here_ms - set_ms));
        if reading.is_some() {
            follower.board.hear(vec![reading]);
        }
        follower.turn();
        // Not twice for one cause.
        follower.turn();
        questions()
    };
    assert_eq!(later(60_000, 0, None), 1);
    assert_eq!(later(0, round_ms, None), 2);
    assert_eq!(later(0, round_ms, None), 2);
    assert_eq!(later(-60_000, round_ms, None), 3);
    let (hour, now_ms) = (Duration::from_secs(3_600), crate::clock::boot_ms());
    let ahead = Reading::new(std::time::SystemTime::now() + hour, now_ms, now_ms);
    assert_eq!(later(0, round_ms, ahead), 4);
    // What is said now counts: that nothing is wrong.
    assert_eq!(later(0, round_ms, None), 4);
}
