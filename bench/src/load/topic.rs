//! Finds a topic's partitions; the broker makes the topic if it is set up to.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use millrace_protocol::error_code::ErrorCode;
use millrace_protocol::messages::metadata::{MetadataRequest, MetadataRequestTopic};

use super::client::Client;

/// The last version before names became optional; every broker since 2.1 has it.
const METADATA_VERSION: i16 = 7;
/// How often a topic that is being made is asked for.
const ATTEMPTS_MAX: usize = 100;
const PAUSE: Duration = Duration::from_millis(100);

/// Whether the broker may make the topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Creation {
    Allowed,
    Refused,
}

/// The first `count` partitions of the topic, all of them without a count. Waits until each has a leader.
pub(super) fn find_partitions(
    bootstrap: &str,
    topic: &str,
    count: Option<usize>,
    creation: Creation,
) -> anyhow::Result<Vec<i32>> {
    let mut client = Client::connect(bootstrap)?;
    let mut last_error = ErrorCode::None;
    for _ in 0..ATTEMPTS_MAX {
        let (error, partitions) = look(&mut client, topic, creation)?;
        if error == ErrorCode::None {
            let count = count.unwrap_or(partitions.len());
            ensure!(count > 0, "at least one partition");
            let found = partitions.len();
            ensure!(count <= found, "{topic} has {found} partitions, fewer than {count}");
            return Ok(partitions.into_iter().take(count).collect());
        }
        if !error.is_retriable() || (error == ErrorCode::UnknownTopicOrPartition && creation == Creation::Refused) {
            bail!("{topic}: {}", error.name());
        }
        last_error = error;
        pause();
    }
    bail!("{topic}: still {} after {ATTEMPTS_MAX} attempts", last_error.name())
}

fn look(client: &mut Client, topic: &str, creation: Creation) -> anyhow::Result<(ErrorCode, Vec<i32>)> {
    let asked = MetadataRequestTopic { name: Some(topic), ..MetadataRequestTopic::default() };
    let request = MetadataRequest {
        topics: Some(vec![asked]),
        allow_auto_topic_creation: creation == Creation::Allowed,
        ..MetadataRequest::default()
    };
    let response = client.call(METADATA_VERSION, &request)?;
    let answer = response.topics.first().context("the broker's answer names no topic")?;
    let leaderless = answer.partitions.iter().find(|partition| partition.error_code != 0);
    let code = if answer.error_code == 0 { leaderless.map_or(0, |one| one.error_code) } else { answer.error_code };
    let mut partitions: Vec<i32> = answer.partitions.iter().map(|partition| partition.partition_index).collect();
    partitions.sort_unstable();
    Ok((error_of(code)?, partitions))
}

/// The error with this code.
pub(super) fn error_of(code: i16) -> anyhow::Result<ErrorCode> {
    ErrorCode::from_code(code).with_context(|| format!("the broker answers with the unknown error {code}"))
}

#[expect(clippy::disallowed_methods, reason = "a client's own thread, no shard")]
fn pause() {
    std::thread::sleep(PAUSE);
}
