//! The fuzz target's committed inputs, on stable Rust.

#[allow(dead_code)] // As is `frames`.
#[path = "frames/cases.rs"]
mod cases;
#[path = "frames/checks.rs"]
mod checks;
#[allow(dead_code)] // Shared with the tests of parser and program.
mod frames;

use std::collections::BTreeMap;

use ebpf_abi::Parsed;

const FOLDER: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../bench/fuzz/corpus/ethernet"
);

/// The corpus' first inputs: every case of the parser's tests.
fn seeds() -> Vec<(String, Vec<u8>)> {
    let port = frames::PORT.to_be_bytes();
    let mut seen = BTreeMap::new();
    cases::all()
        .into_iter()
        .map(|(sentence, frame, _)| {
            // One sentence holds for both IP versions and several frames.
            let count = seen.entry(sentence).or_insert(0);
            *count += 1;
            let name = sentence.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
            (format!("{name}-{count}"), [&port[..], &frame].concat())
        })
        .collect()
}

#[test]
fn the_corpus_of_frames_holds() {
    let mut inputs = 0;
    for entry in std::fs::read_dir(FOLDER).unwrap() {
        checks::check_frame(&std::fs::read(entry.unwrap().path()).unwrap());
        inputs += 1;
    }
    assert!(inputs > 0);
    let taken = |(_, _, parsed): &cases::Case| matches!(parsed, Parsed::Ours(..));
    let expected = cases::all().iter().filter(|case| taken(case)).count();
    let ours = seeds()
        .iter()
        .filter(|(_, bytes)| checks::check_frame(bytes))
        .count();
    assert_eq!(ours, expected, "the checks see what the cases say");
    for (name, bytes) in seeds() {
        let path = format!("{FOLDER}/{name}");
        let committed = std::fs::read(&path).unwrap_or_default();
        assert!(
            committed == bytes,
            "{path} is not its case: run the ignored test that writes the corpus"
        );
    }
}

#[test]
#[ignore = "writes the fuzz target's corpus from the cases"]
fn write_the_corpus() {
    for (name, bytes) in seeds() {
        std::fs::write(format!("{FOLDER}/{name}"), bytes).unwrap();
    }
}
