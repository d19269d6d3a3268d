//! Records: what is written, where it is found, what may be read of it.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    BrokerId, CreateTopicsRequest, DeleteRecordsRequest, DescribeProducersRequest, FetchRequest, InitProducerIdRequest,
    ListOffsetsRequest, MetadataRequest, ProduceRequest, ProducerId,
};
use kafka_protocol::records::{
    Compression, NO_PRODUCER_EPOCH, NO_PRODUCER_ID, NO_SEQUENCE, Record, RecordBatchEncoder, RecordEncodeOptions,
    TimestampType,
};
use uuid::Uuid;

use crate::topics::{name, text};
use crate::transcript::Peer;

/// Where the records go.
const TOPIC: &str = "written";

/// The versions from which topics have ids in place of names.
const PRODUCE_BY_ID: i16 = 13;
const FETCH_BY_ID: i16 = 13;

/// Who writes: producer id, epoch, sequence of the first record.
type Writer = (i64, i16, i32);

const NOBODY: Writer = (NO_PRODUCER_ID, NO_PRODUCER_EPOCH, NO_SEQUENCE);

/// Runs the script.
pub(crate) fn run(peer: &mut Peer) {
    let kept = CreatableTopicConfig::default().with_name(text("retention.ms")).with_value(Some(text("-1")));
    let topic = CreatableTopic::default().with_name(name(TOPIC)).with_num_partitions(2).with_replication_factor(1);
    let request = CreateTopicsRequest::default().with_topics(vec![topic.with_configs(vec![kept])]);
    peer.ask("a topic to write to", 7, &request.with_timeout_ms(5000));
    peer.settle_topic(TOPIC, 2);
    let id = id_of(peer);
    for version in peer.versions::<ProduceRequest>().filter(|version| *version >= 3) {
        produce(peer, version, id);
    }
    let request = InitProducerIdRequest::default().with_transactional_id(None).with_transaction_timeout_ms(60_000);
    // Kafka's broker asks its controller for ids when the first one is wanted.
    peer.settle(0, &request, |response| response.error_code == 0);
    for version in peer.versions::<InitProducerIdRequest>() {
        write_once(peer, version, id);
    }
    for version in peer.versions::<ListOffsetsRequest>() {
        find(peer, version);
    }
    for version in peer.versions::<FetchRequest>() {
        fetch(peer, version, id);
    }
    delete(peer);
}

fn id_of(peer: &mut Peer) -> Uuid {
    let wanted = MetadataRequestTopic::default().with_name(Some(name(TOPIC)));
    let request = MetadataRequest::default().with_topics(Some(vec![wanted]));
    peer.ask("the topic's id", 12, &request).expect("the connection stays").topics[0].topic_id
}

/// Three records, the second one the newest.
fn batch(base_time: i64, (producer_id, producer_epoch, sequence): Writer) -> Bytes {
    let records = [(0, 0), (1, 20), (2, 10)].map(|(offset, time)| Record {
        transactional: false,
        control: false,
        partition_leader_epoch: -1,
        producer_id,
        producer_epoch,
        timestamp_type: TimestampType::Creation,
        offset: i64::from(offset),
        // Without a producer too: records whose sequences do not follow each other would become batches of their own.
        sequence: sequence + offset,
        timestamp: base_time + time,
        key: Some(Bytes::from_static(b"key")),
        value: (offset > 0).then(|| Bytes::from_static(b"value")),
        headers: [(text("name"), None)].into_iter().collect(),
    });
    let mut bytes = BytesMut::new();
    let options = RecordEncodeOptions { version: 2, compression: Compression::None };
    RecordBatchEncoder::encode(&mut bytes, &records, &options).expect("records can be encoded");
    bytes.freeze()
}

fn produce_request(version: i16, topic: (&str, Uuid), partition: i32, records: Option<Bytes>) -> ProduceRequest {
    let partition = PartitionProduceData::default().with_index(partition).with_records(records);
    let topic = if version < PRODUCE_BY_ID {
        TopicProduceData::default().with_name(name(topic.0))
    } else {
        TopicProduceData::default().with_topic_id(topic.1)
    };
    let request = ProduceRequest::default().with_acks(-1).with_timeout_ms(5000);
    request.with_topic_data(vec![topic.with_partition_data(vec![partition])])
}

fn produce(peer: &mut Peer, version: i16, id: Uuid) {
    let known = (TOPIC, id);
    let records = batch(1000 * i64::from(version), NOBODY);
    let damaged = Bytes::from([&records[..records.len() - 1], b"!"].concat());
    let two = Bytes::from([&records[..], &records[..]].concat());
    let good = |partition| produce_request(version, known, partition, Some(records.clone()));
    peer.ask("records", version, &good(0));
    peer.ask("to a partition that is not there", version, &good(9));
    let unknown = produce_request(version, ("unknown", Uuid::from_u128(7)), 0, Some(records.clone()));
    peer.ask("to a topic that is not there", version, &unknown);
    peer.ask("damaged", version, &produce_request(version, known, 0, Some(damaged)));
    peer.ask("two batches", version, &produce_request(version, known, 0, Some(two)));
    peer.ask("acknowledged by two", version, &good(0).with_acks(2));
    peer.ask("acknowledged by the leader", version, &good(0).with_acks(1));
}

/// An idempotent producer, and what it must not send.
fn write_once(peer: &mut Peer, version: i16, id: Uuid) {
    let request = InitProducerIdRequest::default().with_transactional_id(None).with_transaction_timeout_ms(60_000);
    let answer = peer.ask("a new producer", version, &request).expect("the connection stays");
    let (producer, epoch) = (answer.producer_id.0, answer.producer_epoch);
    for (step, writer) in [
        ("first", (producer, epoch, 0)),
        ("once more", (producer, epoch, 0)),
        ("next", (producer, epoch, 3)),
        ("with a gap", (producer, epoch, 9)),
        ("of another epoch, but not from the start", (producer, epoch + 1, 6)),
        ("of another epoch", (producer, epoch + 1, 0)),
        ("of the epoch before", (producer, epoch, 6)),
        ("of a producer that nobody knows", (producer + 500, 0, 4)),
    ] {
        peer.ask(step, 9, &produce_request(9, (TOPIC, id), 1, Some(batch(9000, writer))));
    }
    if version >= 3 {
        let again = request.with_producer_id(ProducerId(producer));
        peer.ask("an epoch without transactions", version, &again.with_producer_epoch(epoch));
    }
}

fn find(peer: &mut Peer, version: i16) {
    for (step, time) in [
        ("the end", -1),
        ("the start", -2),
        ("the newest record", -3),
        ("the start on the broker", -4),
        ("the end in the remote tier", -5),
        ("the start of what is not in the remote tier", -6),
        ("a time before all", 0),
        ("the time of a record", 5020),
        ("a time between records", 5015),
        ("a time after all", 1 << 40),
        ("no such time", -9),
    ] {
        for isolation in [0, 1] {
            let partition = ListOffsetsPartition::default().with_current_leader_epoch(-1).with_timestamp(time);
            let wanted = ListOffsetsTopic::default().with_name(name(TOPIC)).with_partitions(vec![partition]);
            let request = ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![wanted]);
            let request = request.with_isolation_level(if version < 2 { 0 } else { isolation });
            peer.ask(&format!("{step}, isolation {isolation}"), version, &request);
        }
    }
}

fn fetch(peer: &mut Peer, version: i16, id: Uuid) {
    for (step, topic, partition, offset, epoch) in [
        ("all", (TOPIC, id), 0, 0, -1),
        ("some", (TOPIC, id), 0, 4, -1),
        ("at the end", (TOPIC, id), 1, 1 << 20, -1),
        ("below the start", (TOPIC, id), 0, -1, -1),
        ("in an epoch to come", (TOPIC, id), 0, 0, 9),
        ("of a partition that is not there", (TOPIC, id), 9, 0, -1),
        ("of a topic that is not there", ("unknown", Uuid::from_u128(7)), 0, 0, -1),
    ] {
        let partition = FetchPartition::default()
            .with_partition(partition)
            .with_fetch_offset(offset)
            .with_current_leader_epoch(if version < 9 { -1 } else { epoch })
            .with_partition_max_bytes(1 << 20);
        let wanted = FetchTopic::default().with_partitions(vec![partition]);
        let wanted = match version {
            ..FETCH_BY_ID => wanted.with_topic(name(topic.0)),
            _ => wanted.with_topic_id(topic.1),
        };
        let request = FetchRequest::default().with_replica_id(BrokerId(-1)).with_session_epoch(-1);
        let request = request.with_max_bytes(1 << 20).with_topics(vec![wanted]);
        peer.ask(step, version, &request);
    }
}

fn delete(peer: &mut Peer) {
    for (step, offset) in [("some", 4), ("fewer", 2), ("past the end", 1 << 20), ("all", -1)] {
        let partition = DeleteRecordsPartition::default().with_offset(offset);
        let topic = DeleteRecordsTopic::default().with_name(name(TOPIC)).with_partitions(vec![partition]);
        peer.ask(step, 2, &DeleteRecordsRequest::default().with_topics(vec![topic]).with_timeout_ms(5000));
        let partition = ListOffsetsPartition::default().with_current_leader_epoch(-1).with_timestamp(-2);
        let wanted = ListOffsetsTopic::default().with_name(name(TOPIC)).with_partitions(vec![partition]);
        let request = ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![wanted]);
        peer.ask(&format!("the start when {step} are deleted"), 7, &request);
    }
    let wanted = TopicRequest::default().with_name(name(TOPIC)).with_partition_indexes(vec![1]);
    peer.ask("who has written", 0, &DescribeProducersRequest::default().with_topics(vec![wanted]));
}
