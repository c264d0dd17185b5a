//! The fuzz target's committed inputs, on stable Rust.

mod checks;

#[test]
fn the_corpus_of_messages_holds() {
    let folder = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../bench/fuzz/corpus/handover"
    );
    let verdicts: Vec<bool> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| checks::check_message(&std::fs::read(entry.unwrap().path()).unwrap()))
        .collect();
    let accepted = verdicts.iter().filter(|accepted| **accepted).count();
    assert!(
        accepted >= 19 && verdicts.len() - accepted >= 7,
        "{accepted} of {}",
        verdicts.len()
    );
}
