//! SaslHandshake and SaslAuthenticate on listeners without SASL: refused, as in Kafka, with an answer rather than by
//! closing, so that a client with the wrong security protocol says so.

use millrace_protocol::error_code::ErrorCode;
use millrace_protocol::messages::sasl_authenticate::{SaslAuthenticateRequest, SaslAuthenticateResponse};
use millrace_protocol::messages::sasl_handshake::{SaslHandshakeRequest, SaslHandshakeResponse};
use millrace_protocol::wire::Writer;
use millrace_runtime::Env;

use super::Context;
use crate::net::connection::Close;

pub(super) fn handle_handshake<E: Env>(context: &Context<'_, E>, writer: &mut Writer) -> Result<(), Close> {
    let _: SaslHandshakeRequest<'_> = context.decode()?;
    let response =
        SaslHandshakeResponse { error_code: ErrorCode::IllegalSaslState.code(), ..SaslHandshakeResponse::default() };
    context.answer(writer, &response)
}

pub(super) fn handle_authenticate<E: Env>(context: &Context<'_, E>, writer: &mut Writer) -> Result<(), Close> {
    let _: SaslAuthenticateRequest<'_> = context.decode()?;
    let response = SaslAuthenticateResponse {
        error_code: ErrorCode::IllegalSaslState.code(),
        error_message: Some("this listener does not authenticate"),
        ..SaslAuthenticateResponse::default()
    };
    context.answer(writer, &response)
}
