//! The fuzzer over [`millrace_fuzz::request`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    millrace_fuzz::request::run(data);
});
