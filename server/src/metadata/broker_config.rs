//! What a broker may be told while it runs (KIP-226), and what is in force with it.
//!
//! Of the keys that something acts on these are the ones that can change at run time, [`Change::Live`]: what topics fall back
//! on. A change of all others is refused, because it would wait for a restart without anybody's knowledge. Of Kafka's keys
//! without effect those may be told that Kafka takes: they are kept and shown.
//!
//! What this one broker was told wins over what all were told, and that over what the broker was started with.

use std::collections::BTreeMap;

use super::controller::Refusal;
use super::image::Image;
use super::record::NodeId;
use super::topic_config::shorten;
use crate::config::kafka::{self, Class, Known};
use crate::config::keys::{self, Change, Key, Row};
use crate::config::parse::{self, Value};
use crate::config::value_type::ValueType;
use crate::config::{Effective, Origin};

/// Checks one key. `batch_bytes_limit` is the largest batch that the broker can take.
pub fn check(key: &str, value: &str, batch_bytes_limit: u32) -> Result<(), Refusal> {
    let refuse = |why: String| Err(Refusal::InvalidBrokerConfig { key: shorten(key), why });
    if value.len() > VALUE_BYTES_MAX {
        return refuse(format!("the value has more than {VALUE_BYTES_MAX} bytes"));
    }
    if let Some(row) = keys::find(key) {
        if row.change != Change::Live {
            return refuse(STATIC.to_owned());
        }
        return match read(row, value) {
            Ok(Value::Number(0)) if row.key == Key::RetentionMs => refuse("0 is not allowed".to_owned()),
            Ok(Value::Number(bytes)) if row.key == Key::MessageBytesMax && bytes > i64::from(batch_bytes_limit) => {
                refuse(format!("the broker takes batches of up to {batch_bytes_limit} bytes"))
            }
            Ok(_) => Ok(()),
            Err(expected) => refuse(format!("{value:?} is not allowed; expected {expected}")),
        };
    }
    match kafka::find(key) {
        Some(Known { key: known, class: Class::Refused, reason }) if !known.is_default(value) => {
            refuse(reason.to_owned())
        }
        Some(Known { key: known, .. }) if known.change != Change::Live => refuse(STATIC.to_owned()),
        Some(Known { key: known, .. }) => match known.value_type.check(value) {
            Ok(()) => Ok(()),
            Err(expected) => refuse(format!("{value:?} is not allowed; expected {expected}")),
        },
        None => refuse(kafka::find_refusal(key).unwrap_or("there is no such key").to_owned()),
    }
}

/// What a list holds that nobody has told a broker; `None` if the key is no list.
pub fn find_list(key: &str, effective: &[Effective]) -> Option<String> {
    if let Some(row) = keys::find(key) {
        let started_with = effective.iter().find(|setting| setting.key == row.key).map(|setting| setting.value.plain());
        return started_with.filter(|_| row.value_type() == ValueType::List);
    }
    let known = kafka::find(key).filter(|known| known.key.value_type == ValueType::List)?;
    Some(known.key.default.unwrap_or_default().to_owned())
}

/// What a broker was told while it ran.
#[derive(Debug, Clone, Copy)]
pub struct Told<'a> {
    /// With all others.
    pub cluster: &'a BTreeMap<String, String>,
    /// By itself; wins.
    pub broker: &'a BTreeMap<String, String>,
}

impl<'a> Told<'a> {
    /// What `image` has of this.
    pub fn new(image: &'a Image, node: NodeId) -> Self {
        Self { cluster: image.broker_config(None), broker: image.broker_config(Some(node)) }
    }
}

/// The broker's keys, with what it was told in place of what it was started with.
pub fn in_force(effective: &[Effective], told: Told<'_>) -> Vec<Effective> {
    let mut in_force = effective.to_vec();
    for (config, origin) in [(told.cluster, Origin::Cluster), (told.broker, Origin::Broker)] {
        for setting in &mut in_force {
            if let Some(value) = find_told(keys::row(setting.key), config) {
                *setting = Effective { key: setting.key, value, origin };
            }
        }
    }
    in_force
}

/// What a broker was told of a key. A value that is not legal, which only a log of other rules can hold, counts as not told.
pub fn find_told(row: &Row, config: &BTreeMap<String, String>) -> Option<Value> {
    let text = config.get(row.name).filter(|_| row.change == Change::Live)?;
    read(row, text).ok()
}

fn read(row: &Row, text: &str) -> Result<Value, String> {
    parse::parse_value(row.kind, text.trim())
}

/// As for topics.
const VALUE_BYTES_MAX: usize = 1024;
const STATIC: &str = "it is set where the broker is started and cannot be changed while it runs";
