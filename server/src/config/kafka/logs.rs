//! Kafka's keys about files, compaction, compression. Nothing but the table.

use super::{Area, Class, KafkaKey};

/// The keys, by what is to be said of them.
pub(super) const AREAS: &[Area] = &[
    Area {
        class: Class::WithoutEffect,
        reason: "Compaction has no buffers but `log.cleaner.dedupe.buffer.size` and its share of `millrace.memory.bytes`.",
        keys: &[
            KafkaKey::double("log.cleaner.io.buffer.load.factor", Some("0.9")).dynamic(),
            KafkaKey::int("log.cleaner.io.buffer.size", Some("524288")).dynamic(),
        ],
    },
    Area {
        class: Class::WithoutEffect,
        reason: "Compaction gives way to requests instead of having a rate.",
        keys: &[KafkaKey::double("log.cleaner.io.max.bytes.per.second", Some("1.7976931348623157E308")).dynamic()],
    },
    Area {
        class: Class::WithoutEffect,
        reason: "The engine decides how dense its indexes are and how much space they get.",
        keys: &[
            KafkaKey::int("log.index.interval.bytes", Some("4096")).dynamic(),
            KafkaKey::int("log.index.size.max.bytes", Some("10485760")).dynamic(),
        ],
    },
    Area {
        class: Class::WithoutEffect,
        reason: "Space is always allocated before records are written to it.",
        keys: &[KafkaKey::boolean("log.preallocate", Some("false")).dynamic()],
    },
    Area {
        class: Class::WithoutEffect,
        reason: "The file of a deleted segment goes as soon as nobody reads it.",
        keys: &[KafkaKey::long("log.segment.delete.delay.ms", Some("60000")).dynamic()],
    },
    Area {
        class: Class::WithoutEffect,
        reason: "Segments roll when they are due; nothing rolls all of them at once.",
        keys: &[
            KafkaKey::int("log.roll.jitter.hours", Some("0")),
            KafkaKey::long("log.roll.jitter.ms", None).dynamic(),
        ],
    },
    Area {
        class: Class::WithoutEffect,
        reason: "The journal of each shard carries what Kafka writes to checkpoint files now and then.",
        keys: &[
            KafkaKey::int("log.flush.offset.checkpoint.interval.ms", Some("60000")),
            KafkaKey::int("log.flush.start.offset.checkpoint.interval.ms", Some("60000")),
            KafkaKey::long("replica.high.watermark.checkpoint.interval.ms", Some("5000")),
        ],
    },
    Area {
        class: Class::WithoutEffect,
        reason: "There is one directory, and without it the broker ends.",
        keys: &[KafkaKey::long("log.dir.failure.timeout.ms", Some("30000"))],
    },
    Area {
        class: Class::WithoutEffect,
        reason: "Batches are stored as producers compressed them.",
        keys: &[
            KafkaKey::int("compression.gzip.level", Some("-1")).dynamic(),
            KafkaKey::int("compression.lz4.level", Some("9")).dynamic(),
            KafkaKey::int("compression.zstd.level", Some("3")).dynamic(),
        ],
    },
    Area {
        class: Class::Refused,
        reason: "Batches are stored as producers compressed them; there is no recompression yet.",
        keys: &[KafkaKey::string("compression.type", Some("producer")).dynamic()],
    },
    Area {
        class: Class::Refused,
        reason: "There is one directory, and new partitions have no other place.",
        keys: &[KafkaKey::list("cordoned.log.dirs", Some("")).dynamic()],
    },
];
