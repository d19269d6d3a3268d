//! What a request costs a whole broker: received, taken apart, appended or read, made durable, answered, sent.
//!
//! The broker has one shard, or two of which the one that serves the connection does not own the partition. Network and
//! executor are the simulator's, and their work, with the client's little, is in the figures; so only differences say
//! something, and what a profile shows of the broker's own functions. The disk takes every write at once and forgets it.
#![expect(clippy::unwrap_used, reason = "a bench that cannot go on fails")]

use std::io::IoSlice;
use std::net::{IpAddr, SocketAddr};
use std::sync::mpsc;
use std::time::Duration;

use millrace_engine::model::{PartitionId, TopicId};
use millrace_microbench::forgetful::ForgetfulEnv;
use millrace_microbench::inputs::BatchShape;
use millrace_microbench::{Benchmarks, Work};
use millrace_protocol::api_key::ApiKey;
use millrace_protocol::frame::{LENGTH_BYTES, encode_request};
use millrace_protocol::header::decode_response_header;
use millrace_protocol::messages::fetch::{FetchPartition, FetchRequest, FetchTopic};
use millrace_protocol::messages::metadata::{MetadataRequest, MetadataRequestTopic, MetadataResponse};
use millrace_protocol::messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use millrace_protocol::wire::{Reader, Request, Writer};
use millrace_runtime::sim::{SimEnv, World, WorldConfig};
use millrace_runtime::{Clock, Connection, Env, Net, TaskClass, Tasks};
use millrace_server::config::check::{Room, check};
use millrace_server::config::{DescriptorPlan, RawConfig};
use millrace_server::identity::ClusterId;
use millrace_server::shard::boot::{self, Broker, Lead, Start};
use millrace_server::shard::mailbox::stop::stop_switch;
use millrace_server::shard::placement::{self, ShardIndex};

const TOPIC: &str = "sensor-readings";
const PRODUCE: i16 = 12;
/// The last version that names topics.
const FETCH: i16 = 12;
const METADATA: i16 = 12;
const REQUESTS: usize = 64;
/// Simulated, so it costs nothing: long enough for whatever the first requests have set off.
const SETTLING: Duration = Duration::from_secs(5);

fn main() {
    Benchmarks::run(|benchmarks| {
        let work = Work::of(REQUESTS, "request");
        for (place, shard_count) in [("own shard", 1), ("other shard", 2)] {
            for (records, shape) in [("1 KiB", BatchShape::SINGLE), ("256 KiB", BatchShape::LARGE)] {
                for (way, in_flight) in [("one", 1), ("pipelined", 8)] {
                    let input = || Served::new(shard_count, shape);
                    let name = format!("request/produce {records}, {place}/{way}");
                    benchmarks.on_fresh_inputs(&name, work, input, |served| served.produce(REQUESTS, in_flight));
                }
                let input = || Served::new(shard_count, shape);
                let name = format!("request/fetch {records}, {place}/one");
                benchmarks.on_fresh_inputs(&name, work, input, |served| served.fetch(REQUESTS));
            }
        }
    });
}

/// A broker and a client of it.
struct Served {
    world: World,
    connection: Connected,
    produce: Vec<u8>,
    fetch: Vec<u8>,
}

type Connected = <<SimEnv as Env>::Net as Net>::Connection;

impl Served {
    /// A broker whose one partition in use has a batch of this shape.
    fn new(shard_count: u16, shape: BatchShape) -> Self {
        let world = World::new(1, WorldConfig::default());
        let client = world.machine(1).env(0);
        let shards: Vec<_> = (0..shard_count).map(|index| ForgetfulEnv::new(world.env(index))).collect();
        let (connection, topic) = world.run(async {
            let address = start(world.machine(0).ip_address(), &shards).await;
            let connection = client.net().connect(address).await.unwrap();
            let topic = make_topic(&connection).await;
            (connection, topic)
        });
        // The first connection of a broker is served by its first shard.
        let on_last = |index: &i32| {
            let partition = PartitionId { topic, partition: *index };
            placement::owner(partition, shard_count) == ShardIndex::new(shard_count - 1)
        };
        let partition = (0..i32::from(shard_count)).find(on_last).expect("partitions are spread over all shards");
        let produce = frame(PRODUCE, &produce_request(partition, &shape.build()));
        let fetch = frame(FETCH, &fetch_request(partition));
        let served = Self { world, connection, produce, fetch };
        served.produce(1, 1);
        served.fetch(1);
        served.world.run(client.clock().sleep(SETTLING));
        shards.iter().for_each(ForgetfulEnv::forget);
        served
    }

    /// Produces the same batch over and over, with so many requests on their way at once.
    fn produce(&self, count: usize, in_flight: usize) {
        self.world.run(async {
            for _ in 0..count / in_flight {
                for _ in 0..in_flight {
                    send(&self.connection, &self.produce).await;
                }
                for _ in 0..in_flight {
                    receive(&self.connection).await;
                }
            }
        });
    }

    /// Fetches the first batch over and over.
    fn fetch(&self, count: usize) {
        self.world.run(async {
            for _ in 0..count {
                send(&self.connection, &self.fetch).await;
                assert!(receive(&self.connection).await.len() > 1024, "the answer holds the batch");
            }
        });
    }
}

/// Starts a broker and waits until clients may connect.
async fn start(ip_address: IpAddr, shards: &[ForgetfulEnv]) -> SocketAddr {
    let shard_count = shards.len();
    let mut raw = RawConfig::new();
    raw.add_assignment(&format!("listeners=PLAINTEXT://{ip_address}:9092"));
    raw.add_assignment(&format!("millrace.shards={shard_count}"));
    raw.add_assignment(&format!("num.partitions={shard_count}"));
    raw.add_assignment("log.dirs=/data");
    raw.add_assignment("millrace.journal.bytes=16MiB");
    let config = check(&raw, Room { core_count: 3, memory_bytes: 1 << 30 }).unwrap();
    let descriptors = DescriptorPlan::cut(None, config.shards.count, config.net.connection_count_max).unwrap();
    let broker =
        Broker { config, cluster_id: ClusterId::from_random(7), incarnation: 1, reserve_bytes: 0, descriptors };
    // Nobody stops it: it ends with its world.
    let (_, stop) = stop_switch();
    let (tell, ready) = mpsc::channel();
    let on_ready = Box::new(move |addresses: Vec<SocketAddr>| tell.send(addresses[0]).unwrap());
    let (starts, _) = Start::<ForgetfulEnv>::all(&broker, Lead { stop, on_ready });
    for (env, start) in shards.iter().zip(starts) {
        let run = boot::run(env.clone(), start);
        drop(env.tasks().spawn(TaskClass::Network, async move { run.await.unwrap() }));
    }
    loop {
        if let Ok(address) = ready.try_recv() {
            return address;
        }
        shards[0].clock().sleep(Duration::from_millis(1)).await;
    }
}

/// Has the topic made by asking for it; gives its id.
async fn make_topic(connection: &Connected) -> TopicId {
    let topics = Some(vec![MetadataRequestTopic { name: Some(TOPIC), ..MetadataRequestTopic::default() }]);
    let request = MetadataRequest { topics, allow_auto_topic_creation: true, ..MetadataRequest::default() };
    send(connection, &frame(METADATA, &request)).await;
    let answer = receive(connection).await;
    let mut reader = Reader::new(&answer);
    decode_response_header(&mut reader, ApiKey::Metadata, METADATA).unwrap();
    let response = MetadataResponse::decode(&mut reader, METADATA).unwrap();
    assert_eq!(response.topics[0].error_code, 0, "the topic is there");
    TopicId::from_bytes(response.topics[0].topic_id.0)
}

fn produce_request(index: i32, batch: &[u8]) -> ProduceRequest<'_> {
    let partition_data = vec![PartitionProduceData { index, records: Some(batch) }];
    let topic = TopicProduceData { name: TOPIC, partition_data, ..TopicProduceData::default() };
    ProduceRequest { acks: -1, timeout_ms: 30_000, topic_data: vec![topic], ..ProduceRequest::default() }
}

/// Asks for less than two batches.
fn fetch_request(partition: i32) -> FetchRequest<'static> {
    let partitions = vec![FetchPartition { partition, partition_max_bytes: 1, ..FetchPartition::default() }];
    let topics = vec![FetchTopic { topic: TOPIC, partitions, ..FetchTopic::default() }];
    FetchRequest { min_bytes: 1, max_bytes: 1 << 20, topics, ..FetchRequest::default() }
}

/// A request with its length, as it goes to the socket.
fn frame<'a, R: Request<'a>>(version: i16, request: &R) -> Vec<u8> {
    let mut writer = Writer::new();
    encode_request(&mut writer, version, 7, Some("rdkafka"), request).unwrap();
    writer.into_bytes()
}

async fn send(connection: &Connected, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let sent_bytes = connection.send_vectored(&[IoSlice::new(bytes)]).await.unwrap();
        bytes = &bytes[sent_bytes..];
    }
}

/// The next answer, without its length.
async fn receive(connection: &Connected) -> Vec<u8> {
    let mut length = [0; LENGTH_BYTES];
    receive_exactly(connection, &mut length).await;
    let mut answer = vec![0; usize::try_from(i32::from_be_bytes(length)).unwrap()];
    receive_exactly(connection, &mut answer).await;
    answer
}

async fn receive_exactly(connection: &Connected, mut buffer: &mut [u8]) {
    while !buffer.is_empty() {
        let received_bytes = connection.receive(buffer).await.unwrap();
        assert!(received_bytes > 0, "the broker does not close");
        buffer = &mut buffer[received_bytes..];
    }
}
