//! The writing half of the wire format: appends values to one growing buffer.
//!
//! Checks what a reader could not understand: strings and arrays too long for their length field, and fields that the
//! version cannot carry. Never truncates a value to make it fit.

use thiserror::Error;

use super::{Layout, Uuid};

/// Appends values to a buffer.
#[derive(Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
    /// Codes of errors that were written, ever.
    error_count: u64,
}

impl Writer {
    /// A writer with an empty buffer.
    pub fn new() -> Self {
        Self::default()
    }

    /// A writer that appends to `bytes`, so that a buffer can be used again.
    pub fn with_buffer(bytes: Vec<u8>) -> Self {
        Self { bytes, error_count: 0 }
    }

    /// Empties the buffer and keeps its memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
    }

    /// Throws away what was written after `position`, such as a body that failed halfway.
    pub fn truncate(&mut self, position: usize) {
        self.bytes.truncate(position);
    }

    /// Everything written so far.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Where the next byte goes.
    #[inline]
    pub fn position(&self) -> usize {
        self.bytes.len()
    }

    /// How many codes of errors were written since the writer was made. What is truncated or cleared stays counted.
    #[inline]
    pub fn error_count(&self) -> u64 {
        self.error_count
    }

    /// Gives the buffer away.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Appends bytes as they are, without a length.
    #[inline]
    pub fn write_slice(&mut self, slice: &[u8]) {
        self.bytes.extend_from_slice(slice);
    }

    /// Writes a boolean.
    #[inline]
    pub fn write_bool(&mut self, value: bool) {
        self.write_i8(i8::from(value));
    }

    /// Writes an `int8`.
    #[inline]
    pub fn write_i8(&mut self, value: i8) {
        self.write_slice(&value.to_be_bytes());
    }

    /// Writes an `int16`.
    #[inline]
    pub fn write_i16(&mut self, value: i16) {
        self.write_slice(&value.to_be_bytes());
    }

    /// Writes an error code of Kafka's, and counts it if it says that something went wrong. A field of its own kind, so that
    /// whoever answers requests need not look into answers to know whether they carry errors.
    #[inline]
    pub fn write_error_code(&mut self, code: i16) {
        self.error_count += u64::from(code != 0);
        self.write_i16(code);
    }

    /// Writes a `uint16`.
    #[inline]
    pub fn write_u16(&mut self, value: u16) {
        self.write_slice(&value.to_be_bytes());
    }

    /// Writes an `int32`.
    #[inline]
    pub fn write_i32(&mut self, value: i32) {
        self.write_slice(&value.to_be_bytes());
    }

    /// Writes a `uint32`.
    #[inline]
    pub fn write_u32(&mut self, value: u32) {
        self.write_slice(&value.to_be_bytes());
    }

    /// Writes an `int64`.
    #[inline]
    pub fn write_i64(&mut self, value: i64) {
        self.write_slice(&value.to_be_bytes());
    }

    /// Writes a `float64`.
    #[inline]
    pub fn write_f64(&mut self, value: f64) {
        self.write_slice(&value.to_be_bytes());
    }

    /// Writes a uuid.
    #[inline]
    pub fn write_uuid(&mut self, value: Uuid) {
        self.write_slice(&value.0);
    }

    /// Writes an unsigned varint.
    #[inline]
    pub fn write_uvarint(&mut self, value: u32) {
        let (encoded, byte_count) = encode_varint(u64::from(value));
        self.write_slice(&encoded[..byte_count]);
    }

    /// Writes a zigzag varint.
    #[inline]
    pub fn write_varint(&mut self, value: i32) {
        self.write_uvarint((value << 1).cast_unsigned() ^ (value >> 31).cast_unsigned());
    }

    /// Writes a zigzag varint of up to 64 bits.
    #[inline]
    pub fn write_varlong(&mut self, value: i64) {
        let (encoded, byte_count) = encode_varint((value << 1).cast_unsigned() ^ (value >> 63).cast_unsigned());
        self.write_slice(&encoded[..byte_count]);
    }

    /// Writes a string.
    #[inline]
    pub fn write_string(&mut self, layout: Layout, value: &str) -> Result<(), EncodeError> {
        match layout {
            Layout::Classic => {
                let length = i16::try_from(value.len()).map_err(|_| EncodeError::TooLong { length: value.len() })?;
                self.write_i16(length);
            }
            Layout::Flexible => self.write_length(layout, value.len())?,
        }
        self.write_slice(value.as_bytes());
        Ok(())
    }

    /// Writes a string or null.
    #[inline]
    pub fn write_nullable_string(&mut self, layout: Layout, value: Option<&str>) -> Result<(), EncodeError> {
        match (value, layout) {
            (Some(value), _) => self.write_string(layout, value)?,
            (None, Layout::Classic) => self.write_i16(-1),
            (None, Layout::Flexible) => self.write_uvarint(0),
        }
        Ok(())
    }

    /// Writes bytes with their length.
    #[inline]
    pub fn write_bytes(&mut self, layout: Layout, value: &[u8]) -> Result<(), EncodeError> {
        self.write_length(layout, value.len())?;
        self.write_slice(value);
        Ok(())
    }

    /// Writes bytes or null.
    #[inline]
    pub fn write_nullable_bytes(&mut self, layout: Layout, value: Option<&[u8]>) -> Result<(), EncodeError> {
        match value {
            Some(value) => self.write_bytes(layout, value)?,
            None => self.write_null(layout),
        }
        Ok(())
    }

    /// Writes an array.
    #[inline]
    pub fn write_array<T>(
        &mut self,
        layout: Layout,
        elements: &[T],
        mut write_element: impl FnMut(&mut Self, &T) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        self.write_length(layout, elements.len())?;
        for element in elements {
            write_element(self, element)?;
        }
        Ok(())
    }

    /// Writes an array or null.
    #[inline]
    pub fn write_nullable_array<T>(
        &mut self,
        layout: Layout,
        elements: Option<&[T]>,
        write_element: impl FnMut(&mut Self, &T) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        match elements {
            Some(elements) => self.write_array(layout, elements, write_element)?,
            None => self.write_null(layout),
        }
        Ok(())
    }

    /// Writes the length of bytes or of an array.
    #[inline]
    pub fn write_length(&mut self, layout: Layout, length: usize) -> Result<(), EncodeError> {
        // Both layouts end at i32::MAX: that is what any reader holds a length in.
        let value = i32::try_from(length).map_err(|_| EncodeError::TooLong { length })?;
        match layout {
            Layout::Classic => self.write_i32(value),
            Layout::Flexible => self.write_uvarint(value.cast_unsigned() + 1),
        }
        Ok(())
    }

    /// Writes the marker before a nullable structure.
    #[inline]
    pub fn write_is_present(&mut self, is_present: bool) {
        self.write_i8(if is_present { 1 } else { -1 });
    }

    /// Writes how many fields the tagged section has: as many as `is_present` has true entries.
    #[inline]
    pub fn write_tag_count(&mut self, is_present: &[bool]) {
        let count = is_present.iter().map(|&present| u32::from(present)).sum();
        self.write_uvarint(count);
    }

    /// Writes one tagged field: its tag, its length in bytes and the value that `write_value` appends.
    pub fn write_tagged(
        &mut self,
        tag: u32,
        write_value: impl FnOnce(&mut Self) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        self.write_uvarint(tag);
        let position = self.position();
        write_value(self)?;
        // The length stands before the value and its own size depends on it, so it is put in afterwards.
        let length = self.position() - position;
        let length = u32::try_from(length).map_err(|_| EncodeError::TooLong { length })?;
        let (encoded, byte_count) = encode_varint(u64::from(length));
        self.bytes.splice(position..position, encoded[..byte_count].iter().copied());
        Ok(())
    }

    /// Writes over four bytes at `position`, such as a frame length that was not known yet.
    ///
    /// Panics if nothing was written there, which is a bug of the caller.
    pub fn overwrite_i32(&mut self, position: usize, value: i32) {
        self.bytes[position..position + size_of::<i32>()].copy_from_slice(&value.to_be_bytes());
    }

    #[inline]
    fn write_null(&mut self, layout: Layout) {
        match layout {
            Layout::Classic => self.write_i32(-1),
            Layout::Flexible => self.write_uvarint(0),
        }
    }
}

/// Why a message cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum EncodeError {
    /// The field says something that this version cannot carry, and that may not be dropped silently.
    #[error("version {version} cannot carry field {field}")]
    FieldNotInVersion {
        /// The field's wire name.
        field: &'static str,
        /// The version asked for.
        version: i16,
    },
    /// The field is null where this version does not allow it.
    #[error("field {field} may not be null in version {version}")]
    NullNotAllowed {
        /// The field's wire name.
        field: &'static str,
        /// The version asked for.
        version: i16,
    },
    /// A string, bytes or an array with more elements than its length field can say.
    #[error("a value of length {length} is too long for its length field")]
    TooLong {
        /// Its length in bytes or elements.
        length: usize,
    },
    /// A version that the message does not have.
    #[error("version {version} of the message does not exist")]
    UnsupportedVersion {
        /// The version asked for.
        version: i16,
    },
}

/// The varint of `value`, and how many of the bytes it takes.
#[inline]
fn encode_varint(mut value: u64) -> ([u8; 10], usize) {
    let mut encoded = [0; 10];
    let mut byte_count = 0;
    loop {
        let [byte, ..] = value.to_le_bytes();
        value >>= 7;
        let is_last = value == 0;
        encoded[byte_count] = if is_last { byte & 0x7f } else { byte | 0x80 };
        byte_count += 1;
        if is_last {
            return (encoded, byte_count);
        }
    }
}
