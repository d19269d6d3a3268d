//! What a value begins with, so that a consumer can tell whose record it is, which one, and when it was due.
//!
//! ```text
//!  0       8          16         24          32
//!  +-------+----------+----------+-----------+------ - - -
//!  | mark  | producer | sequence | due nanos | letters
//!  +-------+----------+----------+-----------+------ - - -
//! ```

/// The stamp of one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// The run in the upper half and its connection in the lower one: no two producers of a topic are the same.
    pub(crate) producer: u64,
    /// Counts a producer's records for one partition, from 0.
    pub(crate) sequence: u64,
    /// When the record was to be sent, on the clock of the process that sent it.
    pub(crate) due_nanos: u64,
}

impl Stamp {
    /// Writes the stamp over the start of a value.
    ///
    /// Panics if the value is shorter than a stamp.
    pub(crate) fn write(self, value: &mut [u8]) {
        let fields = [MARK, self.producer, self.sequence, self.due_nanos];
        for (place, field) in value[..STAMP_BYTES].chunks_exact_mut(8).zip(fields) {
            place.copy_from_slice(&field.to_be_bytes());
        }
    }

    /// The stamp of a value, if it has one.
    pub(crate) fn parse(value: &[u8]) -> Option<Self> {
        let mut fields = value.get(..STAMP_BYTES)?.chunks_exact(8).map(|field| {
            let field = field.try_into().expect("the chunks have eight bytes");
            u64::from_be_bytes(field)
        });
        let mut next = || fields.next().expect("a stamp has four fields");
        if next() != MARK {
            return None;
        }
        Some(Self { producer: next(), sequence: next(), due_nanos: next() })
    }
}

/// Bytes of a stamp. Shorter values have none.
pub(crate) const STAMP_BYTES: usize = 32;
/// No text begins like this.
const MARK: u64 = 0xF1_6D_62_73_74_61_6D_70;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_read_back_and_nothing_else_is_taken_for_one() {
        let stamp = Stamp { producer: 1 << 40, sequence: 2, due_nanos: 3 };
        let mut value = [b'A'; STAMP_BYTES + 1];
        assert_eq!(Stamp::parse(&value), None);
        stamp.write(&mut value);
        assert_eq!(Stamp::parse(&value), Some(stamp));
        assert_eq!(value[STAMP_BYTES], b'A');
        assert_eq!(Stamp::parse(&value[..STAMP_BYTES - 1]), None);
    }
}
