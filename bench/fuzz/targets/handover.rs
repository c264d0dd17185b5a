//! Any bytes as a message between node, loader and operator: no panic, and what is read is written as itself.
#![no_main]

#[path = "../../../ebpf/handover/tests/checks/mod.rs"]
mod checks;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    checks::check_message(bytes);
});
