//! What librdkafka is told, by its own names for its settings, and what it cannot be told. Pure.
//!
//! A setting that is not here keeps the library's default: it is what applications have.

use anyhow::ensure;
use millrace_protocol::batch::Compression;

use crate::client::control::CLIENT_ID;
use crate::drive::plan::{Check, Plan, ReadPlan, SendPlan};
use crate::numbers::u64_of;
use crate::options::setting;

/// A setting's name and its value.
pub(super) type Setting = (&'static str, String);

/// The rows of a report for a plan that librdkafka carries out. Fails, and names the option, if it cannot.
pub(crate) fn in_force(plan: &Plan) -> anyhow::Result<Vec<(String, String)>> {
    let (_, version) = rdkafka::util::get_rdkafka_version();
    let mut rows = vec![setting("client", format!("librdkafka {version}"))];
    if let Some(sending) = &plan.sending {
        check_sending(sending)?;
        rows.push(setting("librdkafka producers", in_words(&of_producer(sending))));
    }
    if let Some(reading) = &plan.reading {
        check_reading(reading)?;
        rows.push(setting("librdkafka consumers", in_words(&of_consumer(plan.check, reading))));
    }
    Ok(rows)
}

/// Of every producer, but for the broker's address.
pub(super) fn of_producer(sending: &SendPlan) -> Vec<Setting> {
    let batch_records = batch_records_max(sending);
    let batch_bytes = u64_of(sending.shape.batch_bytes).max(1) + REQUEST_HEAD_BYTES;
    let record_bytes = u64_of(sending.shape.values.bytes_max() + sending.shape.keys.bytes()) + RECORD_OVERHEAD_BYTES;
    let message_bytes = batch_bytes.max(record_bytes + REQUEST_HEAD_BYTES).max(MESSAGE_BYTES_DEFAULT);
    let is_idempotent = !sending.producer_ids.is_empty();
    let mut settings = vec![
        ("client.id", CLIENT_ID.to_owned()),
        ("acks", sending.acks.to_string()),
        ("enable.idempotence", is_idempotent.to_string()),
        ("max.in.flight.requests.per.connection", sending.in_flight_max.to_string()),
        ("linger.ms", format!("{}", linger_ms(sending))),
        ("batch.num.messages", batch_records.to_string()),
        ("batch.size", batch_bytes.to_string()),
        ("message.max.bytes", message_bytes.to_string()),
        ("queue.buffering.max.messages", outstanding_max(sending).max(QUEUED_RECORDS_DEFAULT).to_string()),
        ("compression.type", name_of(sending.shape.compression).to_owned()),
    ];
    if !is_idempotent {
        // A refusal has to show, as it does with the raw client, and a repetition would break the order of records.
        settings.push(("message.send.max.retries", "0".to_owned()));
    }
    settings
}

/// Of every consumer, but for the broker's address and the group.
pub(super) fn of_consumer(check: Check, reading: &ReadPlan) -> Vec<Setting> {
    let fetch_bytes = u64::try_from(reading.fetch_bytes).unwrap_or_default().max(1);
    let mut settings = vec![
        ("client.id", CLIENT_ID.to_owned()),
        ("enable.auto.commit", "false".to_owned()),
        ("enable.auto.offset.store", "false".to_owned()),
        ("auto.offset.reset", "error".to_owned()),
        ("isolation.level", "read_uncommitted".to_owned()),
        ("check.crcs", (check == Check::Crc).to_string()),
        ("fetch.min.bytes", "1".to_owned()),
        ("fetch.wait.max.ms", reading.wait_max_ms.to_string()),
        ("fetch.message.max.bytes", fetch_bytes.to_string()),
        // The library has it no smaller than a message may be.
        ("message.max.bytes", fetch_bytes.max(MESSAGE_BYTES_LEAST).to_string()),
        ("fetch.max.bytes", fetch_bytes.max(MESSAGE_BYTES_LEAST).to_string()),
    ];
    if reading.bytes_per_second.is_some() {
        // What a reader that is held back has not taken yet must not be fetched long before.
        let kilobytes = (2 * fetch_bytes).div_ceil(1024);
        settings.push(("queued.max.messages.kbytes", kilobytes.to_string()));
        settings.push(("fetch.queue.backoff.ms", "1".to_owned()));
    }
    settings
}

/// Records of a batch that is full. As many as the library is sure to put into so many bytes, and one at least.
pub(super) fn batch_records_max(sending: &SendPlan) -> u64 {
    let shape = &sending.shape;
    let record_bytes = shape.values.bytes_mean_rounded() + u64_of(shape.keys.bytes()) + RECORD_OVERHEAD_BYTES;
    let count = u64_of(shape.batch_bytes) / record_bytes;
    count.clamp(1, u64_of(shape.records_max)).min(BATCH_RECORDS_MAX)
}

/// Closed loop: how many records of one producer may be without their delivery reports. Full batches on the way, and one
/// that is being filled.
pub(super) fn outstanding_max(sending: &SendPlan) -> u64 {
    u64_of(sending.in_flight_max).saturating_add(1).saturating_mul(batch_records_max(sending)).min(QUEUED_RECORDS_MAX)
}

/// Closed loop: the raw client sends full batches only, so here a batch waits for the records that come right behind.
fn linger_ms(sending: &SendPlan) -> f64 {
    let is_closed = sending.records_per_second.is_none();
    if is_closed && sending.linger.is_zero() { LINGER_MS_DEFAULT } else { sending.linger.as_secs_f64() * 1e3 }
}

fn check_sending(sending: &SendPlan) -> anyhow::Result<()> {
    ensure!(
        sending.batches_per_request == 1,
        "--batches-per-request: --client librdkafka puts one batch into a request, and cannot be told otherwise"
    );
    ensure!(sending.in_flight_max <= IN_FLIGHT_MAX, "--in-flight: --client librdkafka takes up to {IN_FLIGHT_MAX}");
    ensure!(sending.linger.as_secs() <= LINGER_SECONDS_MAX, "--linger: --client librdkafka takes up to 15m");
    ensure!(
        sending.shape.batch_bytes <= BATCH_BYTES_MAX,
        "--batch-bytes: --client librdkafka takes up to {BATCH_BYTES_MAX}"
    );
    Ok(())
}

fn check_reading(reading: &ReadPlan) -> anyhow::Result<()> {
    let is_room = usize::try_from(reading.fetch_bytes).is_ok_and(|bytes| bytes <= BATCH_BYTES_MAX);
    ensure!(is_room, "--fetch-bytes: --client librdkafka takes up to {BATCH_BYTES_MAX}");
    ensure!(
        reading.wait_max_ms <= FETCH_WAIT_MS_MAX,
        "--fetch-wait: --client librdkafka takes up to {FETCH_WAIT_MS_MAX} ms"
    );
    Ok(())
}

fn in_words(settings: &[Setting]) -> String {
    let words: Vec<String> = settings.iter().map(|(name, value)| format!("{name}={value}")).collect();
    words.join(" ")
}

const fn name_of(compression: Compression) -> &'static str {
    match compression {
        Compression::None => "none",
        Compression::Gzip => "gzip",
        Compression::Snappy => "snappy",
        Compression::Lz4 => "lz4",
        Compression::Zstd => "zstd",
    }
}

/// What the library counts for a record besides key and value when it fills a batch: every number at its longest.
const RECORD_OVERHEAD_BYTES: u64 = 36;
/// What it counts for a batch and its request before the first record, topic names included, and some more.
const REQUEST_HEAD_BYTES: u64 = 1024;
/// The library's default, in bytes.
const MESSAGE_BYTES_DEFAULT: u64 = 1_000_000;
/// The least that the library takes for the largest message, in bytes.
const MESSAGE_BYTES_LEAST: u64 = 1000;
/// The library's default.
const QUEUED_RECORDS_DEFAULT: u64 = 100_000;
/// What the library takes at most, as for all that follow.
const QUEUED_RECORDS_MAX: u64 = 2_147_483_647;
const BATCH_RECORDS_MAX: u64 = 1_000_000;
const BATCH_BYTES_MAX: usize = 900_000_000;
const IN_FLIGHT_MAX: usize = 1_000_000;
const LINGER_SECONDS_MAX: u64 = 900;
/// It must be shorter by a second than what a connection may be silent, a minute.
const FETCH_WAIT_MS_MAX: i32 = 59_000;
/// The library's default.
const LINGER_MS_DEFAULT: f64 = 5.0;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::*;
    use crate::check::Entry;
    use crate::drive::plan::Timing;
    use crate::workload::batch::{BatchShape, Stamping};
    use crate::workload::keys::{KeySource, Keys};
    use crate::workload::records::{Size, Values};

    fn sending() -> SendPlan {
        SendPlan {
            series: "produce".to_owned(),
            connection_count: 1,
            in_flight_max: 5,
            records_per_second: None,
            linger: Duration::ZERO,
            acks: -1,
            batches_per_request: 1,
            request_count_max: None,
            shape: BatchShape {
                values: Values::Made(Size { bytes_min: 100, bytes_max: 100 }),
                keys: KeySource::new(Keys::None),
                batch_bytes: 13_600,
                records_max: usize::MAX,
                compression: Compression::None,
                stamping: Stamping::First,
            },
            producer_ids: Vec::new(),
            keeps_samples: false,
        }
    }

    fn reading() -> ReadPlan {
        ReadPlan {
            series: "consume".to_owned(),
            leaders: Vec::new(),
            consumer_count: 1,
            connection_count: 1,
            fetch_bytes: 1 << 20,
            wait_max_ms: 500,
            bytes_per_second: None,
            starts: BTreeMap::new(),
            entry: Entry::Anywhere,
            ends: None,
            repeats: false,
            follows_senders: false,
            is_compared: false,
            timing: Timing::Requests,
        }
    }

    fn value(settings: &[Setting], name: &str) -> Option<String> {
        settings.iter().find(|(candidate, _)| *candidate == name).map(|(_, value)| value.clone())
    }

    #[test]
    fn a_batch_has_as_many_records_as_fit() {
        let mut sending = sending();
        assert_eq!((batch_records_max(&sending), outstanding_max(&sending)), (100, 600));
        sending.shape.batch_bytes = 1;
        assert_eq!(batch_records_max(&sending), 1, "the first record is in it however large it is");
        sending.shape.batch_bytes = 1 << 29;
        assert_eq!(batch_records_max(&sending), 1_000_000);
        sending.shape.records_max = 1;
        assert_eq!(batch_records_max(&sending), 1);
    }

    #[test]
    fn an_open_loop_waits_as_long_as_it_was_told_and_a_closed_one_for_full_batches() {
        let mut sending = sending();
        assert_eq!(value(&of_producer(&sending), "linger.ms").unwrap(), "5");
        sending.records_per_second = Some(1000.0);
        assert_eq!(value(&of_producer(&sending), "linger.ms").unwrap(), "0");
        sending.linger = Duration::from_micros(1500);
        assert_eq!(value(&of_producer(&sending), "linger.ms").unwrap(), "1.5");
    }

    #[test]
    fn only_idempotent_producers_send_again() {
        let mut sending = sending();
        assert_eq!(value(&of_producer(&sending), "message.send.max.retries").unwrap(), "0");
        sending.producer_ids = vec![(1, 0)];
        assert_eq!(value(&of_producer(&sending), "message.send.max.retries"), None);
        assert_eq!(value(&of_producer(&sending), "enable.idempotence").unwrap(), "true");
    }

    #[test]
    fn every_setting_is_one_that_the_library_takes() {
        let mut sending = sending();
        for compression in
            [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd]
        {
            sending.shape.compression = compression;
            let mut config = rdkafka::ClientConfig::new();
            config.extend(of_producer(&sending).into_iter().map(|(name, value)| (name.to_owned(), value)));
            config.create_native_config().unwrap();
            config.create::<rdkafka::producer::BaseProducer>().unwrap();
        }
        for bytes_per_second in [None, Some(1e6)] {
            let reading = ReadPlan { bytes_per_second, fetch_bytes: 1, wait_max_ms: FETCH_WAIT_MS_MAX, ..reading() };
            let mut config = rdkafka::ClientConfig::new();
            config.set("group.id", "test");
            config.extend(of_consumer(Check::Crc, &reading).into_iter().map(|(name, value)| (name.to_owned(), value)));
            config.create::<rdkafka::consumer::BaseConsumer>().unwrap();
        }
    }

    #[test]
    fn what_the_library_cannot_do_is_refused_by_the_options_name() {
        let refused = |change: fn(&mut SendPlan)| {
            let mut sending = sending();
            change(&mut sending);
            check_sending(&sending).unwrap_err().to_string()
        };
        assert!(refused(|sending| sending.batches_per_request = 2).starts_with("--batches-per-request"));
        assert!(refused(|sending| sending.in_flight_max = 2_000_000).starts_with("--in-flight"));
        assert!(refused(|sending| sending.linger = Duration::from_mins(16)).starts_with("--linger"));
        assert!(refused(|sending| sending.shape.batch_bytes = 1 << 30).starts_with("--batch-bytes"));
        check_sending(&sending()).unwrap();

        let long = ReadPlan { wait_max_ms: 60_000, ..reading() };
        assert!(check_reading(&long).unwrap_err().to_string().starts_with("--fetch-wait"));
        let large = ReadPlan { fetch_bytes: 1 << 30, ..reading() };
        assert!(check_reading(&large).unwrap_err().to_string().starts_with("--fetch-bytes"));
        check_reading(&reading()).unwrap();
    }
}
