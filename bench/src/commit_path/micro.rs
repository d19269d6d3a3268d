//! Single operations: what a write and a flush cost over written and unwritten extents, and what making extents written
//! costs.

use std::io;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use millrace_runtime::{BLOCK_BYTES, Buffer, Disk, Env, File, OpenMode, Random};
use rustix::fs::FallocateFlags;

use super::driver::{fill, make_file};
use super::measure::{Series, Stopwatch};
use super::report::{SingleRow, WriteZeroes};
use crate::numbers::{self, u64_of};

/// Measures everything in a folder of its own.
pub(super) async fn measure<E: Env>(env: &E, directory: &Path, budget: Duration) -> io::Result<Vec<SingleRow>> {
    let directory = directory.join("single");
    env.disk().create_dir_all(&directory).await?;
    let mut rows = vec![bare_flush(env, &directory).await?];
    for bytes in [1024 * 1024, BLOCK_BYTES] {
        rows.extend(write_and_flush(env, &directory, bytes, budget).await?);
    }
    rows.extend(streams(env, &directory, budget).await?);
    env.disk().remove_dir_all(&directory).await?;
    Ok(rows)
}

async fn bare_flush<E: Env>(env: &E, directory: &Path) -> io::Result<SingleRow> {
    let path = directory.join("flushed");
    let file = make_file(env, path.clone(), u64_of(BLOCK_BYTES), u64_of(BLOCK_BYTES)).await?;
    let mut series = Series::default();
    for _ in 0..FLUSH_COUNT {
        let watch = Stopwatch::start(env);
        file.sync_data().await?;
        let (elapsed, cpu) = watch.stop(env);
        series.take(elapsed, cpu, 0, None);
    }
    env.disk().remove_file(&path).await?;
    Ok(row("flush, nothing written".to_owned(), &series))
}

/// Writes of `bytes` that follow each other in a file, each made durable before the next.
async fn write_and_flush<E: Env>(
    env: &E,
    directory: &Path,
    bytes: usize,
    budget: Duration,
) -> io::Result<Vec<SingleRow>> {
    let length = u64_of(bytes);
    let end = length * u64_of(WRITE_COUNT_MAX);
    let unwritten_path = directory.join(format!("unwritten-{bytes}"));
    let written_path = directory.join(format!("written-{bytes}"));
    let unwritten = make_file(env, unwritten_path.clone(), 0, end).await?;
    let written = make_file(env, written_path.clone(), end, end).await?;
    let synchronous = env.disk().open(&written_path, OpenMode::Synchronous).await?;
    let ways = [
        ("unwritten extents, then flush", &unwritten, true),
        ("written extents, then flush", &written, true),
        ("written extents, O_DSYNC", &synchronous, false),
        ("written extents, not durable", &written, false),
    ];
    let mut source = env.disk().buffer(bytes);
    source.as_mut_slice().fill(7);
    let source = Rc::new(source);
    let mut series = ways.map(|_| Series::default());
    let mut spent = Duration::ZERO;
    for index in 0..WRITE_COUNT_MAX {
        for ((_, file, flushed), series) in ways.iter().zip(&mut series) {
            let watch = Stopwatch::start(env);
            file.write_at(Rc::clone(&source), length * u64_of(index)).await?;
            if *flushed {
                file.sync_data().await?;
            }
            let (elapsed, cpu) = watch.stop(env);
            series.take(elapsed, cpu, length, None);
            spent += elapsed;
        }
        if spent > budget {
            break;
        }
    }
    env.disk().remove_file(&unwritten_path).await?;
    env.disk().remove_file(&written_path).await?;
    let kib = bytes / 1024;
    Ok(ways.iter().zip(&series).map(|((name, ..), series)| row(format!("{kib} KiB, {name}"), series)).collect())
}

/// Many writes in flight: filling a file ahead, overwriting it, writing all over it.
async fn streams<E: Env>(env: &E, directory: &Path, budget: Duration) -> io::Result<Vec<SingleRow>> {
    let millis = u64::try_from(budget.as_millis()).unwrap_or(u64::MAX);
    let end = millis.saturating_mul(STREAM_BYTES_PER_MS).clamp(STREAM_BYTES_MIN, STREAM_BYTES_MAX);
    let end = end - end % STREAM_BYTES_MIN;
    let path = directory.join("stream");
    let file = make_file(env, path.clone(), 0, end).await?;
    let mut rows = Vec::new();
    for name in ["over unwritten extents, 8 x 1 MiB in flight", "over written extents, 8 x 1 MiB in flight"] {
        let mut series = Series::default();
        let watch = Stopwatch::start(env);
        fill(env, &file, end).await?;
        file.sync_data().await?;
        let (elapsed, cpu) = watch.stop(env);
        series.take(elapsed, cpu, end, None);
        rows.push(row(format!("{} MiB of zeros {name}", end >> 20), &series));
    }
    for (bytes, in_flight) in [(BLOCK_BYTES, 64), (64 * 1024, 16)] {
        let source = Rc::new(env.disk().buffer(bytes));
        let length = u64_of(bytes);
        let write_count = (end / length).min(RANDOM_WRITES_MAX);
        let mut series = Series::default();
        let watch = Stopwatch::start(env);
        let writes =
            (0..write_count).map(|_| file.write_at(Rc::clone(&source), env.random().below(end / length) * length));
        stream::iter(writes).buffer_unordered(in_flight).try_collect::<()>().await?;
        let (elapsed, cpu) = watch.stop(env);
        series.take(elapsed, cpu, write_count * length, None);
        series.count = write_count;
        rows.push(row(format!("{} KiB at random places, {in_flight} in flight", bytes / 1024), &series));
    }
    env.disk().remove_file(&path).await?;
    Ok(rows)
}

fn row(name: String, series: &Series) -> SingleRow {
    let seconds = series.elapsed.as_secs_f64();
    // The quantiles of a stream would be those of the whole stream.
    let timed_one_by_one = !name.contains("in flight");
    SingleRow {
        name,
        count: series.count,
        p50_ms: timed_one_by_one.then(|| series.p50_ms()),
        p99_ms: timed_one_by_one.then(|| series.p99_ms()),
        per_second: numbers::float(series.count) / seconds,
        mb_per_second: (series.bytes > 0).then(|| numbers::float(series.bytes) / 1e6 / seconds),
        cpu_seconds_per_gb: (series.bytes > 0).then(|| numbers::seconds_per_gb(series.cpu, series.bytes)),
        cpu_us_each: series.cpu.as_secs_f64() * 1e6 / numbers::float(series.count),
    }
}

/// Asks kernel, file system and device to make extents written without sending the zeros (Linux 6.17).
#[expect(clippy::disallowed_methods, reason = "times one blocking call that Env does not have")]
pub(super) fn write_zeroes(directory: &Path) -> io::Result<WriteZeroes> {
    let path = directory.join("write-zeroes");
    let file = std::fs::File::create_new(&path)?;
    let start = Instant::now();
    let outcome = rustix::fs::fallocate(&file, FallocateFlags::from_bits_retain(WRITE_ZEROES_FLAG), 0, ZEROED_BYTES);
    let elapsed = start.elapsed();
    std::fs::remove_file(&path)?;
    match outcome {
        Ok(()) => Ok(WriteZeroes::Available { mib: ZEROED_BYTES >> 20, ms: elapsed.as_secs_f64() * 1e3 }),
        Err(error) => Ok(WriteZeroes::Unavailable { error: io::Error::from(error).to_string() }),
    }
}

/// `FALLOC_FL_WRITE_ZEROES`, which rustix does not name yet.
const WRITE_ZEROES_FLAG: u32 = 0x80;
const ZEROED_BYTES: u64 = 64 << 20;

const FLUSH_COUNT: usize = 500;
const WRITE_COUNT_MAX: usize = 300;
const RANDOM_WRITES_MAX: u64 = 30_000;
const STREAM_BYTES_PER_MS: u64 = 128 * 1024;
const STREAM_BYTES_MIN: u64 = 16 << 20;
const STREAM_BYTES_MAX: u64 = 2 << 30;
