//! `millbench latency`: an open loop of producers. Each record has a time at which it is to be sent, and its latency counts
//! from there, however late it really was sent: a broker that stalls delays all that come meanwhile.

use anyhow::ensure;

use super::produce::drive_and_compare;
use super::{Session, measured};
use crate::measured::Measured;
use crate::options::{ClientOptions, SendOptions, TargetOptions};
use crate::workload::quantity::Rate;

#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    #[command(flatten)]
    target: TargetOptions,
    #[command(flatten)]
    client: ClientOptions,
    #[command(flatten)]
    send: SendOptions,
}

pub(crate) fn run(arguments: &Arguments, session: &Session<'_>) -> anyhow::Result<Measured> {
    let Arguments { target, client, send } = arguments;
    ensure!(send.acks != 0, "--acks: a record that is never acknowledged has no latency");
    let send = SendOptions { rate: Some(send.rate.unwrap_or(RATE)), ..send.clone() };
    let leaders = target.leaders(Some(&[]))?;
    let mut plan = target.plan("latency", leaders.clone())?;
    plan.sending = Some(send.plan("produce", target, &leaders)?);
    let client = client.choose(&mut plan)?;
    let outcome = drive_and_compare(session, plan, &target.topics, &leaders)?;
    Ok(measured("latency", target, client.into_iter().chain(send.settings()), outcome))
}

/// Of records per second if nothing is said.
const RATE: Rate = Rate::Records(1000.0);
