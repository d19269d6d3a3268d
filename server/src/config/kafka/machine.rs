//! Kafka's keys about threads, sockets, waiting requests, metrics. Nothing but the table.

use super::{Area, Class, KafkaKey};

/// The keys, by what is to be said of them.
pub(super) const AREAS: &[Area] = &[
    Area {
        class: Class::WithoutEffect,
        reason: "Shards take the place of Kafka's thread pools: `millrace.shards`.",
        keys: &[
            KafkaKey::int("background.threads", Some("10")).dynamic(),
            KafkaKey::int("group.coordinator.background.threads", Some("2")),
            KafkaKey::int("group.coordinator.threads", Some("4")),
            KafkaKey::int("log.cleaner.threads", Some("1")).dynamic(),
            KafkaKey::int("num.io.threads", Some("8")).dynamic(),
            KafkaKey::int("num.network.threads", Some("3")).dynamic(),
            KafkaKey::int("num.recovery.threads.per.data.dir", Some("2")).dynamic(),
            KafkaKey::int("num.replica.alter.log.dirs.threads", None),
        ],
    },
    Area {
        class: Class::WithoutEffect,
        reason: "The memory of requests is bounded, not their number: `millrace.memory.bytes`.",
        keys: &[
            KafkaKey::long("queued.max.request.bytes", Some("-1")),
            KafkaKey::int("queued.max.requests", Some("500")),
        ],
    },
    Area {
        class: Class::WithoutEffect,
        reason: "The system sizes the buffers of sockets, the runtime the queue of a listener.",
        keys: &[
            KafkaKey::int("socket.listen.backlog.size", Some("50")),
            KafkaKey::int("socket.receive.buffer.bytes", Some("102400")),
            KafkaKey::int("socket.send.buffer.bytes", Some("102400")),
        ],
    },
    Area {
        class: Class::WithoutEffect,
        reason: "A request that was answered leaves nothing behind that would have to be purged.",
        keys: &[
            KafkaKey::int("delete.records.purgatory.purge.interval.requests", Some("1")),
            KafkaKey::int("fetch.purgatory.purge.interval.requests", Some("1000")),
            KafkaKey::int("producer.purgatory.purge.interval.requests", Some("1000")),
            KafkaKey::int("share.fetch.purgatory.purge.interval.requests", Some("1000")),
        ],
    },
    Area {
        class: Class::WithoutEffect,
        reason: "Nothing keeps samples for reporters, and classes of Java cannot be loaded.",
        keys: &[
            KafkaKey::int("kafka.metrics.polling.interval.secs", Some("10")),
            KafkaKey::list("kafka.metrics.reporters", Some("")),
            KafkaKey::list("metric.reporters", Some("org.apache.kafka.common.metrics.JmxReporter")).dynamic(),
            KafkaKey::int("metrics.num.samples", Some("2")),
            KafkaKey::string("metrics.recording.level", Some("INFO")),
            KafkaKey::long("metrics.sample.window.ms", Some("30000")),
        ],
    },
    Area {
        class: Class::WithoutEffect,
        reason: "Clients cannot push their metrics.",
        keys: &[KafkaKey::int("telemetry.max.bytes", Some("1048576"))],
    },
    Area {
        class: Class::WithoutEffect,
        reason: "There is no authentication that could fail.",
        keys: &[KafkaKey::int("connection.failed.authentication.delay.ms", Some("100"))],
    },
    Area {
        class: Class::WithoutEffect,
        reason: "DescribeTopicPartitions answers with at most 2,000 partitions.",
        keys: &[KafkaKey::int("max.request.partition.size.limit", Some("2000"))],
    },
    Area {
        class: Class::Refused,
        reason: "Connections are limited as a whole only, by `max.connections`.",
        keys: &[
            KafkaKey::int("max.connection.creation.rate", Some("2147483647")).dynamic(),
            KafkaKey::int("max.connections.per.ip", Some("2147483647")).dynamic(),
            KafkaKey::string("max.connections.per.ip.overrides", Some("")).dynamic(),
        ],
    },
];
