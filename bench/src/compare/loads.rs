//! What is run against each broker: command lines of millbench, so that a reader can repeat any of them by hand.

use crate::limits::Part;

/// Whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Side {
    /// Millrace.
    Ours,
    /// The peer at its defaults; Kafka flushes nothing by itself then.
    Theirs,
    /// Kafka with a flush for every message.
    TheirsFlushed,
}

/// A load, the same for every broker.
#[derive(Debug)]
pub(super) struct Load {
    /// What rows name it by.
    pub(super) name: &'static str,
    /// Who is measured.
    pub(super) sides: &'static [Side],
    /// What of the machine itself is measured right before each run.
    pub(super) floors: &'static [Part],
    /// Once in all, and not in each round: it takes long.
    pub(super) once: bool,
    /// What Millrace is started with, beside its defaults.
    pub(super) settings: &'static [&'static str],
    /// Command lines without address, topic and process, as a reader would type them; only the last one is measured. Words in
    /// braces stand for what is known once a broker runs: see [`Stage`].
    pub(super) lines: fn(Scale) -> Vec<String>,
}

/// What command lines are completed with.
#[derive(Debug, Default)]
pub(super) struct Stage {
    /// Address of the broker.
    pub(super) bootstrap: String,
    /// Its process; of a load that starts it by itself, 0.
    pub(super) pid: u32,
    /// `{admin}`: address of its admin listener.
    pub(super) admin: String,
    /// `{second}`: address of another broker of the same kind.
    pub(super) second: String,
    /// `{command}`: what starts the broker.
    pub(super) command: String,
}

/// How much is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scale {
    Full,
    Quick,
}

impl Scale {
    fn pick(self, full: &'static str, quick: &'static str) -> &'static str {
        match self {
            Self::Full => full,
            Self::Quick => quick,
        }
    }

    /// As fast as the broker takes it: a closed loop needs little warm-up.
    fn closed_loop(self) -> &'static str {
        self.pick("--duration 8s", "--warm-up 1s --duration 2s")
    }

    /// At a rate: tails need many samples.
    fn open_loop(self) -> &'static str {
        self.pick("--warm-up 5s --duration 10s", "--warm-up 2s --duration 3s")
    }
}

impl Load {
    /// The words of the command lines, complete, for one broker.
    pub(super) fn lines_on(&self, scale: Scale, stage: &Stage) -> Vec<Vec<String>> {
        let complete = |line: String| {
            let mut words: Vec<String> = line.split_ascii_whitespace().map(|word| stage.word(word)).collect();
            words.extend(["--bootstrap".to_owned(), stage.bootstrap.clone()]);
            if !line.starts_with("connections") {
                words.extend(["--topic".to_owned(), "millbench".to_owned()]);
            }
            if stage.pid != 0 {
                words.extend(["--broker-pid".to_owned(), stage.pid.to_string()]);
            }
            words
        };
        (self.lines)(scale).into_iter().map(complete).collect()
    }

    /// Whether it takes a broker that can be had twice at once, or started again on its data.
    pub(super) fn needs_its_data(&self) -> bool {
        self.names(SECOND) || self.names(COMMAND)
    }

    /// Whether one of the lines has this word.
    pub(super) fn names(&self, word: &str) -> bool {
        (self.lines)(Scale::Full).iter().any(|line| line.split_ascii_whitespace().any(|found| found == word))
    }
}

impl Stage {
    fn word(&self, word: &str) -> String {
        match word {
            "{admin}" => &self.admin,
            SECOND => &self.second,
            COMMAND => &self.command,
            _ => word,
        }
        .to_owned()
    }
}

/// A load with this word needs another broker of the same kind.
pub(super) const SECOND: &str = "{second}";
/// A load with this word starts the broker by itself.
pub(super) const COMMAND: &str = "{command}";

const BOTH: &[Side] = &[Side::Ours, Side::Theirs];
const ALL: &[Side] = &[Side::Ours, Side::Theirs, Side::TheirsFlushed];
const OURS: &[Side] = &[Side::Ours];

/// Four partitions, as fast as they take large batches.
const LARGE: &str = "produce --partitions 4 --connections 4 --in-flight 4 --batch-bytes 256K";

/// Every load, in the order of the table.
pub(super) const LOADS: &[Load] = &[
    Load {
        name: "large batches",
        sides: BOTH,
        floors: &[Part::Loopback, Part::Disk],
        once: false,
        settings: &[],
        lines: |scale| vec![format!("{LARGE} {}", scale.closed_loop())],
    },
    Load {
        name: "small records",
        sides: BOTH,
        floors: &[],
        once: false,
        settings: &[],
        lines: |scale| vec![format!("{LARGE} --record-bytes 100 {}", scale.closed_loop())],
    },
    Load {
        name: "one record per request",
        sides: BOTH,
        floors: &[Part::Echo],
        once: false,
        settings: &[],
        lines: |scale| {
            vec![format!(
                "produce --partitions 4 --connections 200 --in-flight 1 --batch-bytes 1 {}",
                scale.closed_loop()
            )]
        },
    },
    Load {
        name: "read from memory",
        sides: BOTH,
        floors: &[Part::Loopback],
        once: false,
        settings: &[],
        lines: |scale| {
            vec![
                format!(
                    "produce --partitions 4 --connections 4 --batch-bytes 256K --bytes {}",
                    scale.pick("256M", "128M")
                ),
                scale.pick("consume --consumers 2", "consume").to_owned(),
                format!("consume --consumers {}", scale.pick("12", "8")),
            ]
        },
    },
    Load {
        name: "read from another shard",
        sides: OURS,
        floors: &[],
        once: false,
        settings: &["millrace.shards=2"],
        lines: |scale| {
            let time = scale.pick("--duration 2s", "--duration 1s --rounds 1");
            vec![
                "produce --partitions 1 --batch-bytes 256K --bytes 64M".to_owned(),
                format!("shards --admin {{admin}} --warm-up 0s {time}"),
            ]
        },
    },
    Load {
        name: "fan-out",
        sides: BOTH,
        floors: &[],
        once: false,
        settings: &[],
        lines: |scale| {
            let time = scale.closed_loop();
            vec![
                "produce --partitions 1 --batch-bytes 256K --bytes 1M".to_owned(),
                format!("mixed --partitions 1 --consumers 8 --rate 30MB/s --linger 5ms --batch-bytes 256K {time}"),
            ]
        },
    },
    Load {
        name: "10,000 records/s",
        sides: ALL,
        floors: &[Part::Flush, Part::Echo],
        once: false,
        settings: &[],
        lines: |scale| vec![format!("latency --partitions 4 --connections 4 --rate 10000 {}", scale.open_loop())],
    },
    Load {
        name: "50,000 records/s, linger 1 ms",
        sides: ALL,
        floors: &[Part::Flush, Part::Echo],
        once: false,
        settings: &[],
        lines: |scale| {
            vec![format!("latency --partitions 4 --connections 4 --rate 50000 --linger 1ms {}", scale.open_loop())]
        },
    },
    Load {
        name: "end to end",
        sides: BOTH,
        floors: &[],
        once: false,
        settings: &[],
        lines: |scale| vec![format!("end-to-end --partitions 1 --rate 1000 {}", scale.open_loop())],
    },
    Load {
        name: "cold scan",
        sides: BOTH,
        floors: &[],
        once: true,
        settings: &[],
        lines: |scale| {
            let time = scale.pick("--fill 4G --warm-up 3s --duration 10s", "--fill 1G --rounds 1 --duration 3s");
            let send = "--partitions 4 --connections 4 --rate 5000";
            vec![format!("cold-read {send} --read-rate 300MB/s --scan-elsewhere {SECOND} {time}")]
        },
    },
    Load {
        name: "rolls",
        sides: OURS,
        floors: &[],
        once: false,
        settings: &[],
        lines: |scale| {
            let time = scale.pick("--duration 34s", "--warm-up 1s --duration 4s");
            vec![format!("roll --partitions 4 --connections 4 --rate 100MB/s --linger 5ms {time}")]
        },
    },
    Load {
        name: "many partitions",
        sides: OURS,
        floors: &[Part::Flush],
        once: true,
        settings: &[],
        lines: |scale| {
            let (count, rounds) = (scale.pick("10000", "1000"), scale.pick("3", "1"));
            let time = scale.pick("--duration 10s", "--warm-up 1s --duration 2s");
            let batches = "--connections 4 --batch-bytes 1K --record-bytes 900 --batches-per-request 10";
            vec![format!("partitions --partitions {count} {batches} --rounds {rounds} {time}")]
        },
    },
    Load {
        name: "restart",
        sides: BOTH,
        floors: &[],
        once: true,
        settings: &[],
        lines: |scale| {
            let size = scale.pick("--partitions 10000 --fill 8G", "--partitions 1000 --fill 256M");
            let send = "--connections 4 --batch-bytes 16K --duration 3s";
            vec![format!("restart {size} {send} --command {COMMAND}")]
        },
    },
    Load {
        name: "soak",
        sides: OURS,
        floors: &[],
        once: true,
        settings: &[],
        lines: |scale| {
            let (count, time) = (scale.pick("1000", "100"), scale.pick("600s", "8s --probe 2s"));
            vec![format!(
                "soak --partitions {count} --connections {count} --consumer-connections {count} --duration {time}"
            )]
        },
    },
    Load {
        name: "idle",
        sides: BOTH,
        floors: &[],
        once: true,
        settings: &[],
        lines: |scale| {
            let (partitions, connections) = (scale.pick("10000", "1000"), scale.pick("1000", "200"));
            vec![
                format!("produce --partitions {partitions} --bytes 1M --batch-bytes 1K"),
                format!("connections --count {connections} --duration {}", scale.pick("20s", "3s")),
            ]
        },
    },
];
