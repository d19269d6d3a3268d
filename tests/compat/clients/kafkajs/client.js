// KafkaJS under the contract of tests/compat/src/contract.rs: `node client.js ADDRESS CASE [ARGUMENT...]`.
"use strict";

const readline = require("readline");
const { CompressionCodecs, CompressionTypes, ConfigResourceTypes, Kafka, logLevel } = require("kafkajs");

// The plugin is how KafkaJS takes a codec that is not gzip.
CompressionCodecs[CompressionTypes.Snappy] = require("kafkajs-snappy");

const LIMIT_MS = 100_000;
const UNACKNOWLEDGED_MAX = 50;
const [address, name, ...given] = process.argv.slice(2);

const logCreator = () => ({ log }) => console.error(JSON.stringify(log));
const retry = { initialRetryTime: 50, maxRetryTime: 200, retries: 200 };
const kafka = new Kafka({ brokers: [address], logLevel: logLevel.ERROR, logCreator, retry });

const say = (...words) => process.stdout.write(`${words.join(" ")}\n`);
const shown = (data) => (data === null ? "-" : `=${data.toString()}`);

function sayMessage(partition, message) {
  const headers = Object.entries(message.headers || {}).map(([name, text]) => `${name}=${text}`);
  say(partition, message.offset, message.timestamp, shown(message.key), shown(message.value), ...headers);
}

function parse(line) {
  const [partition, timestamp, key, value, ...headers] = line.split(" ");
  const optional = (field) => (field === "-" ? null : Buffer.from(field.slice(1)));
  const pairs = headers.map((header) => [header.slice(0, header.indexOf("=")), header.slice(header.indexOf("=") + 1)]);
  const message = { partition: Number(partition), timestamp, key: optional(key), value: optional(value) };
  return { ...message, headers: Object.fromEntries(pairs) };
}

async function produce(topic, codec, idempotent) {
  const compression = { none: CompressionTypes.None, gzip: CompressionTypes.GZIP, snappy: CompressionTypes.Snappy }[codec];
  const producer = kafka.producer({ idempotent: idempotent !== undefined, maxInFlightRequests: 1 });
  await producer.connect();
  const publish = async (messages) => {
    for (const { partition, baseOffset } of await producer.send({ topic, acks: -1, compression, messages })) {
      const count = messages.filter((message) => message.partition === partition).length;
      for (let index = 0; index < count; index++) {
        say(partition, BigInt(baseOffset) + BigInt(index));
      }
    }
  };
  let chunk = [];
  for await (const line of readline.createInterface({ input: process.stdin })) {
    chunk.push(parse(line));
    if (chunk.length === UNACKNOWLEDGED_MAX) {
      await publish(chunk);
      chunk = [];
    }
  }
  if (chunk.length > 0) {
    await publish(chunk);
  }
  await producer.disconnect();
}

// A consumer of KafkaJS is always in a group; a reader has one to itself and commits nothing.
async function read(topic, partition, start, count) {
  const consumer = kafka.consumer({ groupId: `reader-${process.pid}`, maxWaitTimeInMs: 200 });
  let offset = start;
  if (start === "beginning" || start === "end") {
    const known = (await withAdmin((admin) => admin.fetchTopicOffsets(topic))).find(
      (one) => one.partition === Number(partition),
    );
    offset = start === "end" ? known.high : known.low;
  }
  if (start === "end") {
    say("ready");
  }
  let left = Number(count);
  await consumer.connect();
  await consumer.subscribe({ topic, fromBeginning: true });
  await new Promise((resolve, reject) => {
    consumer.on(consumer.events.CRASH, ({ payload }) => payload.restart || reject(payload.error));
    const eachMessage = async ({ partition: source, message }) => {
      // Before the seek is carried out, and when the group has formed again, earlier records come.
      if (source !== Number(partition) || BigInt(message.offset) < BigInt(offset) || left === 0) {
        return;
      }
      offset = BigInt(message.offset) + 1n;
      sayMessage(source, message);
      left -= 1;
      if (left === 0) {
        resolve();
      }
    };
    consumer.run({ autoCommit: false, eachMessage }).catch(reject);
    consumer.seek({ topic, partition: Number(partition), offset });
  });
  await consumer.disconnect();
}

async function offsets(topic, partition, ...times) {
  await withAdmin(async (admin) => {
    const ofPartition = (all) => all.find((one) => one.partition === Number(partition));
    const { low, high } = ofPartition(await admin.fetchTopicOffsets(topic));
    say("beginning", low);
    say("end", high);
    for (const time of times) {
      const { offset } = ofPartition(await admin.fetchTopicOffsetsByTimestamp(topic, Number(time)));
      // Nothing so late is told as the end.
      say(time, offset === high ? -1 : offset);
    }
  });
}

async function member(topic, groupId) {
  const consumer = kafka.consumer({ groupId, sessionTimeout: 10000, heartbeatInterval: 200, maxWaitTimeInMs: 200 });
  consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => {
    const partitions = payload.memberAssignment[topic] || [];
    say("assigned", ...partitions.sort((left, right) => left - right));
  });
  const failed = new Promise((_, reject) => {
    consumer.on(consumer.events.CRASH, ({ payload }) => payload.restart || reject(payload.error));
  });
  await consumer.connect();
  await consumer.subscribe({ topic, fromBeginning: true });
  const eachMessage = async ({ partition, message }) => {
    // A commit that fails because somebody joins or leaves throws; whoever has the partition next reads the record.
    await consumer.commitOffsets([{ topic, partition, offset: String(BigInt(message.offset) + 1n) }]);
    sayMessage(partition, message);
  };
  await consumer.run({ autoCommit: false, eachMessage });
  const ended = new Promise((resolve) => process.stdin.resume().on("end", resolve));
  await Promise.race([ended, failed]);
  await consumer.disconnect();
}

async function withAdmin(work) {
  const admin = kafka.admin();
  await admin.connect();
  try {
    return await work(admin);
  } finally {
    await admin.disconnect();
  }
}

async function committed(topic, groupId) {
  const [answer] = await withAdmin((admin) => admin.fetchOffsets({ groupId, topics: [topic] }));
  for (const { partition, offset } of answer.partitions.sort((left, right) => left.partition - right.partition)) {
    if (Number(offset) >= 0) {
      say(partition, offset);
    }
  }
}

const entries = (configs) =>
  configs.map((config) => ({ name: config.slice(0, config.indexOf("=")), value: config.slice(config.indexOf("=") + 1) }));

async function create(topic, partitions, ...configs) {
  const topics = [{ topic, numPartitions: Number(partitions), replicationFactor: 1, configEntries: entries(configs) }];
  if (!(await withAdmin((admin) => admin.createTopics({ topics })))) {
    throw new Error(`${topic} was there already`);
  }
}

async function topics() {
  const { topics: all } = await withAdmin((admin) => admin.fetchTopicMetadata());
  for (const topic of all.sort((left, right) => (left.name < right.name ? -1 : 1))) {
    if (!topic.name.startsWith("__")) {
      say(topic.name, topic.partitions.length);
    }
  }
}

async function partitions(topic, count) {
  await withAdmin((admin) => admin.createPartitions({ topicPartitions: [{ topic, count: Number(count) }] }));
}

async function configs(topic, ...keys) {
  const resources = [{ type: ConfigResourceTypes.TOPIC, name: topic, configNames: keys }];
  const answer = await withAdmin((admin) => admin.describeConfigs({ resources, includeSynonyms: false }));
  for (const key of keys) {
    say(`${key}=${answer.resources[0].configEntries.find((entry) => entry.configName === key).configValue}`);
  }
}

async function alter(topic, ...configs) {
  const resources = [{ type: ConfigResourceTypes.TOPIC, name: topic, configEntries: entries(configs) }];
  await withAdmin((admin) => admin.alterConfigs({ validateOnly: false, resources }));
}

async function deleteRecords(topic, partition, offset) {
  const place = { partition: Number(partition), offset };
  await withAdmin(async (admin) => {
    // KafkaJS deletes only from topics that it has asked about.
    await admin.fetchTopicOffsets(topic);
    await admin.deleteTopicRecords({ topic, partitions: [place] });
  });
}

async function groups() {
  const answer = await withAdmin((admin) => admin.listGroups());
  answer.groups.map(({ groupId }) => groupId).sort().forEach((group) => say(group));
}

async function deleteGroup(group) {
  await withAdmin((admin) => admin.deleteGroups([group]));
}

async function deleteTopic(topic) {
  await withAdmin((admin) => admin.deleteTopics({ topics: [topic] }));
}

const cases = {
  produce, read, offsets, member, committed, create, topics, partitions, configs, alter, "delete-records": deleteRecords,
  groups, "delete-group": deleteGroup, delete: deleteTopic,
};
const fail = (error) => {
  console.error(error);
  process.exit(1);
};
setTimeout(() => fail(new Error(`not done within ${LIMIT_MS} ms`)), LIMIT_MS).unref();
// After a lost broker KafkaJS may leave a handle that keeps the process: the end is said here, behind all output.
cases[name](...given).then(() => process.stdout.write("", () => process.exit(0)), fail);
