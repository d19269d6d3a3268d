//! The `millrace` program from outside: what it prints, and how it ends.
#![expect(clippy::unwrap_used, reason = "a test's helper functions may fail the test")]

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Output, Stdio};

use rustix::process::{Pid, Signal};

fn millrace() -> Command {
    Command::new(env!("CARGO_BIN_EXE_millrace"))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn outcome(output: &Output) -> (Option<i32>, String, String) {
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn a_good_configuration_is_ok_with_its_effective_values() {
    let output = millrace().args(["check-config", "--set", "node.id=5", "--listen", "127.0.0.1:0"]).output().unwrap();
    let (code, out, error) = outcome(&output);
    assert_eq!((code, error.as_str()), (Some(0), ""));
    assert!(out.starts_with("ok\n"), "{out}");
    let node = out.lines().find(|line| line.starts_with("\"node.id\"")).unwrap();
    assert!(node.contains("= 5") && node.ends_with("# --set"), "{node}");
}

#[test]
fn all_errors_are_printed_and_the_start_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("millrace.toml");
    std::fs::write(&file, "num.partition = 3\nnode.id = -4\n").unwrap();
    for command in [vec!["check-config"], vec![]] {
        let output = millrace().args(command).arg("--config").arg(&file).arg("--set").arg("x").output().unwrap();
        let (code, out, error) = outcome(&output);
        assert_eq!((code, out.as_str()), (Some(2), ""));
        let lines: Vec<_> = error.lines().collect();
        assert_eq!(lines.len(), 3, "{error}");
        assert_eq!(lines[0], "millrace: --set x: expected key=value");
        assert_eq!(lines[1], "millrace: num.partition: unknown key (file); did you mean num.partitions?");
        assert!(lines[2].starts_with("millrace: node.id: \"-4\" (file)"), "{error}");
    }
    let output = millrace().args(["--config", "/nonexistent"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn the_reference_is_printed() {
    let (code, out, _) = outcome(&millrace().arg("describe-config").output().unwrap());
    assert_eq!(code, Some(0));
    assert!(out.contains("| `listeners` |"));
}

/// Starts a broker in `directory` and returns once its banner is complete.
fn start(directory: &std::path::Path) -> Child {
    let mut broker = millrace()
        .args(["--listen", "127.0.0.1:0", "--set", "millrace.memory.bytes=128MiB", "--set", "millrace.shards=1"])
        .arg("--data")
        .arg(directory)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(broker.stdout.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().starts_with("millrace "));
    assert!(lines.any(|line| line.unwrap().contains("kcat -b")));
    broker
}

#[test]
fn a_directory_serves_one_broker_of_one_number() {
    let directory = tempfile::tempdir().unwrap();
    let mut first = start(directory.path());

    let second = millrace().arg("--data").arg(directory.path()).output().unwrap();
    let (code, _, error) = outcome(&second);
    assert_eq!(code, Some(3));
    assert!(error.contains(&format!("in use by another broker (pid {})", first.id())), "{error}");

    first.kill().unwrap();
    first.wait().unwrap();
    let other = millrace().args(["--set", "node.id=9", "--data"]).arg(directory.path()).output().unwrap();
    let (code, _, error) = outcome(&other);
    assert_eq!(code, Some(4));
    assert!(error.contains("made by node.id 1"), "{error}");
}

#[test]
fn a_signal_stops_cleanly() {
    let directory = tempfile::tempdir().unwrap();
    for signal in [Signal::TERM, Signal::INT] {
        let broker = start(directory.path());
        let pid = Pid::from_raw(i32::try_from(broker.id()).unwrap()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
        let output = broker.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0));
        assert!(!text(&output.stderr).contains("ERROR"), "nothing went wrong: {}", text(&output.stderr));
    }
}

#[test]
fn the_doctor_says_what_keeps_a_broker_from_starting_and_touches_nothing() {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("data");
    let doctor = |settings: &[&str]| {
        let mut command = millrace();
        command.args(["doctor", "--listen", "127.0.0.1:0", "--set", "millrace.memory.bytes=128MiB", "--data"]);
        command.arg(&directory).args(["--set", "millrace.shards=1", "--set", "millrace.journal.bytes=16MiB"]);
        command.args(["--set", "millrace.reserve.bytes=1MiB"]);
        outcome(&command.args(settings.iter().flat_map(|setting| ["--set", setting])).output().unwrap())
    };
    let (code, out, error) = doctor(&[]);
    assert_eq!((code, error.as_str()), (Some(0), ""), "{out}");
    assert!(!out.contains("stops"), "{out}");
    assert_eq!(std::fs::read_dir(parent.path()).unwrap().count(), 0, "it makes no directory");

    let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = holder.local_addr().unwrap();
    let (code, out, _) = doctor(&[&format!("admin.listener={address}")]);
    assert_eq!(code, Some(4));
    assert!(out.starts_with(&format!("stops  admin.listener: {address} cannot be had")), "{out}");

    let mut broker = start(&directory);
    let (code, out, _) = doctor(&["node.id=9"]);
    assert_eq!(code, Some(4));
    let lines: Vec<_> = out.lines().filter(|line| line.starts_with("stops")).collect();
    assert!(lines[0].contains(&format!("Mend: kill {}", broker.id())), "{out}");
    assert!(lines[1].contains("made by node.id 1") && lines.len() == 2, "{out}");
    broker.kill().unwrap();
    broker.wait().unwrap();
    assert_eq!(doctor(&["num.partition=3"]).0, Some(2), "the configuration is judged first");
}
