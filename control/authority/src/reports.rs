//! What nodes say of whom they reached, and who did not answer by that.

use std::collections::{BTreeMap, BTreeSet};

use directory::{Consensus, Mark, Node, REPORT_BYTES_MAX, ReportError, Role, SignedReport};

use crate::admission::Admission;

/// So many operators at least have to say that a node does not answer.
const OPERATORS_MIN: usize = 3;
/// Reports take out one part in this of a role at most: else who runs half a layer empties the next.
const ROLE_PART: usize = 4;

/// Why a report is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReportRefusal {
    /// Larger than any report.
    #[error("too-large")]
    TooLarge,
    /// Not a report.
    #[error("malformed")]
    Malformed,
    /// Of nobody who is admitted and in the newest document.
    #[error("unknown-node")]
    Unknown,
    /// Not signed by the identity it names.
    #[error("signature")]
    Signature,
    /// Of another network.
    #[error("network")]
    Network,
    /// About another document than the newest, or too late for the next vote.
    #[error("epoch")]
    Epoch,
    /// Its author said something else before: the first word counts.
    #[error("too-many")]
    TooMany,
}

/// The reports about one document: of each of its nodes the first.
#[derive(Debug, Default)]
pub(crate) struct Reports {
    about: Option<[u8; 32]>,
    by_author: BTreeMap<[u8; 32], SignedReport>,
}

impl Reports {
    /// Forgets those about another document than `newest`.
    pub(crate) fn begin(&mut self, newest: &Consensus) {
        if self.about != Some(*newest.digest()) {
            self.by_author.clear();
            self.about = Some(*newest.digest());
        }
    }

    /// Takes a report about `newest`. One that is held already is no error.
    ///
    /// # Errors
    /// The first rule that it breaks: who it is of is looked up before its signature is checked.
    pub(crate) fn take(
        &mut self,
        bytes: &[u8],
        newest: &Consensus,
        admission: &Admission,
    ) -> Result<(), ReportRefusal> {
        if bytes.len() > REPORT_BYTES_MAX {
            return Err(ReportRefusal::TooLarge);
        }
        self.begin(newest);
        let author = SignedReport::claimed_identity(bytes).ok_or(ReportRefusal::Malformed)?;
        if !admission.knows(&author) || newest.find(&author).is_none() {
            return Err(ReportRefusal::Unknown);
        }
        match self.by_author.get(&author) {
            Some(held) if held.bytes() == bytes => return Ok(()),
            Some(_) => return Err(ReportRefusal::TooMany),
            None => {}
        }
        let report = SignedReport::verify(bytes).map_err(|error| match error {
            ReportError::Decode(_) => ReportRefusal::Malformed,
            ReportError::Signature | ReportError::Identity => ReportRefusal::Signature,
        })?;
        if report.network != newest.head().network {
            return Err(ReportRefusal::Network);
        }
        if (report.epoch, report.marks.len()) != (newest.epoch(), newest.nodes().len()) {
            return Err(ReportRefusal::Epoch);
        }
        self.by_author.insert(author, report);
        Ok(())
    }

    /// All that are held, ascending by author.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &SignedReport> {
        self.by_author.values()
    }

    /// Whether one of this author is held.
    pub(crate) fn is_of(&self, author: &[u8; 32]) -> bool {
        self.by_author.contains_key(author)
    }
}

/// The nodes of `previous` that more than half of the operators of the layer before them did not reach, the worst first.
///
/// An operator has one voice however many nodes it runs: a node of its that did reach it outweighs those that did not.
pub(crate) fn unreachable(
    previous: Option<&Consensus>,
    network: &[u8; 16],
    reports: &[SignedReport],
) -> BTreeSet<[u8; 32]> {
    let Some(previous) = previous else {
        return BTreeSet::new();
    };
    let counts = |report: &&SignedReport| {
        (report.network, report.epoch) == (*network, previous.epoch())
            && report.marks.len() == previous.nodes().len()
    };
    let by_author: BTreeMap<[u8; 32], &SignedReport> = reports
        .iter()
        .filter(counts)
        .map(|report| (report.identity, report))
        .collect();
    let mut out = BTreeSet::new();
    for role in [Role::Mix, Role::Gateway] {
        let of_role = || previous.nodes().iter().filter(|node| node.role == role);
        let mut worst: Vec<(u64, [u8; 32])> = of_role()
            .filter_map(|node| Some((share(previous, node, &by_author)?, node.identity)))
            .collect();
        worst.sort_unstable_by_key(|(share, identity)| (core::cmp::Reverse(*share), *identity));
        worst.truncate(of_role().count() / ROLE_PART);
        out.extend(worst.into_iter().map(|(_, identity)| identity));
    }
    out
}

/// The share of operators that did not reach a node, in thousandths, if it is large enough.
fn share(
    previous: &Consensus,
    node: &Node,
    reports: &BTreeMap<[u8; 32], &SignedReport>,
) -> Option<u64> {
    let layers = previous.parameters().layers;
    let mut before = (0..=layers).filter(|layer| previous.next_layer(*layer) == node.layer);
    let mut voices: BTreeMap<&str, Mark> = BTreeMap::new();
    for neighbour in previous.layer(before.next()?) {
        let voice = voices.entry(&neighbour.operator).or_default();
        let report = reports.get(&neighbour.identity);
        let mark = report.and_then(|report| report.marks.get(usize::from(node.index)));
        match (*voice, mark) {
            (_, Some(Mark::Reachable)) => *voice = Mark::Reachable,
            (Mark::NotMine, Some(Mark::Unreachable)) => *voice = Mark::Unreachable,
            _ => {}
        }
    }
    let silent = voices.values().filter(|mark| **mark == Mark::Unreachable);
    let silent = silent.count();
    let enough = silent >= OPERATORS_MIN && silent * 2 > voices.len();
    enough.then(|| u64::try_from(silent * 1_000 / voices.len()).unwrap_or(1_000))
}
