//! The fuzzer over [`millrace_fuzz::checkpoint_and_ring`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    millrace_fuzz::checkpoint_and_ring::run(data);
});
