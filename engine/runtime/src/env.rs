//! The one trait that stands for the machine.
//!
//! A component takes a single type parameter `E: Env` and clones the value freely: an `Env` is a handle to the shard it
//! was made on and never leaves it. State that must cross shards crosses through [`Env::Sender`] and [`Env::Receiver`].

use crate::{Clock, Disk, LinkReceiver, LinkSender, Net, Tasks};

/// The machine as one shard sees it.
pub trait Env: Clone + 'static {
    /// Files, directories and their buffers.
    type Disk: Disk;
    /// Monotonic time, wall time and timers.
    type Clock: Clock;
    /// Spawning and yielding.
    type Tasks: Tasks;
    /// Listeners and connections.
    type Net: Net;
    /// Randomness; seeded in the simulator.
    type Random: Random;
    /// Sending half of a link between two shards.
    type Sender<T: Send + 'static>: LinkSender<T>;
    /// Receiving half of a link between two shards.
    type Receiver<T: Send + 'static>: LinkReceiver<T>;

    /// The shard's disk.
    fn disk(&self) -> &Self::Disk;
    /// The shard's clock.
    fn clock(&self) -> &Self::Clock;
    /// The shard's task queues.
    fn tasks(&self) -> &Self::Tasks;
    /// The shard's network.
    fn net(&self) -> &Self::Net;
    /// The shard's source of randomness.
    fn random(&self) -> &Self::Random;
    /// Index of this shard, counted from 0.
    fn shard_index(&self) -> u16;

    /// Makes the two unconnected ends of a link that holds at most `capacity` messages in flight.
    ///
    /// Both ends may be moved to other threads; each is then connected on the shard that uses it.
    fn link<T: Send + 'static>(capacity: usize) -> (Self::Sender<T>, Self::Receiver<T>);
}

/// A source of random numbers. Not for secrets.
pub trait Random: Clone + 'static {
    /// A number drawn uniformly from all 64-bit values.
    fn next_u64(&self) -> u64;

    /// A number drawn uniformly from `0..bound`, or 0 when `bound` is 0.
    fn below(&self, bound: u64) -> u64 {
        // The high half of the product is uniform up to a bias of bound / 2^64, far below what any caller can see.
        let product = u128::from(self.next_u64()) * u128::from(bound);
        u64::try_from(product >> 64).expect("the high half of a 128-bit product fits 64 bits")
    }
}
