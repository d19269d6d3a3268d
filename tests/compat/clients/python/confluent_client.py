"""confluent-kafka under the contract of tests/compat/src/contract.rs: `confluent_client.py ADDRESS CASE [ARGUMENT...]`."""

import sys
import threading
import time as clock

from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    ResourceType,
)

from lines import chunks, say, say_record

LIMIT_SECONDS = 100
# Commits that fail because somebody joins or leaves: whoever has the partition next reads the records.
REBALANCE_CODES = {KafkaError.ILLEGAL_GENERATION, KafkaError.REBALANCE_IN_PROGRESS, KafkaError.UNKNOWN_MEMBER_ID}

ADDRESS, CASE, *ARGUMENTS = sys.argv[1:]


def produce(topic, codec, idempotent=None):
    producer = Producer({
        "bootstrap.servers": ADDRESS,
        "acks": "all",
        "compression.type": codec,
        "enable.idempotence": idempotent is not None,
        "linger.ms": 1,
        "reconnect.backoff.max.ms": 200,
    })

    def delivered(error, message):
        if error is not None:
            raise KafkaException(error)
        say(message.partition(), message.offset())

    for chunk in chunks():
        for partition, time, key, value, headers in chunk:
            producer.produce(
                topic, value, key, partition, timestamp=time, headers=headers, on_delivery=delivered
            )
        if producer.flush(LIMIT_SECONDS) != 0:
            sys.exit(f"{len(producer)} records were not acknowledged within {LIMIT_SECONDS} s")


def say_message(message):
    time = message.timestamp()[1]
    say_record(message.partition(), message.offset(), time, message.key(), message.value(), message.headers() or [])


def make_consumer(group, **settings):
    return Consumer({
        "bootstrap.servers": ADDRESS,
        "group.id": group,
        "enable.auto.commit": False,
        "reconnect.backoff.max.ms": 200,
        **settings,
    })


def read(topic, partition, start, count):
    consumer = make_consumer("none")
    offset = {"beginning": OFFSET_BEGINNING, "end": OFFSET_END}.get(start)
    if offset == OFFSET_END:
        # The position is settled when the first fetch is sent; asking for the end settles it here.
        offset = consumer.get_watermark_offsets(TopicPartition(topic, int(partition)), timeout=LIMIT_SECONDS)[1]
        say("ready")
    consumer.assign([TopicPartition(topic, int(partition), int(start) if offset is None else offset)])
    for _ in range(int(count)):
        message = poll(consumer)
        say_message(message)
    consumer.close()


def poll(consumer):
    end = clock.monotonic() + LIMIT_SECONDS
    while clock.monotonic() < end:
        message = consumer.poll(1)
        if message is not None and message.error() is None:
            return message
        if message is not None and not message.error().retriable():
            raise KafkaException(message.error())
    sys.exit(f"no record within {LIMIT_SECONDS} s")


def offsets(topic, partition, *times):
    consumer = make_consumer("none")
    place = TopicPartition(topic, int(partition))
    beginning, end = consumer.get_watermark_offsets(place, timeout=LIMIT_SECONDS)
    say("beginning", beginning)
    say("end", end)
    for time in times:
        found = consumer.offsets_for_times([TopicPartition(topic, int(partition), int(time))], LIMIT_SECONDS)[0]
        # Nothing so late is told as the end.
        say(time, -1 if found.offset == OFFSET_END else found.offset)
    consumer.close()


def member(topic, group):
    settings = {"auto.offset.reset": "earliest", "session.timeout.ms": 10000, "heartbeat.interval.ms": 200}
    consumer = make_consumer(group, **settings)

    def assigned(_consumer, places):
        say("assigned", *sorted(place.partition for place in places))

    consumer.subscribe([topic], on_assign=assigned)
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    while not ended.is_set():
        message = consumer.poll(0.1)
        if message is None:
            continue
        if message.error() is not None:
            raise KafkaException(message.error())
        try:
            consumer.commit(message, asynchronous=False)
        except KafkaException as error:
            if error.args[0].code() not in REBALANCE_CODES:
                raise
            continue
        say_message(message)
    consumer.close()


def committed(topic, group):
    consumer = make_consumer(group)
    metadata = consumer.list_topics(topic, timeout=LIMIT_SECONDS).topics[topic]
    places = [TopicPartition(topic, partition) for partition in sorted(metadata.partitions)]
    for place in consumer.committed(places, timeout=LIMIT_SECONDS):
        if place.offset >= 0:
            say(place.partition, place.offset)
    consumer.close()


def wait(ask):
    """Waits for what `ask` asked of an admin client, which has to be there until the answer is."""
    admin = AdminClient({"bootstrap.servers": ADDRESS})
    return [future.result(LIMIT_SECONDS) for future in ask(admin).values()]


def create(topic, partitions, *configs):
    new = NewTopic(topic, int(partitions), 1, config=dict(config.split("=", 1) for config in configs))
    wait(lambda admin: admin.create_topics([new]))


def topics():
    for name, topic in sorted(AdminClient({"bootstrap.servers": ADDRESS}).list_topics(timeout=LIMIT_SECONDS).topics.items()):
        if not name.startswith("__"):
            say(name, len(topic.partitions))


def partitions(topic, count):
    wait(lambda admin: admin.create_partitions([NewPartitions(topic, int(count))]))


def configs(topic, *keys):
    [described] = wait(lambda admin: admin.describe_configs([ConfigResource(ResourceType.TOPIC, topic)]))
    for key in keys:
        say(f"{key}={described[key].value}")


def alter(topic, config):
    key, value = config.split("=", 1)
    entry = ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    wait(lambda admin: admin.incremental_alter_configs([resource]))


def delete_records(topic, partition, offset):
    wait(lambda admin: admin.delete_records([TopicPartition(topic, int(partition), int(offset))]))


def groups():
    [listed] = wait(lambda admin: {"all": admin.list_consumer_groups()})
    if listed.errors:
        raise listed.errors[0]
    for group in sorted(listed.valid, key=lambda group: group.group_id):
        say(group.group_id)


def delete_group(group):
    wait(lambda admin: admin.delete_consumer_groups([group]))


def delete(topic):
    wait(lambda admin: admin.delete_topics([topic]))


CASES = [
    produce, read, offsets, member, committed, create, topics, partitions, configs, alter, delete_records, groups,
    delete_group, delete,
]
{case.__name__.replace("_", "-"): case for case in CASES}[CASE](*ARGUMENTS)
