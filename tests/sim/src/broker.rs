//! The stores of one simulated machine: one for each shard, over one directory, as a broker would have them.

use std::path::{Path, PathBuf};

use futures_util::future::join_all;
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
}

impl Tuning {
    /// Small everything, so that what is rare in a day happens every few rounds.
    pub fn draw(dice: &Dice, shard_count: u16) -> Self {
        Self {
            shard_count,
            journal_bytes: RING_BYTES_MIN,
            round_bytes_max: dice.pick(&[16 * 1024, 128 * 1024, 4 * 1024 * 1024]),
            write_buffer_bytes_max: dice.pick(&[64 * 1024, 512 * 1024, 8 * 1024 * 1024]),
            tail_cache_bytes_max: dice.pick(&[0, 32 * 1024, 512 * 1024]),
        }
    }

    /// The configuration of one shard's store.
    pub fn store(&self, shard_index: u16) -> StoreConfig {
        StoreConfig {
            shard_index,
            shard_count: self.shard_count,
            journal_bytes: self.journal_bytes,
            round_bytes_max: self.round_bytes_max,
            write_buffer_bytes_max: self.write_buffer_bytes_max,
            tail_cache_bytes_max: self.tail_cache_bytes_max,
            ..StoreConfig::at(PathBuf::from(DIRECTORY))
        }
    }
}

/// The open stores.
#[derive(Clone)]
pub struct Broker {
    stores: Vec<Store<SimEnv>>,
    /// What each shard's recovery did.
    pub reports: Vec<RecoveryReport>,
    /// What bringing the directory to another number of shards did.
    pub redistributed: Option<RecoveryReport>,
}

impl Broker {
    /// Brings the directory to the configured number of shards and opens every shard's store.
    pub async fn open(machine: &Machine, tuning: &Tuning) -> Result<Self, OpenError> {
        let shard_count = tuning.shard_count;
        let redistributed = redistribute(&machine.env(0), Path::new(DIRECTORY), shard_count).await?;
        let opening = (0..shard_count).map(|shard| {
            Store::open(machine.env(shard), tuning.store(shard), move |id| owner(id, shard_count) == shard)
        });
        let (mut stores, mut reports) = (Vec::new(), Vec::new());
        for opened in join_all(opening).await {
            let store = opened?;
            reports.push(store.recovered().await);
            stores.push(store);
        }
        Ok(Self { stores, reports, redistributed })
    }

    /// The store that a partition belongs to.
    pub fn store(&self, id: PartitionId) -> &Store<SimEnv> {
        let shard_count = u16::try_from(self.stores.len()).expect("shards are counted in 16 bits");
        &self.stores[usize::from(owner(id, shard_count))]
    }

    /// Whether every shard found that the last stop was in order.
    pub fn is_clean(&self) -> bool {
        self.redistributed.is_none() && self.reports.iter().all(|report| report.clean)
    }

    /// The damage that was found anywhere.
    pub fn damage(&self) -> Vec<(PartitionId, Failure)> {
        self.reports.iter().chain(&self.redistributed).flat_map(|report| report.damage.clone()).collect()
    }

    /// Closes every store. The first failure, if there is one, after all of them have ended.
    pub async fn close(self) -> Result<(), Failure> {
        join_all(self.stores.into_iter().map(Store::close)).await.into_iter().collect()
    }
}

/// The shard of a partition.
fn owner(id: PartitionId, shard_count: u16) -> u16 {
    let number = u16::from(id.topic.as_bytes()[0]) + u16::try_from(id.partition).expect("few partitions");
    number % shard_count
}
