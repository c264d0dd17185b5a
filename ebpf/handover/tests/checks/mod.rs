//! What must hold for any message between node, loader and operator; shared by the fuzz target and the test that
//! replays its corpus.

use std::fmt::Debug;

use handover::protocol::{Reply, Request};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Any bytes as a request and as a reply: what is read is written as itself. Whether they were either.
pub fn check_message(bytes: &[u8]) -> bool {
    let request = read::<Request>(bytes);
    if let Some(request) = &request {
        // Every request has somebody who may send it.
        let _ = request.needs();
    }
    request.is_some() | read::<Reply>(bytes).is_some()
}

fn read<T: Serialize + DeserializeOwned + PartialEq + Debug>(bytes: &[u8]) -> Option<T> {
    let message: T = serde_json::from_slice(bytes).ok()?;
    let written = serde_json::to_vec(&message).expect("what was read can be written");
    let again: T = serde_json::from_slice(&written).expect("what was written can be read");
    assert_eq!(again, message);
    Some(message)
}
