//! Configuration keys of single groups (KIP-848, KIP-932, KIP-1071). All of Kafka's are kept and told.
//!
//! Those of consumer groups are within the bounds that Kafka's broker has by default. Share and streams groups are not
//! served, so what is kept for them changes nothing.

use std::fmt::Write as _;

use super::controller::Refusal;
use super::topic_config::shorten;
use crate::config::keys::Kind;
use crate::config::parse;
use crate::config::value_type::ValueType;

/// A key that a group may have.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// Kafka's name of it.
    pub name: &'static str,
    /// What clients are told its values are.
    pub value_type: ValueType,
    /// What it may hold.
    pub kind: Kind,
    /// The broker's key that stands in for it, where Kafka has one.
    pub stand_in: Option<&'static str>,
    /// What it holds when nobody says anything.
    pub default: &'static str,
    /// One line for whoever asks.
    pub doc: &'static str,
}

impl Row {
    const fn int(
        name: &'static str,
        stand_in: &'static str,
        kind: Kind,
        default: &'static str,
        doc: &'static str,
    ) -> Self {
        Self { name, value_type: ValueType::Int, kind, stand_in: Some(stand_in), default, doc }
    }
}

/// The row of the key that is called `name`.
pub fn find(name: &str) -> Option<&'static Row> {
    ROWS.iter().find(|row| row.name == name)
}

/// Checks one key.
pub fn check(key: &str, value: &str) -> Result<(), Refusal> {
    let refuse = |why: String| Err(Refusal::InvalidConfig { key: shorten(key), why });
    let Some(row) = find(key) else { return refuse("unknown group config name".to_owned()) };
    if value.len() > VALUE_BYTES_MAX {
        return refuse(format!("the value has more than {VALUE_BYTES_MAX} bytes"));
    }
    match parse::parse_value(row.kind, value.trim()) {
        Ok(_) => Ok(()),
        Err(expected) => refuse(format!("{value:?} is not allowed; expected {expected}")),
    }
}

/// The reference documentation of the keys, in Markdown.
pub fn describe() -> String {
    let mut text = String::from(
        "\n## Implemented: groups\n\n\
         A group may be given these keys (IncrementalAlterConfigs), be it there or not. They are kept and told; those of share\n\
         and streams groups change nothing.\n\n\
         | Key | Broker's key | Default | Legal values | Meaning |\n|---|---|---|---|---|\n",
    );
    for Row { name, kind, stand_in, default, doc, .. } in ROWS {
        let stand_in = stand_in.map(|name| format!("`{name}`")).unwrap_or_default();
        writeln!(text, "| `{name}` | {stand_in} | `{default}` | {kind} | {doc} |")
            .expect("writing to a String cannot fail");
    }
    text
}

/// Every key, sorted.
pub const ROWS: &[Row] = &[
    Row::int(
        "consumer.assignment.interval.ms",
        "group.consumer.assignment.interval.ms",
        number(0, 15_000),
        "1000",
        "How long the assignments of the group are at least apart.",
    ),
    Row::int(
        "consumer.heartbeat.interval.ms",
        "group.consumer.heartbeat.interval.ms",
        number(5000, 15_000),
        "5000",
        "How often members of the newer protocol send a heartbeat.",
    ),
    Row::int(
        "consumer.session.timeout.ms",
        "group.consumer.session.timeout.ms",
        number(45_000, 60_000),
        "45000",
        "After how long a silent member of the newer protocol is taken out of the group.",
    ),
    Row::int("share.assignment.interval.ms", "group.share.assignment.interval.ms", number(0, 15_000), "1000", SHARE),
    Row {
        name: "share.auto.offset.reset",
        value_type: ValueType::String,
        kind: Kind::Text("`earliest`, `latest` or `by_duration:` with a duration"),
        stand_in: None,
        default: "latest",
        doc: SHARE,
    },
    Row::int("share.delivery.count.limit", "group.share.delivery.count.limit", number(2, 10), "5", SHARE),
    Row::int("share.heartbeat.interval.ms", "group.share.heartbeat.interval.ms", number(5000, 15_000), "5000", SHARE),
    Row {
        name: "share.isolation.level",
        value_type: ValueType::String,
        kind: Kind::Word(&["read_committed", "read_uncommitted"]),
        stand_in: None,
        default: "read_uncommitted",
        doc: SHARE,
    },
    Row::int(
        "share.partition.max.record.locks",
        "group.share.partition.max.record.locks",
        number(100, 4000),
        "2000",
        SHARE,
    ),
    Row::int(
        "share.record.lock.duration.ms",
        "group.share.record.lock.duration.ms",
        number(15_000, 60_000),
        "30000",
        SHARE,
    ),
    Row {
        name: "share.renew.acknowledge.enable",
        value_type: ValueType::Boolean,
        kind: Kind::Flag,
        stand_in: None,
        default: "true",
        doc: SHARE,
    },
    Row::int("share.session.timeout.ms", "group.share.session.timeout.ms", number(45_000, 60_000), "45000", SHARE),
    Row::int(
        "streams.assignment.interval.ms",
        "group.streams.assignment.interval.ms",
        number(0, 15_000),
        "1000",
        STREAMS,
    ),
    Row::int(
        "streams.heartbeat.interval.ms",
        "group.streams.heartbeat.interval.ms",
        number(5000, 15_000),
        "5000",
        STREAMS,
    ),
    Row::int(
        "streams.initial.rebalance.delay.ms",
        "group.streams.initial.rebalance.delay.ms",
        number(0, 2_147_483_647),
        "3000",
        STREAMS,
    ),
    Row::int("streams.num.standby.replicas", "group.streams.num.standby.replicas", number(0, 2), "0", STREAMS),
    Row::int(
        "streams.session.timeout.ms",
        "group.streams.session.timeout.ms",
        number(45_000, 60_000),
        "45000",
        STREAMS,
    ),
];

const fn number(min: i64, max: i64) -> Kind {
    Kind::Number { min, max }
}

/// Enough for any of them; names of groups come from clients, so there may be many.
const VALUE_BYTES_MAX: usize = 64;
const SHARE: &str = "Share groups are not served.";
const STREAMS: &str = "Streams groups are not served.";

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: &str = include_str!("../../tests/data/kafka-4.3.1-configs.txt");

    #[test]
    fn every_group_key_of_kafka_has_its_row() {
        let lines = NAMES.lines().filter_map(|line| line.strip_prefix("group "));
        let named: Vec<_> = lines.map(str::to_owned).collect();
        let kind = |row: &Row| format!("{} {}", row.name, format!("{:?}", row.value_type).to_uppercase());
        assert_eq!(named, ROWS.iter().map(kind).collect::<Vec<_>>());
        for row in ROWS {
            assert_eq!(check(row.name, row.default), Ok(()), "{}", row.name);
        }
    }

    #[test]
    fn values_are_within_kafkas_bounds() {
        for (key, value) in [
            ("consumer.session.timeout.ms", "44999"),
            ("consumer.session.timeout.ms", "x"),
            ("consumer.heartbeat.interval.ms", "60000"),
            ("streams.num.standby.replicas", "9"),
            ("share.isolation.level", "dirty"),
            ("no.such.key", "1"),
        ] {
            assert!(matches!(check(key, value), Err(Refusal::InvalidConfig { .. })), "{key}={value}");
        }
        assert_eq!(check("consumer.session.timeout.ms", "50000"), Ok(()));
        assert_eq!(check("share.auto.offset.reset", "by_duration:PT1H"), Ok(()));
    }
}
