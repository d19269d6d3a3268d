//! Removes what the files of a log hold behind the place where it was cut (`Store::truncate`).
//!
//! The checkpoint says that the log was cut, and where, until this is done and durable. A crash in the middle repeats it
//! with the same result: every step takes away what must go, whatever an earlier try left of it, and what must stay is
//! not touched. Nothing is appended before the checkpoint says that it is done.

use std::io;
use std::path::Path;

use millrace_runtime::{Disk, Env};

use super::OpenLogError;
use super::scan::HEADER_DAMAGED;
use crate::format::producers;
use crate::format::segment_header::{Compacted, RECORDS_START};
use crate::log::Corruption;
use crate::log::offsets::Mark;
use crate::log::recorded::Recorded;
use crate::model::{Offset, PartitionId, Position};
use crate::segment::{self, Segment};
use crate::segment_files;

/// Cuts the log with the segments `bases` where `recorded` says, durably, and returns what is known of it from then on.
pub(super) async fn cut<E: Env>(
    env: &E,
    logs: &Path,
    id: PartitionId,
    recorded: &Recorded,
    bases: &[Offset],
) -> Result<Recorded, OpenLogError> {
    let Some(base) = recorded.segment_base else { return Ok(recorded.clone()) };
    let directory = logs.join(id.directory_name());
    let end = recorded.end;
    // Nothing is left: the log starts again with a segment of its own, and what lies below goes too.
    let is_emptied = is_empty_at(base, end) && recorded.start_offset == end.offset;
    let present = bases.contains(&base);
    if !present && !is_empty_at(base, end) {
        return Err(corruption(&directory, base, 0, "the segment is missing").into());
    }
    for other in bases.iter().filter(|other| **other > base || (is_emptied && **other < base)) {
        env.disk().remove_file(&directory.join(segment::file_name(*other))).await?;
        segment_files::remove_index(env, &directory, *other).await?;
    }
    let (segment_base, position) = if present {
        cut_segment(env, logs, id, base, end).await?
    } else {
        Segment::create(env, logs, id, base).await?;
        (base, end.position)
    };
    remove_saved(env, &directory, id, base, end).await?;
    env.disk().sync_dir(&directory).await?;
    let end = Mark { position, ..end };
    Ok(Recorded { segment_base: Some(segment_base), end, cut_pending: false, ..recorded.clone() })
}

/// Whether a log that ends with `end` has nothing in the segment that begins with `base`, nor ever had below.
fn is_empty_at(base: Offset, end: Mark) -> bool {
    end.position == RECORDS_START && base == end.offset
}

/// Cuts the segment that begins with `base`. Says in which segment the log goes on, and from which position.
///
/// A compacted segment takes no appends, for offsets may skip in it: it stays, shorter, and a new one follows.
async fn cut_segment<E: Env>(
    env: &E,
    logs: &Path,
    id: PartitionId,
    base: Offset,
    end: Mark,
) -> Result<(Offset, Position), OpenLogError> {
    let segment = Segment::open(env, logs, id, base).await?;
    let directory = logs.join(id.directory_name());
    let header = segment.header(id).await?.ok_or_else(|| corruption(&directory, base, 0, HEADER_DAMAGED))?;
    let size = Position::new(segment.size_bytes().await?);
    if end.position < RECORDS_START || end.position > size {
        let what = "the segment is shorter than the log was when it was cut";
        return Err(corruption(&directory, base, size.get(), what).into());
    }
    match header.compacted {
        None => {
            segment.cut(env, id, end.position).await?;
            Ok((base, end.position))
        }
        Some(_) if is_empty_at(base, end) => {
            Segment::create(env, logs, id, base).await?;
            Ok((base, RECORDS_START))
        }
        Some(_) => {
            let compacted = Compacted { end_offset: end.offset, end_position: end.position };
            segment.write_header(env, id, RECORDS_START, Some(compacted)).await?;
            segment.cut(env, id, end.position).await?;
            Segment::create(env, logs, id, end.offset).await?;
            Ok((end.offset, RECORDS_START))
        }
    }
}

/// Removes saved states that tell of more than is left: the offsets above the cut will be given to other batches.
async fn remove_saved<E: Env>(env: &E, directory: &Path, id: PartitionId, base: Offset, end: Mark) -> io::Result<()> {
    let index = segment_files::read_index(env, directory, id, base).await?;
    let holds = index.is_some_and(|(offset, index)| offset <= end.offset && index.end <= end.position);
    if !holds {
        segment_files::remove_index(env, directory, base).await?;
    }
    for entry in env.disk().read_dir(directory).await? {
        if producers::parse_file_name(&entry.name).is_some_and(|offset| offset > end.offset) {
            env.disk().remove_file(&directory.join(&entry.name)).await?;
        }
    }
    Ok(())
}

fn corruption(directory: &Path, base: Offset, position: u64, what: &str) -> Corruption {
    Corruption { file: directory.join(segment::file_name(base)), position, what: what.to_owned() }
}
