//! Our errors as Kafka's error codes. The only place that maps them.
//!
//! Every `match` names every variant: a new error does not compile before somebody has decided what clients are told. A
//! retriable code sends clients round again, so it stands only where trying again can help.

use millrace_engine::log::Failure;
use millrace_engine::producer_state::SequenceError;
use millrace_engine::store::{AppendError, ReadError};
use millrace_protocol::batch::BatchError;
use millrace_protocol::error_code::ErrorCode;

use crate::metadata::Refusal;
use crate::shard::mailbox::message::{AppendRefusal, ProposeError};
use crate::shard::producer_ids::NoProducerId;

/// Why a batch was not appended, or may not be on the device.
pub fn append(refusal: &AppendRefusal) -> ErrorCode {
    match refusal {
        AppendRefusal::Invalid(error) => batch(error),
        AppendRefusal::Refused(error) => match error {
            // The image has the partition and the shard has not made its log yet, or no longer has it.
            AppendError::UnknownLog => ErrorCode::UnknownTopicOrPartition,
            AppendError::Offline(failure) => log_failure(failure),
            AppendError::Sequence(error) => sequence(error),
            AppendError::OffsetsExhausted => ErrorCode::KafkaStorageError,
            // Another leader, or this broker after its restart, takes it.
            AppendError::Closing => ErrorCode::NotLeaderOrFollower,
        },
        AppendRefusal::NotDurable(failure) => log_failure(failure),
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

/// Why a log could not be read.
pub fn read(error: &ReadError) -> ErrorCode {
    match error {
        ReadError::UnknownLog => ErrorCode::UnknownTopicOrPartition,
        ReadError::OffsetOutOfRange(_) => ErrorCode::OffsetOutOfRange,
        ReadError::Offline(failure) => log_failure(failure),
        ReadError::Corrupt(_) => ErrorCode::KafkaStorageError,
    }
}

/// Why the controller did not allow something.
pub fn refusal(refusal: &Refusal) -> ErrorCode {
    match refusal {
        Refusal::InvalidTopicName { .. } | Refusal::NameCollision { .. } => ErrorCode::InvalidTopicException,
        Refusal::TopicExists { .. } => ErrorCode::TopicAlreadyExists,
        Refusal::InvalidRequest(_) => ErrorCode::InvalidRequest,
        Refusal::InvalidPartitions(_) => ErrorCode::InvalidPartitions,
        Refusal::TooManyPartitions { .. } => ErrorCode::PolicyViolation,
        Refusal::InvalidReplicationFactor { .. } => ErrorCode::InvalidReplicationFactor,
        Refusal::InvalidAssignment { .. } => ErrorCode::InvalidReplicaAssignment,
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

/// What is wrong with a batch, for people.
pub fn append_text(refusal: &AppendRefusal) -> Option<String> {
    match refusal {
        AppendRefusal::Invalid(error) => Some(error.to_string()),
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

fn log_failure(failure: &Failure) -> ErrorCode {
    match failure {
        Failure::Io { .. } | Failure::Corrupt(_) => ErrorCode::KafkaStorageError,
    }
}
