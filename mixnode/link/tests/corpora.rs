//! The fuzz targets' committed inputs, on stable Rust.

#[path = "common/checks.rs"]
mod checks;

fn replay(target: &str, check: fn(&[u8])) {
    let folder = format!(
        "{}/../../bench/fuzz/corpus/{target}",
        env!("CARGO_MANIFEST_DIR")
    );
    let mut inputs = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        check(&std::fs::read(entry.unwrap().path()).unwrap());
        inputs += 1;
    }
    let seeds = checks::seeds()
        .iter()
        .filter(|(of, ..)| *of == target)
        .count();
    assert!(
        inputs >= seeds,
        "{inputs} inputs of {target}, {seeds} of them are written by the vectors example"
    );
}

#[test]
fn the_corpus_of_frames_holds() {
    replay("frames", checks::check_frame);
}

#[test]
fn the_corpus_of_handshakes_holds() {
    replay("handshakes", checks::check_handshake);
}

#[test]
fn the_corpus_of_control_frames_holds() {
    replay("control", |bytes| assert!(checks::check_control(bytes)));
}
