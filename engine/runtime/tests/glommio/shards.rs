//! Starting, ending and failing of shards.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use millrace_runtime::glommio::executor::{Shards, ShardsConfig};
use millrace_runtime::{Clock, Env, Random, TaskClass, TaskHandle, Tasks};

use crate::on_one_shard;

#[test]
fn every_shard_runs_once_with_its_own_index() {
    let sum = Arc::new(AtomicUsize::new(0));
    let shard_sum = Arc::clone(&sum);
    let config = ShardsConfig { shard_count: 3, ..ShardsConfig::default() };
    let shards = Shards::start(&config, move |env| {
        let sum = Arc::clone(&shard_sum);
        async move {
            sum.fetch_add(10 + usize::from(env.shard_index()), Ordering::Relaxed);
        }
    });
    shards.unwrap().join();
    assert_eq!(sum.load(Ordering::Relaxed), 33);
}

#[test]
fn pinned_shards_run_and_more_of_them_than_cores_are_refused() {
    let config = ShardsConfig { pin: true, spin: Duration::from_micros(50), ..ShardsConfig::default() };
    Shards::start(&config, |_| async {}).unwrap().join();
    let config = ShardsConfig { shard_count: u16::MAX, ..config };
    let refused = Shards::start(&config, |_| async {}).err().unwrap();
    assert_eq!(refused.kind(), std::io::ErrorKind::InvalidInput);
}

/// Guard: glommio's first ring on a thread has two entries, and the kernel would size the pool of workers by it.
#[test]
fn a_shards_io_uring_has_workers_by_the_count_of_cores() {
    on_one_shard(|_| async {
        let mut parameters = [0_u64; 15];
        // SAFETY: the parameters have the size of the kernel's `io_uring_params`.
        let ring = unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, parameters.as_mut_ptr()) };
        assert!(ring >= 0);
        // Zeros change nothing; the answer is what the limits are, for file I/O and for the rest.
        let mut workers_max = [0_u32; 2];
        let register_iowq_max_workers = 19;
        // SAFETY: the call reads and writes as many numbers as it is told the array holds.
        let answer = unsafe {
            libc::syscall(libc::SYS_io_uring_register, ring, register_iowq_max_workers, workers_max.as_mut_ptr(), 2)
        };
        assert_eq!(answer, 0);
        assert!(workers_max[0] >= 4, "four per core, not {workers_max:?}");
    });
}

#[test]
fn tasks_of_all_classes_run_and_one_without_a_handle_runs_on() {
    on_one_shard(|env| async move {
        let (sender, receiver) = millrace_runtime::local::oneshot();
        let task_env = env.clone();
        drop(env.tasks().spawn(TaskClass::Background, async move {
            for _ in 0..10 {
                task_env.tasks().yield_now().await;
            }
            sender.send(task_env.random().next_u64());
        }));
        let mut total = 0;
        for (number, class) in (1..).zip(TaskClass::ALL) {
            total += env.tasks().spawn(class, async move { number }).join().await;
        }
        assert_eq!(total, 15);
        assert!(receiver.await.is_some());
    });
}

#[test]
fn timers_fire_in_their_order_and_not_early() {
    on_one_shard(|env| async move {
        let start = env.clock().now();
        let sleep = |ms| {
            let task_env = env.clone();
            env.tasks().spawn(TaskClass::Network, async move {
                task_env.clock().sleep(Duration::from_millis(ms)).await;
                task_env.clock().now()
            })
        };
        let (long, short) = (sleep(20), sleep(5));
        let (long, short) = (long.join().await, short.join().await);
        assert!(short - start >= Duration::from_millis(5));
        assert!(long - start >= Duration::from_millis(20));
        assert!(short < long);
        // A sleep without end is no overflow.
        drop(env.clock().sleep(Duration::MAX));
    });
}

#[test]
fn a_panic_on_a_shard_aborts_the_process() {
    const CHILD: &str = "MILLRACE_TEST_PANIC_CHILD";
    if std::env::var_os(CHILD).is_some() {
        on_one_shard(|_| async { panic!("on purpose") });
        return;
    }
    let name = "shards::a_panic_on_a_shard_aborts_the_process";
    let test_program = std::env::current_exe().unwrap();
    let output = Command::new(test_program).args(["--exact", name]).env(CHILD, "1").output().unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&output.status), Some(6), "{output:?}");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("thread 'shard-0'"), "{text}");
    assert!(text.contains("on purpose"), "{text}");
}
