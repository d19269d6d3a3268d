//! What has a configuration, by Kafka's numbers and names.

use millrace_protocol::error_code::ErrorCode;

use super::authorizer::Resource;

/// Kafka's types of resources that have a configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ResourceKind {
    Topic,
    Broker,
    BrokerLogger,
    ClientMetrics,
    Group,
}

/// The numbers are those of Kafka's `ConfigResource.Type`.
pub(super) fn find_kind(resource_type: i8) -> Option<ResourceKind> {
    match resource_type {
        2 => Some(ResourceKind::Topic),
        4 => Some(ResourceKind::Broker),
        8 => Some(ResourceKind::BrokerLogger),
        16 => Some(ResourceKind::ClientMetrics),
        32 => Some(ResourceKind::Group),
        _ => None,
    }
}

/// What the authorizer is asked about, and what is said if it does not allow it.
pub(super) fn authorized(kind: ResourceKind, name: &str) -> (Resource<'_>, ErrorCode) {
    match kind {
        ResourceKind::Topic => (Resource::Topic(name), ErrorCode::TopicAuthorizationFailed),
        ResourceKind::Group => (Resource::Group(name), ErrorCode::GroupAuthorizationFailed),
        ResourceKind::Broker | ResourceKind::BrokerLogger | ResourceKind::ClientMetrics => {
            (Resource::Cluster, ErrorCode::ClusterAuthorizationFailed)
        }
    }
}

/// Why a resource is refused.
pub(super) type Refused = (ErrorCode, String);

pub(super) fn refuse(error: ErrorCode, text: &str) -> Refused {
    (error, text.to_owned())
}

/// Whose configuration a broker resource is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    /// What all brokers were told while they ran.
    Cluster,
    This,
}

pub(super) fn check_broker(name: &str, node: i32) -> Result<Which, Refused> {
    if name.is_empty() {
        return Ok(Which::Cluster);
    }
    match name.parse::<i32>() {
        Ok(number) if number == node => Ok(Which::This),
        Ok(_) => {
            let text =
                format!("this is broker {node}; ask broker {name} itself, or nobody in particular for what all have");
            Err((ErrorCode::InvalidRequest, text))
        }
        Err(_) => Err((ErrorCode::InvalidRequest, format!("a broker is named by its number, not by {name:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_answers_for_itself_and_for_the_cluster() {
        assert_eq!(check_broker("", 1), Ok(Which::Cluster));
        assert_eq!(check_broker("1", 1), Ok(Which::This));
        for name in ["2", "-1", "one", " 1"] {
            assert_eq!(check_broker(name, 1).unwrap_err().0, ErrorCode::InvalidRequest, "{name:?}");
        }
    }
}
