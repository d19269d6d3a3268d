//! docs/TUTORIAL.md, as a reader would follow it, with the answers worked out a second time from the readings.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use millrace_compat::process::{self, CLIENT_LIMIT, Running};
use millrace_compat::weather::{CITIES, reading_files};
use millrace_compat::{Broker, Kcat, python};
use rustix::process::Signal;

/// City, date and temperature of every reading.
type Readings = Vec<(&'static str, String, f64)>;

fn program(name: &str, arguments: &[&str]) -> Command {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/tutorial");
    let mut command = python::program(folder.join(name));
    command.args(arguments);
    command
}

fn readings() -> Readings {
    let mut readings = Vec::new();
    for (city, path) in CITIES.into_iter().zip(reading_files()) {
        let text = std::fs::read_to_string(path).expect("the readings are text");
        let is_date_first = text.starts_with("date,");
        for line in text.lines().skip(1) {
            let (first, second) = line.split_once(',').expect("two columns");
            let (date, temperature) = if is_date_first { (first, second) } else { (second, first) };
            readings.push((city, date[..16].to_owned(), temperature.parse().expect("a temperature")));
        }
    }
    readings
}

/// Publishes what lies between two dates; returns how much that was.
fn publish(broker: &Broker, from: &str, to: &str) -> usize {
    let mut command = program("station.py", &[broker.address(), "weather", from, to]);
    for (city, path) in CITIES.into_iter().zip(reading_files()) {
        command.arg(format!("{city}={}", path.display()));
    }
    let said = process::run(&mut command, "").text();
    let count = said.trim().strip_prefix("published ").and_then(|count| count.parse().ok());
    count.unwrap_or_else(|| panic!("the station says {said}"))
}

fn walks(readings: &Readings, is_wanted: impl Fn(&str) -> bool) -> Vec<String> {
    let is_walk = |(_, date, temperature): &&(&str, String, f64)| {
        is_wanted(date) && *temperature >= 65.0 && ("08:00".."20:00").contains(&&date[11..])
    };
    let walks = readings.iter().filter(is_walk);
    let mut walks: Vec<_> =
        walks.map(|(city, date, temperature)| format!("walk {city} {date} {temperature:?}")).collect();
    walks.sort();
    walks
}

/// Runs walks.py until it has told as many walks as are expected, stops it, and compares.
#[track_caller]
fn assert_walks(broker: &Broker, expected: &[String]) {
    let mut running = Running::start(&mut program("walks.py", &[broker.address(), "weather", "walkers"]), Vec::new());
    let mut told: Vec<_> = expected.iter().map(|_| running.next_line(CLIENT_LIMIT)).collect();
    running.signal(Signal::TERM);
    // It commits what it has told, and has nothing more to tell.
    assert_eq!(running.finish(CLIENT_LIMIT).text(), "");
    told.sort();
    assert_eq!(told, expected);
}

/// Hours, lowest and highest temperature by day, from the readings.
fn days(readings: &Readings) -> BTreeMap<String, (usize, f64, f64)> {
    let mut days = BTreeMap::new();
    for (city, date, temperature) in readings {
        let day = format!("{city}/{}", date[..10].replace('/', "-"));
        let (hours, low, high) = days.entry(day).or_insert((0, *temperature, *temperature));
        (*hours, *low, *high) = (*hours + 1, low.min(*temperature), high.max(*temperature));
    }
    days
}

/// The same from the newest record of each key in the compacted topic.
fn summaries(broker: &Broker) -> BTreeMap<String, (usize, f64, f64)> {
    let read = String::from_utf8(Kcat::new(broker.address()).read_all("days", "%k|%s\n")).expect("summaries are text");
    let number = |value: &str, name: &str| -> f64 {
        let (_, rest) = value.split_once(&format!("\"{name}\": ")).expect("a summary has this field");
        let end = rest.find([',', '}']).expect("something follows a number");
        rest[..end].parse().expect("a number")
    };
    let summary = |line: &str| {
        let (day, value) = line.split_once('|').expect("a key and a value");
        let hours = format!("{}", number(value, "hours")).parse().expect("a count");
        (day.to_owned(), (hours, number(value, "min"), number(value, "max")))
    };
    read.lines().map(summary).collect()
}

/// Reads lines until `count` readings were summed; lines that say otherwise are returned.
fn follow(running: &mut Running, count: usize) -> Vec<String> {
    let (mut summed, mut others) = (0, Vec::new());
    while summed < count {
        let line = running.next_line(CLIENT_LIMIT);
        match line.strip_prefix("summed ") {
            Some(more) => summed += more.parse::<usize>().expect("a count"),
            None => others.push(line),
        }
    }
    others
}

/// The next time that partitions were shared out.
fn next_reads(running: &mut Running) -> String {
    loop {
        let line = running.next_line(CLIENT_LIMIT);
        if line.starts_with("reads ") {
            return line;
        }
    }
}

#[test]
fn the_walker_misses_nothing_after_having_been_down() {
    let settings = ["--set", "num.partitions=2", "--set", "group.initial.rebalance.delay.ms=0"];
    let mut broker = Broker::start_with(&settings);
    let readings = readings();
    let published = publish(&broker, "2010/01/01", "2010/07/01");
    assert_walks(&broker, &walks(&readings, |date| date < "2010/07/01"));

    let rest = publish(&broker, "2010/07/01", "2011/01/01");
    assert_eq!(published + rest, readings.len(), "the readings are of one year");
    broker.kill();
    broker.start_again();
    assert_walks(&broker, &walks(&readings, |date| date >= "2010/07/01"));
}

#[test]
fn summaries_are_right_while_partitions_move() {
    let settings = ["--set", "num.partitions=4", "--set", "group.initial.rebalance.delay.ms=0"];
    let mut broker = Broker::start_with(&settings);
    let readings = readings();
    let start = |broker: &Broker| {
        let arguments = [broker.address(), "weather", "summaries", "days"];
        Running::start(&mut program("summary.py", &arguments), Vec::new())
    };
    let count = publish(&broker, "2010/01/01", "2010/05/01");
    let mut first = start(&broker);
    assert_eq!(follow(&mut first, count), ["reads [0, 1, 2, 3]"]);

    // Another joins: each has half of the partitions, and both cities are read on by one of them.
    let mut second = start(&broker);
    let shared = [next_reads(&mut second), next_reads(&mut first)];
    assert!(shared.iter().all(|reads| reads.matches(',').count() == 1), "two partitions each: {shared:?}");
    // The one is killed in the middle of it, and so is the broker; the other is given everything.
    publish(&broker, "2010/05/01", "2010/09/01");
    first.kill();
    broker.kill();
    broker.start_again();
    publish(&broker, "2010/09/01", "2011/01/01");
    assert_eq!(next_reads(&mut second), "reads [0, 1, 2, 3]");
    let expected = days(&readings);
    let complete = || summaries(&broker) == expected;
    while !complete() {
        second.next_line(CLIENT_LIMIT);
    }
    second.signal(Signal::TERM);
    second.finish(CLIENT_LIMIT).output();
    assert_eq!(summaries(&broker), expected);
}
