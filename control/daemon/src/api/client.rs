//! Asking the API.

use std::io;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONNECTION, HOST};
use hyper::{Request, StatusCode};
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::shapes::Problem;
use crate::exit::{self, Failure};
use crate::http::client::exchange;

/// Largest answer: 2,048 nodes in words.
const ANSWER_BYTES_MAX: usize = 4 << 20;
/// The daemon gives up before.
const PATIENCE: Duration = Duration::from_secs(15);

/// What the daemon behind `socket` answers to a GET of `route`.
///
/// # Errors
/// Nobody listens there, this user may not ask, there is nothing to answer with yet: each says what to do.
pub fn get<T: DeserializeOwned>(socket: &Path, route: &str) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()?;
    let answered = runtime.block_on(async { timeout(PATIENCE, ask(socket, route)).await });
    let (status, body) = answered.map_err(|_| odd(socket, "no answer in time"))??;
    if status != StatusCode::OK {
        let problem: Problem = serde_json::from_slice(&body)
            .map_err(|_| odd(socket, &format!("answered {status}")))?;
        let code = match status {
            StatusCode::FORBIDDEN => exit::PERMISSION,
            _ => exit::OS,
        };
        return Err(Failure::new(
            code,
            program::visible(problem.detail.as_bytes()),
        ));
    }
    serde_json::from_slice(&body).map_err(|_| {
        odd(
            socket,
            "an answer that this mixctl does not know: is mixctld of the same version?",
        )
    })
}

fn odd(socket: &Path, what: &str) -> Failure {
    Failure::new(exit::OS, format!("mixctld at {}: {what}", socket.display()))
}

async fn ask(socket: &Path, route: &str) -> Result<(StatusCode, Bytes), Failure> {
    let stream = UnixStream::connect(socket).await.map_err(|error| {
        let path = socket.display();
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Failure::new(
                exit::OS,
                format!(
                    "nobody listens at {path}: start mixctld with a section [http] in its configuration, or name its \
                     socket with --socket"
                ),
            ),
            io::ErrorKind::PermissionDenied => Failure::new(
                exit::PERMISSION,
                format!("this user may not use {path}: be root, or a member of the group that [http] names"),
            ),
            _ => odd(socket, &error.to_string()),
        }
    })?;
    let request = Request::builder()
        .uri(route)
        .header(HOST, "localhost")
        .header(CONNECTION, "close")
        .body(Full::new(Bytes::new()))
        .map_err(|error| odd(socket, &error.to_string()))?;
    let (status, answered) = exchange(stream, request, ANSWER_BYTES_MAX)
        .await
        .map_err(|error| odd(socket, &error.to_string()))?;
    Ok((status, answered.body))
}
