//! Whatever changes in the logs and in what a client wants: what it knows from a session is what a full answer would have
//! told it, and every partition with records has its turn.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::*;
use super::{CONNECTION, key, moment, request, wanted};

const PARTITIONS: i32 = 6;

/// Answers with room for records that may pass a partition by: one for each other partition, and one more for each that
/// came anew meanwhile.
const PASSED_BY_MAX: usize = 12;

#[derive(Clone, Debug)]
enum Act {
    /// Records are appended.
    Append(i32),
    /// The start of a log moves.
    Expire(i32),
    /// A log fails, or is well again.
    Toggle(i32),
    /// The client wants a partition from now on, or says again where it is.
    Want(i32),
    /// The client does not want a partition any more.
    Forget(i32),
    /// The client's next request, in whose answer so many partitions have room for records.
    Fetch(usize),
    /// The session is evicted.
    Evict,
    /// The client starts over, naming its session.
    StartOver,
}

fn act() -> impl Strategy<Value = Act> {
    let partition = 0..PARTITIONS;
    prop_oneof![
        4 => partition.clone().prop_map(Act::Append),
        1 => partition.clone().prop_map(Act::Expire),
        1 => partition.clone().prop_map(Act::Toggle),
        2 => partition.clone().prop_map(Act::Want),
        1 => partition.prop_map(Act::Forget),
        8 => (0..3_usize).prop_map(Act::Fetch),
        1 => Just(Act::Evict),
        1 => Just(Act::StartOver),
    ]
}

#[derive(Clone, Copy, Default)]
struct Log {
    end: i64,
    start: i64,
    is_failed: bool,
}

impl Log {
    /// What a full answer would say, leaving records aside.
    fn outcome(&self) -> Outcome {
        if self.is_failed {
            return Outcome { has_records: false, has_error: true, marks: Marks::UNKNOWN };
        }
        let marks = Marks { high_watermark: self.end, last_stable: self.end, log_start: self.start };
        Outcome { has_records: false, has_error: false, marks }
    }
}

/// What a client knows of a partition that it wants.
#[derive(Clone, Copy, Default)]
struct Place {
    offset: i64,
    /// Whether the session knows of this position.
    is_said: bool,
    told: Option<(bool, Marks)>,
    /// Answers in a row that had room for records, and none for this partition's.
    passed_by: usize,
}

#[derive(Default)]
struct Client {
    session_id: i32,
    epoch: i32,
    places: BTreeMap<i32, Place>,
    forgotten: Vec<PartitionKey>,
}

impl Client {
    fn want(&mut self, partition: i32) {
        // Told to forget and to know again at once, the session would keep it and what it was told.
        if !self.forgotten.contains(&key("t", partition)) {
            self.places.entry(partition).or_default().is_said = false;
        }
    }

    fn forget(&mut self, partition: i32) {
        if self.places.remove(&partition).is_some() && self.epoch > 0 {
            self.forgotten.push(key("t", partition));
        }
    }

    fn start_over(&mut self) {
        self.epoch = 0;
        self.forgotten.clear();
        self.places.values_mut().for_each(|place| *place = Place { offset: place.offset, ..Place::default() });
    }

    /// One request and its answer.
    fn fetch(&mut self, sessions: &mut FetchSessions, logs: &[Log], room: usize) {
        let request = request(self.session_id, self.epoch);
        let unsaid = self.places.iter().filter(|(_, place)| !place.is_said);
        let asked: Vec<_> = unsaid.map(|(partition, place)| wanted("t", *partition, place.offset)).collect();
        let forgotten = std::mem::take(&mut self.forgotten);
        let opened = match sessions.open(moment(1), request, asked, &forgotten) {
            Ok(opened) => opened,
            Err(error) => {
                assert_eq!(error, ErrorCode::FetchSessionIdNotFound);
                return self.start_over();
            }
        };
        let mut partitions: Vec<_> = opened.wanted.iter().map(|wanted| wanted.key.partition).collect();
        partitions.sort_unstable();
        assert!(partitions.iter().eq(self.places.keys()), "the session has what the client wants");

        let mut room_left = room;
        let mut outcomes = Vec::new();
        for wanted in &opened.wanted {
            let place = self.places.get_mut(&wanted.key.partition).unwrap();
            assert_eq!(wanted.position.offset, place.offset, "from where the client wants it");
            let mut outcome = logs[usize::try_from(wanted.key.partition).unwrap()].outcome();
            if place.offset < outcome.marks.high_watermark {
                outcome.has_records = room_left > 0;
                place.passed_by = if room_left > 0 { 0 } else { place.passed_by + usize::from(room > 0) };
                room_left = room_left.saturating_sub(1);
            }
            outcomes.push(outcome);
        }
        let closed = sessions.close(moment(1), request, &opened, &outcomes).unwrap();
        for ((wanted, outcome), is_told) in opened.wanted.iter().zip(&outcomes).zip(&closed.is_told) {
            let place = self.places.get_mut(&wanted.key.partition).unwrap();
            place.is_said = true;
            if *is_told {
                place.told = Some((outcome.has_error, outcome.marks));
            }
            assert!(*is_told || !outcome.has_records, "records are never held back");
            if outcome.has_records {
                place.offset += 1;
                place.is_said = false;
            }
            assert_eq!(place.told, Some((outcome.has_error, outcome.marks)), "what a full answer would say");
            assert!(place.passed_by <= PASSED_BY_MAX, "a partition starves");
        }
        (self.session_id, self.epoch) = (closed.session_id, self.epoch + 1);
        if closed.session_id == 0 {
            self.start_over();
        }
    }
}

proptest! {
    #[test]
    fn a_client_knows_what_a_full_answer_would_say(acts in prop::collection::vec(act(), 1..200)) {
        let mut sessions = FetchSessions::new(1, 1 << 20);
        let mut logs = [Log::default(); 6];
        let mut client = Client::default();
        for act in acts {
            let log = |partition: i32| usize::try_from(partition).unwrap();
            match act {
                Act::Append(partition) => logs[log(partition)].end += 1,
                Act::Expire(partition) => {
                    let log = &mut logs[log(partition)];
                    log.start = log.end.min(log.start + 1);
                }
                Act::Toggle(partition) => logs[log(partition)].is_failed ^= true,
                Act::Want(partition) => client.want(partition),
                Act::Forget(partition) => client.forget(partition),
                Act::Fetch(room) => client.fetch(&mut sessions, &logs, room),
                Act::Evict => sessions.close_connection(CONNECTION),
                Act::StartOver => client.start_over(),
            }
            prop_assert!(sessions.session_count() <= 1);
        }
    }
}
