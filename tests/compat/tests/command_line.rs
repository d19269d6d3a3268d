//! The command line: exit codes, and messages that name the key.

use millrace_compat::Broker;
use millrace_compat::broker::command_line;

#[test]
fn a_second_broker_on_the_same_directory_is_refused() {
    let broker = Broker::start();
    let data = broker.data();
    let second = command_line(&["--listen", "127.0.0.1:0", "--data", data.to_str().unwrap()]);
    assert_eq!(second.status.code(), Some(3), "{}", second.stderr);
    assert!(second.stderr.contains(data.to_str().unwrap()), "the directory is named: {}", second.stderr);
    broker.assert_runs();
}

#[test]
fn an_unknown_key_stops_the_start_and_names_the_nearest() {
    for arguments in [&["--set", "num.partition=3"][..], &["check-config", "--set", "num.partition=3"]] {
        let refused = command_line(arguments);
        assert_eq!(refused.status.code(), Some(2), "{arguments:?}: {}", refused.stderr);
        assert!(refused.stderr.contains("num.partition"), "{}", refused.stderr);
        assert!(refused.stderr.contains("num.partitions"), "{}", refused.stderr);
    }
}

#[test]
fn a_value_out_of_range_stops_the_start_and_names_the_key() {
    let refused = command_line(&["--set", "num.partitions=0"]);
    assert_eq!(refused.status.code(), Some(2), "{}", refused.stderr);
    assert!(refused.stderr.contains("num.partitions"), "{}", refused.stderr);
}

#[test]
fn a_missing_or_broken_file_stops_the_start_and_is_named() {
    let missing = command_line(&["--config", "absent.toml"]);
    assert_eq!(missing.status.code(), Some(2), "{}", missing.stderr);
    assert!(missing.stderr.contains("absent.toml"), "{}", missing.stderr);
}

#[test]
fn a_right_configuration_is_called_right() {
    assert_eq!(command_line(&["check-config"]).status.code(), Some(0));
    assert_eq!(command_line(&["check-config", "--set", "num.partitions=3"]).status.code(), Some(0));
}

#[test]
fn every_key_is_described() {
    let described = command_line(&["describe-config"]).text();
    for key in ["listeners", "log.dirs", "num.partitions", "message.max.bytes", "millrace.shards", "flush.policy"] {
        assert!(described.contains(key), "{key} in {described}");
    }
}
