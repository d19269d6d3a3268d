//! One group, whatever protocol its members share their work by.

use millrace_protocol::error_code::ErrorCode;

use super::classic::Classic;
use super::consumer::Consumer;
use super::offsets::{Offsets, UnusedSince};
use super::records::{Record, StoredConsumer};
use super::request::{Commit, Leaver, ListedGroup, Membership, Sync};
use super::{Now, Settings, Step, Token};

/// One group.
#[derive(Debug)]
pub struct Group {
    /// Its members.
    pub protocol: Protocol,
    /// What it has committed.
    pub offsets: Offsets,
    /// When something is due, as far as the coordinator was told.
    pub armed_ms: Option<i64>,
    /// What it counts for in the coordinator's memory.
    pub bytes: usize,
}

/// How a group shares out its work.
#[derive(Debug)]
pub enum Protocol {
    /// By JoinGroup and SyncGroup.
    Classic(Classic),
    /// By ConsumerGroupHeartbeat (KIP-848).
    Consumer(Consumer),
}

impl Default for Group {
    /// A group without anything.
    fn default() -> Self {
        let protocol = Protocol::Classic(Classic::default());
        Self { protocol, offsets: Offsets::default(), armed_ms: None, bytes: 0 }
    }
}

impl Group {
    /// Memory of the group, roughly.
    pub fn count_bytes(&self, name: &str) -> usize {
        GROUP_BYTES + 2 * name.len() + self.protocol.bytes() + self.offsets.bytes()
    }

    /// Whether there is nothing of it.
    pub fn is_nothing(&self) -> bool {
        self.protocol.is_blank() && self.offsets.is_empty()
    }

    /// Takes back what was stored of its members.
    pub fn gone(&self, name: &str) -> Vec<Record> {
        match &self.protocol {
            Protocol::Classic(_) => vec![Record::group(name, None)],
            Protocol::Consumer(consumer) => consumer.gone(name),
        }
    }

    /// What ListGroups shows of it.
    pub fn list(&self, name: &str) -> ListedGroup {
        let (protocol_type, state, group_type) = match &self.protocol {
            Protocol::Classic(classic) => (classic.protocol_type().to_owned(), classic.state().name(), CLASSIC),
            Protocol::Consumer(consumer) => (CONSUMER.to_owned(), consumer.state_name(), CONSUMER),
        };
        ListedGroup { group: name.to_owned(), protocol_type, state, group_type }
    }
}

impl Protocol {
    /// A record of a group of KIP-848 was read back.
    pub fn replay_consumer(&mut self, stored: &StoredConsumer<'_>) {
        if let Self::Classic(_) = self {
            if stored.is_gone() {
                return;
            }
            *self = Self::Consumer(Consumer::default());
        }
        if let Self::Consumer(consumer) = self
            && !consumer.replay(stored)
        {
            *self = Self::Classic(Classic::default());
        }
    }

    /// Gives the members of a group that was read back time to be heard of.
    pub fn resume(&mut self, now: Now, settings: &Settings) {
        match self {
            Self::Classic(classic) => classic.resume(now),
            Self::Consumer(consumer) => consumer.resume(now, settings),
        }
    }

    /// The members of a classic group.
    pub fn classic(&self) -> Option<&Classic> {
        match self {
            Self::Classic(classic) => Some(classic),
            Self::Consumer(_) => None,
        }
    }

    /// Memory of the members, roughly.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Classic(classic) => classic.bytes(),
            Self::Consumer(consumer) => consumer.bytes(),
        }
    }

    /// Whether nothing would be lost with it, save for offsets.
    pub fn is_blank(&self) -> bool {
        match self {
            Self::Classic(classic) => classic.is_blank(),
            Self::Consumer(consumer) => consumer.is_blank(),
        }
    }

    /// Whether nobody is in it or on the way in.
    pub fn is_deserted(&self) -> bool {
        match self {
            Self::Classic(classic) => classic.is_deserted(),
            Self::Consumer(consumer) => consumer.is_deserted(),
        }
    }

    /// Since when the group's offsets are not used; `None` while they are.
    pub fn unused_since(&self) -> Option<UnusedSince> {
        match self {
            Self::Classic(classic) => classic.unused_since(),
            Self::Consumer(consumer) => Some(consumer.unused_since()),
        }
    }

    /// Whether a member reads the topic, or might.
    pub fn is_subscribed(&self, topic: &str) -> bool {
        match self {
            Self::Classic(classic) => classic.is_subscribed(topic),
            Self::Consumer(consumer) => consumer.is_subscribed(topic),
        }
    }

    /// Whether offsets may be deleted one by one.
    pub fn may_delete_offsets(&self) -> bool {
        match self {
            Self::Classic(classic) => classic.may_delete_offsets(),
            Self::Consumer(_) => true,
        }
    }

    /// Everyone who waits for an answer.
    pub fn waiting(&self) -> Vec<Token> {
        match self {
            Self::Classic(classic) => classic.waiting().collect(),
            Self::Consumer(_) => Vec::new(),
        }
    }

    /// When something is to happen although nobody asks.
    pub fn next_deadline_ms(&self) -> Option<i64> {
        match self {
            Self::Classic(classic) => classic.next_deadline_ms(),
            Self::Consumer(consumer) => consumer.next_deadline_ms(),
        }
    }

    /// Whether these offsets may be committed now.
    pub(super) fn check_commit(&mut self, step: &Step<'_>, commit: &Commit) -> Result<(), ErrorCode> {
        match self {
            Self::Classic(classic) => classic.check_commit(step.now, commit),
            Self::Consumer(consumer) => consumer.check_commit(step, commit),
        }
    }

    /// A member asks for its part.
    pub(super) fn sync(&mut self, step: &mut Step<'_>, token: Token, sync: Sync) {
        match self {
            Self::Classic(classic) => classic.sync(step, token, sync),
            Self::Consumer(consumer) => consumer.sync(step, token, &sync),
        }
    }

    /// A member says that it is still there.
    pub(super) fn heartbeat(&mut self, step: &mut Step<'_>, token: Token, member: &Membership) {
        match self {
            Self::Classic(classic) => classic.heartbeat(step, token, member),
            Self::Consumer(consumer) => consumer.heartbeat(step, token, member),
        }
    }

    /// Members go.
    pub(super) fn leave(&mut self, step: &mut Step<'_>, token: Token, leavers: Vec<Leaver>) {
        match self {
            Self::Classic(classic) => classic.leave(step, token, leavers),
            Self::Consumer(consumer) => consumer.leave(step, token, leavers),
        }
        self.downgrade(step);
    }

    /// Somebody no longer waits for an answer.
    pub(super) fn cancel(&mut self, step: &mut Step<'_>, token: Token) {
        match self {
            Self::Classic(classic) => classic.cancel(step, token),
            // Nobody waits there.
            Self::Consumer(_) => {}
        }
    }

    /// Does what is due.
    pub(super) fn expire(&mut self, step: &mut Step<'_>) {
        match self {
            Self::Classic(classic) => classic.expire(step),
            Self::Consumer(consumer) => consumer.expire(step),
        }
        self.downgrade(step);
    }

    /// Makes a group of KIP-848 a classic one once only classic members are left.
    pub(super) fn downgrade(&mut self, step: &mut Step<'_>) {
        if let Self::Consumer(consumer) = self
            && consumer.is_all_classic()
            && step.settings.consumer.migration.may_downgrade()
        {
            *self = Self::Classic(consumer.to_classic(step));
        }
    }
}

/// Kafka's name of groups that rebalance by JoinGroup.
const CLASSIC: &str = "classic";
/// Kafka's name of groups that rebalance by ConsumerGroupHeartbeat.
const CONSUMER: &str = "consumer";
/// Memory of a group besides its name, members and offsets.
pub const GROUP_BYTES: usize = 512;
