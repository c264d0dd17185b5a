//! HTTP/1.1 between authorities and nodes, without TLS: everything is signed and public.
//!
//! The server is hyper's own, below axum: rooms are counted at the door ([`rooms`]), and a deadline spans the whole of a
//! connection, which carries one request. So a slow source holds a place for a known time and nothing else.

pub mod client;
pub mod rooms;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{
    CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, DATE, ETAG, HeaderValue, IF_NONE_MATCH,
};
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::time::timeout;

use rooms::{Class, Rooms, Seat};

/// A request's line and fields come in this time.
const HEADER: Duration = Duration::from_secs(5);
/// Its body in this.
const BODY: Duration = Duration::from_secs(10);
/// A connection ends after this, whatever it is at: the largest document on a slow line.
const WHOLE: Duration = Duration::from_secs(60);
/// Bytes of a request's line and fields.
const HEADER_BYTES: usize = 8 * 1024;

/// A request that was read whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Whose connection it came on.
    pub class: Class,
    /// Whether it brings something; else it asks for something.
    pub is_post: bool,
    /// Its path, query cut off.
    pub path: String,
    /// What it brings; empty if it asks.
    pub body: Bytes,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The body: bytes of a document, or one word.
    pub body: Bytes,
    /// The digest of a document, and whether it stays what it is for ever.
    pub tag: Option<([u8; 32], bool)>,
}

impl Answer {
    /// A word, with a status that says what it is about.
    pub fn word(status: StatusCode, word: &str) -> Answer {
        Answer {
            status,
            body: Bytes::copy_from_slice(format!("{word}\n").as_bytes()),
            tag: None,
        }
    }

    /// Bytes.
    pub fn bytes(body: impl Into<Bytes>) -> Answer {
        Answer {
            status: StatusCode::OK,
            body: body.into(),
            tag: None,
        }
    }

    fn into_response(self) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::new(self.body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        let kind = match self.status {
            StatusCode::OK => "application/octet-stream",
            _ => "text/plain",
        };
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        let (digest, immutable) = match self.tag {
            Some((digest, immutable)) => (Some(digest), immutable),
            None => (None, false),
        };
        if let Some(digest) = digest
            && let Ok(tag) = HeaderValue::from_str(&quoted(&digest))
        {
            headers.insert(ETAG, tag);
        }
        let keep = match immutable {
            true => "public, max-age=604800, immutable",
            false => "no-store",
        };
        headers.insert(CACHE_CONTROL, HeaderValue::from_static(keep));
        // hyper's own stays at its last value where the clock is set back.
        let date = httpdate::fmt_http_date(SystemTime::now().max(UNIX_EPOCH));
        if let Ok(date) = HeaderValue::from_str(&date) {
            headers.insert(DATE, date);
        }
        response
    }
}

/// A digest as an entity tag.
fn quoted(digest: &[u8; 32]) -> String {
    format!("\"{}\"", directory::store::hex(digest))
}

/// Who answers.
pub trait Answers: Send + Sync + 'static {
    /// What `class` is told that may not ask for `path`, nor bring anything there.
    fn refuses(&self, path: &str, class: Class) -> Option<Answer>;

    /// How many bytes a request to `path` may bring; none if there is no such route.
    fn body_bytes_max(&self, path: &str) -> Option<usize>;

    /// Answers a request.
    fn answer(&self, asked: Asked) -> impl Future<Output = Answer> + Send;
}

/// Serves until the task is dropped.
pub async fn serve<A: Answers>(listener: TcpListener, rooms: Rooms, answers: Arc<A>) {
    loop {
        let Ok((stream, from)) = listener.accept().await else {
            // Out of descriptors, most likely: connections that end give some back.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let Some(seat) = rooms.enter(from) else {
            continue;
        };
        let answers = Arc::clone(&answers);
        tokio::spawn(async move {
            let class = seat.class();
            let service = service_fn(|request| {
                let answers = Arc::clone(&answers);
                async move {
                    let answer = answer(request, class, answers.as_ref()).await;
                    Ok::<_, Infallible>(answer.into_response())
                }
            });
            converse(stream, WHOLE, service).await;
            drop::<Seat>(seat);
        });
    }
}

/// Has `service` answer the one request of a connection, which ends after `within`, whatever it is at. What is upgraded
/// is a connection no more.
pub(crate) async fn converse<C, S>(stream: C, within: Duration, service: S)
where
    C: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service<Request<Incoming>, Response = Response<Full<Bytes>>, Error = Infallible>,
{
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER)
        .max_buf_size(HEADER_BYTES)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    // How it ends is the other side's business.
    let _ = timeout(within, connection).await;
}

async fn answer<A: Answers>(request: Request<Incoming>, class: Class, answers: &A) -> Answer {
    let path = request.uri().path().to_owned();
    let is_post = request.method() == Method::POST;
    if !is_post && request.method() != Method::GET {
        return Answer::word(StatusCode::METHOD_NOT_ALLOWED, "method");
    }
    if let Some(refused) = answers.refuses(&path, class) {
        return refused;
    }
    let held = request.headers().get(IF_NONE_MATCH).cloned();
    let held = held.and_then(|value| Some(value.to_str().ok()?.to_owned()));
    let mut body = Bytes::new();
    if is_post {
        let Some(most) = answers.body_bytes_max(&path) else {
            return Answer::word(StatusCode::NOT_FOUND, "path");
        };
        let too_large = || Answer::word(StatusCode::PAYLOAD_TOO_LARGE, "too-large");
        let length = request.headers().get(CONTENT_LENGTH);
        let length = length.and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
        if length.is_some_and(|length| length > most) {
            return too_large();
        }
        let read = Limited::new(request.into_body(), most).collect();
        body = match timeout(BODY, read).await {
            Ok(Ok(whole)) => whole.to_bytes(),
            Ok(Err(_)) => return too_large(),
            Err(_) => return Answer::word(StatusCode::REQUEST_TIMEOUT, "slow"),
        };
    }
    let asked = Asked {
        class,
        is_post,
        path,
        body,
    };
    let mut answer = answers.answer(asked).await;
    if held.is_some() && held == answer.tag.map(|(digest, _)| quoted(&digest)) {
        (answer.status, answer.body) = (StatusCode::NOT_MODIFIED, Bytes::new());
    }
    answer
}
