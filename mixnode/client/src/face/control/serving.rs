//! The end of the socket that the running `fog` has.
//!
//! Whatever comes costs it a message a connection and turn. A connection that asks for nothing, doesn't read what it is
//! told, or says what nobody understands is ended; of too many, the new ones. Slots are another thread's.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::channel::{Channel, Listener, NAME};
use super::protocol::{ITEMS_MAX, Item, NAME_CHARS_MAX, Order, Reply, Request, Status};
use crate::client::Client;
use crate::event::Event;
use crate::face::lookout::{Seen, Wait, unix_s};
use crate::face::run::part;
use crate::face::source::regular;
use crate::face::transit::Transit;
use crate::store::SentFile;
use crate::store::home::Home;
use crate::transfer::TransferId;

/// Connections at a time; what comes beyond is told so and ended.
const CONNECTIONS_MAX: usize = 16;
/// Files on their way out; more are refused.
const JOBS_MAX: usize = 8;
/// New connections taken a turn.
const ACCEPTED_MAX: usize = 4;
/// A connection that watches no file and asks nothing for so long is ended, and one that reads nothing for so long.
const IDLE: Duration = Duration::from_secs(10);
const STUCK: Duration = Duration::from_secs(30);
/// After an error of the system, nobody is let in for so long.
const DEAF: Duration = Duration::from_secs(1);

/// A file on its way, for those who watch it.
struct Job {
    transit: Transit,
    name: String,
}

struct Connection {
    channel: Channel,
    heard: Instant,
    /// What it has not read yet: one of a kind, the newest.
    outbox: VecDeque<Reply>,
    /// Since when it reads nothing.
    stuck: Option<Instant>,
    watches: Option<TransferId>,
    is_over: bool,
}

/// What the running `fog` takes from others.
pub(in crate::face) struct Control {
    listener: Option<Listener>,
    deaf_until: Option<Instant>,
    connections: VecDeque<Connection>,
    jobs: BTreeMap<TransferId, Job>,
    since_unix_s: u64,
    /// Empty where nothing is received.
    out: PathBuf,
}

/// What a request is answered from.
struct Around<'a> {
    home: &'a Home,
    client: &'a mut Client,
    told: Option<&'a Wait>,
}

impl Control {
    /// Listens in the home, which is this process's alone, and where files are received into `out`, if they are. Without a
    /// socket it runs all the same: that is logged.
    pub(in crate::face) fn open(home: &Home, out: Option<&Path>) -> Self {
        let listener = Listener::bind(home.path()).inspect_err(|error| {
            let path = home.path().join(NAME);
            tracing::warn!(
                "{}: {error}: other commands can't be taken, so that fog send has to wait for the end of this one",
                path.display()
            );
        });
        Self {
            listener: listener.ok(),
            deaf_until: None,
            connections: VecDeque::new(),
            jobs: BTreeMap::new(),
            since_unix_s: unix_s(),
            out: out.unwrap_or(Path::new("")).to_owned(),
        }
    }

    /// What has something to read when somebody asks.
    pub(in crate::face) fn sources(&self) -> Vec<BorrowedFd<'_>> {
        let is_deaf = self.deaf_until.is_some_and(|until| Instant::now() < until);
        let listener = self.listener.iter().filter(|_| !is_deaf);
        listener
            .map(AsFd::as_fd)
            .chain(self.connections.iter().map(|one| one.channel.as_fd()))
            .collect()
    }

    /// Whether files of others are on their way.
    pub(in crate::face) fn is_busy(&self) -> bool {
        !self.jobs.is_empty()
    }

    /// A turn of the client is over, in which `happened`, and `seen` is how everything stands. Breaks when somebody
    /// asked to stop.
    pub(in crate::face) fn turn(
        &mut self,
        home: &Home,
        client: &mut Client,
        (seen, told): (&Seen, Option<&Wait>),
        happened: &[Event],
    ) -> ControlFlow<()> {
        self.follow(home, client, seen, happened);
        self.accept();
        let mut around = Around { home, client, told };
        let mut flow = ControlFlow::Continue(());
        for _ in 0..self.connections.len() {
            // Out of the row meanwhile: the others in it are the other watchers.
            let Some(mut connection) = self.connections.pop_front() else {
                break;
            };
            if self.hear(&mut connection, &mut around).is_break() {
                flow = ControlFlow::Break(());
            }
            connection.deliver();
            if !connection.is_over {
                self.connections.push_back(connection);
            } else if let Some(transfer) = connection.watches {
                // Whoever goes away takes back what has not begun.
                self.withdraw(transfer, true, around.client);
            }
        }
        flow
    }

    /// Tells those who watch what became of their files.
    fn follow(&mut self, home: &Home, client: &mut Client, seen: &Seen, happened: &[Event]) {
        let mut ended = Vec::new();
        for (transfer, job) in &mut self.jobs {
            let mut news: Vec<Reply> = happened
                .iter()
                .filter_map(|event| job.transit.on_event(event))
                .map(|progress| Reply::Progress { progress })
                .collect();
            if let Some(wait) = job.transit.look(client.documents(), seen.clone()) {
                news.push(Reply::Waiting { wait });
            }
            if let Some(outcome) = job.transit.outcome(home, client) {
                ended.push(*transfer);
                news.push(match outcome {
                    Ok(summary) => Reply::Sent { summary },
                    Err(failure) => Reply::Failed { failure },
                });
            }
            let watchers = self.connections.iter_mut();
            for watcher in watchers.filter(|one| one.watches == Some(*transfer)) {
                news.iter().for_each(|reply| watcher.tell(reply.clone()));
            }
        }
        for transfer in ended {
            self.jobs.remove(&transfer);
            client.withdraw(&transfer);
            for connection in &mut self.connections {
                if connection.watches == Some(transfer) {
                    connection.watches = None;
                    connection.heard = Instant::now();
                }
            }
        }
    }

    fn accept(&mut self) {
        let Some(listener) = &self.listener else {
            return;
        };
        for _ in 0..ACCEPTED_MAX {
            let mut connection = match listener.accept() {
                Ok(Some(channel)) => Connection::new(channel),
                // Another user's.
                Ok(None) => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => {
                    self.deaf_until = Some(Instant::now() + DEAF);
                    return;
                }
            };
            if self.connections.len() >= CONNECTIONS_MAX {
                connection.refuse("too many commands ask the fog that runs here: try again later");
                connection.deliver();
            } else {
                self.connections.push_back(connection);
            }
        }
    }

    /// Takes one message of a connection.
    fn hear(&mut self, connection: &mut Connection, around: &mut Around<'_>) -> ControlFlow<()> {
        let asked = match connection.channel.receive::<Request>() {
            Ok(Some((request, descriptor))) => (request, descriptor),
            Ok(None) => {
                connection.is_over = true;
                return ControlFlow::Continue(());
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let idle = connection.watches.is_none() && connection.heard.elapsed() > IDLE;
                connection.is_over |= idle;
                return ControlFlow::Continue(());
            }
            Err(_) => {
                connection.refuse(
                    "the fog that runs here does not understand this: it may be of another version",
                );
                return ControlFlow::Continue(());
            }
        };
        connection.heard = Instant::now();
        match asked {
            (Request::Send(order), descriptor) => {
                let taken = match connection.watches {
                    Some(_) => Err("one file at a time".to_owned()),
                    None => self.take(*order, descriptor, around),
                };
                match taken {
                    Err(why) => connection.refuse(&why),
                    Ok(transfer) => {
                        connection.watches = Some(transfer);
                        let job = self.jobs.get(&transfer);
                        let known = job.and_then(|job| job.transit.progress.clone());
                        if let Some(progress) = known {
                            connection.tell(Reply::Progress { progress });
                        }
                    }
                }
            }
            (Request::Withdraw { only_waiting }, _) => {
                let watched = connection.watches.take();
                let goes_on = watched
                    .is_some_and(|transfer| self.withdraw(transfer, only_waiting, around.client));
                connection.tell(Reply::Withdrawn { goes_on });
            }
            (Request::Status, _) => {
                let status = Box::new(self.status(around));
                connection.tell(Reply::Status { status });
            }
            (Request::Stop, _) => {
                connection.tell(Reply::Stopping);
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    }

    /// Sends a file, or goes on with it.
    fn take(
        &mut self,
        order: Order,
        descriptor: Option<OwnedFd>,
        around: &mut Around<'_>,
    ) -> Result<TransferId, String> {
        let words = |error: &dyn core::fmt::Display| error.to_string();
        let file = File::from(descriptor.ok_or("a file is missing")?);
        let found = file.metadata().map_err(|error| words(&error))?;
        regular(&found).map_err(|error| words(&error))?;
        let address = order.address.parse().map_err(|error| words(&error))?;
        let journal = Transit::journal(around.home, &order).map_err(|error| words(&error))?;
        let transfer = journal.transfer;
        if self.jobs.contains_key(&transfer) {
            return Ok(transfer);
        }
        if around.client.sends(&transfer) {
            return Err(
                "this file is on its way to this recipient, by the fog send that runs here"
                    .to_owned(),
            );
        }
        if self.jobs.len() >= JOBS_MAX {
            return Err(format!(
                "the fog that runs here sends {JOBS_MAX} files already: try again later"
            ));
        }
        let name = fitting(&order.name);
        let source = SentFile::measured_before(file, (order.size, order.hash), order.stamp);
        let order = (&journal, address, order);
        let transit = Transit::start(around.home, around.client, order, source)
            .map_err(|error| words(&error))?;
        self.jobs.insert(transfer, Job { transit, name });
        Ok(transfer)
    }

    /// Takes a file back unless others watch it, or it is under way and may go on. Whether it goes on.
    fn withdraw(&mut self, transfer: TransferId, only_waiting: bool, client: &mut Client) -> bool {
        let others = self.connections.iter();
        let is_watched = others.filter(|one| one.watches == Some(transfer)).count() > 0;
        let goes_on = self
            .jobs
            .get(&transfer)
            .is_some_and(|job| is_watched || (only_waiting && job.transit.is_under_way()));
        if !goes_on {
            self.jobs.remove(&transfer);
            client.withdraw(&transfer);
        }
        goes_on
    }

    fn status(&self, around: &Around<'_>) -> Status {
        let receiving = around.client.receiving().map(|(manifest, chunks)| {
            let total = manifest.chunks().unwrap_or(0);
            Item {
                name: fitting(&manifest.name),
                bytes: part(manifest.size, chunks, total),
                size: manifest.size,
                progress: None,
                waiting: None,
            }
        });
        let sending = self.jobs.values().map(|job| {
            let progress = job.transit.progress.clone();
            let (bytes, size) = progress
                .as_ref()
                .map_or((0, 0), |progress| (progress.bytes(), progress.size));
            Item {
                name: job.name.clone(),
                bytes,
                size,
                progress,
                waiting: job.transit.told().cloned(),
            }
        });
        Status {
            process: std::process::id(),
            since_unix_s: self.since_unix_s,
            out: self.out.clone(),
            address: around.home.address().to_string(),
            is_attached: around.client.is_attached(),
            less: around.client.less(),
            waiting: around.told.cloned(),
            receiving: receiving.take(ITEMS_MAX).collect(),
            sending: sending.take(ITEMS_MAX).collect(),
            keys_withheld: around.client.keys_withheld(),
        }
    }
}

/// A name as it is printed, cut where it is long.
fn fitting(name: &[u8]) -> String {
    let mut shown = program::visible(name);
    if let Some((cut, _)) = shown.char_indices().nth(NAME_CHARS_MAX) {
        shown.truncate(cut);
    }
    shown
}

impl Connection {
    fn new(channel: Channel) -> Self {
        Self {
            channel,
            heard: Instant::now(),
            outbox: VecDeque::new(),
            stuck: None,
            watches: None,
            is_over: false,
        }
    }

    /// Puts an answer behind the others, and takes out what it makes old.
    fn tell(&mut self, reply: Reply) {
        let kind = core::mem::discriminant(&reply);
        self.outbox
            .retain(|before| core::mem::discriminant(before) != kind);
        self.outbox.push_back(reply);
    }

    /// Says why not, and ends.
    fn refuse(&mut self, why: &str) {
        self.tell(Reply::Refused {
            why: why.to_owned(),
        });
        self.is_over = true;
    }

    /// Sends what the other side has room for.
    fn deliver(&mut self) {
        while let Some(reply) = self.outbox.front() {
            match self.channel.send(reply, None) {
                Ok(()) => {
                    self.outbox.pop_front();
                    self.stuck = None;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let since = self.stuck.get_or_insert_with(Instant::now);
                    self.is_over |= since.elapsed() > STUCK;
                    return;
                }
                Err(_) => {
                    self.is_over = true;
                    return;
                }
            }
        }
    }
}
