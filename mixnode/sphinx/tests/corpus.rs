//! Replays the fuzz target's corpus on stable Rust.

mod common;

use std::path::Path;

#[test]
fn the_fuzz_corpus_replays_without_a_finding() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../bench/fuzz/corpus/packets");
    let (mut inputs, mut accepted) = (0, 0);
    for entry in std::fs::read_dir(corpus).unwrap() {
        accepted += common::compare::check_packets(&std::fs::read(entry.unwrap().path()).unwrap());
        inputs += 1;
    }
    assert!(
        inputs >= 10 && accepted >= 5,
        "{accepted} packets of {inputs} inputs were accepted"
    );
}
