"""Tells when it is warm enough for a walk: 65 degrees and more, between eight and eight.

    walks.py BOOTSTRAP TOPIC GROUP

Prints `walk CITY DATE TEMP` for each such hour and commits what it has read. Stop it and start it again whenever you like:
it goes on where it was. Ends with SIGTERM or Ctrl-C.
"""

import json
import signal
import sys

from confluent_kafka import Consumer

bootstrap, topic, group = sys.argv[1:]
stopping = []
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, lambda *_: stopping.append(True))
consumer = Consumer({
    "bootstrap.servers": bootstrap,
    "group.id": group,
    "auto.offset.reset": "earliest",
    "enable.auto.commit": False,
})
consumer.subscribe([topic])
while not stopping:
    messages = consumer.consume(500, 0.2)
    read = 0
    for message in messages:
        if message.error():
            print(message.error(), file=sys.stderr)
            continue
        read += 1
        reading = json.loads(message.value())
        if reading["temp"] >= 65 and "08:00" <= reading["date"][11:] < "20:00":
            print("walk", message.key().decode(), reading["date"], reading["temp"], flush=True)
    if read:
        # Only now: what was not told yet is read again after a crash.
        consumer.commit(asynchronous=False)
consumer.close()
