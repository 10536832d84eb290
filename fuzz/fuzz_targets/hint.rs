#![no_main]
#[path = "../../tests/it/fuzz/hint.rs"]
mod target;

libfuzzer_sys::fuzz_target!(|data: &[u8]| target::run(data));
