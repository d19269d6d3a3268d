//! The stores of one simulated machine: one for each shard, over one directory, as a broker would have them.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::join_all;
use millrace_engine::flushes::Flushes;
use millrace_engine::journal::RING_BYTES_MIN;
use millrace_engine::log::Failure;
use millrace_engine::model::PartitionId;
use millrace_engine::recovery::{OpenError, RecoveryReport, redistribute};
use millrace_engine::store::{Store, StoreConfig};
use millrace_runtime::sim::{Machine, SimEnv};

use crate::dice::Dice;

/// The data directory.
pub const DIRECTORY: &str = "/var/data";

/// What a life of the broker is configured with.
#[derive(Clone, Debug)]
pub struct Tuning {
    /// Shards.
    pub shard_count: u16,
    /// See [`StoreConfig::journal_bytes`].
    pub journal_bytes: u64,
    /// See [`StoreConfig::round_bytes_max`].
    pub round_bytes_max: usize,
    /// See [`StoreConfig::write_buffer_bytes_max`].
    pub write_buffer_bytes_max: usize,
    /// See [`StoreConfig::tail_cache_bytes_max`].
    pub tail_cache_bytes_max: usize,
    /// See [`StoreConfig::flush_interval`].
    pub flush_interval: Duration,
    /// See [`StoreConfig::flush_interval_bytes`].
    pub flush_interval_bytes: usize,
    /// See [`StoreConfig::retention_interval`] and [`StoreConfig::compaction_interval`].
    pub upkeep_interval: Duration,
    /// See [`StoreConfig::open_file_count_max`].
    pub open_file_count_max: usize,
}

/// With a longer interval nothing is looked after within a life.
pub const UPKEEP_INTERVAL_MAX: Duration = Duration::from_millis(20);

impl Tuning {
    /// Small everything, so that what is rare in a day happens every few rounds.
    pub fn draw(dice: &Dice, shard_count: u16) -> Self {
        Self {
            shard_count,
            journal_bytes: RING_BYTES_MIN,
            round_bytes_max: dice.pick(&[16 * 1024, 128 * 1024, 4 * 1024 * 1024]),
            write_buffer_bytes_max: dice.pick(&[64 * 1024, 512 * 1024, 8 * 1024 * 1024]),
            tail_cache_bytes_max: dice.pick(&[0, 32 * 1024, 512 * 1024]),
            flush_interval: Duration::from_micros(dice.pick(&[500, 20_000, 10_000_000])),
            flush_interval_bytes: dice.pick(&[20_000, 16 * 1024 * 1024]),
            upkeep_interval: dice.pick(&[Duration::from_millis(3), UPKEEP_INTERVAL_MAX, Duration::from_secs(30)]),
            open_file_count_max: dice.pick(&[1, 512]),
        }
    }

    /// The configuration of one shard's store. The shards of a directory have the same `flushes`.
    pub fn store(&self, shard_index: u16, flushes: &Flushes) -> StoreConfig {
        StoreConfig {
            shard_index,
            shard_count: self.shard_count,
            flushes: flushes.clone(),
            journal_bytes: self.journal_bytes,
            round_bytes_max: self.round_bytes_max,
            write_buffer_bytes_max: self.write_buffer_bytes_max,
            tail_cache_bytes_max: self.tail_cache_bytes_max,
            flush_interval: self.flush_interval,
            flush_interval_bytes: self.flush_interval_bytes,
            retention_interval: self.upkeep_interval,
            compaction_interval: self.upkeep_interval,
            open_file_count_max: self.open_file_count_max,
            ..StoreConfig::at(PathBuf::from(DIRECTORY))
        }
    }
}

/// The open stores.
#[derive(Clone)]
pub struct Broker {
    stores: Vec<Store<SimEnv>>,
    closing: Rc<Cell<bool>>,
    /// What bringing the directory to another number of shards did.
    pub redistributed: Option<RecoveryReport>,
}

impl Broker {
    /// Brings the directory to the configured number of shards and opens every shard's store.
    pub async fn open(machine: &Machine, tuning: &Tuning) -> Result<Self, OpenError> {
        let shard_count = tuning.shard_count;
        let redistributed = redistribute(&machine.env(0), Path::new(DIRECTORY), shard_count).await?;
        let flushes = Flushes::new(shard_count);
        let opening = (0..shard_count).map(|shard| {
            let config = tuning.store(shard, &flushes);
            Store::open(machine.env(shard), config, move |id| owner(id, shard_count) == shard)
        });
        let stores = join_all(opening).await.into_iter().collect::<Result<_, _>>()?;
        Ok(Self { stores, closing: Rc::default(), redistributed })
    }

    /// The store that a partition belongs to.
    pub fn store(&self, id: PartitionId) -> &Store<SimEnv> {
        let shard_count = u16::try_from(self.stores.len()).expect("shards are counted in 16 bits");
        &self.stores[usize::from(owner(id, shard_count))]
    }

    /// Waits until no log has to be opened in the background any more; what each shard's recovery did.
    pub async fn reports(&self) -> Vec<RecoveryReport> {
        join_all(self.stores.iter().map(Store::recovered)).await
    }

    /// The damage that was found anywhere.
    pub async fn damage(&self) -> Vec<(PartitionId, Failure)> {
        self.reports().await.iter().chain(&self.redistributed).flat_map(|report| report.damage.clone()).collect()
    }

    /// Whether the stores are being closed.
    pub fn is_closing(&self) -> bool {
        self.closing.get()
    }

    /// Closes every store. The first failure, if there is one, after all of them have ended.
    pub async fn close(self) -> Result<(), Failure> {
        self.closing.set(true);
        join_all(self.stores.into_iter().map(Store::close)).await.into_iter().collect()
    }
}

/// The shard of a partition.
fn owner(id: PartitionId, shard_count: u16) -> u16 {
    let number = u16::from(id.topic.as_bytes()[0]) + u16::try_from(id.partition).expect("few partitions");
    number % shard_count
}
