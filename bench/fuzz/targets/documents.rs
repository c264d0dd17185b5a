//! Every decoder of the directory: no panic, and whatever decodes encodes to the same bytes.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    directory::fuzz::check_documents(bytes);
});
