//! rskafka under the contract of tests/compat/src/contract.rs: `rskafka-client ADDRESS CASE [ARGUMENT...]`.
//!
//! rskafka has no groups, no topic configurations and no idempotence, so their cases are not here.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::io::{self, BufRead as _, Write as _};
use std::time::Duration;

use anyhow::{Context as _, bail};
use chrono::DateTime;
use rskafka::BackoffConfig;
use rskafka::client::partition::{Compression, OffsetAt, PartitionClient, UnknownTopicHandling};
use rskafka::client::{Client, ClientBuilder};
use rskafka::record::{Record, RecordAndOffset};

const LIMIT: Duration = Duration::from_secs(100);
const TIMEOUT_MS: i32 = 10_000;
const UNACKNOWLEDGED_MAX: usize = 50;
const FETCH_BYTES_MAX: i32 = 2 << 20;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async { tokio::time::timeout(LIMIT, run(&arguments)).await.context("not done within the limit")? })
}

async fn run(arguments: &[&str]) -> anyhow::Result<()> {
    let [address, case, arguments @ ..] = arguments else { bail!("ADDRESS CASE [ARGUMENT...]") };
    let backoff = BackoffConfig {
        init_backoff: Duration::from_millis(50),
        max_backoff: Duration::from_millis(200),
        base: 2.0,
        deadline: Some(LIMIT),
    };
    let client = ClientBuilder::new(vec![(*address).to_owned()]).backoff_config(backoff).build().await?;
    match (*case, arguments) {
        ("produce", [topic, codec]) => produce(&client, topic, codec).await,
        ("read", [topic, partition, start, count]) => {
            let partition = open(&client, topic, partition).await?;
            read(&partition, start, count.parse()?).await
        }
        ("offsets", [topic, partition, times @ ..]) => {
            let partition = open(&client, topic, partition).await?;
            say(&format!("beginning {}", partition.get_offset(OffsetAt::Earliest).await?))?;
            say(&format!("end {}", partition.get_offset(OffsetAt::Latest).await?))?;
            for time in times {
                let at = DateTime::from_timestamp_millis(time.parse()?).context("a time out of range")?;
                say(&format!("{time} {}", partition.get_offset(OffsetAt::Timestamp(at)).await?))?;
            }
            Ok(())
        }
        ("create", [topic, partitions]) => {
            Ok(client.controller_client()?.create_topic(*topic, partitions.parse()?, 1, TIMEOUT_MS).await?)
        }
        ("topics", []) => {
            let mut topics = client.list_topics().await?;
            topics.retain(|topic| !topic.name.starts_with("__"));
            topics.sort_by(|left, right| left.name.cmp(&right.name));
            topics.iter().try_for_each(|topic| say(&format!("{} {}", topic.name, topic.partitions.len())))
        }
        ("delete-records", [topic, partition, offset]) => {
            Ok(open(&client, topic, partition).await?.delete_records(offset.parse()?, TIMEOUT_MS).await?)
        }
        ("delete", [topic]) => Ok(client.controller_client()?.delete_topic(*topic, TIMEOUT_MS).await?),
        _ => bail!("no case {case} with these arguments"),
    }
}

async fn open(client: &Client, topic: &str, partition: &str) -> anyhow::Result<PartitionClient> {
    Ok(client.partition_client(topic, partition.parse()?, UnknownTopicHandling::Retry).await?)
}

async fn produce(client: &Client, topic: &str, codec: &str) -> anyhow::Result<()> {
    let compression = match codec {
        "none" => Compression::NoCompression,
        "gzip" => Compression::Gzip,
        "snappy" => Compression::Snappy,
        "lz4" => Compression::Lz4,
        "zstd" => Compression::Zstd,
        _ => bail!("no codec {codec}"),
    };
    let mut partitions: BTreeMap<String, PartitionClient> = BTreeMap::new();
    let lines: Vec<String> = io::stdin().lock().lines().collect::<Result<_, _>>()?;
    for chunk in lines.chunks(UNACKNOWLEDGED_MAX) {
        let mut records: BTreeMap<String, Vec<Record>> = BTreeMap::new();
        for line in chunk {
            let (partition, record) = parse(line)?;
            records.entry(partition).or_default().push(record);
        }
        for (partition, records) in records {
            if !partitions.contains_key(&partition) {
                partitions.insert(partition.clone(), open(client, topic, &partition).await?);
            }
            for offset in partitions[&partition].produce(records, compression).await? {
                say(&format!("{partition} {offset}"))?;
            }
        }
    }
    Ok(())
}

async fn read(partition: &PartitionClient, start: &str, count: usize) -> anyhow::Result<()> {
    let mut offset = match start {
        "beginning" => partition.get_offset(OffsetAt::Earliest).await?,
        "end" => partition.get_offset(OffsetAt::Latest).await?,
        offset => offset.parse()?,
    };
    if start == "end" {
        say("ready")?;
    }
    let mut left = count;
    while left > 0 {
        let (records, _) = partition.fetch_records(offset, 1..FETCH_BYTES_MAX, 200).await?;
        for record in records.iter().take(left) {
            say(&show(partition.partition(), record)?)?;
            offset = record.offset + 1;
        }
        left -= records.len().min(left);
    }
    Ok(())
}

/// `PARTITION TIME KEY VALUE [HEADER...]`.
fn parse(line: &str) -> anyhow::Result<(String, Record)> {
    let mut fields = line.split(' ');
    let mut next = || fields.next().context("a field is missing");
    let (partition, time, key, value) = (next()?, next()?, next()?, next()?);
    let headers = fields.map(|field| field.split_once('=').context("a header is `name=text`"));
    let headers = headers.map(|header| header.map(|(name, text)| (name.to_owned(), text.as_bytes().to_vec())));
    let record = Record {
        key: key.strip_prefix('=').map(|text| text.as_bytes().to_vec()),
        value: value.strip_prefix('=').map(|text| text.as_bytes().to_vec()),
        headers: headers.collect::<anyhow::Result<_>>()?,
        timestamp: DateTime::from_timestamp_millis(time.parse()?).context("a time out of range")?,
    };
    Ok((partition.to_owned(), record))
}

/// `PARTITION OFFSET TIME KEY VALUE [HEADER...]`.
fn show(partition: i32, RecordAndOffset { record, offset }: &RecordAndOffset) -> anyhow::Result<String> {
    let optional = |data: &Option<Vec<u8>>| match data {
        None => anyhow::Ok("-".to_owned()),
        Some(data) => Ok(format!("={}", std::str::from_utf8(data)?)),
    };
    let (key, value) = (optional(&record.key)?, optional(&record.value)?);
    let mut line = format!("{partition} {offset} {} {key} {value}", record.timestamp.timestamp_millis());
    for (name, text) in &record.headers {
        line.push_str(&format!(" {name}={}", std::str::from_utf8(text)?));
    }
    Ok(line)
}

/// Writes one line, at once.
fn say(line: &str) -> anyhow::Result<()> {
    let mut output = io::stdout().lock();
    writeln!(output, "{line}")?;
    Ok(output.flush()?)
}
