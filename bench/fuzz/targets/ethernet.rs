//! Any Ethernet frame, its first two bytes the node's port: no panic, and what the parser takes is whole.
#![no_main]

#[path = "../../../ebpf/abi/tests/frames/checks.rs"]
mod checks;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    checks::check_frame(bytes);
});
