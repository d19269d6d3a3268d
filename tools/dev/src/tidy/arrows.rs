//! Rule `arrows`: who may use whom, between crates and between the top-level modules of engine and server.
//!
//! 1. [`CRATES`] lists, per folder, the crates of this workspace that its code may name. `name::module` allows one
//!    module of that crate and nothing else of it.
//! 2. [`MODULES`] lists, per top-level module of a crate that appears there, the sibling modules it may name by `crate::`
//!    or `super::`. The crate's root file is exempt: it lists the modules. What only tests compile is exempt: a test may
//!    build its surroundings from anywhere.
//! 3. An edge in neither table is a finding. If the edge is meant, the row is the place to say so, in review.

use super::Finding;
use super::source::Source;

/// Where the two tables are, for the messages.
const TABLES: &str = "tools/dev/src/tidy/arrows.rs";

/// Folder, the crate's own name, the crates it may use. The longest folder that fits a path counts.
const CRATES: &[(&str, &str, &[&str])] = &[
    ("engine/runtime/", "millrace_runtime", &[]),
    (
        "engine/benches/",
        "",
        &["millrace_engine", "millrace_microbench", "millrace_runtime", "millrace_protocol::batch"],
    ),
    ("engine/", "millrace_engine", &["millrace_runtime", "millrace_protocol::batch"]),
    ("server/protocol/", "millrace_protocol", &[]),
    ("server/", "millrace_server", &["millrace_engine", "millrace_runtime", "millrace_protocol"]),
    ("bench/micro/", "millrace_microbench", &["millrace_runtime", "millrace_protocol::batch"]),
    (
        "bench/benches/",
        "",
        &["millrace_microbench", "millrace_server", "millrace_engine", "millrace_runtime", "millrace_protocol"],
    ),
    ("bench/", "millrace_bench", &["millrace_server", "millrace_engine", "millrace_runtime", "millrace_protocol"]),
    ("tools/dev/", "millrace_dev", &[]),
    ("tools/", "millrace_tools", &["millrace_server", "millrace_engine", "millrace_runtime", "millrace_protocol"]),
    // Foreign clients judge compatibility: not one line of ours on the client's side.
    ("tests/compat/", "millrace_compat", &[]),
    // What it kills and fills is the broker as clients see it; what loses power is the storage engine.
    (
        "tests/crash/",
        "millrace_crash",
        &["millrace_compat", "millrace_engine", "millrace_protocol::batch", "millrace_runtime", "millrace_sim"],
    ),
    ("tests/fuzz/", "millrace_fuzz", &["millrace_engine", "millrace_runtime", "millrace_protocol", "millrace_server"]),
    ("tests/sim/", "millrace_sim", &["millrace_engine", "millrace_runtime", "millrace_protocol::batch"]),
    ("tests/", "", &["millrace_server", "millrace_engine", "millrace_runtime", "millrace_protocol"]),
];

/// Crate folder, module, the sibling modules it may use.
const MODULES: &[(&str, &str, &[&str])] = &[
    // Bytes and numbers at the bottom, a log over them, the shard's store on top; only recovery meets a torn tail.
    (
        "engine/src/",
        "store",
        &[
            "checkpoint",
            "compaction",
            "epoch_cache",
            "flushes",
            "format",
            "histogram",
            "io",
            "journal",
            "log",
            "model",
            "producer_state",
            "read_cache",
            "recovery",
            "segment",
            "segment_files",
        ],
    ),
    // Of `store` recovery knows the configuration, nothing else.
    (
        "engine/src/",
        "recovery",
        &[
            "checkpoint",
            "epoch_cache",
            "format",
            "io",
            "journal",
            "log",
            "model",
            "producer_state",
            "segment",
            "segment_files",
            "store",
        ],
    ),
    ("engine/src/", "checkpoint", &["format", "io", "log", "model"]),
    ("engine/src/", "segment_files", &["format", "io", "log", "model", "producer_state"]),
    ("engine/src/", "log", &["epoch_cache", "format", "io", "model", "producer_state", "segment"]),
    ("engine/src/", "journal", &["format", "io", "model"]),
    // Pure: bytes in, bytes out.
    ("engine/src/", "compaction", &["model"]),
    ("engine/src/", "producer_state", &["format", "model"]),
    ("engine/src/", "epoch_cache", &["model"]),
    ("engine/src/", "flushes", &["io"]),
    ("engine/src/", "read_cache", &["io"]),
    ("engine/src/", "segment", &["format", "io", "model"]),
    ("engine/src/", "format", &["model"]),
    ("engine/src/", "io", &["model"]),
    ("engine/src/", "histogram", &[]),
    ("engine/src/", "model", &[]),
    // The start of the process; nothing below knows these.
    (
        "server/src/",
        "run",
        &[
            "admin",
            "banner",
            "config",
            "identity",
            "lock",
            "logging",
            "machine",
            "metadata",
            "preflight",
            "shard",
            "signals",
        ],
    ),
    // Beside the shards: it asks them and shows what they say.
    ("server/src/", "admin", &["config", "metrics", "shard"]),
    ("server/src/", "doctor", &["config", "identity", "lock", "machine", "preflight"]),
    ("server/src/", "banner", &["config", "identity", "preflight"]),
    ("server/src/", "preflight", &["config", "machine"]),
    ("server/src/", "logging", &["config"]),
    ("server/src/", "machine", &["config"]),
    ("server/src/", "signals", &[]),
    ("server/src/", "lock", &[]),
    ("server/src/", "identity", &[]),
    // What makes up a shard knows each other: a connection hands requests to the handlers' table, a handler acts on its
    // shard, and the shard holds its connections.
    (
        "server/src/",
        "handlers",
        &["config", "fetch_session", "group", "metadata", "metrics", "net", "partition", "shard", "txn"],
    ),
    ("server/src/", "net", &["config", "fetch_session", "handlers", "metrics", "shard"]),
    (
        "server/src/",
        "shard",
        &["config", "fetch_session", "group", "handlers", "identity", "metadata", "metrics", "net", "partition"],
    ),
    // Pure state below them: what they ask for, never the other way.
    ("server/src/", "fetch_session", &[]),
    ("server/src/", "group", &["config", "metadata", "partition"]),
    ("server/src/", "txn", &["config", "metadata", "partition"]),
    ("server/src/", "partition", &["config", "metadata", "replication"]),
    ("server/src/", "metadata", &["config", "replication"]),
    ("server/src/", "replication", &["config"]),
    ("server/src/", "config", &[]),
    ("server/src/", "metrics", &[]),
];

pub(super) fn check(source: &Source) -> Vec<Finding> {
    let mut findings = check_crates(source);
    findings.extend(check_modules(source));
    findings
}

fn check_crates(source: &Source) -> Vec<Finding> {
    let row = CRATES.iter().filter(|(folder, _, _)| source.path.starts_with(folder));
    let Some((folder, own, allowed)) = row.max_by_key(|(folder, _, _)| folder.len()) else { return Vec::new() };
    let mut findings = Vec::new();
    for path in paths(source, |root| root.starts_with("millrace_")) {
        let name = path.root.as_str();
        let whole = format!("{name}::{}", path.next);
        if name == *own || allowed.contains(&name) || allowed.contains(&whole.as_str()) {
            continue;
        }
        let message = format!("{folder} may not use {whole}; the allowed arrows are CRATES in {TABLES}");
        findings.push(Finding { path: source.path.clone(), line: path.line, rule: "arrows", message });
    }
    findings
}

fn check_modules(source: &Source) -> Vec<Finding> {
    let Some((folder, _, _)) = MODULES.iter().find(|(folder, _, _)| source.path.starts_with(folder)) else {
        return Vec::new();
    };
    let inner = source.path[folder.len()..].trim_end_matches(".rs");
    let from = inner.split('/').next().unwrap_or(inner);
    if matches!(inner, "lib" | "main") {
        return Vec::new();
    }
    let depth = inner.split('/').count();
    let row = MODULES.iter().find(|(crate_folder, module, _)| crate_folder == folder && *module == from);
    let allowed = row.map_or(&[][..], |(_, _, allowed)| allowed);
    let mut findings = Vec::new();
    for path in paths(source, |root| matches!(root, "crate" | "super")) {
        let from_root = path.root == "crate" || path.super_count == depth;
        let module = path.next.chars().next().is_some_and(char::is_lowercase);
        if !from_root || !module || path.test || path.next == from || allowed.contains(&path.next.as_str()) {
            continue;
        }
        let message = format!("`{from}` may not use `{}`; the allowed arrows are MODULES in {TABLES}", path.next);
        findings.push(Finding { path: source.path.clone(), line: path.line, rule: "arrows", message });
    }
    findings
}

/// One path of code from a root such as `crate`, cut after the name that follows the root.
#[derive(Debug, PartialEq, Eq)]
struct NamedPath {
    root: String,
    /// How many `super` there are in a row; zero for other roots.
    super_count: usize,
    /// Empty if the path is the root alone.
    next: String,
    line: usize,
    test: bool,
}

/// Every path whose first name satisfies `is_root`; a group in braces gives one path per member.
fn paths(source: &Source, is_root: fn(&str) -> bool) -> Vec<NamedPath> {
    let tokens = tokens(source);
    let text = |index: usize| tokens.get(index).map_or("", |(text, _, _)| text.as_str());
    let mut found = Vec::new();
    let mut index = 0;
    while index < tokens.len() {
        let (root, line, test) = &tokens[index];
        // `a::crate_name` is a name inside `a`, not a root; so is the inner `super` of `super::super`.
        if !is_root(root) || (index > 0 && text(index - 1) == "::") {
            index += 1;
            continue;
        }
        let mut super_count = usize::from(root == "super");
        index += 1;
        while super_count > 0 && text(index) == "::" && text(index + 1) == "super" {
            super_count += 1;
            index += 2;
        }
        let named = |next: &str, line: usize| NamedPath {
            root: root.clone(),
            super_count,
            next: next.to_owned(),
            line,
            test: *test,
        };
        if text(index) != "::" {
            if root != "crate" && root != "super" {
                found.push(named("", *line));
            }
            continue;
        }
        if text(index + 1) != "{" {
            found.push(named(text(index + 1), *line));
            continue;
        }
        // `root::{a::b, c::{d, e}}`: the members are what follows a brace or a comma at depth one.
        let mut depth = 1_usize;
        index += 2;
        let mut starts = true;
        while index < tokens.len() && depth > 0 {
            match text(index) {
                "{" => depth += 1,
                "}" => depth -= 1,
                "," if depth == 1 => starts = true,
                member if starts && depth == 1 => {
                    found.push(named(member, tokens[index].1));
                    starts = false;
                }
                _ => {}
            }
            index += 1;
        }
    }
    found
}

/// Words, `::` and single marks of the code, each with its line and whether only tests compile it.
fn tokens(source: &Source) -> Vec<(String, usize, bool)> {
    let mut tokens = Vec::new();
    for (line, text) in source.numbered() {
        let mut rest = text.code.as_str();
        while let Some(first) = rest.chars().next() {
            let word = rest.find(|character: char| !character.is_alphanumeric() && character != '_');
            let length = match word.unwrap_or(rest.len()) {
                0 if rest.starts_with("::") => 2,
                0 => first.len_utf8(),
                length => length,
            };
            if !first.is_whitespace() {
                tokens.push((rest[..length].to_owned(), line, text.test));
            }
            rest = &rest[length..];
        }
    }
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(path: &str, text: &str) -> Vec<String> {
        check(&Source::parse(path, text)).iter().map(|finding| finding.message.clone()).collect()
    }

    #[test]
    fn an_arrow_against_the_direction_fails() {
        let engine = messages("engine/src/log.rs", "use millrace_server::net::Frame;\n");
        assert_eq!(
            engine,
            [format!("engine/ may not use millrace_server::net; the allowed arrows are CRATES in {TABLES}")]
        );
        assert_eq!(messages("engine/runtime/src/env.rs", "use millrace_engine::log;\n").len(), 1);
        assert_eq!(messages("tests/compat/src/lib.rs", "use millrace_protocol::wire;\n").len(), 1);
    }

    #[test]
    fn the_engine_knows_one_module_of_the_protocol() {
        assert_eq!(messages("engine/src/log.rs", "use millrace_protocol::batch::BatchView;\n"), [""; 0]);
        assert_eq!(
            messages("engine/src/log.rs", "use millrace_protocol::{\n    batch,\n    wire::Reader,\n};\n").len(),
            1
        );
        assert_eq!(messages("engine/src/log.rs", "use millrace_protocol as protocol;\n").len(), 1);
    }

    #[test]
    fn a_new_edge_between_modules_fails_and_names_the_table() {
        let expected = format!("`config` may not use `handlers`; the allowed arrows are MODULES in {TABLES}");
        assert_eq!(messages("server/src/config/frame.rs", "use crate::handlers::Table;\n"), [expected.as_str()]);
        assert_eq!(messages("server/src/config/frame.rs", "use super::super::handlers::Table;\n"), [expected.as_str()]);
        assert_eq!(messages("server/src/config.rs", "use super::{handlers::Table};\n"), [expected.as_str()]);
        assert_eq!(messages("server/src/config.rs", "let a = crate::handlers::a();\n"), [expected.as_str()]);
        assert_eq!(
            messages("server/src/fresh.rs", "use crate::net::Frame;\n").len(),
            1,
            "an unknown module has no row"
        );
    }

    #[test]
    fn allowed_edges_roots_tests_and_inner_paths_pass() {
        assert_eq!(messages("server/src/handlers/fetch.rs", "use crate::{shard::Router, metadata};\n"), [""; 0]);
        assert_eq!(messages("server/src/handlers/fetch.rs", "use super::answer;\nuse crate::Error;\n"), [""; 0]);
        assert_eq!(messages("server/src/lib.rs", "use crate::handlers::Table;\n"), [""; 0]);
        assert_eq!(messages("server/src/net.rs", "#[cfg(test)]\nmod tests {\n    use crate::handlers;\n}\n"), [""; 0]);
        assert_eq!(messages("server/src/net.rs", "pub(crate) fn f() {}\n"), [""; 0]);
    }
}
