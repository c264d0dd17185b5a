//! Messages of each version that is served, as they went over the socket: `mixctld` and `mixnode` are upgraded one after
//! the other, either first. A message that changes here is a version of its own: what was recorded stays as it is, and is
//! read on.

use std::collections::BTreeSet;
use std::fmt::Debug;

use handover::protocol::{Reply, Request};
use serde::Serialize;
use serde::de::DeserializeOwned;

const MESSAGES: &str = include_str!("../recorded/1.messages");

/// Every kind of request, as it is written.
fn request_name(request: &Request) -> &'static str {
    match request {
        Request::Attach { .. } => "attach",
        Request::Detach { .. } => "detach",
        Request::Status => "status",
        Request::Stats => "stats",
        Request::Open { .. } => "open",
        Request::Ready => "ready",
        Request::Resume { .. } => "resume",
        Request::AddIndex { .. } => "add-index",
        Request::RemoveIndex { .. } => "remove-index",
        Request::Peers { .. } => "peers",
        Request::Refresh { .. } => "refresh",
        Request::Vault { .. } => "vault",
        Request::Table(_) => "table",
        Request::Erase { .. } => "erase",
        Request::ResumeVault { .. } => "resume-vault",
        Request::Report { .. } => "report",
        Request::Describe { .. } => "describe",
        Request::Drain => "drain",
        Request::Node => "node",
    }
}

fn reply_name(reply: &Reply) -> &'static str {
    match reply {
        Reply::Done => "done",
        Reply::Attached { .. } => "attached",
        Reply::Status { .. } => "status",
        Reply::Stats { .. } => "stats",
        Reply::Opened(_) => "opened",
        Reply::Vault { .. } => "vault",
        Reply::Reported { .. } => "reported",
        Reply::Draining { .. } => "draining",
        Reply::Refused(_) => "refused",
    }
}

/// Read, and written as the very same bytes.
fn same<T: DeserializeOwned + Serialize + Debug>(line: &str) -> T {
    let message: T = serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
    assert_eq!(serde_json::to_string(&message).unwrap(), line);
    message
}

#[test]
fn recorded_messages_are_read_and_written_as_they_were_and_none_is_left_out() {
    let (mut requests, mut replies) = (BTreeSet::new(), BTreeSet::new());
    for line in MESSAGES.lines() {
        let (kind, rest) = line[2..].split_once("\":\"").unwrap();
        let name = rest.split('"').next().unwrap();
        if kind == "request" {
            let request = same(line);
            assert_eq!(request_name(&request), name);
            requests.insert(name);
        } else {
            let reply = same(line);
            assert_eq!(reply_name(&reply), name);
            replies.insert(name);
        }
    }
    assert_eq!((requests.len(), replies.len()), (19, 9));
}
