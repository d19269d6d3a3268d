//! Incremental fetch sessions on a whole broker.

use std::time::Duration;

use millrace_protocol::error_code::ErrorCode;
use millrace_protocol::messages::delete_topics::{DeleteTopicState, DeleteTopicsRequest};
use millrace_protocol::messages::fetch::{FetchRequest, FetchResponse, FetchTopic, ForgottenTopic};
use millrace_protocol::wire::Uuid;
use millrace_runtime::{Clock, Env, TaskClass, TaskHandle, Tasks};

use crate::client::{Client, fetch_request, values};
use crate::start::{Running, client_env};
use crate::{PARTITIONS, each_seed};

/// What an answer says: error, session, and by partition its error, high watermark and number of records.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    error: i16,
    session_id: i32,
    partitions: Vec<(i32, i16, i64, usize)>,
}

async fn fetch(client: &mut Client<impl Env>, version: i16, request: &FetchRequest<'_>) -> Told {
    let answer = client.call(version, request).await;
    let response: FetchResponse<'_> = answer.decode(version);
    let partitions = response.responses.iter().flat_map(|topic| &topic.partitions).map(|partition| {
        let record_count = values(partition.records.unwrap_or_default()).len();
        (partition.partition_index, partition.error_code, partition.high_watermark, record_count)
    });
    Told { error: response.error_code, session_id: response.session_id, partitions: partitions.collect() }
}

/// A request in a session that asks for these positions anew.
fn incremental<'a>(
    session_id: i32,
    session_epoch: i32,
    positions: &[(i32, i64)],
    max_wait_ms: i32,
) -> FetchRequest<'a> {
    let mut request = fetch_request("weather", positions, max_wait_ms, 1);
    if positions.is_empty() {
        request.topics.clear();
    }
    FetchRequest { session_id, session_epoch, ..request }
}

/// Makes a session of four partitions and gives its number.
async fn make_session(client: &mut Client<impl Env>, version: i16) -> i32 {
    let told = fetch(client, version, &incremental(0, 0, &[(0, 0), (1, 0), (2, 0), (3, 0)], 0)).await;
    assert_eq!((told.error, told.partitions.len()), (0, 4), "the first answer has everything");
    told.session_id
}

#[test]
fn a_session_tells_only_news_of_both_shards() {
    each_seed(async |world| {
        let broker = Running::start(world, PARTITIONS).await;
        let env = client_env(world);
        let mut producer = Client::connect(&env, broker.address).await;
        producer.make_topic("weather").await;
        let mut client = Client::connect(&env, broker.address).await;
        let id = make_session(&mut client, 12).await;
        assert!(id > 0);
        let told = fetch(&mut client, 12, &incremental(id, 1, &[], 0)).await;
        assert_eq!(told, Told { error: 0, session_id: id, partitions: vec![] }, "nothing has happened");

        producer.produce("weather", 2, b"two").await;
        let told = fetch(&mut client, 12, &incremental(id, 2, &[], 60_000)).await;
        assert_eq!(told.partitions, [(2, 0, 1, 1)]);
        let mut moved = (2, 1);
        for (epoch, partition) in (3..).zip([3, 1, 2]) {
            // Waits in the session until any of its partitions has records, on either shard.
            let request = incremental(id, epoch, &[moved], 600_000);
            let waiting = env.tasks().spawn(TaskClass::Network, async move {
                let told = fetch(&mut client, 12, &request).await;
                (client, told)
            });
            env.clock().sleep(Duration::from_micros(world.seed() * 137 % 20 * 100)).await;
            let before = env.clock().now();
            let offset = producer.produce("weather", partition, b"now").await;
            let told;
            (client, told) = waiting.join().await;
            assert_eq!(told.partitions, [(partition, 0, offset + 1, 1)]);
            moved = (partition, offset + 1);
            assert!(env.clock().now() - before < Duration::from_secs(10), "woken, not timed out");
        }
        client.close();
        broker.stop().await;
    });
}

#[test]
fn an_incremental_fetch_waits_for_bytes_of_all_its_partitions() {
    each_seed(async |world| {
        let broker = Running::start(world, PARTITIONS).await;
        let env = client_env(world);
        let mut producer = Client::connect(&env, broker.address).await;
        producer.make_topic("weather").await;
        let mut client = Client::connect(&env, broker.address).await;
        let id = make_session(&mut client, 12).await;
        let before = env.clock().now();
        let told = fetch(&mut client, 12, &incremental(id, 1, &[], 500)).await;
        let waited = env.clock().now() - before;
        assert_eq!((told.session_id, told.partitions.len()), (id, 0), "an empty answer when the time is over");
        assert!(waited >= Duration::from_millis(500) && waited < Duration::from_millis(700), "{waited:?}");

        let waiting = env.tasks().spawn(TaskClass::Network, async move {
            let request = FetchRequest { min_bytes: 2500, ..incremental(id, 2, &[], 600_000) };
            let told = fetch(&mut client, 12, &request).await;
            (client, told)
        });
        for partition in [0, 1, 0] {
            env.clock().sleep(Duration::from_millis(50)).await;
            producer.produce("weather", partition, &[b'x'; 1000]).await;
        }
        let (mut client, told) = waiting.join().await;
        assert_eq!(told.partitions, [(0, 0, 2, 2), (1, 0, 1, 1)]);

        // An error is told at once, however long the client would wait and however much it wants.
        let delete = DeleteTopicState { name: Some("weather"), ..DeleteTopicState::default() };
        let waiting = env.tasks().spawn(TaskClass::Network, async move {
            let request = FetchRequest { min_bytes: 1 << 20, ..incremental(id, 3, &[(0, 2), (1, 1)], 250_000) };
            let told = fetch(&mut client, 12, &request).await;
            (client, told)
        });
        env.clock().sleep(Duration::from_millis(50)).await;
        producer.call(6, &DeleteTopicsRequest { topics: vec![delete], ..DeleteTopicsRequest::default() }).await;
        let before = env.clock().now();
        let (mut client, told) = waiting.join().await;
        assert!(env.clock().now() - before < Duration::from_secs(10), "woken, not timed out");
        let is_unknown = |told: &Told| told.partitions.iter().all(|(_, error, ..)| *error == 3);
        assert!(told.partitions.len() == 4 && is_unknown(&told), "{told:?}");
        let told = fetch(&mut client, 12, &incremental(id, 4, &[], 250_000)).await;
        assert!(told.partitions.len() == 4 && is_unknown(&told), "every time: {told:?}");
        client.close();
        broker.stop().await;
    });
}

#[test]
fn a_request_that_does_not_fit_its_session_is_refused_whole() {
    each_seed(async |world| {
        let broker = Running::start(world, PARTITIONS).await;
        let env = client_env(world);
        let mut client = Client::connect(&env, broker.address).await;
        let topic_id = client.make_topic("weather").await;
        let id = make_session(&mut client, 7).await;
        let refused = |code: ErrorCode| Told { error: code.code(), session_id: 0, partitions: vec![] };
        let before = env.clock().now();
        let told = fetch(&mut client, 12, &incremental(id, 5, &[], 60_000)).await;
        assert_eq!(told, refused(ErrorCode::InvalidFetchSessionEpoch));
        let told = fetch(&mut client, 12, &incremental(id + 1000, 1, &[], 60_000)).await;
        assert_eq!(told, refused(ErrorCode::FetchSessionIdNotFound));
        let told = fetch(&mut client, 13, &incremental(id, 1, &[], 60_000)).await;
        assert_eq!(told, refused(ErrorCode::FetchSessionTopicIdError));
        let mut other = Client::connect(&env, broker.address).await;
        let told = fetch(&mut other, 12, &incremental(id, 1, &[], 60_000)).await;
        assert_eq!(told, refused(ErrorCode::FetchSessionIdNotFound), "it belongs to another connection");
        assert!(env.clock().now() - before < Duration::from_secs(10), "nothing is waited for");
        // None of this has touched the session.
        let told = fetch(&mut client, 12, &incremental(id, 1, &[], 0)).await;
        assert_eq!(told, Told { error: 0, session_id: id, partitions: vec![] });

        // What is not there does not keep the client from waiting for what is.
        let unknown = fetch(&mut client, 12, &incremental(id, 2, &[(9, 0)], 500)).await;
        assert_eq!(unknown.partitions, [(9, ErrorCode::UnknownTopicOrPartition.code(), -1, 0)]);
        let before = env.clock().now();
        let told = fetch(&mut client, 12, &incremental(id, 3, &[], 500)).await;
        assert_eq!(told, unknown);
        assert!(env.clock().now() - before >= Duration::from_millis(500));

        // By id, in a session of its own.
        let by_id = |session_id, session_epoch, topic_id: Uuid, positions: &[(i32, i64)]| {
            let mut request = incremental(session_id, session_epoch, positions, 0);
            request.topics.iter_mut().for_each(|topic: &mut FetchTopic<'_>| topic.topic_id = topic_id);
            request
        };
        let told = fetch(&mut client, 18, &by_id(0, 0, topic_id, &[(0, 0), (1, 0)])).await;
        let id = told.session_id;
        assert_eq!((told.error, told.partitions.len()), (0, 2));
        let told = fetch(&mut client, 18, &by_id(id, 1, Uuid([9; 16]), &[(0, 0)])).await;
        assert_eq!(told.partitions, [(0, ErrorCode::UnknownTopicId.code(), -1, 0)]);
        let forgotten =
            ForgottenTopic { topic_id: Uuid([9; 16]), partitions: vec![0; 1000], ..ForgottenTopic::default() };
        let forget = FetchRequest { forgotten_topics_data: vec![forgotten; 100], ..by_id(id, 2, topic_id, &[]) };
        let told = fetch(&mut client, 18, &forget).await;
        assert_eq!(told, Told { error: 0, session_id: id, partitions: vec![] });
        client.close();
        broker.stop().await;
    });
}

#[test]
fn sessions_end_with_their_connection_or_when_told_to() {
    each_seed(async |world| {
        // One for each shard.
        let settings = ["num.partitions=4", "max.incremental.fetch.session.cache.slots=2"];
        let broker = Running::start(world, &settings).await;
        let env = client_env(world);
        let mut clients = Vec::new();
        for _ in 0..4 {
            clients.push(Client::connect(&env, broker.address).await);
        }
        clients[0].make_topic("weather").await;
        let mut ids = Vec::new();
        for client in &mut clients {
            ids.push(make_session(client, 12).await);
        }
        let has_session = |ids: &[i32]| ids.iter().filter(|id| **id > 0).count();
        assert_eq!(has_session(&ids), 2, "{ids:?}");

        // A session is closed, a connection is closed: two others may have theirs.
        let held: Vec<_> = (0..4).filter(|index| ids[*index] > 0).collect();
        let told = fetch(&mut clients[held[0]], 12, &incremental(ids[held[0]], -1, &[(0, 0)], 0)).await;
        assert_eq!((told.error, told.session_id, told.partitions.len()), (0, 0, 1));
        clients[held[1]].close();
        env.clock().sleep(Duration::from_secs(1)).await;
        let mut ids_after = Vec::new();
        for index in (0..4).filter(|index| !held.contains(index)) {
            ids_after.push(make_session(&mut clients[index], 12).await);
        }
        assert_eq!(has_session(&ids_after), 2, "{ids_after:?}");
        broker.stop().await;

        let broker = Running::start(world, &["max.incremental.fetch.session.cache.slots=0", PARTITIONS[0]]).await;
        let mut client = Client::connect(&env, broker.address).await;
        client.make_topic("weather").await;
        assert_eq!(make_session(&mut client, 12).await, 0);
        client.close();
        broker.stop().await;
    });
}

/// Answers have room for one partition's records; all of them have some, all the time.
#[test]
fn no_partition_of_a_session_starves() {
    each_seed(async |world| {
        let broker = Running::start(world, PARTITIONS).await;
        let mut client = Client::connect(&client_env(world), broker.address).await;
        client.make_topic("weather").await;
        for partition in 0..4 {
            for _ in 0..4 {
                client.produce("weather", partition, &[b'x'; 1000]).await;
            }
        }
        let full = FetchRequest { max_bytes: 1100, ..incremental(0, 0, &[(0, 0), (1, 0), (2, 0), (3, 0)], 0) };
        let told = fetch(&mut client, 12, &full).await;
        let id = told.session_id;
        let mut offsets = told.partitions.iter().map(|(_, _, _, count)| *count).collect::<Vec<_>>();
        assert_eq!(offsets.iter().sum::<usize>(), 1);
        let mut moved = offsets.iter().position(|count| *count > 0).unwrap();
        for epoch in 1..16 {
            let position = (i32::try_from(moved).unwrap(), i64::try_from(offsets[moved]).unwrap());
            let request = FetchRequest { max_bytes: 1100, ..incremental(id, epoch, &[position], 0) };
            let told = fetch(&mut client, 12, &request).await;
            assert_eq!(told.partitions.len(), 1, "{told:?}");
            moved = usize::try_from(told.partitions[0].0).unwrap();
            offsets[moved] += told.partitions[0].3;
            let (least, most) = (offsets.iter().min().unwrap(), offsets.iter().max().unwrap());
            assert!(most - least <= 2, "{offsets:?}");
        }
        assert_eq!(offsets, [4; 4]);
        client.close();
        broker.stop().await;
    });
}
