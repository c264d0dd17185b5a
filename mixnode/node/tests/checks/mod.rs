//! What must hold for any configuration; shared by the fuzz target and the test that replays its corpus.

use std::path::Path;

use mixnode::process::config;

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
