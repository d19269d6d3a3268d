//! A clean stop: work in flight is answered, what was acknowledged stays, the exit code says 0.

use millrace_compat::process::CLIENT_LIMIT;
use millrace_compat::weather::Weather;
use millrace_compat::{Broker, Kcat, python};

#[test]
fn a_stop_under_load_keeps_what_was_acknowledged() {
    let mut broker = Broker::start();
    Kcat::new(broker.address()).run(&["-L", "-t", "weather"], "").output();
    let records = Weather::read().records();
    let mut producer = python::acknowledged(broker.address(), "weather", records.clone());
    let mut acknowledged: Vec<usize> = Vec::new();
    while acknowledged.len() < 1000 {
        acknowledged.push(producer.next_line(CLIENT_LIMIT).parse().expect("the number of a record"));
    }
    assert_eq!(broker.stop().code(), Some(0));
    let rest = String::from_utf8(producer.finish(CLIENT_LIMIT).stdout).expect("numbers");
    acknowledged.extend(rest.lines().map(|line| line.parse::<usize>().expect("the number of a record")));
    broker.start_again();
    let read = Kcat::new(broker.address()).read_all("weather", "%k|%s\n");
    python::assert_kept(&records, &acknowledged, &read);
}

#[test]
fn a_stop_with_a_waiting_consumer_ends() {
    let mut broker = Broker::start();
    let address = broker.address().to_owned();
    let kcat = Kcat::new(&address);
    kcat.produce("weather", &[], "cold\n");
    let mut consumer = kcat.start(&["-C", "-u", "-t", "weather", "-o", "beginning", "-f", "%s\n"]);
    assert_eq!(consumer.next_line(CLIENT_LIMIT), "cold");
    assert_eq!(broker.stop().code(), Some(0));
    broker.start_again();
    assert_eq!(kcat.read_all("weather", "%s\n"), b"cold\n");
}

#[test]
fn stops_and_starts_repeat() {
    let mut broker = Broker::start();
    let mut expected = String::new();
    for number in 0..5 {
        let line = format!("{number}\n");
        Kcat::new(broker.address()).produce("numbers", &[], line.as_str());
        expected.push_str(&line);
        assert_eq!(broker.stop().code(), Some(0));
        broker.start_again();
        assert_eq!(Kcat::new(broker.address()).read_all("numbers", "%s\n"), expected.as_bytes());
    }
}
