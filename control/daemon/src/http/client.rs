//! Asking authorities.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper::header::{AGE, CONNECTION, DATE, ETAG, HOST, IF_NONE_MATCH};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::clock::{Reading, boot_ms};

/// Most bytes of a refusal that are shown.
const WORD_BYTES_MAX: usize = 160;

/// Why an authority gave no answer that is of use.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
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
        /// What it says of its clock.
        clock: Option<Reading>,
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
    /// The body; empty if what is held is what was asked for.
    pub body: Bytes,
    /// The entity tag, without its quotes.
    pub tag: Option<String>,
    /// What it says of its clock.
    pub clock: Option<Reading>,
}

/// One request, for which a connection is made.
#[derive(Clone, Debug)]
pub struct Ask {
    /// Where the authority is.
    pub to: SocketAddr,
    /// The path, from `/v1/` on.
    pub path: String,
    /// What to bring; nothing to ask for something.
    pub body: Option<Bytes>,
    /// The digest of a document that is held: if it is still the one there, it does not come again.
    pub held: Option<[u8; 32]>,
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
        let stream = self.connect().await.map_err(network)?;
        let method = if self.body.is_some() {
            Method::POST
        } else {
            Method::GET
        };
        let mut request = Request::builder()
            .method(method)
            .uri(&self.path)
            .header(HOST, self.to.to_string())
            .header(CONNECTION, "close");
        if let Some(held) = &self.held {
            request = request.header(IF_NONE_MATCH, super::quoted(held));
        }
        let request = request
            .body(Full::new(self.body.clone().unwrap_or_default()))
            .map_err(network)?;
        let (status, answered) = exchange(stream, request, self.bytes_max).await?;
        if status != StatusCode::OK && status != StatusCode::NOT_MODIFIED {
            // A stranger's words: no more than a sentence, and none that moves a terminal.
            let body = &answered.body;
            let word = body
                .get(..body.len().min(WORD_BYTES_MAX))
                .unwrap_or_default();
            let word = program::visible(word.trim_ascii());
            let status = status.as_u16();
            let clock = answered.clock;
            return Err(AskError::Refused {
                status,
                word,
                clock,
            });
        }
        Ok(answered)
    }

    async fn connect(&self) -> io::Result<TcpStream> {
        let socket = match self.to {
            SocketAddr::V4(_) => TcpSocket::new_v4(),
            SocketAddr::V6(_) => TcpSocket::new_v6(),
        }?;
        if let Some(from) = self.from.filter(|from| from.is_ipv4() == self.to.is_ipv4()) {
            socket.bind((from, 0).into())?;
        }
        socket.connect(self.to).await
    }
}

/// Reads an authority's URL as people write it: `http://ADDRESS:PORT`.
///
/// # Errors
/// A sentence that says what it has to be. A name is refused: whoever resolves it could be lied to, and would wait for it.
pub fn parse_url(text: &str) -> Result<SocketAddr, String> {
    let is_form = "an authority's URL is http://ADDRESS:PORT, without TLS or a path";
    let place = text.strip_prefix("http://").ok_or(is_form)?;
    match place.parse() {
        Ok(address) => Ok(address),
        Err(_)
            if place.contains(|letter: char| letter.is_ascii_alphabetic())
                && !place.contains(['[', '/']) =>
        {
            Err(format!(
                "{place} is a name: give the address, as in http://192.0.2.1:7070. Who resolves names can lie, and has to be waited for"
            ))
        }
        Err(_) => Err(is_form.to_owned()),
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
    let asked_ms = boot_ms();
    let answered = async {
        let response = sender.send_request(request).await.map_err(network)?;
        let status = response.status();
        let tag = response.headers().get(ETAG);
        let tag = tag.and_then(|tag| tag.to_str().ok());
        let tag = tag.map(|tag| tag.trim_matches('"').to_owned());
        // With an age it is a cache's, and the date that of the answer it keeps.
        let is_kept = response.headers().contains_key(AGE);
        let date = response.headers().get(DATE).filter(|_| !is_kept);
        let date = date.and_then(|date| httpdate::parse_http_date(date.to_str().ok()?).ok());
        let clock = date.and_then(|date| Reading::new(date, asked_ms, boot_ms()));
        let body = Limited::new(response.into_body(), bytes_max)
            .collect()
            .await;
        let body = body.map_err(network)?.to_bytes();
        Ok((status, Answered { body, tag, clock }))
    }
    .await;
    driving.abort();
    answered
}

fn network(error: impl std::fmt::Display) -> AskError {
    AskError::Network(error.to_string())
}
