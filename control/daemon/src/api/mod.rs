//! What `mixctl` asks of the daemon beside a node: JSON over a socket of the file system.
//!
//! hyper answers it as it answers an authority's public routes ([`crate::http`]); axum would add a router for five paths.
//! Everything is read from what the follower put on its [`Board`] and from the node's metrics page, so that a reader here,
//! however slow, keeps nobody waiting elsewhere.

pub mod client;
mod door;
mod page;
pub mod shapes;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;

use bytes::Bytes;
use directory::store::hex;
use http_body_util::Full;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Response, StatusCode};
use serde::Serialize;

use crate::board::{Board, Document as Held, Followed};
use crate::clock::unix_ms;
pub(crate) use door::Door;
use shapes::{Document, Epoch, Epochs, InForce, Node, Nodes, OwnNode, Problem, State, Status};

const JSON: &str = "application/json";
const PROBLEM: &str = "application/problem+json";
const TEXT: &str = "text/plain; charset=utf-8";

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Reply {
    status: StatusCode,
    kind: &'static str,
    body: Bytes,
}

impl Reply {
    fn json(value: &impl Serialize) -> Reply {
        match serde_json::to_vec(value) {
            Ok(body) => Reply {
                status: StatusCode::OK,
                kind: JSON,
                body: body.into(),
            },
            // No key of a map here is anything but text.
            Err(_) => Reply::problem(StatusCode::INTERNAL_SERVER_ERROR, "report this defect"),
        }
    }

    fn problem(status: StatusCode, detail: &str) -> Reply {
        let problem = Problem {
            r#type: "about:blank".to_owned(),
            title: status.canonical_reason().unwrap_or_default().to_owned(),
            status: status.as_u16(),
            detail: detail.to_owned(),
        };
        Reply {
            status,
            kind: PROBLEM,
            body: serde_json::to_vec(&problem).unwrap_or_default().into(),
        }
    }

    fn into_response(self) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::new(self.body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.kind));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}

/// Who answers.
pub(crate) struct Api {
    /// What the follower knows.
    pub(crate) board: Board,
    /// Where the node's metrics page is.
    pub(crate) node: Option<SocketAddr>,
}

impl Api {
    async fn answer(&self, method: &Method, path: &str) -> Reply {
        if method != Method::GET {
            return Reply::problem(
                StatusCode::METHOD_NOT_ALLOWED,
                "nothing here takes anything but GET",
            );
        }
        let followed = self.board.read();
        let now_ms = unix_ms();
        match path {
            "/healthz" => text("ok\n"),
            "/metrics/node" => self.pass_on().await,
            "/api/v1/status" => self.status(&followed, now_ms).await,
            "/api/v1/epochs" => Reply::json(&epochs(&followed, now_ms)),
            "/api/v1/consensus" => {
                of_document(&followed, now_ms, |held| Reply::json(&Document::of(held)))
            }
            "/api/v1/nodes" => of_document(&followed, now_ms, |held| {
                Reply::json(&Nodes {
                    epoch: held.consensus.epoch(),
                    nodes: Node::all(&held.consensus),
                })
            }),
            _ => Reply::problem(
                StatusCode::NOT_FOUND,
                "there are /api/v1/status, /api/v1/nodes, /api/v1/consensus, /api/v1/epochs, /metrics/node and /healthz",
            ),
        }
    }

    async fn pass_on(&self) -> Reply {
        let Some(node) = self.node else {
            let unsaid = "name the node's [metrics] listen as [http] node_metrics in mixctld's configuration";
            return Reply::problem(StatusCode::BAD_GATEWAY, unsaid);
        };
        match page::fetch(node).await {
            Ok(body) => Reply {
                status: StatusCode::OK,
                kind: TEXT,
                body,
            },
            Err(_) => Reply::problem(
                StatusCode::BAD_GATEWAY,
                "the node's metrics page does not answer: is mixnode running, with that [metrics] listen?",
            ),
        }
    }

    async fn status(&self, followed: &Followed, now_ms: u64) -> Reply {
        let page = page::look(self.node).await;
        Reply::json(&status(followed, now_ms, page))
    }
}

fn text(body: &'static str) -> Reply {
    Reply {
        status: StatusCode::OK,
        kind: TEXT,
        body: Bytes::from_static(body.as_bytes()),
    }
}

fn of_document(followed: &Followed, now_ms: u64, tell: impl FnOnce(&Held) -> Reply) -> Reply {
    match followed.in_force(followed.parameters.epoch_at(now_ms)) {
        Some(held) => tell(held),
        None => Reply::problem(StatusCode::SERVICE_UNAVAILABLE, &no_document(followed)),
    }
}

/// Why there is no document in force, and what to do.
fn no_document(followed: &Followed) -> String {
    match followed.documents.last() {
        None => "no document yet: authorities publish one an epoch; if it stays like this for two, mixctld's log says what \
                 they answer"
            .to_owned(),
        Some(last) => format!(
            "no document in force: the newest is of epoch {}, and none of the authorities has a later one; mixctld's log \
             says what they answer",
            last.consensus.epoch()
        ),
    }
}

/// Of the node here in a document: whether it is listed, and its layer if it carries.
fn place(held: &Held, followed: &Followed) -> (bool, Option<u8>) {
    let own = followed.own.as_ref();
    let node = own.and_then(|own| held.consensus.find(&own.identity));
    let carries = node.filter(|node| node.layer != directory::WAITING);
    (node.is_some(), carries.map(|node| node.layer))
}

fn epochs(followed: &Followed, now_ms: u64) -> Epochs {
    let now = followed.parameters.epoch_at(now_ms);
    let epoch = |held: &Held| {
        let (listed, layer) = place(held, followed);
        Epoch {
            epoch: held.consensus.epoch(),
            consensus_hash: hex(held.consensus.digest()),
            nodes: held.consensus.nodes().len(),
            listed,
            layer,
        }
    };
    Epochs {
        now,
        ends_unix_ms: followed.parameters.epoch_ends_ms(now),
        in_force: followed.in_force(now).map(|held| held.consensus.epoch()),
        epochs: followed.documents.iter().map(epoch).collect(),
    }
}

fn status(followed: &Followed, now_ms: u64, page: page::Page) -> Status {
    let now = followed.parameters.epoch_at(now_ms);
    let held = followed.in_force(now);
    let document = held.map(|held| InForce {
        epoch: held.consensus.epoch(),
        digest: hex(held.consensus.digest()),
        age_ms: now_ms.saturating_sub(held.consensus.starts_ms()),
        nodes: held.consensus.nodes().len(),
    });
    let (listed, layer) = held.map_or((false, None), |held| place(held, followed));
    let node = followed.own.as_ref().map(|own| OwnNode {
        identity: hex(&own.identity),
        operator: own.operator.clone(),
        role: own.role.to_string(),
        listed,
        layer,
        port: page.port,
        keys_origin: page.keys_origin,
    });
    let mut not_ready = page.not_ready;
    if held.is_none() {
        not_ready.push(no_document(followed));
    } else if node.is_none() {
        not_ready.push(
            "the node has not described itself: is its [network] directory mixctld's [directory] folder?".to_owned(),
        );
    } else if !listed {
        not_ready.push(
            "the document in force does not list this node: the authorities' operators admit it with `mixctl authority \
             nodes add`, and it joins an epoch or two later"
                .to_owned(),
        );
    }
    let state = match page.state {
        State::Ready | State::Waiting if held.is_none() && !followed.documents.is_empty() => {
            State::Stale
        }
        state => state,
    };
    Status {
        version: directory::version().to_owned(),
        unix_ms: now_ms,
        state,
        not_ready,
        network: hex(&followed.network),
        epoch: now,
        ends_unix_ms: followed.parameters.epoch_ends_ms(now),
        document,
        node,
        counters: page.counters,
    }
}
