//! The work of a recorded run: writers over a handful of logs, as tests/sim draws them, on any `Env`.
//!
//! What the store takes and what it acknowledges goes into the trace at once, before anything else can happen on the shard.

use std::cell::Cell;
use std::path::Path;
use std::rc::Rc;

use millrace_engine::flushes::Flushes;
use millrace_engine::log::config::LogConfig;
use millrace_engine::model::{LeaderEpoch, Offset, PartitionId};
use millrace_engine::store::{AppendError, FirstBatch, Store, StoreConfig};
use millrace_protocol::batch::BatchView;
use millrace_runtime::{Env, TaskClass, TaskHandle, Tasks};
use millrace_sim::batches;
use millrace_sim::broker::Tuning;
use millrace_sim::dice::Dice;
use millrace_sim::workload::{Sizes, Workload, Writer};

use crate::ledger::{Recovered, RecoveredLog};
use crate::trace::{Event, Recorder, Taken};

/// Name of the data directory below the recorder's root.
pub const DATA: &str = "data";

/// Bytes that are read at a time from a recovered log.
const READ_BYTES: usize = 256 * 1024;

/// What one run does. Everything follows from it but the times.
#[derive(Clone, Debug)]
pub struct Load {
    /// The store's configuration.
    pub tuning: Tuning,
    /// Its clients.
    pub workload: Workload,
    /// Where the clients' choices come from.
    pub seed: u64,
    /// Identities of batches start here: those of two lives differ.
    pub identity_start: u64,
    /// How often the store is opened, worked on and closed.
    pub sessions: u64,
}

/// Opens the store below `root`.
pub async fn open<E: Env>(env: &E, root: &Path, tuning: &Tuning) -> Result<(Store<E>, Recovered), String> {
    assert_eq!(tuning.shard_count, 1, "a trace is one shard's");
    let config = StoreConfig { directory: root.join(DATA), ..tuning.store(0, &Flushes::new(1)) };
    let opened = Store::open(env.clone(), config, |_| true).await;
    let store = opened.map_err(|error| format!("the store does not open: {error}"))?;
    let report = store.recovered().await;
    let damage = report.damage.iter().map(|(id, failure)| format!("{id}: {failure}")).collect();
    Ok((store, Recovered { damage, ..Recovered::default() }))
}

/// Opens the store below `root` and reads all of those `logs` that it has.
pub async fn recover<E: Env>(
    env: &E,
    root: &Path,
    tuning: &Tuning,
    logs: impl IntoIterator<Item = PartitionId>,
) -> Result<(Store<E>, Recovered), String> {
    let (store, mut recovered) = open(env, root, tuning).await?;
    for id in logs {
        let Ok(offsets) = store.offsets(id).await else { continue };
        let failure = store.failure(id).map(|failure| failure.to_string());
        let batches = read_all(&store, id).await;
        recovered.logs.insert(id, RecoveredLog { failure, end: offsets.log_end, batches });
    }
    Ok((store, recovered))
}

async fn read_all<E: Env>(store: &Store<E>, id: PartitionId) -> Result<Vec<u8>, String> {
    let (mut bytes, mut from) = (Vec::new(), Offset::ZERO);
    loop {
        let read = store.read(id, from, READ_BYTES, FirstBatch::WholeEvenIfLarger).await;
        let read = read.map_err(|error| error.to_string())?;
        if read.bytes == 0 {
            return Ok(bytes);
        }
        let start = bytes.len();
        read.slices.iter().for_each(|slice| bytes.extend_from_slice(slice.as_slice()));
        let mut rest = &bytes[start..];
        while !rest.is_empty() {
            let batch = BatchView::parse(rest).map_err(|error| error.to_string())?;
            rest = &rest[batch.bytes().len()..];
            let next = batch.header().last_offset().checked_add(1).filter(|next| *next > from.get());
            from = Offset::new(next.ok_or("the offsets of a batch do not go on")?);
        }
    }
}

impl Load {
    /// Runs all sessions; `store` is the first one's.
    pub async fn run<E: Env>(&self, env: &E, root: &Path, store: Store<E>, recorder: &Recorder) -> Result<(), String> {
        let identities = Rc::new(Cell::new(self.identity_start));
        self.run_session(env, store, recorder, Dice::new(self.seed, 2), &identities).await?;
        for session in 1..self.sessions {
            let (store, _) = open(env, root, &self.tuning).await?;
            self.run_session(env, store, recorder, Dice::new(self.seed, 2 + session), &identities).await?;
        }
        Ok(())
    }

    /// Runs every client to its end and closes the store.
    async fn run_session<E: Env>(
        &self,
        env: &E,
        store: Store<E>,
        recorder: &Recorder,
        dice: Dice,
        identities: &Rc<Cell<u64>>,
    ) -> Result<(), String> {
        let clients: Vec<_> = (self.workload.writers.iter())
            .map(|writer| {
                let (env, store, recorder) = (env.clone(), store.clone(), recorder.clone());
                let (dice, identities) = (dice.split(), Rc::clone(identities));
                let client = Client { env: env.clone(), store, recorder, dice, identities, epoch: self.workload.epoch };
                env.tasks().spawn(TaskClass::Network, client.run(*writer))
            })
            .collect();
        for client in clients {
            client.join().await?;
        }
        store.close().await.map_err(|failure| format!("the store does not close: {failure}"))
    }
}

struct Client<E: Env> {
    env: E,
    store: Store<E>,
    recorder: Recorder,
    dice: Dice,
    identities: Rc<Cell<u64>>,
    epoch: LeaderEpoch,
}

impl<E: Env> Client<E> {
    async fn run(self, writer: Writer) -> Result<(), String> {
        let id = writer.partition;
        self.store.create(id, LogConfig::default());
        let mut answers = Vec::new();
        for _ in 0..writer.batch_count {
            if self.dice.one_in(writer.pauses_one_in) {
                self.pause().await;
            }
            self.store.room().await;
            let bytes = self.batch(writer.sizes);
            let batch = BatchView::parse(&bytes).expect("the builder builds valid batches");
            let appended = self.store.append(id, &batch, self.epoch).await;
            let appended = appended.map_err(|error: AppendError| format!("{id}: an append failed: {error}"))?;
            let (base, epoch) = (appended.base_offset, self.epoch);
            let end = base.checked_add(batch.header().last_offset() + 1).expect("offsets of a test are small");
            self.recorder.note(Event::Taken(Taken { partition: id, base, end, epoch, bytes: bytes.into() }));
            let recorder = self.recorder.clone();
            let answer = self.env.tasks().spawn(TaskClass::Network, async move {
                let durable = appended.ticket.durable().await;
                durable.map_err(|failure| format!("{id}: an append is not durable: {failure}"))?;
                recorder.note(Event::Acknowledged { partition: id, end });
                Ok::<(), String>(())
            });
            if self.dice.one_in(writer.waits_one_in) {
                answer.join().await?;
            } else {
                answers.push(answer);
            }
        }
        for answer in answers {
            answer.join().await?;
        }
        Ok(())
    }

    /// A batch that no other is like. Those of one size are of one record each: any of them could stand in another's place.
    fn batch(&self, sizes: Sizes) -> Vec<u8> {
        let identity = self.identities.get();
        self.identities.set(identity + 1);
        let several = matches!(sizes, Sizes::Between(..)) && self.dice.one_in(3);
        let records = if several { self.dice.size(1, 5) } else { 1 };
        batches::build(identity, sizes.bytes(&self.dice), records)
    }

    /// Lets others run: turns, not time, so that a run on the machine is not slower than it must be.
    async fn pause(&self) {
        for _ in 0..self.dice.below(200) {
            self.env.tasks().yield_now().await;
        }
    }
}
