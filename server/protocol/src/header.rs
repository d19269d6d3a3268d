//! The header before every request and response: which version of it a message has, and what to do with an API or a
//! version that is not known.
//!
//! Rules: a flexible request has header version 2, any other version 1; a flexible response has header version 1, any
//! other version 0. Two exceptions: the client id is a classic string in every version, and the header of an
//! `ApiVersions` response is always version 0 (KIP-511), because the client does not know yet what the broker speaks.
//! Header version 0 of requests left with the APIs that had it.
//!
//! Must never look into a body.

use thiserror::Error;

use crate::api_key::ApiKey;
use crate::error_code::ErrorCode;
use crate::messages::api_versions::{ApiVersion, ApiVersionsResponse};
use crate::messages::header::{RequestHeader, ResponseHeader};
use crate::wire::{DecodeError, EncodeError, Layout, Reader, VersionRange, Writer};

/// The header of a request whose API and version are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestHead<'a> {
    /// What the request asks for.
    pub api_key: ApiKey,
    /// The version of the body, and of the response's body.
    ///
    /// Invariant: within `api_key.valid_versions()`.
    pub version: i16,
    /// The number that the response repeats.
    pub correlation_id: i32,
    /// What the client calls itself.
    pub client_id: Option<&'a str>,
}

impl<'a> RequestHead<'a> {
    /// Reads the header and leaves the reader at the body.
    pub fn decode(reader: &mut Reader<'a>) -> Result<Self, HeadError> {
        let (code, version) = peek_key_and_version(reader)?;
        let Some(api_key) = ApiKey::from_code(code) else { return Err(HeadError::UnknownApiKey { code }) };
        let header = RequestHeader::decode(reader, api_key.request_header_version(version))?;
        if api_key.valid_versions().contains(version) {
            let RequestHeader { correlation_id, client_id, .. } = header;
            return Ok(Self { api_key, version, correlation_id, client_id });
        }
        match api_key {
            ApiKey::ApiVersions => {
                Err(HeadError::UnsupportedApiVersions { version, correlation_id: header.correlation_id })
            }
            _ => Err(HeadError::UnsupportedVersion { api_key, version }),
        }
    }

    /// Appends the header, as clients do.
    pub fn encode(&self, writer: &mut Writer) -> Result<(), EncodeError> {
        let header = RequestHeader {
            request_api_key: self.api_key.code(),
            request_api_version: self.version,
            correlation_id: self.correlation_id,
            client_id: self.client_id,
        };
        header.encode(writer, self.api_key.request_header_version(self.version))
    }
}

impl ApiKey {
    /// The versions a broker should serve: those the schemas know and the release advertises.
    ///
    /// Narrower than [`ApiKey::valid_versions`] where the latest version is unstable, and than
    /// [`ApiKey::advertised_versions`] for Produce, which advertises versions it refuses (KAFKA-18659).
    pub const fn served_versions(self) -> Option<VersionRange> {
        match self.advertised_versions() {
            Some(advertised) => advertised.intersect(self.valid_versions()),
            None => None,
        }
    }

    /// The version of the header before a request of `version`.
    pub const fn request_header_version(self, version: i16) -> i16 {
        match Layout::at(version, self.request_flexible_from()) {
            Layout::Classic => 1,
            Layout::Flexible => 2,
        }
    }

    /// The version of the header before a response of `version`.
    pub const fn response_header_version(self, version: i16) -> i16 {
        match (self, Layout::at(version, self.response_flexible_from())) {
            (Self::ApiVersions, _) | (_, Layout::Classic) => 0,
            (_, Layout::Flexible) => 1,
        }
    }
}

/// Appends the header of a response.
pub fn encode_response_header(
    writer: &mut Writer,
    api_key: ApiKey,
    version: i16,
    correlation_id: i32,
) -> Result<(), EncodeError> {
    ResponseHeader { correlation_id }.encode(writer, api_key.response_header_version(version))
}

/// Reads the header of a response, as clients do, and gives its correlation id.
pub fn decode_response_header(reader: &mut Reader<'_>, api_key: ApiKey, version: i16) -> Result<i32, DecodeError> {
    let header = ResponseHeader::decode(reader, api_key.response_header_version(version))?;
    Ok(header.correlation_id)
}

/// The answer to an `ApiVersions` request of an unknown version: to be encoded as version 0, whatever was asked.
///
/// It names the range of `ApiVersions` itself, from which clients choose the version they ask again with (KIP-511).
pub fn unsupported_api_versions_response() -> ApiVersionsResponse<'static> {
    let versions = ApiVersionsResponse::VERSIONS;
    let api_version =
        ApiVersion { api_key: ApiKey::ApiVersions.code(), min_version: versions.min, max_version: versions.max };
    ApiVersionsResponse {
        error_code: ErrorCode::UnsupportedVersion.code(),
        api_keys: vec![api_version],
        ..ApiVersionsResponse::default()
    }
}

/// Why a request cannot be handed to a handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum HeadError {
    /// No API of the release has this code. The connection is closed.
    #[error("no API has the code {code}")]
    UnknownApiKey {
        /// The code in the request.
        code: i16,
    },
    /// The API does not have this version. The connection is closed.
    #[error("{} has no version {version}", api_key.name())]
    UnsupportedVersion {
        /// The API asked for.
        api_key: ApiKey,
        /// The version asked for.
        version: i16,
    },
    /// `ApiVersions` does not have this version. The answer is [`unsupported_api_versions_response`], in version 0.
    #[error("ApiVersions has no version {version}")]
    UnsupportedApiVersions {
        /// The version asked for.
        version: i16,
        /// The number that the response repeats.
        correlation_id: i32,
    },
    /// The header is malformed. The connection is closed.
    #[error(transparent)]
    Malformed(#[from] DecodeError),
}

/// The first two fields, which stand in the same place in every version and say which version the header has.
fn peek_key_and_version(reader: &Reader<'_>) -> Result<(i16, i16), DecodeError> {
    let mut ahead = reader.fork();
    Ok((ahead.read_i16()?, ahead.read_i16()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head_error(bytes: &[u8]) -> HeadError {
        RequestHead::decode(&mut Reader::new(bytes)).unwrap_err()
    }

    #[test]
    fn a_classic_request_has_header_version_1() {
        // Metadata 1, correlation id 7, client id "kcat", then the body.
        let bytes = b"\x00\x03\x00\x01\x00\x00\x00\x07\x00\x04kcat\xff\xff\xff\xff";
        let mut reader = Reader::new(bytes);
        let head = RequestHead::decode(&mut reader).unwrap();
        let client_id = Some("kcat");
        assert_eq!(head, RequestHead { api_key: ApiKey::Metadata, version: 1, correlation_id: 7, client_id });
        assert_eq!(reader.remaining(), 4);
        let mut writer = Writer::new();
        head.encode(&mut writer).unwrap();
        assert_eq!(writer.bytes(), &bytes[..bytes.len() - 4]);
    }

    #[test]
    fn a_flexible_request_keeps_a_classic_client_id() {
        // Metadata 9, correlation id 7, client id null, one unknown tagged field that is skipped.
        let bytes = b"\x00\x03\x00\x09\x00\x00\x00\x07\xff\xff\x01\x05\x02zz";
        let mut reader = Reader::new(bytes);
        let head = RequestHead::decode(&mut reader).unwrap();
        assert_eq!((head.version, head.client_id), (9, None));
        assert_eq!(reader.remaining(), 0);
    }

    #[test]
    fn the_header_of_an_api_versions_response_is_never_flexible() {
        for version in 0..=4 {
            assert_eq!(ApiKey::ApiVersions.response_header_version(version), 0);
        }
        assert_eq!(ApiKey::ApiVersions.request_header_version(2), 1);
        assert_eq!(ApiKey::ApiVersions.request_header_version(3), 2);
        let mut writer = Writer::new();
        encode_response_header(&mut writer, ApiKey::ApiVersions, 4, 9).unwrap();
        assert_eq!(writer.bytes(), b"\x00\x00\x00\x09");
        let mut writer = Writer::new();
        encode_response_header(&mut writer, ApiKey::Metadata, 9, 9).unwrap();
        assert_eq!(writer.bytes(), b"\x00\x00\x00\x09\x00");
        assert_eq!(decode_response_header(&mut Reader::new(writer.bytes()), ApiKey::Metadata, 9), Ok(9));
    }

    #[test]
    fn sasl_handshake_is_never_flexible() {
        assert_eq!(ApiKey::SaslHandshake.request_header_version(1), 1);
        assert_eq!(ApiKey::SaslHandshake.response_header_version(1), 0);
    }

    #[test]
    fn unknown_apis_and_versions_are_told_apart() {
        assert_eq!(head_error(b"\x03\xe7\x00\x00\x00\x00\x00\x01\xff\xff"), HeadError::UnknownApiKey { code: 999 });
        let error = HeadError::UnsupportedVersion { api_key: ApiKey::Fetch, version: 3 };
        assert_eq!(head_error(b"\x00\x01\x00\x03\x00\x00\x00\x01\xff\xff"), error);
        let error = HeadError::UnsupportedApiVersions { version: 99, correlation_id: 5 };
        assert_eq!(head_error(b"\x00\x12\x00\x63\x00\x00\x00\x05\xff\xff\x00"), error);
        let error = HeadError::UnsupportedApiVersions { version: -1, correlation_id: 5 };
        assert_eq!(head_error(b"\x00\x12\xff\xff\x00\x00\x00\x05\xff\xff"), error);
        assert!(matches!(head_error(b"\x00\x12"), HeadError::Malformed(DecodeError::Truncated { .. })));
    }

    #[test]
    fn the_fallback_names_the_range_of_api_versions_in_version_0() {
        let mut writer = Writer::new();
        unsupported_api_versions_response().encode(&mut writer, 0).unwrap();
        assert_eq!(writer.bytes(), b"\x00\x23\x00\x00\x00\x01\x00\x12\x00\x00\x00\x04");
    }

    #[test]
    fn produce_advertises_more_than_it_serves_and_init_producer_id_less_than_it_knows() {
        let range = |min, max| Some(VersionRange { min, max });
        assert_eq!(ApiKey::Produce.advertised_versions(), range(0, 13));
        assert_eq!(ApiKey::Produce.served_versions(), range(3, 13));
        assert_eq!(ApiKey::InitProducerId.valid_versions(), VersionRange { min: 0, max: 6 });
        assert_eq!(ApiKey::InitProducerId.served_versions(), range(0, 5));
        assert_eq!(ApiKey::Vote.served_versions(), None);
    }

    #[test]
    fn codes_are_found_again() {
        for api_key in ApiKey::ALL {
            assert_eq!(ApiKey::from_code(api_key.code()), Some(api_key));
        }
        for error in ErrorCode::ALL {
            assert_eq!(ErrorCode::from_code(error.code()), Some(error));
        }
        assert_eq!(ErrorCode::NotLeaderOrFollower.name(), "NOT_LEADER_OR_FOLLOWER");
        assert!(ErrorCode::NotLeaderOrFollower.is_retriable());
        assert_eq!((ApiKey::from_code(4), ErrorCode::from_code(999)), (None, None));
    }
}
