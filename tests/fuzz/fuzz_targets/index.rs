//! The fuzzer over [`millrace_fuzz::index`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    millrace_fuzz::index::run(data);
});
