//! The management address: a few connections at a time, each with so much time in all, whatever it does with it.
//!
//! One thread and one poll loop. A connection that sends nothing, or a byte now and then, costs its place until its
//! time is over; of too many, the one that has not asked for longest gives way to the newest.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::Sources;
use super::usage::Usage;

/// Connections at a time.
pub const CONNECTIONS_MAX: usize = 32;
/// From being accepted to the last byte of the answer.
pub const DEADLINE: Duration = Duration::from_secs(2);
/// Requests are one line and some headers; no more is read.
const REQUEST_BYTES_MAX: usize = 4096;
/// A request to stop is seen so soon.
const TICK: Duration = Duration::from_millis(50);

/// The bound address, with what is read beside the node's own counters.
pub struct Listener {
    socket: TcpListener,
    usage: Usage,
}

impl Listener {
    /// Binds the management address, and opens what a confined process could not.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn bind(address: SocketAddr) -> io::Result<Listener> {
        let socket = TcpListener::bind(address)?;
        socket.set_nonblocking(true)?;
        Ok(Listener {
            socket,
            usage: Usage::open()?,
        })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Serves until `stop`.
    pub fn serve(&self, sources: &Sources, stop: &AtomicBool) {
        let answer = |request: &[u8]| answer(request, sources, &self.usage);
        // By age.
        let mut connections: Vec<Connection> = Vec::with_capacity(CONNECTIONS_MAX);
        while !stop.load(Ordering::Relaxed) {
            self.wait(&connections);
            connections.retain_mut(|connection| connection.advance(&answer));
            // As many as there is room for, so that no flood of them holds up those that are here.
            for _ in 0..CONNECTIONS_MAX {
                let Ok((stream, _)) = self.socket.accept() else {
                    break;
                };
                let Ok(mut connection) = Connection::new(stream) else {
                    continue;
                };
                if !connection.advance(&answer) {
                    continue;
                }
                if connections.len() >= CONNECTIONS_MAX {
                    let idle = connections.iter().position(Connection::has_not_asked);
                    connections.remove(idle.unwrap_or(0));
                }
                connections.push(connection);
            }
        }
    }

    /// Waits for something to do, no longer than a tick.
    fn wait(&self, connections: &[Connection]) {
        let mut polled = vec![PollFd::new(&self.socket, PollFlags::IN)];
        polled.extend(connections.iter().map(|connection| {
            let flags = if connection.is_writing() {
                PollFlags::OUT
            } else {
                PollFlags::IN
            };
            PollFd::new(&connection.stream, flags)
        }));
        let tick = Timespec {
            tv_sec: 0,
            tv_nsec: i64::from(TICK.subsec_nanos()),
        };
        if poll(&mut polled, Some(&tick)).is_err() {
            std::thread::sleep(TICK);
        }
    }
}

struct Connection {
    stream: TcpStream,
    until: Instant,
    request: Vec<u8>,
    /// Empty until the request is here.
    answer: Vec<u8>,
    written: usize,
}

impl Connection {
    fn new(stream: TcpStream) -> io::Result<Connection> {
        stream.set_nonblocking(true)?;
        Ok(Connection {
            stream,
            until: Instant::now() + DEADLINE,
            request: Vec::new(),
            answer: Vec::new(),
            written: 0,
        })
    }

    fn has_not_asked(&self) -> bool {
        self.answer.is_empty()
    }

    fn is_writing(&self) -> bool {
        self.written < self.answer.len()
    }

    /// Goes on as far as it can without waiting; false when it is over.
    fn advance(&mut self, answer: &dyn Fn(&[u8]) -> Vec<u8>) -> bool {
        if Instant::now() >= self.until {
            return false;
        }
        match self.step(answer) {
            Ok(over) => !over,
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
        }
    }

    /// Reads the request, then writes the answer; true when the other side has taken it.
    fn step(&mut self, answer: &dyn Fn(&[u8]) -> Vec<u8>) -> io::Result<bool> {
        let mut part = [0; 512];
        while self.answer.is_empty() {
            match self.stream.read(&mut part)? {
                0 => return Ok(true),
                count => self
                    .request
                    .extend_from_slice(part.get(..count).unwrap_or_default()),
            }
            if is_whole(&self.request) || self.request.len() > REQUEST_BYTES_MAX {
                self.answer = answer(&self.request);
            }
        }
        while self.is_writing() {
            let rest = self.answer.get(self.written..).unwrap_or_default();
            match self.stream.write(rest)? {
                0 => return Ok(true),
                count => self.written += count,
            }
        }
        // What a request has too much is read away: closing before would take the answer back. Little at a time: there may be
        // no end to it, and others wait.
        self.stream.shutdown(Shutdown::Write)?;
        for _ in 0..REQUEST_BYTES_MAX / part.len() {
            if self.stream.read(&mut part)? == 0 {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Whether the empty line after the headers is here.
fn is_whole(request: &[u8]) -> bool {
    let ends = |end: &[u8]| request.windows(end.len()).any(|window| window == end);
    ends(b"\r\n\r\n") || ends(b"\n\n")
}

const TEXT: &str = "text/plain; charset=utf-8";
const EXPOSITION: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The answer to a request, whole.
fn answer(request: &[u8], sources: &Sources, usage: &Usage) -> Vec<u8> {
    let line = request.split(|byte| *byte == b'\n').next();
    let line = String::from_utf8_lossy(line.unwrap_or_default());
    let mut words = line.split_whitespace();
    let (method, target) = (words.next().unwrap_or_default(), words.next());
    let path = target.map(|target| target.split('?').next().unwrap_or_default());
    let said = |verdict: Result<(), String>| match verdict {
        Ok(()) => ("200 OK", TEXT, "ok\n".to_owned()),
        Err(why) => ("503 Service Unavailable", TEXT, format!("{why}\n")),
    };
    let (status, kind, body) = match (method, path) {
        _ if !is_whole(request) => (
            "431 Request Header Fields Too Large",
            TEXT,
            "too long\n".to_owned(),
        ),
        ("GET" | "HEAD", Some("/metrics")) => ("200 OK", EXPOSITION, sources.render(Some(usage))),
        ("GET" | "HEAD", Some("/healthz")) => said(sources.health()),
        ("GET" | "HEAD", Some("/readyz")) => {
            let missing = sources.missing();
            said(missing.is_empty().then_some(()).ok_or(missing.join("\n")))
        }
        ("GET" | "HEAD", Some(_)) => (
            "404 Not Found",
            TEXT,
            "there are /metrics, /healthz and /readyz\n".to_owned(),
        ),
        (_, Some(_)) => (
            "405 Method Not Allowed",
            TEXT,
            "GET and HEAD are answered\n".to_owned(),
        ),
        (_, None) => ("400 Bad Request", TEXT, "no request\n".to_owned()),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let mut answer = head.into_bytes();
    if method != "HEAD" {
        answer.extend(body.into_bytes());
    }
    answer
}
