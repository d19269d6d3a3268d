"""Reads a topic as the static member of a group and commits what it has read, until it is ended or the broker is.

    committing.py BOOTSTRAP GROUP TOPIC             reads and commits
    committing.py BOOTSTRAP GROUP TOPIC PARTITIONS  only tells what is committed, as one `told` line

Before a commit is sent, a line `trying partition:offset ...` goes to stdout; once the broker has acknowledged it, a line
`committed` with the same. A commit that fails is not repeated as such: the records behind it are read again and committed
with the next ones. The member keeps its name, so each run of this program takes its predecessor's place at once.
"""

import sys

from confluent_kafka import Consumer, KafkaException, TopicPartition

bootstrap, group, topic = sys.argv[1:4]
consumer = Consumer({
    "bootstrap.servers": bootstrap,
    "group.id": group,
    "group.instance.id": "reader",
    "enable.auto.commit": False,
    "auto.offset.reset": "earliest",
    "fetch.wait.max.ms": 20,
    "reconnect.backoff.ms": 10,
    "reconnect.backoff.max.ms": 50,
    # Lost connections are the point of this program, and no news.
    "log_level": 2,
})


def tell(what, positions):
    print(what, *(f"{partition}:{offset}" for partition, offset in sorted(positions.items())), flush=True)


if len(sys.argv) > 4:
    asked = [TopicPartition(topic, partition) for partition in range(int(sys.argv[4]))]
    told = consumer.committed(asked, timeout=60)
    tell("told", {part.partition: part.offset for part in told if part.offset >= 0})
    sys.exit(0)

consumer.subscribe([topic])
while True:
    positions = {}
    for message in consumer.consume(200, 0.02):
        if message.error() is None:
            positions[message.partition()] = message.offset() + 1
    if not positions:
        continue
    tell("trying", positions)
    offsets = [TopicPartition(topic, partition, offset) for partition, offset in positions.items()]
    try:
        consumer.commit(offsets=offsets, asynchronous=False)
    except KafkaException as error:
        print(error, file=sys.stderr)
        continue
    tell("committed", positions)
