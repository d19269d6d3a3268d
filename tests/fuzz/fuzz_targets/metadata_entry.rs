//! The fuzzer over [`millrace_fuzz::metadata_entry`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    millrace_fuzz::metadata_entry::run(data);
});
