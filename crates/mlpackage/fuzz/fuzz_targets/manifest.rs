#![no_main]

#[path = "bounded.rs"]
mod bounded;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bounded::bounded(data, mlpackage::fuzzing::manifest));
