//! Data frames: no panic, and an authentic one opens exactly when its reserved bits allow.
#![no_main]

#[path = "../../../mixnode/link/tests/common/checks.rs"]
mod checks;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| checks::check_frame(bytes));
