//! A real Apache Kafka: one broker that is its own controller, from the jars of the command-line programs.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use crate::places;
use crate::process::{self, Running};

/// Starting takes it ten seconds on a machine with nothing else to do.
const LIMIT: Duration = Duration::from_mins(2);

const CONFIG_NAME: &str = "server.properties";

/// How often it is looked whether the port is open. The jars bring no logging, so there is no line to wait for.
const PROBE_EVERY: Duration = Duration::from_millis(50);

/// The virtual machine of a broker that shares a small machine with the test.
const SMALL: &[&str] = &["-Xmx512m", "-XX:+UseSerialGC"];

/// The virtual machine as Kafka's own start script sets it up.
const USUAL: &[&str] = &[
    "-Xmx1G",
    "-Xms1G",
    "-server",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
    "-XX:+ExplicitGCInvokesConcurrent",
];

/// A broker on a directory of its own. Killed when dropped.
pub struct Apache {
    running: Option<Running>,
    machine: &'static [&'static str],
    folder: tempfile::TempDir,
    address: String,
}

impl Apache {
    /// Starts on free ports, with the defaults but for `settings` (`key=value`) and a small heap, and returns once clients
    /// may connect.
    #[track_caller]
    pub fn start(settings: &[&str]) -> Apache {
        Apache::start_in(SMALL, settings)
    }

    /// [`Self::start`] with the heap and the collector that Kafka's own start script gives it.
    #[track_caller]
    pub fn start_as_usual() -> Apache {
        Apache::start_in(USUAL, &[])
    }

    #[track_caller]
    fn start_in(machine: &'static [&'static str], settings: &[&str]) -> Apache {
        let folder = places::fresh_folder();
        let (port, controller_port) = free_ports();
        let address = format!("127.0.0.1:{port}");
        let controller = format!("127.0.0.1:{controller_port}");
        let data = folder.path().join("data").display().to_string();
        let mut properties = format!(
            "process.roles=broker,controller\n\
             node.id=1\n\
             controller.quorum.voters=1@{controller}\n\
             controller.listener.names=CONTROLLER\n\
             listeners=PLAINTEXT://{address},CONTROLLER://{controller}\n\
             listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT\n\
             log.dirs={data}\n\
             offsets.topic.replication.factor=1\n"
        );
        for setting in settings {
            properties.push_str(setting);
            properties.push('\n');
        }
        let config = folder.path().join(CONFIG_NAME);
        fs::write(&config, properties).expect("a fresh folder takes a file");
        let config = config.to_str().expect("temporary names are text");
        let format = ["format", "-t", "bWlsbHJhY2UtanVkZ2UtMQ", "-c", config];
        process::run(java(SMALL, "kafka.tools.StorageTool").args(format), "").output();
        let mut apache = Apache { running: None, machine, folder, address };
        apache.start_again();
        apache
    }

    /// Starts on the directory and the port of the broker that was stopped.
    #[track_caller]
    pub fn start_again(&mut self) {
        assert!(self.running.is_none(), "one broker at a time holds a data directory");
        let mut command = java(self.machine, "kafka.Kafka");
        let running = Running::start(command.arg(self.folder.path().join(CONFIG_NAME)), Vec::new());
        let mut probes = LIMIT.as_millis() / PROBE_EVERY.as_millis();
        while TcpStream::connect(&self.address).is_err() {
            assert!(!running.ends_within(PROBE_EVERY), "Kafka has ended\n{}", running.stderr());
            probes = probes.checked_sub(1).unwrap_or_else(|| panic!("no Kafka after {LIMIT:?}\n{}", running.stderr()));
        }
        self.running = Some(running);
    }

    /// SIGTERM, then waits for the end.
    #[track_caller]
    pub fn stop(&mut self) {
        let mut running = self.running.take().expect("the broker runs");
        running.signal(Signal::TERM);
        running.wait(LIMIT);
    }

    /// The process, while it runs.
    pub fn process(&self) -> &Running {
        self.running.as_ref().expect("the broker runs")
    }

    /// `host:port` for a client.
    pub fn address(&self) -> &str {
        &self.address
    }
}

fn java(machine: &[&str], class: &str) -> Command {
    let mut command = Command::new("java");
    command.args(machine).args(["-Djava.awt.headless=true", "-cp"]);
    command.arg(places::client("kafka").join("*")).arg(class);
    command
}

/// Two ports that nobody had a moment ago: Kafka must be told its controller's before it starts.
fn free_ports() -> (u16, u16) {
    let bound = [(), ()].map(|()| TcpListener::bind("127.0.0.1:0").expect("the loopback has free ports"));
    let [first, second] = bound.map(|listener| listener.local_addr().expect("a bound socket has an address").port());
    (first, second)
}
