//! What the main thread and the shards tell each other while a run lasts.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use millrace_runtime::Moment;

use super::live::Gauge;
use super::plan::Span;
use crate::check::Place;
use crate::stop::Stop;

/// When things happen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    /// The first request may be sent.
    pub(crate) start: Moment,
    /// Inclusive.
    pub(crate) measured_from: Moment,
    /// Exclusive; the end of time if a run lasts until all is done.
    pub(crate) measured_to: Moment,
}

impl Window {
    pub(super) fn from(start: Moment, span: &Span) -> Self {
        let measured_from = start + span.ramp + span.warm_up;
        let measured_to = measured_from + span.measured.unwrap_or(Duration::MAX);
        Self { start, measured_from, measured_to }
    }

    /// Whether what happens at `moment` counts.
    pub(crate) fn holds(&self, moment: Moment) -> bool {
        (self.measured_from..self.measured_to).contains(&moment)
    }

    /// How far into the window `moment` is. What ended after the window counts for its last second.
    pub(crate) fn place_of(&self, moment: Moment) -> Duration {
        let last = Moment::from_nanos(self.measured_to.as_nanos() - 1);
        moment.min(last) - self.measured_from
    }
}

/// Shared by all threads of a run.
pub(super) struct Control {
    window: OnceLock<Window>,
    stop: Stop,
    has_failed: AtomicBool,
    /// Where readers may end, once that is known.
    ends: OnceLock<BTreeMap<Place, i64>>,
    pub(super) sent: Gauge,
    pub(super) read: Gauge,
}

impl Control {
    pub(super) fn new(stop: Stop) -> Self {
        Self {
            window: OnceLock::new(),
            stop,
            has_failed: AtomicBool::new(false),
            ends: OnceLock::new(),
            sent: Gauge::default(),
            read: Gauge::default(),
        }
    }

    pub(super) fn start(&self, window: Window) {
        self.window.set(window).expect("a run starts once");
    }

    pub(super) fn window(&self) -> Option<Window> {
        self.window.get().copied()
    }

    /// Ends the run without results.
    pub(super) fn fail(&self) {
        self.has_failed.store(true, Ordering::Relaxed);
    }

    pub(super) fn has_failed(&self) -> bool {
        self.has_failed.load(Ordering::Relaxed)
    }

    /// Whether somebody wants the run to end.
    pub(super) fn is_stopped(&self) -> bool {
        self.stop.is_asked()
    }

    /// Whether what is due is not to be sent either.
    pub(super) fn is_cut_short(&self) -> bool {
        self.stop.is_asked() || self.has_failed()
    }

    /// Whether nothing new is to be sent.
    pub(super) fn is_over(&self, now: Moment) -> bool {
        self.is_cut_short() || self.window.get().is_some_and(|window| now >= window.measured_to)
    }

    pub(super) fn tell_ends(&self, ends: BTreeMap<Place, i64>) {
        self.ends.set(ends).expect("the logs end once");
    }

    pub(super) fn ends(&self) -> Option<&BTreeMap<Place, i64>> {
        self.ends.get()
    }
}
