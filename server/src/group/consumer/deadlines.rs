//! Who is late: members not heard of, and members that do not give partitions back.

use super::Consumer;
use super::member::Member;
use crate::group::Step;

impl Consumer {
    /// When something is to happen although nobody asks. Hearing of a member only ever moves it further away.
    pub fn next_deadline_ms(&self) -> Option<i64> {
        self.members.values().map(Member::next_deadline_ms).min()
    }

    /// Takes out whoever is late.
    pub(in crate::group) fn expire(&mut self, step: &mut Step<'_>) {
        let is_late = |member: &Member| member.next_deadline_ms() <= step.now.steady_ms;
        let late = self.members.iter().filter(|(_, member)| is_late(member));
        let late: Vec<_> = late.map(|(member_id, _)| member_id.clone()).collect();
        self.remove_all(step, &late);
    }
}
