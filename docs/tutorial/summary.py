"""Keeps a summary of each day in a compacted topic: the newest record for a key like `seattle/2010-05-31` is the summary.

    summary.py BOOTSTRAP TOPIC GROUP SUMMARIES

The compacted topic is also its memory. When it is given a partition it reads the summaries there are, and each summary says
up to which offset it counts: a reading that is seen twice counts once, whatever crashed in between. Start a second one with
the same group and they share the partitions. Prints `reads PARTITIONS` when that changes and `summed COUNT` after each step.
Ends with SIGTERM or Ctrl-C.
"""

import json
import signal
import sys

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

bootstrap, topic, group, summaries_topic = sys.argv[1:]
stopping = []
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, lambda *_: stopping.append(True))


def make_topic():
    new = NewTopic(summaries_topic, num_partitions=1, replication_factor=1, config={"cleanup.policy": "compact"})
    admin = AdminClient({"bootstrap.servers": bootstrap})
    try:
        admin.create_topics([new])[summaries_topic].result()
    except KafkaException as error:
        if error.args[0].name() != "TOPIC_ALREADY_EXISTS":
            raise


def read_summaries():
    """The newest summary of every key."""
    table = {}
    reader = Consumer({"bootstrap.servers": bootstrap, "group.id": f"{group}-memory", "enable.auto.commit": False})
    partition = TopicPartition(summaries_topic, 0, OFFSET_BEGINNING)
    _, end = reader.get_watermark_offsets(partition, timeout=30)
    reader.assign([partition])
    position = 0
    while position < end:
        message = reader.poll(1.0)
        if message is not None and not message.error():
            table[message.key().decode()] = json.loads(message.value())
            position = message.offset() + 1
    reader.close()
    return table


table = {}


def shared_out(consumer, partitions):
    # Somebody else may have counted these so far.
    table.clear()
    table.update(read_summaries())
    print("reads", sorted(part.partition for part in partitions), flush=True)


def count(message):
    """Takes a reading into its day's summary. None if that counts it already."""
    reading = json.loads(message.value())
    key = f"{message.key().decode()}/{reading['date'][:10].replace('/', '-')}"
    day = table.get(key, {"hours": 0, "min": reading["temp"], "max": reading["temp"], "offset": -1})
    if message.offset() <= day["offset"]:
        return None
    table[key] = {
        "hours": day["hours"] + 1,
        "min": min(day["min"], reading["temp"]),
        "max": max(day["max"], reading["temp"]),
        "offset": message.offset(),
    }
    return key


make_topic()
producer = Producer({"bootstrap.servers": bootstrap, "acks": "all", "enable.idempotence": True, "linger.ms": 5})
consumer = Consumer({
    "bootstrap.servers": bootstrap,
    "group.id": group,
    "auto.offset.reset": "earliest",
    "enable.auto.commit": False,
    # One that crashed is given up after this long, and the others get its partitions.
    "session.timeout.ms": 6000,
})
consumer.subscribe([topic], on_assign=shared_out)
while not stopping:
    messages = [message for message in consumer.consume(500, 0.2) if not message.error()]
    for message in messages:
        key = count(message)
        if key is not None:
            producer.produce(summaries_topic, key=key, value=json.dumps(table[key]))
    if messages:
        # The summaries first: if this ends before the commit, the offsets in them keep readings from counting twice.
        if producer.flush(30):
            sys.exit("summaries were not acknowledged")
        consumer.commit(asynchronous=False)
        print("summed", len(messages), flush=True)
consumer.close()
