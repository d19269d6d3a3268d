//! Tasks of one shard and the classes they run in.

/// The work classes of a shard. Each is a task queue of its own with shares, so that background work cannot starve
/// requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TaskClass {
    /// Connections and request handlers.
    Network,
    /// Fetching from leaders and serving followers.
    Replication,
    /// The metadata log, its image and its reconciliation. Bound in latency.
    Metadata,
    /// Write rounds and flushes.
    Flush,
    /// Recovery, retention, compaction, cold reads.
    Background,
}

impl TaskClass {
    /// All classes, in the order of their declaration.
    pub const ALL: [Self; 5] = [Self::Network, Self::Replication, Self::Metadata, Self::Flush, Self::Background];
}

/// Spawning and yielding on one shard.
pub trait Tasks: Clone + 'static {
    /// A spawned task.
    type Handle<T: 'static>: TaskHandle<T>;

    /// Starts `future` in `class`. Dropping the handle lets the task run on: nothing is cancelled by accident, because a
    /// cancelled task takes its pending I/O with it.
    fn spawn<T: 'static>(&self, class: TaskClass, future: impl Future<Output = T> + 'static) -> Self::Handle<T>;

    /// Lets every other runnable task of the shard run first, those of other classes included.
    async fn yield_now(&self);

    /// Runs `work` where it holds up no shard: what takes the processor for longer than about 100 us, such as
    /// decompression. It must not wait for anything, least of all for a shard.
    ///
    /// It runs once and to its end, even if nobody waits for it any more; only the output is lost then. A panic in it is
    /// a panic of the shard.
    async fn offload<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T;
}

/// A spawned task.
pub trait TaskHandle<T>: 'static {
    /// Waits for the task's result.
    async fn join(self) -> T;
}
