//! One member of a group whose coordinator shares out the partitions: what it says, and where it stands.

use std::collections::{BTreeMap, BTreeSet};

use millrace_protocol::wire::Uuid;

use crate::group::Now;
use crate::group::request::{IdPartition, JoinProtocol};

/// One member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// What it says about itself.
    pub profile: Profile,
    /// What it has.
    pub current: Current,
    /// What it is to have.
    pub target: BTreeSet<IdPartition>,
    /// It is gone when it is not heard of until then.
    pub deadline_ms: i64,
    /// It is gone when it has not given partitions back until then.
    pub revoke_until_ms: Option<i64>,
    /// A classic member is gone when it has not joined or synced until then.
    pub classic_until_ms: Option<i64>,
}

/// What a member says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    /// Its name, if it is a static member.
    pub instance_id: Option<String>,
    /// Where its machine stands.
    pub rack_id: Option<String>,
    /// The client's name for itself.
    pub client_id: String,
    /// Where it is.
    pub client_host: String,
    /// Topics that it reads.
    pub names: BTreeSet<String>,
    /// Topics that it reads besides: those whose names match. Invariant: not empty.
    pub regex: Option<String>,
    /// How long it may take to give partitions back.
    pub rebalance_timeout_ms: i32,
    /// How it wants partitions shared out.
    pub assignor: Option<String>,
    /// What only a member of the classic protocol says.
    pub classic: Option<ClassicProfile>,
}

/// What a member of the classic protocol says about itself in a group of the newer one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClassicProfile {
    /// It is gone after this long without a word.
    pub session_timeout_ms: i32,
    /// Ways to share out the work that it knows; none of them is used.
    pub protocols: Vec<JoinProtocol>,
}

/// What a member has, and since which epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Current {
    /// The epoch it knows; [`STATIC_LEAVE_EPOCH`] while a static member is away.
    pub epoch: i32,
    /// The one before: the answer with the newer one may be lost.
    pub previous_epoch: i32,
    /// What it is to do next.
    pub state: MemberState,
    /// What it may read, with the epoch in which it got each.
    pub assigned: BTreeMap<IdPartition, i32>,
    /// What it has to give back, with the epoch in which it got each.
    pub revoking: BTreeMap<IdPartition, i32>,
}

/// Whether a member has what it is to have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MemberState {
    /// As of its epoch, yes.
    #[default]
    Stable,
    /// It has to give partitions back first.
    UnrevokedPartitions,
    /// Others have to give partitions back first.
    UnreleasedPartitions,
}

impl MemberState {
    /// As it is stored.
    pub fn code(self) -> i8 {
        match self {
            Self::Stable => 0,
            Self::UnrevokedPartitions => 1,
            Self::UnreleasedPartitions => 2,
        }
    }

    /// As it was stored. A state of a later version is one that holds until the member is heard of.
    pub fn from_code(code: i8) -> Self {
        match code {
            1 => Self::UnrevokedPartitions,
            2 => Self::UnreleasedPartitions,
            _ => Self::Stable,
        }
    }

    /// Kafka's name of it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stable => "STABLE",
            Self::UnrevokedPartitions => "UNREVOKED_PARTITIONS",
            Self::UnreleasedPartitions => "UNRELEASED_PARTITIONS",
        }
    }
}

impl Current {
    /// Everything that nobody else may have.
    pub fn held(&self) -> impl Iterator<Item = &IdPartition> {
        self.assigned.keys().chain(self.revoking.keys())
    }
}

impl Member {
    /// The member was heard of.
    pub fn touch(&mut self, now: Now, session_timeout_ms: i32) {
        let classic = self.profile.classic.as_ref();
        let session_timeout_ms = classic.map_or(session_timeout_ms, |classic| classic.session_timeout_ms);
        self.deadline_ms = now.steady_ms.saturating_add(i64::from(session_timeout_ms));
    }

    /// When something is due for it.
    pub fn next_deadline_ms(&self) -> i64 {
        let others = self.revoke_until_ms.into_iter().chain(self.classic_until_ms);
        others.fold(self.deadline_ms, i64::min)
    }

    /// Whether it has what it is to have in this epoch.
    pub fn is_settled_in(&self, epoch: i32) -> bool {
        self.current.state == MemberState::Stable && self.current.epoch == epoch
    }

    /// Whether it speaks the classic protocol.
    pub fn is_classic(&self) -> bool {
        self.profile.classic.is_some()
    }

    /// Memory it takes, roughly.
    pub fn bytes(&self) -> usize {
        let partition_count = self.current.assigned.len() + self.current.revoking.len() + self.target.len();
        MEMBER_BYTES + self.profile.bytes() + partition_count * PARTITION_BYTES
    }
}

impl Profile {
    /// Memory of its texts, roughly.
    pub fn bytes(&self) -> usize {
        let texts = [&self.instance_id, &self.rack_id, &self.regex, &self.assignor].into_iter().flatten();
        let names = self.names.iter().map(|name| name.len() + NAME_BYTES);
        let classic = self.classic.iter().flat_map(|classic| &classic.protocols);
        let classic = classic.map(|protocol| protocol.name.len() + protocol.metadata.len() + NAME_BYTES);
        let texts: usize = texts.map(String::len).sum();
        texts + self.client_id.len() + self.client_host.len() + names.sum::<usize>() + classic.sum::<usize>()
    }
}

/// Partitions by topic, as messages and records have them.
pub fn by_topic<'a>(places: impl IntoIterator<Item = &'a IdPartition>) -> BTreeMap<Uuid, Vec<i32>> {
    let mut topics: BTreeMap<Uuid, Vec<i32>> = BTreeMap::new();
    for place in places {
        topics.entry(place.topic_id).or_default().push(place.partition);
    }
    topics
}

/// The epoch of somebody who joins.
pub const JOIN_EPOCH: i32 = 0;
/// The epoch of somebody who leaves.
pub const LEAVE_EPOCH: i32 = -1;
/// The epoch of a static member that goes away and keeps its place.
pub const STATIC_LEAVE_EPOCH: i32 = -2;
/// Memory of a member besides its texts and partitions.
pub const MEMBER_BYTES: usize = 640;
/// Memory of a partition in a set or a table, and its share of the group's.
pub const PARTITION_BYTES: usize = 64;
/// Memory of a name besides its letters.
const NAME_BYTES: usize = 64;
