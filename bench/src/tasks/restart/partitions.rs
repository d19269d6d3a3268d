//! Partitions that are asked, after a broker's start, until each has taken a record and given it back.

use std::collections::BTreeMap;

use millrace_protocol::batch::{BatchBuilder, BatchFields};
use millrace_protocol::messages::fetch::{FetchPartition, FetchRequest, FetchTopic};
use millrace_protocol::messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use millrace_runtime::glommio::clock::GlommioClock;
use millrace_runtime::{Clock as _, Moment};

use crate::check::Place;
use crate::client::cluster::Leader;
use crate::client::control::Client;
use crate::measured::{Counts, Series};
use crate::options::TargetOptions;

/// What has answered so far, and when.
pub(super) struct Partitions {
    started: Moment,
    /// Have not taken a record yet.
    unanswered: Vec<Place>,
    /// Have, at these offsets, and have not given it back yet.
    unread: BTreeMap<Place, i64>,
    /// From the start to the first record that was taken.
    pub(super) first_produce: Series,
    /// From the start until each partition had taken a record.
    pub(super) produce: Series,
    /// From the start until each had given it back.
    pub(super) fetch: Series,
}

impl Partitions {
    /// None has answered the broker that is started now.
    pub(super) fn new(started: Moment, leaders: &[Leader]) -> Self {
        Self {
            started,
            unanswered: leaders.iter().flat_map(|leader| leader.places.clone()).collect(),
            unread: BTreeMap::new(),
            first_produce: Series::new("first produce"),
            produce: Series::new("every partition, produce"),
            fetch: Series::new("every partition, fetch"),
        }
    }

    /// How many steps are left.
    pub(super) fn left(&self) -> usize {
        2 * self.unanswered.len() + self.unread.len()
    }

    /// Sends a record to each partition that has taken none, and reads those that were taken.
    pub(super) fn probe(&mut self, target: &TargetOptions) -> anyhow::Result<()> {
        // Leaders may be others than before.
        for leader in target.leaders(None)? {
            let mut client = Client::connect(&leader.address.to_string())?;
            for (topic_index, name) in target.topics.iter().enumerate() {
                let own: Vec<Place> =
                    leader.places.iter().copied().filter(|place| place.topic_index == topic_index).collect();
                self.produce(&mut client, name, &own)?;
                self.fetch(&mut client, name, &own)?;
            }
        }
        Ok(())
    }

    fn produce(&mut self, client: &mut Client, name: &str, own: &[Place]) -> anyhow::Result<()> {
        let clock = GlommioClock::default();
        let mut builder = BatchBuilder::new(BatchFields::default());
        builder.push(clock.unix_ms(), None, Some(b"are you there?"));
        let batch = builder.build();
        let asked = self.unanswered.iter().filter(|place| own.binary_search(place).is_ok());
        let partition_data: Vec<_> =
            asked.map(|place| PartitionProduceData { index: place.partition, records: Some(&batch) }).collect();
        let Some(Place { topic_index, .. }) = own.first().copied().filter(|_| !partition_data.is_empty()) else {
            return Ok(());
        };
        let topic_data = vec![TopicProduceData { name, partition_data, ..TopicProduceData::default() }];
        let request = ProduceRequest { transactional_id: None, acks: -1, timeout_ms: TIMEOUT_MS, topic_data };
        let response = client.call(PRODUCE_VERSION, &request)?;
        let since_start = clock.now() - self.started;
        let answers = response.responses.iter().flat_map(|topic| &topic.partition_responses);
        for answer in answers.filter(|answer| answer.error_code == 0) {
            self.unread.insert(Place { topic_index, partition: answer.index }, answer.base_offset);
            if self.first_produce.counts == Counts::default() {
                self.first_produce.take(since_start, since_start, ONE);
            }
            self.produce.take(since_start, since_start, ONE);
        }
        self.unanswered.retain(|place| !self.unread.contains_key(place));
        Ok(())
    }

    /// Until an answer brings nothing: it may hold less than what was asked for.
    fn fetch(&mut self, client: &mut Client, name: &str, own: &[Place]) -> anyhow::Result<()> {
        let clock = GlommioClock::default();
        loop {
            let asked = self.unread.iter().filter(|(place, _)| own.binary_search(place).is_ok());
            let partitions: Vec<_> = asked.map(|(place, offset)| ask_for(*place, *offset)).collect();
            let Some(Place { topic_index, .. }) = own.first().copied().filter(|_| !partitions.is_empty()) else {
                return Ok(());
            };
            let request = FetchRequest {
                max_wait_ms: 0,
                max_bytes: FETCH_BYTES,
                topics: vec![FetchTopic { topic: name, partitions, ..FetchTopic::default() }],
                ..FetchRequest::default()
            };
            let response = client.call(FETCH_VERSION, &request)?;
            let since_start = clock.now() - self.started;
            let left_before = self.unread.len();
            for answer in response.responses.iter().flat_map(|topic| &topic.partitions) {
                if answer.error_code == 0 && answer.records.is_some_and(|records| !records.is_empty()) {
                    self.unread.remove(&Place { topic_index, partition: answer.partition_index });
                    self.fetch.take(since_start, since_start, ONE);
                }
            }
            if self.unread.len() == left_before {
                return Ok(());
            }
        }
    }
}

fn ask_for(place: Place, offset: i64) -> FetchPartition {
    FetchPartition {
        partition: place.partition,
        fetch_offset: offset,
        partition_max_bytes: PARTITION_BYTES,
        ..FetchPartition::default()
    }
}

const ONE: Counts = Counts { request_count: 1, record_count: 1, bytes: 0, error_count: 0 };
const PRODUCE_VERSION: i16 = 8;
const FETCH_VERSION: i16 = 11;
const TIMEOUT_MS: i32 = 30_000;
const FETCH_BYTES: i32 = 64 << 20;
/// Room for the record that was sent.
const PARTITION_BYTES: i32 = 4096;
