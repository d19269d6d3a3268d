//! The subcommands that load a broker. Each turns its options into plans, has them driven, and hands over what came of it.

pub(crate) mod cold_read;
pub(crate) mod connections;
pub(crate) mod consume;
pub(crate) mod latency;
pub(crate) mod mixed;
pub(crate) mod partitions;
pub(crate) mod produce;
pub(crate) mod restart;
pub(crate) mod roll;

use crate::drive;
use crate::drive::Outcome;
use crate::drive::plan::Plan;
use crate::measured::{Measured, Series};
use crate::options::{TargetOptions, setting};
use crate::report::ReportOptions;
use crate::stop::Stop;

/// What a subcommand has besides its options.
pub(crate) struct Session<'a> {
    pub(crate) stop: &'a Stop,
    pub(crate) report: &'a ReportOptions,
}

impl Session<'_> {
    /// Has a plan carried out, and shows how it goes on.
    pub(crate) fn drive(&self, plan: Plan) -> anyhow::Result<Outcome> {
        let mut progress = self.report.progress(plan.span.total());
        let outcome = drive::run(plan, self.stop, &mut progress);
        if let Ok(outcome) = &outcome {
            progress.note(&format!("checks took {}", cost_of_checks(outcome)));
        }
        progress.finish();
        outcome
    }
}

/// Adds what was measured later in the same run: its seconds come behind those before.
pub(crate) fn append(series: &mut Series, later: Option<Series>) {
    let Some(later) = later else { return };
    series.latency.add(later.latency).expect("all histograms of a whole run have the same bounds");
    series.counts.add(later.counts);
    series.seconds.extend(later.seconds);
}

/// What a run found out, for reports.
pub(crate) fn measured(
    task: &str,
    target: &TargetOptions,
    settings: impl IntoIterator<Item = (String, String)>,
    outcome: Outcome,
) -> Measured {
    let mut settings: Vec<_> = target.settings().into_iter().chain(settings).collect();
    settings.push(setting("cost of checks", cost_of_checks(&outcome)));
    let series: Vec<Series> = outcome.sent.into_iter().chain(outcome.read).collect();
    Measured {
        task: task.to_owned(),
        target: target.bootstrap.clone(),
        settings,
        start_unix_ms: outcome.start_unix_ms,
        elapsed: outcome.elapsed,
        series,
        broker: outcome.broker,
        client: outcome.client,
        findings: outcome.findings.into_sentences(),
    }
}

/// What looking at the answers took of this process.
fn cost_of_checks(outcome: &Outcome) -> String {
    let spent = outcome.check_time.as_secs_f64();
    let share = spent / outcome.elapsed.as_secs_f64().max(f64::MIN_POSITIVE);
    format!("{spent:.3} CPU s in all, {:.1} % of a core", 100.0 * share)
}
