//! Work away from the shards.

use std::future::poll_fn;
use std::pin::pin;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::task::Poll;

use millrace_runtime::glommio::executor::{Shards, ShardsConfig};
use millrace_runtime::{Env, TaskClass, TaskHandle, Tasks};

use crate::on_one_shard;

#[test]
fn the_shard_runs_on_while_the_work_is_away() {
    on_one_shard(|env| async move {
        let (release, released) = mpsc::channel();
        let task_env = env.clone();
        // Only another task of the shard lets the work end.
        let work = env.tasks().spawn(TaskClass::Background, async move {
            let work =
                move || released.recv().map(|number: u32| (number, std::thread::current().name().map(str::to_owned)));
            task_env.tasks().offload(work).await
        });
        for _ in 0..100 {
            env.tasks().yield_now().await;
        }
        release.send(7).unwrap();
        let (number, thread_name) = work.join().await.unwrap();
        assert_eq!(number, 7);
        assert!(thread_name.unwrap().starts_with("shard-worker-"));
    });
}

#[test]
fn work_nobody_waits_for_runs_to_its_end_and_the_shard_waits_for_it() {
    let has_run = Arc::new(AtomicBool::new(false));
    let shard_has_run = Arc::clone(&has_run);
    on_one_shard(move |env| {
        let has_run = Arc::clone(&shard_has_run);
        async move {
            let (release, released) = mpsc::channel::<()>();
            {
                let mut dropped = pin!(env.tasks().offload(move || {
                    assert!(released.recv().is_ok());
                    has_run.store(true, Ordering::Release);
                }));
                let first = poll_fn(|context| Poll::Ready(dropped.as_mut().poll(context).is_pending())).await;
                assert!(first);
            }
            release.send(()).unwrap();
        }
    });
    assert!(has_run.load(Ordering::Acquire));
}

#[test]
fn every_shard_gets_its_own_outputs_back() {
    let config = ShardsConfig { shard_count: 3, worker_count: 3, ..ShardsConfig::default() };
    let shards = Shards::start(&config, |env| async move {
        let shard_index = u32::from(env.shard_index());
        let mut works = Vec::new();
        // More than may be away at a time, and each waited for by a task of its own.
        for number in 0..200 {
            let task_env = env.clone();
            works.push(env.tasks().spawn(TaskClass::Background, async move {
                task_env.tasks().offload(move || 1000 * shard_index + number).await
            }));
        }
        for (work, number) in works.into_iter().zip(0..) {
            assert_eq!(work.join().await, 1000 * shard_index + number);
        }
    });
    shards.unwrap().join();
}

#[test]
fn workers_are_nicer_than_shards_and_tied_to_no_core() {
    /// Cores that the calling thread may run on, and its nice value.
    fn place() -> (usize, i32) {
        // SAFETY: a set of cores is a plain array of bits, for which zeros are a value.
        let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
        // SAFETY: the pointer is to a set of exactly the stated size.
        assert_eq!(unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) }, 0);
        // SAFETY: the set is whole; the second call takes numbers only.
        let (cores, nice) = unsafe { (libc::CPU_COUNT(&set), libc::getpriority(libc::PRIO_PROCESS, 0)) };
        (usize::try_from(cores).unwrap(), nice)
    }
    let (cores, nice) = place();
    let config = ShardsConfig { pin: true, ..ShardsConfig::default() };
    let shards = Shards::start(&config, move |env| async move {
        assert_eq!(place(), (1, nice));
        assert_eq!(env.tasks().offload(place).await, (cores, 19.min(nice + 10)));
    });
    shards.unwrap().join();
}

#[test]
fn a_panic_in_the_work_aborts_the_process() {
    const CHILD: &str = "MILLRACE_TEST_OFFLOAD_PANIC_CHILD";
    if std::env::var_os(CHILD).is_some() {
        on_one_shard(|env| async move { env.tasks().offload(|| panic!("on purpose")).await });
        return;
    }
    let name = "offload::a_panic_in_the_work_aborts_the_process";
    let test_program = std::env::current_exe().unwrap();
    let output = Command::new(test_program).args(["--exact", name]).env(CHILD, "1").output().unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&output.status), Some(6), "{output:?}");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("thread 'shard-worker-"), "{text}");
    assert!(text.contains("on purpose"), "{text}");
}
