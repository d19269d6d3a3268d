//! Cases about consumer groups of the classic protocol.

use millrace_compat::contract::{Member, follow};

use crate::stage::{PARTITIONS, Stage, numbered, sorted_values};

/// Whether the members have all partitions between them, each once, and each member at least one.
fn is_shared(members: &[&mut Member]) -> bool {
    let shares: Vec<&[u32]> = members.iter().map(|member| member.assigned.as_deref().unwrap_or_default()).collect();
    let mut all = shares.concat();
    all.sort_unstable();
    all == (0..PARTITIONS).collect::<Vec<_>>() && shares.iter().all(|share| !share.is_empty())
}

fn count(members: &[&mut Member]) -> usize {
    members.iter().map(|member| member.records.len()).sum()
}

pub(crate) fn a_group_goes_on_where_it_was(stage: &Stage) {
    stage.make_topic();
    for first in [0, 20] {
        let written = stage.produce(&numbered(first, 20, PARTITIONS));
        let mut member = Member::join(&stage.client, stage.address, &stage.topic, "readers");
        follow(&mut [&mut member], |members| count(members) >= 20);
        let read = member.leave();
        assert_eq!(sorted_values(&read), sorted_values(&written), "each record once");
    }
    let committed = stage.run(&["committed", &stage.topic, "readers"]);
    assert_eq!(committed, ["0 10", "1 10", "2 10", "3 10"]);
}

pub(crate) fn members_share_and_take_over(stage: &Stage) {
    stage.make_topic();
    let join = || Member::join(&stage.client, stage.address, &stage.topic, &stage.topic);
    let mut written = stage.produce(&numbered(0, 40, PARTITIONS));
    let mut first = join();
    follow(&mut [&mut first], |members| is_shared(members) && count(members) >= 40);
    let mut second = join();
    follow(&mut [&mut first, &mut second], is_shared);
    written.extend(stage.produce(&numbered(40, 40, PARTITIONS)));
    follow(&mut [&mut first, &mut second], |members| count(members) >= 80);
    assert!(!second.records.is_empty(), "the second reads what is its own");
    let mut read = second.leave();
    follow(&mut [&mut first], is_shared);
    written.extend(stage.produce(&numbered(80, 40, PARTITIONS)));
    let read_by_second = read.len();
    follow(&mut [&mut first], |members| count(members) + read_by_second >= 120);
    read.extend(first.leave());
    assert_eq!(sorted_values(&read), sorted_values(&written), "each record once");
}

pub(crate) fn a_group_is_listed_and_deleted(stage: &Stage) {
    stage.make_topic();
    stage.produce(&numbered(0, 1, 1));
    let mut member = Member::join(&stage.client, stage.address, &stage.topic, &stage.topic);
    follow(&mut [&mut member], |members| count(members) >= 1);
    member.leave();
    assert!(stage.run(&["groups"]).contains(&stage.topic));
    stage.run(&["delete-group", &stage.topic]);
    assert!(!stage.run(&["groups"]).contains(&stage.topic));
    assert_eq!(stage.run(&["committed", &stage.topic, &stage.topic]), [""; 0]);
}
