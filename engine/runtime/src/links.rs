//! Links between shards: bounded, first in first out, one sender and one receiver.
//!
//! Ends are made before the shards start ([`crate::Env::link`]), moved to them, and connected there once.

/// The sending end of a link.
pub trait LinkSender<T>: Send + 'static {
    /// The end, bound to this shard.
    type Connected: ConnectedSender<T>;

    /// Binds the end to the calling shard. Some ends wait here until the other is bound too, or is gone.
    async fn connect(self) -> Self::Connected;
}

/// The receiving end of a link.
pub trait LinkReceiver<T>: Send + 'static {
    /// The end, bound to this shard.
    type Connected: ConnectedReceiver<T>;

    /// Binds the end to the calling shard. Some ends wait here until the other is bound too, or is gone.
    async fn connect(self) -> Self::Connected;
}

/// A bound sending end.
pub trait ConnectedSender<T>: 'static {
    /// Sends without waiting. Gives the message back when the link is full or the receiver is gone.
    fn try_send(&self, message: T) -> Result<(), T>;

    /// Sends, waiting for room. Gives the message back when the receiver is gone.
    async fn send(&self, message: T) -> Result<(), T>;
}

/// A bound receiving end.
pub trait ConnectedReceiver<T>: 'static {
    /// The next message; `None` once the sender is gone and the link is drained.
    async fn receive(&self) -> Option<T>;
}
