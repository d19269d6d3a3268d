//! A broker of a few lines, which keeps batches in memory, and can be told to go wrong.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use millrace_protocol::api_key::ApiKey;
use millrace_protocol::batch::{BatchView, assign_offsets};
use millrace_protocol::error_code::ErrorCode;
use millrace_protocol::frame::encode_response;
use millrace_protocol::header::RequestHead;
use millrace_protocol::messages::api_versions::{ApiVersion, ApiVersionsResponse};
use millrace_protocol::messages::create_topics::{CreatableTopicResult, CreateTopicsRequest, CreateTopicsResponse};
use millrace_protocol::messages::fetch::{FetchRequest, FetchResponse, FetchableTopicResponse, PartitionData};
use millrace_protocol::messages::find_coordinator::FindCoordinatorResponse;
use millrace_protocol::messages::init_producer_id::InitProducerIdResponse;
use millrace_protocol::messages::list_offsets::{
    ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopicResponse,
};
use millrace_protocol::messages::metadata::{
    MetadataRequest, MetadataResponse, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use millrace_protocol::messages::produce::{
    PartitionProduceResponse, ProduceRequest, ProduceResponse, TopicProduceResponse,
};
use millrace_protocol::wire::{Reader, Writer};

/// Batches of one partition, each with its base offset and the offset behind it.
type Log = Vec<(i64, i64, Vec<u8>)>;

/// What a broker does to one batch that it should only append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Acknowledges it and keeps the place, but not the batch.
    Lose,
    /// Acknowledges it at the offsets of the batch before it, and has neither place nor batch.
    Overlap,
    /// Appends it twice.
    Repeat,
    /// Appends it before the batch that came before it.
    Swap,
    /// Flips a bit of it.
    Damage,
    /// Says no.
    Refuse,
}

pub(crate) struct State {
    /// Of each topic, by partition.
    pub(crate) logs: BTreeMap<String, Vec<Log>>,
    /// What happens to the batch with this number in partition 0, counted from 0.
    pub(crate) fault: Option<(usize, Fault)>,
    pub(crate) acks: Vec<i16>,
    partition_count: usize,
    port: i32,
    next_producer_id: i64,
    appended_count: usize,
}

pub(crate) type Shared = Arc<Mutex<State>>;

/// Starts the broker; it runs until the test's process ends. Topics have `partition_count` partitions unless the client
/// says how many.
pub(crate) fn start(partition_count: usize) -> (String, Shared) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let state = State {
        logs: BTreeMap::new(),
        partition_count,
        fault: None,
        acks: Vec::new(),
        port: i32::from(address.port()),
        next_producer_id: 100,
        appended_count: 0,
    };
    let state = Arc::new(Mutex::new(state));
    let shared = Arc::clone(&state);
    let accept = move || {
        for stream in listener.incoming() {
            let (stream, state) = (stream.unwrap(), Arc::clone(&state));
            std::thread::Builder::new().spawn(move || serve(stream, &state)).unwrap();
        }
    };
    std::thread::Builder::new().spawn(accept).unwrap();
    (address.to_string(), shared)
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
        if stream.write_all(writer.bytes()).is_err() {
            return;
        }
    }
}

fn answer(head: &RequestHead<'_>, reader: &mut Reader<'_>, writer: &mut Writer, state: &mut State) {
    let (version, id) = (head.version, head.correlation_id);
    match head.api_key {
        ApiKey::ApiVersions => {
            let api_keys = VERSIONS.iter().map(|&(api_key, min_version, max_version)| {
                let api_key = api_key.code();
                ApiVersion { api_key, min_version, max_version }
            });
            let response = ApiVersionsResponse { api_keys: api_keys.collect(), ..ApiVersionsResponse::default() };
            encode_response(writer, version, id, &response).unwrap();
        }
        ApiKey::FindCoordinator => {
            let response = FindCoordinatorResponse {
                node_id: 1,
                host: "127.0.0.1",
                port: state.port,
                ..FindCoordinatorResponse::default()
            };
            encode_response(writer, version, id, &response).unwrap();
        }
        ApiKey::Metadata => {
            let request = MetadataRequest::decode(reader, version).unwrap();
            let names = request.topics.into_iter().flatten().map(|topic| topic.name);
            let topics = names.map(|name| state.describe(name)).collect();
            let brokers = vec![MetadataResponseBroker { node_id: 1, host: "127.0.0.1", port: state.port, rack: None }];
            let response = MetadataResponse { brokers, topics, ..MetadataResponse::default() };
            encode_response(writer, version, id, &response).unwrap();
        }
        ApiKey::CreateTopics => {
            let request = CreateTopicsRequest::decode(reader, version).unwrap();
            let topics = request.topics.iter().map(|topic| {
                state.create(topic.name, topic.num_partitions);
                CreatableTopicResult { name: topic.name, ..CreatableTopicResult::default() }
            });
            let response = CreateTopicsResponse { topics: topics.collect(), ..CreateTopicsResponse::default() };
            encode_response(writer, version, id, &response).unwrap();
        }
        ApiKey::InitProducerId => {
            state.next_producer_id += 1;
            let response =
                InitProducerIdResponse { producer_id: state.next_producer_id, ..InitProducerIdResponse::default() };
            encode_response(writer, version, id, &response).unwrap();
        }
        ApiKey::Produce => answer_produce(head, reader, writer, state),
        ApiKey::ListOffsets => {
            let request = ListOffsetsRequest::decode(reader, version).unwrap();
            let name = request.topics[0].name;
            let partitions = request.topics[0].partitions.iter().map(|asked| {
                let end = state.log(name, asked.partition_index).last().map_or(0, |last| last.1);
                let offset = if asked.timestamp == -2 { 0 } else { end };
                let partition_index = asked.partition_index;
                ListOffsetsPartitionResponse { partition_index, offset, ..ListOffsetsPartitionResponse::default() }
            });
            let partitions = partitions.collect();
            let topics = vec![ListOffsetsTopicResponse { name, partitions }];
            encode_response(writer, version, id, &ListOffsetsResponse { throttle_time_ms: 0, topics }).unwrap();
        }
        ApiKey::Fetch => answer_fetch(head, reader, writer, state),
        other => panic!("{other:?} is not needed"),
    }
}

/// What librdkafka may ask for, and in which versions. The raw client does not look at it.
const VERSIONS: &[(ApiKey, i16, i16)] = &[
    (ApiKey::Produce, 3, 8),
    (ApiKey::Fetch, 4, 11),
    (ApiKey::ListOffsets, 1, 4),
    (ApiKey::Metadata, 0, 7),
    (ApiKey::FindCoordinator, 0, 2),
    (ApiKey::ApiVersions, 0, 3),
    (ApiKey::CreateTopics, 0, 4),
    (ApiKey::InitProducerId, 0, 1),
];

fn answer_produce(head: &RequestHead<'_>, reader: &mut Reader<'_>, writer: &mut Writer, state: &mut State) {
    let request = ProduceRequest::decode(reader, head.version).unwrap();
    state.acks.push(request.acks);
    let (name, data) = (request.topic_data[0].name, &request.topic_data[0].partition_data);
    let partition_responses = data.iter().map(|data| state.append(name, data.index, data.records.unwrap())).collect();
    if request.acks == 0 {
        return;
    }
    let topic = TopicProduceResponse { name, partition_responses, ..TopicProduceResponse::default() };
    let response = ProduceResponse { responses: vec![topic], ..ProduceResponse::default() };
    encode_response(writer, head.version, head.correlation_id, &response).unwrap();
}

fn answer_fetch(head: &RequestHead<'_>, reader: &mut Reader<'_>, writer: &mut Writer, state: &State) {
    let request = FetchRequest::decode(reader, head.version).unwrap();
    let (topic, asked) = (request.topics[0].topic, &request.topics[0].partitions);
    let held: Vec<_> = asked
        .iter()
        .map(|asked| {
            let log = state.log(topic, asked.partition);
            let mut records = Vec::new();
            for (_, _, bytes) in log.iter().filter(|(_, end, _)| *end > asked.fetch_offset).take(3) {
                let is_first = records.is_empty();
                records.extend_from_slice(bytes);
                // Cut off in the middle of a batch, as a broker at its limit may.
                if !is_first && !bytes.is_empty() {
                    records.truncate(records.len() - 10);
                    break;
                }
            }
            (asked.partition, records)
        })
        .collect();
    let partitions = held.iter().map(|(partition_index, records)| PartitionData {
        partition_index: *partition_index,
        records: Some(&records[..]),
        ..PartitionData::default()
    });
    let partitions = partitions.collect();
    let topic = FetchableTopicResponse { topic, partitions, ..FetchableTopicResponse::default() };
    let response = FetchResponse { responses: vec![topic], ..FetchResponse::default() };
    encode_response(writer, head.version, head.correlation_id, &response).unwrap();
}

impl State {
    fn log(&self, topic: &str, partition: i32) -> &Log {
        &self.logs[topic][usize::try_from(partition).unwrap()]
    }

    fn create(&mut self, name: &str, partition_count: i32) {
        let count = usize::try_from(partition_count).unwrap_or(self.partition_count);
        self.logs.entry(name.to_owned()).or_insert_with(|| vec![Log::new(); count]);
    }

    fn describe<'a>(&self, name: Option<&'a str>) -> MetadataResponseTopic<'a> {
        let Some(logs) = name.and_then(|name| self.logs.get(name)) else {
            let error_code = ErrorCode::UnknownTopicOrPartition.code();
            return MetadataResponseTopic { name, error_code, ..MetadataResponseTopic::default() };
        };
        let partition = |index| MetadataResponsePartition {
            partition_index: i32::try_from(index).unwrap(),
            leader_id: 1,
            ..MetadataResponsePartition::default()
        };
        let partitions = (0..logs.len()).map(partition).collect();
        MetadataResponseTopic { name, partitions, ..MetadataResponseTopic::default() }
    }

    fn append(&mut self, topic: &str, index: i32, records: &[u8]) -> PartitionProduceResponse<'static> {
        let batch = BatchView::parse_produced(records).unwrap();
        let count = i64::from(batch.header().record_count.get());
        let partition = usize::try_from(index).unwrap();
        let fault = self.fault.filter(|(number, _)| partition == 0 && *number == self.appended_count);
        self.appended_count += usize::from(partition == 0);
        let log = &mut self.logs.get_mut(topic).unwrap()[partition];
        let base_offset = log.last().map_or(0, |last| last.1);
        let accepted = PartitionProduceResponse { index, base_offset, ..Default::default() };
        let placed = |base_offset: i64, bytes: &[u8]| {
            let mut bytes = bytes.to_vec();
            assign_offsets(&mut bytes, base_offset, 0);
            (base_offset, base_offset + count, bytes)
        };
        match fault.map(|(_, fault)| fault) {
            None => log.push(placed(base_offset, records)),
            Some(Fault::Lose) => log.push((base_offset, base_offset + count, Vec::new())),
            Some(Fault::Overlap) => return PartitionProduceResponse { base_offset: base_offset - count, ..accepted },
            Some(Fault::Repeat) => {
                log.push(placed(base_offset, records));
                log.push(placed(base_offset + count, records));
            }
            Some(Fault::Swap) => {
                let (before, _, bytes) = log.pop().unwrap();
                log.push(placed(before, records));
                log.push(placed(before + count, &bytes));
            }
            Some(Fault::Damage) => {
                let (base, end, mut bytes) = placed(base_offset, records);
                *bytes.last_mut().unwrap() ^= 1;
                log.push((base, end, bytes));
            }
            Some(Fault::Refuse) => {
                let error_code = ErrorCode::KafkaStorageError.code();
                return PartitionProduceResponse { index, error_code, ..Default::default() };
            }
        }
        accepted
    }
}
