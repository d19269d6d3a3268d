//! The fuzzer over [`millrace_fuzz::config`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    millrace_fuzz::config::run(data);
});
