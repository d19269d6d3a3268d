//! Decoding requests and encoding responses: the messages that a busy broker sees all the time.
//!
//! Requests are decoded from whole frames, header included, as a connection does it. Responses are built before and encoded
//! into a writer that keeps its memory, as that of a connection does. Every message has the highest version that we serve,
//! except Produce, of which librdkafka's is taken: it names topics instead of numbering them.
#![expect(clippy::unwrap_used, reason = "a bench that cannot go on fails")]

use std::hint::black_box;

use millrace_microbench::inputs::BatchShape;
use millrace_microbench::{Benchmarks, Work};
use millrace_protocol::fetch_response::{FetchAnswer, Piece, encode_fetch_response};
use millrace_protocol::frame::{LENGTH_BYTES, encode_request, encode_response};
use millrace_protocol::header::RequestHead;
use millrace_protocol::messages::api_versions::{ApiVersion, ApiVersionsRequest, ApiVersionsResponse};
use millrace_protocol::messages::fetch::{
    FetchPartition, FetchRequest, FetchResponse, FetchTopic, FetchableTopicResponse, PartitionData,
};
use millrace_protocol::messages::heartbeat::{HeartbeatRequest, HeartbeatResponse};
use millrace_protocol::messages::metadata::{
    MetadataRequest, MetadataRequestTopic, MetadataResponse, MetadataResponseBroker, MetadataResponsePartition,
    MetadataResponseTopic,
};
use millrace_protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic, OffsetCommitResponse,
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use millrace_protocol::messages::produce::{
    PartitionProduceData, PartitionProduceResponse, ProduceRequest, ProduceResponse, TopicProduceData,
    TopicProduceResponse,
};
use millrace_protocol::produce::ProducePositions;
use millrace_protocol::wire::{Message, Reader, Request, Uuid, Writer};

const TOPIC: &str = "sensor-readings";
const GROUP: &str = "dashboard";
const MEMBER: &str = "dashboard-1-0d3c9f6e-4b0a-4b7c-9a43-1f1a2f1f6f0e";
const TOPIC_ID: Uuid = Uuid([7; 16]);

const PRODUCE: i16 = 12;
const FETCH: i16 = FetchRequest::VERSIONS.max;
const METADATA: i16 = MetadataRequest::VERSIONS.max;
const API_VERSIONS: i16 = ApiVersionsRequest::VERSIONS.max;
const OFFSET_COMMIT: i16 = OffsetCommitRequest::VERSIONS.max;
const HEARTBEAT: i16 = HeartbeatRequest::VERSIONS.max;

/// APIs that the broker advertises, about.
const API_COUNT: i16 = 40;

fn main() {
    Benchmarks::run(|benchmarks| {
        for (name, partition_count) in [("1 partition", 1), ("100 partitions", 100)] {
            let work = Work::of(partition_count, "partition");
            let partitions = || (0..).take(partition_count);
            produce(benchmarks, name, work, partitions);
            fetch(benchmarks, name, work, partitions);
            metadata(benchmarks, name, work, partitions);
            offset_commit(benchmarks, name, work, partitions);
        }
        small(benchmarks);
    });
}

fn produce<P: Iterator<Item = i32>>(
    benchmarks: &mut Benchmarks,
    name: &str,
    work: Work,
    partitions: impl Fn() -> P + Copy,
) {
    let request = || {
        let batch = BatchShape::SINGLE.build();
        let data = |index| PartitionProduceData { index, records: Some(&batch) };
        let partition_data = partitions().map(data).collect();
        let topic = TopicProduceData { name: TOPIC, partition_data, ..TopicProduceData::default() };
        frame(
            PRODUCE,
            &ProduceRequest { acks: -1, timeout_ms: 30_000, topic_data: vec![topic], ..ProduceRequest::default() },
        )
    };
    let input = || (request(), ProducePositions::default());
    benchmarks.on_shared_input(&format!("codec/produce/decode {name}"), work, input, |(frame, positions)| {
        let mut reader = body(frame);
        positions.decode(&mut reader, PRODUCE).unwrap();
        positions.partitions.len()
    });
    encoding(benchmarks, &format!("codec/produce/encode {name}"), work, PRODUCE, || {
        let respond = |index| PartitionProduceResponse {
            index,
            base_offset: 123_456_789,
            log_append_time_ms: -1,
            ..PartitionProduceResponse::default()
        };
        let partition_responses = partitions().map(respond).collect();
        let topic = TopicProduceResponse { name: TOPIC, partition_responses, ..TopicProduceResponse::default() };
        ProduceResponse { responses: vec![topic], ..ProduceResponse::default() }
    });
}

fn fetch<P: Iterator<Item = i32>>(
    benchmarks: &mut Benchmarks,
    name: &str,
    work: Work,
    partitions: impl Fn() -> P + Copy,
) {
    let request = || {
        let ask = |partition| FetchPartition {
            partition,
            fetch_offset: 123_456_789,
            partition_max_bytes: 1 << 20,
            ..FetchPartition::default()
        };
        let topic =
            FetchTopic { topic_id: TOPIC_ID, partitions: partitions().map(ask).collect(), ..FetchTopic::default() };
        frame(
            FETCH,
            &FetchRequest {
                max_wait_ms: 500,
                min_bytes: 1,
                max_bytes: 50 << 20,
                session_id: 4711,
                session_epoch: 12,
                topics: vec![topic],
                ..FetchRequest::default()
            },
        )
    };
    benchmarks.on_shared_input(&format!("codec/fetch/decode {name}"), work, request, |frame| {
        black_box(FetchRequest::decode(&mut body(frame), FETCH).unwrap());
    });
    let response = || {
        let respond = |partition_index| PartitionData {
            partition_index,
            high_watermark: 123_456_999,
            last_stable_offset: 123_456_999,
            ..PartitionData::default()
        };
        let partitions: Vec<_> = partitions().map(respond).collect();
        let records_bytes = vec![262_144; partitions.len()];
        let topic = FetchableTopicResponse { topic_id: TOPIC_ID, partitions, ..FetchableTopicResponse::default() };
        let response = FetchResponse { session_id: 4711, responses: vec![topic], ..FetchResponse::default() };
        (Writer::new(), Vec::<Piece>::new(), response, records_bytes)
    };
    let answer = FetchAnswer { version: FETCH, correlation_id: 7 };
    benchmarks.on_shared_input(
        &format!("codec/fetch/encode {name}"),
        work,
        response,
        |(writer, pieces, response, records_bytes)| {
            writer.clear();
            pieces.clear();
            encode_fetch_response(writer, pieces, answer, response, records_bytes).unwrap()
        },
    );
}

fn metadata<P: Iterator<Item = i32>>(
    benchmarks: &mut Benchmarks,
    name: &str,
    work: Work,
    partitions: impl Fn() -> P + Copy,
) {
    let request = || {
        let topic = |_| MetadataRequestTopic { name: Some(TOPIC), ..MetadataRequestTopic::default() };
        frame(
            METADATA,
            &MetadataRequest {
                topics: Some(partitions().map(topic).collect()),
                allow_auto_topic_creation: true,
                ..MetadataRequest::default()
            },
        )
    };
    // As many topics as the response has partitions: a request names no partitions.
    benchmarks.on_shared_input(
        &format!("codec/metadata/decode {}", name.replace("partition", "topic")),
        work,
        request,
        |frame| {
            black_box(MetadataRequest::decode(&mut body(frame), METADATA).unwrap());
        },
    );
    encoding(benchmarks, &format!("codec/metadata/encode {name}"), work, METADATA, || {
        let broker = MetadataResponseBroker { node_id: 1, host: "broker-1.example.org", port: 9092, rack: None };
        let partition = |partition_index| MetadataResponsePartition {
            partition_index,
            leader_id: 1,
            replica_nodes: vec![1],
            isr_nodes: vec![1],
            ..MetadataResponsePartition::default()
        };
        let topic = MetadataResponseTopic {
            name: Some(TOPIC),
            topic_id: TOPIC_ID,
            partitions: partitions().map(partition).collect(),
            ..MetadataResponseTopic::default()
        };
        MetadataResponse {
            brokers: vec![broker],
            cluster_id: Some("Tq7Zp3yWRkmn0bC1dE2fGg"),
            controller_id: 1,
            topics: vec![topic],
            ..MetadataResponse::default()
        }
    });
}

fn offset_commit<P: Iterator<Item = i32>>(
    benchmarks: &mut Benchmarks,
    name: &str,
    work: Work,
    partitions: impl Fn() -> P + Copy,
) {
    let request = || {
        let commit = |partition_index| OffsetCommitRequestPartition {
            partition_index,
            committed_offset: 123_456_789,
            committed_metadata: Some(""),
            ..OffsetCommitRequestPartition::default()
        };
        let topic = OffsetCommitRequestTopic {
            topic_id: TOPIC_ID,
            partitions: partitions().map(commit).collect(),
            ..OffsetCommitRequestTopic::default()
        };
        frame(
            OFFSET_COMMIT,
            &OffsetCommitRequest {
                group_id: GROUP,
                generation_id_or_member_epoch: 3,
                member_id: MEMBER,
                topics: vec![topic],
                ..OffsetCommitRequest::default()
            },
        )
    };
    benchmarks.on_shared_input(&format!("codec/offset commit/decode {name}"), work, request, |frame| {
        black_box(OffsetCommitRequest::decode(&mut body(frame), OFFSET_COMMIT).unwrap());
    });
    encoding(benchmarks, &format!("codec/offset commit/encode {name}"), work, OFFSET_COMMIT, || {
        let respond = |partition_index| OffsetCommitResponsePartition { partition_index, error_code: 0 };
        let topic = OffsetCommitResponseTopic {
            topic_id: TOPIC_ID,
            partitions: partitions().map(respond).collect(),
            ..OffsetCommitResponseTopic::default()
        };
        OffsetCommitResponse { topics: vec![topic], ..OffsetCommitResponse::default() }
    });
}

/// Messages without partitions.
fn small(benchmarks: &mut Benchmarks) {
    let work = Work::of(1, "message");
    let heartbeat = || {
        frame(
            HEARTBEAT,
            &HeartbeatRequest { group_id: GROUP, generation_id: 3, member_id: MEMBER, group_instance_id: None },
        )
    };
    benchmarks.on_shared_input("codec/heartbeat/decode", work, heartbeat, |frame| {
        black_box(HeartbeatRequest::decode(&mut body(frame), HEARTBEAT).unwrap());
    });
    encoding(benchmarks, "codec/heartbeat/encode", work, HEARTBEAT, HeartbeatResponse::default);
    let api_versions = || {
        frame(
            API_VERSIONS,
            &ApiVersionsRequest { client_software_name: "librdkafka", client_software_version: "2.11.0" },
        )
    };
    benchmarks.on_shared_input("codec/api versions/decode", work, api_versions, |frame| {
        black_box(ApiVersionsRequest::decode(&mut body(frame), API_VERSIONS).unwrap());
    });
    encoding(benchmarks, "codec/api versions/encode", work, API_VERSIONS, || {
        let api = |api_key| ApiVersion { api_key, min_version: 0, max_version: 12 };
        ApiVersionsResponse { api_keys: (0..API_COUNT).map(api).collect(), ..ApiVersionsResponse::default() }
    });
}

/// The encoding of one response, again and again into the same writer.
fn encoding<M: Message<'static>>(
    benchmarks: &mut Benchmarks,
    name: &str,
    work: Work,
    version: i16,
    response: impl FnOnce() -> M,
) {
    benchmarks.on_shared_input(
        name,
        work,
        || (Writer::new(), response()),
        |(writer, response)| {
            writer.clear();
            encode_response(writer, version, 7, response).unwrap();
        },
    );
}

/// A request as it is received, without its length.
fn frame<'a, R: Request<'a>>(version: i16, request: &R) -> Vec<u8> {
    let mut writer = Writer::new();
    encode_request(&mut writer, version, 7, Some("rdkafka"), request).unwrap();
    writer.into_bytes().split_off(LENGTH_BYTES)
}

/// A reader of a frame that stands behind the header.
fn body(frame: &[u8]) -> Reader<'_> {
    let mut reader = Reader::new(frame);
    black_box(RequestHead::decode(&mut reader).unwrap());
    reader
}
