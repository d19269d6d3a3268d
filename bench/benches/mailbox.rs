//! What it costs to ask another shard: a message there and one back.
//!
//! Counted in the simulator, whose executor, links and clock are in the figures: only differences say something. Timed on
//! the machine as well, between two threads, where most of the time is the wake-up of the other one. `one` waits for each
//! answer before it asks again; `pipelined` sends all and then waits.
#![expect(clippy::unwrap_used, reason = "a bench that cannot go on fails")]

use std::cell::Cell;
use std::rc::Rc;
use std::sync::mpsc;
use std::time::Duration;

use millrace_engine::model::{LeaderEpoch, Offset, PartitionId, TopicId};
use millrace_microbench::inputs::BatchShape;
use millrace_microbench::{Benchmarks, Work};
use millrace_runtime::glommio::GlommioEnv;
use millrace_runtime::glommio::executor::{Shards, ShardsConfig};
use millrace_runtime::local::Event;
use millrace_runtime::sim::{SimEnv, World, WorldConfig};
use millrace_runtime::{Clock, Env};
use millrace_server::shard::mailbox::frame::{Frame, Received};
use millrace_server::shard::mailbox::message::{
    Append, AppendedBatch, BatchPlace, CallId, Keys, Message, Reply, ReplyWhen, Request,
};
use millrace_server::shard::mailbox::{Links, Mailbox};
use millrace_server::shard::placement::ShardIndex;
use millrace_server::shard::task_set::TaskSet;

const ROUND_TRIPS: u64 = 256;
const SHARD_COUNT: u16 = 2;

fn main() {
    Benchmarks::run(|benchmarks| {
        let work = Work::of(usize::try_from(ROUND_TRIPS).unwrap(), "round trip");
        for (name, in_flight) in [("one", 1), ("pipelined", ROUND_TRIPS)] {
            let run = |(world, asking): &mut (World, Asking<SimEnv>)| {
                world.run(asking.ask(ROUND_TRIPS, in_flight));
            };
            benchmarks.on_shared_input(&format!("mailbox/simulated/{name}"), work, simulated, run);
            let one = Work::of(1, "round trip");
            benchmarks.timed_only(&format!("mailbox/machine/{name}"), one, |count| on_machine(count, in_flight));
        }
    });
}

/// The shard that asks.
struct Asking<E: Env> {
    mailbox: Mailbox<E>,
    tasks: TaskSet<E>,
    frame: Frame,
    answers: Rc<Cell<u64>>,
    answered: Rc<Event>,
}

impl<E: Env> Asking<E> {
    fn start(env: &E, links: Links<E>) -> Self {
        let (mailbox, tasks) = (Mailbox::new(SHARD_COUNT), TaskSet::new(env));
        let (answers, answered) = (Rc::<Cell<u64>>::default(), Rc::<Event>::default());
        let (count, event) = (Rc::clone(&answers), Rc::clone(&answered));
        mailbox.start(links, &tasks, move |_, message| {
            assert!(matches!(message, Message::Reply { .. }), "nothing else is sent");
            count.set(count.get() + 1);
            event.notify();
        });
        let batch = BatchShape::SINGLE.build();
        let frame_bytes = batch.len();
        let frame = Received::new(batch).frame(0..frame_bytes);
        Self { mailbox, tasks, frame, answers, answered }
    }

    /// Asks `count` times, with so many questions on their way at once.
    async fn ask(&self, count: u64, in_flight: u64) {
        let mut asked = 0;
        while asked < count {
            let burst = in_flight.min(count - asked);
            let wanted = self.answers.get() + burst;
            (0..burst).for_each(|number| self.send(CallId(asked + number)));
            asked += burst;
            loop {
                let version = self.answered.version();
                if self.answers.get() >= wanted {
                    break;
                }
                self.answered.changed(version).await;
            }
        }
    }

    fn send(&self, call: CallId) {
        let place = BatchPlace {
            partition: PartitionId { topic: TopicId::from_bytes([1; 16]), partition: 0 },
            leader_epoch: LeaderEpoch::new(0),
            range: 0..self.frame.len(),
            keys: Keys::Optional,
        };
        let append = Append { frame: self.frame.clone(), batches: vec![place], reply_when: ReplyWhen::Durable };
        self.mailbox.send(ShardIndex::new(1), Message::Request { call, request: Request::Append(append) });
    }
}

/// Starts the shard that answers every append as a log would, until it is told to close; its tasks.
fn start_answering<E: Env>(env: &E, links: Links<E>) -> TaskSet<E> {
    let (mailbox, tasks) = (Mailbox::new(SHARD_COUNT), TaskSet::new(env));
    let replies = mailbox.clone();
    mailbox.start(links, &tasks, move |source, message| {
        let (call, append) = match message {
            Message::Request { call, request: Request::Append(append) } => (call, append),
            Message::Close => return replies.close(),
            _ => unreachable!("nothing else is sent"),
        };
        let appended = AppendedBatch {
            base_offset: Offset::ZERO,
            log_start_offset: Offset::ZERO,
            log_append_time_ms: None,
            throttle: Duration::ZERO,
        };
        let results = append.batches.iter().map(|_| Ok(appended)).collect();
        replies.send(source, Message::Reply { call, reply: Reply::Append(results) });
    });
    tasks
}

fn simulated() -> (World, Asking<SimEnv>) {
    let world = World::new(1, WorldConfig::default());
    let mut links = Links::<SimEnv>::all(SHARD_COUNT).into_iter();
    let asking = Asking::start(&world.env(0), links.next().unwrap());
    // Its tasks are the world's; they keep the mailbox.
    drop(start_answering(&world.env(1), links.next().unwrap()));
    (world, asking)
}

/// How long `count` round trips take between two threads, without their start and end.
fn on_machine(count: u64, in_flight: u64) -> Duration {
    let (tell, told) = mpsc::channel();
    let config = ShardsConfig { shard_count: SHARD_COUNT, ..ShardsConfig::default() };
    let shards = Shards::start_with(&config, Links::<GlommioEnv>::all(SHARD_COUNT), move |env, links| {
        let tell = tell.clone();
        async move {
            if env.shard_index() == 0 {
                let asking = Asking::start(&env, links);
                // The first question also waits for both ends to be connected.
                asking.ask(1, 1).await;
                let start = env.clock().now();
                asking.ask(count, in_flight).await;
                tell.send(env.clock().now() - start).unwrap();
                asking.mailbox.send(ShardIndex::new(1), Message::Close);
                asking.mailbox.close();
                asking.tasks.join().await;
            } else {
                start_answering(&env, links).join().await;
            }
        }
    });
    shards.unwrap().join();
    told.recv().unwrap()
}
