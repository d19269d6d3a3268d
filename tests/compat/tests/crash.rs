//! kill -9 and a restart: what was acknowledged is there, once, in order, byte by byte.

use millrace_compat::kcat::lines_of;
use millrace_compat::process::CLIENT_LIMIT;
use millrace_compat::weather::{CITIES, Weather, lines, values_of};
use millrace_compat::{Broker, Kcat, java, python};

/// Kills the broker, starts it again, and compares the topic with the files.
#[track_caller]
fn kill_and_compare(mut broker: Broker, topic: &str, weather: &Weather) {
    broker.kill();
    broker.start_again();
    weather.assert_equals(&Kcat::new(broker.address()).read_all(topic, "%k|%s\n"));
}

#[test]
fn the_weather_published_by_kcat_survives() {
    let broker = Broker::start_with(&["--set", "num.partitions=2"]);
    let weather = Weather::read();
    Kcat::new(broker.address()).produce("weather", &["-K", "|"], weather.records());
    kill_and_compare(broker, "weather", &weather);
}

#[test]
fn the_weather_published_by_java_survives() {
    let broker = Broker::start_with(&["--set", "num.partitions=2"]);
    let weather = Weather::read();
    java::produce_keyed(broker.address(), "weather", weather.records());
    kill_and_compare(broker, "weather", &weather);
}

#[test]
fn java_reads_after_the_crash_what_kcat_published_before() {
    let mut broker = Broker::start();
    let weather = Weather::read();
    Kcat::new(broker.address()).produce("weather", &["-K", "|"], weather.records());
    broker.kill();
    broker.start_again();
    let count = lines(&weather.records()).len();
    let read = java::consume_keyed(broker.address(), "weather", 0, count);
    assert!(read.as_bytes() == weather.records(), "other records came back than were published");
}

#[test]
fn a_second_crash_costs_nothing_more() {
    let mut broker = Broker::start();
    let kcat_input = ["first\n", "second\n", "third\n"];
    for (index, line) in kcat_input.iter().enumerate() {
        Kcat::new(broker.address()).produce("lines", &[], *line);
        broker.kill();
        broker.start_again();
        let read = Kcat::new(broker.address()).read_all("lines", "%s\n");
        assert_eq!(String::from_utf8(read).unwrap(), kcat_input[..=index].concat());
    }
}

#[test]
fn what_was_acknowledged_before_the_crash_is_there_once_and_in_order() {
    for acknowledged_min in [1, 1000, 5000] {
        let mut broker = Broker::start_with(&["--set", "num.partitions=2"]);
        // The topic exists first: the producer retries nothing, not even while a topic is being made.
        Kcat::new(broker.address()).run(&["-L", "-t", "weather"], "").output();
        let records = Weather::read().records();
        let mut producer = python::acknowledged(broker.address(), "weather", records.clone());
        let mut acknowledged: Vec<usize> = Vec::new();
        while acknowledged.len() < acknowledged_min {
            acknowledged.push(producer.next_line(CLIENT_LIMIT).parse().expect("the number of a record"));
        }
        broker.kill();
        let finished = producer.finish(CLIENT_LIMIT);
        assert_eq!(finished.status.code(), Some(1), "all was acknowledged before the kill: {}", finished.stderr);
        let rest = String::from_utf8(finished.stdout).expect("numbers");
        acknowledged.extend(rest.lines().map(|line| line.parse::<usize>().expect("the number of a record")));
        broker.start_again();
        let read = Kcat::new(broker.address()).read_all("weather", "%k|%s\n");
        python::assert_kept(&records, &acknowledged, &read);
    }
}

#[test]
fn a_restarted_broker_takes_new_records_after_the_old() {
    let mut broker = Broker::start();
    let weather = Weather::read();
    let records = weather.records();
    let all = lines(&records);
    let (before, after) = all.split_at(all.len() / 2);
    Kcat::new(broker.address()).produce("weather", &["-K", "|"], before.concat());
    broker.kill();
    broker.start_again();
    Kcat::new(broker.address()).produce("weather", &["-K", "|"], after.concat());
    let read = Kcat::new(broker.address()).read_all("weather", "%k|%s\n");
    weather.assert_equals(&read);
    assert!(CITIES.iter().all(|city| !values_of(city, &read).is_empty()));
    let offsets = Kcat::new(broker.address()).read_all("weather", "%o\n");
    let expected: Vec<String> = (0..all.len()).map(|offset| offset.to_string()).collect();
    assert!(lines_of(&offsets) == expected, "offsets go on where they ended");
}
