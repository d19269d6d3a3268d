//! Several listeners: each tells its clients the address that they can reach.

use std::net::SocketAddr;

use millrace_protocol::messages::describe_cluster::{DescribeClusterRequest, DescribeClusterResponse};
use millrace_protocol::messages::find_coordinator::{FindCoordinatorRequest, FindCoordinatorResponse};
use millrace_protocol::messages::metadata::{MetadataRequest, MetadataResponse};
use millrace_runtime::sim::SimEnv;

use crate::client::{Client, fetch_request};
use crate::each_seed;
use crate::start::{Running, client_env};

/// Where a client is told to go: by Metadata, by DescribeCluster, and by FindCoordinator before and after version 4.
async fn told(client: &mut Client<SimEnv>) -> [(String, i32); 4] {
    let answer = client.call(12, &MetadataRequest { topics: Some(Vec::new()), ..MetadataRequest::default() }).await;
    let metadata: MetadataResponse<'_> = answer.decode(12);
    let broker = &metadata.brokers[0];
    assert_eq!((metadata.controller_id, metadata.brokers.len()), (broker.node_id, 1), "the controller can be found");
    let by_metadata = (broker.host.to_owned(), broker.port);

    let answer = client.call(1, &DescribeClusterRequest { endpoint_type: 1, ..Default::default() }).await;
    let cluster: DescribeClusterResponse<'_> = answer.decode(1);
    assert_eq!(cluster.controller_id, cluster.brokers[0].broker_id);
    let by_cluster = (cluster.brokers[0].host.to_owned(), cluster.brokers[0].port);

    let answer = client.call(3, &FindCoordinatorRequest { key: "readers", ..Default::default() }).await;
    let one: FindCoordinatorResponse<'_> = answer.decode(3);
    let by_one = (one.host.to_owned(), one.port);
    let request = FindCoordinatorRequest { coordinator_keys: vec!["readers"], ..Default::default() };
    let answer = client.call(6, &request).await;
    let many: FindCoordinatorResponse<'_> = answer.decode(6);
    [by_metadata, by_cluster, by_one, (many.coordinators[0].host.to_owned(), many.coordinators[0].port)]
}

#[test]
fn each_listener_tells_its_own_address_and_serves_the_same_topics() {
    each_seed(async |world| {
        let ip_address = world.machine(0).ip_address();
        let listeners = format!("listeners=INSIDE://{ip_address}:9092,OUTSIDE://{ip_address}:9093");
        let settings = [
            listeners.as_str(),
            "advertised.listeners=OUTSIDE://broker.example.org:19093",
            "listener.security.protocol.map=INSIDE:PLAINTEXT,OUTSIDE:PLAINTEXT",
            "num.partitions=4",
        ];
        let broker = Running::start(world, &settings).await;
        let env = client_env(world);
        let mut inside = Client::connect(&env, SocketAddr::new(ip_address, 9092)).await;
        let mut outside = Client::connect(&env, SocketAddr::new(ip_address, 9093)).await;
        for address in told(&mut inside).await {
            assert_eq!(address, (ip_address.to_string(), 9092));
        }
        for address in told(&mut outside).await {
            assert_eq!(address, ("broker.example.org".to_owned(), 19_093));
        }

        outside.make_topic("weather").await;
        for partition in 0..4 {
            outside.produce("weather", partition, b"sunny").await;
        }
        let found = inside.fetch(&fetch_request("weather", &[(0, 0), (1, 0), (2, 0), (3, 0)], 0, 1)).await;
        assert_eq!(found, vec![vec![b"sunny".to_vec()]; 4]);
        broker.stop().await;
    });
}
