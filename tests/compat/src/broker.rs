//! The broker under test, as an operator has it: a command, a data directory, a port, signals and exit codes.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use rustix::process::Signal;

use crate::places;
use crate::process::{self, Finished, Running};

/// How long a start or a stop may take before the test has failed; both take a fraction of it.
const LIMIT: Duration = Duration::from_mins(1);

/// Several brokers and their clients share this machine's cores, memory and disk; and one shard would prove little.
const SHARED_MACHINE: [&str; 6] = [
    "admin.listener=127.0.0.1:0",
    "millrace.shards=2",
    "millrace.pin.cores=false",
    "millrace.memory.bytes=1073741824",
    "millrace.journal.bytes=67108864",
    "millrace.reserve.bytes=33554432",
];

/// A running broker on a directory of its own. Killed, with its directory removed, when dropped.
pub struct Broker {
    running: Option<Running>,
    /// What every start says in front of the arguments.
    settings: &'static [&'static str],
    arguments: Vec<String>,
    /// How many descriptors its process may have; `None` leaves it what the test has.
    descriptor_count_max: Option<u32>,
    /// `host:port`, the same for every start: clients and their configuration outlive a broker.
    address: String,
    data: PathBuf,
    /// Goes with the broker, if it was made for it.
    folder: Option<tempfile::TempDir>,
}

impl Broker {
    /// Starts on a fresh directory and a free port, and returns once clients may connect.
    #[track_caller]
    pub fn start() -> Broker {
        Broker::start_with(&[])
    }

    /// [`Self::start`] with further arguments, which every later start repeats.
    #[track_caller]
    pub fn start_with(arguments: &[&str]) -> Broker {
        let folder = places::fresh_folder();
        let mut broker = Broker::start_on(&folder.path().join("data"), arguments);
        broker.folder = Some(folder);
        broker
    }

    /// [`Self::start`] as on a machine of its own: with every default but the port of the admin listener.
    #[track_caller]
    pub fn start_as_usual() -> Broker {
        let folder = places::fresh_folder();
        let mut broker = Broker::stopped(&folder.path().join("data"), &[]);
        broker.folder = Some(folder);
        broker.settings = &SHARED_MACHINE[..1];
        broker.start_again();
        broker
    }

    /// [`Self::start_with`] as a process that may have `count` descriptors and no more.
    #[track_caller]
    pub fn start_with_descriptors(count: u32, arguments: &[&str]) -> Broker {
        let folder = places::fresh_folder();
        let mut broker = Broker::stopped(&folder.path().join("data"), arguments);
        broker.folder = Some(folder);
        broker.descriptor_count_max = Some(count);
        broker.start_again();
        broker
    }

    /// [`Self::start_with`] on the data directory `data`, which is left alone at the end.
    #[track_caller]
    pub fn start_on(data: &Path, arguments: &[&str]) -> Broker {
        let mut broker = Broker::stopped(data, arguments);
        broker.start_again();
        broker
    }

    fn stopped(data: &Path, arguments: &[&str]) -> Broker {
        Broker {
            running: None,
            settings: &SHARED_MACHINE,
            arguments: arguments.iter().map(ToString::to_string).collect(),
            descriptor_count_max: None,
            address: "127.0.0.1:0".to_owned(),
            data: data.to_owned(),
            folder: None,
        }
    }

    /// Starts on the directory and the port of the broker that ran before.
    #[track_caller]
    pub fn start_again(&mut self) {
        assert!(self.running.is_none(), "one broker at a time holds a data directory");
        let mut command = match self.descriptor_count_max {
            None => Command::new(places::broker()),
            Some(count) => {
                // The shell sets both limits of itself and becomes the broker.
                let mut shell = Command::new("sh");
                shell.args(["-c", &format!("ulimit -n {count}; exec \"$@\""), "sh"]).arg(places::broker());
                shell
            }
        };
        command.args(["--listen", &self.address]).arg("--data").arg(&self.data);
        command.args(self.settings.iter().flat_map(|set| ["--set", set])).args(&self.arguments);
        let mut running = Running::start(&mut command, Vec::new());
        self.address = loop {
            let line = running.next_line(LIMIT);
            if let Some(ready) = line.strip_prefix("ready: ") {
                let (address, id) = ready.split_once(' ').expect("`ready: host:port (pid n)`");
                assert_eq!(id, format!("(pid {})", running.id()), "the ready line names the broker's process");
                break address.to_owned();
            }
        };
        self.running = Some(running);
    }

    /// `host:port` for a client.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The data directory.
    pub fn data(&self) -> PathBuf {
        self.data.clone()
    }

    /// The process, while it runs.
    pub fn process(&self) -> &Running {
        self.running.as_ref().expect("the broker runs")
    }

    /// What the broker that runs has said on stderr so far.
    pub fn said(&self) -> String {
        self.running.as_ref().map_or_else(String::new, Running::stderr)
    }

    /// kill -9: whatever was in flight is lost with the process.
    pub fn kill(&mut self) {
        let mut running = self.running.take().expect("the broker runs");
        running.kill();
    }

    /// SIGTERM, then waits for the end.
    #[track_caller]
    pub fn stop(&mut self) -> ExitStatus {
        let mut running = self.running.take().expect("the broker runs");
        running.signal(Signal::TERM);
        let status = running.wait(LIMIT);
        if !status.success() {
            eprintln!("the broker's last words:\n{}", running.stderr());
        }
        status
    }

    /// Memory of the broker's process that is in use, in bytes.
    #[track_caller]
    pub fn resident_bytes(&self) -> usize {
        let status = self.read_of_process("status");
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a running process has it");
        let kibibytes: usize = resident.trim().trim_end_matches(" kB").parse().expect("a number of KiB");
        kibibytes * 1024
    }

    #[track_caller]
    fn read_of_process(&self, name: &str) -> String {
        let running = self.running.as_ref().expect("the broker was not stopped by the test");
        let path = Path::new("/proc").join(running.id().to_string()).join(name);
        std::fs::read_to_string(path).expect("a child that was not waited for is in /proc")
    }

    /// Panics, with what the broker said, if it does not run any more.
    #[track_caller]
    pub fn assert_runs(&self) {
        let running = self.running.as_ref().expect("the broker was not stopped by the test");
        let status = self.read_of_process("stat");
        // The state follows the name in parentheses; Z is a process that has ended and was not waited for.
        let state = status.rsplit(") ").next().and_then(|rest| rest.chars().next());
        assert!(state.is_some_and(|state| state != 'Z'), "the broker has ended:\n{}", running.stderr());
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let (true, Some(running)) = (std::thread::panicking(), &self.running) {
            eprintln!("the broker on {} said:\n{}", self.address, running.stderr());
        }
    }
}

/// Runs the broker's binary to its end with `arguments`, in an empty directory.
#[track_caller]
pub fn command_line(arguments: &[&str]) -> Finished {
    let folder = places::fresh_folder();
    process::run(Command::new(places::broker()).args(arguments).current_dir(folder.path()), "")
}
