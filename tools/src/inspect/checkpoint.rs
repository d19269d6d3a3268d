//! Shows a checkpoint.

use millrace_engine::format::checkpoint::Checkpoint;

use super::{Inspection, table};

pub(super) fn inspect(bytes: &[u8]) -> Inspection {
    let Some(checkpoint) = Checkpoint::decode(bytes) else {
        let damage = vec!["the checkpoint's magic, version or checksum does not hold".to_owned()];
        return Inspection { text: format!("{} bytes", bytes.len()), damage };
    };
    let state = if checkpoint.clean { "clean: the shard was stopped in order" } else { "not clean" };
    let generation = checkpoint.journal_generation;
    let columns =
        ["partition", "cut", "start offset", "end offset", "segment", "durable to byte", "leader epoch", "incarnation"];
    let mut table = table(&columns, 2);
    for entry in &checkpoint.entries {
        table.add_row([
            entry.partition.to_string(),
            if entry.cut_pending { "to be done" } else { "" }.to_owned(),
            entry.start_offset.to_string(),
            entry.end_offset.to_string(),
            entry.segment_base.to_string(),
            entry.position.get().to_string(),
            entry.leader_epoch.get().to_string(),
            entry.incarnation.get().to_string(),
        ]);
    }
    let count = checkpoint.entries.len();
    let text = format!("{state}; rounds count from journal generation {generation} on; {count} logs\n{table}");
    Inspection { text, damage: Vec::new() }
}
