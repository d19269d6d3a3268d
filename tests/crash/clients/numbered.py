"""Publishes numbered records until it is told to stop, whatever becomes of the broker meanwhile.

    numbered.py BOOTSTRAP TOPIC PARTITIONS KEYS

Record n goes to partition n % PARTITIONS with the key n % KEYS and a value that follows from n (see `value`). The producer
is idempotent and retries for as long as it takes, so a partition may hold nothing but its records, each once, in order. For
every acknowledged record a line `number partition offset` goes to stdout at once. SIGTERM: send no more, wait for the
answers, end with status 0. Status 1, and the reason on stderr, if a record could not be delivered.
"""

import signal
import sys

from confluent_kafka import Producer

QUEUED_RECORDS_MAX = 400

bootstrap, topic = sys.argv[1:3]
partitions, keys = int(sys.argv[3]), int(sys.argv[4])
failures = []
stopping = []
signal.signal(signal.SIGTERM, lambda *_: stopping.append(True))
producer = Producer({
    "bootstrap.servers": bootstrap,
    "enable.idempotence": True,
    "linger.ms": 1,
    "batch.num.messages": 20,
    "message.timeout.ms": 300000,
    "reconnect.backoff.ms": 10,
    "reconnect.backoff.max.ms": 50,
    "retry.backoff.ms": 10,
    "retry.backoff.max.ms": 100,
    # Lost connections are the point of this program, and no news.
    "log_level": 2,
})


def value(number):
    """The number, then letters: so many that no two neighbours are equally long."""
    return f"{number}:" + "abcdefghijklmnopqrstuvwxyz" * (number * 7919 % 23)


def delivered(number):
    def callback(error, message):
        if error is None:
            print(number, message.partition(), message.offset(), flush=True)
        else:
            failures.append(f"record {number}: {error}")

    return callback


number = 0
while not stopping and not failures:
    producer.produce(
        topic,
        key=str(number % keys),
        value=value(number),
        partition=number % partitions,
        on_delivery=delivered(number),
    )
    number += 1
    while len(producer) > QUEUED_RECORDS_MAX and not failures and not stopping:
        producer.poll(0.1)
    producer.poll(0)
while len(producer) and not failures:
    producer.poll(0.1)
if failures:
    print(failures[0], file=sys.stderr)
    sys.exit(1)
