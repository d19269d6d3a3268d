//! Starts a broker's shards and stops them.
//!
//! Start, on every shard: connect the links, wait until the first shard has brought the data directory into the shape that
//! this number of shards expects, recover the logs, wait for the first image. On the first shard besides: replay the
//! metadata log, bind the listeners, register the broker with the ports it got, give every shard the image, and accept.
//!
//! Stop, led by the first shard: stop accepting; every shard answers what it has received, closes its connections and says
//! so; then every shard lets go of what it lent and borrowed, closes its mailbox, waits for its tasks, closes its logs.
//! [`run`] returns after that.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::future::join_all;
use millrace_engine::flushes::Flushes;
use millrace_engine::log::Failure;
use millrace_engine::model::PartitionId;
use millrace_engine::recovery::{self, OpenError, RecoveryReport};
use millrace_engine::store::{Store, StoreConfig};
use millrace_runtime::{BLOCK_BYTES, Clock, Env, Listener, Net};
use thiserror::Error;

use super::mailbox::Links;
use super::mailbox::message::{Message, Proposal, ProposeError, Request};
use super::mailbox::question::{self, Asker, Questions};
use super::mailbox::stop::StopSignal;
use super::metadata_log::{self, MetadataLog, ReplayError};
use super::placement::ShardIndex;
use super::{Shard, Stage, dispatch, groups, observe};
use crate::config::{Config, DescriptorPlan};
use crate::identity::ClusterId;
use crate::metadata::controller::Controller;
use crate::metadata::image::ApplyError;
use crate::metadata::record::{self, Endpoint, NodeId};
use crate::net::{listener, sweep};

/// Who the broker is. The same on every shard.
#[derive(Clone, Debug)]
pub struct Broker {
    /// The checked configuration.
    pub config: Config,
    /// The cluster it belongs to.
    pub cluster_id: ClusterId,
    /// Different at every start.
    pub incarnation: u128,
    /// Disk space that all shards keep for the broker itself.
    pub reserve_bytes: u64,
    /// Connections and open files that there may be.
    pub descriptors: DescriptorPlan,
}

impl Broker {
    /// The broker's number.
    pub fn node(&self) -> NodeId {
        NodeId::new(self.config.node.node_id).expect("the configuration is checked")
    }

    /// One shard's part of the reserve, in whole blocks.
    fn shard_reserve_bytes(&self) -> u64 {
        let block_bytes = u64::try_from(BLOCK_BYTES).expect("a small constant");
        let part = self.reserve_bytes / u64::from(self.config.shards.count);
        part - part % block_bytes
    }
}

/// What one shard starts with.
pub struct Start<E: Env> {
    broker: Broker,
    /// The same for all shards.
    flushes: Flushes,
    links: Links<E>,
    lead: Option<Lead>,
    questions: Questions,
}

/// What the first shard gets besides.
pub struct Lead {
    /// When to stop.
    pub stop: StopSignal,
    /// Called once clients may connect, with the bound address of each listener, in the order of the configuration.
    pub on_ready: Box<dyn FnOnce(Vec<SocketAddr>) + Send>,
}

impl<E: Env> Start<E> {
    /// What each shard of a broker starts with, in their order, and who may ask them how they are.
    pub fn all(broker: &Broker, lead: Lead) -> (Vec<Self>, Asker) {
        let mut lead = Some(lead);
        let (asker, questions) = question::channels(broker.config.shards.count);
        let flushes = Flushes::new(broker.config.shards.count);
        let ends = Links::all(broker.config.shards.count).into_iter().zip(questions);
        let start = |(links, questions)| {
            let (broker, flushes) = (broker.clone(), flushes.clone());
            Self { broker, flushes, links, lead: lead.take(), questions }
        };
        (ends.map(start).collect(), asker)
    }
}

/// Runs one shard from its start to its end.
///
/// An error leaves the other shards waiting for this one: the caller ends the process.
pub async fn run<E: Env>(env: E, start: Start<E>) -> Result<(), BootError> {
    let shard = Shard::new(env, start.broker);
    observe::start(&shard, start.questions);
    let receiver = shard.clone();
    shard.mailbox().start(start.links, shard.tasks(), move |source, message| {
        dispatch::receive(&receiver, source, message);
    });
    if let Some(lead) = start.lead {
        run_first(&shard, start.flushes, lead).await?;
    } else {
        shard.reached(Stage::Running).await;
        open_store(&shard, start.flushes).await?;
        sweep::start_sweep(&shard);
        groups::start(&shard);
    }
    shard.reached(Stage::Closing).await;
    close(&shard).await
}

/// Runs the shard that leads: until every shard has drained.
async fn run_first<E: Env>(shard: &Shard<E>, flushes: Flushes, lead: Lead) -> Result<(), BootError> {
    redistribute(shard).await?;
    shard.enter(Stage::Running);
    for peer in peers(shard) {
        shard.mailbox().send(peer, Message::Open);
    }
    open_store(shard, flushes).await?;
    sweep::start_sweep(shard);
    groups::start(shard);
    let image = metadata_log::replay(shard).await?;
    let records = image.records();
    shard.load_image(&records, image.applied_index())?;
    let defaults = &shard.broker().config.metadata.topic;
    shard.lead_metadata(MetadataLog::new(Controller {
        partition_count_default: defaults.partition_count,
        replication_factor_default: defaults.replication_factor,
        batch_bytes_limit: shard.broker().config.metadata.batch_bytes_limit,
        node: shard.broker().node(),
        effective: shard.broker().config.effective.clone(),
        delete_topics: shard.broker().config.metadata.delete_topics,
    }));
    let applied_index = image.applied_index();
    let load = |peer| shard.router().call(peer, Request::LoadImage { records: records.clone(), applied_index });
    join_all(peers(shard).map(load)).await;

    let listeners = bind(shard)?;
    let addresses: Vec<_> = listeners.iter().map(Listener::local_address).collect();
    let registration = Proposal::RegisterBroker(registration(shard.broker(), &addresses));
    metadata_log::propose(shard, registration).await.map_err(BootError::Register)?;
    listener::start(shard, listeners);
    (lead.on_ready)(addresses);

    lead.stop.stopped().await;
    shard.enter(Stage::Draining);
    let drains: Vec<_> = peers(shard).map(|peer| shard.router().call(peer, Request::Drain)).collect();
    shard.drain().await;
    join_all(drains).await;
    // A connection that broke off may have left requests at the peers: they answer before they let go of the links.
    while shard.router().waiting_count() > 0 {
        shard.env().clock().sleep(SETTLE_INTERVAL).await;
    }
    for peer in peers(shard) {
        shard.mailbox().send(peer, Message::Close);
    }
    shard.enter(Stage::Closing);
    Ok(())
}

impl<E: Env> Shard<E> {
    /// Answers what was received, closes the connections, and completes when nothing of this shard waits elsewhere.
    pub(super) async fn drain(&self) {
        self.enter(Stage::Draining);
        self.waits().wake_all();
        self.connections().closed().await;
        // The first shard's own requests to drain are still out.
        while self.index() != ShardIndex::FIRST && self.router().waiting_count() > 0 {
            self.env().clock().sleep(SETTLE_INTERVAL).await;
        }
    }
}

/// Lets go of everything.
async fn close<E: Env>(shard: &Shard<E>) -> Result<(), BootError> {
    // Every borrower has let go and says so by messages that are on their way.
    while shard.leases().borrow().lease_count() > 0 || shard.watches().count() > 0 || shard.router().waiting_count() > 0
    {
        shard.env().clock().sleep(SETTLE_INTERVAL).await;
    }
    shard.mailbox().close();
    shard.tasks().join().await;
    shard.store().clone().close().await.map_err(BootError::Close)
}

/// Moves what shards keep for their logs when their number has changed since the last run.
async fn redistribute<E: Env>(shard: &Shard<E>) -> Result<(), BootError> {
    let count = shard.shard_count();
    let directory = &shard.broker().config.store.directory;
    let report = recovery::redistribute(shard.env(), directory, count).await?;
    if let Some(report) = report {
        report_redistribution(shard, &report);
    }
    Ok(())
}

async fn open_store<E: Env>(shard: &Shard<E>, flushes: Flushes) -> Result<(), BootError> {
    let settings = &shard.broker().config.store;
    let config = StoreConfig {
        shard_index: shard.index().get(),
        shard_count: shard.shard_count(),
        flushes,
        journal_bytes: settings.journal_bytes,
        round_bytes_max: settings.round_bytes_max,
        write_buffer_bytes_max: settings.write_buffer_bytes_max,
        tail_cache_bytes_max: settings.tail_cache_bytes_max,
        flush_interval: settings.flush_interval,
        flush_interval_bytes: settings.flush_interval_bytes,
        retention_interval: settings.retention_check_interval,
        reserve_bytes: shard.broker().shard_reserve_bytes(),
        compaction_interval: settings.compaction_interval,
        key_map_bytes_max: settings.key_map_bytes_max,
        records_bytes_max: settings.records_bytes_max,
        read_cache_bytes_max: settings.read_cache_bytes_max,
        open_file_count_max: shard.broker().descriptors.open_file_count_max,
        index_bytes_max: settings.index_bytes_max,
        producer_bytes_max: settings.producer_bytes_max,
        producer_age_max: settings.producer_id_expiration,
        ..StoreConfig::at(settings.directory.clone())
    };
    let owned = |partition: PartitionId| shard.owner(partition) == shard.index();
    let store = Store::open(shard.env().clone(), config, owned).await?;
    shard.open_store(store);
    Ok(())
}

fn report_redistribution<E: Env>(shard: &Shard<E>, report: &RecoveryReport) {
    let (shard, logs) = (shard.index(), report.log_count);
    tracing::info!(%shard, logs, pieces = report.piece_count, "the data directory now has another number of shards");
}

fn bind<E: Env>(shard: &Shard<E>) -> Result<Vec<<E::Net as Net>::Listener>, BootError> {
    let listeners = shard.broker().config.net.listeners.iter();
    let bind = |listener: &crate::config::ListenerConfig| {
        let address = listener.bind;
        shard.env().net().listen(address).map_err(|source| BootError::Listen { address, source })
    };
    listeners.map(bind).collect()
}

/// What clients are told of this broker.
fn registration(broker: &Broker, addresses: &[SocketAddr]) -> record::Broker {
    let listeners = broker.config.net.listeners.iter().zip(addresses);
    let endpoints = listeners.map(|(listener, address)| Endpoint {
        listener: listener.name.clone(),
        host: listener.advertised_host.clone(),
        port: listener.advertised_port.unwrap_or(address.port()),
    });
    record::Broker {
        node: broker.node(),
        incarnation: broker.incarnation,
        endpoints: endpoints.collect(),
        rack: broker.config.node.rack.clone(),
        shard_count: broker.config.shards.count,
    }
}

fn peers<E: Env>(shard: &Shard<E>) -> impl Iterator<Item = ShardIndex> {
    let own = shard.index();
    ShardIndex::all(shard.shard_count()).filter(move |peer| *peer != own)
}

/// Why a shard did not start, or did not stop in order.
#[derive(Debug, Error)]
pub enum BootError {
    /// The logs cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The metadata cannot be read back.
    #[error(transparent)]
    Replay(#[from] ReplayError),
    /// The image read back cannot be loaded.
    #[error("the metadata does not fit itself: {0}")]
    Image(#[from] ApplyError),
    /// A listener's address cannot be had.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The broker could not be registered.
    #[error("the broker cannot be registered: {0:?}")]
    Register(ProposeError),
    /// The logs could not be closed; the next start recovers them.
    #[error("the logs were not closed in order: {0}")]
    Close(Failure),
}

/// How often a stopping shard looks whether the last messages have arrived.
const SETTLE_INTERVAL: Duration = Duration::from_millis(1);
