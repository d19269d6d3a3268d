//! What shards tell whoever asks from outside.

use millrace_engine::model::{PartitionId, TopicId};
use millrace_protocol::error_code::ErrorCode;
use millrace_server::metrics::report::{BrokerReport, ShardReport};
use millrace_server::shard::Stage;
use millrace_server::shard::mailbox::question::{Gone, Question};

use super::client::Client;
use super::start::{Running, client_env};
use super::{PARTITIONS, each_seed, groups};

async fn reports(broker: &Running) -> Vec<ShardReport> {
    let mut reports = Vec::new();
    for shard in broker.asker.shards() {
        reports.push(*broker.asker.ask(shard, Question::Report).await.unwrap());
    }
    reports
}

#[test]
fn shards_report_their_part_of_topics_requests_and_groups() {
    each_seed(async |world| {
        let broker = Running::start(world, PARTITIONS).await;
        let env = client_env(world);
        let mut client = Client::connect(&env, broker.address).await;
        let topic = client.make_topic("weather").await;
        for partition in 0..4 {
            for _ in 0..=partition {
                client.produce("weather", partition, b"rain").await;
            }
        }
        groups::settle(&mut client, &env, "readers").await;
        let codes = groups::commit(&mut client, &groups::nobody("readers"), "weather", &[0, 1, 2, 3], 1).await;
        assert_eq!(codes, [ErrorCode::None; 4]);

        let mut report = BrokerReport { shards: reports(&broker).await, ..BrokerReport::default() };
        // One, two, three and four records; each shard owns every other partition.
        let appended = |shard: &ShardReport| {
            let topic = shard.topics.iter().find(|(name, _)| name == "weather").unwrap();
            topic.1.appended_records
        };
        let mut by_shard: Vec<_> = report.shards.iter().map(appended).collect();
        by_shard.sort_unstable();
        assert_eq!(by_shard, [1 + 3, 2 + 4]);
        let api = |name: &str| {
            let found = report.shards.iter().flat_map(|shard| &shard.apis).filter(|api| api.api == name);
            found.map(|api| (api.latency.count(), api.errors)).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
        };
        assert_eq!((api("Produce"), api("OffsetCommit"), api("Fetch")), ((10, 0), (1, 0), (0, 0)));
        assert_eq!(report.shards.iter().map(|shard| shard.connection_count).sum::<usize>(), 1);
        assert!(
            report.shards.iter().flat_map(|shard| &shard.budgets).all(|budget| budget.used_bytes <= budget.limit_bytes)
        );

        let id = TopicId::from_bytes(topic.0);
        let mut ends = [None; 4];
        for shard in broker.asker.shards() {
            let asked: Vec<_> = (0..4).map(|partition| PartitionId { topic: id, partition }).collect();
            let answer = broker.asker.ask(shard, |reply| Question::HighWatermarks(asked, reply)).await.unwrap();
            for (end, found) in ends.iter_mut().zip(answer) {
                *end = end.or(found);
            }
        }
        assert_eq!(ends, [Some(1), Some(2), Some(3), Some(4)], "the owner of each knows");
        report.take_lags(|id| ends[usize::try_from(id.partition).unwrap()]);
        assert_eq!(report.lags.iter().map(|lag| (lag.group.as_str(), lag.lag)).collect::<Vec<_>>(), [("readers", 6)]);
        broker.stop().await;
    });
}

#[test]
fn a_shard_says_how_far_it_is_until_it_is_gone() {
    each_seed(async |world| {
        let broker = Running::start(world, &[]).await;
        let asker = broker.asker.clone();
        for shard in asker.shards() {
            let status = asker.ask(shard, Question::Status).await.unwrap();
            assert_eq!((status.stage, status.is_open, status.failure), (Stage::Running, true, None));
            assert_eq!(status.is_accepting, shard.get() == 0);
        }
        broker.stop().await;
        for shard in asker.shards() {
            assert_eq!(asker.ask(shard, Question::Status).await, Err(Gone));
        }
    });
}
