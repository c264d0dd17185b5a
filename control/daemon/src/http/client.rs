//! Asking authorities.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, ETAG, HOST, HeaderValue};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, lookup_host};
use tokio::time::timeout;

/// Most bytes of a refusal that are shown.
const WORD_BYTES_MAX: usize = 160;

/// Why an authority gave no answer that is of use.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The URL is none that this program speaks to.
    #[error("{0} is no http:// URL")]
    Url(String),
    /// It can't be reached, or broke off.
    #[error("{0}")]
    Network(String),
    /// It took too long.
    #[error("no answer in time")]
    Slow,
    /// It refused; the word says why.
    #[error("refused ({status}): {word}")]
    Refused {
        /// HTTP's status.
        status: u16,
        /// The word.
        word: String,
    },
}

impl AskError {
    /// Whether the other side answered: to ask the same again changes nothing.
    pub fn is_answer(&self) -> bool {
        matches!(self, AskError::Refused { status, .. } if *status < 500 && *status != 408)
    }
}

/// What was answered.
#[derive(Clone, Debug)]
pub struct Answered {
    /// The body.
    pub body: Bytes,
    /// The entity tag, without its quotes.
    pub tag: Option<String>,
}

/// One request, for which a connection is made.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The authority's URL.
    pub url: String,
    /// The path, from `/v1/` on.
    pub path: String,
    /// What to bring; nothing to ask for something.
    pub body: Option<Bytes>,
    /// Where connections come from: an authority is known by its address.
    pub from: Option<IpAddr>,
    /// Most bytes of an answer.
    pub bytes_max: usize,
    /// How long all of it may take.
    pub within: Duration,
}

impl Ask {
    /// Asks.
    ///
    /// # Errors
    /// See [`AskError`].
    pub async fn run(&self) -> Result<Answered, AskError> {
        match timeout(self.within, self.exchange()).await {
            Ok(answered) => answered,
            Err(_) => Err(AskError::Slow),
        }
    }

    /// The same for a thread without a runtime.
    ///
    /// # Errors
    /// See [`AskError`].
    pub fn run_alone(&self) -> Result<Answered, AskError> {
        tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()
            .map_err(network)?
            .block_on(self.run())
    }

    async fn exchange(&self) -> Result<Answered, AskError> {
        let no_url = || AskError::Url(self.url.clone());
        let uri: Uri = self.url.parse().map_err(|_| no_url())?;
        let host = uri.host().filter(|_| uri.scheme_str() == Some("http"));
        let host = host.ok_or_else(no_url)?;
        let authority = uri.authority().map_or(host, |authority| authority.as_str());
        let base = uri.path().trim_end_matches('/');
        let stream = self.connect(host, uri.port_u16().unwrap_or(80)).await?;
        let method = if self.body.is_some() {
            Method::POST
        } else {
            Method::GET
        };
        let host = HeaderValue::from_str(authority).map_err(|_| no_url())?;
        let request = Request::builder()
            .method(method)
            .uri(format!("{base}{}", self.path))
            .header(HOST, host)
            .header(CONNECTION, "close")
            .body(Full::new(self.body.clone().unwrap_or_default()))
            .map_err(|_| no_url())?;
        let (status, answered) = exchange(stream, request, self.bytes_max).await?;
        if status != StatusCode::OK {
            // A stranger's words: no more than a sentence, and none that moves a terminal.
            let body = &answered.body;
            let word = body
                .get(..body.len().min(WORD_BYTES_MAX))
                .unwrap_or_default();
            let word = program::visible(word.trim_ascii());
            let status = status.as_u16();
            return Err(AskError::Refused { status, word });
        }
        Ok(answered)
    }

    async fn connect(&self, host: &str, port: u16) -> Result<tokio::net::TcpStream, AskError> {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let mut last = AskError::Network(format!("{host} has no address"));
        for address in lookup_host((host, port)).await.map_err(network)? {
            let socket = match address {
                SocketAddr::V4(_) => TcpSocket::new_v4(),
                SocketAddr::V6(_) => TcpSocket::new_v6(),
            }
            .map_err(network)?;
            if let Some(from) = self.from.filter(|from| from.is_ipv4() == address.is_ipv4()) {
                socket.bind((from, 0).into()).map_err(network)?;
            }
            match socket.connect(address).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = network(error),
            }
        }
        Err(last)
    }
}

/// Brings one request over a connection, and what was answered with which status; `bytes_max` of it at most.
///
/// # Errors
/// [`AskError::Network`].
pub(crate) async fn exchange<C>(
    stream: C,
    request: Request<Full<Bytes>>,
    bytes_max: usize,
) -> Result<(StatusCode, Answered), AskError>
where
    C: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(network)?;
    let driving = tokio::spawn(connection);
    let answered = async {
        let response = sender.send_request(request).await.map_err(network)?;
        let status = response.status();
        let tag = response.headers().get(ETAG);
        let tag = tag.and_then(|tag| tag.to_str().ok());
        let tag = tag.map(|tag| tag.trim_matches('"').to_owned());
        let body = Limited::new(response.into_body(), bytes_max)
            .collect()
            .await;
        let body = body.map_err(network)?.to_bytes();
        Ok((status, Answered { body, tag }))
    }
    .await;
    driving.abort();
    answered
}

fn network(error: impl std::fmt::Display) -> AskError {
    AskError::Network(error.to_string())
}
