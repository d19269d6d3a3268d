//! What one group has committed, and when it expires.

use std::collections::BTreeMap;

use millrace_protocol::group_data::offset_commit::OffsetCommitValue;
use millrace_protocol::wire::Uuid;

use super::request::{FetchedOffset, TopicPartition, WantedOffset};

/// The committed offsets of one group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offsets {
    /// Invariant: no topic without partitions.
    by_topic: BTreeMap<String, BTreeMap<i32, Committed>>,
    /// Memory of all of it, roughly.
    bytes: usize,
}

/// One committed offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// First offset not read yet.
    pub offset: i64,
    /// Leader epoch of the last record read; -1 if unknown.
    pub leader_epoch: i32,
    /// The consumer's own note.
    pub metadata: String,
    /// When it was committed.
    pub commit_unix_ms: i64,
    /// When it expires, if its consumer said so.
    pub expire_unix_ms: Option<i64>,
    /// The topic's id, if its consumer said so; zero otherwise.
    pub topic_id: Uuid,
}

impl Committed {
    /// What was stored.
    pub fn from_stored(value: &OffsetCommitValue<'_>) -> Self {
        Self {
            offset: value.offset,
            leader_epoch: value.leader_epoch,
            metadata: value.metadata.to_owned(),
            commit_unix_ms: value.commit_timestamp,
            expire_unix_ms: (value.expire_timestamp >= 0).then_some(value.expire_timestamp),
            topic_id: value.topic_id,
        }
    }

    fn bytes(&self) -> usize {
        COMMITTED_BYTES + self.metadata.len()
    }
}

/// Since when the offsets of a group are not needed any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnusedSince {
    /// Each since it was committed.
    Commit,
    /// All since then.
    Moment {
        /// Milliseconds since the Unix epoch.
        unix_ms: i64,
    },
}

impl Offsets {
    /// Takes an offset in; a later one replaces an earlier one.
    pub fn commit(&mut self, topic: &str, partition: i32, committed: Committed) {
        self.bytes += committed.bytes();
        if !self.by_topic.contains_key(topic) {
            self.bytes += TOPIC_BYTES + topic.len();
            self.by_topic.insert(topic.to_owned(), BTreeMap::new());
        }
        let partitions = self.by_topic.get_mut(topic).expect("it was put there");
        if let Some(replaced) = partitions.insert(partition, committed) {
            self.bytes -= replaced.bytes();
        }
    }

    /// Forgets an offset. Whether there was one.
    pub fn remove(&mut self, topic: &str, partition: i32) -> bool {
        let Some(partitions) = self.by_topic.get_mut(topic) else { return false };
        let Some(removed) = partitions.remove(&partition) else { return false };
        self.bytes -= removed.bytes();
        if partitions.is_empty() {
            self.by_topic.remove(topic);
            self.bytes -= TOPIC_BYTES + topic.len();
        }
        true
    }

    /// The offset of one partition. One that was committed for another topic of the same name does not count.
    pub fn fetch(&self, wanted: &WantedOffset) -> FetchedOffset {
        let WantedOffset { place, topic_id } = wanted;
        let found = self.by_topic.get(&place.topic).and_then(|partitions| partitions.get(&place.partition));
        let is_same = |known: Uuid| known == Uuid::ZERO || *topic_id == Uuid::ZERO || known == *topic_id;
        match found.filter(|committed| is_same(committed.topic_id)) {
            Some(committed) => describe(place.clone(), committed),
            None => FetchedOffset::none(place.clone(), *topic_id),
        }
    }

    /// Everything.
    pub fn fetch_all(&self) -> Vec<FetchedOffset> {
        self.iter().map(|(place, committed)| describe(place, committed)).collect()
    }

    /// Every partition with an offset.
    pub fn places(&self) -> Vec<TopicPartition> {
        self.iter().map(|(place, _)| place).collect()
    }

    /// Every partition with an offset, of one topic.
    pub fn places_of(&self, topic: &str) -> Vec<TopicPartition> {
        let partitions = self.by_topic.get(topic).into_iter().flatten();
        partitions.map(|(partition, _)| TopicPartition { topic: topic.to_owned(), partition: *partition }).collect()
    }

    /// The partitions whose offsets have expired. `is_used` says which topics somebody reads.
    pub fn expired(
        &self,
        now_unix_ms: i64,
        retention_ms: i64,
        since: UnusedSince,
        is_used: impl Fn(&str) -> bool,
    ) -> Vec<TopicPartition> {
        let mut expired = Vec::new();
        for (topic, partitions) in self.by_topic.iter().filter(|(topic, _)| !is_used(topic)) {
            for (partition, committed) in partitions {
                let unused_ms = match since {
                    UnusedSince::Commit => committed.commit_unix_ms,
                    UnusedSince::Moment { unix_ms } => unix_ms,
                };
                let until_ms = committed.expire_unix_ms.unwrap_or(unused_ms.saturating_add(retention_ms));
                if now_unix_ms >= until_ms {
                    expired.push(TopicPartition { topic: topic.clone(), partition: *partition });
                }
            }
        }
        expired
    }

    /// Each topic with its partitions and their offsets.
    pub fn by_topic(&self) -> impl Iterator<Item = (&str, impl Iterator<Item = (i32, i64)>)> {
        self.by_topic.iter().map(|(topic, partitions)| {
            let offsets = partitions.iter().map(|(partition, committed)| (*partition, committed.offset));
            (topic.as_str(), offsets)
        })
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_topic.is_empty()
    }

    /// Memory they take, roughly.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Memory that an offset takes besides what it replaces, roughly and at most.
    pub fn growth_bytes(&self, place: &TopicPartition, metadata: &str) -> usize {
        let topic = self.by_topic.get(&place.topic);
        match topic.and_then(|partitions| partitions.get(&place.partition)) {
            Some(replaced) => metadata.len().saturating_sub(replaced.metadata.len()),
            None => TOPIC_BYTES + place.topic.len() + COMMITTED_BYTES + metadata.len(),
        }
    }

    fn iter(&self) -> impl Iterator<Item = (TopicPartition, &Committed)> {
        self.by_topic.iter().flat_map(|(topic, partitions)| {
            let place = |partition: &i32| TopicPartition { topic: topic.clone(), partition: *partition };
            partitions.iter().map(move |(partition, committed)| (place(partition), committed))
        })
    }
}

fn describe(place: TopicPartition, committed: &Committed) -> FetchedOffset {
    FetchedOffset {
        place,
        topic_id: committed.topic_id,
        offset: committed.offset,
        leader_epoch: committed.leader_epoch,
        metadata: committed.metadata.clone(),
    }
}

/// Memory of an offset besides its note: the entry and its share of the tree.
const COMMITTED_BYTES: usize = 128;
/// Memory of a topic besides its name.
const TOPIC_BYTES: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    fn committed(offset: i64, commit_unix_ms: i64) -> Committed {
        let (metadata, expire_unix_ms, topic_id) = ("note".to_owned(), None, Uuid::ZERO);
        Committed { offset, leader_epoch: -1, metadata, commit_unix_ms, expire_unix_ms, topic_id }
    }

    fn place(topic: &str, partition: i32) -> TopicPartition {
        TopicPartition { topic: topic.to_owned(), partition }
    }

    #[test]
    fn memory_is_given_back_to_the_last_byte() {
        let mut offsets = Offsets::default();
        for partition in 0..5 {
            offsets.commit("weather", partition, committed(1, 0));
            offsets.commit("weather", partition, committed(2, 0));
        }
        offsets.commit("other", 0, committed(1, 0));
        assert!(offsets.bytes() > 6 * COMMITTED_BYTES);
        for place in offsets.places() {
            assert!(offsets.remove(&place.topic, place.partition));
        }
        assert!(!offsets.remove("other", 0));
        assert!(offsets.is_empty());
        assert_eq!(offsets.bytes(), 0);
    }

    #[test]
    fn an_offset_of_a_former_topic_does_not_count() {
        let mut offsets = Offsets::default();
        offsets.commit("weather", 0, Committed { topic_id: Uuid([1; 16]), ..committed(7, 0) });
        let fetch =
            |id: u8| offsets.fetch(&WantedOffset { place: place("weather", 0), topic_id: Uuid([id; 16]) }).offset;
        assert_eq!((fetch(0), fetch(1), fetch(2)), (7, 7, -1));
    }

    #[test]
    fn offsets_expire_by_commit_by_moment_or_by_their_own_time() {
        let mut offsets = Offsets::default();
        offsets.commit("a", 0, committed(1, 1000));
        offsets.commit("a", 1, committed(1, 2000));
        offsets.commit("b", 0, Committed { expire_unix_ms: Some(1500), ..committed(1, 1000) });
        let expired = |now, since| offsets.expired(now, 1000, since, |_| false);
        assert_eq!(expired(1499, UnusedSince::Commit), []);
        assert_eq!(expired(2000, UnusedSince::Commit), [place("a", 0), place("b", 0)]);
        assert_eq!(expired(2000, UnusedSince::Moment { unix_ms: 1000 }).len(), 3);
        assert_eq!(offsets.expired(9000, 1000, UnusedSince::Commit, |topic| topic == "a"), [place("b", 0)]);
    }
}
