//! Scheduling, time, determinism, and the two ways in which a world gets stuck.

use std::cell::RefCell;
use std::future::pending;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::super::{SimEnv, World, WorldConfig};
use super::{create, world, write};
use crate::local::{Event, oneshot};
use crate::{Clock, Disk, Env, File, Random, TaskClass, TaskHandle, Tasks};

/// Tasks, timers, files: a bit of everything that decides something.
async fn mixed_work(env: SimEnv) -> Vec<u64> {
    let order = Rc::new(RefCell::new(Vec::new()));
    let mut tasks = Vec::new();
    for index in 0..8_u64 {
        let (env, order) = (env.clone(), Rc::clone(&order));
        tasks.push(env.clone().tasks().spawn(TaskClass::Flush, async move {
            let file = create(&env, &format!("f{index}")).await;
            for block in 0..4 {
                write(env.disk(), &file, block, 1, 7).await.unwrap();
                env.clock().sleep(Duration::from_micros(env.random().below(100))).await;
                order.borrow_mut().push(index);
            }
            file.sync_data().await.unwrap();
            env.disk().sync_dir(Path::new("/")).await.unwrap();
        }));
    }
    for task in tasks {
        task.join().await;
    }
    order.take()
}

#[test]
fn one_seed_is_one_run_and_two_seeds_are_two() {
    let mut fingerprints = Vec::new();
    let mut orders = Vec::new();
    for seed in 0..20 {
        let run = |seed| {
            let world = world(seed);
            let order = world.run(mixed_work(world.env(0)));
            world.crash_shards();
            (order, world.fingerprint())
        };
        let (order, fingerprint) = run(seed);
        assert_eq!(run(seed), (order.clone(), fingerprint), "seed {seed}");
        assert!(!fingerprints.contains(&fingerprint), "seed {seed}");
        fingerprints.push(fingerprint);
        orders.push(order);
    }
    orders.sort();
    orders.dedup();
    assert!(orders.len() > 10, "seeds explore interleavings");
}

#[test]
fn timers_fire_in_order_and_time_is_virtual() {
    for seed in 0..20 {
        let world = world(seed);
        let env = world.env(0);
        let fired = Rc::new(RefCell::new(Vec::new()));
        for hours in [5, 1, 4, 2, 3] {
            let (clock, fired) = (env.clock().clone(), Rc::clone(&fired));
            env.tasks().spawn(TaskClass::Network, async move {
                clock.sleep(Duration::from_secs(3600 * hours)).await;
                fired.borrow_mut().push(hours);
            });
        }
        let start = env.clock().now();
        let start_ms = env.clock().unix_ms();
        world.run(async { env.clock().sleep(Duration::from_hours(6)).await });
        assert_eq!(*fired.borrow(), [1, 2, 3, 4, 5]);
        assert!(env.clock().now() - start >= Duration::from_hours(6));
        assert!(env.clock().unix_ms() - start_ms >= 3_600_000 * 6);
        world.machine(0).jump_wall_clock(-3_600_000 * 7);
        assert!(env.clock().unix_ms() < start_ms);
    }
}

#[test]
fn a_dropped_timer_does_not_hold_time() {
    let world = world(1);
    let env = world.env(0);
    world.run(async {
        drop(env.clock().sleep(Duration::from_secs(1)));
        env.clock().sleep(Duration::from_millis(1)).await;
    });
    assert!(env.clock().now().as_nanos() < 100_000_000);
}

#[test]
fn yielding_lets_every_runnable_task_of_the_shard_run() {
    for seed in 0..50 {
        let world = world(seed);
        let env = world.env(0);
        world.run(async {
            let ran = Rc::new(RefCell::new(0));
            for class in TaskClass::ALL {
                let ran = Rc::clone(&ran);
                env.tasks().spawn(class, async move { *ran.borrow_mut() += 1 });
            }
            env.tasks().yield_now().await;
            assert_eq!(*ran.borrow(), 5);
        });
    }
}

#[test]
fn local_channels_work_under_the_executor() {
    for seed in 0..20 {
        let world = world(seed);
        let env = world.env(0);
        world.run(async {
            let event = Rc::new(Event::default());
            let (sender, receiver) = oneshot();
            let (waiting, seen) = (Rc::clone(&event), event.version());
            let waiter = env.tasks().spawn(TaskClass::Network, async move {
                waiting.changed(seen).await;
                receiver.await
            });
            let (notified, clock) = (Rc::clone(&event), env.clock().clone());
            env.tasks().spawn(TaskClass::Metadata, async move {
                notified.notify();
                clock.sleep(Duration::from_millis(1)).await;
                sender.send(5);
            });
            assert_eq!(waiter.join().await, Some(5));
        });
    }
}

#[test]
fn shards_draw_different_numbers() {
    let world = world(3);
    let drawn = [world.env(0).random().next_u64(), world.env(1).random().next_u64()];
    assert_ne!(drawn[0], drawn[1]);
    assert_eq!(world.env(0).random().next_u64(), drawn[0]);
    assert_eq!(world.env(1).shard_index(), 1);
}

#[test]
#[should_panic(expected = "deadlock: the main future waits, nothing is runnable and no event is due, seed 77")]
fn a_deadlock_is_named_with_its_seed() {
    world(77).run(pending::<()>());
}

#[test]
#[should_panic(expected = "livelock: no end after 1000 steps, seed 78")]
fn a_livelock_is_named_with_its_seed() {
    let world = World::new(78, WorldConfig { step_budget: 1000, ..WorldConfig::default() });
    let tasks = world.env(0).tasks().clone();
    world.run(async {
        loop {
            tasks.yield_now().await;
        }
    });
}

#[test]
fn offloaded_work_runs_while_other_tasks_do_and_not_after_a_crash() {
    let mut orders = Vec::new();
    for seed in 0..50 {
        let world = world(seed);
        let env = world.env(0);
        let ran = world.run(async {
            let (tasks, clock) = (env.tasks().clone(), env.clock().clone());
            let work = env.tasks().spawn(TaskClass::Background, async move { tasks.offload(|| 5).await });
            let timer = env.tasks().spawn(TaskClass::Network, async move {
                clock.sleep(Duration::from_millis(5)).await;
                clock.now()
            });
            assert_eq!(work.join().await, 5);
            let back = env.clock().now();
            back < timer.join().await
        });
        orders.push(ran);

        // Its machine crashes first: neither the work nor what waits for it goes on.
        let machine = world.machine(0);
        let has_run = Arc::new(AtomicBool::new(false));
        let work = {
            let has_run = Arc::clone(&has_run);
            move || has_run.store(true, Ordering::Relaxed)
        };
        let env = world.env(0);
        let lost = env.tasks().clone();
        env.tasks().spawn(TaskClass::Background, async move { lost.offload(work).await });
        world.run(async { env.tasks().yield_now().await });
        machine.crash();
        let env = world.env(0);
        world.run(async { env.clock().sleep(Duration::from_secs(1)).await });
        assert!(!has_run.load(Ordering::Relaxed));
    }
    assert!(orders.contains(&true) && orders.contains(&false), "seeds explore both orders");
}
