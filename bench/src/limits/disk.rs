//! Large direct writes in sequence, several in flight: first over extents that were never written, then over the same
//! ones again. A flush ends each pass and counts.
//!
//! The CPU time is that of the whole process, because the kernel's workers that write over unwritten extents belong to
//! no thread of ours. Nothing else may run in the process meanwhile.

use std::io;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use millrace_runtime::{BLOCK_BYTES, Buffer, Clock, Disk, Env, File, OpenMode, TaskClass};

use super::on_shard;
use super::report::DiskRow;
use crate::cpu;
use crate::numbers::{float, seconds_per_gb};

/// Measures in a file of `file_bytes` in `folder`. The pass over unwritten extents ends with the file if that is sooner.
pub(super) fn measure(folder: &Path, file_bytes: u64, duration: Duration) -> anyhow::Result<Vec<DiskRow>> {
    let path = folder.join("large");
    on_shard::run("disk", TaskClass::Flush, move |env| {
        let path = path.clone();
        async move { Ok(passes(&env, &path, file_bytes, duration).await?) }
    })
}

async fn passes<E: Env>(env: &E, path: &Path, file_bytes: u64, duration: Duration) -> io::Result<Vec<DiskRow>> {
    let slot_count = file_bytes / WRITE_BYTES_WIDE;
    let file = env.disk().open(path, OpenMode::New).await?;
    file.allocate(0, slot_count * WRITE_BYTES_WIDE).await?;
    file.sync_data().await?;
    let sources: Vec<_> = (0..SOURCE_COUNT).map(|index| source(env, index)).collect();
    let unwritten = pass(env, &file, &sources, slot_count, slot_count, duration).await?;
    let written_count = unwritten.write_count;
    let written = pass(env, &file, &sources, u64::MAX, written_count, duration).await?;
    Ok(vec![unwritten.row("unwritten"), written.row("written")])
}

/// One of several buffers. Not zeros, which some devices do not store.
fn source<E: Env>(env: &E, index: u8) -> Rc<<E::Disk as Disk>::Buffer> {
    let mut buffer = env.disk().buffer(WRITE_BYTES);
    buffer.as_mut_slice().fill(index + 1);
    Rc::new(buffer)
}

/// What one pass did.
struct Pass {
    write_count: u64,
    elapsed: Duration,
    cpu: Duration,
}

impl Pass {
    fn row(&self, extents: &'static str) -> DiskRow {
        let bytes = self.write_count * WRITE_BYTES_WIDE;
        DiskRow {
            extents,
            bytes,
            bytes_per_second: float(bytes) / self.elapsed.as_secs_f64(),
            cpu_seconds_per_gb: seconds_per_gb(self.cpu, bytes),
        }
    }
}

/// Writes at most `write_count_max` times, round and round over the first `slot_count` places of the file.
async fn pass<E: Env>(
    env: &E,
    file: &<E::Disk as Disk>::File,
    sources: &[Rc<<E::Disk as Disk>::Buffer>],
    write_count_max: u64,
    slot_count: u64,
    duration: Duration,
) -> io::Result<Pass> {
    let cpu_before = cpu::of_this_process();
    let start = env.clock().now();
    // The first portion is written however little time there is.
    let is_due = |index: u64| index < IN_FLIGHT_WIDE || env.clock().now() - start < duration;
    let writes = (0..write_count_max)
        .take_while(|index| is_due(*index))
        .zip(sources.iter().cycle())
        .map(|(index, source)| file.write_at(Rc::clone(source), index % slot_count * WRITE_BYTES_WIDE));
    let done = stream::iter(writes).buffer_unordered(IN_FLIGHT);
    let write_count = done.try_fold(0, |count, ()| async move { Ok(count + 1) }).await?;
    file.sync_data().await?;
    let elapsed = env.clock().now() - start;
    Ok(Pass { write_count, elapsed, cpu: cpu::of_this_process().saturating_sub(cpu_before) })
}

const WRITE_BYTES: usize = 1024 * 1024;
const _: () = assert!(WRITE_BYTES.is_multiple_of(BLOCK_BYTES));
/// Bytes of one write, as positions are counted.
pub(super) const WRITE_BYTES_WIDE: u64 = 1024 * 1024;
/// More than the processor's caches are likely to hold, in case a virtual device copies what it is given.
const SOURCE_COUNT: u8 = 64;
const IN_FLIGHT: usize = 8;
const IN_FLIGHT_WIDE: u64 = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::numbers::u64_of;

    #[test]
    fn both_forms_of_each_constant_agree() {
        assert_eq!(u64_of(WRITE_BYTES), WRITE_BYTES_WIDE);
        assert_eq!(u64_of(IN_FLIGHT), IN_FLIGHT_WIDE);
    }

    #[test]
    fn a_row_counts_whole_writes() {
        let (elapsed, cpu) = (Duration::from_secs(2), Duration::from_millis(500));
        let row = Pass { write_count: 1000, elapsed, cpu }.row("written");
        assert_eq!(row.bytes, 1_048_576_000);
        assert!((row.bytes_per_second - 524_288_000.0).abs() < 1.0);
        assert!((row.cpu_seconds_per_gb - 0.5 / 1.048_576).abs() < 1e-9);
    }
}
