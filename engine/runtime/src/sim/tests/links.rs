//! Links between shards.

use std::time::Duration;

use super::super::SimEnv;
use super::world;
use crate::links::{ConnectedReceiver, ConnectedSender};
use crate::{Clock, Env, LinkReceiver, LinkSender, TaskClass, TaskHandle, Tasks};

#[test]
fn messages_arrive_in_order_across_shards() {
    for seed in 0..20 {
        let world = world(seed);
        let (sender, receiver) = SimEnv::link::<u32>(8);
        let sending = world.env(0).tasks().spawn(TaskClass::Network, async move {
            let sender = sender.connect().await;
            for number in 0..1000 {
                sender.send(number).await.unwrap();
            }
        });
        world.env(1).tasks().spawn(TaskClass::Network, async move {
            let receiver = receiver.connect().await;
            for number in 0..1000 {
                assert_eq!(receiver.receive().await, Some(number));
            }
            assert_eq!(receiver.receive().await, None);
        });
        world.run(sending.join());
    }
}

#[test]
fn a_full_link_pushes_back() {
    let world = world(1);
    let clock = world.env(0).clock().clone();
    let (sender, receiver) = SimEnv::link::<u32>(2);
    let receiving = world.env(1).tasks().spawn(TaskClass::Network, receiver.connect());
    world.run(async {
        let sender = sender.connect().await;
        let receiver = receiving.join().await;
        assert_eq!(sender.try_send(1), Ok(()));
        assert_eq!(sender.try_send(2), Ok(()));
        clock.sleep(Duration::from_secs(1)).await;
        assert_eq!(sender.try_send(3), Err(3), "arrived messages hold their place until they are received");
        assert_eq!(receiver.receive().await, Some(1));
        assert_eq!(sender.try_send(3), Ok(()));
        drop(sender);
        assert_eq!(receiver.receive().await, Some(2));
        assert_eq!(receiver.receive().await, Some(3));
        assert_eq!(receiver.receive().await, None);
    });
}

#[test]
fn a_lost_receiver_gives_messages_back() {
    let world = world(2);
    let (sender, receiver) = SimEnv::link::<u32>(1);
    world.run(async {
        drop(receiver);
        let sender = sender.connect().await;
        assert_eq!(sender.try_send(1), Err(1));
        assert_eq!(sender.send(2).await, Err(2));
    });

    let (sender, receiver) = SimEnv::link::<u32>(1);
    let waiting = world.env(0).tasks().spawn(TaskClass::Network, async move {
        let sender = sender.connect().await;
        sender.send(1).await.unwrap();
        sender.send(2).await
    });
    let clock = world.env(0).clock().clone();
    world.run(async {
        let receiver = receiver.connect().await;
        clock.sleep(Duration::from_millis(1)).await;
        drop(receiver);
        assert_eq!(waiting.join().await, Err(2), "a waiting sender is woken");
    });
}

#[test]
fn connecting_waits_for_the_other_end() {
    let world = world(3);
    let clock = world.env(0).clock().clone();
    let (sender, receiver) = SimEnv::link::<u32>(1);
    let start = clock.now();
    let connecting = world.env(0).tasks().spawn(TaskClass::Network, {
        let clock = clock.clone();
        async move {
            sender.connect().await;
            clock.now()
        }
    });
    world.run(async {
        clock.sleep(Duration::from_secs(5)).await;
        receiver.connect().await;
        assert!(connecting.join().await - start >= Duration::from_secs(5));
    });
}
