//! What must hold for any input; shared by the fuzz targets and the tests that replay the corpora.
#![allow(dead_code)] // Each target uses a part of it.

use std::fmt::Debug;
use std::path::Path;

use handover::protocol::{Reply, Request};
use mixnode::process::config;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Any text as a configuration: accepted, it is within its limits and read the same again; refused, the error names
/// file and line, what is wrong and what to do. Whether it was accepted.
pub fn check_config(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let file = Path::new("node.toml");
    match config::parse(&text, file) {
        Ok(config) => {
            assert_eq!(config::parse(&text, file).as_ref(), Ok(&config));
            assert!((1..=128).contains(&config.worker.count));
            assert!(config.gateway.clients_max > 0 && config.node.capacity_pps > 0);
            assert!((0.0..1.0).contains(&config.fault.loss));
            assert_eq!(config.node.listen.len(), 1);
            assert!(!config.node.operator.is_empty());
            true
        }
        Err(error) => {
            assert_eq!(error.file, file);
            assert!(!error.problem.is_empty() && !error.remedy.is_empty());
            let lines = 1 + bytes.iter().filter(|byte| **byte == b'\n').count();
            assert!(error.line.is_none_or(|line| (1..=lines).contains(&line)));
            assert!(error.to_string().starts_with("node.toml"));
            false
        }
    }
}

/// Any bytes as a request and as a reply. Whether they were either.
pub fn check_frontend(bytes: &[u8]) -> bool {
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
