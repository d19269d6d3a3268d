//! Scenarios of fetch sessions, written as a client sees them.

mod random;

use super::*;

const CONNECTION: ConnectionNumber = ConnectionNumber(7);
const ROOMY: usize = 1 << 20;

fn moment(seconds: u64) -> Moment {
    Moment::default() + Duration::from_secs(seconds)
}

fn key(topic: &str, partition: i32) -> PartitionKey {
    PartitionKey { topic: TopicKey::Name(topic.into()), partition }
}

fn wanted(topic: &str, partition: i32, offset: i64) -> Wanted {
    Wanted { key: key(topic, partition), position: FetchPosition { offset, bytes_max: 100, leader_epoch: -1 } }
}

/// Partitions of topic `t`, from offset 0.
fn asks(partitions: impl IntoIterator<Item = i32>) -> Vec<Wanted> {
    partitions.into_iter().map(|partition| wanted("t", partition, 0)).collect()
}

fn request(session_id: i32, session_epoch: i32) -> SessionRequest {
    SessionRequest { connection: CONNECTION, session_id, session_epoch, naming: Naming::Name }
}

/// A log that has `high_watermark` records, none of which is in the answer.
fn quiet(high_watermark: i64) -> Outcome {
    let marks = Marks { high_watermark, last_stable: high_watermark, log_start: 0 };
    Outcome { has_records: false, has_error: false, marks }
}

fn records(high_watermark: i64) -> Outcome {
    Outcome { has_records: true, ..quiet(high_watermark) }
}

fn failed() -> Outcome {
    Outcome { has_records: false, has_error: true, marks: Marks::UNKNOWN }
}

/// Makes a session at `now` and gives its id; 0 when there is none.
fn make(sessions: &mut FetchSessions, now: Moment, request: SessionRequest, asked: Vec<Wanted>) -> i32 {
    let opened = sessions.open(now, request, asked, &[]).unwrap();
    let outcomes = vec![quiet(1); opened.wanted.len()];
    let closed = sessions.close(now, request, &opened, &outcomes).unwrap();
    assert!(closed.is_told.iter().all(|is_told| *is_told), "a full answer has every partition");
    closed.session_id
}

/// One incremental request: the partitions that were read, and those that the client is told of.
fn fetch(
    sessions: &mut FetchSessions,
    request: SessionRequest,
    asked: Vec<Wanted>,
    forgotten: &[PartitionKey],
    outcome: impl Fn(i32) -> Outcome,
) -> (Vec<i32>, Vec<i32>) {
    let now = moment(1);
    let opened = sessions.open(now, request, asked, forgotten).unwrap();
    let read: Vec<_> = opened.wanted.iter().map(|wanted| wanted.key.partition).collect();
    let outcomes: Vec<_> = read.iter().map(|partition| outcome(*partition)).collect();
    let closed = sessions.close(now, request, &opened, &outcomes).unwrap();
    let told = read.iter().zip(closed.is_told).filter_map(|(partition, is_told)| is_told.then_some(*partition));
    let told = told.collect();
    (read, told)
}

#[test]
fn a_session_is_told_only_of_what_has_changed() {
    let mut sessions = FetchSessions::new(10, ROOMY);
    let id = make(&mut sessions, moment(0), request(0, 0), asks(0..3));
    assert!(id > 0);
    let (read, told) = fetch(&mut sessions, request(id, 1), vec![], &[], |_| quiet(1));
    assert_eq!((read, told), (vec![0, 1, 2], vec![]), "everything is read, nothing has changed");
    let (_, told) = fetch(&mut sessions, request(id, 2), vec![], &[], |p| quiet(if p == 1 { 5 } else { 1 }));
    assert_eq!(told, [1], "its high watermark has moved");
    let started = Outcome { marks: Marks { log_start: 1, ..quiet(1).marks }, ..quiet(1) };
    let (_, told) = fetch(&mut sessions, request(id, 3), vec![], &[], |p| if p == 1 { quiet(5) } else { started });
    assert_eq!(told, [0, 2], "their log starts have moved");
    let (_, told) = fetch(&mut sessions, request(id, 4), vec![], &[], |p| if p == 1 { records(5) } else { started });
    assert_eq!(told, [1], "records are always told of");
}

#[test]
fn an_error_is_told_every_time_and_so_is_its_end() {
    let mut sessions = FetchSessions::new(10, ROOMY);
    let id = make(&mut sessions, moment(0), request(0, 0), asks(0..2));
    let first_fails = |partition| if partition == 0 { failed() } else { quiet(1) };
    for epoch in 1..4 {
        let (_, told) = fetch(&mut sessions, request(id, epoch), vec![], &[], first_fails);
        assert_eq!(told, [0]);
    }
    let (_, told) = fetch(&mut sessions, request(id, 4), vec![], &[], |_| quiet(1));
    assert_eq!(told, [0], "as it was before the error, which the client does not know");
    let (_, told) = fetch(&mut sessions, request(id, 5), vec![], &[], |_| quiet(1));
    assert_eq!(told, [0; 0]);
}

#[test]
fn partitions_with_records_are_read_last_from_then_on() {
    let mut sessions = FetchSessions::new(10, ROOMY);
    let id = make(&mut sessions, moment(0), request(0, 0), asks(0..4));
    // Room for the records of two partitions in each answer.
    let mut reads = Vec::new();
    for epoch in 1..5 {
        let opened = sessions.open(moment(1), request(id, epoch), vec![], &[]).unwrap();
        let outcomes = [records(1), records(1), quiet(1), quiet(1)];
        sessions.close(moment(1), request(id, epoch), &opened, &outcomes).unwrap();
        reads.push(opened.wanted.iter().map(|wanted| wanted.key.partition).collect::<Vec<_>>());
    }
    assert_eq!(reads, [[0, 1, 2, 3], [2, 3, 0, 1], [0, 1, 2, 3], [2, 3, 0, 1]]);
}

#[test]
fn partitions_are_added_changed_and_forgotten() {
    let mut sessions = FetchSessions::new(10, ROOMY);
    let id = make(&mut sessions, moment(0), request(0, 0), asks(0..2));
    let bytes = sessions.bytes();
    let asked = vec![wanted("t", 5, 0), wanted("t", 1, 42)];
    let opened = sessions.open(moment(1), request(id, 1), asked, &[key("t", 0), key("u", 1)]).unwrap();
    assert_eq!(opened.wanted, [wanted("t", 1, 42), wanted("t", 5, 0)], "in the session's order");
    let closed = sessions.close(moment(1), request(id, 1), &opened, &[quiet(1); 2]).unwrap();
    assert_eq!(closed, Closed { session_id: id, is_told: vec![false, true] }, "a new partition is news");
    assert_eq!(sessions.bytes(), bytes, "one came, one went");

    let (read, _) = fetch(&mut sessions, request(id, 2), asks([8]), &[key("t", 8)], |_| quiet(1));
    assert_eq!(read, [1, 5], "what is asked for and forgotten at once is forgotten");
    let opened = sessions.open(moment(1), request(id, 3), vec![], &[key("t", 1), key("t", 5)]).unwrap();
    assert_eq!(opened, Opened { kind: FetchKind::Sessionless, wanted: vec![] }, "nothing is left of it");
    assert_eq!((sessions.session_count(), sessions.bytes()), (0, 0));
}

#[test]
fn what_does_not_fit_the_session_is_refused_and_the_session_stays() {
    let mut sessions = FetchSessions::new(10, ROOMY);
    let id = make(&mut sessions, moment(0), request(0, 0), asks(0..2));
    let mut refuse = |request| sessions.open(moment(1), request, vec![], &[]).unwrap_err();
    assert_eq!(refuse(request(id, 2)), ErrorCode::InvalidFetchSessionEpoch);
    assert_eq!(refuse(request(id, -2)), ErrorCode::InvalidFetchSessionEpoch);
    assert_eq!(refuse(request(id + 1, 1)), ErrorCode::FetchSessionIdNotFound);
    assert_eq!(refuse(request(0, 1)), ErrorCode::FetchSessionIdNotFound);
    let elsewhere = SessionRequest { connection: ConnectionNumber(8), ..request(id, 1) };
    assert_eq!(refuse(elsewhere), ErrorCode::FetchSessionIdNotFound);
    let by_id = SessionRequest { naming: Naming::Id, ..request(id, 1) };
    assert_eq!(refuse(by_id), ErrorCode::FetchSessionTopicIdError);
    fetch(&mut sessions, request(id, 1), vec![], &[], |_| quiet(1));
}

#[test]
fn a_full_request_ends_the_session_that_it_names() {
    let mut sessions = FetchSessions::new(10, ROOMY);
    let first = make(&mut sessions, moment(0), request(0, 0), asks(0..2));
    let other = make(&mut sessions, moment(0), request(0, 0), asks(0..2));
    let second = make(&mut sessions, moment(0), request(first, 0), asks(0..1));
    assert_eq!(sessions.session_count(), 2, "one was replaced, the other one stays");
    assert!(first != second && second != other);
    let opened = sessions.open(moment(0), request(second, -1), asks(0..1), &[]).unwrap();
    assert_eq!(opened.kind, FetchKind::Sessionless);
    let closed = sessions.close(moment(0), request(second, -1), &opened, &[quiet(1)]).unwrap();
    assert_eq!((closed.session_id, sessions.session_count()), (0, 1));
    // A session of another connection is not this one's to end.
    let foreign = SessionRequest { connection: ConnectionNumber(8), ..request(other, -1) };
    sessions.open(moment(0), foreign, vec![], &[]).unwrap();
    assert_eq!(sessions.session_count(), 1);
    sessions.close_connection(CONNECTION);
    assert_eq!((sessions.session_count(), sessions.bytes()), (0, 0));
}

#[test]
fn a_partition_that_is_named_twice_is_read_once() {
    let mut sessions = FetchSessions::new(10, ROOMY);
    let asked = vec![wanted("t", 0, 1), wanted("t", 1, 2), wanted("t", 0, 3)];
    let opened = sessions.open(moment(0), request(0, -1), asked.clone(), &[]).unwrap();
    assert_eq!(opened.wanted, [wanted("t", 0, 3), wanted("t", 1, 2)], "the last position counts");
    let id = make(&mut sessions, moment(0), request(0, 0), asked);
    let many = vec![wanted("t", 1, 9); 100_000];
    let opened = sessions.open(moment(0), request(id, 1), many, &vec![key("t", 0); 100_000]).unwrap();
    assert_eq!(opened.wanted, [wanted("t", 1, 9)]);
}

#[test]
fn epochs_go_round_and_leave_out_those_with_a_meaning() {
    let outcome = [quiet(1)];
    let mut session = Session::new(moment(0), Naming::Name, &asks(0..1), &outcome);
    assert_eq!(session.epoch(), 1);
    for _ in 1..3 {
        session.advance();
    }
    assert_eq!(session.epoch(), 3);
    session.set_epoch(i32::MAX);
    session.advance();
    assert_eq!(session.epoch(), 1);
}

#[test]
fn a_full_table_makes_room_only_for_what_is_worth_more() {
    let mut sessions = FetchSessions::new(2, ROOMY);
    let small = make(&mut sessions, moment(0), request(0, 0), asks(0..2));
    let large = make(&mut sessions, moment(1), request(0, 0), asks(0..9));
    assert_eq!(make(&mut sessions, moment(60), request(0, 0), asks(0..5)), 0, "both are in use and young");

    let use_at = |sessions: &mut FetchSessions, seconds, id, epoch| {
        let opened = sessions.open(moment(seconds), request(id, epoch), vec![], &[])?;
        sessions.close(moment(seconds), request(id, epoch), &opened, &vec![quiet(1); opened.wanted.len()])
    };
    // Old, but both in use: the one with fewer partitions than the new one goes.
    use_at(&mut sessions, 121, small, 1).unwrap();
    use_at(&mut sessions, 122, large, 1).unwrap();
    assert_eq!(make(&mut sessions, moment(123), request(0, 0), asks(0..2)), 0, "as many are not fewer");
    let middle = make(&mut sessions, moment(124), request(0, 0), asks(0..5));
    assert!(middle > 0);
    assert_eq!(use_at(&mut sessions, 125, small, 2).unwrap_err(), ErrorCode::FetchSessionIdNotFound);
    // What nobody has used for two minutes goes, however large.
    use_at(&mut sessions, 240, middle, 1).unwrap();
    assert_eq!(make(&mut sessions, moment(242), request(0, 0), asks(0..1)), 0, "not quite two minutes");
    assert!(make(&mut sessions, moment(243), request(0, 0), asks(0..1)) > 0);
    assert_eq!(use_at(&mut sessions, 244, large, 2).unwrap_err(), ErrorCode::FetchSessionIdNotFound);
    assert_eq!(sessions.session_count(), 2);
}

#[test]
fn a_session_that_is_evicted_under_way_is_not_found() {
    let mut sessions = FetchSessions::new(1, ROOMY);
    let id = make(&mut sessions, moment(0), request(0, 0), asks(0..1));
    let opened = sessions.open(moment(1), request(id, 1), vec![], &[]).unwrap();
    assert!(make(&mut sessions, moment(200), request(0, 0), asks(0..1)) > 0);
    let closed = sessions.close(moment(201), request(id, 1), &opened, &[quiet(1)]);
    assert_eq!(closed, Err(ErrorCode::FetchSessionIdNotFound));
}

#[test]
fn bytes_are_bounded() {
    let bytes = session::bytes(&asks(0..10));
    let mut sessions = FetchSessions::new(1000, bytes * 2);
    assert_eq!(make(&mut sessions, moment(0), request(0, 0), asks(0..30)), 0, "larger than all there is");
    let first = make(&mut sessions, moment(0), request(0, 0), asks(0..10));
    assert!(make(&mut sessions, moment(0), request(0, 0), asks(0..10)) > 0);
    assert_eq!(make(&mut sessions, moment(0), request(0, 0), asks(0..1)), 0, "no room is left");
    // One that grows past the bound is dropped.
    let grown = sessions.open(moment(1), request(first, 1), asks(0..11), &[]);
    assert_eq!(grown, Err(ErrorCode::FetchSessionIdNotFound));
    assert_eq!((sessions.session_count(), sessions.bytes()), (1, bytes));
    assert!(make(&mut sessions, moment(1), request(0, 0), asks(0..10)) > 0);
    let mut none = FetchSessions::new(0, ROOMY);
    assert_eq!(make(&mut none, moment(0), request(0, 0), asks(0..1)), 0, "no slots, no sessions");
}
