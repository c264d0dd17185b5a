//! Any text as an address: no panic, and what parses prints as itself.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    fog::fuzz::check_address(bytes);
});
