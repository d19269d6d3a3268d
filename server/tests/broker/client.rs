//! A client for tests: sends what it is told, one frame at a time or several together, and decodes what comes back.
//!
//! It speaks through our own codec, so it proves nothing about the codec: foreign clients do that.

use std::io::IoSlice;
use std::net::SocketAddr;

use millrace_protocol::api_key::ApiKey;
use millrace_protocol::batch::{BatchBuilder, BatchFields, BatchView};
use millrace_protocol::error_code::ErrorCode;
use millrace_protocol::frame::encode_request;
use millrace_protocol::header::decode_response_header;
use millrace_protocol::messages::fetch::{FetchPartition, FetchRequest, FetchResponse, FetchTopic};
use millrace_protocol::messages::metadata::{MetadataRequest, MetadataRequestTopic, MetadataResponse};
use millrace_protocol::messages::produce::{PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData};
use millrace_protocol::wire::{Message, Reader, Request, Uuid, Writer};
use millrace_runtime::{Connection, Env, Net};

/// One connection.
pub(crate) struct Client<E: Env> {
    connection: <E::Net as Net>::Connection,
    /// Received and not taken.
    received: Vec<u8>,
    sent_count: i32,
    received_count: i32,
}

/// The bytes of one answer.
pub(crate) struct Answer {
    bytes: Vec<u8>,
}

impl Answer {
    /// The answer as what it must be.
    pub(crate) fn decode<'a, M: Message<'a>>(&'a self, version: i16) -> M {
        let mut reader = Reader::new(&self.bytes);
        decode_response_header(&mut reader, M::API_KEY, version).unwrap();
        let message = M::decode(&mut reader, version).unwrap();
        reader.finish().unwrap();
        message
    }
}

impl<E: Env> Client<E> {
    pub(crate) async fn connect(env: &E, address: SocketAddr) -> Self {
        let connection = env.net().connect(address).await.unwrap();
        Self { connection, received: Vec::new(), sent_count: 0, received_count: 0 }
    }

    /// Appends a request to `writer`; [`Client::send`] sends it.
    pub(crate) fn push<'r, R: Request<'r>>(&mut self, writer: &mut Writer, version: i16, request: &R) {
        encode_request(writer, version, self.sent_count, Some("test"), request).unwrap();
        self.sent_count += 1;
    }

    /// Sends as long as the broker listens. A broker that has closed shows when the answer is wanted.
    pub(crate) async fn send(&self, bytes: &[u8]) {
        self.sending(bytes).await;
    }

    /// [`Client::send`] for a task beside the one that receives.
    pub(crate) fn sending<'a>(&self, mut bytes: &'a [u8]) -> impl Future<Output = ()> + use<'a, E> {
        let connection = self.connection.clone();
        async move {
            while !bytes.is_empty() {
                let Ok(sent_bytes) = connection.send_vectored(&[IoSlice::new(bytes)]).await else { return };
                bytes = &bytes[sent_bytes..];
            }
        }
    }

    /// The next answer, which must be the next in order; `None` when the broker has closed.
    pub(crate) async fn receive(&mut self, api_key: ApiKey, version: i16) -> Option<Answer> {
        loop {
            if let Some((length, rest)) = self.received.split_first_chunk::<4>() {
                let length = usize::try_from(i32::from_be_bytes(*length)).unwrap();
                if rest.len() >= length {
                    let bytes = rest[..length].to_vec();
                    self.received.drain(..4 + length);
                    let number = decode_response_header(&mut Reader::new(&bytes), api_key, version).unwrap();
                    assert_eq!(number, self.received_count, "answers come in the order of the requests");
                    self.received_count += 1;
                    return Some(Answer { bytes });
                }
            }
            let mut chunk = vec![0; 64 * 1024];
            let received_bytes = self.connection.receive(&mut chunk).await.unwrap_or(0);
            if received_bytes == 0 {
                return None;
            }
            self.received.extend_from_slice(&chunk[..received_bytes]);
        }
    }

    pub(crate) async fn call<'r, R: Request<'r>>(&mut self, version: i16, request: &R) -> Answer {
        let mut writer = Writer::new();
        self.push(&mut writer, version, request);
        self.send(writer.bytes()).await;
        self.receive(R::API_KEY, version).await.expect("the broker answers")
    }

    /// Whether the broker still listens.
    pub(crate) async fn is_heard(&self) -> bool {
        self.connection.send_vectored(&[IoSlice::new(&[0])]).await.is_ok()
    }

    /// Throws at most so many bytes of what the broker sends away; false when it has closed.
    pub(crate) async fn discard(&self, bytes_max: usize) -> bool {
        self.connection.receive(&mut vec![0; bytes_max]).await.is_ok_and(|received_bytes| received_bytes > 0)
    }

    pub(crate) fn close(&self) {
        self.connection.shutdown();
    }

    /// Has a topic made by asking for it; gives its id.
    pub(crate) async fn make_topic(&mut self, name: &str) -> Uuid {
        let topics = Some(vec![MetadataRequestTopic { name: Some(name), ..MetadataRequestTopic::default() }]);
        let request = MetadataRequest { topics, allow_auto_topic_creation: true, ..MetadataRequest::default() };
        let answer = self.call(12, &request).await;
        let response: MetadataResponse<'_> = answer.decode(12);
        assert_eq!(response.topics[0].error_code, ErrorCode::None.code());
        response.topics[0].topic_id
    }

    /// Produces one record and gives its offset.
    pub(crate) async fn produce(&mut self, topic: &str, partition: i32, value: &[u8]) -> i64 {
        let batch = batch(&[value]);
        let answer = self.call(9, &produce_request(topic, &[(partition, &batch)], -1)).await;
        let response: ProduceResponse<'_> = answer.decode(9);
        let result = &response.responses[0].partition_responses[0];
        assert_eq!(result.error_code, ErrorCode::None.code());
        result.base_offset
    }

    /// Fetches partitions of a topic once; gives the values by partition, in the order asked.
    pub(crate) async fn fetch(&mut self, request: &FetchRequest<'_>) -> Vec<Vec<Vec<u8>>> {
        let answer = self.call(12, request).await;
        let response: FetchResponse<'_> = answer.decode(12);
        assert_eq!(response.error_code, ErrorCode::None.code());
        let mut partitions = Vec::new();
        for partition in response.responses.iter().flat_map(|topic| &topic.partitions) {
            assert_eq!(partition.error_code, ErrorCode::None.code());
            partitions.push(values(partition.records.unwrap_or_default()));
        }
        partitions
    }
}

pub(crate) fn produce_request<'a>(topic: &'a str, batches: &[(i32, &'a [u8])], acks: i16) -> ProduceRequest<'a> {
    let data = batches.iter().map(|(index, batch)| PartitionProduceData { index: *index, records: Some(batch) });
    let topic = TopicProduceData { name: topic, partition_data: data.collect(), ..TopicProduceData::default() };
    ProduceRequest { acks, timeout_ms: 30_000, topic_data: vec![topic], ..ProduceRequest::default() }
}

/// A Fetch of (partition, offset) pairs that waits up to `max_wait_ms` for `min_bytes`.
pub(crate) fn fetch_request<'a>(
    topic: &'a str,
    positions: &[(i32, i64)],
    max_wait_ms: i32,
    min_bytes: i32,
) -> FetchRequest<'a> {
    let partition = |&(partition, fetch_offset): &(i32, i64)| FetchPartition {
        partition,
        fetch_offset,
        partition_max_bytes: 1 << 20,
        ..FetchPartition::default()
    };
    let partitions = positions.iter().map(partition).collect();
    let topics = vec![FetchTopic { topic, partitions, ..FetchTopic::default() }];
    FetchRequest { max_wait_ms, min_bytes, max_bytes: 1 << 20, topics, ..FetchRequest::default() }
}

pub(crate) fn batch(values: &[&[u8]]) -> Vec<u8> {
    let mut builder = BatchBuilder::new(BatchFields::default());
    for value in values {
        builder.push(1_750_000_000_000, None, Some(value));
    }
    builder.build()
}

pub(crate) fn values(mut records: &[u8]) -> Vec<Vec<u8>> {
    let mut values = Vec::new();
    while !records.is_empty() {
        let batch = BatchView::parse(records).unwrap();
        values.extend(batch.records().unwrap().map(|record| record.unwrap().value.unwrap().to_vec()));
        records = &records[batch.bytes().len()..];
    }
    values
}
