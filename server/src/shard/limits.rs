//! The bounds of one shard that are counts rather than bytes. Every queue between connections, shards and logs is bounded
//! by one of these.

use std::time::Duration;

/// Requests a shard may have waiting at other shards. One more waits for its turn before it starts.
pub const CALL_COUNT_MAX: usize = 4096;

/// Fetch requests of other shards that may wait for this shard's logs to grow. Past it a Fetch asks again by the clock.
pub const WATCH_COUNT_MAX: usize = 65_536;

/// Reads of this shard whose memory other shards may hold at once. Past it reads find nothing for a while.
pub const LEASE_COUNT_MAX: usize = 16_384;

/// Connections of a broker, whatever its configuration says.
pub const CONNECTION_COUNT_MAX: usize = 1_000_000;

/// Requests a connection may have received and not answered. One more stays in the socket.
pub const PIPELINE_COUNT_MAX: usize = 128;

/// Bytes of records that are read, and lent, at once. A larger answer consists of several such parts; each comes back as
/// soon as its client has taken it.
pub const READ_BYTES_MAX: usize = 1 << 20;

/// How long a Fetch waits, whatever its client asks for. A client that has gone without a word, or behind a full pipeline,
/// is noticed no sooner.
pub const FETCH_WAIT_MAX: Duration = Duration::from_mins(5);

/// Logs whose size is looked up at the same time for one DescribeLogDirs.
pub const LOGS_MEASURED_MAX: usize = 16;

/// Records without a key that the answer to one batch lists.
pub const RECORD_ERROR_COUNT_MAX: usize = 100;

/// How long a connection is not listened to after a batch found the disk full. Its client was told (KIP-219).
pub const DISK_FULL_THROTTLE: Duration = Duration::from_secs(1);

/// Bytes of finished answers that a connection gathers before it sends them.
pub const SEND_BYTES_MAX: usize = 1 << 20;

/// Partitions of one Fetch answer that another shard reads between two looks at its other work.
pub const READ_PARTITIONS_PER_YIELD: usize = 64;
