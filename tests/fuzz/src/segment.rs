//! Target `segment`: arbitrary bytes as the segments of a log, opened by a whole store on the simulator's disk.
//!
//! 1. Segment files are put on a disk: batches of arbitrary shape behind a header, cut, flipped, or plain bytes.
//! 2. A store opens them as after a crash. Where it gives the log an end, the log is what a plain walk over the first
//!    segment finds: nothing more is given out, and nothing that holds is lost.
//! 3. A batch is appended, the store is stopped or killed, and opened again: everything is still there.
//! 4. Bytes are changed under the store, running or stopped. From then on there is only one promise: no panic.

use std::path::{Path, PathBuf};

use arbitrary::{Arbitrary, Unstructured};
use millrace_engine::format::segment_header::{Compacted, SegmentHeader};
use millrace_engine::journal::RING_BYTES_MIN;
use millrace_engine::log::config::LogConfig;
use millrace_engine::model::{LeaderEpoch, Offset, PartitionId, Position, TopicId};
use millrace_engine::segment::{NEXT_FILE_NAME, file_name};
use millrace_engine::store::{AppendError, FirstBatch, Store, StoreConfig, TimeQuery};
use millrace_protocol::batch::{BatchBuilder, BatchFields, BatchView};
use millrace_runtime::sim::{DiskControl, SimEnv, World, WorldConfig};
use millrace_runtime::{BLOCK_BYTES, Disk, Env, OpenMode};

use crate::Reached;
use crate::shape::ShapedLog;

const DIRECTORY: &str = "/data";
const PARTITION: PartitionId = PartitionId { topic: TopicId::from_bytes([1; 16]), partition: 0 };
/// A log that takes more reads than this has been read in a circle.
const READS_MAX: usize = 1000;

/// A log's directory, and what happens to it.
#[derive(Arbitrary, Debug)]
struct Case {
    log: ShapedLog,
    /// Where in the number range the log begins.
    start_high: bool,
    /// The first segment is compacted.
    compacted: Option<ShapedCompaction>,
    /// Plain bytes in place of the batches.
    plain: Option<Vec<u8>>,
    flips: Vec<Flip>,
    /// So many bytes are missing at the end.
    cut: Option<u16>,
    /// Blocks of zeros behind it all.
    zero_blocks: u8,
    /// The segment after it, and how many offsets lie between the two.
    second: Option<(ShapedLog, u8)>,
    /// The second one is still under the name of a prepared segment.
    second_is_next: bool,
    stops_in_order: bool,
    /// Read sizes, in bytes.
    read_bytes: u16,
    damage: Vec<Flip>,
}

/// What a compacted segment's header says, unless it says the truth.
#[derive(Arbitrary, Clone, Copy, Debug)]
struct ShapedCompaction {
    /// It stands for so many offsets more than its batches take.
    offsets_more: u8,
    /// Where it ends, if not behind its batches.
    end_position: Option<u64>,
    /// It was not put in its place yet.
    is_swap: bool,
}

/// A byte of a segment file that changes.
#[derive(Arbitrary, Clone, Copy, Debug)]
struct Flip {
    /// Which one, modulo the length of the file.
    position: u16,
    by: u8,
}

/// Runs the target.
pub fn run(data: &[u8]) -> Reached {
    Case::arbitrary(&mut Unstructured::new(data)).map_or(Reached::Refusal, |case| case.check())
}

/// Puts a file of these bytes where it belongs, directories included.
pub(crate) async fn put_file(env: &SimEnv, disk: &DiskControl, path: &Path, bytes: &[u8]) {
    let directory = path.parent().expect("a file lies in a directory");
    env.disk().create_dir_all(directory).await.expect("the disk is empty");
    env.disk().open(path, OpenMode::New).await.expect("the name is free");
    disk.corrupt(path, 0, bytes);
}

impl Case {
    fn base(&self) -> i64 {
        let start = i64::from(self.log.start);
        if self.start_high { i64::MAX - 300 + start } else { start }
    }

    /// The first segment's file, and the offset behind its last batch by its own word.
    fn first(&self) -> (Vec<u8>, i64) {
        let (mut records, mut end) = self.log.bytes(self.base());
        if let Some(plain) = &self.plain {
            records.clone_from(plain);
        }
        let true_end = BLOCK_BYTES + records.len();
        let compacted = self.compacted.map(|shaped| {
            end = end.saturating_add(i64::from(shaped.offsets_more));
            let end_position = shaped.end_position.unwrap_or(u64::try_from(true_end).unwrap_or(0)).max(4096);
            Compacted { end_offset: Offset::new(end), end_position: Position::new(end_position) }
        });
        let mut file = segment(self.base(), compacted, &records);
        let kept = file.len() - usize::from(self.cut.unwrap_or(0)).min(file.len());
        file.truncate(kept);
        file.resize(file.len() + usize::from(self.zero_blocks % 4) * BLOCK_BYTES, 0);
        for flip in self.flips.iter().take(3) {
            flip.apply(&mut file);
        }
        (file, end)
    }

    fn check(&self) -> Reached {
        let world = World::new(1, WorldConfig::default());
        let (file, end) = self.first();
        let expected = plain_walk(&file, self.base());
        let first_life = world.run(async {
            let (env, disk) = (world.env(0), world.disk());
            let name = file_name(Offset::new(self.base()));
            let is_swap = self.compacted.is_some_and(|shaped| shaped.is_swap);
            let name = if is_swap { name.replace(".log", ".swap") } else { name };
            put_file(&env, &disk, &path(&name), &file).await;
            if let Some((second, skipped)) = &self.second
                && let Some(base) = end.checked_add(i64::from(*skipped / 64)).filter(|base| *base > self.base())
            {
                let name = if self.second_is_next { NEXT_FILE_NAME.to_owned() } else { file_name(Offset::new(base)) };
                put_file(&env, &disk, &path(&name), &segment(base, None, &second.bytes(base).0)).await;
            }
            self.first_life(open(&env).await, expected.as_deref()).await
        });
        let Some(contents) = first_life else { return Reached::Refusal };
        world.kill_shards();
        world.run(async {
            let store = open(&world.env(0)).await;
            let again = self.read_all(&store).await;
            // Nothing is ever appended to a compacted segment. One that was made the last here may be damaged then.
            if self.compacted.is_none() || again.is_ok() {
                assert_eq!(again, Ok(contents), "what was there is there after a restart");
            }
            self.damage(&world.disk());
            drop(self.read_all(&store).await);
            drop(store.close().await);
        });
        world.kill_shards();
        world.run(async {
            let store = open(&world.env(0)).await;
            drop(self.read_all(&store).await);
            let _ = append(&store).await;
        });
        Reached::Content
    }

    /// Opens, reads and appends; gives everything in the log, `None` if it could not be opened.
    async fn first_life(&self, store: Store<SimEnv>, expected: Option<&[u8]>) -> Option<Vec<u8>> {
        let report = store.recovered().await;
        assert_eq!(report.log_count, 1);
        let Ok(mut contents) = self.read_all(&store).await else {
            assert!(store.failure(PARTITION).is_some() && !report.damage.is_empty(), "a refusal has a reason");
            return None;
        };
        // A compacted segment that was not put in its place and has no header is not ours.
        let is_swap = self.compacted.is_some_and(|shaped| shaped.is_swap);
        assert!(expected.is_some() || is_swap, "a segment without a valid header is no segment");
        let expected = expected?;
        if self.second.is_none() {
            assert_eq!(contents, expected, "the log is what its batches say");
        } else {
            assert!(contents.starts_with(expected), "a second segment takes nothing away");
        }
        if let Some(batch) = append(&store).await {
            contents.extend_from_slice(&batch);
            assert_eq!(self.read_all(&store).await.as_ref(), Ok(&contents), "the log and a batch more");
        }
        if self.stops_in_order {
            store.close().await.expect("a store whose disk works closes");
        }
        Some(contents)
    }

    /// The whole log, batch by batch; an error when a read fails. What is read is checked unless `damage` was at work.
    async fn read_all(&self, store: &Store<SimEnv>) -> Result<Vec<u8>, String> {
        let offsets = store.offsets(PARTITION).await.map_err(|error| error.to_string())?;
        let mut contents = Vec::new();
        let mut from = offsets.start;
        for _ in 0..READS_MAX {
            let bytes_max = usize::from(self.read_bytes);
            let read = store.read(PARTITION, from, bytes_max, FirstBatch::WholeEvenIfLarger).await;
            let read = read.map_err(|error| error.to_string())?;
            if read.bytes == 0 {
                break;
            }
            let start = contents.len();
            read.slices.iter().for_each(|slice| contents.extend_from_slice(slice.as_slice()));
            assert_eq!(contents.len() - start, read.bytes);
            let mut rest = &contents[start..];
            while let Ok(batch) = BatchView::parse(rest) {
                let next = batch.header().last_offset().checked_add(1).filter(|next| *next > from.get());
                let Some(next) = next else { return Err("offsets go back".to_owned()) };
                from = Offset::new(next);
                rest = &rest[batch.bytes().len()..];
            }
            if !rest.is_empty() {
                return Err("a batch that is none was given out".to_owned());
            }
        }
        for query in [TimeQuery::AtOrAfter(i64::MIN), TimeQuery::AtOrAfter(0), TimeQuery::Largest] {
            let found = store.offset_by_time(PARTITION, query).await.map_err(|error| error.to_string())?;
            if found.is_some_and(|found| found.offset < offsets.start || found.offset >= offsets.log_end) {
                return Err("a record outside the log was found by its time".to_owned());
            }
        }
        Ok(contents)
    }

    fn damage(&self, disk: &DiskControl) {
        for (index, flip) in self.damage.iter().take(4).enumerate() {
            let files = disk.files();
            let in_log: Vec<_> = files.iter().filter(|path| path.contains("/logs/")).collect();
            // Beside segments there are indexes and producers' files.
            let Some(path) = in_log.get(index % in_log.len().max(1)) else { return };
            let mut bytes = disk.read(path).expect("the file is there");
            flip.apply(&mut bytes);
            disk.corrupt(path, 0, &bytes);
        }
    }
}

impl Flip {
    fn apply(self, file: &mut [u8]) {
        if let Some(byte) = usize::from(self.position).checked_rem(file.len()).map(|place| &mut file[place]) {
            *byte ^= self.by;
        }
    }
}

/// What a reader who knows only docs/FORMAT.md takes for the log: `None` without a header.
fn plain_walk(file: &[u8], base: i64) -> Option<Vec<u8>> {
    let header = SegmentHeader::decode(file).filter(|header| header.partition == PARTITION)?;
    if header.base_offset.get() != base {
        return None;
    }
    let records = file.get(BLOCK_BYTES..).unwrap_or_default();
    let (mut rest, mut next, mut epoch) = (records, base, -1);
    let end = header.compacted.map(|compacted| usize::try_from(compacted.end_position.get()).unwrap_or(usize::MAX));
    while let Ok(batch) = BatchView::parse(rest) {
        if end.is_some_and(|end| BLOCK_BYTES + records.len() - rest.len() >= end) {
            break;
        }
        let found = batch.header().base_offset.get();
        let continues = if header.compacted.is_some() { found >= next } else { found == next };
        let end = batch.header().last_offset().checked_add(1);
        let Some(end) = end.filter(|_| continues && batch.header().leader_epoch.get() >= epoch) else { break };
        (next, epoch) = (end, batch.header().leader_epoch.get());
        rest = &rest[batch.bytes().len()..];
    }
    Some(records[..records.len() - rest.len()].to_vec())
}

fn segment(base: i64, compacted: Option<Compacted>, records: &[u8]) -> Vec<u8> {
    let mut file = vec![0; BLOCK_BYTES];
    SegmentHeader { partition: PARTITION, base_offset: Offset::new(base), filled_end: Position::default(), compacted }
        .encode(&mut file);
    file.extend_from_slice(records);
    file
}

fn path(name: &str) -> PathBuf {
    Path::new(DIRECTORY).join("logs").join(PARTITION.directory_name()).join(name)
}

async fn open(env: &SimEnv) -> Store<SimEnv> {
    let config = StoreConfig { journal_bytes: RING_BYTES_MIN, ..StoreConfig::at(PathBuf::from(DIRECTORY)) };
    let store = Store::open(env.clone(), config, |_| true).await.expect("checkpoint and journal are whole");
    store.create(PARTITION, LogConfig::default());
    store
}

/// Appends a batch, in the log's own leader epoch, and gives it as it stands in the log; `None` if the log takes none.
async fn append(store: &Store<SimEnv>) -> Option<Vec<u8>> {
    let offsets = store.offsets(PARTITION).await.ok()?;
    let mut builder = BatchBuilder::new(BatchFields::default());
    builder.push(99, Some(b"key"), Some(b"value"));
    let epoch = offsets.leader_epoch.max(LeaderEpoch::new(0));
    let mut batch = builder.build();
    let appended = store.append(PARTITION, &BatchView::parse(&batch).expect("the builder makes batches"), epoch).await;
    match appended {
        Ok(appended) => {
            appended.ticket.durable().await.ok()?;
            millrace_protocol::batch::assign_offsets(&mut batch, appended.base_offset.get(), epoch.get());
            Some(batch)
        }
        Err(AppendError::OffsetsExhausted | AppendError::Offline(_)) => None,
        Err(error) => panic!("an append that nothing forbids: {error}"),
    }
}
