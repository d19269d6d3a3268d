//! One member of a group, and what it waits for.

use millrace_protocol::group_data::group_metadata::MemberMetadata;

use super::super::request::{Join, JoinProtocol, JoinedMember};
use super::super::{Now, Token};

/// One member.
#[derive(Clone, Debug)]
pub struct Member {
    /// Its id.
    pub id: String,
    /// Its name, if it is a static member.
    pub instance_id: Option<String>,
    /// The client's name for itself.
    pub client_id: String,
    /// Where it is.
    pub client_host: String,
    /// It is gone after this long without a word.
    pub session_timeout_ms: i32,
    /// How long others wait for it in a rebalance.
    pub rebalance_timeout_ms: i32,
    /// Ways to share out the work, the preferred one first.
    pub protocols: Vec<JoinProtocol>,
    /// Its part of the work; empty until the leader has said.
    pub assignment: Vec<u8>,
    /// What it waits for.
    pub waits: Waits,
    /// Whether it has not been in any generation yet: it does not know its id, so it cannot be heard of.
    pub is_new: bool,
    /// It is gone when it is not heard of until then. Does not count while it waits, unless it is new.
    pub deadline_ms: i64,
}

/// What a member waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waits {
    /// Nothing.
    Nothing,
    /// The next generation.
    Join(Token),
    /// The leader's assignment.
    Sync(Token),
}

impl Waits {
    /// Who is to be answered.
    pub fn token(self) -> Option<Token> {
        match self {
            Self::Nothing => None,
            Self::Join(token) | Self::Sync(token) => Some(token),
        }
    }
}

impl Member {
    /// A member that is not in a generation yet and waits for one.
    pub fn new(id: String, join: Join, token: Token, now: Now) -> Self {
        Self {
            id,
            instance_id: join.instance_id,
            client_id: join.client_id,
            client_host: join.client_host,
            session_timeout_ms: join.session_timeout_ms,
            rebalance_timeout_ms: join.rebalance_timeout_ms,
            protocols: join.protocols,
            assignment: Vec::new(),
            waits: Waits::Join(token),
            is_new: true,
            deadline_ms: now.steady_ms + NEW_MEMBER_TIMEOUT_MS,
        }
    }

    /// A member that was stored. `protocol` is the one of its generation, the only one whose metadata is stored.
    pub fn from_stored(stored: &MemberMetadata<'_>, protocol: &str) -> Self {
        let rebalance_timeout_ms =
            if stored.rebalance_timeout >= 0 { stored.rebalance_timeout } else { stored.session_timeout };
        Self {
            id: stored.member_id.to_owned(),
            instance_id: stored.group_instance_id.map(str::to_owned),
            client_id: stored.client_id.to_owned(),
            client_host: stored.client_host.to_owned(),
            session_timeout_ms: stored.session_timeout,
            rebalance_timeout_ms,
            protocols: vec![JoinProtocol { name: protocol.to_owned(), metadata: stored.subscription.to_vec() }],
            assignment: stored.assignment.to_vec(),
            waits: Waits::Nothing,
            is_new: false,
            deadline_ms: i64::MAX,
        }
    }

    /// The member was heard of.
    pub fn touch(&mut self, now: Now) {
        self.deadline_ms = now.steady_ms + i64::from(self.session_timeout_ms);
    }

    /// Takes over what the member says about itself now.
    pub fn update(&mut self, join: Join) {
        self.client_id = join.client_id;
        self.client_host = join.client_host;
        self.session_timeout_ms = join.session_timeout_ms;
        self.rebalance_timeout_ms = join.rebalance_timeout_ms;
        self.protocols = join.protocols;
    }

    /// When it is gone if nothing is heard of it; `None` while it waits for others.
    pub fn deadline_ms(&self) -> Option<i64> {
        match self.waits {
            Waits::Nothing => Some(self.deadline_ms),
            Waits::Join(_) => self.is_new.then_some(self.deadline_ms),
            Waits::Sync(_) => None,
        }
    }

    /// Whether it waits for the next generation.
    pub fn has_joined(&self) -> bool {
        matches!(self.waits, Waits::Join(_))
    }

    /// Whether it knows this way to share out the work.
    pub fn supports(&self, protocol: &str) -> bool {
        self.protocols.iter().any(|own| own.name == protocol)
    }

    /// What it said about itself for this protocol; empty for one that it does not know.
    pub fn metadata(&self, protocol: &str) -> &[u8] {
        self.protocols.iter().find(|own| own.name == protocol).map_or(&[], |own| &own.metadata)
    }

    /// What the leader learns of it.
    pub fn introduce(&self, protocol: &str) -> JoinedMember {
        JoinedMember {
            member_id: self.id.clone(),
            instance_id: self.instance_id.clone(),
            metadata: self.metadata(protocol).to_vec(),
        }
    }

    /// Memory it takes, roughly.
    pub fn bytes(&self) -> usize {
        let texts = 2 * self.id.len() + self.client_id.len() + self.client_host.len();
        let instance = self.instance_id.as_ref().map_or(0, |instance| 2 * instance.len());
        MEMBER_BYTES + texts + instance + bytes_of(&self.protocols) + self.assignment.len()
    }
}

/// Memory of protocols, roughly.
pub fn bytes_of(protocols: &[JoinProtocol]) -> usize {
    protocols.iter().map(|protocol| PROTOCOL_BYTES + protocol.name.len() + protocol.metadata.len()).sum()
}

/// How long a member that does not know its id yet may wait without a generation: its connection may be gone unseen.
const NEW_MEMBER_TIMEOUT_MS: i64 = 5 * 60 * 1000;
/// Memory of a member besides its texts and bytes.
pub const MEMBER_BYTES: usize = 512;
/// Memory of a protocol besides its name and metadata.
const PROTOCOL_BYTES: usize = 64;
