//! `millbench` against real brokers: what it finds out by itself is there, and nothing was lost.

use std::net::TcpListener;
use std::process::Command;
use std::time::Duration;

use millrace_compat::{places, process};
use serde_json::Value;

/// Runs millbench, which must succeed, and returns what it writes as JSON.
fn millbench(arguments: &[&str]) -> Value {
    let mut command = Command::new(places::millbench());
    command.args(arguments).args(["--json", "-"]);
    let output = process::Running::start(&mut command, Vec::new()).finish(LIMIT).output();
    serde_json::from_slice(&output).expect("a JSON document")
}

fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("the loopback has a free port");
    listener.local_addr().expect("a bound listener has an address").to_string()
}

fn text<'a>(run: &'a Value, name: &str) -> &'a str {
    run["results"][name].as_str().unwrap_or_else(|| panic!("{name} is missing: {}", run["results"]))
}

#[test]
fn a_comparison_has_both_brokers_in_every_row() {
    let folder = places::fresh_folder();
    let [directory, data] =
        [folder.path().to_path_buf(), folder.path().join("peer")].map(|path| path.display().to_string());
    let (program, address) = (places::broker().display().to_string(), free_address());
    let peer = format!("{program} --data {data} --listen {address} --set admin.listener=none");
    let ours = ["compare", "--quick", "--directory", &directory, "--millrace", &program];
    let theirs = ["--peer", &peer, "--peer-bootstrap", &address, "--only", "1 record per request,rolls"];
    let document = millbench(&[&ours[..], &theirs[..]].concat());
    let rows = document["rows"].as_array().expect("rows");
    assert_eq!(rows.len(), 2, "{rows:?}");
    for row in rows {
        // Only the first one's load is run against the peer.
        let is_compared = row["load"] == "one record per request";
        assert!(row["ours"].as_f64().is_some_and(|ours| ours > 0.0), "{row}");
        assert_eq!(row["theirs"].as_f64().is_some(), is_compared, "{row}");
        assert_eq!(
            row["holds"].as_bool(),
            row["ours"].as_f64().zip(row["must"].as_f64()).map(|(ours, must)| ours <= must)
        );
    }
    let left: Vec<_> =
        std::fs::read_dir(&directory).expect("the folder").map(|entry| entry.expect("an entry").file_name()).collect();
    assert_eq!(left, ["peer"], "a comparison leaves nothing of its own");
}

#[test]
fn a_killed_broker_is_timed_until_all_of_it_serves() {
    let folder = places::fresh_folder();
    let (data, address) = (folder.path().join("data").display().to_string(), free_address());
    let log = folder.path().join("log").display().to_string();
    let program = places::broker().display().to_string();
    let command = format!("{program} --data {data} --listen {address} --set admin.listener=none >>{log} 2>&1");
    let size = ["--partitions", "20", "--groups", "5", "--fill", "4M", "--warm-up", "0s", "--duration", "500ms"];
    let document = millbench(&[&["restart", "--bootstrap", &address, "--command", &command][..], &size].concat());
    let run = &document["runs"][0];
    assert_eq!(run["findings"], Value::Array(Vec::new()));
    let counts = run["series"].as_array().expect("series").iter().map(|series| series["request_count"].as_u64());
    assert_eq!(counts.take(3).collect::<Vec<_>>(), [Some(1), Some(20), Some(20)]);
    for name in ["the first produce answered", "a produce and a fetch answered by every partition", "every group known"]
    {
        assert!(text(run, &format!("from start to {name}")).ends_with(" ms"));
    }
}

#[test]
fn reading_from_another_shard_is_told_apart() {
    let folder = places::fresh_folder();
    let [address, admin] = [free_address(), free_address()];
    let mut command = Command::new(places::broker());
    command.arg("--data").arg(folder.path().join("data")).args(["--listen", &address, "--set", "millrace.shards=2"]);
    command.args(["--set", &format!("admin.listener={admin}"), "--set", "millrace.memory.bytes=1073741824"]);
    let mut broker = process::Running::start_open(&mut command);
    while !broker.next_line(LIMIT).starts_with("ready:") {}
    let pid = broker.id().to_string();
    let target = ["--bootstrap", &address, "--broker-pid", &pid];
    millbench(&[&["produce", "--partitions", "1", "--bytes", "8M"], &target[..]].concat());
    let time = ["--warm-up", "0s", "--duration", "300ms", "--rounds", "1"];
    let document = millbench(&[&["shards", "--admin", &admin][..], &target, &time].concat());
    let run = &document["runs"][0];
    for shard in ["the same shard", "another shard"] {
        let cost = text(run, &format!("broker's CPU s per GB from {shard}"));
        assert!(cost.parse::<f64>().is_ok_and(f64::is_finite), "{shard} was never seen: {cost}");
    }
}

/// A comparison starts four brokers and measures the machine in between.
const LIMIT: Duration = Duration::from_mins(5);
