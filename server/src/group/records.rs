//! The records of `__consumer_offsets`: Kafka's own, so that its tools and a later move read them.
//!
//! ```text
//! key    kind i16 | fields        value   version i16 | fields; none is a tombstone
//! ```

use millrace_protocol::group_data::consumer_group_current_member_assignment::{
    ConsumerGroupCurrentMemberAssignmentKey as CurrentKey, ConsumerGroupCurrentMemberAssignmentValue as CurrentValue,
};
use millrace_protocol::group_data::consumer_group_member_metadata::{
    ConsumerGroupMemberMetadataKey as MemberKey, ConsumerGroupMemberMetadataValue as MemberValue,
};
use millrace_protocol::group_data::consumer_group_metadata::{
    ConsumerGroupMetadataKey as EpochKey, ConsumerGroupMetadataValue as EpochValue,
};
use millrace_protocol::group_data::consumer_group_partition_metadata::ConsumerGroupPartitionMetadataKey as PartitionsKey;
use millrace_protocol::group_data::consumer_group_regular_expression::{
    ConsumerGroupRegularExpressionKey as RegexKey, ConsumerGroupRegularExpressionValue as RegexValue,
};
use millrace_protocol::group_data::consumer_group_target_assignment_member::{
    ConsumerGroupTargetAssignmentMemberKey as TargetKey, ConsumerGroupTargetAssignmentMemberValue as TargetValue,
};
use millrace_protocol::group_data::consumer_group_target_assignment_metadata::{
    ConsumerGroupTargetAssignmentMetadataKey as TargetEpochKey,
    ConsumerGroupTargetAssignmentMetadataValue as TargetEpochValue,
};
use millrace_protocol::group_data::group_metadata::{GroupMetadataKey, GroupMetadataValue};
use millrace_protocol::group_data::offset_commit::{OffsetCommitKey, OffsetCommitValue};
use millrace_protocol::wire::{DecodeError, EncodeError, Reader, Uuid, Writer};

use super::offsets::Committed;

/// A record to store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Of which the newest is kept.
    pub key: Vec<u8>,
    /// `None` takes the key back.
    pub value: Option<Vec<u8>>,
}

impl Record {
    /// Bytes of key and value.
    pub fn bytes(&self) -> usize {
        self.key.len() + self.value.as_ref().map_or(0, Vec::len)
    }

    /// A committed offset, or that it is gone.
    pub fn offset(group: &str, topic: &str, partition: i32, committed: Option<&Committed>) -> Self {
        let key = OffsetCommitKey { group, topic, partition };
        let key = with_version(OffsetCommitKey::RECORD_TYPE, |writer| key.encode(writer, 0));
        let value = committed.map(|committed| {
            let version = offset_version(committed);
            let value = OffsetCommitValue {
                offset: committed.offset,
                leader_epoch: committed.leader_epoch,
                metadata: &committed.metadata,
                commit_timestamp: committed.commit_unix_ms,
                expire_timestamp: committed.expire_unix_ms.unwrap_or(-1),
                topic_id: committed.topic_id,
            };
            with_version(version, |writer| value.encode(writer, version))
        });
        Self { key, value }
    }

    /// The members of a group, or that it is gone.
    pub fn group(group: &str, value: Option<&GroupMetadataValue<'_>>) -> Self {
        let key = GroupMetadataKey { group };
        let key = with_version(GroupMetadataKey::RECORD_TYPE, |writer| key.encode(writer, 0));
        let value = value.map(|value| with_version(GROUP_VERSION, |writer| value.encode(writer, GROUP_VERSION)));
        Self { key, value }
    }

    /// Something of a group of KIP-848. `encode` writes the value, in the only version there is.
    pub fn consumer(
        group: &str,
        key: ConsumerKey<'_>,
        encode: impl FnOnce(&mut Writer) -> Result<(), EncodeError>,
    ) -> Self {
        Self { key: key.encode(group), value: Some(with_version(0, encode)) }
    }

    /// That something of such a group is gone.
    pub fn consumer_gone(group: &str, key: ConsumerKey<'_>) -> Self {
        Self { key: key.encode(group), value: None }
    }
}

/// What is stored of a group of KIP-848, besides its offsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConsumerKey<'a> {
    /// Its epoch.
    Group,
    /// What a member says.
    Member(&'a str),
    /// The epoch of what everybody is to have.
    TargetEpoch,
    /// What a member is to have.
    Target(&'a str),
    /// What a member has.
    Current(&'a str),
    /// Topics that match an expression.
    Regex(&'a str),
}

impl ConsumerKey<'_> {
    fn encode(self, group_id: &str) -> Vec<u8> {
        match self {
            Self::Group => with_version(EpochKey::RECORD_TYPE, |writer| EpochKey { group_id }.encode(writer, 0)),
            Self::Member(member_id) => {
                with_version(MemberKey::RECORD_TYPE, |writer| MemberKey { group_id, member_id }.encode(writer, 0))
            }
            Self::TargetEpoch => {
                with_version(TargetEpochKey::RECORD_TYPE, |writer| TargetEpochKey { group_id }.encode(writer, 0))
            }
            Self::Target(member_id) => {
                with_version(TargetKey::RECORD_TYPE, |writer| TargetKey { group_id, member_id }.encode(writer, 0))
            }
            Self::Current(member_id) => {
                with_version(CurrentKey::RECORD_TYPE, |writer| CurrentKey { group_id, member_id }.encode(writer, 0))
            }
            Self::Regex(regular_expression) => {
                let key = RegexKey { group_id, regular_expression };
                with_version(RegexKey::RECORD_TYPE, |writer| key.encode(writer, 0))
            }
        }
    }
}

/// What was stored of a group of KIP-848; `None` where it was taken back.
#[derive(Debug, PartialEq, Eq)]
pub enum StoredConsumer<'a> {
    /// Its epoch.
    Group(Option<EpochValue>),
    /// What a member says.
    Member(&'a str, Option<MemberValue<'a>>),
    /// The epoch of what everybody is to have.
    TargetEpoch(Option<TargetEpochValue>),
    /// What a member is to have.
    Target(&'a str, Option<TargetValue>),
    /// What a member has.
    Current(&'a str, Option<CurrentValue>),
    /// Topics that match an expression.
    Regex(&'a str, Option<RegexValue<'a>>),
    /// How many partitions its topics have, as Kafka before 4.1 stored them. Looked up instead.
    Partitions,
}

impl StoredConsumer<'_> {
    /// Whether it says that something is gone.
    pub fn is_gone(&self) -> bool {
        matches!(
            self,
            Self::Group(None)
                | Self::Member(_, None)
                | Self::TargetEpoch(None)
                | Self::Target(_, None)
                | Self::Current(_, None)
                | Self::Regex(_, None)
                | Self::Partitions
        )
    }
}

/// A record that was stored.
#[derive(Debug, PartialEq, Eq)]
pub enum Stored<'a> {
    /// A committed offset, or that it is gone.
    Offset(OffsetCommitKey<'a>, Option<OffsetCommitValue<'a>>),
    /// The members of a group, or that it is gone.
    Group(GroupMetadataKey<'a>, Option<GroupMetadataValue<'a>>),
    /// Something of the group of this name, which is of KIP-848.
    Consumer(&'a str, StoredConsumer<'a>),
    /// Of a kind that this program does not know.
    Unknown(i16),
}

impl<'a> Stored<'a> {
    /// Reads key and value of a stored record.
    pub fn parse(key: &'a [u8], value: Option<&'a [u8]>) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(key);
        match reader.read_i16()? {
            OffsetCommitKey::RECORD_TYPE => {
                let key = OffsetCommitKey::decode(&mut reader, 0)?;
                let value = value.map(|value| versioned(value, OffsetCommitValue::decode)).transpose()?;
                Ok(Self::Offset(key, value))
            }
            GroupMetadataKey::RECORD_TYPE => {
                let key = GroupMetadataKey::decode(&mut reader, 0)?;
                let value = value.map(|value| versioned(value, GroupMetadataValue::decode)).transpose()?;
                Ok(Self::Group(key, value))
            }
            kind => Self::parse_consumer(kind, &mut reader, value),
        }
    }

    fn parse_consumer(kind: i16, reader: &mut Reader<'a>, value: Option<&'a [u8]>) -> Result<Self, DecodeError> {
        let (group, stored) = match kind {
            EpochKey::RECORD_TYPE => {
                let key = EpochKey::decode(reader, 0)?;
                let value = value.map(|value| versioned(value, EpochValue::decode)).transpose()?;
                (key.group_id, StoredConsumer::Group(value))
            }
            PartitionsKey::RECORD_TYPE => (PartitionsKey::decode(reader, 0)?.group_id, StoredConsumer::Partitions),
            MemberKey::RECORD_TYPE => {
                let key = MemberKey::decode(reader, 0)?;
                let value = value.map(|value| versioned(value, MemberValue::decode)).transpose()?;
                (key.group_id, StoredConsumer::Member(key.member_id, value))
            }
            TargetEpochKey::RECORD_TYPE => {
                let key = TargetEpochKey::decode(reader, 0)?;
                let value = value.map(|value| versioned(value, TargetEpochValue::decode)).transpose()?;
                (key.group_id, StoredConsumer::TargetEpoch(value))
            }
            TargetKey::RECORD_TYPE => {
                let key = TargetKey::decode(reader, 0)?;
                let value = value.map(|value| versioned(value, TargetValue::decode)).transpose()?;
                (key.group_id, StoredConsumer::Target(key.member_id, value))
            }
            CurrentKey::RECORD_TYPE => {
                let key = CurrentKey::decode(reader, 0)?;
                let value = value.map(|value| versioned(value, CurrentValue::decode)).transpose()?;
                (key.group_id, StoredConsumer::Current(key.member_id, value))
            }
            RegexKey::RECORD_TYPE => {
                let key = RegexKey::decode(reader, 0)?;
                let value = value.map(|value| versioned(value, RegexValue::decode)).transpose()?;
                (key.group_id, StoredConsumer::Regex(key.regular_expression, value))
            }
            unknown => return Ok(Self::Unknown(unknown)),
        };
        Ok(Self::Consumer(group, stored))
    }
}

/// The version with the fields that are needed; the highest without tags unless a tag is.
fn offset_version(committed: &Committed) -> i16 {
    if committed.expire_unix_ms.is_some() {
        1
    } else if committed.topic_id == Uuid::ZERO {
        3
    } else {
        4
    }
}

fn with_version(version: i16, encode: impl FnOnce(&mut Writer) -> Result<(), EncodeError>) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.write_i16(version);
    encode(&mut writer).expect("what is stored came over the wire in fields of the same width");
    writer.into_bytes()
}

fn versioned<'a, T>(
    value: &'a [u8],
    decode: impl FnOnce(&mut Reader<'a>, i16) -> Result<T, DecodeError>,
) -> Result<T, DecodeError> {
    let mut reader = Reader::new(value);
    let version = reader.read_i16()?;
    decode(&mut reader, version)
}

/// What Kafka 4.3 writes: the highest version without tags.
const GROUP_VERSION: i16 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    fn committed() -> Committed {
        Committed {
            offset: 42,
            leader_epoch: 3,
            metadata: "note".into(),
            commit_unix_ms: 1_750_000_000_000,
            expire_unix_ms: None,
            topic_id: Uuid::ZERO,
        }
    }

    /// Bytes that Kafka's own formatter reads; they may never change.
    #[test]
    fn the_bytes_are_kafkas() {
        let record = Record::offset("g", "t", 7, Some(&committed()));
        assert_eq!(record.key, [0, 1, 0, 1, b'g', 0, 1, b't', 0, 0, 0, 7]);
        let value = record.value.unwrap();
        assert_eq!(value[..2], [0, 3], "version 3");
        assert_eq!(value[2..14], [0, 0, 0, 0, 0, 0, 0, 42, 0, 0, 0, 3]);
        assert_eq!(value[14..20], [0, 4, b'n', b'o', b't', b'e']);
        assert_eq!(value.len(), 28);
        let epoch = Record::consumer("g", ConsumerKey::Group, |writer| {
            EpochValue { epoch: 7, metadata_hash: 0 }.encode(writer, 0)
        });
        assert_eq!((epoch.key, epoch.value), (vec![0, 3, 0, 1, b'g'], Some(vec![0, 0, 0, 0, 0, 7, 0])));
        let gone = Record::consumer_gone("g", ConsumerKey::Current("m"));
        assert_eq!(gone, Record { key: vec![0, 8, 0, 1, b'g', 0, 1, b'm'], value: None });
        assert_eq!(Record::group("g", None), Record { key: vec![0, 2, 0, 1, b'g'], value: None });
    }

    #[test]
    fn the_version_carries_what_there_is() {
        let with_expiry = Committed { expire_unix_ms: Some(9), ..committed() };
        let with_id = Committed { topic_id: Uuid([5; 16]), ..committed() };
        for (committed, version) in [(committed(), 3), (with_expiry, 1), (with_id, 4)] {
            let record = Record::offset("g", "t", 0, Some(&committed));
            let value = record.value.unwrap();
            assert_eq!(value[..2], [0, version]);
            let Ok(Stored::Offset(key, Some(stored))) = Stored::parse(&record.key, Some(&value)) else {
                panic!("it is an offset")
            };
            assert_eq!((key.group, key.topic, key.partition), ("g", "t", 0));
            assert_eq!((stored.offset, stored.metadata), (42, "note"));
            assert_eq!(stored.expire_timestamp, committed.expire_unix_ms.unwrap_or(-1));
            assert_eq!(stored.topic_id, committed.topic_id);
        }
    }

    #[test]
    fn unknown_kinds_are_told_and_rubbish_is_an_error() {
        assert_eq!(Stored::parse(&[0, 99, 1], None), Ok(Stored::Unknown(99)));
        assert!(Stored::parse(&[0], None).is_err());
        assert!(Stored::parse(&[0, 2, 0, 9, b'g'], None).is_err());
        assert!(Stored::parse(&[0, 2, 0, 1, b'g'], Some(&[0, 77])).is_err());
    }
}
