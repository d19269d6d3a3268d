//! Ten thousand connections that say hello and then nothing.

use kafka_protocol::messages::ApiVersionsRequest;
use millrace_compat::wire::Connection;
use millrace_compat::{Broker, Kcat};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

const CONNECTIONS: usize = 10_000;
/// What an idle connection may keep of the broker's memory, all in all; the kernel's part is not in it.
const BYTES_MAX: usize = 16 * 1024;

/// This process has as many sockets as the broker.
fn raise_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    let enough = limit.maximum.is_none_or(|maximum| maximum > 15_500);
    assert!(enough, "the broker keeps a third of its descriptors for files: `ulimit -Hn` must be 15,500 at least");
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    setrlimit(Resource::Nofile, raised).expect("a soft limit may be raised to the hard one");
}

#[test]
fn ten_thousand_idle_connections_cost_little_memory_and_stay() {
    raise_descriptors();
    let broker = Broker::start_with(&["--set", &format!("max.connections={}", CONNECTIONS + 100)]);
    // What the first requests of all kinds make is there before the count begins.
    Kcat::new(broker.address()).run(&["-P", "-t", "weather"], "sunny").output();
    let resident_before = broker.resident_bytes();
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut connection = Connection::open(broker.address());
        // Version 0, as aiokafka says hello.
        let answer = connection.ask(0, &ApiVersionsRequest::default()).expect("the broker answers");
        assert_eq!(answer.error_code, 0);
        connections.push(connection);
    }
    let bytes = broker.resident_bytes().saturating_sub(resident_before) / CONNECTIONS;
    println!("{bytes} bytes for each idle connection");
    assert!(bytes <= BYTES_MAX, "{bytes} bytes for each idle connection");
    // Others are served, and so is each of them.
    assert_eq!(Kcat::new(broker.address()).read_all("weather", "%s\n"), b"sunny\n");
    for connection in &mut connections {
        assert!(connection.ask(0, &ApiVersionsRequest::default()).is_some(), "an idle connection was closed");
    }
    broker.assert_runs();
}
