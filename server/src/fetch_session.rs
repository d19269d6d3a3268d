//! Fetch sessions (KIP-227): what a client has said it wants to fetch, so that it need not say it again, and what it was
//! told of each partition, so that it is told again only what has changed.
//!
//! 1. [`FetchSessions::open`] turns a request into what is to be read. A full request (epoch 0) says everything itself, an
//!    incremental one (epoch 1, 2, ...) only what has changed since the session's last request.
//! 2. The caller reads, and says with one [`Outcome`] per partition what came of it.
//! 3. [`FetchSessions::close`] answers a full request with the number of a new session, or with none, and says for an
//!    incremental one which partitions have news.
//!
//! Partitions that gave records move to the session's end, so that the first ones do not take the whole of every answer.
//!
//! A session belongs to the connection that made it and goes with it: its id means nothing on another connection, where
//! Kafka would know it. The client is told `FETCH_SESSION_ID_NOT_FOUND` and makes a new one, as it does after an
//! eviction.
//!
//! Pure: no clock, no sockets. Bounds: sessions and their bytes; past either, a session that was not used for
//! [`EVICTION_AGE`] gives way, or one that is as old and has fewer partitions, or the client gets no session.

mod session;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use millrace_protocol::error_code::ErrorCode;
use millrace_protocol::wire::Uuid;
use millrace_runtime::Moment;

use self::session::Session;

/// The sessions of one shard's connections.
#[derive(Debug)]
pub struct FetchSessions {
    session_count_max: usize,
    bytes_max: usize,
    sessions: BTreeMap<SessionKey, Session>,
    /// The sum of the sessions' bytes. Invariant: at most `bytes_max` between two calls.
    bytes: usize,
    by_use: BTreeSet<(Moment, SessionKey)>,
    /// Sessions that were older than [`EVICTION_AGE`] when last used, by their partitions.
    by_size: BTreeSet<(usize, SessionKey)>,
    id_next: i32,
}

/// Number that a shard gives to a connection. Never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConnectionNumber(pub u64);

/// Number of a session, positive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SessionId(i32);

type SessionKey = (ConnectionNumber, SessionId);

/// How a request names topics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Naming {
    /// By name, up to version 12.
    Name,
    /// By id, from version 13 on.
    Id,
}

/// A topic as a request names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TopicKey {
    /// By name.
    Name(Rc<str>),
    /// By id.
    Id(Uuid),
}

impl TopicKey {
    fn name_bytes(&self) -> usize {
        match self {
            Self::Name(name) => name.len(),
            Self::Id(_) => 0,
        }
    }
}

/// A partition as a request names it. It need not exist.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PartitionKey {
    /// Its topic.
    pub topic: TopicKey,
    /// Its index. Any number.
    pub partition: i32,
}

/// What a client wants of a partition. Taken from the request and not checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchPosition {
    /// First offset wanted.
    pub offset: i64,
    /// Most bytes.
    pub bytes_max: i32,
    /// The leader epoch that the client believes in, or -1.
    pub leader_epoch: i32,
}

/// A partition and what is wanted of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The partition.
    pub key: PartitionKey,
    /// What is wanted.
    pub position: FetchPosition,
}

/// What a request says about its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionRequest {
    /// Where it came in.
    pub connection: ConnectionNumber,
    /// The session it names; 0 is none.
    pub session_id: i32,
    /// Its number within the session; 0 asks for a new session, -1 for none.
    pub session_epoch: i32,
    /// How it names topics.
    pub naming: Naming,
}

/// What a request wants in all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// How it is answered.
    pub kind: FetchKind,
    /// What is to be read, in this order; each partition once.
    pub wanted: Vec<Wanted>,
}

/// How a request is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FetchKind {
    /// In full, without a session.
    Sessionless,
    /// In full, with a new session if there is room for one.
    New,
    /// With what has changed in this session.
    Incremental(SessionId),
}

/// What came of a partition that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Whether there are records for it.
    pub has_records: bool,
    /// Whether it has an error code.
    pub has_error: bool,
    /// What the client is told of the log.
    pub marks: Marks,
}

/// What a client is told of a log; -1 is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marks {
    /// The high watermark.
    pub high_watermark: i64,
    /// The last stable offset.
    pub last_stable: i64,
    /// First offset the log still has.
    pub log_start: i64,
}

impl Marks {
    /// Of a log that the client was told nothing of.
    pub const UNKNOWN: Self = Self { high_watermark: -1, last_stable: -1, log_start: -1 };
}

/// What the answer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    /// The session to go on with; 0 is none.
    pub session_id: i32,
    /// For each partition that was read, in order, whether it is in the answer.
    pub is_told: Vec<bool>,
}

impl FetchSessions {
    /// No sessions yet. With `session_count_max` 0 there never are any.
    pub fn new(session_count_max: usize, bytes_max: usize) -> Self {
        Self {
            session_count_max,
            bytes_max,
            sessions: BTreeMap::new(),
            bytes: 0,
            by_use: BTreeSet::new(),
            by_size: BTreeSet::new(),
            id_next: 1,
        }
    }

    /// Begins a request that asks for `asked` and, in its session, no longer for `forgotten`.
    ///
    /// The error is the whole answer: its session is not known, or not at this epoch, or names topics otherwise. In the
    /// last two cases the session stays as it was.
    pub fn open(
        &mut self,
        now: Moment,
        request: SessionRequest,
        asked: Vec<Wanted>,
        forgotten: &[PartitionKey],
    ) -> Result<Opened, ErrorCode> {
        let key = (request.connection, SessionId(request.session_id));
        if request.session_epoch == INITIAL_EPOCH || request.session_epoch == FINAL_EPOCH {
            // A full request ends the session that it names, whatever comes after it.
            self.remove(key);
            let is_last = request.session_epoch == FINAL_EPOCH;
            let kind = if is_last { FetchKind::Sessionless } else { FetchKind::New };
            return Ok(Opened { kind, wanted: session::merge_duplicates(asked) });
        }
        let session = self.sessions.get_mut(&key).ok_or(ErrorCode::FetchSessionIdNotFound)?;
        if session.epoch() != request.session_epoch {
            return Err(ErrorCode::InvalidFetchSessionEpoch);
        }
        if session.naming() != request.naming {
            return Err(ErrorCode::FetchSessionTopicIdError);
        }
        self.bytes -= session.bytes();
        session.update(&asked, forgotten);
        self.bytes += session.bytes();
        if session.partition_count() == 0 {
            self.remove(key);
            return Ok(Opened { kind: FetchKind::Sessionless, wanted: session::merge_duplicates(asked) });
        }
        session.advance();
        let wanted = session.wanted();
        if self.bytes > self.bytes_max {
            // It has outgrown its room. The client asks in full, and finds out what it may have.
            self.remove(key);
            return Err(ErrorCode::FetchSessionIdNotFound);
        }
        self.touch(now, key);
        Ok(Opened { kind: FetchKind::Incremental(key.1), wanted })
    }

    /// Ends a request that was `opened`; `outcomes` are of what it wants, in its order.
    ///
    /// The error is the whole answer: the session was evicted while its request was under way.
    ///
    /// # Panics
    /// When `outcomes` are not of what [`FetchSessions::open`] gave, or the session was opened again meanwhile.
    pub fn close(
        &mut self,
        now: Moment,
        request: SessionRequest,
        opened: &Opened,
        outcomes: &[Outcome],
    ) -> Result<Closed, ErrorCode> {
        let wanted = &opened.wanted;
        assert_eq!(wanted.len(), outcomes.len(), "every partition has an outcome");
        match opened.kind {
            FetchKind::Sessionless => Ok(Closed { session_id: NO_SESSION, is_told: vec![true; wanted.len()] }),
            FetchKind::New => {
                let session_id = self.create(now, request, wanted, outcomes).map_or(NO_SESSION, |id| id.0);
                Ok(Closed { session_id, is_told: vec![true; wanted.len()] })
            }
            FetchKind::Incremental(id) => {
                let session = self.sessions.get_mut(&(request.connection, id));
                let session = session.ok_or(ErrorCode::FetchSessionIdNotFound)?;
                Ok(Closed { session_id: id.0, is_told: session.tell(wanted, outcomes) })
            }
        }
    }

    /// A connection is closed, and its sessions with it.
    pub fn close_connection(&mut self, connection: ConnectionNumber) {
        let of_connection = (connection, SessionId(i32::MIN))..=(connection, SessionId(i32::MAX));
        let keys: Vec<_> = self.sessions.range(of_connection).map(|(key, _)| *key).collect();
        for key in keys {
            self.remove(key);
        }
    }

    /// How many there are.
    pub fn session_count(&self) -> usize {
        self.sessions.len()
    }

    /// What they count as, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn create(
        &mut self,
        now: Moment,
        request: SessionRequest,
        wanted: &[Wanted],
        outcomes: &[Outcome],
    ) -> Option<SessionId> {
        let bytes = session::bytes(wanted);
        if bytes > self.bytes_max || self.session_count_max == 0 {
            return None;
        }
        while self.sessions.len() >= self.session_count_max || bytes > self.bytes_max - self.bytes {
            self.evict_for(now, wanted.len())?;
        }
        let key = (request.connection, self.take_id(request.connection));
        let session = Session::new(now, request.naming, wanted, outcomes);
        assert_eq!(session.bytes(), bytes, "a session counts as what room was made for");
        self.bytes += bytes;
        self.by_use.insert((now, key));
        self.sessions.insert(key, session);
        Some(key.1)
    }

    /// Removes the session that is worth least, if it is worth less than a new one of `partition_count` partitions.
    fn evict_for(&mut self, now: Moment, partition_count: usize) -> Option<()> {
        let (used_at, oldest) = *self.by_use.first()?;
        if now.saturating_since(used_at) > EVICTION_AGE {
            self.remove(oldest);
            return Some(());
        }
        let (smallest_count, smallest) = *self.by_size.first()?;
        if smallest_count >= partition_count {
            return None;
        }
        self.remove(smallest);
        Some(())
    }

    /// Notes that a session is used.
    fn touch(&mut self, now: Moment, key: SessionKey) {
        let session = self.sessions.get_mut(&key).expect("a session that is used is there");
        let (used_at, partition_count) = (session.used_at, session.sorted_partition_count);
        self.by_use.remove(&(used_at, key));
        self.by_size.remove(&(partition_count, key));
        session.used_at = now;
        session.sorted_partition_count = session.partition_count();
        self.by_use.insert((now, key));
        if now.saturating_since(session.created_at) > EVICTION_AGE {
            self.by_size.insert((session.sorted_partition_count, key));
        }
    }

    fn remove(&mut self, key: SessionKey) {
        let Some(session) = self.sessions.remove(&key) else { return };
        self.bytes -= session.bytes();
        self.by_use.remove(&(session.used_at, key));
        self.by_size.remove(&(session.sorted_partition_count, key));
    }

    fn take_id(&mut self, connection: ConnectionNumber) -> SessionId {
        loop {
            let id = SessionId(self.id_next);
            self.id_next = self.id_next.checked_add(1).unwrap_or(1);
            if !self.sessions.contains_key(&(connection, id)) {
                return id;
            }
        }
    }
}

/// How long a session was not used, or has existed, before it may give way to another. Kafka's number.
pub const EVICTION_AGE: Duration = Duration::from_mins(2);

const INITIAL_EPOCH: i32 = 0;
const FINAL_EPOCH: i32 = -1;
const NO_SESSION: i32 = 0;

#[cfg(test)]
mod tests;
