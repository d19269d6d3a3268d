//! ApiVersions: what this broker speaks. Clients ask before anything else (KIP-35, KIP-511).
//!
//! Features are left out until they exist: a client that reads `transaction.version` relies on what it promises.

use millrace_protocol::api_key::ApiKey;
use millrace_protocol::error_code::ErrorCode;
use millrace_protocol::messages::api_versions::{ApiVersion, ApiVersionsRequest, ApiVersionsResponse};
use millrace_protocol::wire::Writer;
use millrace_runtime::Env;

use super::{Api, Context, Table};
use crate::net::connection::Close;

pub(super) fn handle<E: Env>(context: &Context<'_, E>, writer: &mut Writer) -> Result<(), Close> {
    let request: ApiVersionsRequest<'_> = context.decode()?;
    let is_named = context.head.version >= NAMED_FROM;
    let is_valid = !is_named || (is_name(request.client_software_name) && is_name(request.client_software_version));
    let response = if is_valid {
        ApiVersionsResponse {
            api_keys: Table::<E>::APIS.iter().map(advertise).collect(),
            ..ApiVersionsResponse::default()
        }
    } else {
        ApiVersionsResponse { error_code: ErrorCode::InvalidRequest.code(), ..ApiVersionsResponse::default() }
    };
    context.answer(writer, &response)
}

fn advertise<E: Env>(api: &Api<E>) -> ApiVersion {
    // Produce advertises versions below those it serves, as Apache Kafka does (KAFKA-18659): librdkafka before 2.11 takes a
    // higher minimum for a broker without compression.
    let min_version = if api.key == ApiKey::Produce { 0 } else { api.versions.min };
    ApiVersion { api_key: api.key.code(), min_version, max_version: api.versions.max }
}

/// Kafka's rule for a client's name and version: letters, digits, `-` and `.`, not at either end.
fn is_name(text: &str) -> bool {
    let is_edge = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    is_edge(text.bytes().next())
        && is_edge(text.bytes().last())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'))
}

const NAMED_FROM: i16 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_names_follow_kafkas_rule() {
        assert!(["librdkafka", "apache-kafka-java", "2.15.0", "x"].into_iter().all(is_name));
        assert!(["", "-x", "x-", "a b", "a/b", ".1"].into_iter().all(|name| !is_name(name)));
    }
}
