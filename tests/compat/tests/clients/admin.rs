//! Cases about topics and their configuration.

use millrace_compat::contract::Record;

use crate::stage::{Stage, TIME, numbered};

pub(crate) fn a_topic_is_created_listed_and_deleted(stage: &Stage) {
    let is_listed = || stage.run(&["topics"]).contains(&format!("{} 3", stage.topic));
    stage.run(&["create", &stage.topic, "3"]);
    assert!(is_listed());
    stage.produce(&[Record::of_value(2, TIME, "last")]);
    stage.run(&["delete", &stage.topic]);
    assert!(!is_listed());
}

pub(crate) fn a_topic_gets_more_partitions(stage: &Stage) {
    stage.make_topic();
    stage.run(&["partitions", &stage.topic, "6"]);
    assert!(stage.run(&["topics"]).contains(&format!("{} 6", stage.topic)));
    let written = stage.produce(&[Record::of_value(5, TIME, "last")]);
    assert_eq!(stage.read(5, "beginning", 1), written);
}

pub(crate) fn a_configuration_is_described_and_changed(stage: &Stage) {
    let topic = stage.topic.as_str();
    stage.run(&["create", topic, "1", "retention.ms=3600000"]);
    assert_eq!(
        stage.run(&["configs", topic, "retention.ms", "cleanup.policy"]),
        ["retention.ms=3600000", "cleanup.policy=delete"]
    );
    stage.run(&["alter", topic, "cleanup.policy=compact"]);
    assert_eq!(stage.run(&["configs", topic, "cleanup.policy"]), ["cleanup.policy=compact"]);
}

pub(crate) fn records_are_deleted(stage: &Stage) {
    stage.make_topic();
    let written = stage.produce(&numbered(0, 10, 1));
    stage.run(&["delete-records", &stage.topic, "0", "4"]);
    assert_eq!(stage.run(&["offsets", &stage.topic, "0"]), ["beginning 4", "end 10"]);
    assert_eq!(stage.read(0, "beginning", 6), written[4..]);
}
