//! Handshake messages: no panic, and nothing but the genuine ones is taken.
#![no_main]

#[path = "../../../mixnode/link/tests/common/checks.rs"]
mod checks;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| checks::check_handshake(bytes));
