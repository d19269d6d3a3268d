//! IncrementalAlterConfigs (KIP-339) and AlterConfigs: other values for the keys of topics, brokers and groups. Each
//! resource by itself, one after the other; one that is refused does not hold the others back.

use std::collections::BTreeMap;

use millrace_protocol::error_code::ErrorCode;
use millrace_protocol::messages::{alter_configs as whole, incremental_alter_configs as incremental};
use millrace_protocol::wire::Writer;
use millrace_runtime::Env;

use super::authorizer::Operation;
use super::config_resource::{Refused, ResourceKind, Which, authorized, check_broker, find_kind, refuse};
use super::{Context, errors};
use crate::metadata::controller::alter::{self, AlterConfig, ConfigChange, KeyChange};
use crate::net::connection::Close;
use crate::shard::mailbox::message::{Proposal, ProposalMode};

pub(super) async fn handle_incremental<E: Env>(context: &Context<'_, E>, writer: &mut Writer) -> Result<(), Close> {
    let request: incremental::IncrementalAlterConfigsRequest<'_> = context.decode()?;
    let mut wanted = Vec::new();
    for resource in &request.resources {
        let changes: Option<Vec<KeyChange>> = resource.configs.iter().map(key_change).collect();
        let change = changes.map(ConfigChange::Keys);
        wanted.push(Wanted { resource_type: resource.resource_type, name: resource.resource_name, change });
    }
    let outcomes = alter_all(context, wanted, mode(request.validate_only)).await?;
    let responses = outcomes.iter().map(|outcome| incremental::AlterConfigsResourceResponse {
        error_code: outcome.error_code(),
        error_message: outcome.error_message(),
        resource_type: outcome.resource_type,
        resource_name: outcome.name,
    });
    let responses = responses.collect();
    let response = incremental::IncrementalAlterConfigsResponse {
        responses,
        ..incremental::IncrementalAlterConfigsResponse::default()
    };
    context.answer(writer, &response)
}

pub(super) async fn handle_whole<E: Env>(context: &Context<'_, E>, writer: &mut Writer) -> Result<(), Close> {
    let request: whole::AlterConfigsRequest<'_> = context.decode()?;
    let mut wanted = Vec::new();
    for resource in &request.resources {
        let config = resource.configs.iter();
        let config = config.map(|config| (config.name.to_owned(), config.value.map(str::to_owned))).collect();
        let change = Some(ConfigChange::All(config));
        wanted.push(Wanted { resource_type: resource.resource_type, name: resource.resource_name, change });
    }
    let outcomes = alter_all(context, wanted, mode(request.validate_only)).await?;
    let responses = outcomes.iter().map(|outcome| whole::AlterConfigsResourceResponse {
        error_code: outcome.error_code(),
        error_message: outcome.error_message(),
        resource_type: outcome.resource_type,
        resource_name: outcome.name,
    });
    let responses = responses.collect();
    context.answer(writer, &whole::AlterConfigsResponse { responses, ..whole::AlterConfigsResponse::default() })
}

/// What is wanted of one resource, whichever request says it.
struct Wanted<'a> {
    resource_type: i8,
    name: &'a str,
    /// `None` for an operation that nobody knows.
    change: Option<ConfigChange>,
}

/// What became of it.
struct Outcome<'a> {
    resource_type: i8,
    name: &'a str,
    result: Result<(), Refused>,
}

impl Outcome<'_> {
    fn error_code(&self) -> i16 {
        self.result.as_ref().map_or_else(|(error, _)| *error, |()| ErrorCode::None).code()
    }

    fn error_message(&self) -> Option<&str> {
        self.result.as_ref().err().map(|(_, text)| text.as_str())
    }
}

/// The numbers are those of Kafka's `AlterConfigOp.OpType`.
fn key_change(config: &incremental::AlterableConfig<'_>) -> Option<KeyChange> {
    let operation = match config.config_operation {
        0 => alter::Operation::Set,
        1 => alter::Operation::Delete,
        2 => alter::Operation::Append,
        3 => alter::Operation::Subtract,
        _ => return None,
    };
    Some(KeyChange { key: config.name.to_owned(), operation, value: config.value.map(str::to_owned) })
}

fn mode(validate_only: bool) -> ProposalMode {
    if validate_only { ProposalMode::Validate } else { ProposalMode::Propose }
}

async fn alter_all<'r, E: Env>(
    context: &Context<'_, E>,
    wanted: Vec<Wanted<'r>>,
    mode: ProposalMode,
) -> Result<Vec<Outcome<'r>>, Close> {
    let mut counts: BTreeMap<(i8, &str), usize> = BTreeMap::new();
    for Wanted { resource_type, name, .. } in &wanted {
        *counts.entry((*resource_type, name)).or_default() += 1;
    }
    let mut outcomes = Vec::with_capacity(wanted.len());
    for Wanted { resource_type, name, change } in wanted {
        let result = match change {
            // As in Kafka, each of them is refused.
            _ if counts[&(resource_type, name)] > 1 => {
                Err(refuse(ErrorCode::InvalidRequest, "the request names the resource more than once"))
            }
            None => Err(refuse(ErrorCode::InvalidRequest, "the request has an operation that is not known")),
            Some(change) => alter(context, resource_type, name, change, mode).await?,
        };
        outcomes.push(Outcome { resource_type, name, result });
    }
    Ok(outcomes)
}

async fn alter<E: Env>(
    context: &Context<'_, E>,
    resource_type: i8,
    name: &str,
    change: ConfigChange,
    mode: ProposalMode,
) -> Result<Result<(), Refused>, Close> {
    let Some(kind) = find_kind(resource_type) else {
        return Ok(Err((ErrorCode::InvalidRequest, format!("resource type {resource_type} is not known"))));
    };
    let (resource, error) = authorized(kind, name);
    if !context.allows(Operation::AlterConfigs, resource) {
        return Ok(Err(refuse(error, "not allowed")));
    }
    let resource = match kind {
        ResourceKind::Topic => alter::Resource::Topic(name.to_owned()),
        ResourceKind::Group => alter::Resource::Group(name.to_owned()),
        ResourceKind::Broker => {
            let node = context.shard.broker().node();
            match check_broker(name, node.get()) {
                Ok(Which::Cluster) => alter::Resource::Broker(None),
                Ok(Which::This) => alter::Resource::Broker(Some(node)),
                Err(refused) => return Ok(Err(refused)),
            }
        }
        ResourceKind::BrokerLogger => {
            let why = "the level of messages is set where the broker is started: log.level";
            return Ok(Err(refuse(ErrorCode::InvalidRequest, why)));
        }
        ResourceKind::ClientMetrics => {
            return Ok(Err(refuse(ErrorCode::InvalidRequest, "clients cannot push their metrics")));
        }
    };
    let proposal = Proposal::AlterConfig { request: AlterConfig { resource, change }, mode };
    let decided = context.shard.propose(proposal).await?;
    Ok(decided.map(|_| ()).map_err(|error| (errors::propose(&error), errors::propose_text(&error))))
}
