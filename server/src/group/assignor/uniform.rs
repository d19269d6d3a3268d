//! Balanced and sticky.
//!
//! 1. Everybody keeps what they had and may still read. What two members claim stays with the first.
//! 2. Where all read the same, nobody keeps more than their share: the rest is taken back.
//! 3. What nobody has goes to whoever reads the topic and has least.
//! 4. Where members read different topics, partitions move from whoever has most to whoever has least, as long as that
//!    makes them more equal, for a bounded number of rounds.

use std::collections::BTreeSet;

use millrace_protocol::wire::Uuid;

use super::Work;
use crate::group::request::IdPartition;

pub(super) fn assign(work: &Work<'_>) -> Vec<BTreeSet<IdPartition>> {
    let mut parts = keep(work);
    let is_same = work.members.windows(2).all(|pair| pair[0].subscription == pair[1].subscription);
    if is_same {
        trim(work, &mut parts);
    }
    fill(work, &mut parts);
    if !is_same {
        balance(work, &mut parts);
    }
    parts
}

/// What everybody had and may still read.
fn keep(work: &Work<'_>) -> Vec<BTreeSet<IdPartition>> {
    let mut taken = BTreeSet::new();
    let mut parts = Vec::with_capacity(work.members.len());
    for worker in &work.members {
        let subscription = &work.subscriptions[worker.subscription];
        let may_keep = |place: &&IdPartition| {
            let count = work.topics.get(&place.topic_id).copied().unwrap_or(0);
            place.partition < count && subscription.contains(&place.topic_id)
        };
        let kept = worker.previous.iter().filter(may_keep).copied().filter(|place| taken.insert(*place));
        parts.push(kept.collect());
    }
    parts
}

/// Takes back what members have beyond their share, where all read the same.
fn trim(work: &Work<'_>, parts: &mut [BTreeSet<IdPartition>]) {
    let Some(first) = work.members.first() else { return };
    let topics = work.subscriptions[first.subscription].iter();
    let total: usize = topics.map(|topic_id| usize::try_from(work.topics[topic_id]).unwrap_or(0)).sum();
    let (share, mut extra) = (total / parts.len(), total % parts.len());
    for part in parts {
        let mut quota = share;
        // Those who had more before are the ones who may have one more now.
        if part.len() > share && extra > 0 {
            extra -= 1;
            quota += 1;
        }
        while part.len() > quota {
            part.pop_last();
        }
    }
}

/// Gives away what nobody has. Topics with few readers go first: their readers have the least choice.
fn fill(work: &Work<'_>, parts: &mut [BTreeSet<IdPartition>]) {
    let taken: BTreeSet<_> = parts.iter().flatten().copied().collect();
    let mut topics: Vec<_> =
        work.read_topics().into_iter().map(|topic_id| (work.readers(topic_id), topic_id)).collect();
    topics.sort_by_key(|(readers, topic_id)| (readers.len(), *topic_id));
    for (readers, topic_id) in topics {
        let mut free = work.partitions(topic_id).filter(|place| !taken.contains(place)).peekable();
        if free.peek().is_none() {
            continue;
        }
        let mut loads: BTreeSet<_> = readers.into_iter().map(|reader| (parts[reader].len(), reader)).collect();
        for place in free {
            let (load, reader) = loads.pop_first().expect("somebody reads the topic");
            parts[reader].insert(place);
            loads.insert((load + 1, reader));
        }
    }
}

/// Makes members more equal who read different topics.
fn balance(work: &Work<'_>, parts: &mut [BTreeSet<IdPartition>]) {
    for _ in 0..ROUND_COUNT_MAX {
        let mut is_moved = false;
        for topic_id in work.read_topics() {
            let readers = work.readers(topic_id);
            let mut loads: BTreeSet<_> = readers.iter().map(|reader| (parts[*reader].len(), *reader)).collect();
            // Owners from the one with the most on; each gives until it has nothing of the topic or nobody has less.
            let mut owners: Vec<_> = loads.iter().rev().copied().collect();
            owners.retain(|(_, reader)| has_any(&parts[*reader], topic_id));
            for (mut load, owner) in owners {
                while let Some(place) = last_of(&parts[owner], topic_id) {
                    let (least, reader) = *loads.first().expect("the owner reads it");
                    if load < least + 2 {
                        break;
                    }
                    parts[owner].remove(&place);
                    parts[reader].insert(place);
                    loads.remove(&(load, owner));
                    loads.remove(&(least, reader));
                    load -= 1;
                    loads.insert((load, owner));
                    loads.insert((least + 1, reader));
                    is_moved = true;
                }
            }
        }
        if !is_moved {
            return;
        }
    }
}

fn has_any(part: &BTreeSet<IdPartition>, topic_id: Uuid) -> bool {
    last_of(part, topic_id).is_some()
}

fn last_of(part: &BTreeSet<IdPartition>, topic_id: Uuid) -> Option<IdPartition> {
    let (first, last) = (IdPartition { topic_id, partition: 0 }, IdPartition { topic_id, partition: i32::MAX });
    part.range(first..=last).next_back().copied()
}

/// Each round moves every topic's partitions as far as they go; more are needed only for chains of overlapping readers.
const ROUND_COUNT_MAX: usize = 16;
