//! What the node says of itself and of others, on its way to every authority.

use std::collections::BTreeMap;

use authority::admission::cause;
use authority::round::UPLOADED_ROUNDS;
use bytes::Bytes;
use directory::authority_set::Member;
use directory::store::hex;

use super::Follower;
use crate::board::Own;
use crate::http::client::AskError;

/// An upload that was not answered is repeated so many rounds later.
const UPLOAD_ROUNDS: u64 = 2;
const DESCRIPTOR: &str = "/v1/descriptor";
const REPORT: &str = "/v1/report";

/// By authority, node and route what was last brought there.
pub(super) type Uploads = BTreeMap<([u8; 32], [u8; 32], &'static str), Upload>;

#[derive(Default)]
pub(super) struct Upload {
    digest: [u8; 32],
    /// It was taken; or, of a report, answered that it never will be.
    settled: bool,
    asked_ms: u64,
    /// Why it was not taken, as it was told.
    told: Option<String>,
}

impl Upload {
    /// Whether what became of it is to be told: it is brought again and again, and most of the time to the same end.
    fn is_news(&mut self, why: Option<String>) -> bool {
        let is_news = self.told != why;
        self.told = why;
        is_news
    }
}

/// What is to be brought to all authorities.
struct Said {
    identity: [u8; 32],
    route: &'static str,
    digest: [u8; 32],
    bytes: Bytes,
}

impl Follower {
    /// Brings what the node wrote to every authority: what is new at once, what was not taken again later. A report that was
    /// refused is not brought again, for it stays as it is; who is not admitted today may be in a round.
    pub(super) fn upload(&mut self, now_ms: u64) -> std::io::Result<()> {
        let parameters = self.chain.parameters();
        let again_ms = UPLOAD_ROUNDS * parameters.round_ms();
        let now = parameters.epoch_at(now_ms);
        let late_ms = parameters.epoch_starts_ms(now) + UPLOADED_ROUNDS * parameters.round_ms();
        let authorities = self.authorities(now.saturating_add(1));
        // A report that comes later counts in no vote.
        let said = self.said((now_ms < late_ms).then_some(now))?;
        self.uploads.retain(|(authority, identity, route), _| {
            let known = authorities.iter().any(|member| member.key == *authority);
            let mut said = said.iter();
            known && said.any(|said| (said.identity, said.route) == (*identity, *route))
        });
        let of_set = |key: &[u8; 32]| authorities.iter().any(|member| member.key == *key);
        self.clocks.said.retain(|authority, _| of_set(authority));
        let (mut asks, mut places) = (Vec::new(), Vec::new());
        for said in &said {
            for Member { key, address } in &authorities {
                let place = (*key, said.identity, said.route);
                let upload = self.uploads.entry(place).or_default();
                let same = upload.digest == said.digest;
                if same && (upload.settled || now_ms < upload.asked_ms + again_ms) {
                    continue;
                }
                (upload.digest, upload.settled) = (said.digest, false);
                upload.asked_ms = now_ms;
                let ask = self.ask(*address, said.route, Some(said.bytes.clone()));
                asks.push((*key, ask));
                places.push(place);
            }
        }
        for ((authority, answer), place) in self.ask_all(asks).into_iter().zip(places) {
            let route = place.2;
            let settled = match &answer {
                Ok(_) => true,
                Err(error) => route == REPORT && error.is_answer(),
            };
            let Some(upload) = self.uploads.get_mut(&place) else {
                continue;
            };
            upload.settled = settled;
            let why = answer.err().map(|error| match &error {
                AskError::Refused { word, .. } if route == DESCRIPTOR => match cause(word) {
                    Some(cause) => format!("{error}: {cause}"),
                    None => error.to_string(),
                },
                _ => error.to_string(),
            });
            if !upload.is_news(why) {
                continue;
            }
            let authority = hex(&authority);
            match &upload.told {
                Some(error) => {
                    tracing::warn!(authority, route, %error, "what the node says was not taken");
                }
                None => tracing::info!(authority, route, "what the node says is taken again"),
            }
        }
        Ok(())
    }

    /// What lies in the folder: descriptors, and reports about the document of `reported`, if any is due.
    fn said(&mut self, reported: Option<u32>) -> std::io::Result<Vec<Said>> {
        let descriptors = self.store.read_descriptors()?;
        // Of several nodes in one folder, as in a laboratory, none is the one here.
        let own = match descriptors.as_slice() {
            [one] => Some(Own::of(one)),
            _ => None,
        };
        if own != self.own {
            self.own = own;
            self.tell();
        }
        let mut said = Vec::new();
        for descriptor in descriptors {
            let identity = descriptor.identity;
            said.push(Said {
                identity,
                route: DESCRIPTOR,
                digest: descriptor.digest(),
                bytes: Bytes::copy_from_slice(descriptor.bytes()),
            });
            let report = self.store.read_report(&identity)?;
            if let Some(report) = report.filter(|report| Some(report.epoch) == reported) {
                said.push(Said {
                    identity,
                    route: REPORT,
                    digest: report.digest(),
                    bytes: Bytes::copy_from_slice(report.bytes()),
                });
            }
        }
        Ok(said)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_becomes_of_an_upload_is_told_when_it_changes() {
        let mut upload = Upload::default();
        let refused = || Some("refused (400): admission".to_owned());
        assert!(!upload.is_news(None), "the first one that is taken");
        assert!(upload.is_news(refused()));
        assert!(!upload.is_news(refused()) && !upload.is_news(refused()));
        assert!(upload.is_news(Some("no answer in time".to_owned())));
        assert!(upload.is_news(None), "it is taken again");
        assert!(!upload.is_news(None));
    }
}
