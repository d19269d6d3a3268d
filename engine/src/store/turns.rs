//! What many logs share a budget of, in the order in which it is looked at: open files, and indexes in memory.
//!
//! Pure. When the budget is exceeded the oldest entry is looked at: whoever owns it gives it up, or, if it was used since
//! the last look or cannot be given up now, it gets another turn. An entry whose owner has let go of it otherwise leaves
//! when it is looked at.

use std::collections::VecDeque;

/// Entries looked at without a pause: a shard does not stop for a budget.
pub(super) const LOOKS_MAX: usize = 64;

/// What the owner of an entry did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// It keeps it.
    Another,
    /// It gave it up, or had none.
    Gone,
}

/// The entries, each with what it costs. The sum may exceed the budget while entries are in use.
pub(super) struct Turns<T> {
    entries: VecDeque<(T, usize)>,
    cost: usize,
}

impl<T> Default for Turns<T> {
    fn default() -> Self {
        Self { entries: VecDeque::new(), cost: 0 }
    }
}

impl<T> Turns<T> {
    /// Takes an entry in. The caller looks at the budget next.
    pub(super) fn push(&mut self, entry: T, cost: usize) {
        self.entries.push_back((entry, cost));
        self.cost += cost;
    }

    /// What all entries cost.
    pub(super) fn cost(&self) -> usize {
        self.cost
    }

    /// Gives turns until all fits `cost_max`, or for now enough were given.
    pub(super) fn fit(&mut self, cost_max: usize, give_turn: impl Fn(&T) -> Turn) {
        for _ in 0..LOOKS_MAX {
            if self.cost <= cost_max {
                return;
            }
            let Some((entry, cost)) = self.entries.pop_front() else { return };
            match give_turn(&entry) {
                Turn::Another => self.entries.push_back((entry, cost)),
                Turn::Gone => self.cost -= cost,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    #[test]
    fn what_is_not_used_goes_first_and_the_rest_when_it_must() {
        let used = RefCell::new(vec![true, false, true, false, false]);
        let mut turns = Turns::default();
        let gone = RefCell::new(Vec::new());
        let give_turn = |entry: &usize| {
            if std::mem::take(&mut used.borrow_mut()[*entry]) {
                return Turn::Another;
            }
            gone.borrow_mut().push(*entry);
            Turn::Gone
        };
        (0..5).for_each(|entry| turns.push(entry, 10));
        turns.fit(50, give_turn);
        assert!(gone.borrow().is_empty());
        turns.fit(29, give_turn);
        assert_eq!(*gone.borrow(), [1, 3, 4]);
        turns.fit(0, give_turn);
        assert_eq!((gone.borrow().len(), turns.cost), (5, 0));
    }

    #[test]
    fn looking_ends_when_nothing_can_go() {
        let mut turns = Turns::default();
        (0..3).for_each(|entry| turns.push(entry, 1));
        turns.fit(0, |_| Turn::Another);
        assert_eq!((turns.entries.len(), turns.cost), (3, 3));
    }
}
