//! Packet opening and reply blocks: no panic, and the outcomes of the reference implementation.
#![no_main]

#[path = "../../../mixnode/sphinx/tests/common/compare.rs"]
mod compare;
#[path = "../../../mixnode/sphinx/tests/common/reference.rs"]
#[allow(dead_code)] // the tests need more of it
mod reference;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    compare::check_packets(input);
});
