"""The lines in which every client program takes and gives records; tests/compat/src/contract.rs is the other side.

A record to publish is `PARTITION TIME KEY VALUE [HEADER...]`, a record that was read has its offset after the partition.
A key or a value is `-` for none, or `=` and its text. A header is `name=text`. Texts have no spaces.
"""

import sys

# How many records a producer hands over before it waits for all their acknowledgements.
UNACKNOWLEDGED_MAX = 50


def optional(field):
    return None if field == "-" else field[1:].encode()


def parse(line):
    partition, time, key, value, *headers = line.rstrip("\n").split(" ")
    headers = [(name, text.encode()) for name, text in (header.split("=", 1) for header in headers)]
    return int(partition), int(time), optional(key), optional(value), headers


def chunks():
    """The records on stdin, in lists that are published and waited for as one."""
    chunk = []
    for line in sys.stdin:
        chunk.append(parse(line))
        if len(chunk) == UNACKNOWLEDGED_MAX:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def shown(data):
    return "-" if data is None else "=" + data.decode()


def say(*words):
    print(*words, flush=True)


def say_record(partition, offset, time, key, value, headers):
    say(partition, offset, time, shown(key), shown(value), *(name + shown(text) for name, text in headers))
