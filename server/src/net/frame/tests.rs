//! Tests of `net/frame` over the simulated network: whatever the pieces in which bytes arrive, the same requests come out.

use std::cell::RefCell;
use std::io::IoSlice;
use std::net::SocketAddr;
use std::time::Duration;

use millrace_runtime::sim::{SimConnection, SimEnv, World, WorldConfig};
use millrace_runtime::{Listener, Net, Random, TaskClass, TaskHandle, Tasks};

use super::*;
use millrace_runtime::Moment;

const BYTES_MAX: usize = 1 << 20;

/// A connected pair: the broker's end and the client's.
async fn connect(env: &SimEnv) -> (SimConnection, SimConnection) {
    let listener = env.net().listen(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let (client, accepted) =
        futures_util::future::join(env.net().connect(listener.local_address()), listener.accept()).await;
    (env.net().adopt(accepted.unwrap()).unwrap(), client.unwrap())
}

async fn send_all(connection: &SimConnection, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let sent_bytes = connection.send_vectored(&[IoSlice::new(bytes)]).await.unwrap();
        bytes = &bytes[sent_bytes..];
    }
}

fn progress() -> Progress {
    Progress::new(Moment::default())
}

/// Receives until the end, dropping each request at once; gives the requests' bytes and why there are no more.
async fn receive_all(env: &SimEnv, connection: &SimConnection, budget: &Budget) -> (Vec<Vec<u8>>, ReceiveEnd) {
    let mut reader = FrameReader::new(env, connection, budget, BYTES_MAX);
    let requests = RefCell::new(Vec::new());
    loop {
        let hand_out = |request: Request| requests.borrow_mut().push(request.frame.to_vec());
        if let Err(end) = reader.receive(&progress(), hand_out).await {
            return (requests.into_inner(), end);
        }
    }
}

fn framed(body: &[u8]) -> Vec<u8> {
    let mut frame = i32::try_from(body.len()).unwrap().to_be_bytes().to_vec();
    frame.extend_from_slice(body);
    frame
}

#[test]
fn requests_come_out_whole_however_they_arrive() {
    for seed in 0..40 {
        let world = World::new(seed, WorldConfig::default());
        world.run(async {
            let env = world.env(0);
            let (broker, client) = connect(&env).await;
            let (mut bodies, mut stream) = (Vec::new(), Vec::new());
            for _ in 0..60 {
                // Mostly small, some around the sizes of the buffers, some much larger.
                let bytes_max = [40, 3000, 70_000, 300_000][usize::try_from(env.random().below(4)).unwrap()];
                let bytes = 10 + usize::try_from(env.random().below(bytes_max)).unwrap();
                let body: Vec<u8> = (0..bytes).map(|index| index.to_le_bytes()[0]).collect();
                stream.extend(framed(&body));
                bodies.push(body);
            }
            let sending = env.tasks().spawn(TaskClass::Network, {
                let env = env.clone();
                async move {
                    let mut rest = &stream[..];
                    while !rest.is_empty() {
                        let bytes = 1 + usize::try_from(env.random().below(100_000)).unwrap();
                        let (piece, left) = rest.split_at(bytes.min(rest.len()));
                        send_all(&client, piece).await;
                        rest = left;
                    }
                    client.shutdown();
                }
            });
            let budget = Budget::new(BYTES_MAX);
            let (received, end) = receive_all(&env, &broker, &budget).await;
            assert!(received == bodies, "seed {seed}");
            assert!(matches!(end, ReceiveEnd::Closed | ReceiveEnd::Io(_)), "{end}");
            assert_eq!(budget.used_bytes(), 0);
            sending.join().await;
        });
    }
}

#[test]
fn a_request_comes_out_although_nothing_is_sent_behind_it() {
    for seed in 0..40 {
        let world = World::new(seed, WorldConfig::default());
        world.run(async {
            let env = world.env(0);
            let (broker, client) = connect(&env).await;
            let budget = Budget::new(BYTES_MAX);
            let mut reader = FrameReader::new(&env, &broker, &budget, BYTES_MAX);
            for _ in 0..20 {
                let body = vec![7; 10 + usize::try_from(env.random().below(300_000)).unwrap()];
                let (request, progress) = (framed(&body), progress());
                let mut received = Vec::new();
                let receiving = reader.receive(&progress, |request: Request| received.push(request.frame.to_vec()));
                let ((), outcome) = futures_util::future::join(send_all(&client, &request), receiving).await;
                outcome.unwrap();
                assert!(received == [body], "seed {seed}");
            }
        });
    }
}

#[test]
fn a_request_waits_until_there_is_memory_for_it() {
    let world = World::new(1, WorldConfig::default());
    world.run(async {
        let env = world.env(0);
        let (broker, client) = connect(&env).await;
        let budget = Budget::new(150_000);
        let held = budget.try_reserve(100_000).unwrap();
        let sent = framed(&vec![7; 120_000]);
        let sending = env.tasks().spawn(TaskClass::Network, async move {
            send_all(&client, &sent).await;
            client
        });
        let mut reader = FrameReader::new(&env, &broker, &budget, BYTES_MAX);
        let (received, progress) = (RefCell::new(Vec::new()), progress());
        let receiving = reader.receive(&progress, |request| received.borrow_mut().push(request));
        let pause = env.clock().sleep(Duration::from_secs(10));
        futures_util::future::select(std::pin::pin!(receiving), pause).await;
        assert!(received.borrow().is_empty());
        drop(held);
        // The place in line was given up with the first attempt; nothing that had arrived is lost.
        reader.receive(&progress, |request| received.borrow_mut().push(request)).await.unwrap();
        assert_eq!(received.borrow().len(), 1);
        assert_eq!(budget.used_bytes(), 120_000);
        received.borrow_mut().clear();
        assert_eq!(budget.used_bytes(), 0);
        sending.join().await;
    });
}

#[test]
fn lengths_that_no_request_has_end_the_stream() {
    type IsExpected = fn(&ReceiveEnd) -> bool;
    let cases: [(&[u8], IsExpected); 5] = [
        (b"\xff\xff\xff\xff", |end| matches!(end, ReceiveEnd::Length(FrameError::Negative { .. }))),
        (b"\0\0\0\x09", |end| matches!(end, ReceiveEnd::Length(FrameError::TooSmall { .. }))),
        (b"\x00\x10\x00\x01", |end| matches!(end, ReceiveEnd::Length(FrameError::TooLarge { .. }))),
        (b"\x00\x08\x00\x00", |end| matches!(end, ReceiveEnd::Budget(_))),
        (b"\0\0\0\x0afour", |end| matches!(end, ReceiveEnd::Truncated | ReceiveEnd::Io(_))),
    ];
    for (bytes, is_expected) in cases {
        let world = World::new(1, WorldConfig::default());
        world.run(async {
            let env = world.env(0);
            let (broker, client) = connect(&env).await;
            send_all(&client, bytes).await;
            env.clock().sleep(Duration::from_secs(1)).await;
            client.shutdown();
            let (received, end) = receive_all(&env, &broker, &Budget::new(100_000)).await;
            assert!(received.is_empty());
            assert!(is_expected(&end), "{bytes:?}: {end}");
        });
    }
}

#[test]
fn a_declared_length_alone_takes_little_memory() {
    let world = World::new(1, WorldConfig::default());
    world.run(async {
        let env = world.env(0);
        let (broker, client) = connect(&env).await;
        send_all(&client, b"\x00\x0f\xff\xff").await;
        let budget = Budget::new(BYTES_MAX);
        let mut reader = FrameReader::new(&env, &broker, &budget, BYTES_MAX);
        let progress = progress();
        {
            let receiving = reader.receive(&progress, |_| unreachable!("the body never comes"));
            let pause = env.clock().sleep(Duration::from_secs(1));
            futures_util::future::select(std::pin::pin!(receiving), pause).await;
        }
        assert!(progress.is_in_body.get());
        assert!(reader.buffer.capacity() <= GROWTH_BYTES_MIN, "{}", reader.buffer.capacity());
    });
}
