//! Small writes over written extents, each followed by `fdatasync` and awaited before the next: the least time in which
//! an acknowledgement can be durable here.
//!
//! Each size is measured twice: with blocking calls, which is the floor, and on the project's runtime, which hands a
//! flush to one of the kernel's workers. A ratio taken against the second alone would hide what the runtime costs.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use millrace_runtime::{BLOCK_BYTES, Buffer, Clock, Disk, Env, File, OpenMode, TaskClass};

use super::on_shard;
use super::report::FlushRow;
use crate::numbers::{float, histogram, quantile_ms, record, u64_of};

/// Measures each size of write for `duration`, in a file in `folder`.
pub(super) fn measure(folder: &Path, duration: Duration) -> anyhow::Result<Vec<FlushRow>> {
    let mut rows = Vec::new();
    for write_bytes in WRITE_BYTES {
        rows.push(measure_blocking(folder, write_bytes, duration)?);
    }
    let folder = folder.to_owned();
    let on_runtime = on_shard::run("flush", TaskClass::Flush, move |env| {
        let folder = folder.clone();
        async move {
            let mut rows = Vec::new();
            for write_bytes in WRITE_BYTES {
                rows.push(measure_on_runtime(&env, &folder, write_bytes, duration).await?);
            }
            Ok(rows)
        }
    })?;
    rows.extend(on_runtime);
    Ok(rows)
}

/// With nothing between this thread and the kernel.
#[expect(clippy::disallowed_methods, reason = "times blocking calls, outside the simulator")]
fn measure_blocking(folder: &Path, write_bytes: usize, duration: Duration) -> anyhow::Result<FlushRow> {
    let flags = i32::try_from(rustix::fs::OFlags::DIRECT.bits())?;
    let path = folder.join(format!("blocking-{write_bytes}"));
    let file = OpenOptions::new().write(true).create_new(true).custom_flags(flags).open(path)?;
    // Direct writes take their bytes from whole blocks of memory only.
    let memory = vec![7; FILE_BYTES + BLOCK_BYTES];
    let source = &memory[memory.as_ptr().align_offset(BLOCK_BYTES)..][..FILE_BYTES];
    file.write_all_at(source, 0)?;
    file.sync_data()?;
    let source = &source[..write_bytes];
    let mut latency = histogram();
    let start = Instant::now();
    for slot in (0..FILE_BYTES / write_bytes).cycle() {
        let before = Instant::now();
        file.write_all_at(source, u64_of(slot * write_bytes))?;
        file.sync_data()?;
        record(&mut latency, before.elapsed());
        if start.elapsed() >= duration {
            break;
        }
    }
    Ok(row("blocking", write_bytes, &latency, start.elapsed()))
}

async fn measure_on_runtime<E: Env>(
    env: &E,
    folder: &Path,
    write_bytes: usize,
    duration: Duration,
) -> io::Result<FlushRow> {
    let file = env.disk().open(&folder.join(format!("small-{write_bytes}")), OpenMode::New).await?;
    let mut source = env.disk().buffer(FILE_BYTES);
    source.as_mut_slice().fill(7);
    file.write_at(Rc::new(source), 0).await?;
    file.sync_data().await?;
    let mut source = env.disk().buffer(write_bytes);
    source.as_mut_slice().fill(8);
    let source = Rc::new(source);
    let slot_count = FILE_BYTES / write_bytes;
    let mut latency = histogram();
    let start = env.clock().now();
    for slot in (0..slot_count).cycle() {
        let before = env.clock().now();
        file.write_at(Rc::clone(&source), u64_of(slot * write_bytes)).await?;
        file.sync_data().await?;
        let after = env.clock().now();
        record(&mut latency, after - before);
        if after - start >= duration {
            break;
        }
    }
    Ok(row("runtime", write_bytes, &latency, env.clock().now() - start))
}

fn row(way: &'static str, write_bytes: usize, latency: &Histogram<u64>, elapsed: Duration) -> FlushRow {
    FlushRow {
        way,
        write_bytes,
        count: latency.len(),
        per_second: float(latency.len()) / elapsed.as_secs_f64(),
        p50_ms: quantile_ms(latency, 0.5),
        p99_ms: quantile_ms(latency, 0.99),
        p99_9_ms: quantile_ms(latency, 0.999),
        max_ms: quantile_ms(latency, 1.0),
    }
}

const WRITE_BYTES: [usize; 2] = [4 * 1024, 64 * 1024];
const FILE_BYTES: usize = 4 * 1024 * 1024;
const _: () = assert!(FILE_BYTES.is_multiple_of(WRITE_BYTES[1]) && WRITE_BYTES[0].is_multiple_of(BLOCK_BYTES));
