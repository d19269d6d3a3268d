//! Frames: the four-byte length before every request and response, and the putting together of whole frames.
//!
//! ```text
//! +--------------+-----------------------------+------+
//! | length int32 | header: see crate::header   | body |
//! +--------------+-----------------------------+------+
//!                |<------- length bytes -------------->|
//! ```
//!
//! Must never trust a length: it is checked against the caller's limit before a byte is allocated for it.

use thiserror::Error;

use crate::api_key::ApiKey;
use crate::header::{RequestHead, encode_response_header};
use crate::wire::{EncodeError, Message, Request, Writer};

/// How many bytes the length itself takes.
pub const LENGTH_BYTES: usize = 4;

/// The fewest bytes a request can have: key, version, correlation id, and the length of the client id.
pub const REQUEST_BYTES_MIN: usize = 10;

/// Checks the length of a request, which says how many bytes follow it.
///
/// `request_bytes_max` is the broker's `socket.request.max.bytes`. On an error the connection is closed: there is no
/// way to find the next frame.
pub fn parse_request_length(length: [u8; LENGTH_BYTES], request_bytes_max: usize) -> Result<usize, FrameError> {
    let length = i32::from_be_bytes(length);
    let byte_count = usize::try_from(length).map_err(|_| FrameError::Negative { length })?;
    if byte_count < REQUEST_BYTES_MIN {
        return Err(FrameError::TooSmall { byte_count });
    }
    if byte_count > request_bytes_max {
        return Err(FrameError::TooLarge { byte_count, request_bytes_max });
    }
    Ok(byte_count)
}

/// Appends a whole request frame, as clients do. On an error the writer is as it was.
pub fn encode_request<'a, R: Request<'a>>(
    writer: &mut Writer,
    version: i16,
    correlation_id: i32,
    client_id: Option<&str>,
    request: &R,
) -> Result<(), EncodeError> {
    encode_frame(writer, |writer| {
        RequestHead { api_key: R::API_KEY, version, correlation_id, client_id }.encode(writer)?;
        request.encode(writer, version)
    })
}

/// Appends a whole response frame. On an error the writer is as it was.
pub fn encode_response<'a, M: Message<'a>>(
    writer: &mut Writer,
    version: i16,
    correlation_id: i32,
    response: &M,
) -> Result<(), EncodeError> {
    encode_frame(writer, |writer| {
        encode_response_header(writer, M::API_KEY, version, correlation_id)?;
        response.encode(writer, version)
    })
}

/// Appends the response frame for an `ApiVersions` request of an unknown version (KIP-511).
pub fn encode_unsupported_api_versions(writer: &mut Writer, correlation_id: i32) -> Result<(), EncodeError> {
    let response = crate::header::unsupported_api_versions_response();
    debug_assert_eq!(ApiKey::ApiVersions.response_header_version(0), 0);
    encode_response(writer, 0, correlation_id, &response)
}

/// Why the length of a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FrameError {
    /// Below zero.
    #[error("the length {length} is negative")]
    Negative {
        /// The length in the frame.
        length: i32,
    },
    /// Too small for any header.
    #[error("a request of {byte_count} bytes has no room for its header")]
    TooSmall {
        /// The length in the frame.
        byte_count: usize,
    },
    /// Above the broker's limit.
    #[error("a request of {byte_count} bytes exceeds the limit of {request_bytes_max}")]
    TooLarge {
        /// The length in the frame.
        byte_count: usize,
        /// The limit.
        request_bytes_max: usize,
    },
}

/// Writes what follows the length, then the length. Takes back everything on an error.
fn encode_frame(
    writer: &mut Writer,
    write_content: impl FnOnce(&mut Writer) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    let start = writer.position();
    writer.write_i32(0);
    let written = write_content(writer).and_then(|()| {
        let length = writer.position() - start - LENGTH_BYTES;
        i32::try_from(length).map_err(|_| EncodeError::TooLong { length })
    });
    match written {
        Ok(length) => {
            writer.overwrite_i32(start, length);
            Ok(())
        }
        Err(error) => {
            writer.truncate(start);
            Err(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::metadata::{MetadataRequest, MetadataResponse};

    #[test]
    fn a_length_is_checked_before_anything_is_allocated_for_it() {
        let parse = |length: i32| parse_request_length(length.to_be_bytes(), 1000);
        assert_eq!(parse(1000), Ok(1000));
        assert_eq!(parse(10), Ok(10));
        assert_eq!(parse(-1), Err(FrameError::Negative { length: -1 }));
        assert_eq!(parse(9), Err(FrameError::TooSmall { byte_count: 9 }));
        assert_eq!(parse(1001), Err(FrameError::TooLarge { byte_count: 1001, request_bytes_max: 1000 }));
    }

    #[test]
    fn a_frame_begins_with_the_length_of_what_follows() {
        let mut writer = Writer::new();
        let request = MetadataRequest { topics: None, ..MetadataRequest::default() };
        encode_request(&mut writer, 1, 7, Some("kcat"), &request).unwrap();
        assert_eq!(writer.bytes(), b"\x00\x00\x00\x12\x00\x03\x00\x01\x00\x00\x00\x07\x00\x04kcat\xff\xff\xff\xff");
    }

    #[test]
    fn the_fallback_is_a_version_0_frame() {
        let mut writer = Writer::new();
        encode_unsupported_api_versions(&mut writer, 5).unwrap();
        assert_eq!(writer.bytes(), b"\x00\x00\x00\x10\x00\x00\x00\x05\x00\x23\x00\x00\x00\x01\x00\x12\x00\x00\x00\x04");
    }

    #[test]
    fn a_message_that_cannot_be_encoded_leaves_nothing_behind() {
        let mut writer = Writer::with_buffer(b"before".to_vec());
        let response = MetadataResponse { error_code: 1, ..MetadataResponse::default() };
        let version = 99;
        assert_eq!(
            encode_response(&mut writer, version, 1, &response),
            Err(EncodeError::UnsupportedVersion { version })
        );
        assert_eq!(writer.bytes(), b"before");
    }
}
