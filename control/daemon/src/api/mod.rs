//! What `mixctl` and the dashboard ask of the daemon beside a node: JSON over a socket of the file system, where the peer's
//! user decides, and over TCP, where a token does ([`gate`]).
//!
//! hyper answers it as it answers an authority's public routes ([`crate::http`]): every answer is to a GET without a body, and
//! axum would bring a router for them, and 23 crates into a process with capabilities. WebSockets are tungstenite's.
//! Everything is read from what the follower put on its [`Board`], from what the node said to the loader last ([`Witness`])
//! and from its metrics page, so that a reader here, however slow, keeps nobody waiting elsewhere.

pub mod client;
mod door;
mod exposition;
mod gate;
mod known;
mod laboratory;
mod measured;
mod page;
mod past;
mod pulse;
mod routes;
pub mod shapes;
mod socket;
#[cfg(test)]
mod tests;
mod token;
mod witness;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body, Incoming};
use hyper::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Method, Request, Response, StatusCode, Uri};
use serde::Serialize;

use crate::board::{Board, Followed};
use crate::clock::{boot_ms, medians_ms, unix_ms};
pub(crate) use door::Door;
pub use door::check;
use handover::meaning::{self, Source};
use handover::protocol::{self, Reply as Said};
use known::{epochs, seen, status, workers};
use laboratory::Inhabitant;
pub use laboratory::Laboratory;
pub(crate) use past::Log;
pub(crate) use pulse::Pulse;
use shapes::{
    Clock, Drops, Epochs, Event, Flow, Interface, Loops, Problem, Seen, State, Status, Updates,
    Workers, Xdp,
};
pub(crate) use witness::Witness;

/// How long the loader may take for an answer.
const LOADER: Duration = Duration::from_secs(2);

const JSON: &str = "application/json";
const PROBLEM: &str = "application/problem+json";
const TEXT: &str = "text/plain; charset=utf-8";
const EXPOSITION: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What the page may do: load what is its own, and nothing of anyone else's; nobody frames it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; \
                      form-action 'none'; frame-ancestors 'none'";
/// The page, its script and its style, by path.
const PAGES: &[(&str, &str, &str)] = &[
    (
        "/",
        "text/html; charset=utf-8",
        include_str!("../../dashboard/index.html"),
    ),
    (
        "/app.js",
        "text/javascript; charset=utf-8",
        include_str!("../../dashboard/app.js"),
    ),
    (
        "/style.css",
        "text/css; charset=utf-8",
        include_str!("../../dashboard/style.css"),
    ),
];
/// Longest body that a request may bring; nothing here reads one.
const BODY_BYTES_MAX: u64 = 16 * 1024;

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
        for (name, value) in [
            (CACHE_CONTROL, "no-store"),
            (CONTENT_SECURITY_POLICY, POLICY),
            (X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (REFERRER_POLICY, "no-referrer"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        response
    }
}

/// What is asked, as far as an answer depends on it.
struct Asked {
    method: Method,
    uri: Uri,
    /// How long the body is at most; none if it is not said.
    body_bytes: Option<u64>,
}

impl Asked {
    fn of(request: &Request<Incoming>) -> Asked {
        Asked {
            method: request.method().clone(),
            uri: request.uri().clone(),
            body_bytes: request.body().size_hint().upper(),
        }
    }

    /// What nothing here takes is refused, before a byte of a body is read: one of unknown length may be longer too.
    fn check(&self) -> Result<(), Reply> {
        if self.body_bytes.is_none_or(|bytes| bytes > BODY_BYTES_MAX) {
            let why = "nothing here takes more than 16 KiB";
            return Err(Reply::problem(StatusCode::PAYLOAD_TOO_LARGE, why));
        }
        if self.method != Method::GET {
            let why = "nothing here takes anything but GET";
            return Err(Reply::problem(StatusCode::METHOD_NOT_ALLOWED, why));
        }
        Ok(())
    }
}

/// Who answers.
pub(crate) struct Api {
    /// What the follower knows.
    pub(crate) board: Board,
    /// What the node says to the loader.
    pub(crate) witness: Witness,
    /// The nodes of a laboratory; none beside a node.
    pub(crate) inhabitants: Vec<Inhabitant>,
    /// Where the loader listens, if there is one.
    pub(crate) loader: Option<PathBuf>,
    /// Where the node's metrics page is.
    pub(crate) node: Option<SocketAddr>,
    /// The page's address with its token, if it has one.
    pub(crate) dashboard: Option<String>,
    /// What happened.
    pub(crate) past: Log,
    /// Who looks at the page.
    pub(crate) pulse: Pulse,
}

impl Api {
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

    /// Beside a node, not in a laboratory.
    fn is_of_one(&self) -> bool {
        self.inhabitants.is_empty()
    }

    /// How the node fares: by what it says itself, or by its metrics page.
    async fn status(&self, followed: &Followed, now_ms: u64) -> Status {
        let now = Instant::now();
        let page = match (self.witness.page(now), self.node) {
            (Some(said), _) if said.state != State::Down => said,
            (Some(said), None) => said,
            // It spoke once, and does not now: another process, perhaps, that has no connection but its page.
            (Some(said), node) => match page::look(node).await {
                page if page.state == State::Down => said,
                page => page,
            },
            (None, node) => page::look(node).await,
        };
        let node = self.witness.status(now);
        let rates = node.as_ref().and_then(|_| self.witness.rates());
        let mut status = status(followed, node.as_deref(), now_ms, page, self.is_of_one());
        status.rates = rates;
        if !self.is_of_one() {
            status.warnings = laboratory::warnings(&self.inhabitants, followed, now);
        }
        let medians = medians_ms(&followed.clocks, unix_ms(), boot_ms());
        status.clock = medians.map(|medians| Clock::of(medians, followed.parameters.round_ms()));
        let told = status.clock.filter(|clock| clock.is_told());
        status.warnings.extend(told.map(Clock::words));
        status
    }

    fn workers(&self) -> Option<Workers> {
        let node = self.witness.status(Instant::now())?;
        Some(workers(&node))
    }

    fn loops(&self, followed: &Followed) -> Option<Loops> {
        let node = self.witness.status(Instant::now())?;
        Some(measured::loops(&node, followed, self.witness.loss()))
    }

    /// All that the page shows, of one moment.
    async fn updates(&self, followed: &Followed, now_ms: u64) -> Updates {
        let node = self.witness.status(Instant::now());
        let status = self.status(followed, now_ms).await;
        let epochs = epochs(followed, node.as_deref(), now_ms);
        let (nodes, flows) = self.seen(followed, &status, now_ms);
        Updates {
            seq: self.pulse.next(),
            unix_ms: now_ms,
            events: self.note(&status, &epochs, &nodes),
            status,
            epochs,
            flows,
            nodes,
            workers: self.workers(),
            loops: self.loops(followed),
            drops: self.drops(routes::DROPS).await,
        }
    }

    /// Notes what has changed, so that who comes later finds it with its time.
    async fn look(&self) {
        let (followed, now_ms) = (self.board.read(), unix_ms());
        let node = self.witness.status(Instant::now());
        let status = self.status(&followed, now_ms).await;
        let epochs = epochs(&followed, node.as_deref(), now_ms);
        let (nodes, _) = self.seen(&followed, &status, now_ms);
        self.note(&status, &epochs, &nodes);
    }

    fn note(&self, status: &Status, epochs: &Epochs, nodes: &[Seen]) -> Vec<Event> {
        let who = match self.is_of_one() {
            true => "the node",
            false => "the laboratory",
        };
        self.past.note(who, status, epochs, nodes)
    }

    /// The nodes of the document in force, and the traffic between their layers.
    fn seen(&self, followed: &Followed, status: &Status, now_ms: u64) -> (Vec<Seen>, Vec<Flow>) {
        let own = followed.own.as_ref().map(|own| own.identity);
        let (all, now) = (&self.inhabitants, Instant::now());
        let epoch = followed.parameters.epoch_at(now_ms);
        seen(followed, epoch, |node| match own == Some(node.identity) {
            true => Some((status.state, status.rates)),
            false => laboratory::fares(all, &node.operator, now),
        })
    }

    /// What the node, the kernel before it and the XDP program dropped; none if neither is known of.
    async fn drops(&self, since: Duration) -> Option<Drops> {
        let xdp = self.xdp().await.ok();
        let (over_s, mut drops) = self.witness.drops(since);
        if xdp.is_none() {
            self.witness.status(Instant::now())?;
        }
        let packets = xdp.into_iter().flat_map(|xdp| xdp.interfaces);
        for (reason, total) in packets.flat_map(|interface| interface.packets) {
            let of = meaning::find(Source::Xdp, &reason).filter(|_| total > 0);
            let told = of.map(|of| witness::told(Source::Xdp, &reason, total, None, Some(of)));
            drops.extend(told);
        }
        drops.sort_by(|a, b| {
            let per_s = |drop: &shapes::Drop| drop.per_s.unwrap_or(0.0);
            per_s(b).total_cmp(&per_s(a)).then(b.total.cmp(&a.total))
        });
        Some(Drops { over_s, drops })
    }

    /// What the loader says of the XDP program.
    async fn xdp(&self) -> Result<Xdp, String> {
        let Some(socket) = self.loader.clone() else {
            return Err(
                "this mixctld loads no XDP program: give its configuration [xdp]".to_owned(),
            );
        };
        // Its socket is read without a runtime, on the one thread that there is for such things.
        let asked = tokio::task::spawn_blocking(move || {
            let status = loader::ask(&socket, &protocol::Request::Status)?;
            Ok::<_, loader::LoaderError>((status, loader::ask(&socket, &protocol::Request::Stats)?))
        });
        let answered = tokio::time::timeout(LOADER, asked).await;
        let (status, stats) = match answered {
            Ok(Ok(Ok((
                Said::Status { interfaces },
                Said::Stats {
                    interfaces: counted,
                },
            )))) => (interfaces, counted),
            Ok(Ok(Err(error))) => return Err(error.to_string()),
            _ => return Err("the loader does not answer".to_owned()),
        };
        let packets = |name: &str| {
            let of = stats.iter().find(|stats| stats.interface == name);
            of.map(|of| of.packets.clone()).unwrap_or_default()
        };
        let interfaces = status.into_iter().map(|status| Interface {
            packets: packets(&status.interface),
            status,
        });
        Ok(Xdp {
            interfaces: interfaces.collect(),
        })
    }
}
