//! Files on their way in, for the user.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use fog::run::{ReceiveEvent, part};
use fog::{Pace, Received, TransferId};
use serde_json::json;

use super::{Screen, counted, progress_line};

/// Files of which progress is shown; the oldest makes room, for anybody can begin one.
const FILES_MAX: usize = 64;

struct Arriving {
    transfer: TransferId,
    name: String,
    size: u64,
    pace: Pace,
}

/// Files on their way in.
pub struct Receiving<'a> {
    screen: &'a mut Screen,
    out: String,
    files: VecDeque<Arriving>,
    last_fault: Option<String>,
}

impl<'a> Receiving<'a> {
    pub fn new(screen: &'a mut Screen, out: &Path) -> Self {
        Self {
            screen,
            out: crate::paths::shown(out),
            files: VecDeque::new(),
            last_fault: None,
        }
    }

    pub fn show(&mut self, event: &ReceiveEvent) {
        tracing::debug!(?event);
        match event {
            ReceiveEvent::Ready(address) => {
                self.screen.note(&format!(
                    "receiving into {}; your address:\n{address}",
                    self.out
                ));
                self.screen
                    .event(&json!({ "event": "ready", "address": address.to_string() }));
            }
            ReceiveEvent::Waiting(wait) => {
                let files = self.files.iter_mut();
                files.for_each(|file| file.pace = Pace::default());
                self.screen.waiting(wait.as_ref());
            }
            ReceiveEvent::Notice(notice) => self.screen.notice(notice),
            ReceiveEvent::Received(received) => self.received(received),
            ReceiveEvent::Lingering(time) => self.screen.lingers(*time),
        }
    }

    fn received(&mut self, received: &Received) {
        match received {
            Received::Started { manifest, chunks } => {
                let name = program::visible(&manifest.name);
                let again = if *chunks > 0 { ", going on" } else { "" };
                self.screen.note(&format!(
                    "\"{name}\": {}{again}",
                    counted(manifest.size, "byte")
                ));
                self.screen.event(
                    &json!({ "event": "started", "name": name, "size": manifest.size, "chunks": chunks }),
                );
                let (transfer, size) = (manifest.transfer, manifest.size);
                self.files.retain(|file| file.transfer != transfer);
                if self.files.len() >= FILES_MAX {
                    self.files.pop_front();
                }
                let pace = Pace::default();
                self.files.push_back(Arriving {
                    transfer,
                    name,
                    size,
                    pace,
                });
            }
            Received::Progress {
                transfer,
                chunks,
                total,
            } => {
                let now = self.screen.began.elapsed();
                let mut files = self.files.iter_mut();
                let Some(file) = files.find(|file| file.transfer == *transfer) else {
                    return;
                };
                let bytes = part(file.size, *chunks, *total);
                file.pace.add(now, bytes);
                let text = progress_line(&file.name, bytes, file.size, &file.pace, now);
                let event = json!({ "event": "progress", "name": file.name, "bytes": bytes, "size": file.size });
                self.screen.draw(&text);
                self.screen.event(&event);
            }
            Received::Done { manifest, place } => {
                self.files.retain(|file| file.transfer != manifest.transfer);
                self.last_fault = None;
                self.screen.end();
                let last = manifest.name.rsplit(|byte| *byte == b'/').next();
                let stored = program::visible(place.as_os_str().as_bytes());
                if place.file_name() != last.map(OsStr::from_bytes) {
                    let name = program::visible(&manifest.name);
                    self.screen
                        .note(&format!("\"{name}\" is stored as {stored}"));
                }
                if !self.screen.is_json {
                    // The result, for programs too: quiet or not.
                    self.screen.say(&stored);
                }
                let mut event =
                    json!({ "event": "received", "path": stored, "bytes": manifest.size });
                if place.to_str() != Some(&stored) {
                    // Programs need the path itself.
                    event["path_bytes"] = place.as_os_str().as_bytes().into();
                }
                self.screen.event(&event);
            }
            Received::Storage(error) => {
                // Once a change: every packet may say the same.
                if self.last_fault.as_ref() != Some(error) {
                    self.last_fault = Some(error.clone());
                    self.screen.end();
                    program::complain!("fog: {}", program::visible(error.as_bytes()));
                    self.screen
                        .event(&json!({ "event": "storage", "text": error }));
                }
            }
        }
    }
}
