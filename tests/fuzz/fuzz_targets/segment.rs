//! The fuzzer over [`millrace_fuzz::segment`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    millrace_fuzz::segment::run(data);
});
