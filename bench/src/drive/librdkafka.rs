//! Carries a plan out through librdkafka: what applications see, where the raw client shows what the broker can do.
//!
//! 1. One instance, producer or consumer, stands for one connection of the plan. What else it opens is its own affair.
//! 2. The plan's threads each drive their share of the instances: they hand producers what is due and take what consumers
//!    have. Each producer has one thread more, on which the library's delivery reports come and are counted.
//! 3. A record is a request of the application: it is counted when its report comes, or when a poll returns it. Its bytes
//!    are those of key and value. What the library puts on the wire is not seen from here.
//!
//! Nothing here looks at the command line: [`settings`] refuses beforehand what cannot be done.

mod delivery;
mod pool;
mod reader;
mod received;
mod sender;
pub(crate) mod settings;
mod turn;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::Context as _;
use millrace_runtime::glommio::clock::GlommioClock;
use millrace_runtime::{Clock as _, Moment};
use rdkafka::ClientConfig;

use super::control::{Control, Window};
use super::outcome::Outcome;
use super::plan::Plan;
use super::reader::throttles;
use super::shard::Message;
use reader::Reader;
use sender::Sender;
use settings::Setting;

/// When an instance has to be looked at again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// At this moment at the latest; sooner if its thread is unparked.
    At(Moment),
    /// Never: it is done.
    Done,
}

/// Starts the plan's threads. They end with the plan, or once `control` has failed.
pub(super) fn start(
    plan: &Arc<Plan>,
    control: &Arc<Control>,
    messages: &mpsc::Sender<Message>,
) -> io::Result<Vec<JoinHandle<()>>> {
    let mut threads = Vec::new();
    for index in 0..plan.threads {
        let (plan, thread_control, messages) = (Arc::clone(plan), Arc::clone(control), messages.clone());
        let builder = thread::Builder::new().name(format!("millbench-{index}"));
        let started = builder.spawn(move || run(index, &plan, &thread_control, &messages));
        threads.push(started.inspect_err(|_| control.fail())?);
    }
    Ok(threads)
}

/// One thread's share of the plan.
struct Instances {
    senders: Vec<Sender>,
    readers: Vec<Reader>,
}

fn run(index: u16, plan: &Arc<Plan>, control: &Arc<Control>, messages: &mpsc::Sender<Message>) {
    let mut instances = match Instances::open(index, plan, control) {
        Ok(instances) => instances,
        Err(error) => {
            messages.send(Message::Failed(error)).ok();
            return;
        }
    };
    messages.send(Message::Ready).ok();
    let Some(window) = wait_for_start(control) else { return };
    let begun = instances.begin(window);
    if begun.is_ok() {
        instances.drive(window, control, messages);
    }
    let mut outcome = Outcome::new(plan);
    let pollers: Vec<_> = instances.senders.into_iter().map(|sender| sender.finish(&mut outcome)).collect();
    for reader in instances.readers {
        reader.finish(&mut outcome);
    }
    let message = begun.map_or_else(Message::Failed, |()| Message::Done(Box::new(outcome)));
    messages.send(message).ok();
    for poller in pollers.into_iter().flatten() {
        poller.join().expect("no thread panics");
    }
}

impl Instances {
    fn open(index: u16, plan: &Arc<Plan>, control: &Arc<Control>) -> anyhow::Result<Self> {
        let senders = plan.send_seats(index).into_iter().map(|seat| Sender::open(plan, control, &seat));
        let senders = senders.collect::<anyhow::Result<_>>()?;
        let throttle = throttles(plan);
        let readers = plan.read_seats(index).into_iter().map(|seat| Reader::open(plan, control, seat, throttle));
        Ok(Self { senders, readers: readers.collect::<anyhow::Result<_>>()? })
    }

    /// Waits for the first moment at which something may be sent or asked for.
    fn begin(&mut self, window: Window) -> anyhow::Result<()> {
        park_until(window.start);
        self.senders.iter_mut().try_for_each(Sender::begin)?;
        self.readers.iter_mut().try_for_each(Reader::begin)
    }

    /// Drives the instances until all are done.
    fn drive(&mut self, window: Window, control: &Control, messages: &mpsc::Sender<Message>) {
        let clock = GlommioClock::default();
        let mut is_sending = true;
        loop {
            let mut next = Next::Done;
            for sender in &mut self.senders {
                next = next.sooner(sender.step(window));
            }
            if is_sending && next == Next::Done {
                messages.send(Message::SendersDone).ok();
                is_sending = false;
            }
            for reader in &mut self.readers {
                next = next.sooner(reader.step(window));
            }
            let Next::At(moment) = next else { return };
            if control.has_failed() {
                return;
            }
            // Bounded, so that an end that nobody announces is noticed.
            park_until(moment.min(clock.now() + NAP_MAX));
        }
    }
}

impl Next {
    fn sooner(self, other: Self) -> Self {
        match (self, other) {
            (Self::At(ours), Self::At(theirs)) => Self::At(ours.min(theirs)),
            (Self::Done, next) | (next, Self::Done) => next,
        }
    }
}

fn wait_for_start(control: &Control) -> Option<Window> {
    while !control.has_failed() {
        if let Some(window) = control.window() {
            return Some(window);
        }
        thread::park_timeout(START_TICK);
    }
    None
}

/// Waits for a moment, or for somebody to unpark this thread.
fn park_until(moment: Moment) {
    let left = moment - GlommioClock::default().now();
    if !left.is_zero() {
        thread::park_timeout(left);
    }
}

/// The library's own form of settings, for an instance that asks the broker at `address` first.
fn config_of(address: SocketAddr, settings: Vec<Setting>) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", address.to_string());
    config.extend(settings.into_iter().map(|(name, value)| (name.to_owned(), value)));
    config
}

/// Connects an instance before the start by asking for the topic that comes first.
fn connect<C: rdkafka::ClientContext>(
    client: &rdkafka::client::Client<C>,
    address: SocketAddr,
    topic: &str,
) -> anyhow::Result<()> {
    let asked = client.fetch_metadata(Some(topic), CONNECT_MAX);
    asked.map(drop).with_context(|| format!("connecting librdkafka to {address}"))
}

const START_TICK: Duration = Duration::from_millis(1);
/// How long a thread that waits may not hear that the run is over.
const NAP_MAX: Duration = Duration::from_millis(20);
/// A broker that has not answered for this long after the end does not count as slow.
const DRAIN_MAX: Duration = Duration::from_secs(30);
const CONNECT_MAX: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sooner_moment_counts_until_all_are_done() {
        let at = |nanos| Next::At(Moment::from_nanos(nanos));
        assert_eq!(at(5).sooner(at(3)), at(3));
        assert_eq!(Next::Done.sooner(at(3)), at(3));
        assert_eq!(at(3).sooner(Next::Done), at(3));
        assert_eq!(Next::Done.sooner(Next::Done), Next::Done);
    }
}
