//! Connections: bytes, ends, resets, partitions.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use super::super::{SimConnection, SimEnv, SimListener, World};
use super::world;
use crate::{Clock, Connection, Env, Listener, Net, Random, TaskClass, TaskHandle, Tasks};

fn address() -> SocketAddr {
    "127.0.0.1:9092".parse().unwrap()
}

fn listen(env: &SimEnv) -> SimListener {
    env.net().listen(address()).unwrap()
}

/// Both sides of a connection within one shard.
async fn pair(env: &SimEnv, listener: &SimListener) -> (SimConnection, SimConnection) {
    let client = env.net().connect(listener.local_address()).await.unwrap();
    let server = env.net().adopt(listener.accept().await.unwrap()).unwrap();
    (client, server)
}

async fn send_all(connection: &SimConnection, bytes: &[u8]) -> io::Result<()> {
    let mut rest = bytes;
    while !rest.is_empty() {
        let (head, tail) = rest.split_at(rest.len() / 3);
        let sent = connection.send_vectored(&[IoSlice::new(head), IoSlice::new(tail)]).await?;
        rest = &rest[sent..];
    }
    Ok(())
}

async fn receive_to_end(connection: &SimConnection) -> io::Result<Vec<u8>> {
    let (mut bytes, mut buffer) = (Vec::new(), vec![0; 8192]);
    loop {
        match connection.receive(&mut buffer).await? {
            0 => return Ok(bytes),
            count => bytes.extend_from_slice(&buffer[..count]),
        }
    }
}

/// Accepts on shard 0 and echoes on shard 1: what crosses is the accepted connection.
fn serve_echo(world: &World) {
    let (acceptor, server) = (world.env(0), world.env(1));
    let listener = listen(&acceptor);
    acceptor.tasks().spawn(TaskClass::Network, async move {
        loop {
            let accepted = listener.accept().await.unwrap();
            let env = server.clone();
            server.tasks().spawn(TaskClass::Network, async move {
                let connection = env.net().adopt(accepted).unwrap();
                let mut buffer = vec![0; 4096];
                loop {
                    let count = connection.receive(&mut buffer).await.unwrap();
                    if count == 0 {
                        return;
                    }
                    send_all(&connection, &buffer[..count]).await.unwrap();
                }
            });
        }
    });
}

#[test]
fn a_mebibyte_comes_back_through_random_segments() {
    for seed in 0..5 {
        let world = world(seed);
        serve_echo(&world);
        let env = world.env(2);
        let sent: Vec<u8> = (0..1 << 17).flat_map(|_| env.random().next_u64().to_le_bytes()).collect();
        world.run(async {
            let connection = env.net().connect(address()).await.unwrap();
            assert_eq!(connection.peer_address(), address());
            let (sender, bytes) = (connection.clone(), sent.clone());
            let sending = env.tasks().spawn(TaskClass::Network, async move { send_all(&sender, &bytes).await });
            let (mut received, mut buffer) = (Vec::new(), vec![0; 100_000]);
            let mut count_min = usize::MAX;
            while received.len() < sent.len() {
                let count = connection.receive(&mut buffer).await.unwrap();
                assert!(count > 0);
                count_min = count_min.min(count);
                received.extend_from_slice(&buffer[..count]);
            }
            sending.join().await.unwrap();
            assert!(received == sent);
            assert!(count_min < 1000, "some segments are short");
        });
    }
}

#[test]
fn the_network_repeats_and_a_dropped_world_is_freed() {
    let run = |seed| {
        let world = world(seed);
        serve_echo(&world);
        let env = world.env(2);
        world.run(async {
            let connection = env.net().connect(address()).await.unwrap();
            send_all(&connection, &[1; 10_000]).await.unwrap();
            connection.receive(&mut [0; 10]).await.unwrap();
        });
        drop(env);
        let (fingerprint, core) = (world.fingerprint(), Rc::downgrade(&world.core));
        drop(world);
        assert!(core.upgrade().is_none(), "tasks and events of the world hold it no longer");
        fingerprint
    };
    for seed in 0..20 {
        assert_eq!(run(seed), run(seed));
        assert_ne!(run(seed), run(seed + 1));
    }
}

#[test]
fn a_full_buffer_pushes_back() {
    let world = world(1);
    let env = world.env(0);
    let listener = listen(&env);
    world.run(async {
        let (client, server) = pair(&env, &listener).await;
        let sender = client.clone();
        let sending = env.tasks().spawn(TaskClass::Network, async move { send_all(&sender, &vec![7; 200_000]).await });
        env.clock().sleep(Duration::from_secs(1)).await;
        let mut buffer = vec![0; 200_000];
        let mut received_bytes = 0;
        while received_bytes < 200_000 {
            let count = server.receive(&mut buffer).await.unwrap();
            assert!(count <= 64 * 1024);
            received_bytes += count;
        }
        sending.join().await.unwrap();
        drop(client);
        assert_eq!(server.receive(&mut buffer).await.unwrap(), 0);
    });
    assert_eq!(world.net().connection_count(), 0);
}

#[test]
fn shutdown_ends_both_sides() {
    for seed in 0..20 {
        let world = world(seed);
        let env = world.env(0);
        let listener = listen(&env);
        world.run(async {
            let (client, server) = pair(&env, &listener).await;
            let waiting = client.clone();
            let receiving = env.tasks().spawn(TaskClass::Network, async move { waiting.receive(&mut [0; 10]).await });
            send_all(&client, b"last words").await.unwrap();
            env.clock().sleep(Duration::from_millis(1)).await;
            client.shutdown();
            assert_eq!(receiving.join().await.unwrap(), 0, "a waiting task sees the end");
            assert_eq!(send_all(&client, b"x").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
            assert_eq!(receive_to_end(&server).await.unwrap(), b"last words");
            // Nobody reads this: the peer's stack answers with a reset.
            send_all(&server, b"!").await.unwrap();
            env.clock().sleep(Duration::from_secs(1)).await;
            assert_eq!(send_all(&server, b"x").await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        });
    }
}

#[test]
fn closing_with_unread_bytes_resets() {
    let world = world(3);
    let env = world.env(0);
    let listener = listen(&env);
    world.run(async {
        let (client, server) = pair(&env, &listener).await;
        send_all(&client, b"request").await.unwrap();
        send_all(&server, b"reply").await.unwrap();
        env.clock().sleep(Duration::from_secs(1)).await;
        drop(server);
        let error = receive_to_end(&client).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    });
}

#[test]
fn a_reset_cuts_after_the_given_bytes() {
    for seed in 0..20 {
        let world = world(seed);
        let env = world.env(0);
        let listener = listen(&env);
        world.net().reset_after(address(), 1000);
        world.run(async {
            let (client, server) = pair(&env, &listener).await;
            env.tasks().spawn(TaskClass::Network, async move { send_all(&client, &[1; 5000]).await });
            let (mut received_bytes, mut buffer) = (0, vec![0; 700]);
            let error = loop {
                match server.receive(&mut buffer).await {
                    Ok(count) => received_bytes += count,
                    Err(error) => break error,
                }
            };
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
            assert_eq!(received_bytes, 1000);
        });
    }
}

#[test]
fn listening_and_connecting_fail_as_they_should() {
    let world = world(4);
    let env = world.env(0);
    world.run(async {
        let connect = async |address| env.net().connect(address).await.map(|_| ()).map_err(|error| error.kind());
        assert_eq!(connect(address()).await, Err(io::ErrorKind::ConnectionRefused));
        let listener = listen(&env);
        assert_eq!(env.net().listen(address()).err().map(|error| error.kind()), Some(io::ErrorKind::AddrInUse));
        let any = env.net().listen("127.0.0.1:0".parse().unwrap()).unwrap();
        assert_ne!(any.local_address().port(), 0);
        assert_eq!(connect(any.local_address()).await, Ok(()));
        assert_eq!(connect(address()).await, Ok(()));

        world.net().refuse(address());
        assert_eq!(connect(address()).await, Err(io::ErrorKind::ConnectionRefused));
        world.net().allow(address());
        drop(listener);
        assert_eq!(connect(address()).await, Err(io::ErrorKind::ConnectionRefused));
        drop(listen(&env));
    });
}

#[test]
fn a_failed_accept_leaves_the_listener_usable() {
    let world = world(5);
    let env = world.env(0);
    let listener = listen(&env);
    world.net().fail_accepts(1);
    world.run(async {
        let lost = env.net().connect(address()).await.unwrap();
        assert!(listener.accept().await.is_err());
        assert_eq!(receive_to_end(&lost).await.unwrap(), b"");
        pair(&env, &listener).await;
    });
}

#[test]
fn a_dropped_accepted_connection_closes() {
    let world = world(6);
    let env = world.env(0);
    let listener = listen(&env);
    world.run(async {
        let client = env.net().connect(address()).await.unwrap();
        drop(listener.accept().await.unwrap());
        assert_eq!(receive_to_end(&client).await.unwrap(), b"");
        drop(client);
    });
    assert_eq!(world.net().connection_count(), 0);
}

#[test]
fn a_partition_holds_bytes_back_and_times_connects_out() {
    let world = world(7);
    let (client_machine, server_machine) = (world.machine(0), world.machine(1));
    let (client_env, server_env) = (client_machine.env(0), server_machine.env(0));
    let listener = server_env.net().listen("0.0.0.0:9092".parse().unwrap()).unwrap();
    let target = SocketAddr::new(server_machine.ip_address(), 9092);
    world.run(async {
        let client = client_env.net().connect(target).await.unwrap();
        let server = server_env.net().adopt(listener.accept().await.unwrap()).unwrap();
        assert_eq!(server.peer_address().ip(), client_machine.ip_address());
        world.net().partition(0, 1);
        send_all(&client, b"held").await.unwrap();
        let start = client_env.clock().now();
        let error = client_env.net().connect(target).await.err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(client_env.clock().now() - start >= Duration::from_secs(10));

        let receiving = server_env.tasks().spawn(TaskClass::Network, {
            let (server, clock) = (server.clone(), server_env.clock().clone());
            async move {
                server.receive(&mut [0; 1]).await.unwrap();
                clock.now()
            }
        });
        client_env.clock().sleep(Duration::from_secs(5)).await;
        let healed = client_env.clock().now();
        world.net().heal();
        assert!(receiving.join().await >= healed);
        client_env.net().connect(target).await.unwrap();
    });
}

#[test]
fn peers_of_a_crashed_machine_see_a_reset() {
    for seed in 0..20 {
        let world = world(seed);
        let (client_env, server) = (world.machine(0).env(0), world.machine(1));
        let target = SocketAddr::new(server.ip_address(), 9092);
        let listener = server.env(0).net().listen(target).unwrap();
        world.run(async {
            let client = client_env.net().connect(target).await.unwrap();
            server.crash();
            assert_eq!(receive_to_end(&client).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
            let error = client_env.net().connect(target).await.err().unwrap();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
            drop(listener);
            server.env(0).net().listen(target).expect("the next life listens again");
        });
    }
}
