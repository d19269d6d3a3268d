//! DescribeLogDirs: the size of every log, on whichever shard it is.

use millrace_protocol::messages::describe_log_dirs::{
    DescribableLogDirTopic, DescribeLogDirsRequest, DescribeLogDirsResponse,
};
use millrace_runtime::sim::{SimEnv, WorldConfig};

use crate::client::{Client, batch};
use crate::each_shard_count;
use crate::start::{Running, client_env};

/// The sizes that a directory tells, by topic and partition.
type Sizes = Vec<(String, Vec<(i32, i64)>)>;

async fn sizes(client: &mut Client<SimEnv>, version: i16, topics: Option<&[(&'static str, &[i32])]>) -> Sizes {
    let describable = |(topic, partitions): &(&'static str, &[i32])| DescribableLogDirTopic {
        topic,
        partitions: partitions.to_vec(),
    };
    let topics = topics.map(|topics| topics.iter().map(describable).collect());
    let answer = client.call(version, &DescribeLogDirsRequest { topics }).await;
    let response: DescribeLogDirsResponse<'_> = answer.decode(version);
    assert_eq!((response.error_code, response.results.len()), (0, 1));
    let directory = &response.results[0];
    assert_eq!((directory.error_code, directory.log_dir, directory.is_cordoned), (0, "/data", false));
    if version >= 4 {
        assert_eq!(u64::try_from(directory.total_bytes), Ok(WorldConfig::default().disk.capacity_bytes));
        assert!((1..directory.total_bytes).contains(&directory.usable_bytes));
    } else {
        assert_eq!((directory.total_bytes, directory.usable_bytes), (-1, -1));
    }
    let mut sizes = Vec::new();
    for topic in &directory.topics {
        assert!(topic.partitions.iter().all(|partition| partition.offset_lag == 0 && !partition.is_future_key));
        let found = topic.partitions.iter().map(|partition| (partition.partition_index, partition.partition_size));
        sizes.push((topic.name.to_owned(), found.collect()));
    }
    sizes
}

#[test]
fn directories_tell_the_size_of_every_log() {
    each_shard_count(async |world, shards| {
        let settings = ["num.partitions=4", "log.segment.bytes=1048576", shards];
        let broker = Running::start(world, &settings).await;
        let env = client_env(world);
        let mut client = Client::connect(&env, broker.address).await;
        client.make_topic("weather").await;
        client.make_topic("other").await;
        let value = [b'x'; 600];
        let bytes = i64::try_from(batch(&[&value]).len()).unwrap();
        for partition in 0..3 {
            for _ in 0..=partition {
                client.produce("weather", partition, &value).await;
            }
        }
        // More than one segment.
        let large = vec![b'x'; 700_000];
        let large_bytes = i64::try_from(batch(&[&large]).len()).unwrap();
        for _ in 0..3 {
            client.produce("other", 1, &large).await;
        }
        let of = |topic: &str, sizes: &[(i32, i64)]| (topic.to_owned(), sizes.to_vec());
        let weather = of("weather", &[(0, bytes), (1, 2 * bytes), (2, 3 * bytes), (3, 0)]);
        let all = vec![of("other", &[(0, 0), (1, 3 * large_bytes), (2, 0), (3, 0)]), weather];
        for version in 1..=5 {
            assert_eq!(sizes(&mut client, version, None).await, all);
            assert_eq!(sizes(&mut client, version, Some(&[])).await, vec![]);
            // What is not there is left out; what is named twice is told once.
            let asked: [(&str, &[i32]); 4] =
                [("weather", &[2, 9, -1, 2]), ("nowhere", &[0]), ("other", &[]), ("weather", &[0])];
            let expected = vec![of("weather", &[(0, bytes), (2, 3 * bytes)])];
            assert_eq!(sizes(&mut client, version, Some(&asked)).await, expected);
        }
        client.close();
        broker.stop().await;

        let broker = Running::start(world, &settings).await;
        let mut client = Client::connect(&env, broker.address).await;
        assert_eq!(sizes(&mut client, 5, None).await, all, "no log was used since the start");
        client.close();
        broker.stop().await;
    });
}
