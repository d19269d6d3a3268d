//! Writes what the journal holds to the segments it belongs to.

use std::io;
use std::path::Path;
use std::rc::Rc;

use millrace_runtime::{Buffer, Disk, Env};

use crate::log::recorded::Piece;
use crate::model::PartitionId;
use crate::segment::{NEXT_FILE_NAME, Segment};

/// Writes a piece to its place and leaves the bytes around it as they are: what follows may be a later round's,
/// acknowledged and whole. Durable after a flush of the segment that is returned; `None` when there is no such segment, or what
/// is left of it was compacted.
pub(crate) async fn put_back<E: Env>(
    env: &E,
    logs: &Path,
    id: PartitionId,
    piece: &Piece,
) -> io::Result<Option<Segment<E>>> {
    let segment = match Segment::open(env, logs, id, piece.segment_base).await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let path = logs.join(id.directory_name()).join(NEXT_FILE_NAME);
            let found = match Segment::open_by_header(env, path, id).await {
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                other => other?,
            };
            found.map(|(segment, _)| segment).filter(|segment| segment.base_offset() == piece.segment_base)
        }
        other => Some(other?),
    };
    let Some(segment) = segment else { return Ok(None) };
    // Compaction takes only segments that are durable as a whole: the piece was in there, and has no place any more.
    if segment.header(id).await?.is_some_and(|header| header.compacted.is_some()) {
        return Ok(None);
    }
    let (start, end) = (piece.position.block_floor(), piece.position.plus(piece.bytes.len()).block_ceil());
    let mut buffer = env.disk().buffer(end.bytes_since(start));
    if let Some(present) = segment.read(start, end.bytes_since(start)).await? {
        buffer.as_mut_slice()[..present.as_slice().len()].copy_from_slice(present.as_slice());
    }
    let target = &mut buffer.as_mut_slice()[piece.position.bytes_since(start)..][..piece.bytes.len()];
    target.copy_from_slice(&piece.bytes);
    segment.write(Rc::new(buffer), start).await?;
    Ok(Some(segment))
}
