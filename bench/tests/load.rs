//! `millbench produce` and `consume` against a broker of a few lines, which keeps batches in memory.
#![expect(clippy::unwrap_used, reason = "an unwrap of a test is an assertion")]
#![expect(clippy::disallowed_types, reason = "a broker of the test's own, without shards")]

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

use millrace_protocol::api_key::ApiKey;
use millrace_protocol::batch::{BatchView, assign_offsets};
use millrace_protocol::error_code::ErrorCode;
use millrace_protocol::frame::encode_response;
use millrace_protocol::header::RequestHead;
use millrace_protocol::messages::fetch::{FetchRequest, FetchResponse, FetchableTopicResponse, PartitionData};
use millrace_protocol::messages::list_offsets::{
    ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopicResponse,
};
use millrace_protocol::messages::metadata::{
    MetadataRequest, MetadataResponse, MetadataResponsePartition, MetadataResponseTopic,
};
use millrace_protocol::messages::produce::{
    PartitionProduceResponse, ProduceRequest, ProduceResponse, TopicProduceResponse,
};
use millrace_protocol::wire::{Reader, Writer};

const TOPIC: &str = "load";
const PARTITION_COUNT: i32 = 2;

/// Batches of one partition, each with its base offset and the offset behind it.
type Log = Vec<(i64, i64, Vec<u8>)>;

#[derive(Default)]
struct State {
    logs: [Log; 2],
    /// What the next Produce is answered with.
    refusal: Option<ErrorCode>,
}

type Shared = Arc<Mutex<State>>;

/// Starts the broker; it runs until the test's process ends.
fn start_broker(state: &Shared) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let state = Arc::clone(state);
    let accept = move || {
        for stream in listener.incoming() {
            let (stream, state) = (stream.unwrap(), Arc::clone(&state));
            std::thread::Builder::new().spawn(move || serve(stream, &state)).unwrap();
        }
    };
    std::thread::Builder::new().spawn(accept).unwrap();
    address
}

fn serve(mut stream: TcpStream, state: &Shared) {
    let mut length = [0; 4];
    while stream.read_exact(&mut length).is_ok() {
        let mut frame = vec![0; usize::try_from(i32::from_be_bytes(length)).unwrap()];
        stream.read_exact(&mut frame).unwrap();
        let mut reader = Reader::new(&frame);
        let head = RequestHead::decode(&mut reader).unwrap();
        let mut writer = Writer::new();
        answer(&head, &mut reader, &mut writer, &mut state.lock().unwrap());
        stream.write_all(writer.bytes()).unwrap();
    }
}

fn answer(head: &RequestHead<'_>, reader: &mut Reader<'_>, writer: &mut Writer, state: &mut State) {
    let (version, id) = (head.version, head.correlation_id);
    match head.api_key {
        ApiKey::Metadata => {
            let request = MetadataRequest::decode(reader, version).unwrap();
            let name = request.topics.unwrap()[0].name;
            let partition =
                |partition_index| MetadataResponsePartition { partition_index, ..MetadataResponsePartition::default() };
            let partitions = (0..PARTITION_COUNT).map(partition).collect();
            let topics = vec![MetadataResponseTopic { name, partitions, ..MetadataResponseTopic::default() }];
            encode_response(writer, version, id, &MetadataResponse { topics, ..MetadataResponse::default() }).unwrap();
        }
        ApiKey::Produce => {
            let request = ProduceRequest::decode(reader, version).unwrap();
            assert_eq!(request.acks, -1);
            let data = &request.topic_data[0].partition_data[0];
            let answer = state.append(data.index, data.records.unwrap());
            let topic = TopicProduceResponse {
                name: TOPIC,
                partition_responses: vec![answer],
                ..TopicProduceResponse::default()
            };
            let response = ProduceResponse { responses: vec![topic], ..ProduceResponse::default() };
            encode_response(writer, version, id, &response).unwrap();
        }
        ApiKey::ListOffsets => {
            let request = ListOffsetsRequest::decode(reader, version).unwrap();
            let partitions = request.topics[0].partitions.iter().map(|asked| {
                let end = state.logs[usize::try_from(asked.partition_index).unwrap()].last().map_or(0, |last| last.1);
                let offset = if asked.timestamp == -2 { 0 } else { end };
                let partition_index = asked.partition_index;
                ListOffsetsPartitionResponse { partition_index, offset, ..ListOffsetsPartitionResponse::default() }
            });
            let topics = vec![ListOffsetsTopicResponse { name: TOPIC, partitions: partitions.collect() }];
            encode_response(writer, version, id, &ListOffsetsResponse { throttle_time_ms: 0, topics }).unwrap();
        }
        ApiKey::Fetch => {
            let request = FetchRequest::decode(reader, version).unwrap();
            let asked = &request.topics[0].partitions[0];
            let log = &state.logs[usize::try_from(asked.partition).unwrap()];
            let (partition_index, mut records) = (asked.partition, Vec::new());
            for (_, _, bytes) in log.iter().filter(|(_, end, _)| *end > asked.fetch_offset).take(3) {
                records.extend_from_slice(bytes);
            }
            // Cut off in the middle of the last batch, as a broker at its limit may.
            if log.last().is_some_and(|(base, ..)| asked.fetch_offset < *base) {
                records.truncate(records.len() - 10);
            }
            let records = Some(&records[..]);
            let partitions = vec![PartitionData { partition_index, records, ..PartitionData::default() }];
            let responses =
                vec![FetchableTopicResponse { topic: TOPIC, partitions, ..FetchableTopicResponse::default() }];
            encode_response(writer, version, id, &FetchResponse { responses, ..FetchResponse::default() }).unwrap();
        }
        other => panic!("{other:?} is not needed"),
    }
}

impl State {
    fn append(&mut self, index: i32, records: &[u8]) -> PartitionProduceResponse<'static> {
        if let Some(refusal) = self.refusal {
            return PartitionProduceResponse { index, error_code: refusal.code(), ..Default::default() };
        }
        let batch = BatchView::parse_produced(records).unwrap();
        let log = &mut self.logs[usize::try_from(index).unwrap()];
        let base_offset = log.last().map_or(0, |last| last.1);
        let mut bytes = records.to_vec();
        assign_offsets(&mut bytes, base_offset, 0);
        log.push((base_offset, base_offset + i64::from(batch.header().record_count.get()), bytes));
        PartitionProduceResponse { index, base_offset, ..Default::default() }
    }
}

fn millbench(task: &str, address: &str, rest: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_millbench"))
        .args([task, "--bootstrap", address, "--topic", TOPIC])
        .args(rest)
        .output()
        .unwrap()
}

#[test]
fn what_was_produced_is_consumed_to_the_last_byte() {
    let state = Shared::default();
    let address = start_broker(&state);
    let pid = std::process::id().to_string();
    let sizes = ["--bytes", "1M", "--record-bytes", "100", "--batch-bytes", "10000"];
    let produced =
        millbench("produce", &address, &[&sizes[..], &["--connections", "3", "--broker-pid", &pid]].concat());
    let text = String::from_utf8_lossy(&produced.stdout).into_owned();
    assert!(produced.status.success(), "{text}{}", String::from_utf8_lossy(&produced.stderr));
    assert!(text.contains("p99") && text.contains("CPU s/GB"), "{text}");

    let kept: usize = state.lock().unwrap().logs.iter().flatten().map(|(.., bytes)| bytes.len()).sum();
    assert!((1 << 20..(1 << 20) + 10_000).contains(&kept));
    assert!(state.lock().unwrap().logs.iter().all(|log| log.len() > 40), "both partitions are used");
    let first_line = text.lines().next().unwrap();
    assert!(first_line.starts_with(&format!("{kept} bytes, ")), "{text}");

    let consumed = millbench("consume", &address, &["--connections", "2"]);
    let text = String::from_utf8_lossy(&consumed.stdout).into_owned();
    assert!(consumed.status.success(), "{text}{}", String::from_utf8_lossy(&consumed.stderr));
    assert!(text.starts_with(&format!("{kept} bytes, ")), "{text}");
}

#[test]
fn a_refused_batch_and_a_damaged_one_fail_the_run() {
    let state = Shared::default();
    let address = start_broker(&state);
    assert!(millbench("produce", &address, &["--bytes", "100K", "--batch-bytes", "10K"]).status.success());
    state.lock().unwrap().refusal = Some(ErrorCode::KafkaStorageError);
    let refused = millbench("produce", &address, &["--bytes", "100K", "--batch-bytes", "10K"]);
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("KAFKA_STORAGE_ERROR"));

    state.lock().unwrap().logs[1][0].2[100] ^= 1;
    let consumed = millbench("consume", &address, &[]);
    assert!(!consumed.status.success());
    assert!(String::from_utf8_lossy(&consumed.stderr).contains("checksum"));
}
