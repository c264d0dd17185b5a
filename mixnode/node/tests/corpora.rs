//! The fuzz targets' committed inputs, on stable Rust.

#[path = "../fuzz/checks.rs"]
mod checks;

/// Runs every input; how many were accepted, of how many.
fn replay(target: &str, check: fn(&[u8]) -> bool) -> (usize, usize) {
    let folder = format!("{}/fuzz/corpus/{target}", env!("CARGO_MANIFEST_DIR"));
    let verdicts: Vec<bool> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| check(&std::fs::read(entry.unwrap().path()).unwrap()))
        .collect();
    let accepted = verdicts.iter().filter(|accepted| **accepted).count();
    (accepted, verdicts.len())
}

#[test]
fn the_corpus_of_configurations_holds() {
    let (accepted, all) = replay("config", checks::check_config);
    assert!(accepted >= 4 && all - accepted >= 12, "{accepted} of {all}");
}

#[test]
fn the_corpus_of_front_end_messages_holds() {
    let (accepted, all) = replay("frontend", checks::check_frontend);
    assert!(accepted >= 18 && all - accepted >= 6, "{accepted} of {all}");
}
