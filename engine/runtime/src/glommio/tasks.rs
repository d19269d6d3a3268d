//! Tasks and the queue of each task class.

use std::time::Duration;

use ::glommio::task::JoinHandle;
use ::glommio::{Latency, Shares, TaskQueueHandle};

use super::offload::Offload;
use crate::{TaskClass, TaskHandle, Tasks};

/// The task queues of one shard.
#[derive(Clone)]
pub struct GlommioTasks {
    /// By the class's place in [`TaskClass::ALL`].
    queues: [TaskQueueHandle; TaskClass::ALL.len()],
    offload: Offload,
}

impl GlommioTasks {
    pub(super) fn on_this_executor(offload: Offload) -> Self {
        let queues = TaskClass::ALL.map(|class| {
            let queue = QueueSettings::of(class);
            ::glommio::executor().create_task_queue(Shares::Static(queue.shares), queue.latency, queue.name)
        });
        Self { queues, offload }
    }

    fn queue(&self, class: TaskClass) -> TaskQueueHandle {
        let index = TaskClass::ALL.iter().position(|&candidate| candidate == class);
        self.queues[index.expect("TaskClass::ALL holds every class")]
    }
}

impl Tasks for GlommioTasks {
    type Handle<T: 'static> = GlommioTaskHandle<T>;

    fn spawn<T: 'static>(&self, class: TaskClass, future: impl Future<Output = T> + 'static) -> GlommioTaskHandle<T> {
        let task =
            ::glommio::spawn_local_into(future, self.queue(class)).expect("the queues live as long as the executor");
        // Guard: a dropped glommio `Task` is cancelled and takes its pending I/O along. Detached ones run on.
        GlommioTaskHandle { join: task.detach() }
    }

    /// Lets the other tasks of the queue run first, and then the other queues by their shares. A queue that has had
    /// far less than its share may be chosen again at once.
    async fn yield_now(&self) {
        ::glommio::executor().yield_task_queue_now().await;
    }

    async fn offload<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        self.offload.run(work).await
    }
}

/// A spawned task.
pub struct GlommioTaskHandle<T> {
    join: JoinHandle<T>,
}

impl<T: 'static> TaskHandle<T> for GlommioTaskHandle<T> {
    /// Waits for the task's result; for ever when the executor was taken down before the task ended.
    async fn join(self) -> T {
        match self.join.await {
            Some(output) => output,
            None => std::future::pending().await,
        }
    }
}

struct QueueSettings {
    name: &'static str,
    /// Invariant: 1..=1000.
    shares: usize,
    latency: Latency,
}

impl QueueSettings {
    const fn of(class: TaskClass) -> Self {
        match class {
            TaskClass::Network => Self { name: "network", shares: 1000, latency: PROMPT },
            TaskClass::Replication => Self { name: "replication", shares: 800, latency: PROMPT },
            TaskClass::Metadata => Self { name: "metadata", shares: 600, latency: PROMPT },
            TaskClass::Flush => Self { name: "flush", shares: 1000, latency: PROMPT },
            TaskClass::Background => Self { name: "background", shares: 100, latency: Latency::NotImportant },
        }
    }
}

/// Guard: with a preemption time far below a millisecond an executor parks although tasks are runnable, because "was
/// preempted before anything ran" looks like "is idle" to it. No queue asks for less than this.
pub(super) const PREEMPTION_MIN: Duration = Duration::from_millis(2);

const PROMPT: Latency = Latency::Matters(PREEMPTION_MIN);
