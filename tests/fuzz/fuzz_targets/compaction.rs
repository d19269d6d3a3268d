//! The fuzzer over [`millrace_fuzz::compaction`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    millrace_fuzz::compaction::run(data);
});
