//! The fuzzer over [`millrace_fuzz::group_record`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    millrace_fuzz::group_record::run(data);
});
