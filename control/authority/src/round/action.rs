//! What the rounds ask for, tell and refuse.

use directory::store::hex;
use directory::{Consensus, SignedConsensus};

use crate::book::DescriptorRefusal;
use crate::relay::RelayError;
use crate::reports::ReportRefusal;

/// A document that was verified, with its signatures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Newest {
    /// What it says.
    pub consensus: Consensus,
    /// As it travels.
    pub signed: SignedConsensus,
}

/// What goes to every other authority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// A relayed vote, `FXN1`.
    Vote(Vec<u8>),
    /// A signature, `FXG1`.
    Signature(Vec<u8>),
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Ask all others for the time: [`super::Rounds::time`].
    AskTime,
    /// Ask all others for the newest document: [`super::Rounds::document`].
    PullDocument,
    /// Ask all others which descriptors they hold for the document of this epoch, and which reports:
    /// [`super::Rounds::listing`].
    PullDescriptors(u32),
    /// Ask for a descriptor or report by its digest, `from` one authority or all: [`super::Rounds::pulled`].
    Fetch {
        /// Whom; all for none.
        from: Option<[u8; 32]>,
        /// BLAKE3 of its signed bytes.
        digest: [u8; 32],
    },
    /// Send to all others, to each again until it has answered.
    Send {
        /// What.
        message: Message,
        /// Until when, milliseconds since the Unix epoch.
        until_ms: u64,
        /// How long to wait after a failure.
        every_ms: u64,
    },
    /// Write down durably that this digest is signed for this epoch, then say so: [`super::Rounds::recorded`]; that it
    /// can't be: [`super::Rounds::unrecorded`].
    Record(Record),
    /// Publish a document that a quorum has signed.
    Publish {
        /// Its epoch.
        epoch: u32,
        /// Document and signatures.
        document: Vec<u8>,
    },
    /// Keep and show what proves that an authority signed two things where it may sign one.
    Evidence {
        /// The epoch of both.
        epoch: u32,
        /// Who.
        author: [u8; 32],
        /// Both, as they were signed.
        two: [Vec<u8>; 2],
    },
    /// Tell the operator.
    Tell(News),
}

/// What was signed last: nothing else is ever signed for that epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// The document's epoch.
    pub epoch: u32,
    /// Its digest.
    pub digest: [u8; 32],
}

/// What an operator should hear of.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum News {
    /// A document has its signatures.
    #[error("the document of epoch {epoch} has {signatures} signatures and lists {nodes} nodes")]
    Published {
        /// Its epoch.
        epoch: u32,
        /// How many signed.
        signatures: usize,
        /// How many nodes.
        nodes: usize,
    },
    /// A newer document came from another authority.
    #[error("took the document of epoch {0} over from another authority")]
    TakenOver(u32),
    /// No vote from here.
    #[error("no vote about epoch {epoch}: {why}")]
    SatOut {
        /// The document's epoch.
        epoch: u32,
        /// Why.
        why: String,
    },
    /// No document from here.
    #[error("no document of epoch {epoch} from here: {why}")]
    NoDocument {
        /// Its epoch.
        epoch: u32,
        /// Why.
        why: String,
    },
    /// No signature from here.
    #[error("the document of epoch {epoch} is not signed here: {why}")]
    NotSigned {
        /// Its epoch.
        epoch: u32,
        /// Why.
        why: String,
    },
    /// An authority signed two votes or two documents.
    #[error(
        "authority {author} signed two different {what} of epoch {epoch}: shown at /v1/evidence/{epoch}"
    )]
    Equivocation {
        /// The epoch of both.
        epoch: u32,
        /// Who, in hexadecimal.
        author: String,
        /// Of what.
        what: &'static str,
    },
    /// An authority's document is another one.
    #[error("authority {author} signed document {theirs} for epoch {epoch}, here it is {ours}")]
    OtherDigest {
        /// The epoch.
        epoch: u32,
        /// Who, in hexadecimal.
        author: String,
        /// What it signed.
        theirs: String,
        /// What was computed here.
        ours: String,
    },
}

/// What is to be done about an authority that signed two things for one epoch.
pub(super) fn shown(
    epoch: u32,
    author: [u8; 32],
    what: &'static str,
    two: [Vec<u8>; 2],
) -> [Action; 2] {
    let news = News::Equivocation {
        epoch,
        author: hex(&author),
        what,
    };
    [Action::Tell(news), Action::Evidence { epoch, author, two }]
}

/// Why what came is not taken; the word is the answer to whoever sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A descriptor breaks a rule.
    #[error(transparent)]
    Descriptor(#[from] DescriptorRefusal),
    /// A report breaks a rule.
    #[error(transparent)]
    Report(#[from] ReportRefusal),
    /// A vote breaks a rule.
    #[error("vote")]
    Vote(RelayError),
    /// Its hour is over, or that of its epoch.
    #[error("epoch")]
    Epoch,
    /// Its hour is to come.
    #[error("early")]
    Early,
    /// Of an authority that is not known here: a newer authority set may be on its way.
    #[error("unknown")]
    Unknown,
    /// Not the canonical encoding.
    #[error("malformed")]
    Malformed,
    /// A signature does not hold.
    #[error("signature")]
    Signature,
    /// A document that breaks a rule.
    #[error("document")]
    Document,
    /// Nobody asked for it.
    #[error("unasked")]
    Unasked,
}

impl Refusal {
    /// Whether the same may be taken later: who sent it is to send it again.
    pub fn passes(&self) -> bool {
        matches!(self, Refusal::Early | Refusal::Unknown)
    }
}

impl From<RelayError> for Refusal {
    fn from(error: RelayError) -> Self {
        match error {
            RelayError::Unknown => Refusal::Unknown,
            error => Refusal::Vote(error),
        }
    }
}
