//! Votes and relayed votes of authorities: no panic, and whatever decodes encodes to the same bytes.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    authority::fuzz::check_votes(bytes);
});
