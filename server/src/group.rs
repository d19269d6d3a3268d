//! Group coordinators: who is a member of which consumer group, and how far each group has read.
//!
//! ```text
//! request -> coordinator (pure) -> records to store, and answers that wait for them
//!                               -> answers that wait for other members: they come with a later request or deadline
//! ```
//!
//! - `request`: what is asked of a group and what it answers; owned, because it crosses shards.
//! - `coordinator`: all groups of one partition of `__consumer_offsets`; finds the group, keeps the deadlines.
//! - `protocol`: one group, whatever protocol its members share their work by.
//! - `classic`: the members of a group that rebalances by JoinGroup and SyncGroup.
//! - `consumer`: the members of a group whose coordinator shares out the partitions (KIP-848), by an `assignor`.
//! - `offsets`: what a group has committed, and when that expires.
//! - `records`: the bytes of all this in `__consumer_offsets`, which are Kafka's.
//!
//! All of it is pure: no clock, no sockets, no files, no randomness. What happens is decided in memory at once; the caller
//! sends no answer before the records of that step and of every step before it are durable. When they cannot be stored,
//! the caller throws the coordinator away and reads the partition again.

pub mod assignor;
pub mod classic;
pub mod consumer;
pub mod coordinator;
pub mod offsets;
pub mod protocol;
pub mod records;
pub mod request;

use std::time::Duration;

use millrace_protocol::error_code::ErrorCode;

use self::assignor::Assignor;
use self::records::Record;
use self::request::Answer;
use crate::config::GroupConfig;
use crate::metadata::Image;

/// What time it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds of a clock that never jumps. Invariant: never falls.
    pub steady_ms: i64,
    /// Milliseconds since the Unix epoch.
    pub unix_ms: i64,
}

/// Who waits for an answer. Means nothing here but itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Token {
    /// The shard that asked.
    pub source: u16,
    /// That shard's number for the question.
    pub number: u64,
}

/// The rules that are configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Shortest session timeout a member may ask for.
    pub session_timeout_min_ms: i32,
    /// Longest one.
    pub session_timeout_max_ms: i32,
    /// How long the first rebalance of an empty group waits for more members.
    pub initial_rebalance_delay_ms: i32,
    /// Members of one group.
    pub member_count_max: usize,
    /// Bytes of the metadata that a consumer may commit with an offset.
    pub offset_metadata_bytes_max: usize,
    /// How long offsets are kept once nobody uses them.
    pub offset_retention_ms: i64,
    /// How often expired offsets are looked for. Invariant: `>= 1`.
    pub offset_check_interval_ms: i64,
    /// Largest value of a stored record.
    pub record_bytes_max: usize,
    /// Rules of groups of KIP-848.
    pub consumer: ConsumerSettings,
}

/// The rules of groups of KIP-848 that are configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerSettings {
    /// A member is gone after this long without a word.
    pub session_timeout_ms: i32,
    /// How often members are to be heard of.
    pub heartbeat_interval_ms: i32,
    /// Members of one group.
    pub member_count_max: usize,
    /// Ways to share out partitions that members may ask for. Invariant: not empty; the first is the default.
    pub assignors: Vec<Assignor>,
    /// Which groups become groups of the other protocol while they have members.
    pub migration: MigrationPolicy,
}

/// Which groups become groups of the other protocol while they have members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MigrationPolicy {
    /// Both kinds.
    Bidirectional,
    /// Classic ones.
    Upgrade,
    /// Those of KIP-848.
    Downgrade,
    /// None.
    Disabled,
}

impl MigrationPolicy {
    /// The one of this name; a name that is none's means none.
    pub fn parse(name: &str) -> Self {
        match name {
            "bidirectional" => Self::Bidirectional,
            "upgrade" => Self::Upgrade,
            "downgrade" => Self::Downgrade,
            _ => Self::Disabled,
        }
    }

    /// Whether classic groups become groups of KIP-848.
    pub fn may_upgrade(self) -> bool {
        matches!(self, Self::Bidirectional | Self::Upgrade)
    }

    /// Whether groups of KIP-848 become classic ones.
    pub fn may_downgrade(self) -> bool {
        matches!(self, Self::Bidirectional | Self::Downgrade)
    }
}

impl Settings {
    /// What the configuration says.
    pub fn new(config: &GroupConfig) -> Self {
        let milliseconds = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        Self {
            session_timeout_min_ms: config.session_timeout_min_ms,
            session_timeout_max_ms: config.session_timeout_max_ms,
            initial_rebalance_delay_ms: config.initial_rebalance_delay_ms,
            member_count_max: config.member_count_max,
            offset_metadata_bytes_max: config.offset_metadata_bytes_max,
            offset_retention_ms: milliseconds(config.offset_retention),
            offset_check_interval_ms: milliseconds(config.offset_check_interval).max(1),
            record_bytes_max: config.record_bytes_max,
            consumer: ConsumerSettings {
                session_timeout_ms: config.consumer.session_timeout_ms,
                heartbeat_interval_ms: config.consumer.heartbeat_interval_ms,
                member_count_max: config.consumer.member_count_max,
                assignors: config.consumer.assignors.iter().filter_map(|name| Assignor::parse(name)).collect(),
                migration: MigrationPolicy::parse(&config.consumer.migration_policy),
            },
        }
    }
}

/// What a step led to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// To be stored, in this order, before any of the answers leaves.
    pub records: Vec<Record>,
    /// Who is told what. Invariant: each token is answered once.
    pub answers: Vec<(Token, Answer)>,
}

impl Outcome {
    fn refuse(&mut self, token: Token, error: ErrorCode) {
        self.answers.push((token, Answer::Refused(error)));
    }
}

/// What holds while a step is taken.
#[derive(Clone, Copy, Debug)]
pub struct Moment<'a> {
    /// The time.
    pub now: Now,
    /// The topics there are.
    pub image: &'a Image,
}

impl<'a> Moment<'a> {
    fn step<'s>(self, settings: &'s Settings, group: &'s str, outcome: &'s mut Outcome) -> Step<'s>
    where
        'a: 's,
    {
        Step { now: self.now, image: self.image, settings, group, outcome }
    }
}

/// What a group is told besides what it decides on.
struct Step<'a> {
    now: Now,
    image: &'a Image,
    settings: &'a Settings,
    group: &'a str,
    outcome: &'a mut Outcome,
}

impl Step<'_> {
    /// How long a member of a consumer group may be silent: what is set for the group, else for the broker.
    fn consumer_session_timeout_ms(&self) -> i32 {
        self.group_setting("consumer.session.timeout.ms").unwrap_or(self.settings.consumer.session_timeout_ms)
    }

    /// How often it is to be heard of.
    fn consumer_heartbeat_interval_ms(&self) -> i32 {
        self.group_setting("consumer.heartbeat.interval.ms").unwrap_or(self.settings.consumer.heartbeat_interval_ms)
    }

    fn group_setting(&self, key: &str) -> Option<i32> {
        self.image.group_config(self.group).get(key).and_then(|value| value.trim().parse().ok())
    }

    fn answer(&mut self, token: Token, answer: Answer) {
        self.outcome.answers.push((token, answer));
    }

    fn refuse(&mut self, token: Token, error: ErrorCode) {
        self.outcome.refuse(token, error);
    }
}

#[cfg(test)]
mod tests;
