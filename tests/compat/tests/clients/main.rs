//! Every client under the contract goes through every case, and what comes out is a column of the matrix in
//! docs/COMPATIBILITY.md.
//!
//! One test per client, so that two run at once. A client has one broker for all cases but the kills, and a topic per
//! case. A case that fails does not stop the others. A case that a client cannot do is listed in [`matrix`], with the
//! reason, and nothing else is left out.

mod admin;
mod groups;
mod kills;
mod matrix;
mod records;
mod stage;

use std::panic::{AssertUnwindSafe, catch_unwind};

use millrace_compat::contract::{self, CLIENTS, Record};
use millrace_compat::{Broker, Kcat};

use matrix::Cell;
use stage::Stage;

/// A case's name in the matrix, and the case.
type Case = (&'static str, fn(&Stage));

const CASES: &[Case] = &[
    ("keys, headers, nulls", records::keys_headers_and_nulls_come_back),
    ("empty is not null", records::empty_is_not_null),
    ("gzip", |stage| records::a_codec_comes_back(stage, "gzip")),
    ("snappy", |stage| records::a_codec_comes_back(stage, "snappy")),
    ("lz4", |stage| records::a_codec_comes_back(stage, "lz4")),
    ("zstd", |stage| records::a_codec_comes_back(stage, "zstd")),
    ("a record of 900 KiB", records::a_large_record_comes_back),
    ("seek", records::a_reader_starts_where_it_asks),
    ("offsets by time", records::offsets_are_found_by_time),
    ("idempotence", records::an_idempotent_producer_delivers_once),
    ("`kill -9` of the broker", kills::nothing_acknowledged_is_lost),
    ("commit, resume", groups::a_group_goes_on_where_it_was),
    ("rebalance", groups::members_share_and_take_over),
    ("groups: list, delete", groups::a_group_is_listed_and_deleted),
    ("topics: create, list, delete", admin::a_topic_is_created_listed_and_deleted),
    ("topics: more partitions", admin::a_topic_gets_more_partitions),
    ("configurations", admin::a_configuration_is_described_and_changed),
    ("delete records", admin::records_are_deleted),
];

/// Runs every case of the client, then compares its column of the matrix.
#[track_caller]
fn judge(name: &str) {
    let client = contract::client(name);
    let broker = Stage::start_broker();
    let mut failed = Vec::new();
    let mut column = Vec::new();
    for (case, run) in CASES {
        if matrix::why_not(name, case).is_some() {
            column.push(Cell::No);
            continue;
        }
        eprintln!("== {name}: {case}");
        let stage = Stage::new(client, &broker, case);
        let passed = catch_unwind(AssertUnwindSafe(|| run(&stage))).is_ok();
        let pending = matrix::why_pending(case).is_some();
        match (passed, pending) {
            (true, false) => column.push(Cell::Yes),
            (false, true) => column.push(Cell::Pending),
            (true, true) => failed.push(format!("{case} works now: take it out of PENDING")),
            (false, false) => failed.push((*case).to_owned()),
        }
    }
    broker.assert_runs();
    assert!(failed.is_empty(), "{name} fails in: {failed:?}");
    matrix::hold(name, &column);
}

#[test]
fn confluent_kafka() {
    judge("confluent-kafka");
}

#[test]
fn aiokafka() {
    judge("aiokafka");
}

#[test]
fn kafkajs() {
    judge("KafkaJS");
}

#[test]
fn sarama() {
    judge("Sarama");
}

#[test]
fn kafka_go() {
    judge("kafka-go");
}

#[test]
fn rskafka() {
    judge("rskafka");
}

/// Each writes to its own partition, with gzip, which all have; each reads what every other has written.
#[test]
fn every_client_reads_what_every_other_wrote() {
    let count = u32::try_from(CLIENTS.len()).expect("clients are few");
    let broker = Broker::start_with(&["--set", &format!("num.partitions={count}"), "--set", "log.retention.ms=-1"]);
    Kcat::new(broker.address()).run(&["-L", "-t", "all"], "").output();
    let mut written: Vec<Record> = Vec::new();
    for (partition, client) in (0..count).zip(CLIENTS) {
        let records = records::various(partition, &client);
        written.extend(client.produce(broker.address(), "all", "gzip", &records));
    }
    for reader in CLIENTS {
        let per_partition = written.len() / CLIENTS.len();
        let read = (0..count).flat_map(|from| reader.read(broker.address(), "all", from, "beginning", per_partition));
        assert_eq!(read.collect::<Vec<_>>(), written, "read by {}", reader.name);
    }
}

#[test]
fn the_compatibility_page_says_what_clients_cannot_do() {
    matrix::hold_reasons();
}
