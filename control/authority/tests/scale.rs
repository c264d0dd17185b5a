//! What a large network costs: sizes, CPU time and traffic of an epoch, as the table in control/directory/SPEC.md has them.
//! `cargo test --workspace --test scale -- --ignored --nocapture`

mod network;

use std::collections::BTreeMap;

use authority::admission::Admission;
use authority::book::{Book, Hour};
use authority::document;
use authority::relay::{Relay, RelayedVote};
use authority::vote::{SignedVote, Vote};
use directory::{
    Chain, Consensus, ConsensusSignature, Diff, Held, Identity, Mark, Previous, Report,
    SignedConsensus, SignedDescriptor, SignedReport,
};
use network::{Member, PARAMETERS, chain_of, nodes, vote_of};

const NODES: u16 = 1_000;
const GATEWAYS: u16 = 200;
const AUTHORITIES: u8 = 5;
/// Diffs that an authority makes of a document.
const DIFFS: usize = 8;

/// What this thread has had of a processor, ns. It grows a tick at a time: what is short is measured many times over.
fn cpu_ns() -> u64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    stat.split_whitespace().next().unwrap().parse().unwrap()
}

/// Does it and says what it took, ms.
fn timed<T>(work: impl FnOnce() -> T) -> (T, f64) {
    let began = cpu_ns();
    let done = work();
    (done, (cpu_ns() - began) as f64 / 1e6)
}

/// Does it so many times: the last result, and what all of it took, ms.
fn timed_times<T>(times: usize, work: impl Fn() -> T) -> (T, f64) {
    timed(|| {
        for _ in 1..times {
            work();
        }
        work()
    })
}

struct Network {
    keys: Vec<Identity>,
    chain: Chain,
    members: Vec<Member>,
}

/// What the authorities hold when they count.
struct Counting {
    votes: Vec<SignedVote>,
    descriptors: Vec<SignedDescriptor>,
}

impl Network {
    fn describe(&self, epoch: u32, before: &Previous) -> Vec<SignedDescriptor> {
        let members = self.members.iter();
        members.map(|one| one.signed(epoch, before)).collect()
    }

    fn vote(&self, previous: Option<&Consensus>, descriptors: Vec<SignedDescriptor>) -> Counting {
        let epoch = previous.map_or(0, |previous| previous.epoch() + 1);
        let vote = |key| vote_of(key, &self.chain, previous, epoch, &descriptors, &[]);
        Counting {
            votes: self.keys.iter().map(vote).collect(),
            descriptors,
        }
    }

    fn count(&self, previous: Option<&Consensus>, counting: &Counting) -> Consensus {
        let epoch = previous.map_or(0, |previous| previous.epoch() + 1);
        let votes: Vec<Vote> = counting
            .votes
            .iter()
            .map(|vote| vote.vote().clone())
            .collect();
        let descriptors = counting.descriptors.iter();
        let by_digest: BTreeMap<_, _> = descriptors
            .map(|one| (one.digest(), one.descriptor()))
            .collect();
        document::make(&self.chain, previous, epoch, &votes, &by_digest).unwrap()
    }

    fn sign(&self, document: &Consensus) -> SignedConsensus {
        let sign = |key| ConsensusSignature::sign(document, key);
        let all: Vec<_> = self.keys.iter().map(sign).collect();
        SignedConsensus::gathered(document, all.iter())
    }
}

fn line(what: &str, figure: impl std::fmt::Display) {
    println!("| {what} | {figure} |");
}

#[test]
#[ignore = "measures"]
fn a_thousand_nodes_and_five_authorities_cost_what_the_table_says() {
    let keys: Vec<_> = (1..=AUTHORITIES)
        .map(|n| Identity::from_bytes(&[n; 32]))
        .collect();
    let chain = chain_of(PARAMETERS, &keys);
    let mut members = nodes(GATEWAYS, NODES - GATEWAYS);
    for member in &mut members {
        member.network = *chain.network();
        member.published_unix_ms = PARAMETERS.genesis_unix_ms;
    }
    let network = Network {
        keys,
        chain,
        members,
    };
    let (chain, own) = (&network.chain, &network.keys[0]);
    let founding = network.describe(0, &Previous::default());
    let counting = network.vote(None, founding);
    let first = network.count(None, &counting);

    let (described, describing_ms) = timed(|| network.describe(1, &first.as_previous()));
    let descriptor_bytes = described[usize::from(GATEWAYS)].bytes().len();
    let hour = Hour {
        now: 0,
        target: 1,
        unix_ms: PARAMETERS.genesis_unix_ms,
        epoch_ms: PARAMETERS.epoch_ms,
    };
    let mut book = Book::default();
    let ((), taking_ms) = timed(|| {
        for one in &described {
            let taken = book.take(one.bytes(), chain, &Admission::Open, hour);
            taken.unwrap();
        }
    });
    let report = |member: &Member| {
        let report = Report {
            network: *chain.network(),
            identity: member.identity.public(),
            epoch: 0,
            marks: vec![Mark::Reachable; usize::from(NODES)],
        };
        report.sign(&member.identity).unwrap()
    };
    let reports: Vec<SignedReport> = network.members.iter().map(report).collect();
    let ((), reports_ms) = timed(|| {
        for report in &reports {
            SignedReport::verify(report.bytes()).unwrap();
        }
    });

    let (_, voting_ms) = timed(|| vote_of(own, chain, Some(&first), 1, &described, &[]));
    let counting = network.vote(Some(&first), described);
    let authorities = chain.at(1).unwrap().authorities().unwrap();
    let vote = counting.votes[1].clone();
    let mut relay = Relay::new(authorities.clone(), *chain.network(), 0, 1);
    let sent = relay.begin(vote, &network.keys[1]).unwrap().encode();
    // Each of the others brings its own vote, and passes on those of all but itself.
    let others = usize::from(AUTHORITIES) - 1;
    let relays = others + others * others;
    let pass_on = || {
        let mut relay = Relay::new(authorities.clone(), *chain.network(), 0, 1);
        let relayed = RelayedVote::verify(&sent, &authorities).unwrap();
        relay.take(1, relayed, own).unwrap().unwrap().encode()
    };
    let (passed, relays_ms) = timed_times(relays, pass_on);
    let (second, making_ms) = timed(|| network.count(Some(&first), &counting));
    assert_eq!(second.nodes().len(), usize::from(NODES));
    let signed = network.sign(&second);
    let whole = signed.encode();
    let held = Held {
        documents: &[&first],
        ..Held::default()
    };
    let (verified, verifying_ms) = timed(|| signed.verify(chain, &held));
    assert_eq!(verified.unwrap(), second);
    let make = || Diff::between(&first, &second, &signed).unwrap().encode();
    let (diff, diffs_ms) = timed_times(DIFFS, make);
    let apply = || Diff::decode(&diff).unwrap().apply(&first).unwrap();
    let (applied, all_applying_ms) = timed_times(DIFFS, apply);
    assert_eq!(applied.encode(), whole);

    let kb = |bytes: usize| format!("{:.1} KB", bytes as f64 / 1e3);
    let mb = |bytes: usize| format!("{:.1} MB", bytes as f64 / 1e6);
    let ms = |ms: f64| format!("{ms:.1} ms");
    let nodes = usize::from(NODES);
    println!("\n| {NODES} nodes, {AUTHORITIES} authorities | |\n|---|---|");
    line("signed document", kb(whole.len()));
    line("diff with nobody new", kb(diff.len()));
    let (descriptor, report) = (descriptor_bytes, reports[0].bytes().len());
    let both = format!("{}, {}", kb(descriptor), kb(report));
    line("descriptor, report", both);
    line("vote with one relay signature", kb(sent.len()));
    line(
        "CPU of a node: its proof and descriptor",
        ms(describing_ms / f64::from(NODES)),
    );
    line(
        "CPU of a reader: verify a document, whole",
        ms(verifying_ms),
    );
    let applying_ms = all_applying_ms / DIFFS as f64;
    line("CPU of a reader: apply a diff before that", ms(applying_ms));
    line("CPU of an authority: take all descriptors", ms(taking_ms));
    line("the same: all reports", ms(reports_ms));
    line("the same: its vote", ms(voting_ms));
    line(
        &format!("the same: {relays} votes that come, own or passed on"),
        ms(relays_ms),
    );
    line("the same: count and make the document", ms(making_ms));
    line("the same: eight diffs to it", ms(diffs_ms));
    let all_ms = taking_ms + reports_ms + voting_ms + relays_ms + making_ms + diffs_ms;
    line("CPU of an authority in an epoch", ms(all_ms));
    let brought = nodes * (descriptor + report);
    line("traffic of an epoch: nodes to one authority", mb(brought));
    line(
        "votes to one authority",
        mb(others * sent.len() + others * others * passed.len()),
    );
    // Twice, from each of the others: identities, times, digests.
    line("lists to one authority", mb(2 * others * nodes * (72 + 64)));
    line(
        "one authority to nodes, a fifth of them each",
        mb(nodes / usize::from(AUTHORITIES) * diff.len()),
    );
    let up = usize::from(AUTHORITIES) * brought / nodes;
    let both = format!("{}, {}", kb(up), kb(diff.len()));
    line("a node: to all authorities, from one", both);
    // An authority has minutes for what takes it seconds.
    assert!(all_ms < 60_000.0);
    assert!(diff.len() < whole.len() / 10);
}
