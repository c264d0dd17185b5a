//! Any decrypted content as fields, answer and sealed body: no panic, and what parses is written as itself.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    fog::fuzz::check_contents(bytes);
});
