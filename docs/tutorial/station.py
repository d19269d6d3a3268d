"""A weather station: publishes hourly temperatures, keyed by city.

    station.py BOOTSTRAP TOPIC FROM TO CITY=FILE...

Reads CSV files with the columns `date` and `temp` and publishes every reading with FROM <= date < TO, the cities side by
side as the hours pass. Dates are written like 2010/01/31 and may go on with an hour. Prints how many the broker acknowledged.
"""

import csv
import json
import sys

from confluent_kafka import Producer

bootstrap, topic, start, end = sys.argv[1:5]
readings = []
for argument in sys.argv[5:]:
    city, path = argument.split("=", 1)
    with open(path, newline="") as file:
        for row in csv.DictReader(file):
            readings.append((row["date"][:16], city, float(row["temp"])))
readings.sort()

acknowledged = []


def delivered(error, message):
    if error is not None:
        sys.exit(f"not published: {error}")
    acknowledged.append(message.offset())


producer = Producer({"bootstrap.servers": bootstrap, "acks": "all", "enable.idempotence": True, "linger.ms": 5})
for date, city, temperature in readings:
    if start <= date < end:
        value = json.dumps({"date": date, "temp": temperature})
        producer.produce(topic, key=city, value=value, on_delivery=delivered)
        producer.poll(0)
producer.flush()
print("published", len(acknowledged), flush=True)
