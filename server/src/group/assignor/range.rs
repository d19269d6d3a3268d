//! Consecutive partitions, topic by topic.

use std::collections::BTreeSet;

use super::Work;
use crate::group::request::IdPartition;

/// Gives the first readers of a topic one partition more where they do not come out even.
pub(super) fn assign(work: &Work<'_>) -> Vec<BTreeSet<IdPartition>> {
    let mut parts = vec![BTreeSet::new(); work.members.len()];
    for topic_id in work.read_topics() {
        let mut readers = work.readers(topic_id);
        readers.sort_by_key(|index| (work.members[*index].name, *index));
        let partitions: Vec<_> = work.partitions(topic_id).collect();
        let (share, extra) = (partitions.len() / readers.len(), partitions.len() % readers.len());
        let mut rest = partitions.as_slice();
        for (rank, reader) in readers.into_iter().enumerate() {
            let (own, others) = rest.split_at(share + usize::from(rank < extra));
            parts[reader].extend(own.iter().copied());
            rest = others;
        }
    }
    parts
}
