//! The descriptors that this process may have, cut into connections and open segment files.
//!
//! The broker's own needs come first: the rings and links of its shards, the listeners, the files that are open for a
//! moment only. Two thirds of the rest, at most, go to connections, and what they leave to the shards' segment files. With few
//! descriptors both are few, and the broker closes and opens files more often; it never runs out of them.

/// How many of each there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DescriptorPlan {
    /// Connections of the whole broker. Invariant: `>= 1`, at most `max.connections`.
    pub connection_count_max: u32,
    /// Segment files that one shard keeps open. Invariant: `>= 1`.
    pub open_file_count_max: usize,
}

impl DescriptorPlan {
    /// Cuts `limit` descriptors, no limit being none, for `shard_count` shards and as many as `connection_count_max`
    /// connections, or says how many there would have to be.
    pub fn cut(limit: Option<u64>, shard_count: u16, connection_count_max: u32) -> Result<Self, TooFew> {
        assert!(shard_count >= 1, "a broker has at least one shard");
        let shards = u64::from(shard_count);
        let own = OWN_COUNT + shards * SHARD_COUNT;
        let needed = own + shards * FILE_COUNT_MIN + CONNECTION_COUNT_MIN;
        let limit = limit.unwrap_or(u64::MAX);
        if limit < needed {
            return Err(TooFew { limit, needed });
        }
        let rest = limit - own;
        let connections = u64::from(connection_count_max).min(rest / 3 * 2).min(rest - shards * FILE_COUNT_MIN);
        let files = ((rest - connections) / shards).min(FILE_COUNT_MAX);
        Ok(Self {
            connection_count_max: u32::try_from(connections).expect("no more than a number of 32 bits"),
            open_file_count_max: usize::try_from(files).expect("a small number"),
        })
    }
}

/// The process may not have as many descriptors as its shards need.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("only {limit} files may be open, at least {needed} are needed; ulimit -n {needed}, or lower millrace.shards")]
pub struct TooFew {
    /// How many there may be.
    pub limit: u64,
    /// How many there would have to be.
    pub needed: u64,
}

/// Standard streams, the lock, listeners, the first shard's metadata, the admin listener with its connections, and what the
/// process opens besides.
const OWN_COUNT: u64 = 52;
/// A shard's rings, timers and links, its journal, and what it opens for a moment: indexes, checkpoints, replacements.
const SHARD_COUNT: u64 = 40;
/// The least a shard can work with.
const FILE_COUNT_MIN: u64 = 16;
/// With fewer connections a broker is of no use.
const CONNECTION_COUNT_MIN: u64 = 16;
/// More than this a shard does not keep open, however many there may be: a file that is open takes kernel memory.
const FILE_COUNT_MAX: u64 = 100_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_never_exceed_the_whole() {
        for limit in [256, 1024, 20_000, 1 << 20] {
            for shard_count in [1, 2, 16] {
                for connections in [1, 100, 10_000] {
                    let Ok(plan) = DescriptorPlan::cut(Some(limit), shard_count, connections) else { continue };
                    let files = u64::try_from(plan.open_file_count_max).unwrap() * u64::from(shard_count);
                    let own = OWN_COUNT + SHARD_COUNT * u64::from(shard_count);
                    assert!(files + u64::from(plan.connection_count_max) + own <= limit);
                    assert!(plan.connection_count_max >= 1 && plan.connection_count_max <= connections);
                    assert!(plan.open_file_count_max >= 16);
                }
            }
        }
    }

    #[test]
    fn connections_get_what_they_may_have_if_files_are_left() {
        let plan = DescriptorPlan::cut(Some(20_000), 2, 10_000).unwrap();
        assert_eq!(plan, DescriptorPlan { connection_count_max: 10_000, open_file_count_max: 4_934 });
        let plan = DescriptorPlan::cut(Some(256), 2, 10_000).unwrap();
        assert_eq!(plan, DescriptorPlan { connection_count_max: 82, open_file_count_max: 21 });
        let plan = DescriptorPlan::cut(Some(20_000), 2, 100).unwrap();
        assert_eq!(plan, DescriptorPlan { connection_count_max: 100, open_file_count_max: 9_884 });
        let unlimited = DescriptorPlan::cut(None, 2, 10_000).unwrap();
        assert_eq!(unlimited, DescriptorPlan { connection_count_max: 10_000, open_file_count_max: 100_000 });
    }

    #[test]
    fn too_few_are_refused_with_the_number() {
        let error = DescriptorPlan::cut(Some(150), 2, 10_000).unwrap_err();
        assert_eq!(error, TooFew { limit: 150, needed: 180 });
        assert!(error.to_string().contains("ulimit -n 180"));
    }
}
