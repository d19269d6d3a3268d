//! kcat, and with it librdkafka: metadata, producing and consuming in the ways its users do.

use millrace_compat::{Broker, Kcat, kcat::lines_of};

#[test]
fn metadata_names_the_broker_and_its_topics() {
    let broker = Broker::start_with(&["--set", "num.partitions=3"]);
    let kcat = Kcat::new(broker.address());
    let listing = kcat.run(&["-L"], "").text();
    assert!(listing.contains(&format!("broker 1 at {}", broker.address())), "{listing}");
    kcat.produce("weather", &[], "cold\n");
    let listing = kcat.run(&["-L", "-t", "weather"], "").text();
    assert!(listing.contains("topic \"weather\" with 3 partitions"), "{listing}");
    assert!(listing.contains("partition 2, leader 1, replicas: 1, isrs: 1"), "{listing}");
}

#[test]
fn a_topic_is_made_by_its_first_record() {
    let broker = Broker::start();
    let kcat = Kcat::new(broker.address());
    kcat.produce("weather", &[], "cold\nwarm\n");
    assert_eq!(lines_of(&kcat.read_all("weather", "%p %o %s\n")), ["0 0 cold", "0 1 warm"]);
}

#[test]
fn a_topic_is_not_made_where_that_is_off() {
    let broker = Broker::start_with(&["--set", "auto.create.topics.enable=false"]);
    let arguments = ["-P", "-E", "-t", "weather", "-X", "message.timeout.ms=5000"];
    let finished = Kcat::new(broker.address()).run(&arguments, "cold\n");
    assert!(!finished.status.success(), "kcat reports the record as delivered");
    let listing = Kcat::new(broker.address()).run(&["-L"], "").text();
    assert!(listing.contains(" 0 topics"), "{listing}");
}

#[test]
fn keys_headers_and_empty_values_come_back() {
    let broker = Broker::start();
    let kcat = Kcat::new(broker.address());
    kcat.produce("weather", &["-K", "|", "-H", "unit=F", "-H", "station=7"], "seattle|39.4\nsf|47.8\n");
    kcat.produce("weather", &["-K", "|", "-Z"], "sf|\n");
    let format = "%o %K %k %S %s %h\n";
    let read = kcat.read_all("weather", format);
    assert_eq!(
        lines_of(&read),
        ["0 7 seattle 4 39.4 unit=F,station=7", "1 2 sf 4 47.8 unit=F,station=7", "2 2 sf -1  "]
    );
}

#[test]
fn every_codec_comes_back() {
    let broker = Broker::start();
    let kcat = Kcat::new(broker.address());
    // Alike enough to be worth compressing: librdkafka sends a batch uncompressed where that is smaller.
    let input: Vec<String> = (0..2000).map(|number| format!("2010/01/01 00:00,{number}")).collect();
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        kcat.produce(codec, &["-z", codec], input.join("\n"));
        assert_eq!(lines_of(&kcat.read_all(codec, "%s\n")), input, "{codec}");
    }
}

#[test]
fn every_kind_of_acknowledgement_delivers() {
    let broker = Broker::start();
    let kcat = Kcat::new(broker.address());
    for acks in ["0", "1", "all"] {
        let topic = format!("acks-{acks}");
        // Made first: without an answer a producer cannot learn that a topic is not there yet.
        kcat.produce(&topic, &[], "first\n");
        kcat.produce(&topic, &["-X", &format!("acks={acks}")], "second\nthird\n");
        // Counted, not read to the end: with acks=0 the end may be behind what was sent.
        let read = kcat.run(&["-C", "-t", &topic, "-o", "beginning", "-c", "3", "-f", "%o %s\n"], "").output();
        assert_eq!(lines_of(&read), ["0 first", "1 second", "2 third"], "acks={acks}");
    }
}

#[test]
fn consumers_start_where_they_ask() {
    let broker = Broker::start();
    let kcat = Kcat::new(broker.address());
    let input: Vec<String> = (0..100).map(|number| number.to_string()).collect();
    kcat.produce("numbers", &[], input.join("\n"));
    let read = |arguments: &[&str]| {
        let fixed = ["-C", "-t", "numbers", "-f", "%s\n"];
        String::from_utf8(kcat.run(&[&fixed[..], arguments].concat(), "").output()).unwrap()
    };
    assert_eq!(read(&["-o", "42", "-c", "2"]), "42\n43\n");
    assert_eq!(read(&["-o", "-3", "-e"]), "97\n98\n99\n");
    assert_eq!(read(&["-o", "end", "-e"]), "");
    assert_eq!(read(&["-o", "beginning", "-e"]).lines().count(), 100);
    assert_eq!(kcat.run(&["-Q", "-t", "numbers:0:-1"], "").text(), "numbers [0] offset 100\n");
    assert_eq!(kcat.run(&["-Q", "-t", "numbers:0:-2"], "").text(), "numbers [0] offset 0\n");
}

#[test]
fn a_waiting_consumer_gets_what_comes_later() {
    let broker = Broker::start();
    let kcat = Kcat::new(broker.address());
    kcat.produce("weather", &[], "first\n");
    let mut consumer = kcat.start(&["-C", "-u", "-t", "weather", "-o", "beginning", "-f", "%s\n"]);
    assert_eq!(consumer.next_line(millrace_compat::process::CLIENT_LIMIT), "first");
    // The consumer has all there is and waits inside a Fetch, or is about to.
    kcat.produce("weather", &[], "second\n");
    assert_eq!(consumer.next_line(millrace_compat::process::CLIENT_LIMIT), "second");
}

#[test]
fn a_record_close_to_the_limit_comes_back() {
    let broker = Broker::start();
    let kcat = Kcat::new(broker.address());
    let record: Vec<u8> = (b'a'..=b'z').cycle().take(900 * 1024).collect();
    kcat.produce("large", &[], [&record[..], b"\nsmall\n"].concat());
    let read = kcat.read_all("large", "%s\n");
    assert!(read == [&record[..], b"\nsmall\n"].concat(), "{} bytes came back", read.len());
}

#[test]
fn an_idempotent_producer_delivers_once() {
    let broker = Broker::start();
    let kcat = Kcat::new(broker.address());
    let input: Vec<String> = (0..5000).map(|number| number.to_string()).collect();
    for _ in 0..2 {
        kcat.produce("numbers", &["-X", "enable.idempotence=true"], input.join("\n"));
    }
    assert_eq!(lines_of(&kcat.read_all("numbers", "%s\n")), [&input[..], &input[..]].concat());
}
