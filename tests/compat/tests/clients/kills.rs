//! The broker is killed while a client publishes and reads, and starts again on the same port.

use millrace_compat::contract::{self, Record};
use millrace_compat::process::{CLIENT_LIMIT, Running};

use crate::stage::{Stage, numbered};

/// So many that no client is done before the kill.
const RECORDS: u32 = 5000;
const ACKNOWLEDGED_BEFORE_THE_KILL: usize = 500;

/// The producer goes on until all is acknowledged, and the reader until it has as many: each record acknowledged at an
/// offset is there, and the reader has seen the log as it is. Who is not idempotent may have published some twice.
pub(crate) fn nothing_acknowledged_is_lost(stage: &Stage) {
    // A broker of its own, because it is killed; the stage's has other cases.
    let mut broker = Stage::start_broker();
    let address = broker.address().to_owned();
    let stage = Stage { client: stage.client, address: &address, topic: stage.topic.clone() };
    stage.make_topic();
    let mut acknowledged = stage.produce(&numbered(0, 1, 1));
    let count = RECORDS.to_string();
    let read = ["read", &stage.topic, "0", "beginning", &count];
    let mut reader = Running::start(&mut stage.client.command(&address, &read), Vec::new());
    // From here on the reader follows the log.
    let mut seen = vec![reader.next_line(CLIENT_LIMIT)];
    let records = numbered(1, RECORDS - 1, 1);
    let produce = ["produce", &stage.topic, "none"];
    let input = contract::input(&records);
    let mut producer = Running::start(&mut stage.client.command(&address, &produce), input.into_bytes());
    let mut told: Vec<String> = Vec::new();
    while told.len() < ACKNOWLEDGED_BEFORE_THE_KILL {
        told.push(producer.next_line(CLIENT_LIMIT));
    }
    broker.kill();
    while let Some(line) = producer.poll_line(std::time::Duration::ZERO) {
        told.push(line);
    }
    assert!(told.len() < records.len(), "all was acknowledged before the kill");
    broker.start_again();
    let rest = producer.finish(CLIENT_LIMIT).text();
    told.extend(rest.lines().map(str::to_owned));
    acknowledged.extend(contract::with_offsets(&records, &told));
    assert_eq!(acknowledged.len(), records.len() + 1, "the producer has gone on to the end");
    let rest = reader.finish(CLIENT_LIMIT).text();
    seen.extend(rest.lines().map(str::to_owned));

    let log = stage.read_by_kcat(0);
    for record in &acknowledged {
        let offset = record.offset.expect("acknowledged");
        let expected = format!("{offset} {}", record.value.as_deref().expect("a value"));
        let index = usize::try_from(offset).expect("offsets are few");
        assert_eq!(log.get(index), Some(&expected), "acknowledged, and something else is there");
    }
    let seen: Vec<Record> = seen.iter().map(|line| Record::parse_read(line)).collect();
    let seen =
        seen.iter().map(|record| format!("{} {}", record.offset.unwrap_or(0), record.value.as_deref().unwrap_or("")));
    assert!(seen.eq(log.iter().take(acknowledged.len()).cloned()), "the reader has seen another log");
}
