//! Follows a network for the node beside it: brings the node's descriptor to every authority and puts verified documents
//! into the folder that the node reads. The node itself never talks HTTP.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use directory::authority_set::{AuthoritySet, Member};
use directory::store::{Store, hex, write_atomic};
use directory::{CONSENSUS_BYTES_MAX, Chain, Consensus, Held, SignedConsensus};
use tokio::runtime::Runtime;

use crate::board::{Board, Document, Own};
use crate::clock::unix_ms;
use crate::config::DirectoryConfig;
use crate::exit::{self, Failure};
use crate::http::client::{Answered, Ask, AskError};

/// Verified documents that are kept in mind: one that comes is held against them.
const KEPT: usize = 3;
/// A document is fetched at a random moment of these rounds of the epoch before it.
const FETCH: (u64, u64) = (22, 24);
/// An upload that was not answered is repeated so many rounds later.
const UPLOAD_ROUNDS: u64 = 2;

/// A follower of one network.
pub struct Follower {
    chain: Chain,
    store: Store,
    runtime: Runtime,
    /// Verified, oldest first.
    documents: Vec<Document>,
    /// Who the node here is, once it has said so.
    own: Option<Own>,
    board: Board,
    /// By authority and node what was last brought there.
    uploads: BTreeMap<([u8; 32], [u8; 32]), Upload>,
    /// The epoch whose document is looked for, and from when on.
    looking: Option<(u32, u64)>,
    /// The epoch whose document was last compared with all authorities.
    compared: Option<u32>,
}

#[derive(Default)]
struct Upload {
    digest: [u8; 32],
    taken: bool,
    asked_ms: u64,
}

impl Follower {
    /// A follower of the network of `config`, which puts into the node's folder what it knows already.
    ///
    /// # Errors
    /// The network's file or the folder can't be used.
    pub fn new(config: &DirectoryConfig) -> Result<Follower, Failure> {
        let (chain, recent) = crate::authority::files::read_network(&config.network)?;
        let of_folder = |error: std::io::Error| {
            let folder = config.folder.display();
            Failure::new(exit::OS, format!("[directory] folder: {folder}: {error}"))
        };
        let store = Store::create(&config.folder).map_err(of_folder)?;
        store.publish_authorities(&chain).map_err(of_folder)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()?;
        let board = Board::new(&chain);
        let mut follower = Follower {
            chain,
            store,
            runtime,
            documents: Vec::new(),
            own: None,
            board,
            uploads: BTreeMap::new(),
            looking: None,
            compared: None,
        };
        let stored = follower.store.latest().map_err(of_folder)?;
        for signed in stored.into_iter().map(|(_, signed)| signed).chain(recent) {
            if let Err(error) = follower.take(&signed) {
                tracing::warn!(%error, "refused a consensus");
            }
        }
        Ok(follower)
    }

    /// Where others read what it knows.
    pub fn board(&self) -> Board {
        self.board.clone()
    }

    /// How long to wait between two turns.
    pub fn pace(&self) -> Duration {
        Duration::from_millis((self.chain.parameters().round_ms() / 8).clamp(20, 1_000))
    }

    /// What is due now.
    pub fn turn(&mut self) {
        let now_ms = unix_ms();
        if let Err(error) = self.upload(now_ms) {
            tracing::warn!(%error, "the node's descriptor can't be read");
        }
        if let Some(epoch) = self.due(now_ms) {
            self.fetch(epoch);
        }
        let newest = self.newest();
        if newest > self.compared {
            self.compared = newest;
            self.compare();
        }
    }

    /// The epoch of the newest document.
    fn newest(&self) -> Option<u32> {
        self.documents.last().map(|held| held.consensus.epoch())
    }

    fn held(&self) -> Vec<&Consensus> {
        let documents = self.documents.iter();
        documents.map(|held| held.consensus.as_ref()).collect()
    }

    fn tell(&self) {
        self.board.put(self.documents.clone(), self.own.clone());
    }

    fn authorities(&self, epoch: u32) -> Vec<Member> {
        let set = self.chain.at(epoch);
        set.map(|set| set.members.clone()).unwrap_or_default()
    }

    fn ask(&self, to: SocketAddr, path: &str, body: Option<Bytes>) -> Ask {
        let within = self.chain.parameters().round_ms().clamp(1_000, 10_000);
        Ask {
            to,
            path: path.to_owned(),
            body,
            from: None,
            bytes_max: CONSENSUS_BYTES_MAX,
            within: Duration::from_millis(within),
        }
    }

    /// Asks all at once, so that one that is down keeps nobody from the others. By authority what it said.
    fn ask_all(&self, asks: Vec<([u8; 32], Ask)>) -> Vec<([u8; 32], Result<Answered, AskError>)> {
        self.runtime.block_on(async {
            let asks = asks.into_iter().map(|(key, ask)| {
                let asked = tokio::spawn(async move { ask.run().await });
                (key, asked)
            });
            let mut said = Vec::new();
            for (key, asked) in asks.collect::<Vec<_>>() {
                said.extend(asked.await.ok().map(|answered| (key, answered)));
            }
            said
        })
    }

    /// Brings what the node wrote to every authority: what is new at once, what was not taken again later.
    fn upload(&mut self, now_ms: u64) -> std::io::Result<()> {
        let again_ms = UPLOAD_ROUNDS * self.chain.parameters().round_ms();
        let next = self.chain.parameters().epoch_at(now_ms).saturating_add(1);
        let authorities = self.authorities(next);
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
        self.uploads.retain(|(authority, identity), _| {
            let known = authorities.iter().any(|member| member.key == *authority);
            known && descriptors.iter().any(|held| held.identity == *identity)
        });
        let mut asks = Vec::new();
        for (descriptor, Member { key, address }) in descriptors.iter().flat_map(|descriptor| {
            authorities
                .iter()
                .map(move |authority| (descriptor, authority))
        }) {
            let digest = descriptor.digest();
            let upload = self.uploads.entry((*key, descriptor.identity)).or_default();
            let same = upload.digest == digest;
            if same && (upload.taken || now_ms < upload.asked_ms + again_ms) {
                continue;
            }
            *upload = Upload {
                digest,
                taken: false,
                asked_ms: now_ms,
            };
            let body = Bytes::copy_from_slice(descriptor.bytes());
            let ask = self.ask(*address, "/v1/descriptor", Some(body));
            asks.push((*key, ask, digest));
        }
        let digests: Vec<_> = asks.iter().map(|(_, _, digest)| *digest).collect();
        let asks = asks.into_iter().map(|(key, ask, _)| (key, ask)).collect();
        for ((authority, said), digest) in self.ask_all(asks).into_iter().zip(digests) {
            match said {
                Ok(_) => {
                    let mut uploads = self.uploads.iter_mut();
                    let of = uploads
                        .find(|((key, _), upload)| *key == authority && upload.digest == digest);
                    if let Some((_, upload)) = of {
                        upload.taken = true;
                    }
                }
                Err(error) => {
                    let authority = hex(&authority);
                    tracing::warn!(authority, %error, "the node's descriptor was not taken");
                }
            }
        }
        Ok(())
    }

    /// The epoch whose document is to be looked for now: this one's at once, the next one's from a random moment on, so
    /// that not all nodes ask at the same time; where it is not to be had, again a round later.
    fn due(&mut self, now_ms: u64) -> Option<u32> {
        let parameters = *self.chain.parameters();
        let (now, round_ms) = (parameters.epoch_at(now_ms), parameters.round_ms());
        let wanted = match self.newest() {
            Some(newest) if newest > now => return None,
            Some(newest) if newest == now => now.saturating_add(1),
            _ => now,
        };
        let first_ms = || {
            if wanted == now {
                return now_ms;
            }
            let spread_ms = (FETCH.1 - FETCH.0) * round_ms;
            let mut random = [0; 8];
            // Without random bytes all is lost elsewhere; here it is a moment that others may know.
            let _ = getrandom::fill(&mut random);
            let later_ms = u64::from_be_bytes(random) % spread_ms.max(1);
            parameters.epoch_starts_ms(now) + FETCH.0 * round_ms + later_ms
        };
        let from_ms = match self.looking {
            Some((epoch, from_ms)) if epoch == wanted => from_ms,
            _ => first_ms(),
        };
        let due = now_ms >= from_ms;
        self.looking = Some((wanted, if due { now_ms + round_ms } else { from_ms }));
        due.then_some(wanted)
    }

    /// Takes the document of `epoch` from the first authority that has a valid one, beginning with a random one; where
    /// that epoch has none, the newest.
    fn fetch(&mut self, epoch: u32) {
        let mut authorities = self.authorities(epoch);
        let mut random = [0; 1];
        let _ = getrandom::fill(&mut random);
        let first = usize::from(random[0]) % authorities.len().max(1);
        authorities.rotate_left(first);
        for Member { key, address } in authorities {
            for path in [
                format!("/v1/consensus/{epoch}"),
                "/v1/consensus/latest".to_owned(),
            ] {
                let ask = self.ask(address, &path, None);
                let Ok(answered) = self.runtime.block_on(ask.run()) else {
                    continue;
                };
                let taken = SignedConsensus::decode(&answered.body)
                    .map_err(directory::VerifyError::from)
                    .and_then(|signed| self.take(&signed));
                match taken {
                    Ok(()) => return,
                    // What is held is no news.
                    Err(directory::VerifyError::RolledBack { .. }) => {}
                    Err(error) => {
                        tracing::warn!(authority = hex(&key), %error, "refused a consensus");
                    }
                }
            }
        }
    }

    /// Verifies a document and puts it into the folder.
    fn take(&mut self, signed: &SignedConsensus) -> Result<(), directory::VerifyError> {
        let documents = self.held();
        let held = Held {
            documents: &documents,
            newer_than: self.newest(),
            now: Some(self.chain.parameters().epoch_at(unix_ms())),
        };
        let consensus = signed.verify(&self.chain, &held)?;
        let epoch = consensus.epoch();
        if let Err(error) = self.store.publish_consensus(epoch, signed) {
            tracing::error!(epoch, %error, "the document could not be stored: the node waits for it");
            return Ok(());
        }
        tracing::info!(epoch, nodes = consensus.nodes().len(), "took up a document");
        let authorities = self.chain.at(epoch).map(AuthoritySet::authorities);
        let signers = match authorities {
            Some(Ok(authorities)) => signed.signers(&authorities, self.chain.network(), epoch),
            _ => Vec::new(),
        };
        self.documents.push(Document {
            consensus: Arc::new(consensus),
            signers,
        });
        let over = self.documents.len().saturating_sub(KEPT);
        self.documents.drain(..over);
        self.tell();
        Ok(())
    }

    /// Asks all authorities for the newest document: another valid one of the same epoch means that more of them lie than
    /// the network bears. The first stays, the second is kept beside it.
    fn compare(&mut self) {
        let Some(newest) = self.documents.last() else {
            return;
        };
        let (epoch, digest) = (newest.consensus.epoch(), *newest.consensus.digest());
        let path = format!("/v1/consensus/{epoch}");
        let asks = self.authorities(epoch).into_iter();
        let asks = asks
            .map(|member| (member.key, self.ask(member.address, &path, None)))
            .collect();
        for (authority, said) in self.ask_all(asks) {
            let Ok(answered) = said else {
                continue;
            };
            if answered.tag.as_deref() == Some(hex(&digest).as_str()) {
                continue;
            }
            let Ok(signed) = SignedConsensus::decode(&answered.body) else {
                continue;
            };
            let documents = self.held();
            let held = Held {
                documents: &documents,
                newer_than: None,
                now: None,
            };
            if signed.verify(&self.chain, &held) == Err(directory::VerifyError::Equivocation(epoch))
            {
                let other = signed.digest();
                tracing::error!(
                    epoch,
                    authority = hex(&authority),
                    first = hex(&digest),
                    second = hex(&other),
                    "TopologySplit: two valid documents of one epoch; the first stays, the second is kept beside it"
                );
                let name = format!("equivocation-{epoch}-{}", hex(&other));
                if let Err(error) = write_atomic(&self.store.root().join(name), &answered.body) {
                    tracing::error!(%error, "the second document could not be kept");
                }
            }
        }
    }
}
