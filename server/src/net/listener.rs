//! Accepting connections. One shard does it for the whole broker and hands each connection to the shard that has fewest.

use std::cell::RefCell;
use std::time::Duration;

use futures_util::future::{Either, select};
use millrace_runtime::{Clock, Env, Listener, Net, TaskClass};

use super::connection;
use crate::shard::mailbox::message::{Accepted, Message};
use crate::shard::placement::ShardIndex;
use crate::shard::{Shard, Stage};

/// Who has how many connections.
#[derive(Debug)]
pub struct Acceptor {
    /// By shard. Counts a connection from the moment it is handed out until its shard says that it is closed.
    counts: RefCell<Vec<usize>>,
    connection_count_max: usize,
}

impl Acceptor {
    /// No connections yet.
    pub fn new(shard_count: u16, connection_count_max: usize) -> Self {
        Self { counts: RefCell::new(vec![0; usize::from(shard_count)]), connection_count_max }
    }

    /// The shard for one more connection, which is counted. `None` when there are as many as there may be.
    fn place(&self) -> Option<ShardIndex> {
        let mut counts = self.counts.borrow_mut();
        if counts.iter().sum::<usize>() >= self.connection_count_max {
            return None;
        }
        let shards = ShardIndex::all(u16::try_from(counts.len()).expect("shards are counted in 16 bits"));
        let shard = shards.min_by_key(|shard| counts[shard.slot()]).expect("a broker has at least one shard");
        counts[shard.slot()] += 1;
        Some(shard)
    }

    /// A shard has closed a connection.
    pub fn closed(&self, shard: ShardIndex) {
        let count = &mut self.counts.borrow_mut()[shard.slot()];
        *count = count.checked_sub(1).expect("a connection is closed once");
    }
}

/// Starts accepting on every listener. Ends when the shard drains.
pub fn start<E: Env>(shard: &Shard<E>, listeners: Vec<<E::Net as Net>::Listener>) {
    let connection_count_max = shard.broker().descriptors.connection_count_max;
    let connection_count_max = usize::try_from(connection_count_max).expect("32 bits fit usize");
    shard.accept_with(Acceptor::new(shard.shard_count(), connection_count_max));
    for (listener_index, listener) in listeners.into_iter().enumerate() {
        let own = shard.clone();
        shard.tasks().spawn("listener", TaskClass::Network, async move {
            accept_all(&own, &listener, listener_index).await;
        });
    }
}

async fn accept_all<E: Env>(shard: &Shard<E>, listener: &<E::Net as Net>::Listener, listener_index: usize) {
    loop {
        let accepting = std::pin::pin!(listener.accept());
        let draining = std::pin::pin!(shard.reached(Stage::Draining));
        match select(draining, accepting).await {
            Either::Left(_) => return,
            Either::Right((Ok(socket), _)) => hand_out(shard, Accepted { socket, listener_index }),
            Either::Right((Err(error), _)) => {
                tracing::warn!(%error, address = %listener.local_address(), "a connection could not be accepted");
                // Descriptors run out for a while, and trying at once only burns the core.
                shard.env().clock().sleep(PAUSE_AFTER_ERROR).await;
            }
        }
    }
}

fn hand_out<E: Env>(shard: &Shard<E>, accepted: Accepted<E>) {
    let acceptor = shard.acceptor().expect("the acceptor is there before the first connection");
    match acceptor.place() {
        Some(target) if target == shard.index() => connection::adopt(shard, accepted),
        Some(target) => shard.mailbox().send(target, Message::Adopt { accepted }),
        // Dropping it closes it.
        None => tracing::debug!(max = acceptor.connection_count_max, "a connection too many was closed"),
    }
}

const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shard_with_fewest_connections_gets_the_next() {
        let acceptor = Acceptor::new(3, 5);
        let placed: Vec<_> = (0..4).map(|_| acceptor.place().unwrap().get()).collect();
        assert_eq!(placed, [0, 1, 2, 0]);
        acceptor.closed(ShardIndex::new(2));
        assert_eq!(acceptor.place().map(ShardIndex::get), Some(2));
        assert_eq!(acceptor.place().map(ShardIndex::get), Some(1));
        assert_eq!(acceptor.place(), None, "five are the most");
    }
}
