//! Rule `rooms`: what may be named only in certain places.
//!
//! Each [`Room`] is a word of code and the paths it is at home in. An exception is a row with its reason, never a comment
//! at the place of use.

use super::Finding;
use super::source::{Source, words};

/// Words confined to some paths.
struct Room {
    /// Whether a line of code names the confined thing.
    names: fn(&str) -> bool,
    what: &'static str,
    why: &'static str,
    /// Prefixes of paths, each with the reason why the word may be there.
    allowed: &'static [(&'static str, &'static str)],
}

const ROOMS: &[Room] = &[
    Room {
        names: |code| words(code).any(|word| word == "unsafe"),
        what: "`unsafe`",
        why: "unsafe code stays where Miri and the sanitizers are pointed",
        allowed: &[
            ("engine/runtime/", "system calls and glommio's buffers"),
            ("engine/src/io", "aligned buffers"),
            ("server/src/shard/mailbox", "memory lent between shards"),
        ],
    },
    Room {
        names: |code| words(code).any(|word| word == "glommio"),
        what: "glommio",
        why: "everything above the seam is generic over `Env`, so that the simulator can run it",
        // Elsewhere the word can only be the runtime's module of that name: the crate is nobody else's dependency.
        allowed: &[
            ("engine/runtime/", "the seam"),
            ("engine/tests/", "runs one test on both executors"),
            ("server/src/run", "chooses the machine for a real broker"),
            ("bench/", "measures the machine"),
            ("tests/crash/", "records what is done to the machine's disk"),
            ("tools/tests/", "writes a data directory for millctl to read"),
        ],
    },
    Room {
        names: |code| words(code).any(shares_between_threads),
        what: "`Arc`, `Mutex`, `RwLock` or an atomic",
        why: "state belongs to one shard; what crosses goes through shard/mailbox",
        allowed: &[
            ("engine/runtime/", "both executors and their links"),
            ("engine/src/flushes", "all shards flush one device"),
            ("server/src/shard/mailbox", "the one module that crosses cores"),
            ("server/src/admin", "an unpinned thread beside the shards"),
            ("server/src/watchdog", "an unpinned thread beside the shards"),
            ("server/src/signal", "a handler may only touch atomics"),
            ("bench/", "a client program, no shards"),
            ("tools/", "a client program, no shards"),
            ("tests/", "a client program, no shards"),
        ],
    },
    Room {
        names: |code| ["Instant::now", "SystemTime::now", "thread::sleep"].iter().any(|path| code.contains(path)),
        what: "the machine's clock or a sleep",
        why: "time comes from Env's clock, so that the simulator owns it; tests wait for events",
        allowed: &[
            ("engine/runtime/", "Env's clock is made of it"),
            ("server/src/admin", "outside the shards, never simulated"),
            ("server/src/watchdog", "must measure a shard without asking it"),
            ("bench/", "measures"),
            ("tests/compat/benches/", "measures"),
        ],
    },
];

pub(super) fn check(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for room in ROOMS {
        if room.allowed.iter().any(|(prefix, _)| source.path.starts_with(prefix)) {
            continue;
        }
        for (line, _) in source.numbered().filter(|(_, text)| (room.names)(&text.code)) {
            let message = format!("{} has no place here: {}", room.what, room.why);
            findings.push(Finding { path: source.path.clone(), line, rule: "rooms", message });
        }
    }
    findings
}

/// A crate other than the runtime that depends on glommio has already left the seam.
pub(super) fn check_manifest(path: &str, text: &str) -> Vec<Finding> {
    let workspace_list = path == "Cargo.toml";
    if !path.ends_with("Cargo.toml") || workspace_list || path == "engine/runtime/Cargo.toml" {
        return Vec::new();
    }
    let naming = text.lines().enumerate().filter(|(_, line)| line.trim_start().starts_with("glommio"));
    let message = "only engine/runtime depends on glommio";
    let finding = |line| Finding { path: path.to_owned(), line, rule: "rooms", message: message.to_owned() };
    naming.map(|(index, _)| finding(index + 1)).collect()
}

fn shares_between_threads(word: &str) -> bool {
    const ATOMICS: &[&str] = &["Bool", "Ptr", "I8", "I16", "I32", "I64", "Isize", "U8", "U16", "U32", "U64", "Usize"];
    let atomic = word.strip_prefix("Atomic").is_some_and(|kind| ATOMICS.contains(&kind));
    atomic || matches!(word, "Arc" | "Mutex" | "RwLock")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(path: &str, text: &str) -> Vec<usize> {
        check(&Source::parse(path, text)).iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn words_outside_their_rooms_fail() {
        assert_eq!(lines("engine/src/log.rs", "fn f() {\n    unsafe { g() }\n}\n"), [2]);
        assert_eq!(lines("server/src/net.rs", "use glommio::net::TcpStream;\n"), [1]);
        assert_eq!(lines("server/src/shard.rs", "use std::sync::Arc;\nstatic A: AtomicU64 = f();\n"), [1, 2]);
        assert_eq!(lines("server/src/group.rs", "let a = std::time::Instant::now();\n"), [1]);
        assert_eq!(lines("tests/cluster/tests/a.rs", "std::thread::sleep(second);\n"), [1]);
    }

    #[test]
    fn words_in_their_rooms_pass() {
        let text = "use std::sync::Arc;\nunsafe { glommio::f() };\nInstant::now();\n";
        assert_eq!(lines("engine/runtime/src/glommio.rs", text), [0; 0]);
        assert_eq!(lines("server/src/shard/mailbox/lease.rs", "unsafe impl Send for Lent {}\n"), [0; 0]);
        assert_eq!(lines("engine/src/log.rs", "#![forbid(unsafe_code)] // unsafe, Arc, Atomicity\n"), [0; 0]);
    }

    #[test]
    fn only_the_runtime_depends_on_glommio() {
        assert_eq!(check_manifest("server/Cargo.toml", "[dependencies]\nglommio.workspace = true\n")[0].line, 2);
        assert_eq!(check_manifest("engine/runtime/Cargo.toml", "glommio.workspace = true\n"), []);
    }
}
