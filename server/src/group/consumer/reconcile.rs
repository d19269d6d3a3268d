//! From what a member has to what it is to have.
//!
//! ```text
//!                       gives back                        is given what others gave back
//! Stable --> UnrevokedPartitions --> (next epoch) --> UnreleasedPartitions --> Stable
//! ```
//!
//! A member enters the group's newest epoch only when it has given back whatever others are to have, and it is given a
//! partition only when nobody has it any more. So no partition is ever read by two members that keep their word.

use std::collections::{BTreeMap, BTreeSet};

use super::member::{Current, MemberState};
use crate::group::request::IdPartition;

/// What decides about a member's next step.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted<'a> {
    /// The epoch of the assignment.
    pub(super) epoch: i32,
    /// What the member is to have in it.
    pub(super) target: &'a BTreeSet<IdPartition>,
    /// What the member says it reads; `None` does not say.
    pub(super) owned: Option<&'a BTreeSet<IdPartition>>,
}

/// Where the member stands after its next step. `is_free` says of partitions the member does not have whether nobody has them.
pub(super) fn reconcile(current: &Current, wanted: Wanted<'_>, is_free: impl Fn(&IdPartition) -> bool) -> Current {
    match current.state {
        MemberState::Stable if current.epoch == wanted.epoch => current.clone(),
        MemberState::UnrevokedPartitions if owns_any(wanted.owned, &current.revoking) => current.clone(),
        _ => advance(current, wanted, is_free),
    }
}

fn advance(current: &Current, wanted: Wanted<'_>, is_free: impl Fn(&IdPartition) -> bool) -> Current {
    let mut assigned = current.assigned.clone();
    let mut revoking = BTreeMap::new();
    assigned.retain(|place, epoch| {
        let is_kept = wanted.target.contains(place);
        if !is_kept {
            revoking.insert(*place, *epoch);
        }
        is_kept
    });
    if owns_any(wanted.owned, &revoking) {
        let state = MemberState::UnrevokedPartitions;
        return Current { state, assigned, revoking, ..*current };
    }
    let mut state = MemberState::Stable;
    for place in wanted.target {
        if assigned.contains_key(place) {
            continue;
        }
        // What it had and was to give back a moment ago is its own still.
        if is_free(place) || current.revoking.contains_key(place) {
            assigned.insert(*place, wanted.epoch);
        } else {
            state = MemberState::UnreleasedPartitions;
        }
    }
    let previous_epoch = if current.epoch == wanted.epoch { current.previous_epoch } else { current.epoch };
    Current { epoch: wanted.epoch, previous_epoch, state, assigned, revoking: BTreeMap::new() }
}

/// Whether the member still reads any of these; one that does not say may.
fn owns_any(owned: Option<&BTreeSet<IdPartition>>, places: &BTreeMap<IdPartition, i32>) -> bool {
    match owned {
        None => !places.is_empty(),
        Some(owned) => places.keys().any(|place| owned.contains(place)),
    }
}

#[cfg(test)]
mod tests {
    use millrace_protocol::wire::Uuid;

    use super::*;

    fn places(partitions: &[i32]) -> BTreeSet<IdPartition> {
        partitions.iter().map(|partition| IdPartition { topic_id: Uuid([1; 16]), partition: *partition }).collect()
    }

    fn current(epoch: i32, state: MemberState, assigned: &[i32], revoking: &[i32]) -> Current {
        let table = |partitions: &[i32]| places(partitions).into_iter().map(|place| (place, epoch)).collect();
        Current { epoch, previous_epoch: epoch - 1, state, assigned: table(assigned), revoking: table(revoking) }
    }

    /// From, target, owned, taken by others; then epoch, state, assigned, revoking.
    #[test]
    fn every_step_of_a_member() {
        use MemberState::{Stable, UnreleasedPartitions as Unreleased, UnrevokedPartitions as Unrevoked};
        type Row<'a> = (Current, &'a [i32], Option<&'a [i32]>, &'a [i32], (i32, MemberState, &'a [i32], &'a [i32]));
        let rows: &[Row<'_>] = &[
            // Nothing is due in its own epoch, even when it does not say.
            (current(5, Stable, &[1], &[]), &[1, 2], None, &[], (5, Stable, &[1], &[])),
            // Free partitions come at once.
            (current(4, Stable, &[1], &[]), &[1, 2], Some(&[1]), &[], (5, Stable, &[1, 2], &[])),
            // Those of others come later; the epoch is the new one all the same.
            (current(4, Stable, &[1], &[]), &[1, 2, 3], Some(&[1]), &[2], (5, Unreleased, &[1, 3], &[])),
            (current(5, Unreleased, &[1], &[]), &[1, 2], Some(&[1]), &[2], (5, Unreleased, &[1], &[])),
            (current(5, Unreleased, &[1], &[]), &[1, 2], Some(&[1]), &[], (5, Stable, &[1, 2], &[])),
            // What it is to give back it gives back in its own epoch.
            (current(4, Stable, &[1, 2], &[]), &[1], Some(&[1, 2]), &[], (4, Unrevoked, &[1], &[2])),
            (current(4, Stable, &[1, 2], &[]), &[1], None, &[], (4, Unrevoked, &[1], &[2])),
            (current(4, Stable, &[1, 2], &[]), &[1], Some(&[1]), &[], (5, Stable, &[1], &[])),
            (current(4, Unrevoked, &[1], &[2]), &[1], Some(&[1, 2]), &[], (4, Unrevoked, &[1], &[2])),
            (current(4, Unrevoked, &[1], &[2]), &[1], None, &[], (4, Unrevoked, &[1], &[2])),
            (current(4, Unrevoked, &[1], &[2]), &[1], Some(&[1]), &[], (5, Stable, &[1], &[])),
            // The target went on meanwhile: there is more to give back, or it gets back what it gave.
            (current(4, Unrevoked, &[1, 3], &[2]), &[1], Some(&[1, 3]), &[], (4, Unrevoked, &[1], &[3])),
            (current(4, Unrevoked, &[1], &[2]), &[1, 2], Some(&[1]), &[2], (5, Stable, &[1, 2], &[])),
        ];
        for (index, (from, target, owned, taken, (epoch, state, assigned, revoking))) in rows.iter().enumerate() {
            let (target, owned, taken) = (places(target), owned.map(places), places(taken));
            let wanted = Wanted { epoch: 5, target: &target, owned: owned.as_ref() };
            let next = reconcile(from, wanted, |place| !taken.contains(place));
            assert_eq!((next.epoch, next.state), (*epoch, *state), "row {index}");
            assert_eq!(next.assigned.keys().copied().collect::<BTreeSet<_>>(), places(assigned), "row {index}");
            assert_eq!(next.revoking.keys().copied().collect::<BTreeSet<_>>(), places(revoking), "row {index}");
        }
    }
}
