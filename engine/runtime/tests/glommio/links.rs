//! Links between shards.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use millrace_runtime::glommio::GlommioEnv;
use millrace_runtime::glommio::executor::{Shards, ShardsConfig};
use millrace_runtime::links::{ConnectedReceiver, ConnectedSender};
use millrace_runtime::{Clock, Env, LinkReceiver, LinkSender, TaskClass, TaskHandle, Tasks};

/// What one shard of a pair gets.
struct Ends {
    sender: <GlommioEnv as Env>::Sender<u64>,
    receiver: <GlommioEnv as Env>::Receiver<u64>,
}

impl Ends {
    /// Connects both ends at once: an end may wait for its peer, which may be the second one in its shard's order.
    async fn connect(
        self,
        env: &GlommioEnv,
    ) -> (impl ConnectedSender<u64> + use<>, impl ConnectedReceiver<u64> + use<>) {
        let sender = env.tasks().spawn(TaskClass::Network, async move { self.sender.connect().await });
        let receiver = self.receiver.connect().await;
        (sender.join().await, receiver)
    }
}

/// Runs `main` on two shards that are linked both ways.
fn on_two_shards<Main, Ended>(capacity: usize, main: Main)
where
    Main: Fn(GlommioEnv, Ends) -> Ended + Clone + Send + 'static,
    Ended: Future<Output = ()> + 'static,
{
    let (to_second, from_first) = GlommioEnv::link(capacity);
    let (to_first, from_second) = GlommioEnv::link(capacity);
    let first = Ends { sender: to_second, receiver: from_second };
    let second = Ends { sender: to_first, receiver: from_first };
    let config = ShardsConfig { shard_count: 2, ..ShardsConfig::default() };
    Shards::start_with(&config, vec![first, second], main).unwrap().join();
}

#[test]
fn two_thousand_round_trips_complete_although_both_shards_park_between_them() {
    // Guard: a wake-up across threads that is lost leaves both shards asleep.
    on_two_shards(1, |env, ends| async move {
        let (sender, receiver) = ends.connect(&env).await;
        if env.shard_index() == 0 {
            for round in 0..2000 {
                // Long enough for both to have nothing to do.
                env.clock().sleep(Duration::from_micros(50 * (round % 5))).await;
                sender.send(round).await.unwrap();
                assert_eq!(receiver.receive().await, Some(round));
            }
        } else {
            while let Some(round) = receiver.receive().await {
                sender.send(round).await.ok();
            }
        }
    });
}

#[test]
fn messages_keep_their_order_through_a_link_that_is_often_full() {
    on_two_shards(4, |env, ends| async move {
        let (sender, receiver) = ends.connect(&env).await;
        if env.shard_index() == 0 {
            for number in 0..20_000 {
                sender.send(number).await.unwrap();
            }
        } else {
            for number in 0..20_000 {
                assert_eq!(receiver.receive().await, Some(number));
            }
            assert_eq!(receiver.receive().await, None);
        }
    });
}

#[test]
fn a_full_link_gives_the_message_back_and_so_does_one_without_a_receiver() {
    on_two_shards(2, |env, ends| async move {
        let (sender, receiver) = ends.connect(&env).await;
        if env.shard_index() == 0 {
            sender.try_send(0).unwrap();
            sender.try_send(1).unwrap();
            assert_eq!(sender.try_send(2), Err(2));
            // Lets the peer go, which it does with the link full.
            let mut send = pin!(sender.send(3));
            poll_fn(|context| {
                assert!(send.as_mut().poll(context).is_pending());
                Poll::Ready(())
            })
            .await;
            drop(receiver);
            assert_eq!(send.await, Err(3));
            assert_eq!(sender.try_send(4), Err(4));
        } else {
            let peer_goes = async { while sender.send(0).await.is_ok() {} };
            peer_goes.await;
            drop(receiver);
        }
    });
}

#[test]
fn a_receiver_may_be_polled_more_often_than_a_task_has_wakers() {
    // Guard: the 32,768th clone of a task's waker panics.
    on_two_shards(1, |env, ends| async move {
        let (sender, receiver) = ends.connect(&env).await;
        if env.shard_index() == 0 {
            assert_eq!(receiver.receive().await, Some(1));
            sender.send(2).await.unwrap();
            assert_eq!(receiver.receive().await, None);
        } else {
            for _ in 0..100_000 {
                let mut receive = pin!(receiver.receive());
                poll_fn(|context| {
                    assert!(receive.as_mut().poll(context).is_pending());
                    Poll::Ready(())
                })
                .await;
            }
            // The waiting task is still woken.
            let task = env.tasks().spawn(TaskClass::Network, async move { receiver.receive().await });
            sender.send(1).await.unwrap();
            assert_eq!(task.join().await, Some(2));
        }
    });
}
