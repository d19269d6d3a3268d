//! Where the broker listens: for clients, with the addresses they are told, and for its operators.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

use super::Settings;
use crate::config::keys::{self, Key};
use crate::config::parse::{self, Origin};
use crate::config::{AdminConfig, ConfigError, ListenerConfig};

/// A `NAME://host:port` of either list of listeners.
struct Endpoint {
    name: String,
    host: String,
    port: u16,
}

/// The listeners with the addresses that clients are told.
pub(super) fn check(settings: &Settings, errors: &mut Vec<ConfigError>) -> Vec<ListenerConfig> {
    let names = check_protocols(settings, errors);
    let endpoints = check_endpoints(settings, Key::Listeners, &names, errors);
    let mut advertised = check_endpoints(settings, Key::AdvertisedListeners, &names, errors);
    let mut listeners: Vec<ListenerConfig> = Vec::new();

    if parse::parse_list(settings.text(Key::Listeners)).next().is_none() {
        errors.push(settings.refuse(Key::Listeners, "", "at least one address"));
    }
    for endpoint in endpoints {
        let Some(bind) = find_address(&endpoint) else {
            let shown = format!("{}:{}", endpoint.host, endpoint.port);
            errors.push(settings.refuse(Key::Listeners, &shown, "a host name that resolves to an address"));
            continue;
        };
        if listeners.iter().any(|other| bind.port() != 0 && other.bind == bind) {
            errors.push(settings.refuse(Key::Listeners, &bind.to_string(), "an address of its own for each listener"));
            continue;
        }
        let position = advertised.iter().position(|other| other.name == endpoint.name);
        let (advertised_host, advertised_port) = match position.map(|position| advertised.swap_remove(position)) {
            Some(address) => (address.host, Some(address.port)),
            None if bind.ip().is_unspecified() => {
                errors.push(ConfigError::Clash {
                    first: keys::row(Key::Listeners).name,
                    second: keys::row(Key::AdvertisedListeners).name,
                    why: format!(
                        "listener {} accepts on every address, so clients must be told one; \
                         set advertised.listeners to {}://<host that clients reach>:{}",
                        endpoint.name, endpoint.name, endpoint.port
                    ),
                });
                continue;
            }
            None => (endpoint.host, None),
        };
        listeners.push(ListenerConfig { name: endpoint.name, bind, advertised_host, advertised_port });
    }
    for orphan in advertised {
        let shown = format!("{}://{}:{}", orphan.name, orphan.host, orphan.port);
        errors.push(settings.refuse(Key::AdvertisedListeners, &shown, "the name of a listener in `listeners`"));
    }
    listeners
}

/// Where metrics and health are asked for. A broker that takes any free port for its clients, as tests start them, takes any
/// for these too unless it is told one: several of them run on one machine.
pub(super) fn check_admin(
    settings: &Settings,
    listeners: &[ListenerConfig],
    errors: &mut Vec<ConfigError>,
) -> AdminConfig {
    let text = settings.text(Key::AdminListener);
    if matches!(text, "" | "none") {
        return AdminConfig { bind: None };
    }
    let endpoint = parse::parse_host_port(text).filter(|(host, _)| !host.is_empty());
    let endpoint = endpoint.map(|(host, port)| Endpoint { name: String::new(), host, port });
    let Some(mut bind) = endpoint.as_ref().and_then(find_address) else {
        errors.push(settings.refuse(Key::AdminListener, text, "host:port with a host of this machine, or none"));
        return AdminConfig { bind: None };
    };
    let is_any_free = listeners.first().is_some_and(|listener| listener.bind.port() == 0);
    if is_any_free && settings.origin(Key::AdminListener) == Origin::Default {
        bind.set_port(0);
    }
    if bind.port() != 0 && listeners.iter().any(|listener| listener.bind == bind) {
        errors.push(settings.refuse(Key::AdminListener, text, "an address of its own, not one of `listeners`"));
    }
    AdminConfig { bind: Some(bind) }
}

/// The names that `listener.security.protocol.map` allows.
fn check_protocols(settings: &Settings, errors: &mut Vec<ConfigError>) -> Vec<String> {
    let mut names = Vec::new();
    for item in parse::parse_list(settings.text(Key::ProtocolMap)) {
        match item.split_once(':') {
            Some((name, "PLAINTEXT")) if !name.is_empty() => names.push(name.to_ascii_uppercase()),
            Some((_, "SSL" | "SASL_PLAINTEXT" | "SASL_SSL")) => {
                errors.push(settings.refuse(Key::ProtocolMap, item, "PLAINTEXT: the others are not implemented yet"));
            }
            _ => errors.push(settings.refuse(Key::ProtocolMap, item, "NAME:PLAINTEXT")),
        }
    }
    names
}

fn check_endpoints(settings: &Settings, key: Key, names: &[String], errors: &mut Vec<ConfigError>) -> Vec<Endpoint> {
    let mut endpoints: Vec<Endpoint> = Vec::new();
    for item in parse::parse_list(settings.text(key)) {
        let (name, address) = item.split_once("://").unwrap_or(("PLAINTEXT", item));
        let name = name.to_ascii_uppercase();
        let Some((host, port)) = parse::parse_host_port(address) else {
            errors.push(settings.refuse(key, item, "NAME://host:port or host:port"));
            continue;
        };
        if !names.contains(&name) {
            errors.push(settings.refuse(key, item, "a name that listener.security.protocol.map holds"));
        } else if endpoints.iter().any(|other| other.name == name) {
            errors.push(settings.refuse(key, item, "each listener name once"));
        } else if key == Key::AdvertisedListeners && (port == 0 || is_wildcard(&host)) {
            errors.push(settings.refuse(key, item, "a host and a port that clients can connect to"));
        } else {
            endpoints.push(Endpoint { name, host, port });
        }
    }
    endpoints
}

fn is_wildcard(host: &str) -> bool {
    host.is_empty() || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified())
}

/// The address to bind. Names are resolved here, once: resolving one on a shard would block it.
fn find_address(endpoint: &Endpoint) -> Option<SocketAddr> {
    let host = if endpoint.host.is_empty() { "0.0.0.0" } else { endpoint.host.as_str() };
    (host, endpoint.port).to_socket_addrs().ok()?.next()
}
