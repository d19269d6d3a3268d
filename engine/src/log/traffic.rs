//! What went into a log and out of it since the start.

/// Counts that only rise. A log that is discarded and opened again goes on counting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Batches appended; duplicates that were answered again do not count.
    pub appended_batches: u64,
    /// Records in them, as their headers say.
    pub appended_records: u64,
    /// Their bytes, as they were sent: compressed.
    pub appended_bytes: u64,
    /// Bytes of batches that were read.
    pub read_bytes: u64,
}

impl Traffic {
    /// A batch was appended.
    #[inline]
    pub fn note_append(&mut self, records: u64, bytes: usize) {
        self.appended_batches += 1;
        self.appended_records += records;
        self.appended_bytes += u64::try_from(bytes).unwrap_or(u64::MAX);
    }

    /// Batches were read.
    #[inline]
    pub fn note_read(&mut self, bytes: usize) {
        self.read_bytes += u64::try_from(bytes).unwrap_or(u64::MAX);
    }

    /// Adds that of another log.
    pub fn add(&mut self, other: &Self) {
        let Self { appended_batches, appended_records, appended_bytes, read_bytes } = other;
        self.appended_batches += appended_batches;
        self.appended_records += appended_records;
        self.appended_bytes += appended_bytes;
        self.read_bytes += read_bytes;
    }
}
