//! `millbench consume`: reads topics from their start to where they end now, or what comes from now on.

use std::time::Duration;

use super::{Session, measured};
use crate::client::cluster::{LogEnd, find_offsets};
use crate::measured::Measured;
use crate::options::{ClientOptions, From, ReadOptions, TargetOptions, setting};

#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    #[command(flatten)]
    target: TargetOptions,
    #[command(flatten)]
    client: ClientOptions,
    #[command(flatten)]
    read: ReadOptions,
    /// `start` reads what is there and ends; `tail` reads what comes and ends after --duration
    #[arg(long, value_enum, default_value_t = From::Start)]
    from: From,
}

pub(crate) fn run(arguments: &Arguments, session: &Session<'_>) -> anyhow::Result<Measured> {
    let Arguments { target, client, read, from } = arguments;
    let leaders = target.leaders(None)?;
    let mut plan = target.plan("consume", leaders.clone())?;
    let mut reading = read.plan("consume", *from, target, &leaders)?;
    if *from == From::Start {
        reading.ends = Some(find_offsets(&leaders, &target.topics, LogEnd::Latest)?);
        plan.span.ramp = Duration::ZERO;
        plan.span.warm_up = Duration::ZERO;
        plan.span.measured = None;
    }
    plan.reading = Some(reading);
    let client = client.choose(&mut plan)?;
    let outcome = session.drive(plan)?;
    let from = if *from == From::Start { "start" } else { "tail" };
    let settings = client.into_iter().chain(read.settings()).chain([setting("from", from.to_owned())]);
    Ok(measured("consume", target, settings, outcome))
}
