//! The same requests to Millrace and to a real Apache Kafka: the answers are the same, but for ids, times and what is listed.
//!
//! A script asks one broker after the other and keeps what was answered as text. Modules in reading order: `transcript` is
//! that text, with ids and times taken out; `topics`, `layouts`, `records`, `groups`, `members`, `rebalance`,
//! `commits`, `cluster` and `settings` are the scripts; `accepted` lists the differences that are meant, with their reasons.

mod accepted;
mod cluster;
mod commits;
mod groups;
mod layouts;
mod members;
mod rebalance;
mod records;
mod settings;
mod topics;
mod transcript;

use millrace_compat::Broker;
use millrace_compat::apache::Apache;

use crate::transcript::Peer;

#[test]
fn the_answers_are_those_of_apache_kafka() {
    let millrace = Broker::start_with(&["--set", "group.initial.rebalance.delay.ms=0"]);
    let kafka = Apache::start(&["group.initial.rebalance.delay.ms=0"]);
    let [ours, theirs] = [millrace.address(), kafka.address()].map(|address| {
        let mut peer = Peer::connect(address);
        topics::run(&mut peer);
        layouts::run(&mut peer);
        records::run(&mut peer);
        groups::run(&mut peer);
        members::run(&mut peer);
        rebalance::run(&mut peer);
        commits::run(&mut peer);
        cluster::run(&mut peer);
        settings::run(&mut peer);
        peer.finish()
    });
    let mut accepted = accepted::Accepted::default();
    let differences = transcript::compare(&ours, &theirs, &mut accepted);
    assert!(differences.is_empty(), "{} differences\n{}", differences.len(), differences.join("\n"));
    assert_eq!(accepted.unused(), [""; 0], "these differences are listed, but not there");
}
