//! The reading half of the wire format: a cursor over one frame that hands out borrowed strings and bytes.
//!
//! Invariants: `position <= end <= bytes.len()`; `memory_left` only falls, so whatever a peer sends, the arrays of one
//! message take at most [`AMPLIFICATION_MAX`] bytes per byte of frame.

use thiserror::Error;

use super::{AMPLIFICATION_MAX, Layout, Uuid};

/// A cursor over one frame, or over the part of it that is left.
#[derive(Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    position: usize,
    /// Where reading stops: the end of the frame, or of the tagged field being read.
    end: usize,
    /// Memory that arrays may still take.
    memory_left: usize,
}

impl<'a> Reader<'a> {
    /// A reader at the start of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        let memory_left = bytes.len().saturating_mul(AMPLIFICATION_MAX);
        Self { bytes, position: 0, end: bytes.len(), memory_left }
    }

    /// Lowers the memory that arrays may take to `memory_bytes_max`, where the caller has less to give.
    #[must_use]
    pub fn with_memory_max(mut self, memory_bytes_max: usize) -> Self {
        self.memory_left = self.memory_left.min(memory_bytes_max);
        self
    }

    /// Memory that arrays may still take.
    #[inline]
    pub fn memory_left(&self) -> usize {
        self.memory_left
    }

    /// Charges an array that a caller keeps in a shape of its own.
    #[inline]
    pub fn take_memory(&mut self, memory_bytes: usize) -> Result<(), DecodeError> {
        let Some(memory_left) = self.memory_left.checked_sub(memory_bytes) else {
            return Err(DecodeError::MemoryExceeded { position: self.position });
        };
        self.memory_left = memory_left;
        Ok(())
    }

    /// Where the next byte is read, counted from the start of the bytes given to [`Reader::new`].
    #[inline]
    pub fn position(&self) -> usize {
        self.position
    }

    /// How many bytes are left.
    #[inline]
    pub fn remaining(&self) -> usize {
        self.end - self.position
    }

    /// A reader at the same place that moves on its own, to look ahead.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self { ..*self }
    }

    /// Says that the message is over: bytes that follow it are an error.
    pub fn finish(self) -> Result<(), DecodeError> {
        match self.remaining() {
            0 => Ok(()),
            byte_count => Err(DecodeError::TrailingBytes { byte_count }),
        }
    }

    /// Takes the next `byte_count` bytes.
    #[inline]
    pub fn read_slice(&mut self, byte_count: usize) -> Result<&'a [u8], DecodeError> {
        if byte_count > self.remaining() {
            return Err(DecodeError::Truncated { position: self.position });
        }
        let slice = &self.bytes[self.position..self.position + byte_count];
        self.position += byte_count;
        Ok(slice)
    }

    /// Reads a boolean: any byte but zero is true, as in Kafka.
    #[inline]
    pub fn read_bool(&mut self) -> Result<bool, DecodeError> {
        Ok(self.read_i8()? != 0)
    }

    /// Reads an `int8`.
    #[inline]
    pub fn read_i8(&mut self) -> Result<i8, DecodeError> {
        Ok(i8::from_be_bytes(self.read_fixed()?))
    }

    /// Reads an `int16`.
    #[inline]
    pub fn read_i16(&mut self) -> Result<i16, DecodeError> {
        Ok(i16::from_be_bytes(self.read_fixed()?))
    }

    /// Reads a `uint16`.
    #[inline]
    pub fn read_u16(&mut self) -> Result<u16, DecodeError> {
        Ok(u16::from_be_bytes(self.read_fixed()?))
    }

    /// Reads an `int32`.
    #[inline]
    pub fn read_i32(&mut self) -> Result<i32, DecodeError> {
        Ok(i32::from_be_bytes(self.read_fixed()?))
    }

    /// Reads a `uint32`.
    #[inline]
    pub fn read_u32(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from_be_bytes(self.read_fixed()?))
    }

    /// Reads an `int64`.
    #[inline]
    pub fn read_i64(&mut self) -> Result<i64, DecodeError> {
        Ok(i64::from_be_bytes(self.read_fixed()?))
    }

    /// Reads a `float64`.
    #[inline]
    pub fn read_f64(&mut self) -> Result<f64, DecodeError> {
        Ok(f64::from_be_bytes(self.read_fixed()?))
    }

    /// Reads a uuid.
    #[inline]
    pub fn read_uuid(&mut self) -> Result<Uuid, DecodeError> {
        Ok(Uuid(self.read_fixed()?))
    }

    /// Reads an unsigned varint of at most five bytes.
    #[inline]
    pub fn read_uvarint(&mut self) -> Result<u32, DecodeError> {
        let position = self.position;
        let value = self.read_varint_bits(VARINT_BYTES_MAX)?;
        u32::try_from(value).map_err(|_| DecodeError::VarintTooLong { position })
    }

    /// Reads a zigzag varint of at most five bytes.
    #[inline]
    pub fn read_varint(&mut self) -> Result<i32, DecodeError> {
        let bits = self.read_uvarint()?;
        Ok((bits >> 1).cast_signed() ^ -(bits & 1).cast_signed())
    }

    /// Reads a zigzag varint of at most ten bytes.
    #[inline]
    pub fn read_varlong(&mut self) -> Result<i64, DecodeError> {
        let bits = self.read_varint_bits(VARLONG_BYTES_MAX)?;
        Ok((bits >> 1).cast_signed() ^ -(bits & 1).cast_signed())
    }

    /// Reads a string that may not be null.
    #[inline]
    pub fn read_string(&mut self, layout: Layout) -> Result<&'a str, DecodeError> {
        let position = self.position;
        self.read_nullable_string(layout)?.ok_or(DecodeError::UnexpectedNull { position })
    }

    /// Reads a string or null.
    #[inline]
    pub fn read_nullable_string(&mut self, layout: Layout) -> Result<Option<&'a str>, DecodeError> {
        let position = self.position;
        let length = match layout {
            Layout::Classic => i32::from(self.read_i16()?),
            Layout::Flexible => self.read_compact_length()?,
        };
        let Some(slice) = self.read_nullable_slice(length, position)? else { return Ok(None) };
        std::str::from_utf8(slice).map(Some).map_err(|_| DecodeError::InvalidUtf8 { position })
    }

    /// Reads bytes that may not be null.
    #[inline]
    pub fn read_bytes(&mut self, layout: Layout) -> Result<&'a [u8], DecodeError> {
        let position = self.position;
        self.read_nullable_bytes(layout)?.ok_or(DecodeError::UnexpectedNull { position })
    }

    /// Reads bytes or null.
    #[inline]
    pub fn read_nullable_bytes(&mut self, layout: Layout) -> Result<Option<&'a [u8]>, DecodeError> {
        let position = self.position;
        let length = self.read_length(layout)?;
        self.read_nullable_slice(length, position)
    }

    /// Reads an array that may not be null; see [`Reader::read_nullable_array`].
    #[inline]
    pub fn read_array<T>(
        &mut self,
        layout: Layout,
        element_bytes_min: usize,
        read_element: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let position = self.position;
        let elements = self.read_nullable_array(layout, element_bytes_min, read_element)?;
        elements.ok_or(DecodeError::UnexpectedNull { position })
    }

    /// Reads an array or null.
    ///
    /// `element_bytes_min` is the fewest bytes an element can take. Memory is taken only after the count has been held
    /// against the bytes that are left and against the memory budget.
    #[inline]
    pub fn read_nullable_array<T>(
        &mut self,
        layout: Layout,
        element_bytes_min: usize,
        mut read_element: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Option<Vec<T>>, DecodeError> {
        let Some(count) = self.read_nullable_count(layout, element_bytes_min)? else { return Ok(None) };
        self.take_memory(count.saturating_mul(size_of::<T>()))?;
        let mut elements = Vec::with_capacity(count);
        for _ in 0..count {
            elements.push(read_element(self)?);
        }
        Ok(Some(elements))
    }

    /// Reads the count of an array or null, for callers that keep the elements in a shape of their own.
    ///
    /// The count is held against the bytes that are left; `element_bytes_min` is the fewest an element can take. The elements
    /// are the caller's to charge, by [`Reader::take_memory`].
    #[inline]
    pub fn read_nullable_count(
        &mut self,
        layout: Layout,
        element_bytes_min: usize,
    ) -> Result<Option<usize>, DecodeError> {
        let position = self.position;
        let count = match self.read_length(layout)? {
            -1 => return Ok(None),
            count => usize::try_from(count).map_err(|_| DecodeError::NegativeLength { position })?,
        };
        // An element of no bytes at all would let a count of four bytes stand for any number of them.
        let element_bytes_min = element_bytes_min.max(1);
        if count > self.remaining() / element_bytes_min {
            return Err(DecodeError::CountTooLarge { position });
        }
        Ok(Some(count))
    }

    /// Reads the marker before a nullable structure: whether the structure follows.
    #[inline]
    pub fn read_is_present(&mut self) -> Result<bool, DecodeError> {
        Ok(self.read_i8()? >= 0)
    }

    /// Reads a tagged section, giving each field to `read_field`, which says whether it knows the tag.
    ///
    /// Fields that it does not know are skipped; those it knows must take exactly the bytes they declare. Tags must
    /// rise, as KIP-482 asks, which also refuses duplicates.
    pub fn read_tagged_fields(
        &mut self,
        mut read_field: impl FnMut(u32, &mut Self) -> Result<bool, DecodeError>,
    ) -> Result<(), DecodeError> {
        let field_count = self.read_uvarint()?;
        let mut tag_previous = None;
        for _ in 0..field_count {
            let position = self.position;
            let tag = self.read_uvarint()?;
            if tag_previous.is_some_and(|previous| previous >= tag) {
                return Err(DecodeError::TagOrder { position });
            }
            tag_previous = Some(tag);
            let field_bytes = self.read_uvarint()?;
            let field_bytes = usize::try_from(field_bytes).map_err(|_| DecodeError::Truncated { position })?;
            if field_bytes > self.remaining() {
                return Err(DecodeError::Truncated { position });
            }
            let end_outer = self.end;
            self.end = self.position + field_bytes;
            if !read_field(tag, self)? {
                self.position = self.end;
            }
            if self.position != self.end {
                return Err(DecodeError::TagLength { position });
            }
            self.end = end_outer;
        }
        Ok(())
    }

    /// Skips a tagged section in which no tag is known.
    #[inline]
    pub fn skip_tagged_fields(&mut self) -> Result<(), DecodeError> {
        self.read_tagged_fields(|_, _| Ok(false))
    }

    #[inline]
    fn read_fixed<const BYTES: usize>(&mut self) -> Result<[u8; BYTES], DecodeError> {
        let position = self.position;
        self.read_slice(BYTES)?.try_into().map_err(|_| DecodeError::Truncated { position })
    }

    /// Seven bits per byte, lowest first; the top bit says that another byte follows.
    #[inline]
    fn read_varint_bits(&mut self, byte_count_max: u32) -> Result<u64, DecodeError> {
        let position = self.position;
        let mut value = 0_u64;
        for index in 0..byte_count_max {
            let [byte] = self.read_fixed()?;
            let bits = u64::from(byte & 0x7f);
            let shifted = bits << (7 * index);
            if shifted >> (7 * index) != bits {
                return Err(DecodeError::VarintTooLong { position });
            }
            value |= shifted;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(DecodeError::VarintTooLong { position })
    }

    /// The length of bytes or of an array; -1 is null.
    #[inline]
    fn read_length(&mut self, layout: Layout) -> Result<i32, DecodeError> {
        match layout {
            Layout::Classic => self.read_i32(),
            Layout::Flexible => self.read_compact_length(),
        }
    }

    /// A varint of length + 1, so that 0 can be null; what does not fit an `int32` is refused.
    #[inline]
    fn read_compact_length(&mut self) -> Result<i32, DecodeError> {
        let position = self.position;
        let length_plus_one = self.read_uvarint()?;
        match length_plus_one.checked_sub(1) {
            None => Ok(-1),
            Some(length) => i32::try_from(length).map_err(|_| DecodeError::NegativeLength { position }),
        }
    }

    #[inline]
    fn read_nullable_slice(&mut self, length: i32, position: usize) -> Result<Option<&'a [u8]>, DecodeError> {
        if length == -1 {
            return Ok(None);
        }
        let byte_count = usize::try_from(length).map_err(|_| DecodeError::NegativeLength { position })?;
        self.read_slice(byte_count).map(Some)
    }
}

/// Why bytes are not the message they were taken for. Positions count from the start of the reader's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// The bytes end inside a value.
    #[error("the frame ends inside the value at byte {position}")]
    Truncated {
        /// Where the value begins.
        position: usize,
    },
    /// A length below zero that is not the null marker.
    #[error("the length at byte {position} is out of range")]
    NegativeLength {
        /// Where the length stands.
        position: usize,
    },
    /// Null where the version does not allow it.
    #[error("the value at byte {position} is null, which its version does not allow")]
    UnexpectedNull {
        /// Where the value begins.
        position: usize,
    },
    /// More elements than the bytes that are left could hold.
    #[error("the array at byte {position} claims more elements than the frame can hold")]
    CountTooLarge {
        /// Where the count stands.
        position: usize,
    },
    /// The arrays would take more memory than the reader may give.
    #[error("the array at byte {position} exceeds the memory that a frame of this size may take")]
    MemoryExceeded {
        /// Where the elements begin.
        position: usize,
    },
    /// A string that is not UTF-8.
    #[error("the string at byte {position} is not UTF-8")]
    InvalidUtf8 {
        /// Where the string's length stands.
        position: usize,
    },
    /// A varint with more bits than its type.
    #[error("the varint at byte {position} is too long")]
    VarintTooLong {
        /// Where the varint begins.
        position: usize,
    },
    /// A tag that does not rise above the one before it.
    #[error("the tag at byte {position} does not rise")]
    TagOrder {
        /// Where the tag stands.
        position: usize,
    },
    /// A tagged field that is longer than its content.
    #[error("the tagged field at byte {position} is longer than its content")]
    TagLength {
        /// Where the tag stands.
        position: usize,
    },
    /// Bytes after the end of the message.
    #[error("{byte_count} bytes follow the message")]
    TrailingBytes {
        /// How many.
        byte_count: usize,
    },
    /// A version that the message does not have.
    #[error("version {version} of the message does not exist")]
    UnsupportedVersion {
        /// The version asked for.
        version: i16,
    },
}

const VARINT_BYTES_MAX: u32 = 5;
const VARLONG_BYTES_MAX: u32 = 10;
