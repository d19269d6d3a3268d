//! Starts the shards: one thread and one executor each, the watchdog and the workers beside them.
//!
//! A start either succeeds as a whole or runs nothing: threads build their executors, report, and wait for the word.

use std::io;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use ::glommio::{LocalExecutor, LocalExecutorBuilder, Placement, PoolPlacement};

use super::GlommioEnv;
use super::offload::{JobSender, Workers};
use super::operations::io_error;
use super::panics::abort_on_panic_of_this_thread;
use super::tasks::PREEMPTION_MIN;
use super::watchdog::{Pulse, Watchdog};
use crate::kernel;

/// How the shards run.
#[derive(Clone, Debug)]
pub struct ShardsConfig {
    /// Number of shards. Invariant: above 0.
    pub shard_count: u16,
    /// Whether each shard is tied to one core. The process may then use at least as many cores as there are shards.
    pub pin: bool,
    /// Names of the threads start with it.
    pub name_prefix: String,
    /// Memory registered with `io_uring` for reads, per shard; others use the heap. It is locked three times over, once
    /// for each of an executor's rings, and counts against `RLIMIT_MEMLOCK`. Beyond the limit glommio goes without.
    pub io_memory_bytes: usize,
    /// How long an idle shard spins before it sleeps. Only pinned shards spin.
    pub spin: Duration,
    /// How long a task queue runs before others have their turn. Invariant: at least 2 ms.
    pub preempt_timer: Duration,
    /// Threads for the work that would hold a shard up, for all shards together. Invariant: above 0.
    pub worker_count: usize,
}

impl Default for ShardsConfig {
    fn default() -> Self {
        Self {
            shard_count: 1,
            pin: false,
            name_prefix: "shard".to_owned(),
            io_memory_bytes: 64 * 1024,
            spin: Duration::ZERO,
            preempt_timer: PREEMPTION_MIN,
            worker_count: 2,
        }
    }
}

/// The running shards.
pub struct Shards {
    threads: Vec<JoinHandle<()>>,
    watchdog: Watchdog,
    workers: Workers,
}

impl Shards {
    /// Runs `main` on every shard. Each shard ends when its `main` has completed and its operations in flight have;
    /// tasks that still run then are dropped.
    ///
    /// A panic on a shard aborts the process.
    pub fn start<Main, Ended>(config: &ShardsConfig, main: Main) -> io::Result<Self>
    where
        Main: Fn(GlommioEnv) -> Ended + Clone + Send + 'static,
        Ended: Future<Output = ()> + 'static,
    {
        let nothing = vec![(); usize::from(config.shard_count)];
        Self::start_with(config, nothing, move |env, ()| main(env))
    }

    /// The same, and hands each shard what is its own, such as its ends of the links. `belongings` are in the order of
    /// the shards' indexes.
    pub fn start_with<Belongings, Main, Ended>(
        config: &ShardsConfig,
        belongings: Vec<Belongings>,
        main: Main,
    ) -> io::Result<Self>
    where
        Belongings: Send + 'static,
        Main: Fn(GlommioEnv, Belongings) -> Ended + Clone + Send + 'static,
        Ended: Future<Output = ()> + 'static,
    {
        assert!(config.shard_count > 0, "there is at least one shard");
        assert!(config.preempt_timer >= PREEMPTION_MIN, "a shorter preemption time loses wake-ups");
        assert_eq!(belongings.len(), usize::from(config.shard_count), "each shard has its belongings");

        let workers = Workers::start(&config.name_prefix, config.worker_count)?;
        let (report, reports) = mpsc::channel();
        let mut seats = Vec::new();
        for ((shard_index, placement), belongings) in (0..).zip(placements(config)?).zip(belongings) {
            let (report, main) = (report.clone(), main.clone());
            let jobs = workers.sender();
            let work = move |env| main(env, belongings);
            seats.push(Seat::start(config, shard_index, placement, report, jobs, work)?);
        }
        drop(report);
        // Ends when every thread has reported or is gone. On an error the seats are dropped, and nobody gets the word.
        let mut reported_count = 0;
        for outcome in reports {
            outcome?;
            reported_count += 1;
        }
        if reported_count != seats.len() {
            return Err(io::Error::other("a shard's executor panicked while it was made"));
        }
        let pulses = seats.iter().map(|seat| Arc::clone(&seat.pulse)).collect();
        let watchdog = Watchdog::start(format!("{}-watchdog", config.name_prefix), pulses)?;
        let threads = seats.into_iter().map(Seat::go).collect();
        Ok(Self { threads, watchdog, workers })
    }

    /// Waits until every shard has ended.
    pub fn join(self) {
        for thread in self.threads {
            thread.join().expect("a panic of a shard aborts the process");
        }
        self.watchdog.stop();
        self.workers.join();
    }

    /// Indexes of the shards that have not run for more than a second although they should.
    pub fn stalled_shards(&self) -> Vec<u16> {
        self.watchdog.stalled_shards()
    }
}

/// A shard's thread before it has been told to go.
struct Seat {
    thread: JoinHandle<()>,
    word: mpsc::Sender<()>,
    pulse: Arc<Pulse>,
}

impl Seat {
    /// Starts a thread that makes its executor, reports, and waits for the word to go.
    fn start<Work, Ended>(
        config: &ShardsConfig,
        shard_index: u16,
        placement: Placement,
        report: mpsc::Sender<io::Result<()>>,
        jobs: JobSender,
        work: Work,
    ) -> io::Result<Self>
    where
        Work: FnOnce(GlommioEnv) -> Ended + Send + 'static,
        Ended: Future<Output = ()> + 'static,
    {
        let pulse = Pulse::new();
        let (word, wait_for_word) = mpsc::channel();
        let shard_pulse = Arc::clone(&pulse);
        let shard_config = config.clone();
        let name = format!("{}-{shard_index}", config.name_prefix);
        let thread = std::thread::Builder::new().name(name).spawn(move || {
            let made = make_executor(&shard_config, placement);
            let (outcome, executor) = made.map_or_else(|error| (Err(error), None), |made| (Ok(()), Some(made)));
            // Nobody listens any more when another shard has failed; then the word does not come either.
            report.send(outcome).ok();
            drop(report);
            let Some(executor) = executor else { return };
            if wait_for_word.recv().is_ok() {
                run_shard(&executor, shard_index, &shard_pulse, jobs, work);
            }
        })?;
        Ok(Self { thread, word, pulse })
    }

    fn go(self) -> JoinHandle<()> {
        self.word.send(()).expect("a shard that has reported waits for the word");
        self.thread
    }
}

fn make_executor(config: &ShardsConfig, placement: Placement) -> io::Result<LocalExecutor> {
    open_first_ring()?;
    LocalExecutorBuilder::new(placement)
        .io_memory(config.io_memory_bytes)
        .ring_depth(RING_DEPTH)
        .spin_before_park(config.spin)
        .preempt_timer(config.preempt_timer)
        // By default the blocking thread is tied to the shard's core, where a slow system call delays the shard.
        .blocking_thread_pool_placement(PoolPlacement::Unbound(1))
        .make()
        .map_err(io_error)
}

fn run_shard<Work, Ended>(executor: &LocalExecutor, shard_index: u16, pulse: &Arc<Pulse>, jobs: JobSender, work: Work)
where
    Work: FnOnce(GlommioEnv) -> Ended,
    Ended: Future<Output = ()> + 'static,
{
    abort_on_panic_of_this_thread();
    pulse.begin();
    executor.run(async {
        pulse.beat();
        let env = GlommioEnv::on_this_executor(shard_index, jobs);
        work(env.clone()).await;
        env.drain().await;
        // Last: whatever is waited for after it may be waited for in vain.
        pulse.end();
    });
}

/// Where each shard may run.
fn placements(config: &ShardsConfig) -> io::Result<Vec<Placement>> {
    if !config.pin {
        return Ok(vec![Placement::Unbound; usize::from(config.shard_count)]);
    }
    let cores = allowed_cores()?;
    if cores.len() < usize::from(config.shard_count) {
        let text = format!("{} pinned shards need as many cores; the process has {}", config.shard_count, cores.len());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    Ok(cores.into_iter().take(usize::from(config.shard_count)).map(Placement::Fixed).collect())
}

/// The cores that this thread may run on, in ascending order.
fn allowed_cores() -> io::Result<Vec<usize>> {
    // SAFETY: a set of cores is a plain array of bits, for which zeros are a value.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a set of exactly the stated size.
    if unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let core_max = 8 * size_of::<libc::cpu_set_t>();
    // SAFETY: every core asked for is within the set.
    Ok((0..core_max).filter(|&core| unsafe { libc::CPU_ISSET(core, &set) }).collect())
}

/// Opens and closes an `io_uring`, before glommio opens its own on this thread.
///
/// Guard: without `io_uring` glommio panics or ends the process with a joke. Say what is wrong instead.
///
/// Guard: the kernel sizes a thread's pool of `io_uring` workers once, by the first ring that the thread opens: as many
/// workers as it has entries, up to four per core. glommio's first one has two entries and only asks what the kernel can
/// do, so flushes and writes over unwritten extents would run two at a time for good. The first ring is ours, and larger.
fn open_first_ring() -> io::Result<()> {
    let entries = u32::try_from(RING_DEPTH).expect("a small constant");
    let Err(error) = kernel::try_io_uring(entries) else { return Ok(()) };
    let text = match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => {
            "io_uring is forbidden: the seccomp profile of the container blocks it (run it with one that allows \
             io_uring_setup, io_uring_enter and io_uring_register), or sysctl kernel.io_uring_disabled does (set it to 0)"
        }
        Some(libc::ENOSYS) => "this kernel has no io_uring",
        _ => "io_uring does not work here",
    };
    Err(io::Error::new(error.kind(), format!("{text}: {error}")))
}

/// Entries of each `io_uring`. More operations than this may be in flight; they are handed to the kernel in portions.
const RING_DEPTH: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    use std::pin::pin;
    use std::task::{Context, Waker};

    #[test]
    fn shards_that_park_by_mistake_while_they_end_still_end() {
        for _ in 0..10 {
            // A thread of its own, because a shard's panics abort from then on.
            let shard = std::thread::Builder::new().name("shard".to_owned()).spawn(end_while_something_runs);
            shard.unwrap().join().unwrap();
        }
    }

    fn end_while_something_runs() {
        let workers = Workers::start("test", 1).unwrap();
        let pulse = Pulse::new();
        let watchdog = Watchdog::start("watchdog".to_owned(), vec![Arc::clone(&pulse)]).unwrap();
        // Preempts often enough to park by mistake every few turns.
        let executor = LocalExecutorBuilder::default().io_memory(0).preempt_timer(Duration::from_micros(20));
        run_shard(&executor.make().unwrap(), 0, &pulse, workers.sender(), |env| async move {
            let turns = async {
                for _ in 0..TURNS {
                    ::glommio::executor().yield_task_queue_now().await;
                }
            };
            // Begun and given up: what is left of it runs while the shard ends.
            let mut begun = pin!(env.operations().run(turns));
            assert!(begun.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        });
        watchdog.stop();
        workers.join();
    }

    /// Many enough to park by mistake now and then.
    const TURNS: usize = 2000;
}
