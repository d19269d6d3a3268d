//! The differences that are meant.

/// A difference in some answers: consecutive lines that Millrace has where Kafka has others, and why.
struct Difference {
    /// What the names of the steps begin with.
    step: &'static str,
    ours: &'static [&'static str],
    theirs: &'static [&'static str],
    why: &'static str,
}

/// Each is on docs/COMPATIBILITY.md as well.
const DIFFERENCES: &[Difference] = &[
    Difference {
        step: "CreateTopics",
        ours: &[
            "name: \"flush.policy\",",
            "value: Some(",
            "\"commit\",",
            "),",
            "read_only: false,",
            "config_source: 5,",
            "is_sensitive: false,",
            "},",
            "CreatableTopicConfigs {",
        ],
        theirs: &[],
        why: "Kafka does not have this key",
    },
    Difference {
        step: "CreateTopics",
        ours: &["config_source: 5,"],
        theirs: &["config_source: 3,"],
        why: "Kafka's storage tool sets min.insync.replicas for all brokers; here it has its default",
    },
    Difference {
        step: "Produce v9: once more",
        ours: &["log_append_time_ms: -1,"],
        theirs: &["log_append_time_ms: 9020,"],
        why: "of a batch that was there already Kafka tells the time of its last record",
    },
    Difference {
        step: "Produce v9",
        ours: &["log_start_offset: -1,"],
        theirs: &["log_start_offset: 0,"],
        why: "an answer with an error has no offsets",
    },
    Difference {
        step: "ConsumerGroup",
        ours: &["member_epoch: 1,"],
        theirs: &["member_epoch: 2,"],
        why: "the first epoch of a group is 1 here",
    },
    Difference {
        step: "ConsumerGroupDescribe",
        ours: &["group_epoch: 1,", "assignment_epoch: 1,"],
        theirs: &["group_epoch: 2,", "assignment_epoch: 2,"],
        why: "the first epoch of a group is 1 here, also when it is described",
    },
    Difference {
        step: "ConsumerGroupDescribe",
        ours: &["group_epoch: 4,"],
        theirs: &["group_epoch: 5,"],
        why: "the first epoch of a group is 1 here, and it grows as in Kafka",
    },
];

/// The list, and which of it was met.
#[derive(Default)]
pub(crate) struct Accepted {
    met: Vec<usize>,
}

impl Accepted {
    /// Whether it is listed that in the answer of a step `ours` stands in the place of `theirs`.
    pub(crate) fn accepts(&mut self, step: &str, ours: &[String], theirs: &[String]) -> bool {
        let is_listed = |difference: &Difference| {
            step.starts_with(difference.step) && same(ours, difference.ours) && same(theirs, difference.theirs)
        };
        let index = DIFFERENCES.iter().position(is_listed);
        self.met.extend(index);
        index.is_some()
    }

    /// Reasons of the differences that were not met.
    pub(crate) fn unused(&self) -> Vec<&'static str> {
        let unmet = DIFFERENCES.iter().enumerate().filter(|(index, _)| !self.met.contains(index));
        unmet.map(|(_, difference)| difference.why).collect()
    }
}

fn same(lines: &[String], listed: &[&str]) -> bool {
    lines.iter().map(|line| line.trim()).eq(listed.iter().copied())
}
