//! Reports have their effect, also on an authority that is brought them, and each that breaks a rule is refused.

mod network;

use std::collections::BTreeMap;

use authority::admission::{Admission, Admitted};
use authority::reports::ReportRefusal;
use authority::round::{Action, Refusal, Rounds};
use directory::{Consensus, Identity, Mark, Previous, Report, ReportError, Role, SignedReport};
use network::{Member, PARAMETERS, authority, document, node, nodes, vote_of};

fn report(of: &Member, consensus: &Consensus, silent: &[[u8; 32]]) -> SignedReport {
    let mark = |node: &directory::Node| match silent.contains(&node.identity) {
        true => Mark::Unreachable,
        false => Mark::NotMine,
    };
    let report = Report {
        network: consensus.head().network,
        identity: of.identity.public(),
        epoch: consensus.epoch(),
        marks: consensus.nodes().iter().map(mark).collect(),
    };
    report.sign(&of.identity).unwrap()
}

/// Whom the authority lists in the document after `first`, given these reports.
fn listed(first: &Consensus, members: &[Member], reports: &[SignedReport]) -> Vec<[u8; 32]> {
    let before = first.as_previous();
    let descriptors: Vec<_> = members.iter().map(|one| one.signed(1, &before)).collect();
    let key = Identity::from_bytes(&[7; 32]);
    let chain = authority().chain().clone();
    let vote = vote_of(&key, &chain, Some(first), 1, &descriptors, reports);
    let nodes = vote.vote().nodes.iter();
    nodes.map(|entry| entry.identity).collect()
}

#[test]
fn a_report_survives_signing_and_one_that_is_altered_or_not_its_authors_is_refused() {
    let members = nodes(1, 4);
    let consensus = document(None, 0, &members).1;
    let silent = members[2].identity.public();
    let signed = report(&members[1], &consensus, &[silent]);
    let read = SignedReport::verify(signed.bytes()).unwrap();
    assert_eq!(read, signed);
    assert_eq!(read.digest(), signed.digest());
    let mut bytes = signed.bytes().to_vec();
    for position in 0..bytes.len() {
        bytes[position] ^= 4;
        assert!(SignedReport::verify(&bytes).is_err(), "byte {position}");
        bytes[position] ^= 4;
    }
    let foreign = Report::clone(&signed).sign(&members[2].identity);
    assert_eq!(foreign, Err(ReportError::Identity));
    let mut long = Report::clone(&signed);
    long.marks = vec![Mark::NotMine; 2_049];
    let long = long.sign(&members[1].identity);
    assert!(matches!(long, Err(ReportError::Decode(_))));
}

#[test]
fn who_most_operators_of_the_layer_before_did_not_reach_is_not_listed() {
    // Four operators a layer.
    let members = nodes(4, 12);
    let first = document(None, 0, &members).1;
    let by_identity: BTreeMap<[u8; 32], &Member> = members
        .iter()
        .map(|member| (member.identity.public(), member))
        .collect();
    let listed = |reports: &[SignedReport]| listed(&first, &members, reports);
    let silent: Vec<[u8; 32]> = first.layer(2).map(|node| node.identity).collect();
    let of_layer = |layer, silent: &[[u8; 32]]| -> Vec<SignedReport> {
        let nodes = first.layer(layer);
        nodes
            .map(|node| report(by_identity[&node.identity], &first, silent))
            .collect()
    };
    assert_eq!(listed(&[]).len(), 16);
    let three = of_layer(1, &silent[..1])[..3].to_vec();
    let left = listed(&three);
    assert_eq!(left.len(), 15);
    assert!(!left.contains(&silent[0]));
    // Two of four are not more than half, and those of another layer have no say.
    assert_eq!(listed(&three[..2]).len(), 16);
    assert_eq!(listed(&of_layer(3, &silent[..1])).len(), 16);
    // However many they name, a quarter of the mixes goes.
    assert_eq!(listed(&of_layer(1, &silent)).len(), 16 - 3);
    // Of another epoch or network, or by nobody who is in the document.
    let mut old = Report::clone(&three[0]);
    old.epoch = 7;
    let mut strange = Report::clone(&three[1]);
    strange.network = [9; 16];
    let outsider = node(90, Role::Mix);
    let mut reports = vec![three[2].clone(), report(&outsider, &first, &silent[..1])];
    reports.push(
        old.clone()
            .sign(&by_identity[&old.identity].identity)
            .unwrap(),
    );
    let key = &by_identity[&strange.identity].identity;
    reports.push(strange.clone().sign(key).unwrap());
    assert_eq!(listed(&reports).len(), 16);
}

#[test]
fn an_operator_has_one_voice_however_many_nodes_it_runs() {
    let mut members = nodes(4, 12);
    // All mixes are of two operators.
    for (number, member) in members.iter_mut().enumerate().skip(4) {
        member.operator = format!("operator-{}", number % 2);
    }
    let first = document(None, 0, &members).1;
    let silent: Vec<[u8; 32]> = first.layer(2).map(|node| node.identity).collect();
    let reports: Vec<_> = members
        .iter()
        .map(|member| report(member, &first, &silent))
        .collect();
    let listed = listed(&first, &members, &reports);
    assert_eq!(listed.len(), 16, "two voices are fewer than three");
}

/// An authority that is alone and made the first document, of four operators a layer.
struct Alone {
    rounds: Rounds,
    members: Vec<Member>,
    first: Consensus,
}

const KEY: [u8; 32] = [7; 32];
const ROUND_MS: u64 = PARAMETERS.epoch_ms / 32;

fn at(epoch: u64, round: u64) -> u64 {
    PARAMETERS.genesis_unix_ms + epoch * PARAMETERS.epoch_ms + round * ROUND_MS
}

impl Alone {
    fn new() -> Alone {
        let chain = authority().chain().clone();
        let key = Identity::from_bytes(&KEY);
        let rounds = Rounds::new(key, chain, Admission::Open, None, None, at(0, 0));
        let mut alone = Alone {
            rounds,
            members: nodes(4, 12),
            first: document(None, 0, &nodes(1, 3)).1,
        };
        alone.describe(0, &Previous::default());
        alone.first = alone.make(0, 0);
        alone
    }

    fn describe(&mut self, epoch: u32, previous: &Previous) {
        for member in &mut self.members {
            member.published_unix_ms = at(0, 1) + u64::from(epoch);
            let signed = member.signed(epoch, previous);
            let taken = self.rounds.descriptor(signed.bytes(), at(0, 1));
            assert_eq!(taken, Ok(Vec::new()));
        }
    }

    /// The document that is made at this round of epoch 0.
    fn make(&mut self, round: u64, epoch: u32) -> Consensus {
        let mut actions = self.rounds.advance(at(0, round));
        while let Some(action) = actions.pop() {
            if let Action::Record(record) = action {
                actions.extend(self.rounds.recorded(record));
            }
        }
        let newest = self.rounds.newest().unwrap().consensus.clone();
        assert_eq!(newest.epoch(), epoch);
        newest
    }

    /// The reports of those in the first document's layer 1 that did not reach a node of layer 2, and that node.
    fn reports(&self) -> (Vec<SignedReport>, [u8; 32]) {
        let silent = self.first.layer(2).next().unwrap().identity;
        let of = |identity: &[u8; 32]| {
            let mut members = self.members.iter();
            members.find(|member| member.identity.public() == *identity)
        };
        let authors = self.first.layer(1);
        let reports =
            authors.map(|node| report(of(&node.identity).unwrap(), &self.first, &[silent]));
        (reports.collect(), silent)
    }
}

#[test]
fn what_nodes_report_over_the_network_counts_in_the_next_vote() {
    let mut alone = Alone::new();
    let (reports, silent) = alone.reports();
    for report in &reports {
        assert_eq!(
            alone.rounds.report(report.bytes(), at(0, 8)),
            Ok(Vec::new())
        );
        // Said twice it is said once.
        assert_eq!(
            alone.rounds.report(report.bytes(), at(0, 9)),
            Ok(Vec::new())
        );
        let held = alone.rounds.by_digest(&report.digest());
        assert_eq!(held, Some(report.bytes()));
    }
    let before = alone.first.as_previous();
    alone.describe(1, &before);
    let next = alone.make(16, 1);
    assert_eq!(next.nodes().len(), 15);
    assert!(next.find(&silent).is_none());
}

#[test]
fn what_an_authority_lacks_it_fetches_from_one_that_lists_it() {
    let (mut one, mut other) = (Alone::new(), Alone::new());
    let (reports, _) = one.reports();
    for report in &reports {
        one.rounds.report(report.bytes(), at(0, 8)).unwrap();
    }
    other.rounds.report(reports[0].bytes(), at(0, 8)).unwrap();
    let fetches = other.rounds.listing(KEY, &one.rounds.list(1)).unwrap();
    let digests: Vec<_> = reports[1..].iter().map(SignedReport::digest).collect();
    let mut fetched: Vec<[u8; 32]> = Vec::new();
    for action in fetches {
        let Action::Fetch { digest, .. } = action else {
            panic!("{action:?}");
        };
        let bytes = one.rounds.by_digest(&digest).unwrap().to_vec();
        // After the hour of uploads, before that of votes.
        other.rounds.pulled(&bytes, at(0, 14)).unwrap();
        fetched.push(digest);
    }
    fetched.sort_unstable();
    let mut expected = digests;
    expected.sort_unstable();
    assert_eq!(fetched, expected);
    assert_eq!(other.rounds.list(1), one.rounds.list(1));
}

#[test]
fn each_rule_of_a_report_is_refused_when_broken() {
    let mut alone = Alone::new();
    let (reports, _) = alone.reports();
    let good = &reports[0];
    let mut members = alone.members.iter();
    let author = members.find(|member| member.identity.public() == good.identity);
    let author = author.unwrap().clone();
    let with = |change: &dyn Fn(&mut Report)| {
        let mut changed = Report::clone(good);
        change(&mut changed);
        changed.sign(&author.identity).unwrap().bytes().to_vec()
    };
    let outsider = report(&node(90, Role::Mix), &alone.first, &[]);
    let mut refused = |bytes: &[u8], round| match alone.rounds.report(bytes, at(0, round)) {
        Err(Refusal::Report(refusal)) => refusal,
        other => panic!("{other:?}"),
    };
    let mut unsigned = good.bytes().to_vec();
    *unsigned.last_mut().unwrap() ^= 1;
    for (bytes, refusal) in [
        (vec![0; 635], ReportRefusal::TooLarge),
        (good.bytes()[..40].to_vec(), ReportRefusal::Malformed),
        (unsigned, ReportRefusal::Signature),
        (outsider.bytes().to_vec(), ReportRefusal::Unknown),
        (
            with(&|report| report.network[0] ^= 1),
            ReportRefusal::Network,
        ),
        (with(&|report| report.epoch = 1), ReportRefusal::Epoch),
        (
            with(&|report| report.marks.truncate(3)),
            ReportRefusal::Epoch,
        ),
    ] {
        assert_eq!(refused(&bytes, 8), refusal);
    }
    assert_eq!(refused(good.bytes(), 12), ReportRefusal::Epoch);
    // In the next epoch it is about no document of then.
    assert_eq!(refused(good.bytes(), 33), ReportRefusal::Epoch);
    let mut held = Alone::new();
    held.rounds.report(good.bytes(), at(0, 8)).unwrap();
    let second = with(&|report| report.marks[0] = Mark::Reachable);
    let refusal = held.rounds.report(&second, at(0, 8)).unwrap_err();
    assert_eq!(refusal, Refusal::Report(ReportRefusal::TooMany));
    held.rounds
        .admit(Admission::List(BTreeMap::<_, Admitted>::new()));
    let refusal = held
        .rounds
        .report(reports[1].bytes(), at(0, 8))
        .unwrap_err();
    assert_eq!(refusal, Refusal::Report(ReportRefusal::Unknown));
}
