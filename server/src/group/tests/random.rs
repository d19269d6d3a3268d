//! Whatever members do, a group comes to rest with every member in one generation.

use std::collections::{BTreeMap, BTreeSet};

use millrace_protocol::error_code::ErrorCode;
use proptest::prelude::*;

use super::super::request::{
    Answer, Commit, CommitOffset, GroupRequest, Join, JoinProtocol, Leaver, Membership, Question, Sync, TopicPartition,
};
use super::super::{Outcome, Settings};
use super::{Scene, settings};

/// What a client does next, whatever state it is in.
#[derive(Clone, Copy, Debug)]
enum Act {
    /// What a well-behaved client would do now.
    Go(usize),
    /// Leave.
    Leave(usize),
    /// Go away without a word and come back as somebody new.
    Vanish(usize),
    /// The connection that it waits on is closed.
    Cancel(usize),
    /// Commit.
    Commit(usize),
    /// Time passes.
    Wait(i64),
    /// The partition is read back.
    Reload,
}

/// A client as it knows itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Client {
    member_id: String,
    generation: i32,
    leads: Vec<String>,
    /// The number of the question it waits for.
    waits: Option<u64>,
    has_joined: bool,
    has_synced: bool,
    is_static: bool,
}

const CLIENT_COUNT: usize = 5;

struct World {
    scene: Scene,
    clients: Vec<Client>,
    question_count: u64,
    /// Which client put a question.
    askers: BTreeMap<u64, usize>,
}

impl World {
    fn new(settings: Settings) -> Self {
        let client = |index: usize| Client { is_static: index == 0, ..Client::default() };
        let clients = (0..CLIENT_COUNT).map(client).collect();
        Self { scene: Scene::new(settings), clients, question_count: 0, askers: BTreeMap::new() }
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Go(index) if self.clients[index].waits.is_none() => self.go(index),
            Act::Go(_) => {}
            Act::Leave(index) => {
                let leaver = Leaver { member_id: self.clients[index].member_id.clone(), instance_id: None };
                self.ask(index, Question::Leave(vec![leaver]));
            }
            Act::Vanish(index) => {
                let is_static = self.clients[index].is_static;
                self.askers.retain(|_, asker| *asker != index);
                self.clients[index] = Client { is_static, ..Client::default() };
            }
            Act::Cancel(index) => {
                if let Some(number) = self.clients[index].waits.take() {
                    self.askers.remove(&number);
                    let token = super::Token { source: 0, number };
                    let outcome = self.scene.cancel(token);
                    self.take(outcome);
                }
            }
            Act::Commit(index) => {
                let place = TopicPartition { topic: "t".to_owned(), partition: 0 };
                let offset = CommitOffset { place, offset: 1, ..CommitOffset::default() };
                let commit = Commit { member: self.membership(index), offsets: vec![offset], ..Commit::default() };
                self.ask(index, Question::Commit(commit));
            }
            Act::Wait(ms) => self.wait(ms),
            Act::Reload => {
                self.scene.reload();
                self.askers.clear();
                for client in &mut self.clients {
                    client.waits = None;
                }
            }
        }
        self.scene.check_read_back();
    }

    fn membership(&self, index: usize) -> Membership {
        let client = &self.clients[index];
        Membership {
            member_id: client.member_id.clone(),
            instance_id: client.is_static.then(|| "static".to_owned()),
            generation: if client.has_joined { client.generation } else { -1 },
        }
    }

    /// Joins, asks for its part, or says that it is still there.
    fn go(&mut self, index: usize) {
        let (member, client) = (self.membership(index), self.clients[index].clone());
        let question = if !client.has_joined {
            Question::Join(Join {
                member_id: member.member_id,
                instance_id: member.instance_id,
                client_id: format!("c{index}"),
                session_timeout_ms: 10_000,
                rebalance_timeout_ms: 30_000,
                protocol_type: "consumer".to_owned(),
                protocols: vec![JoinProtocol { name: "range".to_owned(), metadata: vec![] }],
                requires_known_member: index.is_multiple_of(2),
                can_skip_assignment: true,
                fresh_id: self.scene.fresh_id(),
                ..Join::default()
            })
        } else if client.has_synced {
            Question::Heartbeat(member)
        } else {
            let assign = |id: &String| (id.clone(), id.clone().into_bytes());
            Question::Sync(Sync { member, assignments: client.leads.iter().map(assign).collect(), ..Sync::default() })
        };
        self.ask(index, question);
    }

    fn ask(&mut self, index: usize, question: Question) {
        let is_parking = matches!(question, Question::Join(_) | Question::Sync(_));
        let number = self.question_count;
        self.question_count += 1;
        self.askers.insert(number, index);
        if is_parking {
            self.clients[index].waits = Some(number);
        }
        let outcome = self.scene.ask("x", GroupRequest { group: "g".to_owned(), question });
        self.take(outcome);
    }

    /// Lets time pass; every client that waits for nothing says that it is there.
    fn wait(&mut self, ms: i64) {
        self.scene.advance(ms);
        while self.scene.coordinator.next_deadline_ms() <= self.scene.now.steady_ms {
            let outcome = self.scene.expire();
            self.take(outcome);
        }
    }

    fn take(&mut self, outcome: Outcome) {
        let answers = outcome.answers.clone();
        self.scene.take(outcome);
        for (token, answer) in answers {
            let Some(index) = self.askers.remove(&token.number) else { continue };
            let client = &mut self.clients[index];
            if client.waits == Some(token.number) {
                client.waits = None;
            }
            match answer {
                Answer::MemberIdRequired { member_id } => client.member_id = member_id,
                Answer::Joined(joined) => {
                    assert!(joined.generation >= 1);
                    let mut ids: Vec<_> = joined.members.iter().map(|member| member.member_id.clone()).collect();
                    ids.dedup();
                    assert_eq!(ids.len(), joined.members.len(), "each member once");
                    client.leads = ids;
                    client.member_id = joined.member_id;
                    client.generation = joined.generation;
                    client.has_joined = true;
                    client.has_synced = false;
                }
                Answer::Synced(_) => client.has_synced = true,
                Answer::Refused(ErrorCode::UnknownMemberId | ErrorCode::FencedInstanceId) => {
                    *client = Client { is_static: client.is_static, ..Client::default() };
                }
                Answer::Refused(ErrorCode::RebalanceInProgress | ErrorCode::IllegalGeneration) => {
                    client.has_joined = false;
                }
                Answer::Left(_) => *client = Client { is_static: client.is_static, ..Client::default() },
                _ => {}
            }
        }
    }

    /// Everybody behaves until nothing changes any more.
    fn come_to_rest(&mut self) {
        for _ in 0..200 {
            for index in 0..CLIENT_COUNT {
                if self.clients[index].waits.is_none() {
                    self.go(index);
                }
            }
            self.wait(1_000);
        }
    }
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let client = 0..CLIENT_COUNT;
    let act = prop_oneof![
        12 => client.clone().prop_map(Act::Go),
        2 => client.clone().prop_map(Act::Leave),
        1 => client.clone().prop_map(Act::Vanish),
        1 => client.clone().prop_map(Act::Cancel),
        2 => client.prop_map(Act::Commit),
        6 => (0_i64..8_000).prop_map(Act::Wait),
        1 => Just(Act::Reload),
    ];
    proptest::collection::vec(act, 0..80)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn every_group_comes_to_rest_in_one_generation(acts in acts()) {
        let mut world = World::new(Settings { member_count_max: 100, ..settings() });
        for act in acts {
            world.act(act);
        }
        world.come_to_rest();
        let generations: BTreeSet<_> = world.clients.iter().map(|client| client.generation).collect();
        prop_assert_eq!(generations.len(), 1, "{:?}", world.clients);
        prop_assert!(world.clients.iter().all(|client| client.has_synced && client.waits.is_none()));
        let ids: BTreeSet<_> = world.clients.iter().map(|client| &client.member_id).collect();
        prop_assert_eq!(ids.len(), CLIENT_COUNT, "everybody is somebody else");
        let described = world.scene.ask("x", GroupRequest { group: "g".to_owned(), question: Question::Describe });
        let [(_, Answer::Described(described))] = described.answers.as_slice() else { panic!("it is described") };
        prop_assert_eq!(described.state, "Stable");
        prop_assert_eq!(described.members.len(), CLIENT_COUNT);
        // A part is the id that its member had when it was assigned; a static member keeps it under a new one.
        let parts: BTreeSet<_> = described.members.iter().map(|member| &member.assignment).collect();
        prop_assert_eq!(parts.len(), CLIENT_COUNT, "everybody has their own part");
        prop_assert!(parts.iter().all(|part| !part.is_empty()), "{:?}", parts);
    }
}
