//! `millrace doctor`: everything that would keep a broker with this configuration from starting here, or would hurt it.
//!
//! It looks and changes nothing: no directory is made, no file either, and an address is taken for a moment only. What a
//! start finds out by doing (taking the lock, the directory, the addresses) is gathered as facts in [`Home`]; the rest is
//! what `preflight` judges at each start. Judging is pure.

use std::fmt::Write as _;
use std::io;
use std::net::{SocketAddr, TcpListener};

use crate::config::{Config, DescriptorPlan};
use crate::identity::{Identity, IdentityError};
use crate::lock::{DataLock, LockError};
use crate::machine::Machine;
use crate::preflight::{self, Finding, Level};

/// What a start would find out by doing.
#[derive(Debug, Default)]
pub struct Home {
    /// Why the data directory cannot be locked.
    pub lock: Option<LockError>,
    /// Why the data directory is not this node's.
    pub identity: Option<IdentityError>,
    /// The addresses that cannot be had.
    pub ports: Vec<Port>,
}

/// An address that cannot be had.
#[derive(Debug)]
pub struct Port {
    /// The key that names it.
    pub key: &'static str,
    /// The address.
    pub address: SocketAddr,
    /// What the system said.
    pub error: io::Error,
}

/// Looks at everything and judges it. What prevents the start comes first.
pub fn examine(config: &Config) -> Vec<Finding> {
    let machine = Machine::read(&config.node.directory);
    let connection_count_max = config.net.connection_count_max;
    let descriptors = DescriptorPlan::cut(machine.open_file_count_max, config.shards.count, connection_count_max);
    let mut findings = judge_home(&Home::read(config), config);
    findings.extend(preflight::judge(&machine, config, descriptors.as_ref()));
    findings.sort_by_key(|finding| finding.level);
    findings
}

impl Home {
    fn read(config: &Config) -> Self {
        let directory = &config.node.directory;
        let listeners = config.net.listeners.iter().map(|listener| ("listeners", listener.bind));
        let addresses = listeners.chain(config.admin.bind.map(|bind| ("admin.listener", bind)));
        // The socket is closed at once, and nobody has connected to it.
        let try_address = |(key, address)| TcpListener::bind(address).err().map(|error| Port { key, address, error });
        Self {
            lock: DataLock::look(directory).err(),
            identity: Identity::load(directory, config.node.node_id).err(),
            ports: addresses.filter_map(try_address).collect(),
        }
    }
}

/// Judges what a start would find out by doing.
pub fn judge_home(home: &Home, config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut push = |what: String, why: &'static str, mend: String| {
        findings.push(Finding { level: Level::Stops, what, why, mend });
    };
    let directory = config.node.directory.display();
    if let Some(error) = &home.lock {
        let mend = match error {
            LockError::Held { holder: Some(pid), .. } => format!("kill {pid} (and wait until it has stopped)"),
            LockError::Held { holder: None, .. } => format!("fuser -v {directory}/lock (names the process to stop)"),
            LockError::Io { .. } => format!("ls -ld {directory} {directory}/lock (then give them to this user)"),
        };
        push(error.to_string(), "two brokers on one directory would destroy it", mend);
    }
    if let Some(error) = &home.identity {
        let mend = match error {
            IdentityError::OtherNode { found, .. } => format!("millrace --set node.id={found}"),
            IdentityError::OtherFormat { .. } | IdentityError::Damaged { .. } | IdentityError::Io { .. } => {
                "millrace --data <another directory>".to_owned()
            }
        };
        push(error.to_string(), "what is in it is not this broker's to read", mend);
    }
    for Port { key, address, error } in &home.ports {
        let mend = match error.kind() {
            io::ErrorKind::AddrInUse => {
                format!("ss -ltnp 'sport = :{}' (names who has it; or set {key})", address.port())
            }
            io::ErrorKind::PermissionDenied => format!("set {key} to a port from 1024 on"),
            _ => format!("ip address (lists this machine's own; then set {key})"),
        };
        push(format!("{key}: {address} cannot be had ({error})"), "nobody could connect there", mend);
    }
    findings
}

/// Whether a broker would start.
pub fn may_start(findings: &[Finding]) -> bool {
    findings.iter().all(|finding| finding.level != Level::Stops)
}

/// One line for each finding, and one that sums up.
pub fn describe(findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        let level = match finding.level {
            Level::Stops => "stops",
            Level::Hurts => "hurts",
        };
        writeln!(text, "{level}  {finding}").expect("writing to a String cannot fail");
    }
    let stopping_count = findings.iter().filter(|finding| finding.level == Level::Stops).count();
    let verdict = match (stopping_count, findings.len()) {
        (0, 0) => "nothing found: a broker would start here".to_owned(),
        (0, count) => format!("a broker would start here; {count} found that will hurt it"),
        (stopping, _) => format!("a broker would not start here: {stopping} found that prevent it"),
    };
    text + &verdict + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::RawConfig;
    use crate::config::check::{Room, check};

    fn judged(home: &Home) -> Vec<Finding> {
        let config = check(&RawConfig::new(), Room { core_count: 2, memory_bytes: 4 << 30 }).unwrap();
        judge_home(home, &config)
    }

    #[track_caller]
    fn mends(home: &Home, what: &str, mend: &str) {
        let findings = judged(home);
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert!(findings[0].what.contains(what) && findings[0].mend.contains(mend), "{}", findings[0]);
        assert!(!may_start(&findings));
    }

    #[test]
    fn a_free_home_has_no_findings() {
        assert_eq!(judged(&Home::default()), []);
        assert!(describe(&[]).contains("would start"));
    }

    #[test]
    fn each_obstacle_has_its_mend() {
        let directory = "./millrace-data".to_owned();
        let held =
            |holder| Home { lock: Some(LockError::Held { directory: directory.clone(), holder }), ..Home::default() };
        mends(&held(Some("77".to_owned())), "in use by another broker (pid 77)", "kill 77");
        mends(&held(None), "in use by another broker", "fuser -v ./millrace-data/lock");
        let other = IdentityError::OtherNode { file: "node.toml".to_owned(), found: 4, expected: 1 };
        mends(&Home { identity: Some(other), ..Home::default() }, "made by node.id 4", "node.id=4");
        let port = |kind: io::ErrorKind| {
            let address = "127.0.0.1:9092".parse().unwrap();
            Home { ports: vec![Port { key: "listeners", address, error: kind.into() }], ..Home::default() }
        };
        mends(&port(io::ErrorKind::AddrInUse), "listeners: 127.0.0.1:9092", "sport = :9092");
        mends(&port(io::ErrorKind::PermissionDenied), "cannot be had", "1024");
        mends(&port(io::ErrorKind::AddrNotAvailable), "cannot be had", "ip address");
    }

    #[test]
    fn each_finding_is_one_line_with_its_level() {
        let finding = |level| Finding { level, what: "rain".to_owned(), why: "wet", mend: "umbrella".to_owned() };
        let text = describe(&[finding(Level::Stops), finding(Level::Hurts)]);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[..2], ["stops  rain: wet. Mend: umbrella", "hurts  rain: wet. Mend: umbrella"]);
        assert_eq!(lines[2], "a broker would not start here: 1 found that prevent it");
    }
}
