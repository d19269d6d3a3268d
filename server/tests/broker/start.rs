//! A whole broker of two shards on one simulated machine.

use std::net::SocketAddr;
use std::sync::mpsc;
use std::time::Duration;

use millrace_runtime::sim::{SimEnv, World, WorldConfig};
use millrace_runtime::{Clock, Env, TaskClass, TaskHandle, Tasks};
use millrace_server::config::check::{Room, check};
use millrace_server::config::{DescriptorPlan, RawConfig};
use millrace_server::identity::ClusterId;
use millrace_server::shard::boot::{self, Broker, Lead, Start};
use millrace_server::shard::mailbox::question::Asker;
use millrace_server::shard::mailbox::stop::{StopSwitch, stop_switch};

/// A broker that runs.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) asker: Asker,
    switch: StopSwitch,
    shards: Vec<<<SimEnv as Env>::Tasks as Tasks>::Handle<()>>,
}

impl Running {
    /// Starts a broker on machine 0 and waits until clients may connect.
    pub(crate) async fn start(world: &World, settings: &[&str]) -> Self {
        let broker = broker(world, settings);
        let (switch, stop) = stop_switch();
        let (tell, ready) = mpsc::channel();
        let on_ready = Box::new(move |addresses: Vec<SocketAddr>| tell.send(addresses[0]).unwrap());
        let (starts, asker) = Start::<SimEnv>::all(&broker, Lead { stop, on_ready });
        let mut shards = Vec::new();
        for (index, start) in (0..).zip(starts) {
            let env = world.env(index);
            let run = boot::run(env.clone(), start);
            shards.push(env.tasks().spawn(TaskClass::Network, async move { run.await.unwrap() }));
        }
        let clock = world.machine(1).env(0).clock().clone();
        let address = loop {
            if let Ok(address) = ready.try_recv() {
                break address;
            }
            clock.sleep(Duration::from_millis(1)).await;
        };
        Self { address, asker, switch, shards }
    }

    /// Stops the broker and waits until every shard has ended.
    pub(crate) async fn stop(self) {
        self.switch.stop();
        for shard in self.shards {
            shard.join().await;
        }
    }
}

/// A world from a seed, which is printed first.
pub(crate) fn world(seed: u64) -> World {
    println!("seed {seed}");
    World::new(seed, WorldConfig::default())
}

/// An environment for clients: a machine of their own.
pub(crate) fn client_env(world: &World) -> SimEnv {
    world.machine(1).env(0)
}

fn broker(world: &World, settings: &[&str]) -> Broker {
    let ip_address = world.machine(0).ip_address();
    let mut raw = RawConfig::new();
    let listeners = format!("listeners=PLAINTEXT://{ip_address}:9092");
    let defaults = [&listeners[..], "log.dirs=/data", "millrace.shards=2", "millrace.journal.bytes=16MiB"];
    let name = |setting: &str| setting.split('=').next().map(str::to_owned);
    let is_overridden = |default: &&&str| settings.iter().any(|setting| name(setting) == name(default));
    for setting in defaults.iter().filter(|default| !is_overridden(default)).chain(settings) {
        raw.add_assignment(setting);
    }
    let config = check(&raw, Room { core_count: 3, memory_bytes: 1 << 30 }).unwrap();
    let reserve_bytes = config.store.reserve_bytes.unwrap_or(0);
    let connection_count_max = config.net.connection_count_max;
    let descriptors = DescriptorPlan::cut(None, config.shards.count, connection_count_max).unwrap();
    Broker { config, cluster_id: ClusterId::from_random(7), incarnation: 1, reserve_bytes, descriptors }
}
