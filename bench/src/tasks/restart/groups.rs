//! Consumer groups with a committed offset each, which a broker must know again after its start.

use anyhow::{Context as _, ensure};
use millrace_protocol::error_code::ErrorCode;
use millrace_protocol::messages::find_coordinator::FindCoordinatorRequest;
use millrace_protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use millrace_protocol::messages::offset_fetch::{OffsetFetchRequest, OffsetFetchRequestTopic};

use crate::client::cluster::{error_of, resolve};
use crate::client::control::Client;

/// Groups without members. What each has committed is told by its number.
pub(super) struct Groups {
    bootstrap: String,
    topic: String,
    count: usize,
    /// How many have been dealt with so far.
    done: usize,
    /// What was lost, a sentence each.
    pub(super) findings: Vec<String>,
}

impl Groups {
    /// So many groups that commit offsets of the first partition of `topic`.
    pub(super) fn new(bootstrap: &str, topic: &str, count: usize) -> Self {
        Self { bootstrap: bootstrap.to_owned(), topic: topic.to_owned(), count, done: 0, findings: Vec::new() }
    }

    /// The same groups, none of them dealt with.
    pub(super) fn again(&self) -> Self {
        Self::new(&self.bootstrap, &self.topic, self.count)
    }

    /// Commits for those that have not been dealt with. Fails where the first of them cannot yet.
    pub(super) fn commit(&mut self) -> anyhow::Result<()> {
        self.with_each(|client, topic, group, offset| {
            let partition = OffsetCommitRequestPartition { committed_offset: offset, ..Default::default() };
            let topics =
                vec![OffsetCommitRequestTopic { name: topic, partitions: vec![partition], ..Default::default() }];
            let request = OffsetCommitRequest { group_id: group, topics, ..OffsetCommitRequest::default() };
            let response = client.call(OFFSET_COMMIT_VERSION, &request)?;
            let answer = response.topics.first().and_then(|topic| topic.partitions.first());
            expect_success(answer.context("the answer leaves the partition out")?.error_code)
        })
    }

    /// Asks those that have not been dealt with for what they have committed. Fails where the first of them is not known yet.
    pub(super) fn ask(&mut self) -> anyhow::Result<()> {
        let mut findings = Vec::new();
        let asked = self.with_each(|client, topic, group, offset| {
            let topics = Some(vec![OffsetFetchRequestTopic { name: topic, partition_indexes: vec![0] }]);
            let request = OffsetFetchRequest { group_id: group, topics, ..OffsetFetchRequest::default() };
            let response = client.call(OFFSET_FETCH_VERSION, &request)?;
            expect_success(response.error_code)?;
            let answer = response.topics.first().and_then(|topic| topic.partitions.first());
            let answer = answer.context("the answer leaves the partition out")?;
            expect_success(answer.error_code)?;
            let found = answer.committed_offset;
            if found != offset {
                findings.push(format!("group {group} had committed {offset}, and now has {found}"));
            }
            Ok(())
        });
        self.findings.append(&mut findings);
        asked
    }

    fn with_each(
        &mut self,
        mut act: impl FnMut(&mut Client, &str, &str, i64) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let mut bootstrap = Client::connect(&self.bootstrap)?;
        let mut coordinator: Option<(String, Client)> = None;
        while self.done < self.count {
            let group = format!("millbench-restart-{}", self.done);
            let request = FindCoordinatorRequest { key: &group, ..FindCoordinatorRequest::default() };
            let response = bootstrap.call(FIND_COORDINATOR_VERSION, &request)?;
            expect_success(response.error_code)?;
            let address = resolve(response.host, u16::try_from(response.port)?)?.to_string();
            let (_, client) = match coordinator.take().filter(|(known, _)| *known == address) {
                Some(same) => coordinator.insert(same),
                None => coordinator.insert((address.clone(), Client::connect(&address)?)),
            };
            let offset = i64::try_from(self.done)? + 1;
            act(client, &self.topic, &group, offset)?;
            self.done += 1;
        }
        Ok(())
    }
}

fn expect_success(code: i16) -> anyhow::Result<()> {
    let error = error_of(code)?;
    ensure!(error == ErrorCode::None, "{}", error.name());
    Ok(())
}

/// The last versions before names gave way to ids or encodings became flexible; every broker since 2.1 has them.
const OFFSET_COMMIT_VERSION: i16 = 5;
const OFFSET_FETCH_VERSION: i16 = 5;
const FIND_COORDINATOR_VERSION: i16 = 2;
