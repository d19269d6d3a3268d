//! Listeners and connections, over loopback.

use std::future::poll_fn;
use std::io::{self, IoSlice, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::pin::pin;
use std::sync::{Arc, mpsc};
use std::task::Poll;

use millrace_runtime::glommio::GlommioEnv;
use millrace_runtime::glommio::executor::{Shards, ShardsConfig};
use millrace_runtime::links::{ConnectedReceiver, ConnectedSender};
use millrace_runtime::{
    Connection, Env, LinkReceiver, LinkSender, Listener, Net, TaskClass, TaskHandle, Tasks, local::oneshot,
};

use crate::on_one_shard;

type GlommioAccepted = <<GlommioEnv as Env>::Net as Net>::Accepted;
type GlommioConnection = <<GlommioEnv as Env>::Net as Net>::Connection;

fn any_port() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// Two ends of a connection, both served by this shard.
async fn connected_pair(env: &GlommioEnv) -> (GlommioConnection, GlommioConnection) {
    let listener = env.net().listen(any_port()).unwrap();
    let near = env.net().connect(listener.local_address()).await.unwrap();
    let far = env.net().adopt(listener.accept().await.unwrap()).unwrap();
    assert_eq!(near.peer_address(), far.local_address());
    assert_eq!(near.local_address(), far.peer_address());
    (near, far)
}

async fn receive_exactly(connection: &GlommioConnection, byte_count: usize) -> Vec<u8> {
    let mut received = vec![0; byte_count];
    let mut filled = 0;
    while filled < byte_count {
        let count = connection.receive(&mut received[filled..]).await.unwrap();
        assert!(count > 0, "the connection ended early");
        filled += count;
    }
    received
}

#[test]
fn below_the_low_water_a_receiver_is_left_alone_until_the_peer_has_closed() {
    on_one_shard(|env| async move {
        let (near, far) = connected_pair(&env).await;
        let (beside_near, beside_far) = connected_pair(&env).await;
        let send = async |count: usize| {
            assert_eq!(near.send_vectored(&[IoSlice::new(&[7; 20][..count])]).await.unwrap(), count);
        };
        for (is_closed, expected) in [(false, 20), (true, 10)] {
            far.set_receive_low_water(20);
            let mut memory = [0; 64];
            let mut receiving = pin!(far.receive(&mut memory));
            assert!(poll_fn(|context| Poll::Ready(receiving.as_mut().poll(context))).await.is_pending());
            send(10).await;
            // Had the kernel said that there are bytes, it would have said so before these.
            for _ in 0..3 {
                beside_near.send_vectored(&[IoSlice::new(b"ping")]).await.unwrap();
                receive_exactly(&beside_far, 4).await;
            }
            assert!(poll_fn(|context| Poll::Ready(receiving.as_mut().poll(context))).await.is_pending());
            if is_closed {
                near.shutdown();
            } else {
                send(10).await;
            }
            assert_eq!(receiving.await.unwrap(), expected);
        }
    });
}

#[test]
fn bytes_go_both_ways_and_the_end_is_seen() {
    on_one_shard(|env| async move {
        let (near, far) = connected_pair(&env).await;
        assert_eq!(
            near.send_vectored(&[IoSlice::new(b""), IoSlice::new(b"mill"), IoSlice::new(b"race")]).await.unwrap(),
            8
        );
        assert_eq!(receive_exactly(&far, 8).await, b"millrace");
        assert_eq!(far.send_vectored(&[IoSlice::new(b"ok")]).await.unwrap(), 2);
        assert_eq!(receive_exactly(&near, 2).await, b"ok");
        assert_eq!(far.send_vectored(&[IoSlice::new(b""), IoSlice::new(b"")]).await.unwrap(), 0);
        drop(far);
        assert_eq!(near.receive(&mut [0; 16]).await.unwrap(), 0);
    });
}

#[test]
fn a_listener_waits_for_connections_that_come_later() {
    on_one_shard(|env| async move {
        let listener = env.net().listen(any_port()).unwrap();
        let address = listener.local_address();
        let (go, wait_for_go) = mpsc::channel::<()>();
        let client = std::thread::Builder::new().spawn(move || {
            while wait_for_go.recv().is_ok() {
                TcpStream::connect(address).unwrap().write_all(b"hello").unwrap();
            }
        });
        let client = client.unwrap();
        for _ in 0..20 {
            let mut accept = pin!(listener.accept());
            poll_fn(|context| {
                assert!(accept.as_mut().poll(context).is_pending());
                Poll::Ready(())
            })
            .await;
            go.send(()).unwrap();
            let connection = env.net().adopt(accept.await.unwrap()).unwrap();
            assert_eq!(receive_exactly(&connection, 5).await, b"hello");
        }
        drop(go);
        client.join().unwrap();
    });
}

#[test]
fn an_accept_that_was_given_up_loses_no_connection() {
    // Guard: glommio's accept, cancelled while it completes, loses the connection and its descriptor.
    on_one_shard(|env| async move {
        let listener = env.net().listen(any_port()).unwrap();
        for _ in 0..20 {
            {
                let mut given_up = pin!(listener.accept());
                poll_fn(|context| {
                    assert!(given_up.as_mut().poll(context).is_pending());
                    Poll::Ready(())
                })
                .await;
            }
            let _near = env.net().connect(listener.local_address()).await.unwrap();
            listener.accept().await.unwrap();
        }
    });
}

#[test]
fn a_port_is_listened_on_once() {
    // Guard: glommio's listeners share a port with whoever else asks for it.
    on_one_shard(|env| async move {
        let listener = env.net().listen(any_port()).unwrap();
        let second = env.net().listen(listener.local_address());
        assert_eq!(second.err().map(|error| error.kind()), Some(io::ErrorKind::AddrInUse));
        let foreign = TcpListener::bind(any_port()).unwrap();
        let third = env.net().listen(foreign.local_addr().unwrap());
        assert_eq!(third.err().map(|error| error.kind()), Some(io::ErrorKind::AddrInUse));
        // Once it is closed the port is free again, whatever its connections do.
        let address = listener.local_address();
        let _near = env.net().connect(address).await.unwrap();
        drop(listener.accept().await.unwrap());
        drop(listener);
        env.net().listen(address).unwrap();
    });
}

#[test]
fn a_refused_connection_is_an_error() {
    on_one_shard(|env| async move {
        let address = env.net().listen(any_port()).unwrap().local_address();
        let refused = env.net().connect(address).await;
        assert_eq!(refused.err().map(|error| error.kind()), Some(io::ErrorKind::ConnectionRefused));
    });
}

#[test]
fn sixteen_mebibytes_in_many_pieces_reach_a_reader_that_starts_late() {
    // Guard: glommio has no vectored send; ours waits for room by way of glommio's plain one.
    const PIECE_BYTES: usize = 1021;
    let content: Arc<Vec<u8>> = Arc::new((0..16_u32 << 20).map(|index| (index % 251).to_le_bytes()[0]).collect());
    let (tell_address, address) = mpsc::channel();
    let (go, wait_for_go) = mpsc::channel();
    let shard_content = Arc::clone(&content);
    let shards =
        Shards::start_with(&ShardsConfig::default(), vec![(tell_address, go)], move |env, (tell_address, go)| {
            let content = Arc::clone(&shard_content);
            async move {
                let listener = env.net().listen(any_port()).unwrap();
                tell_address.send(listener.local_address()).unwrap();
                let connection = env.net().adopt(listener.accept().await.unwrap()).unwrap();
                let mut go = Some(go);
                let mut sent = 0;
                while sent < content.len() {
                    let pieces: Vec<_> = content[sent..].chunks(PIECE_BYTES).map(IoSlice::new).collect();
                    let mut send = pin!(connection.send_vectored(&pieces));
                    let count = poll_fn(|context| {
                        let outcome = send.as_mut().poll(context);
                        // The reader begins once the socket is full, so the wait for room is certain to be needed.
                        if outcome.is_pending()
                            && let Some(go) = go.take()
                        {
                            go.send(()).unwrap();
                        }
                        outcome
                    });
                    let count = count.await.unwrap();
                    assert!(count > 0);
                    sent += count;
                }
                assert!(go.is_none(), "the socket never filled up");
            }
        });
    let mut stream = TcpStream::connect(address.recv().unwrap()).unwrap();
    wait_for_go.recv().unwrap();
    let mut received = Vec::new();
    stream.read_to_end(&mut received).unwrap();
    assert!(received == *content);
    shards.unwrap().join();
}

#[test]
fn shutdown_wakes_a_task_that_receives_and_one_that_sends() {
    on_one_shard(|env| async move {
        let (near, far) = connected_pair(&env).await;
        let (receiving, is_receiving) = oneshot();
        let receiver = near.clone();
        let receive = env.tasks().spawn(TaskClass::Network, async move {
            receiving.send(());
            receiver.receive(&mut [0; 16]).await.unwrap()
        });
        let sender = near.clone();
        let send = env.tasks().spawn(TaskClass::Network, async move {
            let piece = vec![0; 65536];
            loop {
                if let Err(error) = sender.send_vectored(&[IoSlice::new(&piece)]).await {
                    return error.kind();
                }
            }
        });
        is_receiving.await.unwrap();
        for _ in 0..100 {
            env.tasks().yield_now().await;
        }
        near.shutdown();
        assert_eq!(receive.join().await, 0);
        assert_eq!(send.join().await, io::ErrorKind::BrokenPipe);
        // Also for whoever comes later, and the peer sees the end behind what was sent.
        assert_eq!(near.receive(&mut [0; 16]).await.unwrap(), 0);
        let mut buffer = vec![0; 1 << 20];
        while far.receive(&mut buffer).await.unwrap() > 0 {}
    });
}

/// What each shard of the next test does.
enum Part {
    Accept(<GlommioEnv as Env>::Sender<GlommioAccepted>),
    Serve(<GlommioEnv as Env>::Receiver<GlommioAccepted>),
}

#[test]
fn a_connection_is_served_by_another_shard_than_the_one_that_accepted_it() {
    let (sender, receiver) = GlommioEnv::link::<GlommioAccepted>(4);
    let config = ShardsConfig { shard_count: 2, ..ShardsConfig::default() };
    let parts = vec![Part::Accept(sender), Part::Serve(receiver)];
    let shards = Shards::start_with(&config, parts, |env, part| async move {
        match part {
            Part::Accept(sender) => {
                let sender = sender.connect().await;
                let listener = env.net().listen(any_port()).unwrap();
                for _ in 0..20 {
                    let near = env.net().connect(listener.local_address()).await.unwrap();
                    assert!(sender.send(listener.accept().await.unwrap()).await.is_ok());
                    near.send_vectored(&[IoSlice::new(b"ping")]).await.unwrap();
                    assert_eq!(receive_exactly(&near, 4).await, b"ping");
                }
            }
            Part::Serve(receiver) => {
                let receiver = receiver.connect().await;
                while let Some(accepted) = receiver.receive().await {
                    let connection = env.net().adopt(accepted).unwrap();
                    let request = receive_exactly(&connection, 4).await;
                    connection.send_vectored(&[IoSlice::new(&request)]).await.unwrap();
                }
            }
        }
    });
    shards.unwrap().join();
}
