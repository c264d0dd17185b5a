//! Control frames: no panic, one encoding.
#![no_main]

#[path = "../../../mixnode/link/tests/common/checks.rs"]
mod checks;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    checks::check_control(bytes);
});
