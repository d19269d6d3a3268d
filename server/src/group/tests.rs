//! Text scenarios of a coordinator, and what holds for any of them.
//!
//! The scenarios lie in `testdata/groups`. A command is a verb, the name of who asks, and `key=value` words; see
//! [`Scene::run`]. Member ids are written `name#n`: the client's name and the number of the id that was made. After every
//! command the coordinator that reads the stored records back must know the same offsets, and the same of a group of KIP-848.
//! Topics are made by `topic`; a partition of the first one is written `1/0` where it goes by the topic's id.

mod consumer;
mod consumer_random;
mod random;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use millrace_protocol::error_code::ErrorCode;
use millrace_protocol::wire::Uuid;

use super::assignor::Assignor;
use super::coordinator::Coordinator;
use super::records::{Record, Stored};
use super::request::{
    Answer, Commit, CommitOffset, Fetch, FetchedOffset, GroupRequest, Join, JoinProtocol, Leaver, Membership, Question,
    Sync, TopicPartition, WantedOffset,
};
use super::{ConsumerSettings, MigrationPolicy, Moment, Now, Outcome, Settings, Token};
use crate::metadata::Image;
use crate::scenarios;

#[test]
fn scenarios() {
    scenarios::run_all("groups", || Scene::new(settings()), Scene::run);
}

pub(super) fn settings() -> Settings {
    Settings {
        session_timeout_min_ms: 6_000,
        session_timeout_max_ms: 1_800_000,
        initial_rebalance_delay_ms: 3_000,
        member_count_max: 3,
        offset_metadata_bytes_max: 16,
        offset_retention_ms: 7 * 24 * 3_600_000,
        offset_check_interval_ms: 600_000,
        record_bytes_max: 4_000,
        consumer: ConsumerSettings {
            session_timeout_ms: 45_000,
            heartbeat_interval_ms: 5_000,
            member_count_max: 3,
            assignors: vec![Assignor::Uniform, Assignor::Range],
            migration: MigrationPolicy::Bidirectional,
        },
    }
}

/// A coordinator with everything that was stored.
pub(super) struct Scene {
    pub(super) coordinator: Coordinator,
    settings: Settings,
    pub(super) image: Image,
    pub(super) now: Now,
    stored: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Who asked, by the number of the question.
    askers: Vec<String>,
    id_count: u128,
    topic_count: u8,
    room_bytes: usize,
}

/// The words of a command.
struct Words<'a> {
    verb: &'a str,
    name: &'a str,
    values: BTreeMap<&'a str, &'a str>,
}

impl<'a> Words<'a> {
    fn parse(command: &'a str) -> Self {
        let mut words = command.split(' ');
        let verb = words.next().unwrap();
        let (mut name, mut values) = ("", BTreeMap::new());
        for word in words {
            match word.split_once('=') {
                Some((key, value)) => drop(values.insert(key, value)),
                None => name = word,
            }
        }
        Self { verb, name, values }
    }

    fn text(&self, key: &str) -> String {
        self.values.get(key).copied().unwrap_or_default().to_owned()
    }

    fn option(&self, key: &str) -> Option<String> {
        self.values.get(key).map(|value| (*value).to_owned())
    }

    fn number<T: std::str::FromStr<Err: std::fmt::Debug>>(&self, key: &str, default: T) -> T {
        self.values.get(key).map_or(default, |value| value.parse().unwrap())
    }

    fn list(&self, key: &str) -> Vec<&'a str> {
        self.values.get(key).into_iter().flat_map(|value| value.split(',')).collect()
    }
}

impl Scene {
    pub(super) fn new(settings: Settings) -> Self {
        let now = Now { steady_ms: 0, unix_ms: 1_000_000_000_000 };
        let coordinator = Coordinator::new(settings.clone(), now);
        let (stored, askers) = (BTreeMap::new(), Vec::new());
        Self {
            coordinator,
            settings,
            image: Image::new(),
            now,
            stored,
            askers,
            id_count: 0,
            topic_count: 0,
            room_bytes: 1 << 20,
        }
    }

    fn run(&mut self, command: &str) -> String {
        let words = Words::parse(command);
        let mut printed = match words.verb {
            "wait" => self.wait(words.name.parse().unwrap()),
            "reload" => {
                self.reload();
                String::new()
            }
            "topic" => {
                self.set_topic(words.name, words.number("partitions", 1));
                String::new()
            }
            "untopic" => {
                self.remove_topic(words.name);
                let outcome = self.coordinator.forget_topic(words.name);
                self.take(outcome)
            }
            "policy" => {
                self.settings.consumer.migration = MigrationPolicy::parse(words.name);
                self.reload();
                String::new()
            }
            "room" => {
                self.room_bytes = words.name.parse().unwrap();
                String::new()
            }
            "list" => {
                let line = |group: super::request::ListedGroup| {
                    format!("{} {} {:?} {}\n", group.group, group.state, group.protocol_type, group.group_type)
                };
                self.coordinator.list().map(line).collect()
            }
            "forget-topic" => {
                let outcome = self.coordinator.forget_topic(words.name);
                self.take(outcome)
            }
            "cancel" => {
                let number = self.askers.iter().rposition(|asker| asker == words.name).unwrap();
                let token = Token { source: 0, number: u64::try_from(number).unwrap() };
                let outcome = self.cancel(token);
                self.take(outcome)
            }
            _ => {
                let question = self.question(&words);
                let group = words.option("group").unwrap_or_else(|| "g".to_owned());
                let outcome = self.ask(words.name, GroupRequest { group, question });
                self.take(outcome)
            }
        };
        for number in 1..=self.id_count {
            let hex = format!("{number:032x}");
            let id = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-");
            printed = printed.replace(&format!("-{id}"), &format!("#{number}"));
        }
        self.check_read_back();
        printed
    }

    /// Puts a question of `name`.
    pub(super) fn ask(&mut self, name: &str, request: GroupRequest) -> Outcome {
        let token = Token { source: 0, number: u64::try_from(self.askers.len()).unwrap() };
        self.askers.push(name.to_owned());
        self.coordinator.handle(Moment { now: self.now, image: &self.image }, token, request, self.room_bytes)
    }

    pub(super) fn fresh_id(&mut self) -> u128 {
        self.id_count += 1;
        self.id_count
    }

    /// Lets time pass, stopping wherever something is due.
    fn wait(&mut self, ms: i64) -> String {
        let (end_ms, mut printed) = (self.now.steady_ms + ms, String::new());
        while self.coordinator.next_deadline_ms() <= end_ms {
            let pause_ms = (self.coordinator.next_deadline_ms() - self.now.steady_ms).max(0);
            self.advance(pause_ms);
            let outcome = self.expire();
            printed += &self.take(outcome);
        }
        self.advance(end_ms - self.now.steady_ms);
        printed
    }

    pub(super) fn advance(&mut self, ms: i64) {
        self.now = Now { steady_ms: self.now.steady_ms + ms, unix_ms: self.now.unix_ms + ms };
    }

    fn reload(&mut self) {
        self.coordinator = self.read_back();
        self.coordinator.resume(self.now);
    }

    fn read_back(&self) -> Coordinator {
        let mut coordinator = Coordinator::new(self.settings.clone(), self.now);
        for (key, value) in &self.stored {
            coordinator.replay(key, Some(value)).unwrap();
        }
        coordinator
    }

    /// Whoever reads the records back knows the same offsets.
    pub(super) fn check_read_back(&mut self) {
        let mut other = self.read_back();
        let token = Token { source: 9, number: 9 };
        let names: Vec<_> = self.coordinator.list().map(|group| group.group).collect();
        for group in names {
            let ask = || GroupRequest { group: group.clone(), question: Question::Fetch(Fetch::default()) };
            let at = Moment { now: self.now, image: &self.image };
            let answers = self.coordinator.handle(at, token, ask(), 0).answers;
            assert_eq!(answers, other.handle(at, token, ask(), 0).answers);
            assert_eq!(self.coordinator.essence(&group), other.essence(&group));
        }
    }

    /// Stores the records and tells what they and the answers are.
    pub(super) fn take(&mut self, outcome: Outcome) -> String {
        let mut printed = String::new();
        for Record { key, value } in outcome.records {
            writeln!(printed, "{}", describe_record(&key, value.as_deref())).unwrap();
            match value {
                Some(value) => self.stored.insert(key, value),
                None => self.stored.remove(&key),
            };
        }
        for (token, answer) in outcome.answers {
            let asker = &self.askers[usize::try_from(token.number).unwrap()];
            writeln!(printed, "{asker}: {}", describe_answer(&answer)).unwrap();
        }
        printed
    }

    /// A member id as a command spells it.
    fn id(text: &str) -> String {
        let Some((name, number)) = text.split_once('#') else { return text.to_owned() };
        let hex = format!("{:032x}", number.parse::<u128>().unwrap());
        let id = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-");
        format!("{name}-{id}")
    }

    fn question(&mut self, words: &Words<'_>) -> Question {
        let member = Membership {
            member_id: Self::id(&words.text("id")),
            instance_id: words.option("instance"),
            generation: words.number("generation", -1),
        };
        let place = |text: &str| {
            let (topic, partition) = text.split_once('/').unwrap();
            TopicPartition { topic: topic.to_owned(), partition: partition.parse().unwrap() }
        };
        match words.verb {
            "join" => Question::Join(self.join(words, member)),
            "heartbeat" => Question::Heartbeat(member),
            "beat" => Question::Beat(Box::new(self.beat(words))),
            "describe" => Question::Describe,
            "describe-consumer" => Question::DescribeConsumer,
            "delete" => Question::Delete,
            "sync" => {
                let part = |text: &str| {
                    let (member_id, assignment) = text.split_once(':').unwrap();
                    let bytes = if assignment.contains('/') {
                        consumer::encode_assignment(assignment)
                    } else {
                        assignment.as_bytes().repeat(words.number("times", 1))
                    };
                    (Self::id(member_id), bytes)
                };
                let assignments = words.list("assign").into_iter().map(part).collect();
                let (protocol_type, protocol) = (words.option("type"), words.option("protocol"));
                Question::Sync(Sync { member, protocol_type, protocol, assignments })
            }
            "leave" => {
                let leaver = |text: &str| {
                    let (member_id, instance) = text.split_once('/').unwrap_or((text, ""));
                    let instance_id = Some(instance.to_owned()).filter(|instance| !instance.is_empty());
                    Leaver { member_id: Self::id(member_id), instance_id }
                };
                Question::Leave(words.list("members").into_iter().map(leaver).collect())
            }
            "commit" => {
                let offset = |text: &str| {
                    let (at, offset) = text.split_once(':').unwrap();
                    CommitOffset {
                        place: place(at),
                        offset: offset.parse().unwrap(),
                        leader_epoch: -1,
                        metadata: words.text("note"),
                        topic_id: Uuid([words.number("topic-id", 0); 16]),
                    }
                };
                let offsets = words.list("offsets").into_iter().map(offset).collect();
                let retention_ms = words.values.get("retention").map(|value| value.parse().unwrap());
                let knows_epochs = words.number("version", 9) >= 9;
                Question::Commit(Commit { member, retention_ms, knows_epochs, offsets })
            }
            "fetch" => {
                let wanted =
                    |text: &str| WantedOffset { place: place(text), topic_id: Uuid([words.number("topic-id", 0); 16]) };
                let wanted: Vec<_> = words.list("offsets").into_iter().map(wanted).collect();
                let wanted = Some(wanted).filter(|wanted| !wanted.is_empty());
                let member = words.values.get("epoch").map(|epoch| (words.text("id"), epoch.parse().unwrap()));
                Question::Fetch(Fetch { member, wanted })
            }
            "delete-offsets" => Question::DeleteOffsets(words.list("offsets").into_iter().map(place).collect()),
            verb => panic!("no such command: {verb}"),
        }
    }

    fn join(&mut self, words: &Words<'_>, member: Membership) -> Join {
        let protocols = words.option("protocols").unwrap_or_else(|| "range".to_owned());
        let topics = words.list("topics");
        let metadata = if topics.is_empty() {
            words.text("meta").into_bytes()
        } else {
            consumer::subscription(&topics, &words.list("owned"))
        };
        let protocol = |name: &str| JoinProtocol { name: name.to_owned(), metadata: metadata.clone() };
        let protocols = protocols.split(',').filter(|name| !name.is_empty()).map(protocol).collect();
        let version = words.number("version", 9);
        let fresh_id = self.fresh_id();
        Join {
            member_id: member.member_id,
            instance_id: member.instance_id,
            client_id: words.name.to_owned(),
            client_host: "/10.0.0.1".to_owned(),
            session_timeout_ms: words.number("session", 10_000),
            rebalance_timeout_ms: words.number("rebalance", 60_000),
            protocol_type: words.option("type").unwrap_or_else(|| "consumer".to_owned()),
            protocols,
            requires_known_member: version >= 4,
            can_skip_assignment: version >= 9,
            fresh_id,
        }
    }
}

fn describe_record(key: &[u8], value: Option<&[u8]>) -> String {
    match Stored::parse(key, value).unwrap() {
        Stored::Offset(key, Some(value)) => {
            format!("stores {}: {}/{} = {}", key.group, key.topic, key.partition, value.offset)
        }
        Stored::Offset(key, None) => format!("removes {}: {}/{}", key.group, key.topic, key.partition),
        Stored::Group(key, Some(value)) => {
            let members: Vec<_> = value.members.iter().map(|member| member.member_id).collect();
            format!("stores {}: generation {} of [{}]", key.group, value.generation, members.join(" "))
        }
        Stored::Group(key, None) => format!("removes {}", key.group),
        Stored::Consumer(group, stored) => consumer::describe_record(group, &stored),
        Stored::Unknown(kind) => panic!("nobody writes kind {kind}"),
    }
}

fn describe_answer(answer: &Answer) -> String {
    let names = |errors: &[ErrorCode]| errors.iter().map(|error| error.name()).collect::<Vec<_>>().join(" ");
    match answer {
        Answer::Refused(error) => error.name().to_owned(),
        Answer::MemberIdRequired { member_id } => format!("MEMBER_ID_REQUIRED {member_id}"),
        Answer::Joined(joined) => {
            let members: Vec<_> = joined.members.iter().map(|member| member.member_id.as_str()).collect();
            let skip = if joined.skip_assignment { " skip" } else { "" };
            format!(
                "joined generation {} as {}, protocol {}, leader {}{skip} [{}]",
                joined.generation,
                joined.member_id,
                joined.protocol,
                joined.leader,
                members.join(" ")
            )
        }
        Answer::Synced(synced) => {
            let part = consumer::describe_assignment(&synced.assignment);
            format!("synced {} {} {part}", synced.protocol_type, synced.protocol)
        }
        Answer::Alive => "alive".to_owned(),
        Answer::Beaten(beaten) => consumer::describe_beaten(beaten),
        Answer::ConsumerDescribed(described) => consumer::describe(described),
        Answer::Left(left) => names(&left.iter().map(|left| left.error).collect::<Vec<_>>()),
        Answer::Committed(errors) | Answer::OffsetsDeleted(errors) => names(errors),
        Answer::Fetched(offsets) => {
            let offset =
                |offset: &FetchedOffset| format!("{}/{}={}", offset.place.topic, offset.place.partition, offset.offset);
            format!("[{}]", offsets.iter().map(offset).collect::<Vec<_>>().join(" "))
        }
        Answer::Described(described) => {
            let members: Vec<_> = described.members.iter().map(|member| member.member_id.as_str()).collect();
            let (state, protocol) = (described.state, &described.protocol);
            format!("{state} {:?} {protocol:?} [{}]", described.protocol_type, members.join(" "))
        }
        Answer::Deleted => "deleted".to_owned(),
    }
}
