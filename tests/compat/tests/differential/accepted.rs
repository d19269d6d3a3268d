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
