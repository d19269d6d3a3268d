"""Publishes records and tells, one line each, which of them the broker has acknowledged.

    acknowledged.py BOOTSTRAP TOPIC < records

A line of input is `key|value`. For every acknowledged record its line number (from 0) goes to stdout at once, in the order
of the acknowledgements. Nothing is retried and nothing is sent after the first failure, so what the log may hold is exact:
per partition a prefix of what was sent, at least as long as what was acknowledged. Exit status 0 if all were acknowledged,
1 if one was not.
"""

import sys

from confluent_kafka import KafkaException, Producer

QUEUED_RECORDS_MAX = 200

bootstrap, topic = sys.argv[1:]
failures = []
producer = Producer({
    "bootstrap.servers": bootstrap,
    "acks": "all",
    "retries": 0,
    "linger.ms": 1,
    "batch.num.messages": 50,
    "message.timeout.ms": 20000,
    # Otherwise a lost broker is waited for; here it ends the run.
    "reconnect.backoff.max.ms": 100,
    "log_level": 3,
})


def delivered(number):
    def callback(error, _message):
        if error is None:
            print(number, flush=True)
        else:
            failures.append(str(error))

    return callback


for number, line in enumerate(sys.stdin.buffer.read().splitlines()):
    key, value = line.split(b"|", 1)
    producer.produce(topic, key=key, value=value, on_delivery=delivered(number))
    while len(producer) > QUEUED_RECORDS_MAX and not failures:
        producer.poll(0.1)
    if failures:
        break

if not failures:
    while len(producer) and not failures:
        producer.poll(0.1)
producer.purge()
try:
    producer.flush(5)
except KafkaException as error:
    failures.append(str(error))
if failures:
    print(failures[0], file=sys.stderr)
sys.exit(1 if failures else 0)
