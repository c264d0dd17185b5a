//! The dashboard of a laboratory, where one process sees every node of the network.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use directory::authority_set::AuthoritySet;
use directory::{Chain, Consensus, SignedConsensus};
use handover::status::{HopLoops, NodeStatus, Quantiles, SENTENCES_MAX};

use super::known::Fares;
use super::page::Page;
use super::shapes::State;
use super::{Api, Door, Log, Pulse, Witness, measured};
use crate::board::{Board, Document, Followed};
use crate::config::HttpConfig;
use crate::exit::{self, Failure};

/// Documents that are kept: that of now, the one before, the next.
const DOCUMENTS: usize = 3;
/// Nodes that a warning names.
const NAMED_MAX: usize = 4;

/// A node of it: its operator's name, and what it says.
pub(crate) type Inhabitant = (String, Witness);

/// What answers for a laboratory, as long as it is held.
pub struct Laboratory {
    all: Vec<Inhabitant>,
    sum: Witness,
    board: Board,
    documents: Vec<Document>,
    url: String,
    _door: Door,
}

impl Laboratory {
    /// Answers at `listen`, with a socket and a token in `folder`, for the nodes of these operators.
    ///
    /// # Errors
    /// Another process listens there; the file system's.
    pub fn open(
        listen: SocketAddr,
        folder: &Path,
        chain: &Chain,
        operators: impl Iterator<Item = String>,
    ) -> Result<Laboratory, Failure> {
        let mut door = Door::open(&HttpConfig {
            socket: folder.join("http.sock"),
            token: folder.join("http.token"),
            listen: Some(listen),
            ..HttpConfig::default()
        })?;
        let Some(url) = door.dashboard().filter(|_| door.is_bound()) else {
            let why = format!("{listen}: another process listens there: name another address");
            return Err(Failure::new(exit::OS, why));
        };
        let all: Vec<Inhabitant> = operators
            .map(|operator| (operator, Witness::brief()))
            .collect();
        let (sum, board) = (Witness::default(), Board::new(chain));
        door.serve(Api {
            board: board.clone(),
            witness: sum.clone(),
            inhabitants: all.clone(),
            loader: None,
            node: None,
            dashboard: Some(url.clone()),
            past: Log::default(),
            pulse: Pulse::default(),
        })?;
        Ok(Laboratory {
            all,
            sum,
            board,
            documents: Vec::new(),
            url,
            _door: door,
        })
    }

    /// Where the page is, with its token.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Where a node's words go, and that it has ended.
    pub fn ear(&self, operator: &str) -> impl Fn(Option<NodeStatus>) + Send + use<> {
        let found = self.all.iter().find(|(name, _)| name == operator);
        let witness = found.map(|(_, witness)| witness.clone());
        move |said| {
            if let Some(witness) = &witness {
                witness.hear(Instant::now(), said);
            }
        }
    }

    /// A verified document is new.
    pub fn show(&mut self, signed: &SignedConsensus, consensus: &Consensus, chain: &Chain) {
        let epoch = consensus.epoch();
        let signers = match chain.at(epoch).map(AuthoritySet::authorities) {
            Some(Ok(authorities)) => signed.signers(&authorities, chain.network(), epoch),
            _ => Vec::new(),
        };
        let consensus = Arc::new(consensus.clone());
        self.documents.push(Document { consensus, signers });
        let over = self.documents.len().saturating_sub(DOCUMENTS);
        self.documents.drain(..over);
        self.board.put(self.documents.clone(), None);
    }

    /// Adds up what all of them said last; to be called once a second.
    pub fn turn(&self) {
        let now = Instant::now();
        self.sum.hear(now, Some(sum(&self.all, now)));
    }
}

/// How one of them fares.
pub(super) fn fares(all: &[Inhabitant], operator: &str, now: Instant) -> Option<Fares> {
    let (_, witness) = all.iter().find(|(name, _)| name == operator)?;
    let state = state(witness, now);
    let rates = (state != State::Down).then(|| witness.rates()).flatten();
    Some((state, rates))
}

/// What an operator should know of, each with the nodes that say it.
pub(super) fn warnings(all: &[Inhabitant], followed: &Followed, now: Instant) -> Vec<String> {
    let mut told: Vec<(String, Vec<&str>)> = Vec::new();
    for (operator, witness) in all {
        let Some(said) = witness.status(now) else {
            continue;
        };
        for warning in measured::warnings(&said, followed) {
            match told.iter_mut().find(|(text, _)| *text == warning) {
                Some((_, operators)) => operators.push(operator),
                None => told.push((warning, vec![operator])),
            }
        }
    }
    told.truncate(SENTENCES_MAX);
    let say = |(warning, operators): (String, Vec<&str>)| {
        let first: Vec<&str> = operators.iter().copied().take(NAMED_MAX).collect();
        let more = match operators.len() - first.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        // At the end: what the warning is of is what it begins with.
        format!("{warning} (said by {}{more})", first.join(", "))
    };
    told.into_iter().map(say).collect()
}

fn state(witness: &Witness, now: Instant) -> State {
    let page: Option<Page> = witness.page(now);
    page.map_or(State::Unknown, |page| page.state)
}

/// All of them as one. Of quantiles the largest: within the largest p99 are 99 % of each node's, and so of all; of anonymity
/// figures the smallest. What a node counted that has ended still counts, until it is started again: then the sum is
/// another process's, for it counts from less.
fn sum(all: &[Inhabitant], now: Instant) -> NodeStatus {
    let mut sum = NodeStatus::default();
    let mut not_ready = Vec::new();
    for (operator, witness) in all {
        let Some(said) = witness.last() else {
            not_ready.push(format!("{operator} has said nothing yet"));
            continue;
        };
        let is_up = state(witness, now) != State::Down;
        match is_up {
            true => not_ready.extend(said.not_ready.iter().map(|why| format!("{operator}: {why}"))),
            false => not_ready.push(format!(
                "{operator} is down: its log says why; `mixctl lab --restart` starts such nodes again"
            )),
        }
        add(&mut sum, &said, is_up);
    }
    not_ready.truncate(SENTENCES_MAX);
    NodeStatus { not_ready, ..sum }
}

fn add(sum: &mut NodeStatus, said: &NodeStatus, is_up: bool) {
    sum.started_unix_ms = sum.started_unix_ms.max(said.started_unix_ms);
    let (totals, more) = (&mut sum.totals, &said.totals);
    totals.received += more.received;
    totals.transmitted += more.transmitted;
    totals.rejected += more.rejected;
    for (counts, more) in [(&mut sum.drops, &said.drops), (&mut sum.shed, &said.shed)] {
        for (reason, count) in more {
            match counts.iter_mut().find(|(name, _)| name == reason) {
                Some((_, of)) => *of += count,
                None => counts.push((reason.clone(), *count)),
            }
        }
    }
    sum.loops.sent += said.loops.sent;
    sum.loops.returned += said.loops.returned;
    sum.loops.lost += said.loops.lost;
    if !is_up {
        return;
    }
    totals.held += more.held;
    totals.sessions += more.sessions;
    totals.clients += more.clients;
    totals.unconserved += more.unconserved;
    sum.port.clone_from(&said.port);
    sum.lanes.clone_from(&said.lanes);
    sum.sandbox.clone_from(&said.sandbox);
    sum.keys_origin.clone_from(&said.keys_origin);
    sum.epochs.clone_from(&said.epochs);
    sum.loops.interval_ms = said.loops.interval_ms;
    for (quantiles, more) in [
        (&mut sum.loops.round_us, said.loops.round_us),
        (&mut sum.lateness_us, said.lateness_us),
        (&mut sum.hold_us, said.hold_us),
    ] {
        *quantiles = Quantiles {
            p50: quantiles.p50.max(more.p50),
            p99: quantiles.p99.max(more.p99),
        };
    }
    sum.workers.extend_from_slice(&said.workers);
    let least = |a: Option<u16>, b: Option<u16>| a.into_iter().chain(b).min();
    let (figure, more) = (&mut sum.anonymity, &said.anonymity);
    figure.short = least(figure.short, more.short);
    figure.short_apart = least(figure.short_apart, more.short_apart);
    figure.long = least(figure.long, more.long);
    figure.long_apart = least(figure.long_apart, more.long_apart);
    figure.floor = figure.floor.max(more.floor);
    figure.is_low |= more.is_low;
    add_hops(sum, said);
}

/// What became of loops through each node, whoever sent them. Numbers of nodes are an epoch's: the newest's count.
fn add_hops(sum: &mut NodeStatus, said: &NodeStatus) {
    if said.found.epoch > sum.found.epoch {
        sum.hops.clear();
        sum.found = handover::status::Found::default();
    }
    if said.found.epoch < sum.found.epoch {
        return;
    }
    sum.found.epoch = said.found.epoch;
    sum.found.n1_suspected |= said.found.n1_suspected;
    for bad in &said.found.bad {
        if !sum.found.bad.contains(bad) {
            sum.found.bad.push(*bad);
        }
    }
    for hop in &said.hops {
        match sum.hops.binary_search_by_key(&hop.index, |one| one.index) {
            Ok(place) => {
                if let Some(of) = sum.hops.get_mut(place) {
                    of.sent += hop.sent;
                    of.returned += hop.returned;
                    of.overdue += hop.overdue;
                }
            }
            // Quantiles of several senders can't be had from each one's.
            Err(place) => sum.hops.insert(
                place,
                HopLoops {
                    p50_us: None,
                    p99_us: None,
                    ..*hop
                },
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_laboratory_is_ready_when_all_are_and_names_who_is_not() {
        let all: Vec<Inhabitant> = ["lab-1", "lab-2", "lab-3"]
            .map(|name| (name.to_owned(), Witness::brief()))
            .to_vec();
        let now = Instant::now();
        let said = |number: u64| NodeStatus {
            totals: handover::status::Totals {
                received: number,
                held: number,
                ..Default::default()
            },
            drops: vec![("mac".to_owned(), number)],
            hold_us: Quantiles {
                p50: number,
                p99: 9,
            },
            workers: vec![handover::status::Worker::default()],
            anonymity: handover::status::Anonymity {
                short: Some(40 + number as u16),
                ..Default::default()
            },
            hops: vec![HopLoops {
                index: 5,
                sent: 10,
                overdue: 1,
                ..HopLoops::default()
            }],
            ..NodeStatus::default()
        };
        let hear = |number: usize| all[number].1.hear(now, Some(said(number as u64 + 1)));
        (0..2).for_each(hear);
        let first = sum(&all, now);
        assert_eq!(first.not_ready, ["lab-3 has said nothing yet"]);
        hear(2);
        let whole = sum(&all, now);
        assert!(whole.not_ready.is_empty());
        assert_eq!((whole.totals.received, whole.totals.held), (6, 6));
        assert_eq!(whole.drops, [("mac".to_owned(), 6)]);
        assert_eq!((whole.hold_us.p50, whole.workers.len()), (3, 3));
        assert_eq!(whole.anonymity.short, Some(41), "the least");
        assert_eq!(whole.hops.len(), 1);
        assert_eq!((whole.hops[0].sent, whole.hops[0].overdue), (30, 3));
        // One ends: what it counted stays, what it held does not.
        all[1].1.hear(now, None);
        let less = sum(&all, now);
        assert_eq!((less.totals.received, less.totals.held), (6, 4));
        assert!(less.not_ready[0].starts_with("lab-2 is down: "));
        assert_eq!(fares(&all, "lab-2", now), Some((State::Down, None)));
        assert_eq!(fares(&all, "lab-1", now), Some((State::Ready, None)));
        assert_eq!(fares(&all, "other", now), None);
        let late = sum(&all, now + Duration::from_secs(10));
        assert_eq!(late.not_ready.len(), 3, "all have fallen silent");
    }

    #[test]
    fn hops_are_of_the_newest_epoch_and_a_node_that_is_started_again_counts_anew() {
        let mut whole = NodeStatus::default();
        let said = |epoch: u32, index: u16, started_unix_ms: u64| NodeStatus {
            started_unix_ms,
            found: handover::status::Found {
                epoch,
                bad: vec![index],
                ..Default::default()
            },
            hops: vec![HopLoops {
                index,
                sent: 1,
                ..HopLoops::default()
            }],
            ..NodeStatus::default()
        };
        for said in [said(1, 7, 5), said(2, 9, 6), said(2, 3, 4), said(1, 8, 2)] {
            add(&mut whole, &said, true);
        }
        let hops: Vec<u16> = whole.hops.iter().map(|hop| hop.index).collect();
        assert_eq!((hops, whole.found.bad), (vec![3, 9], vec![9, 3]));
        assert_eq!(whole.started_unix_ms, 6);
    }

    #[test]
    fn a_warning_is_told_once_with_who_says_it() {
        let all: Vec<Inhabitant> = ["a", "b", "c", "d", "e", "f"]
            .map(|name| (name.to_owned(), Witness::brief()))
            .to_vec();
        let now = Instant::now();
        for (number, (_, witness)) in all.iter().enumerate() {
            let found = handover::status::Found {
                is_unmeasured: false,
                epoch: 0,
                n1_suspected: number == 1,
                bad: vec![4],
                ..Default::default()
            };
            witness.hear(
                now,
                Some(NodeStatus {
                    found,
                    ..NodeStatus::default()
                }),
            );
        }
        let chain = crate::network::authority().chain().clone();
        let told = warnings(&all, &Board::new(&chain).read(), now);
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[0].starts_with("node 4 "), "{told:?}");
        assert!(told[0].ends_with("(said by a, b, c, d and 2 more)"));
        assert!(told[1].starts_with("n-1 suspected: "), "{told:?}");
        assert!(told[1].ends_with("(said by b)"), "{told:?}");
        let later = now + Duration::from_secs(10);
        assert_eq!(warnings(&all, &Board::new(&chain).read(), later), [""; 0]);
    }
}
