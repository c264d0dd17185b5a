//! `/ws/updates`: what the page shows, a text a second over a WebSocket.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{
    CONNECTION, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use hyper::{HeaderMap, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Instant, interval, sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use super::{Api, Reply};

/// Where it is.
pub(super) const SOCKET: &str = "/ws/updates";
/// What is spoken, as a subprotocol; the token comes as another, for a browser sets no other header of a WebSocket.
pub(super) const PROTOCOL: &str = "fogmix.v1";
pub(super) const TOKEN: &str = "token.";
/// What a client may send, none of which is read: a frame, and how many between two of the server's pings.
const FRAME_BYTES_MAX: usize = 1_024;
const FRAMES_MAX: u32 = 64;
/// The largest text: 2,048 nodes in words.
const TEXT_BYTES_MAX: usize = 4 << 20;
/// Between two pings. Whoever answers none for so long, or takes so long for a text, has stopped reading.
const PING: Duration = Duration::from_secs(5);
const SILENCE: Duration = Duration::from_secs(15);
const SEND: Duration = Duration::from_secs(10);

/// Answers a request for a socket: with one, or with why there is none.
pub(super) fn open(api: &Api, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Reply> {
    let key = key(request.headers()).ok_or_else(unasked)?;
    let (seat, news) = api.pulse.join().ok_or_else(|| {
        let why = "eight look already: close a page, or ask GET /api/v1/updates";
        Reply::problem(StatusCode::SERVICE_UNAVAILABLE, why)
    })?;
    let offers = offers(request.headers(), PROTOCOL);
    let upgrade = hyper::upgrade::on(request);
    tokio::spawn(async move {
        // Whoever hangs up before has given the seat back.
        let Ok(upgraded) = upgrade.await else {
            return;
        };
        tell(TokioIo::new(upgraded), news, seat).await;
    });
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, key);
    if offers {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(PROTOCOL));
    }
    Ok(response)
}

/// What is answered to who asks for no WebSocket.
pub(super) fn unasked() -> Reply {
    let why = "this is for WebSockets: GET /api/v1/updates has the same once";
    Reply::problem(StatusCode::BAD_REQUEST, why)
}

/// The answer to the key of who asks for a WebSocket as RFC 6455 (section 4.2.1) wants it.
fn key(headers: &HeaderMap) -> Option<HeaderValue> {
    let is = |name, value: &str| {
        let mut said = headers
            .get_all(name)
            .iter()
            .filter_map(|one| one.to_str().ok());
        said.any(|said| {
            let mut words = said.split(',').map(str::trim);
            words.any(|word| word.eq_ignore_ascii_case(value))
        })
    };
    let wants =
        is(CONNECTION, "upgrade") && is(UPGRADE, "websocket") && is(SEC_WEBSOCKET_VERSION, "13");
    let key = headers.get(SEC_WEBSOCKET_KEY).filter(|_| wants)?;
    HeaderValue::from_str(&derive_accept_key(key.as_bytes())).ok()
}

/// Whether a subprotocol is among those that are offered.
fn offers(headers: &HeaderMap, protocol: &str) -> bool {
    let said = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter();
    let said = said.filter_map(|said| said.to_str().ok());
    said.flat_map(|said| said.split(','))
        .any(|offered| offered.trim() == protocol)
}

/// Sends the newest text as often as there is another, until the client goes, sends too much or reads no more. A text that
/// is replaced before its turn is never sent: nothing queues here.
async fn tell(
    io: impl AsyncRead + AsyncWrite + Unpin,
    mut news: watch::Receiver<Utf8Bytes>,
    _seat: OwnedSemaphorePermit,
) {
    let config = WebSocketConfig::default()
        .max_frame_size(Some(FRAME_BYTES_MAX))
        .max_message_size(Some(FRAME_BYTES_MAX))
        .read_buffer_size(4 * FRAME_BYTES_MAX)
        .write_buffer_size(0)
        .max_write_buffer_size(TEXT_BYTES_MAX);
    let mut socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await;
    let mut pings = interval(PING);
    let mut heard = Instant::now();
    let mut frames = 0;
    loop {
        let message = tokio::select! {
            () = sleep_until(heard + SILENCE) => return,
            frame = socket.next() => match frame {
                Some(Ok(frame)) if !matches!(frame, Message::Close(_)) && frames < FRAMES_MAX => {
                    frames += 1;
                    heard = Instant::now();
                    continue;
                }
                _ => return,
            },
            _ = pings.tick() => {
                frames = 0;
                Message::Ping(Bytes::new())
            }
            changed = news.changed() => match changed {
                Ok(()) => Message::Text(news.borrow_and_update().clone()),
                Err(_) => return,
            },
        };
        if !matches!(timeout(SEND, socket.send(message)).await, Ok(Ok(()))) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use tokio::sync::Semaphore;
    use tokio::time::sleep;

    use super::*;
    use crate::api::tests::web_socket::Client;

    #[test]
    fn a_slow_reader_misses_what_was_replaced_meanwhile_and_has_the_newest_next() {
        const TEXTS: u8 = 20;
        // No kernel buffers half of one.
        const BYTES: usize = 2 << 20;
        let text =
            |number: u8| Utf8Bytes::from(char::from(b'a' + number).to_string().repeat(BYTES));
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        theirs
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let seats = std::sync::Arc::new(Semaphore::new(1));
            let seat = std::sync::Arc::clone(&seats).acquire_owned().await.unwrap();
            let (newest, news) = watch::channel(Utf8Bytes::default());
            let io = tokio::net::UnixStream::from_std(ours).unwrap();
            let telling = tokio::spawn(tell(io, news, seat));
            for number in 0..TEXTS {
                newest.send_replace(text(number));
                sleep(Duration::from_millis(1)).await;
            }
            let reader = std::thread::spawn(move || {
                let mut client = Client(theirs);
                let mut seen = Vec::new();
                while seen.last() != Some(&(b'a' + TEXTS - 1)) {
                    let text = client.text().unwrap();
                    assert_eq!(text.len(), BYTES);
                    seen.push(text[0]);
                }
                seen
            });
            while !reader.is_finished() {
                sleep(Duration::from_millis(10)).await;
            }
            // One was on its way while the others were replaced.
            let seen = reader.join().unwrap();
            assert!(seen.len() <= 2, "{seen:?}");
            telling.await.unwrap();
            assert_eq!(seats.available_permits(), 1);
        });
    }
}
