//! Target `metadata_entry`: bytes as entries of the metadata log, one after the other, and the image that they add up to.
//!
//! Byte 0 chooses with bit 0 whether entries are sealed; then follow entries, each behind its length in two bytes. An entry
//! that is decoded is encoded to the same bytes again, and an image is what its own records make of an empty one.

use millrace_server::metadata::codec::ENTRY_RECORDS;
use millrace_server::metadata::{Entry, Image};

use crate::{Reached, sealing};

/// Runs the target.
pub fn run(data: &[u8]) -> Reached {
    let Some((choice, mut rest)) = data.split_first() else { return Reached::Refusal };
    let (mut image, mut reached) = (Image::new(), Reached::Refusal);
    while let Some((length, behind)) = rest.split_first_chunk::<2>() {
        let (bytes, behind) = behind.split_at(usize::from(u16::from_le_bytes(*length)).min(behind.len()));
        rest = behind;
        let mut bytes = bytes.to_vec();
        if choice & 1 != 0 {
            seal(&mut bytes, image.applied_index() + 1);
        }
        let Ok(entry) = Entry::decode(&bytes) else { continue };
        let mut again = Vec::new();
        entry.encode(&mut again);
        assert_eq!(again, bytes, "an entry has one spelling");
        reached = Reached::Content;
        // Half of an entry may have been applied; a broker does not go on from there.
        if image.apply_entry(&entry).is_err() {
            break;
        }
        check(&image);
    }
    reached
}

/// A snapshot of the image says what the image says.
fn check(image: &Image) {
    let records = image.records();
    let mut again = Image::new();
    for record in &records {
        again.apply(record).expect("an image's own records fit each other");
    }
    again.resume_at(image.applied_index());
    assert_eq!(again.records(), records);
    assert_eq!(again.partition_count(), image.partition_count());
    for topic in image.topics() {
        assert_eq!(image.find_topic_id(&topic.name), Some(topic.id), "each topic is found by its name");
    }
}

/// Makes index, kind, version, length and checksum of an entry right; its records are left to the fuzzer.
pub fn seal(bytes: &mut [u8], index: u64) {
    const INDEX: usize = 4;
    const KIND: usize = 12;
    const VERSION: usize = 14;
    const LENGTH: usize = 15;
    const RECORDS: usize = 19;
    let Some(covered) = bytes.len().checked_sub(4).filter(|covered| *covered >= RECORDS) else { return };
    bytes[INDEX..KIND].copy_from_slice(&index.to_le_bytes());
    bytes[KIND..VERSION].copy_from_slice(&ENTRY_RECORDS.to_le_bytes());
    bytes[VERSION] = 0;
    let length = u32::try_from(covered - RECORDS).unwrap_or(0);
    bytes[LENGTH..RECORDS].copy_from_slice(&length.to_le_bytes());
    sealing::checksum(bytes, covered, 0, covered);
}
