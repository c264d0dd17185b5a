//! Any text as a configuration: no panic, and what is refused is refused helpfully.
#![no_main]

#[path = "../../../mixnode/node/tests/checks/mod.rs"]
mod checks;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    checks::check_config(bytes);
});
