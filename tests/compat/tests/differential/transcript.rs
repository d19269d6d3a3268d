//! What a broker answered, as text that two brokers can agree on.

use std::collections::BTreeMap;
use std::fmt::Debug;

use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{ApiKey, ApiVersionsRequest, MetadataRequest, TopicName};
use kafka_protocol::protocol::{Request, StrBytes, VersionRange};
use millrace_compat::wire::Connection;
use similar::{Algorithm, capture_diff_slices};

use crate::accepted::Accepted;

/// Steps in their order: what was asked, and the answer's lines.
pub(crate) type Transcript = Vec<(String, Vec<String>)>;

/// Fields whose values are the broker's own: times, where it listens, what it calls itself, the words of its errors.
const OWN: &[&str] = &[
    "throttle_time_ms",
    "port",
    "cluster_id",
    "error_message",
    "producer_id",
    "last_timestamp",
    "log_dir",
    "usable_bytes",
];

/// Answers that are lists in no order.
const UNORDERED: &[&str] = &["ListGroups", "DescribeGroups", "DescribeProducers", "ListConfigResources"];

/// A broker that is asked.
pub(crate) struct Peer {
    address: String,
    connection: Connection,
    versions: BTreeMap<i16, (i16, i16)>,
    /// Ids in the order in which they were first seen.
    ids: Vec<String>,
    transcript: Transcript,
}

impl Peer {
    /// Connects and asks which versions there are.
    pub(crate) fn connect(address: &str) -> Peer {
        let mut connection = Connection::open(address);
        let asked = ApiVersionsRequest::default()
            .with_client_software_name(StrBytes::from_static_str("judge"))
            .with_client_software_version(StrBytes::from_static_str("1"));
        let answer = connection.ask(3, &asked).expect("every broker says its versions");
        let versions = answer.api_keys.iter().map(|api| (api.api_key, (api.min_version, api.max_version)));
        let versions = versions.collect();
        Peer { address: address.to_owned(), connection, versions, ids: Vec::new(), transcript: Vec::new() }
    }

    /// Every version of a request that both the broker and the judge's codec know.
    pub(crate) fn versions<R: Request>(&self) -> impl Iterator<Item = i16> + use<R> {
        let key = ApiKey::try_from(R::KEY).expect("the codec knows its own keys");
        let (min, max) = *self.versions.get(&R::KEY).unwrap_or_else(|| panic!("{key:?} is not served"));
        let VersionRange { min: codec_min, max: codec_max } = R::VERSIONS;
        min.max(codec_min)..=max.min(codec_max)
    }

    /// Asks and keeps the answer under the name of the step.
    pub(crate) fn ask<R: Request>(&mut self, step: &str, version: i16, request: &R) -> Option<R::Response>
    where
        R::Response: Debug,
    {
        self.ask_sorted(step, version, request, |_| ())
    }

    /// [`Self::ask`] where an answer has parts in no order: `sort` puts them in one.
    pub(crate) fn ask_sorted<R: Request>(
        &mut self,
        step: &str,
        version: i16,
        request: &R,
        sort: impl Fn(&mut R::Response),
    ) -> Option<R::Response>
    where
        R::Response: Debug,
    {
        let mut response = self.connection.ask(version, request);
        response.iter_mut().for_each(sort);
        self.keep::<R>(step, version, response.as_ref());
        response
    }

    /// Another connection, for requests that are answered only once others were asked as well.
    pub(crate) fn another(&self) -> Connection {
        Connection::open(&self.address)
    }

    /// Waits for the answer to what was sent on `connection`, and keeps it.
    pub(crate) fn answer<R: Request>(
        &mut self,
        connection: &mut Connection,
        step: &str,
        version: i16,
    ) -> Option<R::Response>
    where
        R::Response: Debug,
    {
        let response = connection.receive::<R>(version);
        self.keep::<R>(step, version, response.as_ref());
        response
    }

    fn keep<R: Request>(&mut self, step: &str, version: i16, response: Option<&R::Response>)
    where
        R::Response: Debug,
    {
        let mut lines = match response {
            Some(response) => self.normalise(&format!("{response:#?}")),
            None => vec!["connection closed".to_owned()],
        };
        let key = format!("{:?}", ApiKey::try_from(R::KEY).expect("the codec knows its own keys"));
        if UNORDERED.contains(&key.as_str()) {
            lines.sort();
        }
        self.transcript.push((format!("{key} v{version}: {step}"), lines));
    }

    /// Asks, over and over, until the answer is `done`; keeps nothing. For what takes effect some time after its answer.
    pub(crate) fn settle<R: Request>(&mut self, version: i16, request: &R, done: impl Fn(&R::Response) -> bool) {
        for _ in 0..SETTLE_TRIES {
            let response = self.connection.ask(version, request).expect("the connection stays");
            if done(&response) {
                return;
            }
        }
        panic!("not settled after {SETTLE_TRIES} tries");
    }

    /// Waits until the broker knows `topic` with so many partitions that have leaders; with 0, until it is gone.
    pub(crate) fn settle_topic(&mut self, topic: &str, partition_count: usize) {
        let name = TopicName(StrBytes::from_string(topic.to_owned()));
        let topics = vec![MetadataRequestTopic::default().with_name(Some(name))];
        let request = MetadataRequest::default().with_topics(Some(topics)).with_allow_auto_topic_creation(false);
        self.settle(9, &request, |response| {
            let partitions = &response.topics[0].partitions;
            partitions.len() == partition_count && partitions.iter().all(|partition| partition.error_code == 0)
        });
    }

    /// Everything that was answered.
    pub(crate) fn finish(self) -> Transcript {
        self.transcript
    }

    /// Takes out what two brokers cannot have in common.
    fn normalise(&mut self, text: &str) -> Vec<String> {
        let mut lines = Vec::new();
        let mut source = text.lines();
        while let Some(line) = source.next() {
            let field = line.trim_start().split(':').next().unwrap_or_default();
            let indent = &line[..line.len() - line.trim_start().len()];
            if field == "unknown_tagged_fields" {
                continue;
            }
            if OWN.contains(&field) {
                lines.push(format!("{indent}{field}: _"));
                if line.ends_with("Some(") {
                    // The value, and the closing parenthesis.
                    source.nth(1);
                }
            } else {
                lines.push(self.name_ids(line));
            }
        }
        lines
    }

    /// Puts names in the place of ids, other than the one that is all zeros.
    fn name_ids(&mut self, line: &str) -> String {
        let mut named = line.to_owned();
        let mut start = 0;
        while let Some(found) = find_id(&named[start..]) {
            let place = start + found;
            let id = named[place..place + ID_LENGTH].to_owned();
            start = place + ID_LENGTH;
            if id.chars().any(|letter| !matches!(letter, '0' | '-')) {
                let number = self.ids.iter().position(|known| *known == id).unwrap_or_else(|| {
                    self.ids.push(id.clone());
                    self.ids.len() - 1
                });
                let name = format!("id-{number}");
                named.replace_range(place..start, &name);
                start = place + name.len();
            }
        }
        named
    }
}

/// How often a broker is asked for what it is about to do. Each try is a round trip; Kafka needs a few hundred at most.
const SETTLE_TRIES: usize = 200_000;

const ID_LENGTH: usize = 36;

/// Where the first UUID in `text` stands.
fn find_id(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    (0..=bytes.len().checked_sub(ID_LENGTH)?).find(|start| {
        bytes[*start..start + ID_LENGTH].iter().enumerate().all(|(index, byte)| match index {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
    })
}

/// Steps whose answers differ in a way that nobody listed.
pub(crate) fn compare(ours: &Transcript, theirs: &Transcript, accepted: &mut Accepted) -> Vec<String> {
    let names = |transcript: &Transcript| transcript.iter().map(|(step, _)| step.clone()).collect::<Vec<_>>();
    let (our_names, their_names) = (names(ours), names(theirs));
    let parted = our_names.iter().zip(&their_names).find(|(ours, theirs)| ours != theirs);
    assert!(our_names.len() == their_names.len() && parted.is_none(), "the steps part at {parted:?}");
    let steps = ours.iter().zip(theirs);
    steps.filter_map(|((step, ours), (_, theirs))| difference(step, ours, theirs, accepted)).collect()
}

/// What is told of a step's answers, unless they are the same but for what is listed.
fn difference(step: &str, ours: &[String], theirs: &[String], accepted: &mut Accepted) -> Option<String> {
    let mut told = String::new();
    for change in capture_diff_slices(Algorithm::Myers, theirs, ours) {
        let (theirs, ours) = (&theirs[change.old_range()], &ours[change.new_range()]);
        if ours != theirs && !accepted.accepts(step, ours, theirs) {
            told.extend(ours.iter().flat_map(|line| ["\n  + ", line.trim()]));
            told.extend(theirs.iter().flat_map(|line| ["\n  - ", line.trim()]));
        }
    }
    (!told.is_empty()).then(|| format!("{step}{told}\n"))
}
