//! What the user wrote, gathered from the file and the command line and not yet believed.
//!
//! [`RawConfig`] keeps the text of every key together with where it came from; whether the text makes sense is decided in
//! `config/check`. The command line wins over the file. A key that is said twice in one place is an error, because the
//! writer of the second cannot have meant the first.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use super::ConfigError;
use super::kafka;
use super::keys::{self, Kind};

/// Where a value came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// The file given with `--config`.
    File,
    /// An option of the command line.
    Option(&'static str),
    /// All brokers were told while they ran.
    Cluster,
    /// This broker was told while it ran.
    Broker,
}

/// One key as the user wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawValue {
    /// The value's text; lists are joined with commas.
    pub text: String,
    /// Where it was written.
    pub origin: Origin,
}

/// Everything the user wrote.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RawConfig {
    pub(super) values: BTreeMap<String, RawValue>,
    pub(super) errors: Vec<ConfigError>,
}

impl RawConfig {
    /// An empty one: everything has its default.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads the TOML file at `path` and adds its keys.
    pub fn read_file(&mut self, path: &Path) {
        match std::fs::read_to_string(path) {
            Ok(text) => self.add_file(&text, &path.display().to_string()),
            Err(error) => {
                self.errors.push(ConfigError::File { path: path.display().to_string(), problem: error.to_string() });
            }
        }
    }

    /// Adds the keys of a TOML document that was called `path`.
    pub fn add_file(&mut self, text: &str, path: &str) {
        match text.parse::<toml::Table>() {
            Ok(table) => {
                // Depth is bounded by the parser, which refuses documents nested deeper than 80 levels.
                self.add_table("", &table);
            }
            Err(error) => {
                let problem = error.to_string().trim_end().to_owned();
                self.errors.push(ConfigError::File { path: path.to_owned(), problem });
            }
        }
    }

    /// Adds one key that the option `option` of the command line set.
    pub fn add_option(&mut self, option: &'static str, key: &str, value: &str) {
        self.add(key, value.to_owned(), Origin::Option(option));
    }

    /// Adds the argument of `--set`.
    pub fn add_assignment(&mut self, assignment: &str) {
        match assignment.split_once('=') {
            Some((key, value)) => self.add_option("--set", key.trim(), value.trim()),
            None => self.errors.push(ConfigError::Assignment { text: assignment.to_owned() }),
        }
    }

    fn add_table(&mut self, prefix: &str, table: &toml::Table) {
        for (name, value) in table {
            let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
            match value {
                toml::Value::Table(inner) => self.add_table(&key, inner),
                toml::Value::Array(items) => {
                    let items: Vec<String> = items.iter().map(scalar_text).collect();
                    self.add(&key, items.join(","), Origin::File);
                }
                scalar => self.add(&key, scalar_text(scalar), Origin::File),
            }
        }
    }

    fn add(&mut self, key: &str, text: String, origin: Origin) {
        if let Some(earlier) = self.values.get(key) {
            let both_in_file = earlier.origin == Origin::File && origin == Origin::File;
            let both_on_command_line = earlier.origin != Origin::File && origin != Origin::File;
            if both_in_file || both_on_command_line {
                let (first, second) = (earlier.origin, origin);
                self.errors.push(ConfigError::Twice { key: key.to_owned(), first, second });
                return;
            }
            if origin == Origin::File {
                return;
            }
        }
        self.values.insert(key.to_owned(), RawValue { text, origin });
    }
}

/// A value that is of its key's kind and inside its bounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Of [`Kind::Flag`].
    Flag(bool),
    /// Of [`Kind::Number`] or [`Kind::Bytes`].
    Number(i64),
    /// Of [`Kind::Ratio`], [`Kind::Word`], [`Kind::Words`] or [`Kind::Text`].
    Text(String),
    /// Of a number that nobody has set and that has no default.
    Unset,
}

impl Value {
    /// The value as it may be written after `key=`; empty when it is not set.
    pub fn plain(&self) -> String {
        match self {
            Self::Flag(flag) => flag.to_string(),
            Self::Number(number) => number.to_string(),
            Self::Text(text) => text.clone(),
            Self::Unset => String::new(),
        }
    }
}

/// Parses `text` as the value of a key of this kind. The error says what would have been right.
pub fn parse_value(kind: Kind, text: &str) -> Result<Value, String> {
    match kind {
        Kind::Flag => match text.to_ascii_lowercase().as_str() {
            "true" => Ok(Value::Flag(true)),
            "false" => Ok(Value::Flag(false)),
            _ => Err("`true` or `false`".to_owned()),
        },
        Kind::Number { min, max } => {
            let number = text.parse::<i64>().ok().filter(|number| (min..=max).contains(number));
            let expected = if min == max { format!("{min}") } else { format!("a whole number from {min} to {max}") };
            number.map(Value::Number).ok_or(expected)
        }
        Kind::Bytes { min, max } => parse_bytes(text)
            .filter(|number| (min..=max).contains(number))
            .map(Value::Number)
            .ok_or_else(|| format!("{min} to {max} bytes (KiB, MiB and GiB are understood)")),
        Kind::Ratio => {
            let ratio = text.trim().parse::<f64>().ok().filter(|ratio| (0.0..=1.0).contains(ratio));
            ratio.map(|_| Value::Text(text.trim().to_owned())).ok_or_else(|| "a number from 0 to 1".to_owned())
        }
        Kind::Words(words) if parse_list(text).all(|word| words.contains(&word)) => Ok(Value::Text(text.to_owned())),
        Kind::Words(words) => Err(format!("any of: {}", words.join(", "))),
        Kind::Word(words) if words.contains(&text) => Ok(Value::Text(text.to_owned())),
        Kind::Word(words) => Err(format!("one of: {}", words.join(", "))),
        Kind::Text(_) => Ok(Value::Text(text.trim().to_owned())),
    }
}

/// Splits a list as Kafka does: commas, blanks around items ignored, empty items dropped.
pub fn parse_list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty())
}

/// A host and a port, as in `host:port`, `[::1]:port` or `:port` (empty host: every address).
pub fn parse_host_port(text: &str) -> Option<(String, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let port = port.parse().ok()?;
    let host = match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']')?.parse::<std::net::Ipv6Addr>().ok()?.to_string(),
        None if host.contains([':', '/', '[', ']', ' ']) => return None,
        None => host.to_owned(),
    };
    Some((host, port))
}

fn parse_bytes(text: &str) -> Option<i64> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit: i64 = match text[digits.len()..].trim() {
        "" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    digits.parse::<i64>().ok()?.checked_mul(unit)
}

fn scalar_text(value: &toml::Value) -> String {
    match value {
        toml::Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The error for a key that no table has.
pub(super) fn unknown_key(key: &str, origin: Origin) -> ConfigError {
    if let Some(why) = kafka::find_refusal(key) {
        return ConfigError::Refused { key: key.to_owned(), why, origin };
    }
    ConfigError::UnknownKey { key: key.to_owned(), nearest: keys::find_nearest(key), origin }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File => f.write_str("file"),
            Self::Option(option) => f.write_str(option),
            Self::Cluster => f.write_str("set for all brokers"),
            Self::Broker => f.write_str("set for this broker"),
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => write!(f, "{flag}"),
            Self::Number(number) => write!(f, "{number}"),
            Self::Text(text) => write!(f, "{text:?}"),
            Self::Unset => f.write_str("not set"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_and_quoted_names_are_the_same_key() {
        let mut nested = RawConfig::new();
        nested.add_file("socket.request.max.bytes = 1\n[log]\nlevel = \"warn\"\ndirs = [\"a\", \"b\"]", "f");
        let mut quoted = RawConfig::new();
        quoted.add_file("\"socket.request.max.bytes\" = 1\n\"log.level\" = \"warn\"\n\"log.dirs\" = \"a,b\"", "f");
        assert_eq!(nested, quoted);
    }

    #[test]
    fn the_command_line_wins_over_the_file_in_either_order() {
        let mut raw = RawConfig::new();
        raw.add_assignment("node.id = 3");
        raw.add_file("node.id = 2", "f");
        assert_eq!(raw.values["node.id"].text, "3");
        assert!(raw.errors.is_empty());
    }

    #[test]
    fn a_key_said_twice_in_one_place_is_an_error() {
        let mut raw = RawConfig::new();
        raw.add_option("--listen", "listeners", "a:1");
        raw.add_assignment("listeners=b:2");
        raw.add_file("node.id = 2\n\"node\" = 1", "f");
        raw.add_file("\"node.id\" = 2\nnode.id = 2", "f");
        raw.add_assignment("node.id");
        let shown: Vec<String> = raw.errors.iter().map(ToString::to_string).collect();
        assert_eq!(shown.len(), 4, "{shown:?}");
        assert_eq!(shown[0], "listeners: given by --listen and again by --set");
        assert!(shown[1].starts_with("f: TOML parse error at line 2"), "{}", shown[1]);
        assert_eq!(shown[2], "node.id: given by file and again by file");
    }

    #[test]
    fn values_are_parsed_by_kind() {
        let bytes = Kind::Bytes { min: 0, max: 1 << 40 };
        assert_eq!(parse_value(bytes, "2 MiB"), Ok(Value::Number(2 << 20)));
        assert_eq!(parse_value(bytes, "17"), Ok(Value::Number(17)));
        for wrong in ["", "MiB", "1.5", "1 MB", "99999999999999 GiB", "-1"] {
            assert!(parse_value(bytes, wrong).is_err(), "{wrong}");
        }
        assert_eq!(parse_value(Kind::Flag, "TRUE"), Ok(Value::Flag(true)));
        assert!(parse_value(Kind::Flag, "yes").is_err());
        assert!(parse_value(Kind::Number { min: 1, max: 1 }, "2").is_err_and(|expected| expected == "1"));
    }

    #[test]
    fn hosts_and_ports() {
        assert_eq!(parse_host_port("[::1]:9092"), Some(("::1".into(), 9092)));
        assert_eq!(parse_host_port(":9092"), Some((String::new(), 9092)));
        for wrong in ["host", "host:", "host:70000", "::1:9092", "[::1:9092", "[x]:1", "a b:1", "http://a:1"] {
            assert_eq!(parse_host_port(wrong), None, "{wrong}");
        }
    }
}
