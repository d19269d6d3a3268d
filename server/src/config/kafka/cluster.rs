//! Kafka's keys about the other brokers and the controller. Nothing but the table.

use super::{Area, Class, KafkaKey};

/// The keys, by what is to be said of them.
pub(super) const AREAS: &[Area] = &[
    Area {
        class: Class::WithoutEffect,
        reason: "One broker is broker and controller.",
        keys: &[
            KafkaKey::list("controller.listener.names", Some("CONTROLLER")),
            KafkaKey::list("early.start.listeners", None),
            KafkaKey::string("inter.broker.listener.name", None),
            KafkaKey::list("process.roles", Some("")),
        ],
    },
    Area {
        class: Class::WithoutEffect,
        reason: "The broker is its own controller: nobody has to be elected, asked or waited for.",
        keys: &[
            KafkaKey::int("broker.heartbeat.interval.ms", Some("2000")),
            KafkaKey::int("broker.session.timeout.ms", Some("9000")),
            KafkaKey::boolean("controlled.shutdown.enable", Some("true")),
            KafkaKey::int("controller.quorum.append.linger.ms", Some("25")),
            KafkaKey::boolean("controller.quorum.auto.join.enable", Some("false")),
            KafkaKey::int("controller.quorum.election.backoff.max.ms", Some("1000")),
            KafkaKey::int("controller.quorum.election.timeout.ms", Some("1000")),
            KafkaKey::int("controller.quorum.fetch.max.bytes", Some("1048576")),
            KafkaKey::int("controller.quorum.fetch.snapshot.max.bytes", Some("1048576")),
            KafkaKey::int("controller.quorum.fetch.timeout.ms", Some("2000")),
            KafkaKey::int("controller.quorum.request.timeout.ms", Some("2000")),
            KafkaKey::int("controller.quorum.retry.backoff.ms", Some("20")),
            KafkaKey::int("controller.socket.timeout.ms", Some("30000")),
            KafkaKey::int("initial.broker.registration.timeout.ms", Some("60000")),
        ],
    },
    Area {
        class: Class::WithoutEffect,
        reason: "The metadata log lies with the other logs, and all of it is kept.",
        keys: &[
            KafkaKey::string("metadata.log.dir", None),
            KafkaKey::long("metadata.log.max.record.bytes.between.snapshots", Some("20971520")),
            KafkaKey::long("metadata.log.max.snapshot.interval.ms", Some("3600000")),
            KafkaKey::int("metadata.log.segment.bytes", Some("1073741824")),
            KafkaKey::long("metadata.log.segment.ms", Some("604800000")),
            KafkaKey::int("metadata.max.idle.interval.ms", Some("500")),
            KafkaKey::long("metadata.max.retention.bytes", Some("104857600")),
            KafkaKey::long("metadata.max.retention.ms", Some("604800000")),
        ],
    },
    Area {
        class: Class::WithoutEffect,
        reason: "A partition has one replica, which nobody fetches from or elects.",
        keys: &[
            KafkaKey::boolean("auto.leader.rebalance.enable", Some("true")),
            KafkaKey::long("leader.imbalance.check.interval.seconds", Some("300")),
            KafkaKey::int("num.replica.fetchers", Some("1")).dynamic(),
            KafkaKey::int("replica.fetch.backoff.ms", Some("1000")),
            KafkaKey::int("replica.fetch.max.bytes", Some("1048576")),
            KafkaKey::int("replica.fetch.min.bytes", Some("1")),
            KafkaKey::int("replica.fetch.response.max.bytes", Some("10485760")),
            KafkaKey::int("replica.fetch.wait.max.ms", Some("500")),
            KafkaKey::long("replica.lag.time.max.ms", Some("30000")),
            KafkaKey::string("replica.selector.class", None),
            KafkaKey::int("replica.socket.receive.buffer.bytes", Some("65536")),
            KafkaKey::int("replica.socket.timeout.ms", Some("30000")),
            KafkaKey::int("request.timeout.ms", Some("30000")),
            KafkaKey::long("socket.connection.setup.timeout.max.ms", Some("30000")),
            KafkaKey::long("socket.connection.setup.timeout.ms", Some("10000")),
            KafkaKey::boolean("unclean.leader.election.enable", Some("false")).dynamic(),
        ],
    },
    Area {
        class: Class::WithoutEffect,
        reason: "No quota can be set, so there is nothing to measure.",
        keys: &[
            KafkaKey::int("alter.log.dirs.replication.quota.window.num", Some("11")),
            KafkaKey::int("alter.log.dirs.replication.quota.window.size.seconds", Some("1")),
            KafkaKey::int("controller.quota.window.num", Some("11")),
            KafkaKey::int("controller.quota.window.size.seconds", Some("1")),
            KafkaKey::int("quota.window.num", Some("11")),
            KafkaKey::int("quota.window.size.seconds", Some("1")),
            KafkaKey::int("replication.quota.window.num", Some("11")),
            KafkaKey::int("replication.quota.window.size.seconds", Some("1")),
        ],
    },
    Area {
        class: Class::Refused,
        reason: "There is no quorum to be part of: one broker holds the metadata.",
        keys: &[
            KafkaKey::list("controller.quorum.bootstrap.servers", Some("")),
            KafkaKey::list("controller.quorum.voters", Some("")),
        ],
    },
    Area {
        class: Class::Refused,
        reason: "Classes of Java cannot be loaded, and a policy that nobody asks would allow everything.",
        keys: &[
            KafkaKey::class("alter.config.policy.class.name", None),
            KafkaKey::class("client.quota.callback.class", None),
            KafkaKey::class("create.topic.policy.class.name", None),
        ],
    },
    Area {
        class: Class::Refused,
        reason: "Values are taken as they are written; no provider replaces them.",
        keys: &[KafkaKey::list("config.providers", Some("")).dynamic()],
    },
];
