//! What fuzz targets and the replay of their corpora check of every parser of this crate.

use std::str::FromStr;

use sphinx::REPLY_BYTES;

use super::content::{Answer, read_content, write_content};
use super::sealed::{SEALED_BYTES, Sealed};
use super::session::CONTENT_BYTES;
use crate::address::Address;

/// Any text: what parses as an address prints as the same text. Whether it parsed.
pub fn check_address(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let parsed = Address::from_str(&text);
    if let Ok(address) = &parsed {
        let printed = address.to_string();
        assert!(printed.eq_ignore_ascii_case(text.trim()), "{printed}");
        assert_eq!(Address::from_bytes(&address.to_bytes()), Ok(*address));
    }
    parsed.is_ok()
}

/// Any decrypted content: what parses as a packet's fields, an answer or a sealed body is written as the same bytes
/// again, up to padding. How many of the three parsed.
pub fn check_contents(bytes: &[u8]) -> usize {
    let mut parsed = 0;
    let content: [u8; CONTENT_BYTES] = padded(bytes);
    if let Some(fields) = read_content(&content) {
        let mut again = [0; CONTENT_BYTES];
        write_content(&fields, &mut again);
        assert_eq!(again, content);
        parsed += 1;
    }
    let answer: [u8; REPLY_BYTES] = padded(bytes);
    if let Some(read) = Answer::decode(&answer) {
        assert_eq!(Answer::decode(&read.encode()), Some(read));
        parsed += 1;
    }
    let sealed: [u8; SEALED_BYTES] = padded(bytes);
    if let Some(read) = Sealed::decode(&sealed) {
        let written = read.encode();
        let again = Sealed::decode(&written).map(|again| again.encode());
        assert!(again.is_some_and(|again| again[..] == written[..]));
        parsed += 1;
    }
    parsed
}

fn padded<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut array = [0; N];
    let length = bytes.len().min(N);
    array[..length].copy_from_slice(&bytes[..length]);
    array
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn corpus(target: &str) -> Vec<Vec<u8>> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../bench/fuzz/corpus")
            .join(target);
        let mut paths: Vec<_> = std::fs::read_dir(folder)
            .expect("the corpus is part of the repository")
            .map(|entry| entry.expect("readable").path())
            .collect();
        paths.sort();
        paths
            .iter()
            .map(|path| std::fs::read(path).expect("readable"))
            .collect()
    }

    #[test]
    fn the_corpus_of_addresses_holds_what_the_fuzz_target_checks() {
        let inputs = corpus("address");
        let parsed = inputs.iter().filter(|input| check_address(input)).count();
        assert!(parsed >= 2 && parsed < inputs.len());
    }

    #[test]
    fn the_corpus_of_contents_holds_what_the_fuzz_target_checks() {
        let parsed: usize = corpus("contents")
            .iter()
            .map(|input| check_contents(input))
            .sum();
        assert!(parsed >= 5);
    }
}
