//! What holds for every way to share out, and what for each.

use proptest::prelude::*;

use super::*;

fn topic(number: u8) -> Uuid {
    Uuid([number; 16])
}

/// A group for a test: each member's subscription, and what it had.
#[derive(Clone, Debug)]
struct Team {
    topics: BTreeMap<Uuid, i32>,
    members: Vec<(String, BTreeSet<Uuid>, BTreeSet<IdPartition>)>,
}

impl Team {
    fn assign(&self, assignor: Assignor) -> Vec<BTreeSet<IdPartition>> {
        let distinct: BTreeSet<_> = self.members.iter().map(|(_, topics, _)| topics.clone()).collect();
        let subscriptions: Vec<_> = distinct.into_iter().collect();
        let members = self.members.iter().map(|(name, topics, previous)| Worker {
            name,
            subscription: subscriptions.iter().position(|known| known == topics).unwrap(),
            previous,
        });
        let members = members.collect();
        let work = Work { topics: self.topics.clone(), subscriptions, members };
        assignor.assign(&work)
    }

    /// Puts the parts in as what members had.
    fn settle(&mut self, parts: Vec<BTreeSet<IdPartition>>) {
        for ((_, _, previous), part) in self.members.iter_mut().zip(parts) {
            *previous = part;
        }
    }
}

fn team(is_same: bool) -> impl Strategy<Value = Team> {
    let topics = proptest::collection::btree_map((0_u8..6).prop_map(topic), 1_i32..12, 1..6);
    let subscriptions = proptest::collection::vec(proptest::collection::vec(any::<bool>(), 6), 1..8);
    (topics, subscriptions).prop_map(move |(topics, wishes)| {
        let members = wishes.iter().enumerate().map(|(index, wish)| {
            let wish = if is_same { &wishes[0] } else { wish };
            let read = topics.keys().zip(wish).filter(|(_, reads)| **reads).map(|(topic, _)| *topic);
            (format!("m{index}"), read.collect(), BTreeSet::new())
        });
        Team { members: members.collect(), topics: topics.clone() }
    })
}

/// Everything that somebody reads is in one part, of somebody who reads it.
fn check_complete(team: &Team, parts: &[BTreeSet<IdPartition>]) -> Result<(), TestCaseError> {
    let mut seen = BTreeSet::new();
    for ((_, topics, _), part) in team.members.iter().zip(parts) {
        for place in part {
            prop_assert!(topics.contains(&place.topic_id));
            prop_assert!((0..team.topics[&place.topic_id]).contains(&place.partition));
            prop_assert!(seen.insert(*place), "{place:?} is in two parts");
        }
    }
    let read: BTreeSet<_> = team.members.iter().flat_map(|(_, topics, _)| topics).collect();
    let wanted: i32 = read.into_iter().map(|topic| team.topics[topic]).sum();
    prop_assert_eq!(i32::try_from(seen.len()).unwrap(), wanted);
    Ok(())
}

fn spread(parts: &[BTreeSet<IdPartition>]) -> usize {
    let sizes = || parts.iter().map(BTreeSet::len);
    sizes().max().unwrap_or(0) - sizes().min().unwrap_or(0)
}

/// How many partitions have another owner, or a new one.
fn moved(team: &Team, parts: &[BTreeSet<IdPartition>]) -> usize {
    team.members.iter().zip(parts).map(|((_, _, previous), part)| part.difference(previous).count()).sum()
}

proptest! {
    #[test]
    fn every_partition_has_one_reader(team in team(false)) {
        for assignor in Assignor::ALL {
            check_complete(&team, &team.assign(*assignor))?;
        }
    }

    #[test]
    fn equal_readers_differ_by_one_and_nothing_moves_without_need(mut team in team(true), gone in any::<prop::sample::Index>()) {
        let parts = team.assign(Assignor::Uniform);
        check_complete(&team, &parts)?;
        prop_assert!(spread(&parts) <= 1);
        team.settle(parts.clone());
        prop_assert_eq!(&team.assign(Assignor::Uniform), &parts, "who asks again gets the same");

        // One goes: only what it had finds somebody new.
        let mut smaller = team.clone();
        let (_, _, lost) = smaller.members.remove(gone.index(smaller.members.len()));
        if !smaller.members.is_empty() {
            let parts = smaller.assign(Assignor::Uniform);
            check_complete(&smaller, &parts)?;
            prop_assert!(spread(&parts) <= 1);
            prop_assert_eq!(moved(&smaller, &parts), lost.len());
        }

        // One comes: only what it gets moves.
        let topics = team.members[0].1.clone();
        team.members.push(("new".to_owned(), topics, BTreeSet::new()));
        let parts = team.assign(Assignor::Uniform);
        check_complete(&team, &parts)?;
        prop_assert!(spread(&parts) <= 1);
        prop_assert_eq!(moved(&team, &parts), parts.last().unwrap().len());
    }

    #[test]
    fn unequal_readers_end_where_no_single_move_helps(mut team in team(false)) {
        let parts = team.assign(Assignor::Uniform);
        for (giver, part) in parts.iter().enumerate() {
            for (taker, (_, topics, _)) in team.members.iter().enumerate() {
                let may_move = part.iter().any(|place| topics.contains(&place.topic_id));
                prop_assert!(!may_move || part.len() < parts[taker].len() + 2, "{giver} has too much: {parts:?}");
            }
        }
        team.settle(parts.clone());
        prop_assert_eq!(team.assign(Assignor::Uniform), parts, "who asks again gets the same");
    }

    #[test]
    fn ranges_are_consecutive_and_fair_topic_by_topic(team in team(false)) {
        let parts = team.assign(Assignor::Range);
        for topic_id in team.topics.keys() {
            let readers = team.members.iter().zip(&parts).filter(|((_, topics, _), _)| topics.contains(topic_id));
            let mut next = 0;
            let mut sizes = Vec::new();
            for (_, part) in readers {
                let own: Vec<_> = part.iter().filter(|place| place.topic_id == *topic_id).collect();
                for place in &own {
                    prop_assert_eq!(place.partition, next);
                    next += 1;
                }
                sizes.push(own.len());
            }
            prop_assert!(sizes.windows(2).all(|pair| pair[0] >= pair[1]), "the first have one more");
            prop_assert!(sizes.first().is_none_or(|first| first - sizes.last().unwrap() <= 1));
        }
    }
}

#[test]
fn names_are_kafkas() {
    assert_eq!(Assignor::parse("uniform"), Some(Assignor::Uniform));
    assert_eq!(Assignor::parse("range"), Some(Assignor::Range));
    assert_eq!(Assignor::parse("cooperative-sticky"), None);
}
