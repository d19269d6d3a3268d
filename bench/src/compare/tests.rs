//! Tests of `compare`: the catalogue is whole, and brokers leave nothing behind.

use std::collections::BTreeSet;

use super::*;

#[test]
fn every_row_has_its_load_and_every_load_its_rows() {
    let names: BTreeSet<&str> = ROWS.iter().map(|row| row.name).collect();
    assert_eq!(names.len(), ROWS.len(), "a name is one row's");
    for row in ROWS {
        let load = LOADS.iter().find(|load| load.name == row.load).unwrap();
        let peer = match row.judged {
            Judged::Figure => Side::Ours,
            Judged::RatioToPeer => Side::Theirs,
            Judged::RatioToFlushed => Side::TheirsFlushed,
        };
        assert!(load.sides.contains(&peer), "{} needs a run of {peer:?}", row.name);
        assert!(row.keeps(row.reach, row.must), "{}: what is reached for is better than what must be", row.name);
    }
    for load in LOADS {
        assert!(ROWS.iter().any(|row| row.load == load.name), "{} is run for nobody", load.name);
    }
}

#[test]
fn every_line_is_one_that_a_reader_can_type() {
    for load in LOADS {
        for scale in [Scale::Full, Scale::Quick] {
            let [bootstrap, admin, second] = ["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"].map(str::to_owned);
            let stage = Stage { bootstrap, pid: 1, admin, second, command: "true 'and so on'".to_owned() };
            for line in load.lines_on(scale, &stage) {
                assert!(!line.iter().any(|word| word.contains(['{', '}'])), "{line:?}");
                LoadTask::parse(&line).unwrap_or_else(|error| panic!("{line:?}: {error:#}"));
            }
        }
    }
}

#[test]
fn a_peer_that_ends_at_once_is_named_and_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let launcher =
        Launcher::Command { command: "sh -c 'echo no such luck; exit 3'".into(), bootstrap: "127.0.0.1:1".into() };
    let prepared = launcher.prepare(directory.path(), "peer", &[]).unwrap();
    let error = prepared.start(&Stop::default()).err().unwrap().to_string();
    assert!(error.contains("exit status: 3") && error.contains("no such luck"), "{error}");
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn the_shell_starts_what_would_be_started_without_it() {
    let directory = tempfile::tempdir().unwrap();
    let launcher = Launcher::Command { command: "printf '%s|' it\\'s \"$0\"".into(), bootstrap: "127.0.0.1:1".into() };
    let prepared = launcher.prepare(directory.path(), "peer", &[]).unwrap();
    let line = prepared.shell_line();
    assert!(std::process::Command::new("sh").arg("-c").arg(&line).status().unwrap().success());
    let folder = std::fs::read_dir(directory.path()).unwrap().next().unwrap().unwrap().path();
    assert_eq!(std::fs::read_to_string(folder.join("output.txt")).unwrap(), "it's|sh|");
}

#[test]
fn rows_are_chosen_by_name_or_load() {
    let chosen = |only: &str| ROWS.iter().filter(|row| is_wanted(row, &[only.to_owned()])).count();
    assert_eq!(chosen("rolls"), 1);
    assert!(chosen("p99.9") >= 4 && chosen("end to end") == 2 && chosen("nothing") == 0);
}
