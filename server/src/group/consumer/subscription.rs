//! Which topics a group reads: by name, and by regular expression.
//!
//! Expressions are those of the `regex` crate, which like Kafka's RE2 takes time linear in the name. They match whole names.
//! Kafka looks for topics in the background; here it is done in the step that needs it: at once when an expression is new,
//! and when there are other topics, but then not more often than [`REGEX_INTERVAL_MS`]. Sizes are bounded.

use std::collections::{BTreeMap, BTreeSet};

use millrace_engine::model::TopicId;
use millrace_protocol::error_code::ErrorCode;
use millrace_protocol::wire::Uuid;
use regex::{Regex, RegexBuilder};

use super::{Consumer, Resolved};
use crate::group::Step;
use crate::group::assignor::{Work, Worker};
use crate::group::records::{ConsumerKey, Record};
use crate::metadata::Image;
use crate::metadata::image::Topic;

/// The id as the protocol has it.
pub(super) fn uuid(topic: TopicId) -> Uuid {
    Uuid(*topic.as_bytes())
}

/// The expression, made so that it matches whole names.
pub(super) fn compile(expression: &str) -> Result<Regex, ErrorCode> {
    let invalid = |_| ErrorCode::InvalidRegularExpression;
    if expression.len() > REGEX_BYTES_MAX {
        return Err(ErrorCode::InvalidRegularExpression);
    }
    let build = |text: &str| {
        let mut builder = RegexBuilder::new(text);
        builder.size_limit(COMPILED_BYTES_MAX).dfa_size_limit(COMPILED_BYTES_MAX).nest_limit(NEST_COUNT_MAX);
        builder.build().map_err(invalid)
    };
    // By itself first: `a)(b` is none, whatever stands around it.
    build(expression)?;
    build(&format!(r"\A(?:{expression})\z"))
}

impl Consumer {
    /// Brings expressions and the hash of the topics up to date. Whether the group's epoch is to grow.
    pub(super) fn refresh(&mut self, step: &mut Step<'_>, is_changed: bool) -> bool {
        let index = step.image.applied_index();
        let is_regex_due = !self.regexes.is_empty()
            && self.regex_index != Some(index)
            && (self.regex_index.is_none() || step.now.steady_ms >= self.regex_steady_ms + REGEX_INTERVAL_MS);
        let mut is_grown = is_changed;
        if is_changed || is_regex_due {
            is_grown |= self.resolve_all(step, is_regex_due);
        }
        if is_grown || self.hash_index != Some(index) {
            let hash = hash(self.topics(step.image).values());
            is_grown |= hash != self.metadata_hash;
            self.metadata_hash = hash;
            self.hash_index = Some(index);
        }
        is_grown
    }

    /// Looks for the topics of new expressions, or of all, and forgets those that nobody reads by. Whether any changed.
    fn resolve_all(&mut self, step: &mut Step<'_>, is_due: bool) -> bool {
        let used = self.members.values().filter_map(|member| member.profile.regex.clone());
        let used: BTreeSet<_> = used.collect();
        let unused: Vec<_> = self.regexes.keys().filter(|regex| !used.contains(*regex)).cloned().collect();
        for regex in unused {
            step.outcome.records.push(Record::consumer_gone(step.group, ConsumerKey::Regex(&regex)));
            self.regexes.remove(&regex);
        }
        let mut is_changed = false;
        let is_first = self.regexes.is_empty();
        for regex in used {
            if self.regexes.contains_key(&regex) && !is_due {
                continue;
            }
            let resolved = Resolved { topics: find_topics(&regex, step.image) };
            if self.regexes.get(&regex) != Some(&resolved) {
                self.regexes.insert(regex.clone(), resolved);
                self.store_regex(step, &regex);
                is_changed = true;
            }
        }
        if is_due || is_first {
            self.regex_index = Some(step.image.applied_index());
            self.regex_steady_ms = step.now.steady_ms;
        }
        is_changed
    }

    /// The topics that are there and read, by name.
    pub(super) fn topics<'i>(&self, image: &'i Image) -> BTreeMap<&'i str, &'i Topic> {
        let names = self.members.values().flat_map(|member| &member.profile.names);
        let matched = self.regexes.values().flat_map(|resolved| &resolved.topics);
        let mut topics = BTreeMap::new();
        for name in names.chain(matched) {
            if !topics.contains_key(name.as_str())
                && let Some(topic) = image.find_topic_by_name(name)
            {
                topics.insert(topic.name.as_str(), topic);
            }
        }
        topics
    }

    /// What is to be shared out, and among whom, in the order of the members.
    pub(super) fn work<'m>(&'m self, image: &Image) -> Work<'m> {
        let topics = self.topics(image).into_values();
        let topics = topics.map(|topic| (uuid(topic.id), partition_count(topic))).collect();
        let (mut subscriptions, mut known) = (Vec::new(), BTreeMap::new());
        let mut members = Vec::with_capacity(self.members.len());
        for (member_id, member) in &self.members {
            let said = (&member.profile.names, &member.profile.regex);
            let subscription = *known.entry(said).or_insert_with(|| {
                let matched = said.1.iter().filter_map(|regex| self.regexes.get(regex));
                let names = said.0.iter().chain(matched.flat_map(|resolved| &resolved.topics));
                let found = names.filter_map(|name| image.find_topic_by_name(name)).map(|topic| uuid(topic.id));
                let found: BTreeSet<_> = found.collect();
                subscriptions.iter().position(|other| *other == found).unwrap_or_else(|| {
                    subscriptions.push(found);
                    subscriptions.len() - 1
                })
            });
            let name = member.profile.instance_id.as_deref().unwrap_or(member_id);
            members.push(Worker { name, subscription, previous: &member.target });
        }
        Work { topics, subscriptions, members }
    }
}

/// The topics whose names match.
pub(super) fn find_topics(expression: &str, image: &Image) -> BTreeSet<String> {
    // What was stored by a program with other limits matches nothing.
    let Ok(regex) = compile(expression) else { return BTreeSet::new() };
    image.topics().map(|topic| &topic.name).filter(|name| regex.is_match(name)).cloned().collect()
}

pub(super) fn partition_count(topic: &Topic) -> i32 {
    i32::try_from(topic.partitions.len()).expect("bounded by TOPIC_PARTITION_COUNT_MAX")
}

/// FNV-1a over what members must hear of: the value means nothing but that something changed.
fn hash<'i>(topics: impl Iterator<Item = &'i &'i Topic>) -> i64 {
    let mut hash = FNV_START;
    let mut take = |bytes: &[u8]| {
        for byte in bytes {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(FNV_PRIME);
        }
    };
    let mut is_any = false;
    for topic in topics {
        take(topic.id.as_bytes());
        take(&partition_count(topic).to_be_bytes());
        is_any = true;
    }
    // No topics is no hash, as in Kafka.
    if is_any { i64::from_be_bytes(hash.to_be_bytes()) } else { 0 }
}

const FNV_START: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0100_0000_01b3;
/// How often at most topics are looked for because there are others.
const REGEX_INTERVAL_MS: i64 = 10_000;
/// Longest expression.
const REGEX_BYTES_MAX: usize = 4096;
/// Memory of a compiled one, and of what it keeps while it runs.
const COMPILED_BYTES_MAX: usize = 1 << 20;
const NEST_COUNT_MAX: u32 = 50;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_match_whole_names_and_are_bounded() {
        let matches = |expression: &str, name: &str| compile(expression).unwrap().is_match(name);
        assert!(matches("we.*|rain", "weather") && matches("we.*|rain", "rain"));
        assert!(!matches("we.*|rain", "beweather") && !matches("we.*|rain", "rainy") && !matches("^ther", "weather"));
        for invalid in ["(", "a)(b", "(?=x)", r"(a)\1", &"a".repeat(5000), "(((a{100}){100}){100})", "(?x)a#"] {
            assert_eq!(compile(invalid).err(), Some(ErrorCode::InvalidRegularExpression), "{invalid}");
        }
    }
}
