//! Kafka's keys about remote storage. Nothing but the table.

use super::{Area, Class, KafkaKey};

/// The keys, by what is to be said of them.
pub(super) const AREAS: &[Area] = &[
    Area {
        class: Class::WithoutEffect,
        reason: "Remote storage is not there, and these say only how it would work.",
        keys: &[
            KafkaKey::boolean("follower.fetch.last.tiered.offset.enable", Some("false")).dynamic(),
            KafkaKey::long("log.local.retention.bytes", Some("-2")).dynamic(),
            KafkaKey::long("log.local.retention.ms", Some("-2")).dynamic(),
            KafkaKey::int("remote.fetch.max.wait.ms", Some("500")).dynamic(),
            KafkaKey::long("remote.list.offsets.request.timeout.ms", Some("30000")).dynamic(),
            KafkaKey::long("remote.log.index.file.cache.total.size.bytes", Some("1073741824")).dynamic(),
            KafkaKey::int("remote.log.manager.copier.thread.pool.size", Some("10")).dynamic(),
            KafkaKey::long("remote.log.manager.copy.max.bytes.per.second", Some("9223372036854775807")).dynamic(),
            KafkaKey::int("remote.log.manager.copy.quota.window.num", Some("11")),
            KafkaKey::int("remote.log.manager.copy.quota.window.size.seconds", Some("1")),
            KafkaKey::int("remote.log.manager.expiration.thread.pool.size", Some("10")).dynamic(),
            KafkaKey::long("remote.log.manager.fetch.max.bytes.per.second", Some("9223372036854775807")).dynamic(),
            KafkaKey::int("remote.log.manager.fetch.quota.window.num", Some("11")),
            KafkaKey::int("remote.log.manager.fetch.quota.window.size.seconds", Some("1")),
            KafkaKey::int("remote.log.manager.follower.thread.pool.size", Some("2")).dynamic(),
            KafkaKey::long("remote.log.manager.task.interval.ms", Some("30000")),
            KafkaKey::int("remote.log.manager.thread.pool.size", Some("2")),
            KafkaKey::int("remote.log.metadata.custom.metadata.max.bytes", Some("128")),
            KafkaKey::int("remote.log.reader.max.pending.tasks", Some("100")),
            KafkaKey::int("remote.log.reader.threads", Some("10")).dynamic(),
        ],
    },
    Area {
        class: Class::Refused,
        reason: "Remote storage is not there.",
        keys: &[
            KafkaKey::string(
                "remote.log.metadata.manager.class.name",
                Some("org.apache.kafka.server.log.remote.metadata.storage.TopicBasedRemoteLogMetadataManager"),
            ),
            KafkaKey::string("remote.log.metadata.manager.class.path", None),
            KafkaKey::string("remote.log.metadata.manager.impl.prefix", Some("rlmm.config.")),
            KafkaKey::string("remote.log.metadata.manager.listener.name", None),
            KafkaKey::string("remote.log.storage.manager.class.name", None),
            KafkaKey::string("remote.log.storage.manager.class.path", None),
            KafkaKey::string("remote.log.storage.manager.impl.prefix", Some("rsm.config.")),
            KafkaKey::boolean("remote.log.storage.system.enable", Some("false")),
        ],
    },
];
