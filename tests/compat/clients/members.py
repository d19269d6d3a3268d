"""Two members of one group: reads a topic together, then alone, and commits.

Usage: members.py ADDRESS GROUP TOPIC STRATEGIES COUNT. STRATEGIES is one for both members or one for each with a comma
between them. `consumer` is the protocol of KIP-848, in which the broker shares out the partitions; any other is a client's.
Publish COUNT records to the topic's partitions before.
Writes one line per step: how the partitions were shared out, what was read, and what is committed.
"""

import sys
import time

from confluent_kafka import Consumer, TopicPartition

address, group, topic, strategies, count = sys.argv[1:]
count = int(count)
first_strategy, _, second_strategy = strategies.partition(",")


def make(strategy):
    settings = {"group.protocol": "consumer"}
    if strategy != "consumer":
        settings = {"partition.assignment.strategy": strategy, "session.timeout.ms": 10000}
    consumer = Consumer({
        "bootstrap.servers": address,
        "group.id": group,
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
        **settings,
    })
    consumer.subscribe([topic])
    return consumer


def partitions(consumer):
    return sorted(part.partition for part in consumer.assignment())


def positions(consumer):
    """How far it has read since it was given what it has."""
    return sum(max(part.offset, 0) for part in consumer.position(consumer.assignment()))


def poll(consumers, seen, is_done, limit=60):
    end = time.monotonic() + limit
    while not is_done():
        if time.monotonic() > end:
            sys.exit(f"not done after {limit} s: {[partitions(c) for c in consumers]}, {len(seen)} read")
        for consumer in consumers:
            message = consumer.poll(0.1)
            if message is None:
                continue
            if message.error():
                sys.exit(str(message.error()))
            seen.append((message.partition(), message.offset()))


seen = []
first = make(first_strategy)
if second_strategy:
    # A group that changes its protocol is one that exists: what waits to join meanwhile is told to ask again.
    poll([first], seen, lambda: len(partitions(first)) == 4)
second = make(second_strategy or first_strategy)
poll([first, second], seen, lambda: len(partitions(first)) == 2 and len(partitions(second)) == 2)
print("shared", len(partitions(first)), len(partitions(second)), sorted(partitions(first) + partitions(second)))
poll([first, second], seen, lambda: positions(first) + positions(second) == count)
print("read", len(set(seen)))
for consumer in (first, second):
    consumer.commit(offsets=[
        TopicPartition(topic, part.partition, part.offset)
        for part in consumer.position(consumer.assignment())
        if part.offset >= 0
    ], asynchronous=False)
second.close()
poll([first], seen, lambda: len(partitions(first)) == 4)
print("alone", partitions(first))
committed = first.committed([TopicPartition(topic, partition) for partition in range(4)], timeout=10)
print("committed", sum(part.offset for part in committed))
first.close()
