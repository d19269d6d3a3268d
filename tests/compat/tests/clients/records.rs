//! Cases about records: what they may hold, how they travel, where a reader starts.

use millrace_compat::Kcat;
use millrace_compat::contract::{Client, Record};
use millrace_compat::process::{CLIENT_LIMIT, Running};

use crate::stage::{Stage, TIME, numbered};

/// Records with and without keys, values and headers, that name the client.
pub(crate) fn various(partition: u32, client: &Client) -> Vec<Record> {
    let record = |number: u64, key: Option<&str>, value: Option<&str>, headers: &[&str]| Record {
        partition,
        offset: None,
        time: TIME + number,
        key: key.map(str::to_owned),
        value: value.map(str::to_owned),
        headers: headers.iter().map(ToString::to_string).collect(),
    };
    vec![
        record(0, Some("seattle"), Some("39.4"), &["station=7", "unit=F"]),
        record(1, None, Some(client.name), &[]),
        record(2, Some("seattle"), None, &["empty="]),
    ]
}

/// A record with neither key nor value, and one with a key and a value of no bytes.
pub(crate) fn empty_is_not_null(stage: &Stage) {
    stage.make_topic();
    let neither = Record { value: None, ..Record::of_value(0, TIME, "") };
    let empty = Record { key: Some(String::new()), ..Record::of_value(0, TIME, "") };
    let written = stage.produce(&[neither, empty]);
    assert_eq!(stage.read(0, "beginning", 2), written);
    let format = ["-C", "-t", &stage.topic, "-p", "0", "-e", "-f", "%o %K %S\n"];
    assert_eq!(Kcat::new(stage.address).run(&format, "").text(), "0 -1 -1\n1 0 0\n");
}

pub(crate) fn keys_headers_and_nulls_come_back(stage: &Stage) {
    stage.make_topic();
    let written = stage.produce(&various(1, &stage.client));
    assert_eq!(written.iter().map(|record| record.offset).collect::<Vec<_>>(), (0..3).map(Some).collect::<Vec<_>>());
    assert_eq!(stage.read(1, "beginning", 3), written);
    // librdkafka tells a missing key or value from an empty one by its length.
    let format = ["-C", "-t", &stage.topic, "-p", "1", "-e", "-f", "%o %K %S %h\n"];
    let read = Kcat::new(stage.address).run(&format, "").text();
    let name_bytes = stage.client.name.len();
    assert_eq!(read, format!("0 7 4 station=7,unit=F\n1 -1 {name_bytes} \n2 7 -1 empty=\n"));
}

pub(crate) fn a_codec_comes_back(stage: &Stage, codec: &str) {
    stage.make_topic();
    let records: Vec<Record> = numbered(0, 300, 1);
    let written = stage.client.produce(stage.address, &stage.topic, codec, &records);
    assert_eq!(stage.read(0, "beginning", 300), written);
    let expected: Vec<String> = (0..300).map(|number| format!("{number} record-{number}")).collect();
    assert_eq!(stage.read_by_kcat(0), expected);
}

pub(crate) fn a_large_record_comes_back(stage: &Stage) {
    stage.make_topic();
    let value: String = ('a'..='z').cycle().take(900 * 1024).collect();
    let written = stage.produce(&[Record::of_value(2, TIME, value), Record::of_value(2, TIME, "small")]);
    assert!(stage.read(2, "beginning", 2) == written, "another record came back");
}

pub(crate) fn a_reader_starts_where_it_asks(stage: &Stage) {
    stage.make_topic();
    let written = stage.produce(&numbered(0, 100, 1));
    assert_eq!(stage.read(0, "beginning", 3), written[..3]);
    assert_eq!(stage.read(0, "42", 2), written[42..44]);
    let case = ["read", &stage.topic, "0", "end", "2"];
    let mut reader = Running::start(&mut stage.client.command(stage.address, &case), Vec::new());
    assert_eq!(reader.next_line(CLIENT_LIMIT), "ready");
    let later = stage.produce(&numbered(100, 2, 1));
    let read = reader.finish(CLIENT_LIMIT).text();
    assert_eq!(read.lines().map(Record::parse_read).collect::<Vec<_>>(), later);
}

pub(crate) fn offsets_are_found_by_time(stage: &Stage) {
    stage.make_topic();
    stage.produce(&(0..10).map(|number| Record::of_value(3, TIME + number * 1000, "x")).collect::<Vec<_>>());
    let times = [TIME - 5, TIME + 4000, TIME + 4001, TIME + 9001].map(|time| time.to_string());
    let case = [&["offsets", &stage.topic, "3"][..], &times.each_ref().map(String::as_str)].concat();
    let [before, at, between, after] = &times;
    let expected = format!("beginning 0\nend 10\n{before} 0\n{at} 4\n{between} 5\n{after} -1");
    assert_eq!(stage.run(&case).join("\n"), expected);
}

pub(crate) fn an_idempotent_producer_delivers_once(stage: &Stage) {
    stage.make_topic();
    let records = numbered(0, 500, 1);
    for _ in 0..2 {
        let case = ["produce", &stage.topic, "none", "idempotent"];
        let told = stage.client.run(stage.address, &case, millrace_compat::contract::input(&records));
        assert_eq!(told.len(), 500);
    }
    let expected: Vec<String> = (0..1000).map(|offset| format!("{offset} record-{}", offset % 500)).collect();
    assert_eq!(stage.read_by_kcat(0), expected);
}
