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

/// A broker's process, which serves. It is ended when dropped, and its folder removed.
pub(super) struct Broker {
    child: Child,
    bootstrap: String,
    folder: PathBuf,
}

impl Launcher {
    /// Starts it with an empty folder in `directory` and returns once it answers.
    pub(super) fn start(&self, directory: &Path, stop: &Stop) -> anyhow::Result<Broker> {
        let folder = directory.join(format!("millbench-compare-{}", std::process::id()));
        fs::create_dir(&folder).with_context(|| format!("making {}", folder.display()))?;
        let started = self.start_in(&folder);
        let (child, bootstrap) = match started {
            Ok(started) => started,
            Err(error) => {
                fs::remove_dir_all(&folder).ok();
                return Err(error);
            }
        };
        let mut broker = Broker { child, bootstrap, folder };
        broker.wait_until_it_serves(stop)?;
        Ok(broker)
    }

    fn start_in(&self, folder: &Path) -> anyhow::Result<(Child, String)> {
        let (mut command, bootstrap) = match self {
            Self::Millrace { program } => {
                let bootstrap = free_address()?;
                let mut command = Command::new(program);
                command.arg("--data").arg(folder.join("data")).args(["--listen", &bootstrap]);
                command.args(["--set", "admin.listener=127.0.0.1:0"]);
                (command, bootstrap)
            }
            Self::Kafka { jars, settings } => {
                let (bootstrap, controller) = (free_address()?, free_address()?);
                (kafka::command(jars, folder, &bootstrap, &controller, settings)?, bootstrap)
            }
            Self::Command { command: line, bootstrap } => {
                let mut command = Command::new("sh");
                // Without `exec` the shell would be the process that is measured and ended.
                command.arg("-c").arg(format!("exec {line}"));
                (command, bootstrap.clone())
            }
        };
        let log = File::create(folder.join(LOG_NAME))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        // Ctrl-C is for this process, which ends the broker when it has what it can get.
        command.process_group(0);
        let child = command.spawn().with_context(|| format!("starting {command:?}"))?;
        Ok((child, bootstrap))
    }
}

impl Broker {
    /// `HOST:PORT`.
    pub(super) fn bootstrap(&self) -> &str {
        &self.bootstrap
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
            if is_serving(&self.bootstrap).unwrap_or(false) {
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
        let text = fs::read_to_string(self.folder.join(LOG_NAME)).unwrap_or_default();
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
        if let Err(error) = fs::remove_dir_all(&self.folder) {
            eprintln!("{} could not be removed: {error}", self.folder.display());
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
