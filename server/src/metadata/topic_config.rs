//! Configuration keys a topic may set when it is made.
//!
//! As with the broker's own keys, a key counts only if something acts on it. Keys whose behaviour is not there yet are
//! accepted with the one value that says what Millrace does anyway, and refused with any other: a client that asks for
//! compaction must learn that it does not get it. [`ROWS`] has the keys that count, which are also those that clients are
//! told about.

use super::controller::Refusal;

/// A key that a topic may set.
pub struct Row {
    /// Kafka's name of it.
    pub name: &'static str,
    /// What clients are told its values are.
    pub value_type: ValueType,
    /// What it may hold.
    pub rule: Rule,
    /// One line for whoever asks.
    pub doc: &'static str,
}

/// What kind of value a key has; Kafka's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueType {
    /// `true` or `false`.
    Boolean,
    /// Text.
    String,
    /// A whole number of 32 bits.
    Int,
    /// A whole number of 64 bits.
    Long,
    /// Texts, comma separated.
    List,
}

/// What a key may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// A number of bytes up to the broker's own `message.max.bytes`, which holds for topics that say nothing.
    MessageBytes,
    /// Only what the broker does anyway.
    Only(&'static str),
}

/// Checks one key. `message_bytes_max` is the broker's own limit, which no topic may exceed.
pub fn check(key: &str, value: Option<&str>, message_bytes_max: u32) -> Result<(), Refusal> {
    let shown: String = key.chars().take(VALUE_BYTES_MAX).collect();
    let refuse = |why: String| Err(Refusal::InvalidConfig { key: shown.clone(), why });
    let Some(row) = ROWS.iter().find(|row| row.name == key) else {
        let is_known = NOT_IMPLEMENTED.contains(&key);
        return refuse(if is_known { "not implemented yet" } else { "unknown topic config name" }.to_owned());
    };
    let Some(value) = value else {
        return refuse("a value is missing".to_owned());
    };
    if value.len() > VALUE_BYTES_MAX {
        return refuse(format!("the value has more than {VALUE_BYTES_MAX} bytes"));
    }
    match row.rule {
        Rule::MessageBytes => match value.parse::<u32>() {
            Ok(bytes) if bytes <= message_bytes_max => Ok(()),
            _ => refuse(format!("{value:?} is not a number from 0 to {message_bytes_max}")),
        },
        Rule::Only(only) if value == only => Ok(()),
        Rule::Only(only) => refuse(format!("{value:?} is not implemented yet; only {only} is")),
    }
}

/// The key that a Produce request looks up.
pub const MESSAGE_BYTES_MAX: &str = "max.message.bytes";

/// Longest value; an entry with all keys stays below its size limit.
const VALUE_BYTES_MAX: usize = 1024;

/// Every key that counts, sorted.
pub const ROWS: &[Row] = &[
    Row {
        name: "cleanup.policy",
        value_type: ValueType::List,
        rule: Rule::Only("delete"),
        doc: "What happens to old records. Neither retention nor compaction is there yet.",
    },
    Row {
        name: "compression.type",
        value_type: ValueType::String,
        rule: Rule::Only("producer"),
        doc: "How batches are stored: as the producer compressed them.",
    },
    Row {
        name: MESSAGE_BYTES_MAX,
        value_type: ValueType::Int,
        rule: Rule::MessageBytes,
        doc: "Largest record batch a producer may send, as it is sent (compressed).",
    },
    Row {
        name: "message.timestamp.type",
        value_type: ValueType::String,
        rule: Rule::Only("CreateTime"),
        doc: "Whose time a record carries: the producer's.",
    },
    Row {
        name: "min.insync.replicas",
        value_type: ValueType::Int,
        rule: Rule::Only("1"),
        doc: "Replicas that must have a record before it is acknowledged. There is one.",
    },
    Row {
        name: "remote.storage.enable",
        value_type: ValueType::Boolean,
        rule: Rule::Only("false"),
        doc: "Whether old segments move elsewhere. They do not.",
    },
    Row {
        name: "retention.bytes",
        value_type: ValueType::Long,
        rule: Rule::Only("-1"),
        doc: "How much is kept of a partition: everything.",
    },
    Row {
        name: "retention.ms",
        value_type: ValueType::Long,
        rule: Rule::Only("-1"),
        doc: "How long records are kept: for ever.",
    },
    Row {
        name: "unclean.leader.election.enable",
        value_type: ValueType::Boolean,
        rule: Rule::Only("false"),
        doc: "Whether a replica that lacks records may become leader. It may not.",
    },
];

/// Kafka's other topic keys, sorted. Nothing here acts on them.
const NOT_IMPLEMENTED: &[&str] = &[
    "compression.gzip.level",
    "compression.lz4.level",
    "compression.zstd.level",
    "delete.retention.ms",
    "file.delete.delay.ms",
    "flush.messages",
    "flush.ms",
    "follower.replication.throttled.replicas",
    "index.interval.bytes",
    "leader.replication.throttled.replicas",
    "local.retention.bytes",
    "local.retention.ms",
    "max.compaction.lag.ms",
    "message.timestamp.after.max.ms",
    "message.timestamp.before.max.ms",
    "min.cleanable.dirty.ratio",
    "min.compaction.lag.ms",
    "preallocate",
    "remote.log.copy.disable",
    "remote.log.delete.on.disable",
    "segment.bytes",
    "segment.index.bytes",
    "segment.jitter.ms",
    "segment.ms",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_sorted_and_their_defaults_are_legal() {
        assert!(ROWS.windows(2).all(|pair| pair[0].name < pair[1].name));
        assert!(NOT_IMPLEMENTED.windows(2).all(|pair| pair[0] < pair[1]));
        for row in ROWS {
            assert!(!NOT_IMPLEMENTED.contains(&row.name), "{}", row.name);
            if let Rule::Only(only) = row.rule {
                assert_eq!(check(row.name, Some(only), 100), Ok(()), "{}", row.name);
            }
        }
    }

    #[test]
    fn what_would_change_nothing_is_refused_and_says_why() {
        let refused = |key, value| check(key, value, 100).unwrap_err().to_string();
        assert_eq!(check(MESSAGE_BYTES_MAX, Some("100"), 100), Ok(()));
        for value in ["101", "-1", "many", ""] {
            assert!(refused(MESSAGE_BYTES_MAX, Some(value)).ends_with("is not a number from 0 to 100"), "{value}");
        }
        assert_eq!(
            refused("cleanup.policy", Some("compact")),
            "cleanup.policy: \"compact\" is not implemented yet; only delete is"
        );
        assert_eq!(refused("segment.ms", Some("1")), "segment.ms: not implemented yet");
        assert_eq!(refused("segment.mss", Some("1")), "segment.mss: unknown topic config name");
        assert_eq!(refused("retention.ms", None), "retention.ms: a value is missing");
    }
}
