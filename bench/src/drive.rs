//! Drives a broker: a thread per core, many connections on each, producers and consumers side by side.
//!
//! The threads are shards with connections of their own, or, for [`librdkafka`], plain ones with its instances.
//!
//! 1. [`run`] starts the shards; each opens its share of the connections and says so.
//! 2. All begin at one moment. What ends, or was due, during ramp and warm-up is not counted.
//! 3. Producers stop at the end and wait for what is in flight. Consumers that follow producers then read up to where
//!    the logs end, so that every acknowledged record is looked for.
//! 4. The shards hand in what they saw; it is added up and compared here.

mod control;
pub(crate) mod librdkafka;
mod live;
mod outcome;
pub(crate) mod plan;
mod produce_wire;
mod reader;
mod sender;
mod shard;

use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use millrace_runtime::glommio::clock::GlommioClock;
use millrace_runtime::glommio::executor::{Shards, ShardsConfig};
use millrace_runtime::{Clock as _, Moment};

use crate::client::cluster::{LogEnd, find_offsets};
use crate::cpu;
use crate::measured::ProcessUse;
use crate::report::progress::{Live, LiveLatency, Progress};
use crate::stop::Stop;
use control::{Control, Window};
use live::Gauge;
pub(crate) use outcome::{Outcome, Sample};
use plan::{Client, Plan};
use shard::Message;

/// Runs a plan to its end, or until `stop` is asked.
pub(crate) fn run(plan: Plan, stop: &Stop, progress: &mut Progress) -> anyhow::Result<Outcome> {
    let plan = Arc::new(plan);
    let control = Arc::new(Control::new(stop.clone()));
    let (sender, messages) = mpsc::channel();
    let running = Running::start(&plan, &control, sender).context("starting a thread per core")?;
    let conducted = Conductor { plan: &plan, control: &control, messages: &messages, progress }.conduct();
    if conducted.is_err() {
        control.fail();
    }
    running.join();
    conducted
}

/// The threads of a run.
enum Running {
    Shards(Shards),
    Librdkafka(Vec<JoinHandle<()>>),
}

impl Running {
    fn start(plan: &Arc<Plan>, control: &Arc<Control>, messages: mpsc::Sender<Message>) -> std::io::Result<Self> {
        if plan.client == Client::Librdkafka {
            return librdkafka::start(plan, control, &messages).map(Self::Librdkafka);
        }
        let config =
            ShardsConfig { shard_count: plan.threads, name_prefix: "millbench".to_owned(), ..ShardsConfig::default() };
        let (plan, control) = (Arc::clone(plan), Arc::clone(control));
        let shards = Shards::start(&config, move |env| {
            shard::run(env, Arc::clone(&plan), Arc::clone(&control), messages.clone())
        });
        shards.map(Self::Shards)
    }

    fn join(self) {
        match self {
            Self::Shards(shards) => shards.join(),
            Self::Librdkafka(threads) => {
                for thread in threads {
                    thread.join().expect("no thread panics");
                }
            }
        }
    }
}

/// The main thread's part: it gives the word, samples processor time, and gathers what the shards found.
struct Conductor<'a> {
    plan: &'a Plan,
    control: &'a Control,
    messages: &'a mpsc::Receiver<Message>,
    progress: &'a mut Progress,
}

impl Conductor<'_> {
    fn conduct(&mut self) -> anyhow::Result<Outcome> {
        for _ in 0..self.plan.threads {
            match self.messages.recv().context("a thread ended early")? {
                Message::Ready => {}
                Message::Failed(error) => return Err(error),
                Message::SendersDone | Message::Done(_) => bail!("a thread ended before the start"),
            }
        }
        let clock = GlommioClock::default();
        let window = Window::from(clock.now() + START_LEAD, &self.plan.span);
        self.control.start(window);

        let mut use_of = Processes::of(self.plan.broker_pid);
        let mut outcome = Outcome::new(self.plan);
        let (mut senders_left, mut shards_left) = (self.plan.threads, self.plan.threads);
        let mut next_line = window.start + LINE_EVERY;
        let mut is_ending_noted = false;
        while shards_left > 0 {
            let now = clock.now();
            let due = [next_line, window.measured_from, window.measured_to].into_iter().filter(|due| *due > now).min();
            let wait = due.map_or(LINE_EVERY, |due| due - now);
            match self.messages.recv_timeout(wait.min(LINE_EVERY)) {
                Ok(Message::SendersDone) => {
                    senders_left -= 1;
                    if senders_left == 0 {
                        self.tell_ends()?;
                    }
                }
                Ok(Message::Done(seen)) => {
                    outcome.merge(*seen);
                    shards_left -= 1;
                }
                Ok(Message::Failed(error)) => return Err(error),
                Ok(Message::Ready) | Err(mpsc::RecvTimeoutError::Timeout) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => bail!("a thread ended without results"),
            }
            let now = clock.now();
            use_of.sample(now, &window, self.control.is_over(now))?;
            if self.control.is_stopped() && !is_ending_noted {
                self.progress.note("ending, once what is in flight is answered; again to end at once");
                is_ending_noted = true;
            }
            if now >= next_line {
                self.show(now, &window);
                next_line = now + LINE_EVERY;
            }
        }
        let now = clock.now();
        use_of.sample(now, &window, true)?;
        (outcome.client, outcome.broker) = use_of.taken();
        outcome.elapsed = use_of.ended.unwrap_or(now).min(window.measured_to) - window.measured_from;
        outcome.start_unix_ms = unix_ms().saturating_sub(millis(now - window.measured_from));
        outcome.compare(self.plan);
        Ok(outcome)
    }

    /// All has been sent and answered: readers may end where the logs do.
    fn tell_ends(&self) -> anyhow::Result<()> {
        if self.plan.reading.as_ref().is_some_and(|reading| reading.follows_senders) {
            let ends = find_offsets(&self.plan.leaders, &self.plan.topics, LogEnd::Latest)?;
            self.control.tell_ends(ends);
        }
        Ok(())
    }

    fn show(&mut self, now: Moment, window: &Window) {
        let live = |name, gauge: &Gauge| {
            let latency = LiveLatency::of(&gauge.take_latencies());
            Live { name, counts: gauge.counts(), latency }
        };
        let Plan { sending, reading, .. } = self.plan;
        let sending = sending.iter().map(|sending| live(&sending.series, &self.control.sent));
        let reading = reading.iter().map(|reading| live(&reading.series, &self.control.read));
        let series: Vec<Live<'_>> = sending.chain(reading).collect();
        let phase = if now < window.measured_from { "warm-up" } else { &self.plan.task };
        self.progress.show(phase, now - window.start, &series);
    }
}

/// What the two processes took between the first and the last sample within the window.
struct Processes {
    broker_pid: Option<u32>,
    first: Option<(Duration, Option<Duration>)>,
    last: Option<(Duration, Option<Duration>)>,
    client_resident: u64,
    broker_resident: u64,
    /// When the last sample was taken.
    ended: Option<Moment>,
}

impl Processes {
    const fn of(broker_pid: Option<u32>) -> Self {
        Self { broker_pid, first: None, last: None, client_resident: 0, broker_resident: 0, ended: None }
    }

    fn sample(&mut self, now: Moment, window: &Window, is_over: bool) -> anyhow::Result<()> {
        if now < window.measured_from || self.last.is_some() {
            return Ok(());
        }
        let times = || -> anyhow::Result<_> { Ok((cpu::of_this_process(), self.broker_cpu()?)) };
        if self.first.is_none() {
            self.first = Some(times()?);
        }
        self.client_resident = self.client_resident.max(cpu::resident_bytes(std::process::id())?);
        if let Some(pid) = self.broker_pid {
            self.broker_resident = self.broker_resident.max(cpu::resident_bytes(pid)?);
        }
        if is_over {
            self.last = Some((cpu::of_this_process(), self.broker_cpu()?));
            self.ended = Some(now);
        }
        Ok(())
    }

    fn broker_cpu(&self) -> anyhow::Result<Option<Duration>> {
        self.broker_pid.map(cpu::of_process).transpose()
    }

    fn taken(&self) -> (ProcessUse, Option<ProcessUse>) {
        let (first, last) = (self.first.unwrap_or_default(), self.last.unwrap_or_default());
        let client = ProcessUse { cpu: last.0.saturating_sub(first.0), resident_bytes_max: self.client_resident };
        let broker = last.1.zip(first.1).map(|(last, first)| ProcessUse {
            cpu: last.saturating_sub(first),
            resident_bytes_max: self.broker_resident,
        });
        (client, broker)
    }
}

/// Milliseconds since 1970.
#[expect(clippy::disallowed_methods, reason = "a client program outside the simulator")]
pub(crate) fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, millis)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Enough for every shard to hear of the start before it comes.
const START_LEAD: Duration = Duration::from_millis(20);
/// How often progress is shown.
const LINE_EVERY: Duration = Duration::from_secs(1);
