//! Target `config`: bytes as the configuration file, and as arguments of `--set`, one a line.
//!
//! Byte 0 chooses: bit 0 takes lines for arguments instead of a file, the others say how large the machine is. What is
//! accepted describes itself as a file that is accepted and describes itself the same.

use millrace_server::config::Config;
use millrace_server::config::check::{self, Room};
use millrace_server::config::parse::RawConfig;

use crate::Reached;

/// Runs the target.
pub fn run(data: &[u8]) -> Reached {
    let Some((choice, bytes)) = data.split_first() else { return Reached::Refusal };
    let Ok(text) = std::str::from_utf8(bytes) else { return Reached::Refusal };
    let room = Room { core_count: 1 + usize::from(choice >> 4), memory_bytes: 1 << (28 + (choice >> 1 & 7)) };
    let mut raw = RawConfig::new();
    if choice & 1 != 0 {
        text.lines().for_each(|line| raw.add_assignment(line));
    } else {
        raw.add_file(text, "millrace.toml");
    }
    let config = match check::check(&raw, room) {
        Ok(config) => config,
        Err(errors) => {
            assert!(!errors.is_empty(), "a refusal has a reason");
            assert!(errors.iter().all(|error| !error.to_string().is_empty()), "and says it");
            return Reached::Refusal;
        }
    };
    let described = values(&config);
    let mut raw = RawConfig::new();
    raw.add_file(&config.describe(), "described.toml");
    let again = check::check(&raw, room).unwrap_or_else(|errors| panic!("its own description: {errors:?}"));
    assert_eq!(values(&again), described);
    Reached::Content
}

fn values(config: &Config) -> Vec<String> {
    config.effective.iter().map(|effective| format!("{:?}={:?}", effective.key, effective.value)).collect()
}
