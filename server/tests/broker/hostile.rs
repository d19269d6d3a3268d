//! Clients that send more than they read, leave in the middle, or send what nobody serves.

use millrace_protocol::api_key::ApiKey;
use millrace_protocol::wire::Writer;
use millrace_runtime::sim::{DiskConfig, World, WorldConfig};
use millrace_runtime::{Env, TaskClass, TaskHandle, Tasks};

use crate::PARTITIONS;
use crate::client::{Client, batch, produce_request};
use crate::start::{Running, client_env};

/// More requests at the other shard than a shard may have there. Each connection has so many on their way that it waits
/// for a slot before it looks at an answer.
#[test]
fn more_pipelined_requests_than_slots_are_all_answered() {
    const CONNECTIONS: usize = 100;
    const REQUESTS: i64 = 400;
    // A slow device, so that everybody gets far ahead of the answers.
    let disk = DiskConfig { sync_latency_ns: 20_000_000..40_000_000, ..DiskConfig::default() };
    let world = World::new(3, WorldConfig { disk, ..WorldConfig::default() });
    world.run(async {
        let broker = Running::start(&world, PARTITIONS).await;
        let env = client_env(&world);
        Client::connect(&env, broker.address).await.make_topic("weather").await;
        let small = batch(&[b"small"]);
        let mut answered = Vec::new();
        for _ in 0..CONNECTIONS {
            let mut client = Client::connect(&env, broker.address).await;
            let mut writer = Writer::new();
            for _ in 0..REQUESTS {
                client.push(&mut writer, 9, &produce_request("weather", &[(0, &small), (1, &small)], -1));
            }
            answered.push(env.tasks().spawn(TaskClass::Network, async move {
                client.send(writer.bytes()).await;
                for _ in 0..REQUESTS {
                    client.receive(ApiKey::Produce, 9).await.unwrap();
                }
            }));
        }
        for client in answered {
            client.join().await;
        }
        broker.stop().await;
    });
}
