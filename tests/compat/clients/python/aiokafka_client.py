"""aiokafka under the contract of tests/compat/src/contract.rs: `aiokafka_client.py ADDRESS CASE [ARGUMENT...]`."""

import asyncio
import sys

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import CommitFailedError, IllegalGenerationError, RebalanceInProgressError, for_code

from lines import chunks, say, say_record

LIMIT_SECONDS = 100

ADDRESS, CASE, *ARGUMENTS = sys.argv[1:]


async def produce(topic, codec, idempotent=None):
    producer = AIOKafkaProducer(
        bootstrap_servers=ADDRESS,
        acks="all",
        compression_type=None if codec == "none" else codec,
        enable_idempotence=idempotent is not None,
    )
    await producer.start()
    try:
        for chunk in chunks():
            sent = [
                await producer.send(topic, value, key, partition, time, headers)
                for partition, time, key, value, headers in chunk
            ]
            for future in sent:
                acknowledged = await future
                say(acknowledged.partition, acknowledged.offset)
    finally:
        await producer.stop()


def say_message(message):
    say_record(
        message.partition, message.offset, message.timestamp, message.key, message.value, message.headers
    )


async def read(topic, partition, start, count):
    consumer = AIOKafkaConsumer(bootstrap_servers=ADDRESS, enable_auto_commit=False)
    await consumer.start()
    try:
        place = TopicPartition(topic, int(partition))
        consumer.assign([place])
        if start == "beginning":
            await consumer.seek_to_beginning(place)
        elif start == "end":
            await consumer.seek_to_end(place)
            await consumer.position(place)
            say("ready")
        else:
            consumer.seek(place, int(start))
        for _ in range(int(count)):
            say_message(await consumer.getone())
    finally:
        await consumer.stop()


async def offsets(topic, partition, *times):
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=ADDRESS, enable_auto_commit=False)
    await consumer.start()
    try:
        place = TopicPartition(topic, int(partition))
        say("beginning", (await consumer.beginning_offsets([place]))[place])
        say("end", (await consumer.end_offsets([place]))[place])
        for time in times:
            found = (await consumer.offsets_for_times({place: int(time)}))[place]
            say(time, -1 if found is None else found.offset)
    finally:
        await consumer.stop()


class SayAssigned(ConsumerRebalanceListener):
    async def on_partitions_revoked(self, revoked):
        pass

    async def on_partitions_assigned(self, assigned):
        say("assigned", *sorted(place.partition for place in assigned))


async def member(topic, group):
    consumer = AIOKafkaConsumer(
        bootstrap_servers=ADDRESS,
        group_id=group,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        session_timeout_ms=10000,
        heartbeat_interval_ms=200,
    )
    consumer.subscribe([topic], listener=SayAssigned())
    await consumer.start()
    try:
        ended = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        while not ended.done():
            batches = await consumer.getmany(timeout_ms=200)
            for place, messages in batches.items():
                try:
                    await consumer.commit({place: messages[-1].offset + 1})
                except (CommitFailedError, IllegalGenerationError, RebalanceInProgressError):
                    # Whoever has the partition next reads them.
                    continue
                for message in messages:
                    say_message(message)
    finally:
        await consumer.stop()


async def committed(topic, group):
    consumer = AIOKafkaConsumer(bootstrap_servers=ADDRESS, group_id=group, enable_auto_commit=False)
    await consumer.start()
    try:
        for partition in sorted(await partitions_of(topic)):
            place = TopicPartition(topic, partition)
            consumer.assign([place])
            offset = await consumer.committed(place)
            if offset is not None:
                say(partition, offset)
    finally:
        await consumer.stop()


async def with_admin(work):
    admin = AIOKafkaAdminClient(bootstrap_servers=ADDRESS)
    await admin.start()
    try:
        return await work(admin)
    finally:
        await admin.close()


def check(code, message=None):
    if code != 0:
        raise for_code(code)(message)


async def partitions_of(topic):
    described = await with_admin(lambda admin: admin.describe_topics([topic]))
    check(described[0]["error_code"])
    return [partition["partition"] for partition in described[0]["partitions"]]


async def create(topic, partitions, *configs):
    new = NewTopic(topic, int(partitions), 1, topic_configs=dict(config.split("=", 1) for config in configs))
    answer = await with_admin(lambda admin: admin.create_topics([new]))
    for _, code, *message in answer.topic_errors:
        check(code, *message)


async def topics():
    described = await with_admin(lambda admin: admin.describe_topics())
    for topic in sorted(described, key=lambda topic: topic["topic"]):
        check(topic["error_code"])
        if not topic["is_internal"]:
            say(topic["topic"], len(topic["partitions"]))


async def partitions(topic, count):
    await with_admin(lambda admin: admin.create_partitions({topic: NewPartitions(int(count))}))


async def configs(topic, *keys):
    resource = ConfigResource(ConfigResourceType.TOPIC, topic, {key: None for key in keys})
    for answer in await with_admin(lambda admin: admin.describe_configs([resource])):
        for code, message, _, _, entries in answer.resources:
            check(code, message)
            values = {entry[0]: entry[1] for entry in entries}
            for key in keys:
                say(f"{key}={values[key]}")


async def alter(topic, config):
    resource = ConfigResource(ConfigResourceType.TOPIC, topic, dict([config.split("=", 1)]))
    for answer in await with_admin(lambda admin: admin.alter_configs([resource])):
        for code, message, *_ in answer.resources:
            check(code, message)


async def delete_records(topic, partition, offset):
    places = {TopicPartition(topic, int(partition)): RecordsToDelete(int(offset))}
    await with_admin(lambda admin: admin.delete_records(places))


async def groups():
    for group, _kind in sorted(await with_admin(lambda admin: admin.list_consumer_groups())):
        say(group)


async def delete(topic):
    answer = await with_admin(lambda admin: admin.delete_topics([topic]))
    for _, code in answer.topic_error_codes:
        check(code)


CASES = [
    produce, read, offsets, member, committed, create, topics, partitions, configs, alter, delete_records, groups, delete
]
cases = {case.__name__.replace("_", "-"): case for case in CASES}
asyncio.run(asyncio.wait_for(cases[CASE](*ARGUMENTS), LIMIT_SECONDS))
