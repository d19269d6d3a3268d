//! Shows a segment's batches, and where they end.

use std::path::Path;

use millrace_engine::format::segment_header::{RECORDS_START, SegmentHeader};
use millrace_engine::model::Offset;
use millrace_engine::segment::parse_file_name;
use millrace_protocol::batch::{BatchHeader, BatchView};

use super::{Inspection, table};

/// A segment, read from its start to the first byte that does not continue it.
pub(super) struct Scan {
    /// The batches' headers, each with its position and its length in bytes.
    pub(super) batches: Vec<(usize, usize, BatchHeader)>,
    /// Position behind the last batch.
    pub(super) end_position: usize,
    /// Offset behind the last record.
    pub(super) end_offset: i64,
    /// Why the batches end there.
    pub(super) stop: String,
    /// Bytes from there to the last one that is not zero.
    pub(super) remainder_bytes: usize,
}

/// Walks the batches as recovery does: each must be whole, have the offset that is due, and no lower leader epoch.
pub(super) fn scan(bytes: &[u8], base_offset: Offset) -> Scan {
    let mut batches: Vec<(usize, usize, BatchHeader)> = Vec::new();
    let mut end_position = usize::try_from(RECORDS_START.get()).expect("the header is one block");
    let mut end_offset = base_offset.get();
    let stop = loop {
        let rest = bytes.get(end_position..).unwrap_or_default();
        if rest.iter().all(|byte| *byte == 0) {
            break "the records end".to_owned();
        }
        let batch = match BatchView::parse(rest) {
            Ok(batch) => batch,
            Err(error) => break error.to_string(),
        };
        let header = batch.header();
        if header.base_offset.get() != end_offset {
            break format!("a batch has offset {} where {end_offset} is due", header.base_offset.get());
        }
        let epoch = header.leader_epoch.get();
        if batches.last().is_some_and(|(_, _, last)| epoch < last.leader_epoch.get()) {
            break format!("a batch has leader epoch {epoch}, lower than the one before");
        }
        batches.push((end_position, batch.bytes().len(), *header));
        end_position += batch.bytes().len();
        end_offset = header.last_offset().saturating_add(1);
    };
    let rest = bytes.get(end_position..).unwrap_or_default();
    let remainder_bytes = rest.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    Scan { batches, end_position, end_offset, stop, remainder_bytes }
}

/// What is wrong with a segment's header, given the name of its file.
pub(super) fn parse_header(path: &Path, bytes: &[u8]) -> Result<SegmentHeader, String> {
    let header = SegmentHeader::decode(bytes);
    let header = header.ok_or_else(|| "the header's magic, version or checksum does not hold".to_owned())?;
    let named = path.file_name().and_then(|name| parse_file_name(name.to_str()?));
    match named {
        Some(named) if named != header.base_offset => {
            Err(format!("the header says offset {}, the name {named}", header.base_offset))
        }
        _ => Ok(header),
    }
}

pub(super) fn inspect(path: &Path, bytes: &[u8]) -> Inspection {
    let header = match parse_header(path, bytes) {
        Ok(header) => header,
        Err(what) => return Inspection { text: format!("{} bytes", bytes.len()), damage: vec![what] },
    };
    let scan = scan(bytes, header.base_offset);
    let mut table =
        table(&["codec", "byte", "bytes", "base offset", "records", "leader epoch", "producer", "max timestamp"], 1);
    for (position, batch_bytes, batch) in &scan.batches {
        let codec = batch.attributes().compression();
        table.add_row([
            codec.map_or_else(|| "unknown".to_owned(), |codec| format!("{codec:?}").to_lowercase()),
            position.to_string(),
            batch_bytes.to_string(),
            batch.base_offset.get().to_string(),
            batch.record_count.get().to_string(),
            batch.leader_epoch.get().to_string(),
            batch.producer_id.get().to_string(),
            batch.max_timestamp.get().to_string(),
        ]);
    }
    let (end_offset, end_position) = (scan.end_offset, scan.end_position);
    let text = format!(
        "{} from offset {}, {} batches, up to offset {end_offset} at byte {end_position} of {}\n{table}",
        header.partition,
        header.base_offset,
        scan.batches.len(),
        bytes.len()
    );
    let damage = (scan.remainder_bytes > 0).then(|| {
        format!(
            "at byte {end_position}: {}; {} bytes follow. Without the journal this may be a crash's torn end as well: \
             see `millctl inspect directory`",
            scan.stop, scan.remainder_bytes
        )
    });
    Inspection { text, damage: damage.into_iter().collect() }
}
