//! Configuration keys a topic may set when it is made.
//!
//! As with the broker's own keys, a key counts only if something acts on it. Keys whose behaviour is not there yet are
//! accepted with the one value that says what Millrace does anyway, and refused with any other: a client that asks for
//! compaction must learn that it does not get it.

use super::controller::Refusal;

/// What a key may hold.
enum Rule {
    /// A number in these bounds, which the broker acts on.
    Number(i64, i64),
    /// Only what the broker does anyway.
    Only(&'static [&'static str]),
    /// Known to Kafka; nothing here acts on it.
    NotImplemented,
}

/// Checks one key. `message_bytes_max` is the broker's own limit, which no topic may exceed.
pub fn check(key: &str, value: Option<&str>, message_bytes_max: u32) -> Result<(), Refusal> {
    let shown: String = key.chars().take(VALUE_BYTES_MAX).collect();
    let refuse = |why: String| Err(Refusal::InvalidConfig { key: shown.clone(), why });
    let Some((_, rule)) = KEYS.iter().find(|(name, _)| *name == key) else {
        return refuse("unknown topic config name".to_owned());
    };
    let Some(value) = value else {
        return refuse("a value is missing".to_owned());
    };
    if value.len() > VALUE_BYTES_MAX {
        return refuse(format!("the value has more than {VALUE_BYTES_MAX} bytes"));
    }
    match rule {
        Rule::Number(min, max) => {
            let max = if key == MESSAGE_BYTES_MAX { i64::from(message_bytes_max) } else { *max };
            match value.parse::<i64>() {
                Ok(number) if (*min..=max).contains(&number) => Ok(()),
                _ => refuse(format!("{value:?} is not a number from {min} to {max}")),
            }
        }
        Rule::Only(values) if values.contains(&value) => Ok(()),
        Rule::Only(values) => refuse(format!("{value:?} is not implemented yet; only {} is", values.join(" or "))),
        Rule::NotImplemented => refuse("not implemented yet".to_owned()),
    }
}

/// The key that a Produce request looks up.
pub const MESSAGE_BYTES_MAX: &str = "max.message.bytes";

/// Longest value; an entry with all keys stays below its size limit.
const VALUE_BYTES_MAX: usize = 1024;

/// Kafka's topic keys, sorted.
const KEYS: &[(&str, Rule)] = &[
    ("cleanup.policy", Rule::Only(&["delete"])),
    ("compression.gzip.level", Rule::NotImplemented),
    ("compression.lz4.level", Rule::NotImplemented),
    ("compression.type", Rule::Only(&["producer"])),
    ("compression.zstd.level", Rule::NotImplemented),
    ("delete.retention.ms", Rule::NotImplemented),
    ("file.delete.delay.ms", Rule::NotImplemented),
    ("flush.messages", Rule::NotImplemented),
    ("flush.ms", Rule::NotImplemented),
    ("follower.replication.throttled.replicas", Rule::NotImplemented),
    ("index.interval.bytes", Rule::NotImplemented),
    ("leader.replication.throttled.replicas", Rule::NotImplemented),
    ("local.retention.bytes", Rule::NotImplemented),
    ("local.retention.ms", Rule::NotImplemented),
    ("max.compaction.lag.ms", Rule::NotImplemented),
    (MESSAGE_BYTES_MAX, Rule::Number(0, i64::MAX)),
    ("message.timestamp.after.max.ms", Rule::NotImplemented),
    ("message.timestamp.before.max.ms", Rule::NotImplemented),
    ("message.timestamp.type", Rule::Only(&["CreateTime"])),
    ("min.cleanable.dirty.ratio", Rule::NotImplemented),
    ("min.compaction.lag.ms", Rule::NotImplemented),
    ("min.insync.replicas", Rule::Only(&["1"])),
    ("preallocate", Rule::NotImplemented),
    ("remote.log.copy.disable", Rule::NotImplemented),
    ("remote.log.delete.on.disable", Rule::NotImplemented),
    ("remote.storage.enable", Rule::Only(&["false"])),
    ("retention.bytes", Rule::Only(&["-1"])),
    ("retention.ms", Rule::Only(&["-1"])),
    ("segment.bytes", Rule::NotImplemented),
    ("segment.index.bytes", Rule::NotImplemented),
    ("segment.jitter.ms", Rule::NotImplemented),
    ("segment.ms", Rule::NotImplemented),
    ("unclean.leader.election.enable", Rule::Only(&["false"])),
];
