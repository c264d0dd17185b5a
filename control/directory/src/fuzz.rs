//! The oracle that the fuzz target and the stable replay of its corpus share. Not part of the API.

use crate::authority_set::{Chain, SignedSet};
use crate::consensus::Consensus;
use crate::{
    Bootstrap, ConsensusSignature, Descriptor, Diff, Report, SignedConsensus, SignedDescriptor,
};

/// Feeds `bytes` to every decoder, past the signatures that would stop a fuzzer. Whatever decodes must
/// encode to the very same bytes: one encoding a value. Says how many decoders took them.
///
/// # Panics
/// A decoder accepted bytes that its encoder does not write.
pub fn check_documents(bytes: &[u8]) -> usize {
    let mut encodings = Vec::new();
    encodings.extend(Consensus::decode(bytes).map(|value| value.encode()));
    encodings.extend(SignedConsensus::decode(bytes).map(|value| value.encode()));
    encodings.extend(Bootstrap::decode(bytes).map(|value| value.encode()));
    encodings.extend(ConsensusSignature::decode(bytes).map(|value| value.encode()));
    encodings.extend(Diff::decode(bytes).map(|value| value.encode()));
    encodings.extend(Report::decode(bytes).map(|value| value.encode()));
    encodings.extend(Descriptor::decode(bytes).map(|value| value.encode()));
    encodings.extend(SignedSet::decode(bytes).map(|value| value.encode()));
    encodings.extend(Chain::decode(bytes).map(|value| value.encode()));
    for encoding in &encodings {
        assert!(encoding == bytes, "a document has two encodings");
    }
    // The signed path on the same bytes.
    let _ = SignedDescriptor::verify(bytes);
    encodings.len()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    #[test]
    fn the_fuzz_corpus_replays_without_a_finding() {
        let corpus =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../bench/fuzz/corpus/documents");
        let mut accepted = 0;
        for entry in std::fs::read_dir(corpus).unwrap() {
            accepted += super::check_documents(&std::fs::read(entry.unwrap().path()).unwrap());
        }
        assert!(accepted > 0, "the corpus holds no valid document");
    }
}
