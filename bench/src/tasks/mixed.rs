//! `millbench mixed` and `end-to-end`: producers and consumers of the same topics at once.
//!
//! Consumers begin where the logs end and stop where they end after the last acknowledgement; every acknowledged record
//! must be among what each of them read. They differ in what a consumer's latency is: of its requests, or of each record
//! from when it was due to be sent.

use anyhow::ensure;
use millrace_protocol::batch::Compression;

use super::produce::drive_and_compare;
use super::{Session, measured};
use crate::drive::plan::{Check, Timing};
use crate::measured::Measured;
use crate::options::{ClientOptions, From, ReadOptions, SendOptions, TargetOptions};
use crate::workload::batch::Stamping;
use crate::workload::quantity::Rate;

#[derive(clap::Args, Debug)]
#[group(skip)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(super) target: TargetOptions,
    #[command(flatten)]
    pub(super) client: ClientOptions,
    #[command(flatten)]
    pub(super) send: SendOptions,
    #[command(flatten)]
    pub(super) read: ReadOptions,
}

pub(crate) fn run(arguments: &Arguments, session: &Session<'_>) -> anyhow::Result<Measured> {
    drive(arguments, session, "mixed", "consume", Timing::Requests)
}

pub(crate) fn run_end_to_end(arguments: &Arguments, session: &Session<'_>) -> anyhow::Result<Measured> {
    let send = SendOptions { rate: Some(arguments.send.rate.unwrap_or(RATE)), ..arguments.send.clone() };
    let Arguments { target, client, read, .. } = arguments;
    let arguments = Arguments { target: target.clone(), client: *client, send, read: read.clone() };
    drive(&arguments, session, "end-to-end", "end-to-end", Timing::Records)
}

fn drive(
    arguments: &Arguments,
    session: &Session<'_>,
    task: &str,
    series: &str,
    timing: Timing,
) -> anyhow::Result<Measured> {
    let Arguments { target, client, send, read } = arguments;
    ensure!(send.acks != 0, "--acks: records that are never acknowledged cannot be looked for");
    let leaders = target.leaders(Some(&[]))?;
    let mut plan = target.plan(task, leaders.clone())?;
    let mut sending = send.plan("produce", target, &leaders)?;
    let mut reading = read.plan(series, From::Tail, target, &leaders)?;
    if timing == Timing::Records {
        let record_bytes_min = sending.shape.values.bytes_min();
        ensure!(record_bytes_min.is_some_and(|bytes| bytes >= crate::workload::stamp::STAMP_BYTES), NO_ROOM);
        sending.shape.stamping = Stamping::Every;
    }
    reading.timing = timing;
    reading.follows_senders = true;
    // Records that nobody looks at cannot be missed.
    let is_stamped = sending.shape.stamping != Stamping::None;
    let is_looked_at = target.check == Check::Crc || send.compression == Compression::None || timing == Timing::Records;
    reading.is_compared = target.check != Check::None && is_stamped && is_looked_at;
    plan.sending = Some(sending);
    plan.reading = Some(reading);
    let client = client.choose(&mut plan)?;
    let outcome = drive_and_compare(session, plan, &target.topics, &leaders)?;
    let settings = client.into_iter().chain(send.settings()).chain(read.settings());
    Ok(measured(task, target, settings, outcome))
}

const NO_ROOM: &str =
    "--record-bytes: a value has at least 32 bytes here, for the time at which it was due, and no file";
/// Of records per second if nothing is said.
const RATE: Rate = Rate::Records(1000.0);
