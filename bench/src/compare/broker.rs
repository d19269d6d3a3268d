//! The brokers of a comparison: how each is started on fresh data, and that nothing of it is left.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use millrace_protocol::messages::metadata::MetadataRequest;
use millrace_runtime::Clock as _;
use millrace_runtime::glommio::clock::GlommioClock;
use rustix::process::{Pid, Signal, kill_process};

use super::kafka;
use crate::client::cluster::{pause, resolve_address};
use crate::client::control::Client;
use crate::stop::Stop;

/// One way to start a broker.
#[derive(Clone, Debug)]
pub(super) enum Launcher {
    /// `flush.policy=commit` and all other defaults.
    Millrace { program: PathBuf },
    /// One broker that is its own controller, with the heap and the collector that its start script sets.
    Kafka {
        jars: PathBuf,
        /// Lines of its configuration beside what it needs to start.
        settings: &'static [&'static str],
    },
    /// Whatever a shell starts, at an address that is known. It looks after its data itself.
    Command { command: String, bootstrap: String },
}

/// A broker that can be started, with a folder of its own, which is removed when this is dropped.
pub(super) struct Prepared {
    command: Command,
    folder: PathBuf,
    /// `HOST:PORT`.
    pub(super) bootstrap: String,
    /// Address of Millrace's admin listener; empty for others.
    pub(super) admin: String,
}

/// A broker's process, which serves. It is ended when dropped.
pub(super) struct Broker {
    child: Child,
    prepared: Prepared,
}

impl Launcher {
    /// Whether its brokers can be had twice at once, and started again on their data.
    pub(super) const fn knows_its_data(&self) -> bool {
        !matches!(self, Self::Command { .. })
    }

    /// Makes the empty folder `name` in `directory` for a broker. `own_settings` are for Millrace only.
    pub(super) fn prepare(&self, directory: &Path, name: &str, own_settings: &[&str]) -> anyhow::Result<Prepared> {
        let folder = directory.join(format!("millbench-compare-{}-{name}", std::process::id()));
        fs::create_dir(&folder).with_context(|| format!("making {}", folder.display()))?;
        let mut prepared =
            Prepared { command: Command::new("sh"), folder, bootstrap: String::new(), admin: String::new() };
        match self {
            Self::Millrace { program } => {
                (prepared.bootstrap, prepared.admin) = (free_address()?, free_address()?);
                prepared.command = Command::new(program);
                let data = prepared.folder.join("data");
                prepared.command.arg("--data").arg(data).args(["--listen", &prepared.bootstrap]);
                prepared.command.args(["--set", &format!("admin.listener={}", prepared.admin)]);
                prepared.command.args(own_settings.iter().flat_map(|setting| ["--set", setting]));
            }
            Self::Kafka { jars, settings } => {
                let controller = free_address()?;
                prepared.bootstrap = free_address()?;
                prepared.command = kafka::command(jars, &prepared.folder, &prepared.bootstrap, &controller, settings)?;
            }
            Self::Command { command: line, bootstrap } => {
                prepared.bootstrap.clone_from(bootstrap);
                // Without `exec` the shell would be the process that is measured and ended.
                prepared.command.arg("-c").arg(format!("exec {line}"));
            }
        }
        Ok(prepared)
    }
}

impl Prepared {
    /// Starts the broker and returns once it answers.
    pub(super) fn start(mut self, stop: &Stop) -> anyhow::Result<Broker> {
        let log = File::create(self.folder.join(LOG_NAME))?;
        self.command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        // Ctrl-C is for this process, which ends the broker when it has what it can get.
        self.command.process_group(0);
        let child = self.command.spawn().with_context(|| format!("starting {:?}", self.command))?;
        let mut broker = Broker { child, prepared: self };
        broker.wait_until_it_serves(stop)?;
        Ok(broker)
    }

    /// What starts the broker, for a shell.
    pub(super) fn shell_line(&self) -> String {
        let words = std::iter::once(self.command.get_program()).chain(self.command.get_args());
        let quoted = words.map(|word| format!("'{}'", word.to_string_lossy().replace('\'', r"'\''")));
        let log = self.folder.join(LOG_NAME);
        format!("{} >>'{}' 2>&1", quoted.collect::<Vec<_>>().join(" "), log.display())
    }
}

impl Drop for Prepared {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.folder) {
            eprintln!("{} could not be removed: {error}", self.folder.display());
        }
    }
}

impl Broker {
    /// What it was started from.
    pub(super) const fn prepared(&self) -> &Prepared {
        &self.prepared
    }

    /// Its process.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Bytes that the process has had read from devices so far.
    pub(super) fn disk_read_bytes(&self) -> anyhow::Result<u64> {
        let path = format!("/proc/{}/io", self.pid());
        let text = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
        let line = text.lines().find_map(|line| line.strip_prefix("read_bytes: "));
        line.and_then(|bytes| bytes.parse().ok()).with_context(|| format!("{path} has an unknown form"))
    }

    fn wait_until_it_serves(&mut self, stop: &Stop) -> anyhow::Result<()> {
        let clock = GlommioClock::default();
        let began = clock.now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                bail!("the broker has ended ({status}) before it served; its last words:\n{}", self.last_words());
            }
            if is_serving(&self.prepared.bootstrap).unwrap_or(false) {
                return Ok(());
            }
            ensure!(!stop.is_asked(), "stopped while a broker was starting");
            ensure!(
                clock.now() - began < START_MAX,
                "no broker after {START_MAX:?}; its last words:\n{}",
                self.last_words()
            );
            pause(PROBE_EVERY);
        }
    }

    fn last_words(&self) -> String {
        let text = fs::read_to_string(self.prepared.folder.join(LOG_NAME)).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
    }

    fn end(&mut self) -> anyhow::Result<()> {
        if let Some(pid) = i32::try_from(self.pid()).ok().and_then(Pid::from_raw) {
            // Fails if it has ended by itself, which is as good.
            kill_process(pid, Signal::TERM).ok();
        }
        let clock = GlommioClock::default();
        let began = clock.now();
        while self.child.try_wait()?.is_none() {
            if clock.now() - began > END_MAX {
                self.child.kill()?;
                self.child.wait()?;
            }
            pause(PROBE_EVERY);
        }
        Ok(())
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("a broker could not be ended: {error:#}");
        }
    }
}

/// Whether a broker there names itself among those of its cluster: from then on it makes topics.
fn is_serving(bootstrap: &str) -> anyhow::Result<bool> {
    let mut client = Client::connect(&resolve_address(bootstrap)?.to_string())?;
    let request = MetadataRequest { topics: Some(Vec::new()), ..MetadataRequest::default() };
    Ok(!client.call(METADATA_VERSION, &request)?.brokers.is_empty())
}

/// An address of the loopback whose port nobody had a moment ago.
fn free_address() -> anyhow::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").context("looking for a free port")?;
    let address: SocketAddr = listener.local_addr()?;
    Ok(address.to_string())
}

const LOG_NAME: &str = "output.txt";
const LAST_LINES: usize = 20;
const METADATA_VERSION: i16 = 9;
/// A virtual machine on a machine with two cores takes ten seconds.
const START_MAX: Duration = Duration::from_mins(2);
/// One that takes longer to stop is killed.
const END_MAX: Duration = Duration::from_mins(1);
const PROBE_EVERY: Duration = Duration::from_millis(20);
