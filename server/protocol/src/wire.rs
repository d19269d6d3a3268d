//! The primitives of Kafka's wire format: how integers, strings, bytes, arrays and tagged sections stand in a frame.
//!
//! Owns [`Reader`] (borrows from a frame), [`Writer`] (appends to a buffer) and the small types both share. Knows no
//! message: those are generated into [`crate::messages`] on top of this.
//!
//! Must never allocate from a number the peer chose: see [`AMPLIFICATION_MAX`]. Must never panic on bytes: every
//! malformed input is a [`DecodeError`].

mod reader;
mod uuid;
mod writer;

#[cfg(test)]
mod tests;

pub use reader::{DecodeError, Reader};
pub use uuid::Uuid;
pub use writer::{EncodeError, Writer};

use crate::api_key::ApiKey;

/// How many bytes of memory a decoded message may take per byte of its frame.
///
/// A [`Reader`] starts with a budget of this many times its length, and every array is charged against it before it is
/// allocated. The generated code proves at compile time that no array element takes more memory than this times its
/// fewest encoded bytes, so no well-formed message meets the budget; hostile nesting does.
pub const AMPLIFICATION_MAX: usize = 32;

/// Which of the two encodings a version uses for lengths (KIP-482).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Fixed-width lengths (`int16` for strings, `int32` for the rest), -1 for null, no tagged sections.
    Classic,
    /// Lengths are unsigned varints of length + 1, 0 for null, and every structure ends with a tagged section.
    Flexible,
}

impl Layout {
    /// The layout of `version` for a message that is flexible from `flexible_from` on; `i16::MAX` means never.
    #[inline]
    pub const fn at(version: i16, flexible_from: i16) -> Self {
        if version >= flexible_from { Self::Flexible } else { Self::Classic }
    }

    /// Whether structures end with a tagged section.
    #[inline]
    pub const fn is_flexible(self) -> bool {
        matches!(self, Self::Flexible)
    }
}

/// An inclusive range of versions of one API or message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VersionRange {
    /// The lowest version, inclusive. Invariant: `min <= max`.
    pub min: i16,
    /// The highest version, inclusive.
    pub max: i16,
}

impl VersionRange {
    /// Whether `version` lies in the range.
    #[inline]
    pub const fn contains(self, version: i16) -> bool {
        self.min <= version && version <= self.max
    }

    /// The versions in both ranges, or nothing where they do not meet.
    pub const fn intersect(self, other: Self) -> Option<Self> {
        let min = if self.min > other.min { self.min } else { other.min };
        let max = if self.max < other.max { self.max } else { other.max };
        if min <= max { Some(Self { min, max }) } else { None }
    }
}

/// What a schema describes, in the versions that it has.
pub trait Structure<'a>: Sized {
    /// The versions that `decode` and `encode` know.
    const VERSIONS: VersionRange;

    /// Reads one body. Leaves the reader after it; the caller says with [`Reader::finish`] that nothing may follow.
    fn decode(reader: &mut Reader<'a>, version: i16) -> Result<Self, DecodeError>;

    /// Appends one body. On an error the writer holds a partial body, which the caller must throw away.
    fn encode(&self, writer: &mut Writer, version: i16) -> Result<(), EncodeError>;
}

/// A request or response body: what a caller needs to handle any of them alike.
pub trait Message<'a>: Structure<'a> {
    /// The API the message belongs to.
    const API_KEY: ApiKey;
}

/// A request body, with the type of its answer.
pub trait Request<'a>: Message<'a> {
    /// The response that answers this request.
    type Response<'b>: Message<'b>;
}

/// Whether an array element of `memory_bytes` that takes at least `encoded_bytes` obeys [`AMPLIFICATION_MAX`].
///
/// Generated code asserts this for every structure that stands in an array.
pub(crate) const fn is_amplification_bounded(memory_bytes: usize, encoded_bytes: usize) -> bool {
    memory_bytes <= AMPLIFICATION_MAX * encoded_bytes
}
