//! The oracle that the fuzz target and the stable replay of its corpus share. Not part of the API.

use crate::claims::Owners;
use crate::relay;
use crate::round::listing::Listing;
use crate::vote::Vote;

/// Feeds `bytes` to the decoders of votes, relayed votes, lists of descriptors and of what nodes had, past their
/// signatures. Whatever
/// decodes must encode to the very same bytes. Says how many decoders took them.
///
/// # Panics
/// A decoder accepted bytes that its encoder does not write.
pub fn check_votes(bytes: &[u8]) -> usize {
    let mut encodings = Vec::new();
    encodings.extend(Vote::decode(bytes).map(|vote| vote.encode()));
    encodings.extend(
        relay::split(bytes).map(|(vote, signatures)| relay::encode_parts(vote, &signatures)),
    );
    encodings.extend(Listing::decode(bytes).map(|listing| listing.encode()));
    encodings.extend(Owners::decode(bytes).map(|owners| owners.encode()));
    for encoding in &encodings {
        assert!(encoding == bytes, "a vote has two encodings");
    }
    encodings.len()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    #[test]
    fn the_fuzz_corpus_replays_without_a_finding() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../bench/fuzz/corpus/votes");
        let mut accepted = 0;
        for entry in std::fs::read_dir(corpus).unwrap() {
            accepted += super::check_votes(&std::fs::read(entry.unwrap().path()).unwrap());
        }
        assert!(accepted > 1, "the corpus does not hold a valid one of each");
    }
}
