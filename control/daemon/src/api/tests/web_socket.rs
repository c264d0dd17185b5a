//! A client of WebSockets, by hand: enough for tests, and for what they must not do.
#![allow(dead_code)] // Each test uses a part of it.

use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

pub const TEXT: u8 = 1;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;
pub const PONG: u8 = 10;

/// An open one.
pub struct Client<S>(pub S);

impl<S: Read + Write> Client<S> {
    /// Asks for an upgrade with these fields, whose lines end in `|`; else what is answered, to its end.
    pub fn open(mut stream: S, path: &str, fields: &str) -> Result<Client<S>, String> {
        let request = format!(
            "GET {path} HTTP/1.1|connection: upgrade|upgrade: websocket|sec-websocket-version: 13|\
             sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==|{fields}|"
        );
        // Whoever hangs up in the middle has answered already.
        let _ = stream.write_all(request.replace('|', "\r\n").as_bytes());
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
            head.extend(byte);
        }
        let head = String::from_utf8(head).unwrap();
        if head.starts_with("HTTP/1.1 101 ") {
            return Ok(Client(stream));
        }
        let mut body = Vec::new();
        let _ = stream.read_to_end(&mut body);
        Err(head + &String::from_utf8_lossy(&body))
    }

    /// The next frame: its kind and what it brings.
    pub fn frame(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let mut head = [0; 2];
        self.0.read_exact(&mut head)?;
        assert_eq!(head[1] & 0x80, 0, "a server masks nothing");
        let length = match head[1] {
            126 => {
                let mut length = [0; 2];
                self.0.read_exact(&mut length)?;
                u64::from(u16::from_be_bytes(length))
            }
            127 => {
                let mut length = [0; 8];
                self.0.read_exact(&mut length)?;
                u64::from_be_bytes(length)
            }
            length => length.into(),
        };
        let mut bytes = vec![0; usize::try_from(length).unwrap()];
        self.0.read_exact(&mut bytes)?;
        Ok((head[0] & 15, bytes))
    }

    /// Sends a frame, masked with zeros.
    pub fn send(&mut self, kind: u8, bytes: &[u8]) -> io::Result<()> {
        let mut frame = vec![0x80 | kind];
        match u8::try_from(bytes.len()) {
            Ok(length @ 0..126) => frame.push(0x80 | length),
            _ => {
                frame.push(0x80 | 126);
                frame.extend(u16::try_from(bytes.len()).unwrap().to_be_bytes());
            }
        }
        frame.extend([0; 4]);
        frame.extend(bytes);
        self.0.write_all(&frame)
    }

    /// The next text; pings on the way are answered.
    pub fn text(&mut self) -> io::Result<Vec<u8>> {
        loop {
            match self.frame()? {
                (TEXT, text) => return Ok(text),
                (PING, bytes) => self.send(PONG, &bytes)?,
                (kind, _) => return Err(io::Error::other(format!("frame of kind {kind}"))),
            }
        }
    }

    /// Reads until the server has hung up; one that never does fails the test, whether it goes on or falls silent.
    pub fn drain(&mut self) {
        let began = Instant::now();
        loop {
            match self.frame() {
                Ok((CLOSE, _)) => return,
                Ok(_) => assert!(began.elapsed() < Duration::from_secs(60), "still there"),
                Err(error) => {
                    let is_silent = error.kind() == io::ErrorKind::WouldBlock;
                    assert!(!is_silent, "nothing comes, nor an end");
                    return;
                }
            }
        }
    }
}
