//! What a run is to do, once everything about the cluster is known. The same for all shards.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::check::{Entry, Place};
use crate::client::cluster::Leader;
use crate::workload::batch::BatchShape;

/// Everything that shards need to know.
pub(crate) struct Plan {
    /// The subcommand, for progress.
    pub(crate) task: String,
    pub(crate) client: Client,
    pub(crate) topics: Vec<String>,
    /// Invariant: not empty, and each leads a partition.
    pub(crate) leaders: Vec<Leader>,
    /// Invariant: above 0.
    pub(crate) threads: u16,
    pub(crate) span: Span,
    pub(crate) check: Check,
    pub(crate) seed: u64,
    /// The upper half of every producer's number.
    pub(crate) run_id: u32,
    pub(crate) broker_pid: Option<u32>,
    pub(crate) sending: Option<SendPlan>,
    pub(crate) reading: Option<ReadPlan>,
}

/// Who speaks to the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Client {
    /// Requests that are laid out here, byte by byte: what the broker can do.
    Raw,
    /// librdkafka, record by record: what applications see.
    Librdkafka,
}

/// How long the parts of a run are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    /// Open loop: the rate rises for so long.
    pub(crate) ramp: Duration,
    /// After it, what is sent does not count for so long.
    pub(crate) warm_up: Duration,
    /// What counts. `None`: until all is done.
    pub(crate) measured: Option<Duration>,
}

impl Span {
    /// The whole length, if it has one.
    pub(crate) fn total(&self) -> Option<Duration> {
        Some(self.ramp + self.warm_up + self.measured?)
    }
}

/// How much of what comes back is looked at. Acknowledged and fetched offsets always are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Check {
    /// Offsets only.
    None,
    /// The header and the first record of every batch.
    Headers,
    /// The checksum of every batch, and every record.
    Crc,
}

/// The producers.
pub(crate) struct SendPlan {
    /// What its series is called.
    pub(crate) series: String,
    /// Invariant: at least as many as there are leaders.
    pub(crate) connection_count: usize,
    /// Requests of a connection without their answers. Invariant: above 0.
    pub(crate) in_flight_max: usize,
    /// Of all connections together. `None`: a request for every answer.
    pub(crate) records_per_second: Option<f64>,
    /// Open loop: how long the first record of a batch waits for others. Zero: every record is a request.
    pub(crate) linger: Duration,
    /// 0, 1, or -1 for all.
    pub(crate) acks: i16,
    /// Closed loop: batches of one request, each for another partition. Invariant: above 0.
    pub(crate) batches_per_request: usize,
    /// Closed loop: requests of all connections together, if they are limited.
    pub(crate) request_count_max: Option<u64>,
    pub(crate) shape: BatchShape,
    /// One for each connection, or none at all.
    pub(crate) producer_ids: Vec<(i64, i16)>,
    /// Whether each answer is kept, for what windows of time have to tell.
    pub(crate) keeps_samples: bool,
}

/// The consumers.
pub(crate) struct ReadPlan {
    /// What its series is called.
    pub(crate) series: String,
    /// Of what is read; not always of what is sent to.
    pub(crate) leaders: Vec<Leader>,
    /// Each reads everything.
    pub(crate) consumer_count: usize,
    /// Of one consumer. Its partitions are dealt out among them.
    pub(crate) connection_count: usize,
    pub(crate) fetch_bytes: i32,
    /// How long a broker may wait for bytes.
    pub(crate) wait_max_ms: i32,
    /// Of all connections together.
    pub(crate) bytes_per_second: Option<f64>,
    /// Where reading begins.
    pub(crate) starts: BTreeMap<Place, i64>,
    pub(crate) entry: Entry,
    /// Where reading ends, if that is known from the beginning.
    pub(crate) ends: Option<BTreeMap<Place, i64>>,
    /// Whether it begins anew where it would end.
    pub(crate) repeats: bool,
    /// Whether reading ends where the logs do once all has been sent.
    pub(crate) follows_senders: bool,
    /// Whether every acknowledged record must be among what each consumer read.
    pub(crate) is_compared: bool,
    pub(crate) timing: Timing,
}

/// What a consumer's latency is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timing {
    /// From a request to its answer.
    Requests,
    /// From when a record was due to be sent to when it came.
    Records,
}

/// One producer's connection.
pub(crate) struct SendSeat<'a> {
    pub(crate) index: usize,
    pub(crate) leader: &'a Leader,
    /// Which of the leader's partitions comes first.
    pub(crate) first_place: usize,
}

/// One consumer's connection.
pub(crate) struct ReadSeat<'a> {
    pub(crate) consumer: usize,
    pub(crate) leader: &'a Leader,
    pub(crate) places: Vec<Place>,
}

impl Plan {
    /// The producers' connections of shard `shard_index`.
    pub(crate) fn send_seats(&self, shard_index: u16) -> Vec<SendSeat<'_>> {
        let count = self.sending.as_ref().map_or(0, |sending| sending.connection_count);
        let own = (0..count).filter(|index| index % usize::from(self.threads) == usize::from(shard_index));
        let seat = |index: usize| {
            let leader = &self.leaders[index % self.leaders.len()];
            // Each connection starts at another partition, so that few of them meet.
            let first_place = index / self.leaders.len() * leader.places.len() / count.div_ceil(self.leaders.len());
            SendSeat { index, leader, first_place: first_place % leader.places.len() }
        };
        own.map(seat).collect()
    }

    /// The consumers' connections of shard `shard_index`.
    pub(crate) fn read_seats(&self, shard_index: u16) -> Vec<ReadSeat<'_>> {
        let Some(reading) = &self.reading else { return Vec::new() };
        let mut seats = Vec::new();
        for consumer in 0..reading.consumer_count {
            for leader in &reading.leaders {
                let count = reading.connection_count.div_ceil(reading.leaders.len()).min(leader.places.len());
                for index in 0..count {
                    let places = leader.places.iter().copied().skip(index).step_by(count).collect();
                    seats.push(ReadSeat { consumer, leader, places });
                }
            }
        }
        let own = seats
            .into_iter()
            .enumerate()
            .filter(|(index, _)| index % usize::from(self.threads) == usize::from(shard_index));
        own.map(|(_, seat)| seat).collect()
    }

    /// The number that the records of producer connection `index` carry.
    pub(crate) fn producer_of(&self, index: usize) -> u64 {
        u64::from(self.run_id) << 32 | crate::numbers::u64_of(index)
    }
}
