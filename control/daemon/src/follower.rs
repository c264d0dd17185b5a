//! Follows a network for the node beside it: brings the node's descriptor and report to every authority, and puts verified
//! documents and authority sets into the folder that the node reads. The node itself never talks HTTP.

mod clocks;
#[cfg(test)]
mod tests;
mod uploads;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use directory::authority_set::{AuthoritySet, Member, SetError, SignedSet};
use directory::store::{Store, hex, write_atomic};
use directory::{CONSENSUS_BYTES_MAX, Chain, Consensus, Diff, Held, SignedConsensus, VerifyError};
use tokio::runtime::Runtime;

use crate::board::{Board, Document, Own};
use crate::clock::unix_ms;
use crate::config::DirectoryConfig;
use crate::exit::{self, Failure};
use crate::http::client::{Answered, Ask, AskError};
use clocks::Clocks;
use uploads::Uploads;

/// Verified documents that are kept in mind: one that comes is held against them.
const KEPT: usize = 3;
/// A document is fetched at a random moment of these rounds of the epoch before it.
const FETCH: (u64, u64) = (22, 24);

/// What became of a document that holds.
enum Taken {
    /// It is in the folder.
    News,
    /// What is held is as new.
    Known,
    /// It is not in the folder, whose disk may be full.
    Unstored,
}

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
    clocks: Clocks,
    uploads: Uploads,
    /// The epoch whose document is looked for, and from when on.
    looking: Option<(u32, u64)>,
    /// The epoch whose document was last compared with all authorities.
    compared: Option<u32>,
}

/// Looks at what a follower needs at its start, and makes nothing: what `--check-config` does beside a node.
///
/// # Errors
/// What [`Follower::new`] would end with.
pub fn check(config: &DirectoryConfig) -> Result<(), Failure> {
    crate::authority::files::read_network(&config.network)?;
    crate::folder::can_be_written(&config.folder).map_err(|why| of_folder(&config.folder, &why))
}

/// Why the folder can't be used, and what to do.
fn of_folder(folder: &Path, why: &std::io::Error) -> Failure {
    let folder = folder.display();
    Failure::new(
        exit::OS,
        format!(
            "[directory] folder: {folder}: {why}: name a folder that the user of mixctld may write in"
        ),
    )
}

impl Follower {
    /// A follower of the network of `config`, which puts into the node's folder what it knows already.
    ///
    /// # Errors
    /// The network's file or the folder can't be used.
    pub fn new(config: &DirectoryConfig) -> Result<Follower, Failure> {
        let (chain, recent) = crate::authority::files::read_network(&config.network)?;
        let of_folder = |error| of_folder(&config.folder, &error);
        let store = Store::create(&config.folder).map_err(of_folder)?;
        let (chain, is_stored) = longer(chain, &store);
        // Where the disk is full, what lies there already is enough.
        if !is_stored {
            store.publish_authorities(&chain).map_err(of_folder)?;
        }
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
            clocks: Clocks::default(),
            uploads: Uploads::default(),
            looking: None,
            compared: None,
        };
        follower.look_into_folder().map_err(of_folder)?;
        if let Some(recent) = recent
            && let Err(error) = follower.take(&recent)
        {
            tracing::warn!(%error, "refused a consensus");
        }
        Ok(follower)
    }

    /// Holds the newest document that lies in the folder and holds. What is damaged is passed over: authorities have it.
    fn look_into_folder(&mut self) -> std::io::Result<()> {
        let store = self.store.clone();
        for (epoch, read) in store.newest_first()? {
            let signed = match read {
                Ok(signed) => signed,
                Err(error) => {
                    tracing::warn!(epoch, %error, "passed over a document that is damaged");
                    continue;
                }
            };
            match self.news(&signed) {
                Ok(Some(consensus)) => {
                    self.hold(consensus, &signed);
                    break;
                }
                Ok(None) => {}
                Err(error) => tracing::warn!(%error, "refused a consensus"),
            }
        }
        Ok(())
    }

    /// Where others read what it knows.
    pub fn board(&self) -> Board {
        self.board.clone()
    }

    /// Follows on a thread of its own, which ends with the process: whatever it writes, it writes whole or not.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub fn start(mut self) -> std::io::Result<()> {
        std::thread::Builder::new()
            .name("follower".to_owned())
            .spawn(move || {
                loop {
                    self.turn();
                    std::thread::sleep(self.pace());
                }
            })
            .map(drop)
    }

    /// How long to wait between two turns.
    fn pace(&self) -> Duration {
        Duration::from_millis((self.chain.parameters().round_ms() / 8).clamp(20, 1_000))
    }

    /// What is due now.
    pub fn turn(&mut self) {
        let now_ms = unix_ms();
        if let Err(error) = self.upload(now_ms) {
            tracing::warn!(%error, "the node's descriptor can't be read");
        }
        if let Some(epoch) = self.due(now_ms) {
            self.learn_sets(epoch);
            self.fetch(epoch);
        }
        let newest = self.newest();
        if self.doubts_clock() || newest > self.compared {
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
            held: None,
            from: None,
            bytes_max: CONSENSUS_BYTES_MAX,
            within: Duration::from_millis(within),
        }
    }

    /// Asks all authorities at once, so that one that is down keeps nobody from the others, and each one thing after the
    /// other: it has room for few of one host. By authority what it said, in the order of `asks`.
    fn ask_all(
        &mut self,
        asks: Vec<([u8; 32], Ask)>,
    ) -> Vec<([u8; 32], Result<Answered, AskError>)> {
        let keys: Vec<[u8; 32]> = asks.iter().map(|(key, _)| *key).collect();
        let mut turns: BTreeMap<[u8; 32], Vec<Ask>> = BTreeMap::new();
        for (key, ask) in asks {
            turns.entry(key).or_default().push(ask);
        }
        let said: Vec<_> = self.runtime.block_on(async {
            let asking = turns.into_iter().map(|(key, asks)| {
                let asked = tokio::spawn(in_turn(asks));
                (key, asked)
            });
            let mut said = BTreeMap::new();
            for (key, asked) in asking.collect::<Vec<_>>() {
                said.insert(key, asked.await.unwrap_or_default().into_iter());
            }
            let next = |key: [u8; 32]| {
                let next = said.get_mut(&key).and_then(Iterator::next);
                (key, next.unwrap_or(Err(AskError::Slow)))
            };
            keys.into_iter().map(next).collect()
        });
        for (authority, said) in &said {
            self.hear(authority, said);
        }
        said
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

    /// Asks all authorities for the set after the newest that is known, until none has a further one. Whoever hands one
    /// over, it proves itself; so one authority that keeps a set to itself keeps it from nobody.
    fn learn_sets(&mut self, epoch: u32) {
        loop {
            let known = self.chain.sets().len();
            let path = format!("/v1/authorities/{known}");
            let asks = self.authorities(epoch).into_iter();
            let asks = asks.map(|member| (member.key, self.ask(member.address, &path, None)));
            for (authority, said) in self.ask_all(asks.collect()) {
                let Ok(answered) = said else {
                    continue;
                };
                let set = SignedSet::decode(&answered.body).map_err(SetError::from);
                if let Err(error) = set.and_then(|set| self.chain.extend(set)) {
                    let authority = hex(&authority);
                    tracing::error!(authority, %error, "refused an authority set");
                }
            }
            if self.chain.sets().len() == known {
                return;
            }
            tracing::info!(generation = known, "took up an authority set");
            if let Err(error) = self.store.publish_authorities(&self.chain) {
                tracing::error!(%error, "the authority sets could not be stored: the node waits for them");
            }
        }
    }

    /// Takes the document of `epoch` from the first authority that has a valid one, beginning with a random one; where
    /// that epoch has none, the newest.
    fn fetch(&mut self, epoch: u32) {
        let mut authorities = self.authorities(epoch);
        let mut random = [0; 1];
        let _ = getrandom::fill(&mut random);
        let first = usize::from(random[0]) % authorities.len().max(1);
        authorities.rotate_left(first);
        for authority in &authorities {
            if self.fetch_from(authority, epoch) {
                return;
            }
        }
    }

    /// The same from one authority, which is asked for the difference to the newest document held before the whole. Says
    /// whether it gave one.
    fn fetch_from(&mut self, authority: &Member, epoch: u32) -> bool {
        let base = self.newest();
        let diff = base.map(|base| format!("/v1/consensus/{epoch}/from/{base}"));
        let whole = format!("/v1/consensus/{epoch}");
        let paths = [diff, Some(whole), Some("/v1/consensus/latest".to_owned())];
        for path in paths.into_iter().flatten() {
            let mut ask = self.ask(authority.address, &path, None);
            ask.held = self.documents.last().map(|held| *held.consensus.digest());
            let answered = self.runtime.block_on(ask.run());
            self.hear(&authority.key, &answered);
            let answered = match answered {
                Ok(answered) if answered.body.is_empty() => continue,
                Ok(answered) => answered,
                Err(error) if error.is_answer() => continue,
                // Silent to one question, silent to all: each would take its whole time.
                Err(_) => return false,
            };
            let taken = self
                .document_in(&answered.body)
                .and_then(|signed| self.take(&signed).map_err(|error| error.to_string()));
            match taken {
                // Where it can't be stored, it can't whoever gives it, and however.
                Ok(Taken::News | Taken::Unstored) => return true,
                Ok(Taken::Known) => {}
                Err(error) => {
                    let authority = hex(&authority.key);
                    tracing::warn!(authority, path, %error, "refused a consensus");
                }
            }
        }
        false
    }

    /// The document that these bytes are, or that they lead to from the newest one held.
    fn document_in(&self, bytes: &[u8]) -> Result<SignedConsensus, String> {
        match (Diff::decode(bytes), self.documents.last()) {
            (Ok(diff), Some(base)) => diff
                .apply(&base.consensus)
                .map_err(|error| error.to_string()),
            _ => SignedConsensus::decode(bytes).map_err(|error| error.to_string()),
        }
    }

    /// Verifies a document and puts it into the folder. What is held is no news, and no error.
    fn take(&mut self, signed: &SignedConsensus) -> Result<Taken, VerifyError> {
        let Some(consensus) = self.news(signed)? else {
            return Ok(Taken::Known);
        };
        let epoch = consensus.epoch();
        if let Err(error) = self.store.publish_consensus(epoch, signed) {
            tracing::error!(epoch, %error, "the document could not be stored: the node waits for it");
            return Ok(Taken::Unstored);
        }
        self.hold(consensus, signed);
        Ok(Taken::News)
    }

    /// What a document says that is newer than what is held, if it holds.
    fn news(&self, signed: &SignedConsensus) -> Result<Option<Consensus>, VerifyError> {
        let documents = self.held();
        let held = Held {
            documents: &documents,
            newer_than: self.newest(),
            now: Some(self.chain.parameters().epoch_at(unix_ms())),
        };
        match signed.verify(&self.chain, &held) {
            Err(VerifyError::RolledBack { .. }) => Ok(None),
            verified => verified.map(Some),
        }
    }

    /// Keeps in mind what lies in the folder.
    fn hold(&mut self, consensus: Consensus, signed: &SignedConsensus) {
        let epoch = consensus.epoch();
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
    }

    /// Asks all authorities for the newest document: another valid one of the same epoch means that more of them lie than
    /// the network bears. The first stays, the second is kept beside it.
    fn compare(&mut self) {
        let Some(newest) = self.documents.last() else {
            return;
        };
        let (epoch, digest) = (newest.consensus.epoch(), *newest.consensus.digest());
        let path = format!("/v1/consensus/{epoch}");
        let asks = self.authorities(epoch).into_iter().map(|member| {
            let mut ask = self.ask(member.address, &path, None);
            ask.held = Some(digest);
            (member.key, ask)
        });
        for (authority, said) in self.ask_all(asks.collect()) {
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
            if signed.verify(&self.chain, &held) == Err(VerifyError::Equivocation(epoch)) {
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

/// Asks one authority one thing after the other. Silent to one, silent to all: each would take its whole time, so those
/// after it are not asked.
async fn in_turn(asks: Vec<Ask>) -> Vec<Result<Answered, AskError>> {
    let mut said = Vec::new();
    for ask in asks {
        let answered = ask.run().await;
        let is_silent = matches!(answered, Err(AskError::Network(_) | AskError::Slow));
        said.push(answered);
        if is_silent {
            break;
        }
    }
    said
}

/// The chain in the network's file, or the one in the folder where that goes on from it: there lie the sets that were
/// learned since. And whether it lies there.
fn longer(chain: Chain, store: &Store) -> (Chain, bool) {
    let stored = store.read_authorities().unwrap_or_else(|error| {
        tracing::warn!(%error, "passed over the folder's authorities, which are damaged");
        None
    });
    let stored = stored.and_then(|bytes| Chain::decode(&bytes).ok());
    match stored {
        Some(stored) if stored.continues(&chain) => (stored, true),
        Some(stored) if !chain.continues(&stored) => {
            tracing::warn!(
                "the folder's authorities are not those of the network's file, which count"
            );
            (chain, false)
        }
        _ => (chain, false),
    }
}
