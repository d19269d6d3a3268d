//! Our errors as Kafka's error codes. The only place that maps them.
//!
//! Every `match` names every variant: a new error does not compile before somebody has decided what clients are told. A
//! retriable code sends clients round again, so it stands only where trying again can help.

use std::path::Path;
use std::time::Duration;

use millrace_engine::log::Failure;
use millrace_engine::producer_state::SequenceError;
use millrace_engine::store::{AppendError, ReadError};
use millrace_protocol::batch::BatchError;
use millrace_protocol::batch::compression::CompressionError;
use millrace_protocol::error_code::ErrorCode;

use crate::fetch_session;
use crate::metadata::Refusal;
use crate::shard::limits;
use crate::shard::mailbox::message::{AppendRefusal, ProposeError};
use crate::shard::producer_ids::NoProducerId;

/// How a request names topics, and so what it is told of one that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Naming {
    /// By name.
    Name,
    /// By id (KIP-516).
    Id,
}

impl From<fetch_session::Naming> for Naming {
    fn from(naming: fetch_session::Naming) -> Self {
        match naming {
            fetch_session::Naming::Name => Self::Name,
            fetch_session::Naming::Id => Self::Id,
        }
    }
}

impl Naming {
    fn unknown(self) -> ErrorCode {
        match self {
            Self::Name => ErrorCode::UnknownTopicOrPartition,
            Self::Id => ErrorCode::UnknownTopicId,
        }
    }
}

/// Why a batch was not appended, or may not be on the device.
pub fn append(refusal: &AppendRefusal, naming: Naming) -> ErrorCode {
    match refusal {
        AppendRefusal::Invalid(error) => batch(error),
        AppendRefusal::KeysMissing { .. } => ErrorCode::InvalidRecord,
        AppendRefusal::Decompression(error) => compression(error),
        AppendRefusal::Refused(error) => match error {
            // The topic was deleted after the request was looked at.
            AppendError::UnknownLog => naming.unknown(),
            AppendError::Offline(failure) => log_failure(failure, naming),
            AppendError::Sequence(error) => sequence(error),
            AppendError::StaleLeaderEpoch { .. } => ErrorCode::FencedLeaderEpoch,
            AppendError::OffsetsExhausted | AppendError::DiskFull { .. } => ErrorCode::KafkaStorageError,
            // Another leader, or this broker after its restart, takes it.
            AppendError::Closing => ErrorCode::NotLeaderOrFollower,
        },
        AppendRefusal::NotDurable(failure) => log_failure(failure, naming),
    }
}

/// Why what a group decided is not stored. Clients look for the coordinator again, or just try again.
pub fn group_append(refusal: &AppendRefusal) -> ErrorCode {
    match refusal {
        AppendRefusal::Refused(error) => match error {
            AppendError::UnknownLog => ErrorCode::CoordinatorNotAvailable,
            AppendError::Offline(_)
            | AppendError::StaleLeaderEpoch { .. }
            | AppendError::OffsetsExhausted
            | AppendError::DiskFull { .. }
            | AppendError::Closing => ErrorCode::NotCoordinator,
            AppendError::Sequence(_) => ErrorCode::UnknownServerError,
        },
        AppendRefusal::NotDurable(_) => ErrorCode::NotCoordinator,
        AppendRefusal::Invalid(_) | AppendRefusal::KeysMissing { .. } | AppendRefusal::Decompression(_) => {
            ErrorCode::UnknownServerError
        }
    }
}

/// Why bytes are not a batch that may be appended.
pub fn batch(error: &BatchError) -> ErrorCode {
    match error {
        BatchError::Incomplete { .. } | BatchError::InvalidLength { .. } | BatchError::ChecksumMismatch => {
            ErrorCode::CorruptMessage
        }
        BatchError::UnsupportedMagic { .. }
        | BatchError::InvalidCount { .. }
        | BatchError::InvalidBaseOffset { .. }
        | BatchError::TrailingBytes { .. }
        | BatchError::ControlFromProducer
        | BatchError::InvalidProducer { .. }
        | BatchError::Compressed
        | BatchError::MalformedRecord { .. } => ErrorCode::InvalidRecord,
        BatchError::UnknownCompression { .. } => ErrorCode::UnsupportedCompressionType,
        BatchError::BrokerTimeFromProducer => ErrorCode::InvalidTimestamp,
    }
}

/// Why the records of a batch could not be looked at.
fn compression(error: &CompressionError) -> ErrorCode {
    match error {
        // Clients send the same records again in smaller batches.
        CompressionError::TooLarge { .. } => ErrorCode::MessageTooLarge,
        CompressionError::Corrupt { .. } => ErrorCode::InvalidRecord,
        CompressionError::Failed { .. } => ErrorCode::UnknownServerError,
    }
}

/// Why a log could not be read.
pub fn read(error: &ReadError, naming: Naming) -> ErrorCode {
    match error {
        ReadError::UnknownLog => naming.unknown(),
        ReadError::OffsetOutOfRange(_) => ErrorCode::OffsetOutOfRange,
        ReadError::Offline(failure) => log_failure(failure, naming),
        ReadError::Corrupt(_) => ErrorCode::KafkaStorageError,
    }
}

/// Why the controller did not allow something.
pub fn refusal(refusal: &Refusal) -> ErrorCode {
    match refusal {
        Refusal::InvalidTopicName { .. } | Refusal::NameCollision { .. } | Refusal::FixedPartitions { .. } => {
            ErrorCode::InvalidTopicException
        }
        Refusal::TopicExists { .. } => ErrorCode::TopicAlreadyExists,
        Refusal::InvalidPartitions(_) | Refusal::NoMorePartitions { .. } | Refusal::TooManyPartitionsOfTopic { .. } => {
            ErrorCode::InvalidPartitions
        }
        Refusal::InvalidRequest(_) | Refusal::InvalidBrokerConfig { .. } => ErrorCode::InvalidRequest,
        Refusal::TooManyPartitions { .. } => ErrorCode::PolicyViolation,
        Refusal::InvalidReplicationFactor { .. } => ErrorCode::InvalidReplicationFactor,
        Refusal::InvalidAssignment { .. } | Refusal::AssignmentCount { .. } => ErrorCode::InvalidReplicaAssignment,
        Refusal::InvalidConfig { .. } => ErrorCode::InvalidConfig,
        Refusal::UnknownTopic { .. } => ErrorCode::UnknownTopicOrPartition,
        Refusal::UnknownTopicId => ErrorCode::UnknownTopicId,
        Refusal::TopicDeletionDisabled => ErrorCode::TopicDeletionDisabled,
        Refusal::ProducerIdsExhausted | Refusal::InvalidRegistration(_) => ErrorCode::UnknownServerError,
    }
}

/// Why a change of the metadata is not in force.
pub fn propose(error: &ProposeError) -> ErrorCode {
    match error {
        ProposeError::Refused(reason) => refusal(reason),
        // Retriable or not, the metadata log is offline until a restart: clients may as well hear it.
        ProposeError::Log(_) => ErrorCode::KafkaStorageError,
    }
}

/// The same for people.
pub fn propose_text(error: &ProposeError) -> String {
    match error {
        ProposeError::Refused(reason) => reason.to_string(),
        ProposeError::Log(_) => "the metadata log cannot be written".to_owned(),
    }
}

/// Why there is no producer id.
pub fn producer_id(error: &NoProducerId) -> ErrorCode {
    match error {
        NoProducerId::Refused(error) => propose(error),
        NoProducerId::Gone(_) => ErrorCode::CoordinatorNotAvailable,
    }
}

/// How long a client is to send nothing after this: only what trying again at once would make worse.
pub fn throttle(refusal: &AppendRefusal) -> Duration {
    match refusal {
        AppendRefusal::Refused(AppendError::DiskFull { .. }) => limits::DISK_FULL_THROTTLE,
        AppendRefusal::Invalid(_)
        | AppendRefusal::KeysMissing { .. }
        | AppendRefusal::Decompression(_)
        | AppendRefusal::Refused(_)
        | AppendRefusal::NotDurable(_) => Duration::ZERO,
    }
}

/// What is wrong with a batch, or with the disk of the data directory, for people.
pub fn append_text(refusal: &AppendRefusal, directory: &Path) -> Option<String> {
    match refusal {
        AppendRefusal::Invalid(error) => Some(error.to_string()),
        AppendRefusal::KeysMissing { count, first } => {
            let index = first.first().copied().unwrap_or_default();
            Some(format!(
                "{count} records of the batch lack a key, which a compacted topic needs; the first is record {index}"
            ))
        }
        AppendRefusal::Decompression(error) => {
            Some(format!("the keys that a compacted topic needs cannot be looked for: {error}"))
        }
        AppendRefusal::Refused(AppendError::DiskFull { free_bytes }) => Some(format!(
            "the disk of data directory {} is full: {free_bytes} bytes are free, and they are kept for the broker itself; \
             delete topics or records, shorten retention.ms or retention.bytes, or make the disk larger",
            directory.display()
        )),
        AppendRefusal::Refused(AppendError::Sequence(error)) => Some(error.to_string()),
        // The rest says nothing about what the client sent, and may name files.
        AppendRefusal::Refused(_) | AppendRefusal::NotDurable(_) => None,
    }
}

fn sequence(error: &SequenceError) -> ErrorCode {
    match error {
        SequenceError::OutOfOrder { .. } => ErrorCode::OutOfOrderSequenceNumber,
        SequenceError::StaleEpoch { .. } => ErrorCode::InvalidProducerEpoch,
    }
}

fn log_failure(failure: &Failure, naming: Naming) -> ErrorCode {
    match failure {
        Failure::Deleted => naming.unknown(),
        Failure::Io { .. } | Failure::Corrupt(_) => ErrorCode::KafkaStorageError,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_with_its_directory_and_holds_the_client_up() {
        let refusal = AppendRefusal::Refused(AppendError::DiskFull { free_bytes: 4096 });
        assert_eq!(append(&refusal, Naming::Name), ErrorCode::KafkaStorageError);
        let text = append_text(&refusal, Path::new("/srv/log")).unwrap();
        assert!(text.starts_with("the disk of data directory /srv/log is full: 4096 bytes are free"), "{text}");
        assert_eq!(throttle(&refusal), limits::DISK_FULL_THROTTLE);
        let offline = Failure::Io { operation: "write", reason: "/srv/log/x: broken".to_owned() };
        for other in [AppendRefusal::Refused(AppendError::Closing), AppendRefusal::NotDurable(offline)] {
            assert_eq!((throttle(&other), append_text(&other, Path::new("/srv/log"))), (Duration::ZERO, None));
        }
    }

    #[test]
    fn a_topic_that_is_gone_is_unknown_by_what_it_was_asked_for() {
        for gone in [AppendRefusal::Refused(AppendError::UnknownLog), AppendRefusal::NotDurable(Failure::Deleted)] {
            assert_eq!(append(&gone, Naming::Name), ErrorCode::UnknownTopicOrPartition);
            assert_eq!(append(&gone, Naming::Id), ErrorCode::UnknownTopicId);
        }
        for gone in [ReadError::UnknownLog, ReadError::Offline(Failure::Deleted)] {
            assert_eq!(read(&gone, Naming::Name), ErrorCode::UnknownTopicOrPartition);
            assert_eq!(read(&gone, Naming::Id), ErrorCode::UnknownTopicId);
        }
    }
}
