//! What the broker says on standard output: the banner before it accepts clients, one line when it does.
//!
//! Scripts wait for the ready line, so its shape is part of the command line's contract; the banner is for people.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::net::SocketAddr;

use crate::config::keys::Key;
use crate::config::{Config, StoreSettings, Value};
use crate::identity::Identity;
use crate::preflight::{Finding, Level};

/// The banner. `admin` is where metrics and health are answered. `findings` are said last but one, because they are what should be read.
pub fn banner(config: &Config, identity: &Identity, admin: Option<SocketAddr>, findings: &[Finding]) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        writeln!(text, "  {name:<12} {value}").expect("writing to a String cannot fail");
    };
    let pinned = if config.shards.pin_cores { "one core each" } else { "not tied to cores" };
    line("node", &format!("{} of cluster {}", identity.node_id, identity.cluster_id));
    line("data", &config.node.directory.display().to_string());
    line("shards", &format!("{}, {pinned}", config.shards.count));
    for listener in &config.net.listeners {
        let port = listener.advertised_port.unwrap_or(listener.bind.port());
        let port = if port == 0 { "<its port>".to_owned() } else { port.to_string() };
        let told = format!("{}:{port}", listener.advertised_host);
        line("listener", &format!("{} on {}, clients are told {told}", listener.name, listener.bind));
    }
    match admin {
        Some(address) => line("admin", &format!("http://{address}/metrics, /healthz, /readyz")),
        None => line("admin", "none: nobody can ask how it is"),
    }
    line("memory", &config.shards.memory.to_string());
    line("flush", &flush_policy(config));
    for finding in findings {
        let level = match finding.level {
            Level::Stops => "will stop",
            Level::Hurts => "will hurt",
        };
        line(level, &finding.to_string());
    }
    let port = config.net.listeners.first().map_or(0, |listener| listener.bind.port());
    let address = config.net.listeners.first().map_or(String::new(), |listener| listener.advertised_host.clone());
    let address = if port == 0 { "<address below>".to_owned() } else { format!("{address}:{port}") };
    line("try it", &format!("echo hello | kcat -b {address} -t greetings -P"));
    line("", &format!("kcat -b {address} -t greetings -C -e"));
    format!("millrace {}\n{text}", env!("CARGO_PKG_VERSION"))
}

/// What holds for topics that say nothing of their own.
fn flush_policy(config: &Config) -> String {
    let policy = config.effective.iter().find(|setting| setting.key == Key::FlushPolicy);
    let Some(Value::Text(policy)) = policy.map(|setting| &setting.value) else { unreachable!("every key has a value") };
    let StoreSettings { flush_interval, flush_interval_bytes, .. } = config.store;
    let meaning = match policy.as_str() {
        "commit" => "an answered record is on the device".to_owned(),
        "interval" => {
            let (ms, mib) = (flush_interval.as_millis(), flush_interval_bytes >> 20);
            format!(
                "an answered record is on the device after {ms} ms or {mib} MiB; a loss of power takes it until then"
            )
        }
        _ => "an answered record is on the device when the system gets to it; a loss of power takes it until then"
            .to_owned(),
    };
    format!("{policy}: {meaning}, unless its topic says otherwise")
}

/// Writes the banner to standard output.
pub fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Writes the line that says clients may connect. Called once, after the first listener accepts.
pub fn print_ready(address: SocketAddr) -> io::Result<()> {
    print(&format!("ready: {address} (pid {})\n", std::process::id()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::RawConfig;
    use crate::config::check::{Room, check};

    #[test]
    fn the_banner_says_what_it_must() {
        let mut raw = RawConfig::new();
        raw.add_assignment("millrace.shards=2");
        let config = check(&raw, Room { core_count: 2, memory_bytes: 4 << 30 }).unwrap();
        let identity = Identity { cluster_id: crate::identity::ClusterId::from_random(1), node_id: 1 };
        let finding = Finding { level: Level::Hurts, what: "rain".into(), why: "wet", mend: "umbrella".into() };
        let text = banner(&config, &identity, config.admin.bind, &[finding]);
        for expected in [
            "AAAAAAAAAAAAAAAAAAAAAQ",
            "./millrace-data",
            "2, one core each",
            "PLAINTEXT on 127.0.0.1:9092, clients are told 127.0.0.1:9092",
            "http://127.0.0.1:9644/metrics",
            "1024 MiB (2 shards; each requests 112 MiB, decoding 16 MiB, write buffers 96 MiB",
            "commit: an answered record is on the device, unless its topic",
            "rain: wet. Mend: umbrella",
            "kcat -b 127.0.0.1:9092 -t greetings -C -e",
        ] {
            assert!(text.contains(expected), "{expected:?} is not in\n{text}");
        }
    }

    #[test]
    fn the_flush_policy_is_the_one_in_force() {
        let shown = |settings: &[&str]| {
            let mut raw = RawConfig::new();
            for setting in settings {
                raw.add_assignment(setting);
            }
            flush_policy(&check(&raw, Room { core_count: 2, memory_bytes: 4 << 30 }).unwrap())
        };
        assert!(
            shown(&["flush.policy=interval", "flush.interval.ms=70"])
                .starts_with("interval: an answered record is on the device after 70 ms or 64 MiB")
        );
        assert!(shown(&["flush.policy=none"]).starts_with("none: an answered record is on the device when the system"));
    }
}
