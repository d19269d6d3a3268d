//! `millbench produce`: batches made beforehand, sent as fast as they are acknowledged, or at a rate.
//!
//! After the run the logs must have grown by at least what was acknowledged: two acknowledged batches at one offset, or a
//! batch that is not there, show in that even if no connection saw it.

use super::{Session, measured};
use crate::client::cluster::{Leader, LogEnd, find_offsets};
use crate::drive::Outcome;
use crate::drive::plan::Plan;
use crate::measured::Measured;
use crate::numbers::parse_bytes;
use crate::options::{ClientOptions, SendOptions, TargetOptions, setting};

#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    #[command(flatten)]
    target: TargetOptions,
    #[command(flatten)]
    client: ClientOptions,
    #[command(flatten)]
    send: SendOptions,
    /// Closed loop: end after so many bytes of batches, about, however long it takes, and count them all
    #[arg(long, value_parser = parse_bytes, conflicts_with_all = ["rate", "duration"])]
    bytes: Option<u64>,
}

pub(crate) fn run(arguments: &Arguments, session: &Session<'_>) -> anyhow::Result<Measured> {
    let Arguments { target, client, send, bytes } = arguments;
    let leaders = target.leaders(Some(&[]))?;
    let mut plan = target.plan("produce", leaders.clone())?;
    let mut sending = send.plan("produce", target, &leaders)?;
    if let Some(bytes) = bytes {
        let request_bytes = send.batch_bytes.max(1).saturating_mul(crate::numbers::u64_of(send.batches_per_request));
        sending.request_count_max = Some(bytes.div_ceil(request_bytes));
        (plan.span.ramp, plan.span.warm_up, plan.span.measured) = Default::default();
    }
    plan.sending = Some(sending);
    let client = client.choose(&mut plan)?;
    let outcome = drive_and_compare(session, plan, &target.topics, &leaders)?;
    let settings =
        client.into_iter().chain(send.settings()).chain(bytes.map(|bytes| setting("bytes", bytes.to_string())));
    Ok(measured("produce", target, settings, outcome))
}

/// Drives producers and compares what was acknowledged with how far the logs have grown.
pub(crate) fn drive_and_compare(
    session: &Session<'_>,
    plan: Plan,
    topics: &[String],
    leaders: &[Leader],
) -> anyhow::Result<Outcome> {
    let before = find_offsets(leaders, topics, LogEnd::Latest)?;
    let is_acknowledged = plan.sending.as_ref().is_some_and(|sending| sending.acks != 0);
    let mut outcome = session.drive(plan)?;
    if !is_acknowledged {
        return Ok(outcome);
    }
    let after = find_offsets(leaders, topics, LogEnd::Latest)?;
    for (place, start) in before {
        let end = after.get(&place).copied().unwrap_or(start);
        let grown = u64::try_from(end - start).unwrap_or(0);
        let of_place = outcome.acknowledged.iter().filter(|((candidate, _), _)| *candidate == place);
        let count: u64 = of_place.map(|(_, count)| count).sum();
        if grown < count {
            let partition = place.partition;
            let sentence =
                format!("partition {partition}: {count} records were acknowledged and the log grew by {grown}");
            outcome.findings.push(sentence);
        }
    }
    Ok(outcome)
}
