//! Who may ask what over TCP: a browser's other pages may not, nor who has no token.

use std::net::SocketAddr;
use std::time::Instant;

use hyper::header::{AUTHORIZATION, HOST, ORIGIN, SEC_WEBSOCKET_PROTOCOL};
use hyper::{HeaderMap, StatusCode};

use super::Reply;
use super::routes::DESCRIPTION;
use super::socket::{SOCKET, TOKEN};
use super::token::{Shown, Token};

/// What anyone on this host may see who reaches the address: the page, which shows nothing without a token, what probes and
/// scrapers read, and what there is to ask for.
const OPEN: &[&str] = &[
    "/",
    "/app.js",
    "/style.css",
    "/healthz",
    "/readyz",
    DESCRIPTION,
];
const METRICS: &[&str] = &["/metrics", "/metrics/node"];

/// Whether a path wants no token, at an address of this host alone.
pub(super) fn is_open(path: &str) -> bool {
    OPEN.contains(&path) || METRICS.contains(&path)
}

/// The rules of one address.
pub(super) struct Gate {
    token: Token,
    /// Names that this address is known by, without a port.
    hosts: Vec<String>,
    /// It can be reached from elsewhere: then the metrics want the token too.
    is_remote: bool,
}

impl Gate {
    /// Of `listen`, known by `names` beside its own address and what loopback is called.
    pub(super) fn new(token: Token, listen: SocketAddr, names: &[String]) -> Gate {
        let own = match listen.ip() {
            std::net::IpAddr::V4(ip) => ip.to_string(),
            std::net::IpAddr::V6(ip) => format!("[{ip}]"),
        };
        let usual = ["localhost", "127.0.0.1", "[::1]"].map(str::to_owned);
        let names = names.iter().map(|name| name.to_ascii_lowercase());
        Gate {
            token,
            hosts: usual.into_iter().chain([own]).chain(names).collect(),
            is_remote: !listen.ip().is_loopback(),
        }
    }

    /// Whether a request may be answered.
    pub(super) fn admit(&self, path: &str, headers: &HeaderMap, now: Instant) -> Result<(), Reply> {
        let host = one(headers, &HOST).filter(|host| self.knows(host));
        let Some(host) = host else {
            // Another site's name that leads here would make its page one of ours.
            let why =
                "this address is not known by that Host: name it in [http] hosts, or use localhost";
            return Err(Reply::problem(StatusCode::FORBIDDEN, why));
        };
        if headers.contains_key(ORIGIN)
            && one(headers, &ORIGIN) != Some(format!("http://{host}").as_str())
        {
            let why = "another site's page may not ask here";
            return Err(Reply::problem(StatusCode::FORBIDDEN, why));
        }
        let is_open = OPEN.contains(&path) || (METRICS.contains(&path) && !self.is_remote);
        if is_open {
            return Ok(());
        }
        let shown = match path {
            // A browser sets no other header of a WebSocket.
            SOCKET => one(headers, &SEC_WEBSOCKET_PROTOCOL).and_then(|said| {
                let mut said = said.split(',').map(str::trim);
                said.find_map(|protocol| protocol.strip_prefix(TOKEN))
            }),
            _ => one(headers, &AUTHORIZATION).and_then(|said| said.strip_prefix("Bearer ")),
        };
        match self.token.check(shown, now) {
            Shown::Right => Ok(()),
            Shown::Wrong => Err(Reply::problem(
                StatusCode::UNAUTHORIZED,
                "show the token as `Authorization: Bearer`, at /ws/updates as a subprotocol `token.…`: mixctl dashboard prints it",
            )),
            Shown::TooOften => Err(Reply::problem(
                StatusCode::TOO_MANY_REQUESTS,
                "too many wrong tokens: wait a second",
            )),
        }
    }

    fn knows(&self, host: &str) -> bool {
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
            _ => host,
        };
        let name = name.to_ascii_lowercase();
        self.hosts.contains(&name)
    }

    /// The token's digits.
    pub(super) fn token(&self) -> &str {
        self.token.digits()
    }
}

/// A header that is there once, as text.
fn one<'a>(headers: &'a HeaderMap, name: &hyper::header::HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    fn gate(listen: &str) -> Gate {
        let token = Token::of("ab".repeat(32).as_bytes()).unwrap();
        Gate::new(token, listen.parse().unwrap(), &["Node.Example".to_owned()])
    }

    fn headers(of: &[(hyper::header::HeaderName, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in of {
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    fn status(gate: &Gate, path: &str, of: &[(hyper::header::HeaderName, &str)]) -> u16 {
        // All of a test's in one second.
        static NOW: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
        let now = *NOW.get_or_init(Instant::now);
        let admitted = gate.admit(path, &headers(of), now);
        admitted.map_or_else(|reply| reply.status.as_u16(), |()| 200)
    }

    #[test]
    fn a_foreign_host_or_origin_sees_nothing_at_all() {
        let gate = gate("127.0.0.1:9102");
        for host in [
            "localhost",
            "LOCALHOST:9102",
            "127.0.0.1:1",
            "[::1]:9102",
            "[::1]",
            "node.example:80",
        ] {
            assert_eq!(status(&gate, "/", &[(HOST, host)]), 200, "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example:9102",
            "",
            "192.0.2.1",
        ] {
            assert_eq!(status(&gate, "/", &[(HOST, host)]), 403, "{host}");
        }
        assert_eq!(status(&gate, "/", &[]), 403);
        let twice = [(HOST, "localhost"), (HOST, "localhost")];
        assert_eq!(status(&gate, "/", &twice), 403);
        let from = |origin| status(&gate, "/", &[(HOST, "localhost:9102"), (ORIGIN, origin)]);
        assert_eq!(from("http://localhost:9102"), 200);
        for origin in [
            "http://localhost",
            "https://localhost:9102",
            "null",
            "http://evil.example",
        ] {
            assert_eq!(from(origin), 403, "{origin}");
        }
    }

    #[test]
    fn what_is_not_open_to_all_wants_the_token() {
        let gate = gate("127.0.0.1:9102");
        let with = |path: &str, said: &str| {
            status(&gate, path, &[(HOST, "localhost"), (AUTHORIZATION, said)])
        };
        let right = format!("Bearer {}", "ab".repeat(32));
        for path in [
            "/api/v1/status",
            "/api/v1/updates",
            "/nothing",
            "/api/v1/token",
        ] {
            assert_eq!(with(path, &right), 200);
            assert_eq!(with(path, &"ab".repeat(32)), 401);
        }
        assert_eq!(status(&gate, "/api/v1/status", &[(HOST, "localhost")]), 401);
        let many = (0..40).map(|_| with("/api/v1/status", "Bearer x"));
        assert!(many.into_iter().any(|status| status == 429));
        assert_eq!(with("/api/v1/status", &right), 200);
        for path in ["/", "/healthz", "/readyz", "/metrics", "/metrics/node"] {
            assert_eq!(status(&gate, path, &[(HOST, "localhost")]), 200);
        }
    }

    #[test]
    fn an_address_that_others_reach_wants_it_for_metrics_too() {
        let gate = gate("192.0.2.1:9102");
        assert_eq!(status(&gate, "/metrics", &[(HOST, "192.0.2.1:9102")]), 401);
        assert_eq!(status(&gate, "/readyz", &[(HOST, "192.0.2.1:9102")]), 200);
    }
}
