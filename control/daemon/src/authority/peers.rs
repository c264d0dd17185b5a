//! The other authorities: what is asked of them and sent to them.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use authority::relay::RELAYED_BYTES_MAX;
use authority::round::{LISTING_BYTES_MAX, Message};
use bytes::Bytes;
use directory::authority_set::Member;
use directory::store::hex;
use directory::{CONSENSUS_BYTES_MAX, DESCRIPTOR_BYTES_MAX};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use super::desk::Inbound;
use crate::clock::unix_ms;
use crate::http::client::{Ask, AskError};
use crate::http::rooms::Class;

/// Requests to one authority at a time: half of the room that it has for this one, so that votes find a place whatever is
/// pulled meanwhile.
const PULLS_MAX: usize = 8;
/// Sendings to one authority at a time: a vote of each, relayed, twice, and signatures.
const SENDINGS_MAX: usize = 64;

/// What another authority answered.
#[derive(Debug)]
pub enum Told {
    /// How far its clock is ahead, milliseconds.
    Ahead(i64),
    /// Its newest document.
    Document(Bytes),
    /// Which descriptors and reports it holds.
    Listing(Bytes),
    /// A descriptor or report.
    Descriptor(Bytes),
}

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub enum Pull {
    /// The time.
    Time,
    /// The newest document.
    Document,
    /// Which descriptors are held for an epoch's document.
    Listing(u32),
    /// A descriptor or report by its digest.
    Descriptor([u8; 32]),
}

/// Another authority.
#[derive(Clone)]
pub struct Peer {
    /// Its key.
    pub key: [u8; 32],
    to: SocketAddr,
    from: Option<IpAddr>,
    within: Duration,
    pulls: Arc<Semaphore>,
    sendings: Arc<Semaphore>,
    runtime: Handle,
    told: SyncSender<Inbound>,
}

impl Peer {
    /// An authority, asked from the address `from`. Answers go to `told`; what is not answered within `within` counts as
    /// not answered.
    pub fn new(
        member: &Member,
        from: Option<IpAddr>,
        within: Duration,
        runtime: Handle,
        told: SyncSender<Inbound>,
    ) -> Peer {
        Peer {
            key: member.key,
            to: member.address,
            from,
            within,
            pulls: Arc::new(Semaphore::new(PULLS_MAX)),
            sendings: Arc::new(Semaphore::new(SENDINGS_MAX)),
            runtime,
            told,
        }
    }

    fn ask(&self, path: String, body: Option<Bytes>, bytes_max: usize) -> Ask {
        Ask {
            to: self.to,
            path,
            body,
            held: None,
            from: self.from,
            bytes_max,
            within: self.within,
        }
    }

    /// Asks for all of `pulls`, a few at a time. What is not answered is not asked again here: the next round does.
    pub fn pull(&self, pulls: Vec<Pull>) {
        let peer = self.clone();
        self.runtime.spawn(async move {
            for pull in pulls {
                let Ok(permit) = Arc::clone(&peer.pulls).acquire_owned().await else {
                    return;
                };
                let peer = peer.clone();
                tokio::spawn(async move {
                    if let Some(told) = peer.pull_one(pull).await {
                        // Full: the authority's thread is busy with more than it can take, and asks again.
                        let _ = peer.told.try_send(Inbound::Told(peer.key, told));
                    }
                    drop(permit);
                });
            }
        });
    }

    async fn pull_one(&self, pull: Pull) -> Option<Told> {
        let (path, bytes_max) = match pull {
            Pull::Time => ("/v1/time".to_owned(), 32),
            Pull::Document => ("/v1/consensus/latest".to_owned(), CONSENSUS_BYTES_MAX),
            Pull::Listing(epoch) => (
                format!("/v1/authority/descriptors/{epoch}"),
                LISTING_BYTES_MAX,
            ),
            Pull::Descriptor(digest) => (
                format!("/v1/descriptor/{}", hex(&digest)),
                DESCRIPTOR_BYTES_MAX,
            ),
        };
        let begun_ms = unix_ms();
        let answered = match self.ask(path, None, bytes_max).run().await {
            Ok(answered) => answered,
            Err(error) => {
                tracing::debug!(authority = hex(&self.key), %error, "no answer to {pull:?}");
                return None;
            }
        };
        let body = answered.body;
        Some(match pull {
            Pull::Time => {
                let theirs: i64 = std::str::from_utf8(&body).ok()?.trim().parse().ok()?;
                let ended_ms = unix_ms();
                let half_ms = ended_ms.saturating_sub(begun_ms) / 2;
                let ours = i64::try_from(begun_ms.saturating_add(half_ms)).ok()?;
                Told::Ahead(theirs.saturating_sub(ours))
            }
            Pull::Document => Told::Document(body),
            Pull::Listing(_) => Told::Listing(body),
            Pull::Descriptor(_) => Told::Descriptor(body),
        })
    }

    /// Sends until it is answered or the time is over. Answers of refusal end it too, but for those that pass.
    pub fn send(&self, message: &Message, until_ms: u64, every_ms: u64) {
        let (path, body) = match message {
            Message::Vote(bytes) => ("/v1/authority/vote", bytes),
            Message::Signature(bytes) => ("/v1/authority/signature", bytes),
        };
        debug_assert!(body.len() <= RELAYED_BYTES_MAX);
        let Ok(permit) = Arc::clone(&self.sendings).try_acquire_owned() else {
            tracing::warn!(
                authority = hex(&self.key),
                "too much to send at once: left out"
            );
            return;
        };
        let ask = self.ask(path.to_owned(), Some(Bytes::from(body.clone())), 64);
        let key = self.key;
        self.runtime.spawn(async move {
            loop {
                match ask.run().await {
                    Ok(_) => break,
                    Err(error) if error.is_answer() => {
                        tracing::info!(authority = hex(&key), %error, "{} not taken", ask.path);
                        break;
                    }
                    Err(error) => {
                        tracing::debug!(authority = hex(&key), %error, "{} not sent", ask.path);
                        last_word(&key, &ask, &error, until_ms, every_ms);
                    }
                }
                if unix_ms().saturating_add(every_ms) >= until_ms {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(every_ms)).await;
            }
            drop(permit);
        });
    }
}

fn last_word(key: &[u8; 32], ask: &Ask, error: &AskError, until_ms: u64, every_ms: u64) {
    if unix_ms().saturating_add(every_ms) >= until_ms {
        tracing::warn!(authority = hex(key), %error, "{} could not be sent in time", ask.path);
    }
}

/// The addresses of authorities, nodes and this host, for the rooms.
pub fn addresses(
    authorities: &[Member],
    nodes: impl IntoIterator<Item = IpAddr>,
    own: IpAddr,
) -> HashMap<IpAddr, Class> {
    let mut known: HashMap<IpAddr, Class> = nodes.into_iter().map(|ip| (ip, Class::Node)).collect();
    let host = [own, Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    known.extend(host.map(|ip| (ip, Class::Host)));
    let others = authorities.iter();
    known.extend(others.map(|one| (one.address.ip(), Class::Authority(one.key))));
    known
}
