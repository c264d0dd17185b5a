//! The public routes of an authority.

use std::sync::mpsc::{SyncSender, TrySendError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use authority::relay::RELAYED_BYTES_MAX;
use bytes::Bytes;
use directory::SIGNATURE_BYTES;
use directory::store::unhex;
use hyper::StatusCode;
use tokio::sync::oneshot;

use super::evidence::Evidence;
use super::peers::Told;
use super::shelf::Shelf;
use crate::clock::unix_ms;
use crate::http::rooms::Class;
use crate::http::{Answer, Answers, Asked};

/// Largest body of a stranger.
const BODY_BYTES_MAX: usize = 4 * 1024;
/// A request waits so long for the authority's thread, which may be computing a document.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the authority's thread is asked.
#[derive(Debug)]
pub enum Question {
    /// A node's descriptor.
    Descriptor(Bytes),
    /// A node's report.
    Report(Bytes),
    /// Another authority's relayed vote.
    Vote(Bytes),
    /// Another authority's signature.
    Signature(Bytes),
    /// A descriptor or report by its digest, and whether another authority asks.
    ByDigest([u8; 32], bool),
    /// Which descriptors are held for an epoch's document, and whether another authority asks.
    Listing(u32, bool),
    /// How the authority fares.
    Status,
}

/// What comes to the authority's thread.
#[derive(Debug)]
pub enum Inbound {
    /// A question, and where its answer goes.
    Question(Question, oneshot::Sender<Answer>),
    /// What another authority answered.
    Told([u8; 32], Told),
}

/// Answers the public routes.
pub struct Desk {
    /// What is handed out.
    pub shelf: Arc<Mutex<Shelf>>,
    /// What is read for whoever asks, beside the authority's thread.
    pub evidence: Evidence,
    /// To the authority's thread.
    pub questions: SyncSender<Inbound>,
}

impl Answers for Desk {
    fn refuses(&self, path: &str, class: Class) -> Option<Answer> {
        let of_authorities = ["/v1/time", "/v1/authority/vote", "/v1/authority/signature"];
        let open = !of_authorities.contains(&path);
        // By its address. One that is not known here may be of a newer authority set that is on its way: it asks again.
        let unknown = || Answer::word(StatusCode::SERVICE_UNAVAILABLE, "unknown");
        (!open && !matches!(class, Class::Authority(_))).then(unknown)
    }

    fn body_bytes_max(&self, path: &str) -> Option<usize> {
        match path {
            "/v1/descriptor" | "/v1/report" => Some(BODY_BYTES_MAX),
            "/v1/authority/vote" => Some(RELAYED_BYTES_MAX),
            "/v1/authority/signature" => Some(SIGNATURE_BYTES),
            _ => None,
        }
    }

    async fn answer(&self, asked: Asked) -> Answer {
        let parts: Vec<&str> = asked.path.trim_start_matches('/').split('/').collect();
        let body = asked.body;
        let is_authority = matches!(asked.class, Class::Authority(_));
        let number = |text: &str| text.parse::<u32>().ok();
        let question = match (asked.is_post, parts.as_slice()) {
            (true, ["v1", "descriptor"]) => Some(Question::Descriptor(body)),
            (true, ["v1", "report"]) => Some(Question::Report(body)),
            (true, ["v1", "authority", "vote"]) => Some(Question::Vote(body)),
            (true, ["v1", "authority", "signature"]) => Some(Question::Signature(body)),
            (false, ["v1", "time"]) => return Answer::bytes(unix_ms().to_string()),
            (false, ["v1", "network"]) => {
                return self.on_shelf(|shelf| Some(Answer::bytes(shelf.network.clone())));
            }
            (false, ["v1", "authorities", generation]) => {
                return self.on_shelf(|shelf| {
                    let set = shelf.sets.get(generation.parse::<usize>().ok()?)?;
                    Some(Answer::bytes(set.clone()))
                });
            }
            (false, ["v1", "consensus", epoch]) => {
                return self.on_shelf(|shelf| {
                    let (held, immutable) = match *epoch {
                        "latest" => (shelf.documents.last()?, false),
                        epoch => (shelf.of(number(epoch)?)?, true),
                    };
                    let mut answer = Answer::bytes(held.document.clone());
                    answer.tag = Some((*held.consensus.digest(), immutable));
                    Some(answer)
                });
            }
            (false, ["v1", "consensus", epoch, "from", base]) => {
                return self.on_shelf(|shelf| {
                    let (held, base) = (shelf.of(number(epoch)?)?, number(base)?);
                    let mut answer = Answer::bytes(held.diffs.get(&base)?.clone());
                    answer.tag = Some((*held.consensus.digest(), true));
                    Some(answer)
                });
            }
            (false, ["v1", "descriptor", digest]) => {
                unhex(digest).map(|digest| Question::ByDigest(digest, is_authority))
            }
            (false, ["v1", "authority", "descriptors", epoch]) => {
                number(epoch).map(|epoch| Question::Listing(epoch, is_authority))
            }
            (false, ["v1", "evidence", epoch]) => {
                return match number(epoch) {
                    Some(epoch) => self.shown(epoch).await,
                    None => nothing(),
                };
            }
            // What an operator should know is not everybody's.
            (false, ["v1", "status"]) if asked.class == Class::Host => Some(Question::Status),
            _ => None,
        };
        match question {
            Some(question) => self.ask(question).await,
            None => nothing(),
        }
    }
}

impl Desk {
    async fn shown(&self, epoch: u32) -> Answer {
        let evidence = self.evidence.clone();
        match tokio::task::spawn_blocking(move || evidence.of(epoch)).await {
            Ok(Ok(Some(bytes))) => Answer::bytes(bytes),
            Ok(Ok(None)) => nothing(),
            _ => Answer::word(StatusCode::INTERNAL_SERVER_ERROR, "disk"),
        }
    }

    fn on_shelf(&self, find: impl FnOnce(&Shelf) -> Option<Answer>) -> Answer {
        let shelf = self.shelf.lock().unwrap_or_else(PoisonError::into_inner);
        find(&shelf).unwrap_or_else(nothing)
    }

    async fn ask(&self, question: Question) -> Answer {
        let busy = || Answer::word(StatusCode::SERVICE_UNAVAILABLE, "busy");
        let (sender, receiver) = oneshot::channel();
        match self.questions.try_send(Inbound::Question(question, sender)) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => return busy(),
        }
        match tokio::time::timeout(PATIENCE, receiver).await {
            Ok(Ok(answer)) => answer,
            _ => busy(),
        }
    }
}

/// What strangers may see when the votes about it have begun: they may ask again.
pub fn early() -> Answer {
    Answer::word(StatusCode::SERVICE_UNAVAILABLE, "early")
}

/// What is not there.
pub fn nothing() -> Answer {
    Answer::word(StatusCode::NOT_FOUND, "nothing")
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use super::*;

    /// A desk behind which nobody works, with its folder.
    fn desk() -> (Desk, tempfile::TempDir, std::sync::mpsc::Receiver<Inbound>) {
        let folder = tempfile::tempdir().unwrap();
        let (questions, inbound) = sync_channel(1);
        let desk = Desk {
            shelf: Arc::default(),
            evidence: Evidence::open(folder.path()).unwrap(),
            questions,
        };
        (desk, folder, inbound)
    }

    #[test]
    fn evidence_is_handed_out_while_the_authority_is_busy() {
        let (desk, _folder, _inbound) = desk();
        let two = [b"FXG1 one".to_vec(), b"FXG1 other".to_vec()];
        desk.evidence.write(7, &[1; 32], &two).unwrap();
        let asked = |path: &str| Asked {
            class: Class::Stranger,
            is_post: false,
            path: path.to_owned(),
            body: Bytes::new(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        let shown = runtime.block_on(desk.answer(asked("/v1/evidence/7")));
        assert_eq!(shown.status, StatusCode::OK);
        assert_eq!(Some(shown.body.to_vec()), desk.evidence.of(7).unwrap());
        for none in ["/v1/evidence/6", "/v1/evidence/x"] {
            let shown = runtime.block_on(desk.answer(asked(none)));
            assert_eq!(shown.status, StatusCode::NOT_FOUND);
        }
    }

    #[test]
    fn what_is_for_authorities_is_told_to_nobody_else_who_is_to_ask_again() {
        let (desk, _folder, _inbound) = desk();
        let theirs = ["/v1/time", "/v1/authority/vote", "/v1/authority/signature"];
        for path in theirs {
            for class in [Class::Node, Class::Host, Class::Stranger] {
                let refused = desk.refuses(path, class).unwrap();
                assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE, "{path}");
                assert_eq!(refused.body.as_ref(), b"unknown\n");
            }
            assert_eq!(desk.refuses(path, Class::Authority([1; 32])), None);
        }
        for path in ["/v1/network", "/v1/descriptor", "/v1/consensus/latest"] {
            assert_eq!(desk.refuses(path, Class::Stranger), None, "{path}");
        }
    }
}
