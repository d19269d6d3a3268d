//! The fuzzer over [`millrace_fuzz::batch`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    millrace_fuzz::batch::run(data);
});
