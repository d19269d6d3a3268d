//! The life of a broker process: prepare, say what is so, serve until told to stop.
//!
//! 1. A panic on any thread ends the process: state of a shard that panicked is not to be trusted, and shards share
//!    nothing that could tell the others.
//! 2. Raise limits, make the data directory, lock it, read whose it is; only then is anything in it touched.
//! 3. Look at the machine, watch for signals, take the address for metrics and health, print the banner.
//! 4. Hand over to the shards (`serve`), which return when their work in flight is answered.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::mpsc::{Receiver, sync_channel};

use millrace_runtime::Env as _;
use millrace_runtime::glommio::GlommioEnv;
use millrace_runtime::glommio::executor::{Shards, ShardsConfig};

use crate::admin::collect::Watched;
use crate::config::Config;
use crate::config::descriptors::{DescriptorPlan, TooFew};
use crate::config::kafka::WithoutEffect;
use crate::identity::{Identity, IdentityError};
use crate::lock::{DataLock, LockError};
use crate::machine::{self, Machine};
use crate::shard::boot::{self, BootError, Broker, Lead};
use crate::shard::mailbox::seats::Seats;
use crate::shard::mailbox::stop::stop_switch;
use crate::shard::placement::ShardIndex;
use crate::{admin, banner, logging, preflight, signals};

/// What the shards are started with.
#[derive(Debug)]
pub struct Start {
    /// The checked configuration.
    pub config: Config,
    /// Whose data directory it is.
    pub identity: Identity,
    /// Facts of the machine, to explain a start that fails.
    pub machine: Machine,
    /// Connections and open files that there may be.
    pub descriptors: DescriptorPlan,
    /// Different at every start; tells a restarted broker from the one before.
    pub incarnation: u128,
}

/// Why a broker did not start or could not go on.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Another broker has the data directory, or it cannot be locked.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The data directory is not ours.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Fewer files may be open than the shards need.
    #[error(transparent)]
    Descriptors(#[from] TooFew),
    /// The address for metrics and health cannot be had.
    #[error(
        "cannot answer metrics and health on {address}: {error}. Set admin.listener to another address, or to none"
    )]
    Admin {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
    /// The machine does not give what is needed.
    #[error("{what}: {error}")]
    Environment {
        /// What was tried.
        what: String,
        /// What the system said.
        error: io::Error,
    },
}

impl RunError {
    /// The process's exit code.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Lock(LockError::Held { .. }) => EXIT_LOCKED,
            Self::Lock(LockError::Io { .. })
            | Self::Identity(_)
            | Self::Descriptors(_)
            | Self::Admin { .. }
            | Self::Environment { .. } => EXIT_ENVIRONMENT,
        }
    }
}

/// Runs a broker until it is told to stop.
pub fn run(config: Config) -> Result<(), RunError> {
    abort_on_panic();
    let _log = logging::start(config.log, millrace_runtime::glommio::is_deliberate);
    machine::raise_limits();

    let directory = config.node.directory.clone();
    std::fs::create_dir_all(&directory).map_err(environment(format!("cannot make {}", directory.display())))?;
    let _lock = DataLock::take(&directory)?;
    let start = prepare(config, &directory)?;

    let (tell, stop) = sync_channel(1);
    let on_stop = move |signal| {
        tracing::info!(signal, "stopping; once more to stop at once");
        // An error means that the shards are gone already.
        let _ = tell.send(());
    };
    signals::watch(on_stop).map_err(environment("cannot watch for signals".to_owned()))?;

    let findings = preflight::judge(&start.machine, &start.config, Ok(&start.descriptors));
    let admin = start.config.admin.bind.map(bind_admin).transpose()?;
    let text = banner::banner(&start.config, &start.identity, admin.as_ref().map(admin::Bound::address), &findings);
    banner::print(&text).map_err(environment("cannot write the banner".to_owned()))?;

    warn_without_effect(&start.config);

    serve(&start, admin, &stop)?;
    tracing::info!("stopped cleanly");
    Ok(())
}

/// Says once which settings change nothing. One that says what Kafka does anyway is no surprise to anybody.
fn warn_without_effect(config: &Config) {
    for WithoutEffect { key, reason, value, .. } in &config.without_effect {
        if !key.is_default(value) {
            tracing::warn!(key = key.name, value, "a setting without effect: {reason}");
        }
    }
}

fn bind_admin(address: SocketAddr) -> Result<admin::Bound, RunError> {
    admin::Bound::take(address).map_err(|error| RunError::Admin { address, error })
}

fn prepare(config: Config, directory: &Path) -> Result<Start, RunError> {
    let [cluster, incarnation] = [read_random()?, read_random()?];
    let identity = Identity::load_or_create(directory, config.node.node_id, cluster)?;
    let machine = Machine::read(directory);
    let connection_count_max = config.net.connection_count_max;
    let descriptors = DescriptorPlan::cut(machine.open_file_count_max, config.shards.count, connection_count_max)?;
    Ok(Start { config, identity, machine, descriptors, incarnation })
}

/// Serves until something arrives at `stop`, on one thread per shard.
fn serve(start: &Start, admin: Option<admin::Bound>, stop: &Receiver<()>) -> Result<(), RunError> {
    let broker = Broker {
        config: start.config.clone(),
        cluster_id: start.identity.cluster_id,
        incarnation: start.incarnation,
        reserve_bytes: start.config.store.reserve_bytes(start.machine.volume.disk_bytes),
        descriptors: start.descriptors,
    };
    let (switch, signal) = stop_switch();
    let lead = Lead { stop: signal, on_ready: Box::new(|addresses| tell_ready(&addresses)) };
    let (starts, asker) = boot::Start::<GlommioEnv>::all(&broker, lead);
    let seats = Seats::new(starts);
    if let Some(bound) = admin {
        // Before the shards: how far their start is can be asked.
        let watched = Watched::new(asker, start.config.node.directory.clone(), broker.reserve_bytes);
        admin::start(bound, watched).map_err(environment("cannot start the admin thread".to_owned()))?;
    }
    let config = ShardsConfig {
        shard_count: start.config.shards.count,
        pin: start.config.shards.pin_cores,
        name_prefix: "shard".to_owned(),
        ..ShardsConfig::default()
    };
    let run_shard = move |env: GlommioEnv| {
        let shard = ShardIndex::new(env.shard_index());
        let start = seats.take(shard);
        async move {
            if let Err(error) = boot::run(env, start).await {
                fatal(shard, &error);
            }
        }
    };
    let shards = Shards::start(&config, run_shard).map_err(environment("cannot start the shards".to_owned()))?;
    // An error means that the signal thread is gone: nobody can ask for a stop any more, so this is one.
    if stop.recv().is_err() {
        tracing::error!("the signal thread is gone, stopping");
    }
    switch.stop();
    shards.join();
    Ok(())
}

/// Clients may connect. Whoever started the broker waits for this line.
fn tell_ready(addresses: &[SocketAddr]) {
    let Some(address) = addresses.first() else { return };
    if let Err(error) = banner::print_ready(*address) {
        tracing::warn!(%error, "nobody was told that the broker is ready");
    }
}

/// Ends the process: the other shards wait for this one and could not even stop without it. What was acknowledged is on
/// the device.
fn fatal(shard: ShardIndex, error: &BootError) -> ! {
    // Not through the log, whose writer is a thread of its own that this does not wait for.
    eprintln!("error: shard {shard}: {error}");
    std::process::exit(i32::from(EXIT_ENVIRONMENT));
}

fn environment(what: String) -> impl FnOnce(io::Error) -> RunError {
    move |error| RunError::Environment { what, error }
}

/// Randomness before there is an `Env`.
fn read_random() -> Result<u128, RunError> {
    let mut bytes = [0u8; 16];
    let flags = rustix::rand::GetRandomFlags::empty();
    let count = rustix::rand::getrandom(&mut bytes[..], flags)
        .map_err(|error| environment("cannot read randomness".to_owned())(error.into()))?;
    assert_eq!(count, bytes.len(), "the kernel gives up to 256 bytes whole");
    Ok(u128::from_be_bytes(bytes))
}

fn abort_on_panic() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        print(panic);
        std::process::abort();
    }));
}

/// The configuration was refused.
pub const EXIT_CONFIG: u8 = 2;
/// The data directory belongs to a running broker.
pub const EXIT_LOCKED: u8 = 3;
/// The machine does not give what is needed.
pub const EXIT_ENVIRONMENT: u8 = 4;
