//! What a gateway that cheats gets of two hundred clients by delivering everything again, in numbers.

mod common;

use std::path::{Path, PathBuf};

use common::{Conditions, Network};
use fog::{
    Address, Client, Config, DiskStorage, Event, Identity, Manifest, MemoryStorage, Phase, Storage,
};
use link::ClientKeys;
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

const SECOND: u64 = 1_000_000_000;
const CLIENTS: usize = 200;
/// Of the clients, those who write to each other: senders, then as many recipients.
const PAIRS: usize = 5;
const BUSY_PPS: f64 = 20.0;
const CROWD_PPS: f64 = 0.2;
const EPOCH_MS: u64 = 180_000;
const FILE_BYTES: usize = 15_000;

struct User {
    identity: [u8; fog::IDENTITY_BYTES],
    mailbox: ClientKeys,
    rate_pps: f64,
}

impl User {
    fn new(rate_pps: f64, rng: &mut ChaCha20Rng) -> Self {
        Self {
            identity: *Identity::generate(rng).to_bytes(),
            mailbox: ClientKeys::generate(rng),
            rate_pps,
        }
    }

    fn address(&self, network: &Network) -> Address {
        Identity::from_bytes(&self.identity).address(network.gateway(0), &self.mailbox)
    }

    fn tag(&self) -> [u8; 16] {
        link::destination_tag(self.mailbox.public_key())
    }

    fn client(&self, network: &mut Network, storage: Box<dyn Storage>) -> Client {
        let config = Config {
            identity: Identity::from_bytes(&self.identity),
            mailbox: self.mailbox.clone(),
            gateway: network.gateway(0),
            authorities: network.authorities(),
            rate_pps: Some(self.rate_pps),
            loop_share: 0.1,
        };
        let epoch = network.authority.parameters().epoch_at(network.unix_ms());
        let (consensus, _) = network.consensus(epoch);
        let rng = sphinx::Generator::from_rng(&mut network.rng);
        Client::new(config, consensus, Some(storage), rng, network.now_ns)
    }
}

/// Two hundred clients of one gateway, of whom some have sent files to others.
struct Crowd {
    network: Network,
    users: Vec<User>,
    seats: Vec<usize>,
    folder: tempfile::TempDir,
}

impl Crowd {
    fn new(seed: u64) -> Self {
        let conditions = Conditions {
            epoch_ms: EPOCH_MS,
            mean_delay_us: 5_000,
            ..Conditions::default()
        };
        let network = Network::new(seed, conditions);
        let rng = &mut ChaCha20Rng::seed_from_u64(seed);
        let rate = |number| match number < 2 * PAIRS {
            true => BUSY_PPS,
            false => CROWD_PPS,
        };
        let users: Vec<User> = (0..CLIENTS)
            .map(|number| User::new(rate(number), rng))
            .collect();
        let mut crowd = Self {
            seats: Vec::new(),
            folder: tempfile::tempdir().unwrap(),
            network,
            users,
        };
        for number in 0..CLIENTS {
            let storage = crowd.storage(number);
            let mut client = crowd.users[number].client(&mut crowd.network, storage);
            if number < PAIRS {
                let mut data = vec![0; FILE_BYTES];
                rng.fill_bytes(&mut data);
                let manifest = Manifest {
                    transfer: [number as u8 + 1; 16],
                    size: data.len() as u64,
                    hash: *blake3::hash(&data).as_bytes(),
                    name: "file".into(),
                };
                let address = crowd.users[PAIRS + number].address(&crowd.network);
                client.send(address, manifest, Box::new(data), None);
            }
            crowd.seats.push(crowd.network.join(client));
        }
        crowd.network.recorded = recipients().map(|of| crowd.users[of].tag()).collect();
        crowd
    }

    fn records(&self, number: usize) -> PathBuf {
        self.folder.path().join(format!("records {number}"))
    }

    fn storage(&self, number: usize) -> Box<dyn Storage> {
        if !recipients().contains(&number) {
            return Box::new(MemoryStorage::new(0));
        }
        let out = self.folder.path().join(format!("out {number}"));
        Box::new(DiskStorage::new(&self.records(number), &out, 1 << 20).unwrap())
    }

    fn run(&mut self, seconds: u64) {
        let until_ns = self.network.now_ns + seconds * SECOND;
        self.network.run(until_ns, |_| false);
    }

    /// Packets of recipients that ended in the mailboxes of those who wrote to them.
    fn answers(&self) -> u64 {
        let to_others = |((seat, destination), count): (&(usize, [u8; 16]), &u64)| {
            let number = self.seats.iter().position(|of| of == seat)?;
            let is_own = self.users[number].tag() == *destination;
            (recipients().contains(&number) && !is_own).then_some(*count)
        };
        self.network.mailed.iter().filter_map(to_others).sum()
    }

    /// The recipients die and start again with what their disks hold.
    fn restart_recipients(&mut self) {
        for number in recipients() {
            let storage = self.storage(number);
            let client = self.users[number].client(&mut self.network, storage);
            self.network.restart(self.seats[number], client);
        }
        self.run(5);
    }

    /// The gateway delivers all again that it ever had for the recipients: how many bodies, and how many answers
    /// follow.
    fn play_again(&mut self, what: &str) -> u64 {
        let before = self.answers();
        let bodies = self.network.deliver_again();
        self.run(20);
        let answers = self.answers() - before;
        println!("{what}: {bodies} bodies again, {answers} answers");
        assert!(bodies > 40 * PAIRS, "{bodies}");
        answers
    }
}

fn recipients() -> std::ops::Range<usize> {
    PAIRS..2 * PAIRS
}

/// A crowd whose files have all arrived.
fn written(seed: u64) -> Crowd {
    let mut crowd = Crowd::new(seed);
    let seats = crowd.seats.clone();
    let is_complete = |event: &Event| {
        let Event::Sending { phase, .. } = event else {
            return false;
        };
        *phase == Phase::Complete
    };
    let all = crowd.network.run(60 * SECOND, |network| {
        let mut senders = seats[..PAIRS].iter();
        senders.all(|seat| network.seats[*seat].events.iter().any(is_complete))
    });
    assert!(all, "the files arrive");
    // What is owed still, halves of keys for the most part, leaves in its slots.
    let mut given = 0;
    while crowd.answers() > given {
        given = crowd.answers();
        crowd.run(10);
    }
    println!(
        "of {CLIENTS} clients {PAIRS} wrote to {PAIRS} others, who gave {} answers",
        crowd.answers()
    );
    assert!(crowd.answers() > 2 * PAIRS as u64);
    crowd
}

fn forget_what_was_used(records: &Path) {
    std::fs::remove_dir_all(records.join("used")).unwrap();
}

#[test]
#[ignore = "minutes of cryptography"]
fn attack_a_gateway_that_delivers_all_again_to_5_of_200_clients_is_answered_0_times_across_restarts_and_a_turn()
 {
    let mut crowd = written(120);
    let mut answers = crowd.play_again("at once");
    crowd.restart_recipients();
    answers += crowd.play_again("after a restart");
    // All have gone over to the next epoch, and each mark is needed still.
    let turned_ns = (EPOCH_MS + EPOCH_MS / 32) * 1_000_000;
    crowd.network.run(turned_ns, |_| false);
    answers += crowd.play_again("in the next epoch");
    crowd.restart_recipients();
    answers += crowd.play_again("in the next epoch after a restart");
    assert_eq!(answers, 0);
}

#[test]
#[ignore = "minutes of cryptography"]
fn recipients_who_forget_what_they_took_answer_again() {
    let mut crowd = written(120);
    for number in recipients() {
        forget_what_was_used(&crowd.records(number));
    }
    crowd.restart_recipients();
    assert!(crowd.play_again("after a restart that forgets") > PAIRS as u64);
}
