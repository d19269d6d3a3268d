//! One shard of the broker: what it owns, and how it reaches what others own.
//!
//! A shard is one thread. It owns the partitions that [`placement`] gives it, the connections it was handed, and an image
//! of the metadata. Nothing else touches them: whatever concerns another shard's partition crosses by message.
//!
//! Modules in reading order: [`placement`] says who owns what; [`limits`] and [`budget`] bound what is held; [`task_set`]
//! owns what runs; [`mailbox`] is the only module that crosses cores; [`router`] asks the owner, [`serve`] is the owner's
//! answer, [`read`] that to a Fetch, [`keys`] looks into batches for compacted logs, [`watch`] waits for logs to grow; [`dispatch`] takes messages in; [`metadata_log`] drives the metadata on the
//! first shard, and [`reconcile`] makes every shard's logs follow; [`groups`] drives
//! the consumer groups; [`producer_ids`] hands out ids; [`observe`] tells how it all is; [`boot`] starts and stops it.

pub mod placement;

pub mod budget;
pub mod limits;
pub mod task_set;

pub mod keys;
pub mod mailbox;
pub mod read;
pub mod router;
pub mod serve;
pub mod watch;

pub mod dispatch;
pub mod groups;
pub mod metadata_log;
pub mod observe;
pub mod producer_ids;
pub mod reconcile;

pub mod boot;

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;

use millrace_engine::io::Slice;
use millrace_engine::model::PartitionId;
use millrace_engine::store::Store;
use millrace_runtime::local::Event;
use millrace_runtime::{Disk, Env};

use self::boot::Broker;
use self::budget::Budget;
use self::groups::Groups;
use self::keys::KeySearch;
use self::mailbox::Mailbox;
use self::mailbox::lease::LeaseTable;
use self::metadata_log::MetadataLog;
use self::placement::ShardIndex;
use self::producer_ids::ProducerIds;
use self::read::RoomSearch;
use self::router::Router;
use self::serve::AppendLine;
use self::task_set::TaskSet;
use self::watch::{Waits, Watches};
use crate::fetch_session::FetchSessions;
use crate::handlers::authorizer::Authorizer;
use crate::metadata::Image;
use crate::metadata::broker_config::{self, Told};
use crate::metadata::image::ApplyError;
use crate::metadata::record::Entry;
use crate::metadata::topic_config::Defaults;
use crate::metrics::counters::Counters;
use crate::net::connection::Connections;
use crate::net::listener::Acceptor;

/// Slices of the engine's memory, as this shard's disk makes it.
pub type LogSlice<E> = Slice<<<E as Env>::Disk as Disk>::Buffer>;

/// A handle to the shard that the caller runs on. Clones are the same shard.
pub struct Shard<E: Env> {
    inner: Rc<Inner<E>>,
}

struct Inner<E: Env> {
    env: E,
    index: ShardIndex,
    broker: Broker,
    tasks: TaskSet<E>,
    mailbox: Mailbox<E>,
    router: Router<E>,
    waits: Waits<E>,
    watches: Watches<E>,
    leases: RefCell<LeaseTable<LogSlice<E>>>,
    room_search: RoomSearch,
    append_line: AppendLine,
    request_budget: Budget,
    decoding_budget: Budget,
    key_search: KeySearch,
    connections: Connections<E>,
    fetch_sessions: RefCell<FetchSessions>,
    counters: Counters,
    producer_ids: ProducerIds,
    groups: Groups<E>,
    authorizer: Authorizer,
    /// Changes with what the image says that this broker was told.
    topic_defaults: RefCell<Rc<Defaults>>,
    /// Set when the shard's logs are recovered, before anything reads or appends.
    store: OnceCell<Store<E>>,
    store_opened: Event,
    image: RefCell<Rc<Image>>,
    /// On the first shard only.
    metadata_log: OnceCell<MetadataLog>,
    /// On the first shard only.
    acceptor: OnceCell<Acceptor>,
    stage: Cell<Stage>,
    stage_changed: Event,
}

/// How far a shard is with its life. Only ever moves forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// The first shard brings the data directory into the shape that this number of shards expects.
    Waiting,
    /// Serving, or getting ready to.
    Running,
    /// Answering what was received, receiving nothing more.
    Draining,
    /// Nobody is served any more.
    Closing,
}

impl<E: Env> Clone for Shard<E> {
    fn clone(&self) -> Self {
        Self { inner: Rc::clone(&self.inner) }
    }
}

impl<E: Env> Shard<E> {
    /// A shard that owns nothing yet.
    pub fn new(env: E, broker: Broker) -> Self {
        let index = ShardIndex::new(env.shard_index());
        let budgets = broker.config.shards.memory.shard;
        let tasks = TaskSet::new(&env);
        let mailbox = Mailbox::new(broker.config.shards.count);
        let inner = Inner {
            router: Router::new(&mailbox),
            waits: Waits::new(&mailbox),
            watches: Watches::new(&mailbox, &tasks),
            leases: RefCell::new(LeaseTable::new(index, limits::LEASE_COUNT_MAX, budgets.leases)),
            room_search: RoomSearch::default(),
            append_line: AppendLine::default(),
            request_budget: Budget::new(budgets.requests),
            decoding_budget: Budget::new(budgets.decoding),
            key_search: KeySearch::new(broker.config.store.records_bytes_max),
            connections: Connections::default(),
            fetch_sessions: RefCell::new(FetchSessions::new(
                broker.config.fetch.session_count_max,
                budgets.fetch_sessions,
            )),
            counters: Counters::default(),
            producer_ids: ProducerIds::default(),
            groups: Groups::new(&broker.config.groups, budgets.groups),
            authorizer: Authorizer,
            topic_defaults: RefCell::new(Rc::new(Defaults::new(&broker.config.effective))),
            store: OnceCell::new(),
            store_opened: Event::default(),
            image: RefCell::default(),
            metadata_log: OnceCell::new(),
            acceptor: OnceCell::new(),
            stage: Cell::new(Stage::Waiting),
            stage_changed: Event::default(),
            env,
            index,
            broker,
            tasks,
            mailbox,
        };
        Self { inner: Rc::new(inner) }
    }

    /// The machine.
    pub fn env(&self) -> &E {
        &self.inner.env
    }

    /// Which shard this is.
    pub fn index(&self) -> ShardIndex {
        self.inner.index
    }

    /// What the broker was started with.
    pub fn broker(&self) -> &Broker {
        &self.inner.broker
    }

    /// How many shards the broker has.
    pub fn shard_count(&self) -> u16 {
        self.inner.broker.config.shards.count
    }

    /// The shard that owns `partition`.
    pub fn owner(&self, partition: PartitionId) -> ShardIndex {
        placement::owner(partition, self.shard_count())
    }

    /// Where everything that runs on the shard is started.
    pub fn tasks(&self) -> &TaskSet<E> {
        &self.inner.tasks
    }

    /// The way to other shards.
    pub fn mailbox(&self) -> &Mailbox<E> {
        &self.inner.mailbox
    }

    /// Requests of this shard to others.
    pub fn router(&self) -> &Router<E> {
        &self.inner.router
    }

    /// Waits of this shard's connections.
    pub fn waits(&self) -> &Waits<E> {
        &self.inner.waits
    }

    /// Watches of other shards on this shard's logs.
    pub fn watches(&self) -> &Watches<E> {
        &self.inner.watches
    }

    /// What other shards hold of this shard's memory.
    pub fn leases(&self) -> &RefCell<LeaseTable<LogSlice<E>>> {
        &self.inner.leases
    }

    /// Who makes room for what other shards are to hold.
    pub fn room_search(&self) -> &RoomSearch {
        &self.inner.room_search
    }

    /// The order of appends.
    pub fn append_line(&self) -> &AppendLine {
        &self.inner.append_line
    }

    /// Memory for received requests.
    pub fn request_budget(&self) -> &Budget {
        &self.inner.request_budget
    }

    /// Memory for what requests are decoded into.
    pub fn decoding_budget(&self) -> &Budget {
        &self.inner.decoding_budget
    }

    /// Who looks for keys in compressed batches.
    pub fn key_search(&self) -> &KeySearch {
        &self.inner.key_search
    }

    /// The connections this shard serves.
    pub fn connections(&self) -> &Connections<E> {
        &self.inner.connections
    }

    /// What those connections fetch.
    pub fn fetch_sessions(&self) -> &RefCell<FetchSessions> {
        &self.inner.fetch_sessions
    }

    /// What the shard counts of requests and connections.
    pub fn counters(&self) -> &Counters {
        &self.inner.counters
    }

    /// Producer ids that this shard may give away.
    pub fn producer_ids(&self) -> &ProducerIds {
        &self.inner.producer_ids
    }

    /// The consumer groups that this shard coordinates.
    pub fn groups(&self) -> &Groups<E> {
        &self.inner.groups
    }

    /// Who may do what.
    pub fn authorizer(&self) -> &Authorizer {
        &self.inner.authorizer
    }

    /// The shard's logs.
    ///
    /// # Panics
    /// Before they are recovered; nothing is served until every shard has said that they are.
    pub fn store(&self) -> &Store<E> {
        self.inner.store.get().expect("nothing is served before the logs are recovered")
    }

    /// Gives the shard its logs.
    pub fn open_store(&self, store: Store<E>) {
        assert!(self.inner.store.set(store).is_ok(), "a shard has one store");
        self.inner.store_opened.notify();
    }

    /// Waits until the shard has its logs.
    pub async fn store_opened(&self) {
        loop {
            let version = self.inner.store_opened.version();
            if self.inner.store.get().is_some() {
                return;
            }
            self.inner.store_opened.changed(version).await;
        }
    }

    /// The metadata as this shard knows it. Stays as it is however long it is held.
    pub fn image(&self) -> Rc<Image> {
        Rc::clone(&self.inner.image.borrow())
    }

    /// The metadata log. On the first shard only.
    pub fn metadata_log(&self) -> &MetadataLog {
        self.inner.metadata_log.get().expect("proposals go to the first shard")
    }

    /// Makes this the shard that leads the metadata log.
    pub fn lead_metadata(&self, metadata_log: MetadataLog) {
        assert!(self.index() == ShardIndex::FIRST, "the first shard leads the metadata log");
        assert!(self.inner.metadata_log.set(metadata_log).is_ok(), "the metadata log is led once");
    }

    /// Who hands out connections. On the first shard only, once it accepts.
    pub fn acceptor(&self) -> Option<&Acceptor> {
        self.inner.acceptor.get()
    }

    /// Makes this the shard that accepts connections.
    pub fn accept_with(&self, acceptor: Acceptor) {
        assert!(self.inner.acceptor.set(acceptor).is_ok(), "connections are handed out by one");
    }

    /// What holds for topics that do not say. Stays as it is however long it is held.
    pub fn topic_defaults(&self) -> Rc<Defaults> {
        Rc::clone(&self.inner.topic_defaults.borrow())
    }

    /// Takes over what `image` says that this broker was told; says whether anything is different for topics.
    fn settle_defaults(&self, image: &Image) -> bool {
        let broker = &self.inner.broker;
        let in_force = broker_config::in_force(&broker.config.effective, Told::new(image, broker.node()));
        let settled = Rc::new(Defaults::new(&in_force));
        let before = self.inner.topic_defaults.replace(Rc::clone(&settled));
        before != settled
    }

    fn set_image(&self, image: Image) {
        *self.inner.image.borrow_mut() = Rc::new(image);
    }

    fn apply_to_image(&self, entry: &Entry) -> Result<(), ApplyError> {
        // A request in flight that holds the image keeps the old one; the copy is made only then.
        Rc::make_mut(&mut self.inner.image.borrow_mut()).apply_entry(entry)
    }

    /// How far the shard is with its life.
    pub fn stage(&self) -> Stage {
        self.inner.stage.get()
    }

    /// Moves on to `stage`, if the shard is not there yet.
    pub fn enter(&self, stage: Stage) {
        if stage > self.stage() {
            self.inner.stage.set(stage);
            self.inner.stage_changed.notify();
        }
    }

    /// Completes once the shard has reached `stage`.
    pub async fn reached(&self, stage: Stage) {
        loop {
            let version = self.inner.stage_changed.version();
            if self.stage() >= stage {
                return;
            }
            self.inner.stage_changed.changed(version).await;
        }
    }
}
