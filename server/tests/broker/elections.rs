//! ElectLeaders: one broker needs no election, and whoever asks for one is told so.

use millrace_protocol::error_code::ErrorCode;
use millrace_protocol::messages::elect_leaders::{ElectLeadersRequest, ElectLeadersResponse, TopicPartitions};
use millrace_runtime::sim::SimEnv;

use crate::client::Client;
use crate::start::{Running, client_env};
use crate::{PARTITIONS, each_seed};

const PREFERRED: i8 = 0;
const UNCLEAN: i8 = 1;

type Elected = (i16, Vec<(String, Vec<(i32, i16)>)>);

/// Asks for an election; gives the error of the whole and those of the partitions, by topic.
async fn elect(
    client: &mut Client<SimEnv>,
    version: i16,
    election_type: i8,
    topics: Option<&[(&'static str, &[i32])]>,
) -> Elected {
    let partitions =
        |(topic, partitions): &(&'static str, &[i32])| TopicPartitions { topic, partitions: partitions.to_vec() };
    let topic_partitions = topics.map(|topics| topics.iter().map(partitions).collect());
    let answer =
        client.call(version, &ElectLeadersRequest { election_type, topic_partitions, timeout_ms: 30_000 }).await;
    let response: ElectLeadersResponse<'_> = answer.decode(version);
    let mut elected = Vec::new();
    for topic in &response.replica_election_results {
        assert!(topic.partition_result.iter().all(|result| result.error_message.is_some()));
        let results = topic.partition_result.iter().map(|result| (result.partition_id, result.error_code));
        elected.push((topic.topic.to_owned(), results.collect()));
    }
    (response.error_code, elected)
}

/// What Kafka 4.3.1 answers to the same.
#[test]
fn no_election_is_needed() {
    each_seed(async |world| {
        let broker = Running::start(world, PARTITIONS).await;
        let mut client = Client::connect(&client_env(world), broker.address).await;
        client.make_topic("weather").await;
        client.make_topic("other").await;
        let needless = ErrorCode::ElectionNotNeeded.code();
        let unknown = ErrorCode::UnknownTopicOrPartition.code();
        let invalid = ErrorCode::InvalidRequest.code();
        let of = |topic: &str, results: &[(i32, i16)]| (topic.to_owned(), results.to_vec());
        for version in 0..=2 {
            for election_type in [PREFERRED, UNCLEAN] {
                // Version 0 has no types.
                if version == 0 && election_type == UNCLEAN {
                    continue;
                }
                let all = elect(&mut client, version, election_type, None).await;
                assert_eq!(all, (0, vec![of("other", &[]), of("weather", &[])]), "those that needed one: none");
                assert_eq!(elect(&mut client, version, election_type, Some(&[])).await, (0, vec![]));
                let asked: [(&str, &[i32]); 4] =
                    [("weather", &[0, 3, 0]), ("nowhere", &[0, 1]), ("weather", &[4, -1]), ("no spaces", &[])];
                let expected = vec![
                    of("weather", &[(0, needless), (3, needless), (0, needless)]),
                    of("nowhere", &[(0, unknown), (1, unknown)]),
                    of("weather", &[(4, unknown), (-1, unknown)]),
                    of("no spaces", &[]),
                ];
                assert_eq!(elect(&mut client, version, election_type, Some(&asked)).await, (0, expected));
            }
            for unheard in [2, 5, -1] {
                if version > 0 {
                    let refused = elect(&mut client, version, unheard, Some(&[("weather", &[0])])).await;
                    assert_eq!(refused, (invalid, vec![of("weather", &[(0, invalid)])]));
                    assert_eq!(elect(&mut client, version, unheard, None).await, (invalid, vec![]));
                }
            }
        }
        client.close();
        broker.stop().await;
    });
}
