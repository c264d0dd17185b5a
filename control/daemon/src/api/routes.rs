//! What there is to ask for: the router and the API's description are made of one list.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use serde::Serialize;
use utoipa::PartialSchema;
use utoipa::ToSchema;
use utoipa::openapi::path::{OperationBuilder, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{ComponentsBuilder, Schema};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    ContentBuilder, HttpMethod, InfoBuilder, OpenApiBuilder, PathItem, PathsBuilder, Ref, RefOr,
    Required, ResponseBuilder,
};

use super::known::{epochs, no_document};
use super::shapes::{
    Dashboard, Document, Drops, Epochs, Loops, Nodes, Problem, Status, Updates, Workers, Xdp,
};
use super::{Api, Asked, EXPOSITION, JSON, PAGES, PROBLEM, Reply, TEXT, exposition, gate, socket};
use crate::board::{Document as Held, Followed};
use crate::clock::unix_ms;

/// What rates of drops are taken over unless `since=SECONDS` says otherwise; an hour is the most that is remembered.
pub(super) const DROPS: Duration = Duration::from_secs(60);
const DROPS_S_MAX: u64 = 3_600;
/// Where the description is.
pub(super) const DESCRIPTION: &str = "/api/v1/openapi.json";

/// Why nothing is known of the node's workers.
const UNTOLD: &str = "the node says nothing to mixctld: it is down, or has no connection (on another port than xsk it has one \
                      with [keys] vault = true)";

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route {
    Metrics,
    NodeMetrics,
    Healthz,
    Readyz,
    Status,
    Nodes,
    Consensus,
    Epochs,
    Workers,
    Drops,
    Loops,
    Xdp,
    Updates,
    Socket,
    Dashboard,
    Description,
}

/// All of them, each with what it is in a sentence.
const ROUTES: &[(&str, Route, &str)] = &[
    (
        "/metrics",
        Route::Metrics,
        "The daemon's own metrics, for Prometheus",
    ),
    (
        "/metrics/node",
        Route::NodeMetrics,
        "The node's metrics page, passed on",
    ),
    ("/healthz", Route::Healthz, "Whether the daemon answers"),
    (
        "/readyz",
        Route::Readyz,
        "Whether the node would forward a packet now; else what is missing, a line each",
    ),
    ("/api/v1/status", Route::Status, "How the node fares"),
    (
        "/api/v1/nodes",
        Route::Nodes,
        "The nodes of the document in force",
    ),
    (
        "/api/v1/consensus",
        Route::Consensus,
        "The document in force, but for its nodes",
    ),
    (
        "/api/v1/epochs",
        Route::Epochs,
        "Which epoch it is, and the epochs whose documents are held",
    ),
    ("/api/v1/workers", Route::Workers, "The node's workers"),
    (
        "/api/v1/drops",
        Route::Drops,
        "What was dropped, why, and what to do",
    ),
    (
        "/api/v1/loops",
        Route::Loops,
        "The node's own packets that should come back to it",
    ),
    ("/api/v1/xdp", Route::Xdp, "The XDP program, by interface"),
    (
        "/api/v1/updates",
        Route::Updates,
        "All that the dashboard shows, of one moment",
    ),
    (
        socket::SOCKET,
        Route::Socket,
        "The same once a second, each a text of a WebSocket whose subprotocols are fogmix.v1 and, over TCP, token. with the \
         token; who reads more slowly misses some, and eight are open at most",
    ),
    (
        "/api/v1/dashboard",
        Route::Dashboard,
        "Where the dashboard is, with the token that opens it",
    ),
    (DESCRIPTION, Route::Description, "This description"),
];

/// Types by their names in the description.
type Schemas = Vec<(String, RefOr<Schema>)>;

/// Describes a type and all that it is made of.
fn describe<T: ToSchema>(schemas: &mut Schemas) -> String {
    let name = T::name().into_owned();
    schemas.push((name.clone(), T::schema()));
    T::schemas(schemas);
    name
}

impl Route {
    fn at(path: &str) -> Option<Route> {
        let mut routes = ROUTES.iter();
        routes.find_map(|(at, route, _)| (*at == path).then_some(*route))
    }

    /// The name of the type that it answers with, which is then described; none if that is no JSON of ours.
    fn json(self, schemas: &mut Schemas) -> Option<String> {
        let describe = match self {
            Route::Status => describe::<Status>,
            Route::Nodes => describe::<Nodes>,
            Route::Consensus => describe::<Document>,
            Route::Epochs => describe::<Epochs>,
            Route::Workers => describe::<Workers>,
            Route::Drops => describe::<Drops>,
            Route::Loops => describe::<Loops>,
            Route::Xdp => describe::<Xdp>,
            Route::Updates => describe::<Updates>,
            Route::Dashboard => describe::<Dashboard>,
            Route::Metrics
            | Route::NodeMetrics
            | Route::Healthz
            | Route::Readyz
            | Route::Socket
            | Route::Description => return None,
        };
        Some(describe(schemas))
    }

    /// Its description.
    fn operation(self, path: &str, summary: &str, schemas: &mut Schemas) -> OperationBuilder {
        let answer = ResponseBuilder::new().description(summary);
        let told = match self.json(schemas) {
            Some(name) => {
                let schema = ContentBuilder::new().schema(Some(Ref::from_schema_name(name)));
                ("200", answer.content(JSON, schema.build()))
            }
            None if self == Route::Socket => ("101", answer),
            None if self == Route::Description => {
                ("200", answer.content(JSON, ContentBuilder::new().build()))
            }
            None => {
                let schema = ContentBuilder::new().schema(Some(String::schema()));
                ("200", answer.content("text/plain", schema.build()))
            }
        };
        let problem = ContentBuilder::new().schema(Some(Ref::from_schema_name(Problem::name())));
        let refused = ResponseBuilder::new()
            .description("An error, after RFC 9457: what is wrong, and what to do")
            .content(PROBLEM, problem.build());
        let operation = OperationBuilder::new()
            .summary(Some(summary))
            .response(told.0, told.1.build())
            .response("default", refused.build());
        let operation = match self {
            Route::Readyz => {
                let reasons = ContentBuilder::new().schema(Some(String::schema()));
                let not_ready = ResponseBuilder::new()
                    .description("Not ready: why, a reason a line")
                    .content("text/plain", reasons.build());
                operation.response("503", not_ready.build())
            }
            Route::Drops => operation.parameter(
                ParameterBuilder::new()
                    .name("since")
                    .parameter_in(ParameterIn::Query)
                    .required(Required::False)
                    .description(Some("Over how many seconds rates are taken, 1 to 3600; 60 unless said otherwise"))
                    .schema(Some(u32::schema())),
            ),
            _ => operation,
        };
        match gate::is_open(path) {
            true => operation.securities(Some([])),
            false => operation.security(SecurityRequirement::new("token", [""; 0])),
        }
    }
}

/// The description of all of them, for whoever writes a program that asks.
static OPENAPI: LazyLock<Bytes> = LazyLock::new(|| {
    let mut schemas = Schemas::new();
    describe::<Problem>(&mut schemas);
    let mut paths = PathsBuilder::new();
    for (path, route, summary) in ROUTES {
        let operation = route.operation(path, summary, &mut schemas);
        paths = paths.path(*path, PathItem::new(HttpMethod::Get, operation.build()));
    }
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
    let components = ComponentsBuilder::new()
        .schemas_from_iter(schemas)
        .security_scheme("token", SecurityScheme::Http(bearer));
    let info = InfoBuilder::new()
        .title("mixctld")
        .version(directory::version())
        .description(Some(
            "How the node beside this daemon fares, and the network that it is in. Over TCP the token decides, on the socket \
             the peer's user.",
        ));
    let whole = OpenApiBuilder::new()
        .info(info.build())
        .paths(paths.build())
        .components(Some(components.build()));
    // No key of a map in it is anything but text.
    Bytes::from(whole.build().to_json().unwrap_or_default())
});

impl Api {
    /// Answers a request, or makes a WebSocket of it.
    pub(super) async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let asked = Asked::of(&request);
        let reply = match asked.check() {
            Err(reply) => reply,
            Ok(()) if asked.uri.path() == socket::SOCKET => match socket::open(self, request) {
                Ok(response) => return response,
                Err(reply) => reply,
            },
            Ok(()) => {
                drop(request);
                self.reply(&asked).await
            }
        };
        reply.into_response()
    }

    async fn reply(&self, asked: &Asked) -> Reply {
        let path = asked.uri.path();
        if let Some((_, kind, body)) = PAGES.iter().find(|(at, ..)| *at == path) {
            return good(kind, Bytes::from_static(body.as_bytes()));
        }
        let Some(route) = Route::at(path) else {
            let paths: Vec<&str> = ROUTES.iter().map(|(path, ..)| *path).collect();
            let detail = format!("there are / and {}", paths.join(", "));
            return Reply::problem(StatusCode::NOT_FOUND, &detail);
        };
        let (followed, now_ms) = (self.board.read(), unix_ms());
        match route {
            Route::Metrics => {
                let status = self.status(&followed, now_ms).await;
                good(EXPOSITION, exposition::render(&status).into())
            }
            Route::NodeMetrics => self.pass_on().await,
            Route::Healthz => text(StatusCode::OK, "ok"),
            Route::Readyz => {
                let status = self.status(&followed, now_ms).await;
                match status.is_ready() {
                    true => text(StatusCode::OK, "ok"),
                    false => text(
                        StatusCode::SERVICE_UNAVAILABLE,
                        &status.not_ready.join("\n"),
                    ),
                }
            }
            Route::Status => Reply::json(&self.status(&followed, now_ms).await),
            Route::Nodes => of_document(&followed, now_ms, Nodes::of),
            Route::Consensus => of_document(&followed, now_ms, Document::of),
            Route::Epochs => {
                let node = self.witness.status(Instant::now());
                Reply::json(&epochs(&followed, node.as_deref(), now_ms))
            }
            Route::Workers => of_node(self.workers()),
            Route::Loops => of_node(self.loops(&followed)),
            Route::Drops => match since(asked.uri.query().unwrap_or_default()) {
                Ok(since) => of_node(self.drops(since).await),
                Err(why) => Reply::problem(StatusCode::BAD_REQUEST, why),
            },
            Route::Xdp => match self.xdp().await {
                Ok(xdp) => Reply::json(&xdp),
                Err(why) => Reply::problem(StatusCode::SERVICE_UNAVAILABLE, &why),
            },
            Route::Updates => Reply::json(&self.updates(&followed, now_ms).await),
            Route::Socket => socket::unasked(),
            Route::Dashboard => match &self.dashboard {
                Some(url) => Reply::json(&Dashboard { url: url.clone() }),
                None => Reply::problem(
                    StatusCode::NOT_FOUND,
                    "this mixctld has no address for a dashboard: set [http] listen = \"127.0.0.1:9102\" and restart it",
                ),
            },
            Route::Description => good(JSON, OPENAPI.clone()),
        }
    }
}

/// Over how long rates are asked for.
fn since(query: &str) -> Result<Duration, &'static str> {
    if query.is_empty() {
        return Ok(DROPS);
    }
    let seconds = query.strip_prefix("since=").and_then(|s| s.parse().ok());
    let seconds = seconds.filter(|s| (1..=DROPS_S_MAX).contains(s));
    let seconds = seconds.map(Duration::from_secs);
    seconds.ok_or("ask with nothing, or with since=SECONDS from 1 to 3600")
}

fn good(kind: &'static str, body: Bytes) -> Reply {
    let status = StatusCode::OK;
    Reply { status, kind, body }
}

fn text(status: StatusCode, body: &str) -> Reply {
    Reply {
        status,
        kind: TEXT,
        body: Bytes::from(format!("{body}\n")),
    }
}

fn of_node<T: Serialize>(told: Option<T>) -> Reply {
    match told {
        Some(told) => Reply::json(&told),
        None => Reply::problem(StatusCode::SERVICE_UNAVAILABLE, UNTOLD),
    }
}

fn of_document<T: Serialize>(
    followed: &Followed,
    now_ms: u64,
    tell: impl FnOnce(&Held) -> T,
) -> Reply {
    match followed.in_force(followed.parameters.epoch_at(now_ms)) {
        Some(held) => Reply::json(&tell(held)),
        None => Reply::problem(StatusCode::SERVICE_UNAVAILABLE, &no_document(followed)),
    }
}
