//! Whatever members of KIP-848 do, no partition is read twice, and a group comes to rest with everything read once.

use std::collections::{BTreeMap, BTreeSet};

use millrace_protocol::error_code::ErrorCode;
use proptest::prelude::*;

use super::super::Settings;
use super::super::request::{Answer, Beat, GroupRequest, IdPartition, Question};
use super::{Scene, settings};

/// What happens next.
#[derive(Clone, Copy, Debug)]
enum Act {
    /// The member is heard of; it joins if it is none.
    Beat(usize),
    /// The answer to its heartbeat is lost.
    Lose(usize),
    /// It has stopped reading what it is to give back.
    Revoke(usize),
    /// It goes.
    Leave(usize),
    /// It goes away without a word.
    Vanish(usize),
    /// It reads other topics.
    Subscribe(usize, u8),
    /// A topic is made, or gets more partitions.
    Grow(u8, i32),
    /// A topic goes.
    Remove(u8),
    /// Time passes.
    Wait(i64),
    /// The partition is read back.
    Reload,
}

/// A member as its client knows it.
#[derive(Clone, Debug, Default)]
struct Client {
    id: String,
    epoch: i32,
    instance: Option<String>,
    /// What it reads.
    owned: BTreeSet<IdPartition>,
    /// What it may read.
    assigned: BTreeSet<IdPartition>,
    /// Bits for topics `t0` to `t2`; the fourth is for an expression.
    topics: u8,
    is_told: bool,
}

const CLIENT_COUNT: usize = 4;

struct World {
    scene: Scene,
    clients: Vec<Client>,
    born: usize,
}

impl World {
    fn new() -> Self {
        let mut settings = settings();
        settings.consumer.member_count_max = 100;
        let mut scene = Scene::new(Settings { ..settings });
        scene.set_topic("t0", 3);
        let client = |index: usize| Client {
            id: format!("c{index}"),
            instance: (index == 0).then(|| "static".to_owned()),
            topics: 1,
            ..Client::default()
        };
        Self { scene, clients: (0..CLIENT_COUNT).map(client).collect(), born: CLIENT_COUNT }
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Beat(index) => drop(self.beat(index, false)),
            Act::Lose(index) => drop(self.beat(index, true)),
            Act::Revoke(index) => self.revoke(index),
            Act::Leave(index) => self.leave(index),
            Act::Vanish(index) => self.vanish(index),
            Act::Subscribe(index, topics) => {
                self.clients[index].topics = topics;
                self.clients[index].is_told = false;
            }
            Act::Grow(topic, count) => self.scene.set_topic(&format!("t{topic}"), count),
            Act::Remove(topic) => {
                let name = format!("t{topic}");
                if self.scene.image.find_topic_id(&name).is_some() {
                    self.scene.remove_topic(&name);
                }
            }
            Act::Wait(ms) => self.wait(ms),
            Act::Reload => self.scene.reload(),
        }
        self.scene.check_read_back();
    }

    /// A client that is gone comes back as somebody new; a static one under its name.
    fn vanish(&mut self, index: usize) {
        self.born += 1;
        let Client { instance, topics, .. } = self.clients[index].clone();
        self.clients[index] = Client { id: format!("c{}", self.born), instance, topics, ..Client::default() };
    }

    fn leave(&mut self, index: usize) {
        let client = self.clients[index].clone();
        let epoch = if client.instance.is_some() { -2 } else { -1 };
        let beat = Beat { member_id: client.id, epoch, instance_id: client.instance, ..Beat::default() };
        self.ask(Beat { makes_own_id: true, ..beat });
        self.vanish(index);
    }

    fn revoke(&mut self, index: usize) {
        let client = &mut self.clients[index];
        client.owned = client.owned.intersection(&client.assigned).copied().collect();
    }

    fn ask(&mut self, beat: Beat) -> Answer {
        let request = GroupRequest { group: "g".to_owned(), question: Question::Beat(Box::new(beat)) };
        let outcome = self.scene.ask("x", request);
        let [(_, answer)] = outcome.answers.as_slice() else { panic!("it is answered at once") };
        let answer = answer.clone();
        self.scene.take(outcome);
        answer
    }

    fn beat(&mut self, index: usize, is_lost: bool) -> Option<ErrorCode> {
        let client = self.clients[index].clone();
        let says_all = client.epoch == 0 || !client.is_told;
        let names = (0..3).filter(|bit| client.topics & 1 << bit != 0).map(|bit| format!("t{bit}")).collect();
        let regex = if client.topics & 8 == 0 { "" } else { "t[12]" };
        let answer = self.ask(Beat {
            member_id: client.id,
            epoch: client.epoch,
            instance_id: client.instance,
            rebalance_timeout_ms: says_all.then_some(20_000),
            names: says_all.then_some(names),
            regex: says_all.then(|| regex.to_owned()),
            owned: Some(client.owned),
            makes_own_id: true,
            ..Beat::default()
        });
        let client = &mut self.clients[index];
        match answer {
            // A client whose request was not answered says everything with the next one, and so is told everything.
            _ if is_lost => {
                client.is_told = false;
                None
            }
            Answer::Beaten(beaten) => {
                client.epoch = beaten.epoch;
                client.is_told = true;
                if let Some(assigned) = beaten.assigned {
                    client.owned.extend(assigned.iter().copied());
                    client.assigned = assigned;
                }
                None
            }
            Answer::Refused(ErrorCode::UnreleasedInstanceId) => Some(ErrorCode::UnreleasedInstanceId),
            Answer::Refused(error) => {
                // It abandons everything and joins again.
                client.epoch = 0;
                client.owned.clear();
                client.assigned.clear();
                if error == ErrorCode::FencedInstanceId {
                    self.vanish(index);
                }
                Some(error)
            }
            other => panic!("{other:?}"),
        }
    }

    /// Lets time pass. Members that fell silent stop reading, as clients do when they cannot reach the broker.
    fn wait(&mut self, ms: i64) {
        self.scene.advance(ms);
        while self.scene.coordinator.next_deadline_ms() <= self.scene.now.steady_ms {
            let outcome = self.scene.expire();
            self.scene.take(outcome);
        }
        let members = self.members();
        for client in self.clients.iter_mut().filter(|client| !members.contains_key(&client.id)) {
            client.owned.clear();
            client.assigned.clear();
        }
    }

    fn members(&mut self) -> BTreeMap<String, BTreeSet<IdPartition>> {
        let question = Question::DescribeConsumer;
        let outcome = self.scene.ask("x", GroupRequest { group: "g".to_owned(), question });
        match outcome.answers.as_slice() {
            [(_, Answer::ConsumerDescribed(described))] => {
                let member = |member: &super::super::request::DescribedConsumer| {
                    (member.member_id.clone(), member.assigned.iter().copied().collect())
                };
                described.members.iter().map(member).collect()
            }
            _ => BTreeMap::new(),
        }
    }

    /// No two clients that are members and keep their word read the same.
    fn check_apart(&mut self) -> Result<(), TestCaseError> {
        let members = self.members();
        let mut seen = BTreeSet::new();
        for client in self.clients.iter().filter(|client| members.contains_key(&client.id)) {
            for place in &client.owned {
                prop_assert!(seen.insert(*place), "{place:?} is read twice: {:?}", self.clients);
            }
        }
        Ok(())
    }
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let client = 0..CLIENT_COUNT;
    let act = prop_oneof![
        12 => client.clone().prop_map(Act::Beat),
        2 => client.clone().prop_map(Act::Lose),
        6 => client.clone().prop_map(Act::Revoke),
        1 => client.clone().prop_map(Act::Leave),
        1 => client.clone().prop_map(Act::Vanish),
        2 => (client, 1_u8..16).prop_map(|(index, topics)| Act::Subscribe(index, topics)),
        2 => (0_u8..3, 1_i32..6).prop_map(|(topic, count)| Act::Grow(topic, count)),
        1 => (0_u8..3).prop_map(Act::Remove),
        4 => (0_i64..20_000).prop_map(Act::Wait),
        1 => Just(Act::Reload),
    ];
    proptest::collection::vec(act, 0..80)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn every_group_comes_to_rest_with_everything_read_once(acts in acts()) {
        let mut world = World::new();
        for act in acts {
            world.act(act);
            world.check_apart()?;
        }
        for _ in 0..60 {
            for index in 0..CLIENT_COUNT {
                world.beat(index, false);
                world.revoke(index);
                world.check_apart()?;
            }
            world.wait(2_000);
        }
        let question = Question::DescribeConsumer;
        let described = world.scene.ask("x", GroupRequest { group: "g".to_owned(), question });
        let [(_, Answer::ConsumerDescribed(described))] = described.answers.as_slice() else { panic!("it is there") };
        prop_assert_eq!(described.state, "Stable");
        prop_assert_eq!(described.members.len(), CLIENT_COUNT);
        let mut wanted = BTreeSet::new();
        for topic in world.scene.image.topics() {
            let bit = topic.name[1..].parse::<u32>().unwrap();
            let reads = |topics: u8| topics & 1 << bit != 0 || bit > 0 && topics & 8 != 0;
            if world.clients.iter().any(|client| reads(client.topics)) {
                let topic_id = super::Uuid(*topic.id.as_bytes());
                wanted.extend((0..topic.partitions.len()).map(|index| {
                    IdPartition { topic_id, partition: i32::try_from(index).unwrap() }
                }));
            }
        }
        let read: Vec<_> = world.clients.iter().flat_map(|client| client.owned.iter().copied()).collect();
        prop_assert_eq!(read.len(), wanted.len(), "once each");
        prop_assert_eq!(read.into_iter().collect::<BTreeSet<_>>(), wanted);
        world.scene.check_read_back();
    }
}
