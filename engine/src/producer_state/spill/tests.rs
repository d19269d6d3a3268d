//! However much is spilled, and whenever, producers are judged as if all of them were in memory.

use millrace_protocol::batch::{BatchBuilder, BatchFields, BatchHeader, BatchView, ProducerFields};
use proptest::prelude::*;

use super::super::{ProducerStates, SequenceError, Verdict};
use super::*;
use crate::format::producers::{self, BLOCK_BYTES};
use crate::model::TopicId;

const PARTITION: PartitionId = PartitionId { topic: TopicId::from_bytes([4; 16]), partition: 0 };
/// Ids are spread, so that some lie between those that exist.
const ID_STEP: i64 = 3;

#[derive(Clone, Copy, Debug)]
enum Sequence {
    Next,
    /// One of the remembered batches once more.
    Again(usize),
    Gap,
    NewEpoch,
    OldEpoch,
}

#[derive(Clone, Debug)]
enum Step {
    /// A batch is judged, and noted if it is new.
    Send {
        number: usize,
        sequence: Sequence,
        timestamp: i64,
    },
    /// A batch is noted without being judged.
    Replay {
        number: usize,
        sequence: Sequence,
        timestamp: i64,
    },
    /// A batch is judged, but between the verdict and the block that it asks for another step happens.
    Slow {
        number: usize,
        between: Box<Step>,
    },
    Expire {
        before: i64,
    },
    Begin,
    /// So many blocks of the old file are merged.
    Merge {
        blocks: usize,
    },
    Finish,
    Abandon,
    Shrink {
        to: usize,
    },
    /// The file becomes all that is left, as after a restart at a snapshot.
    Reopen,
}

fn sequence() -> impl Strategy<Value = Sequence> {
    prop_oneof![
        6 => Just(Sequence::Next),
        3 => (0_usize..5).prop_map(Sequence::Again),
        1 => Just(Sequence::Gap),
        1 => Just(Sequence::NewEpoch),
        1 => Just(Sequence::OldEpoch),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let batch = || (0_usize..70, sequence(), 0_i64..1000);
    let leaf = prop_oneof![
        20 => batch().prop_map(|(number, sequence, timestamp)| Step::Send { number, sequence, timestamp }),
        8 => batch().prop_map(|(number, sequence, timestamp)| Step::Replay { number, sequence, timestamp }),
        1 => (0_i64..500).prop_map(|before| Step::Expire { before }),
        3 => Just(Step::Begin),
        4 => (0_usize..4).prop_map(|blocks| Step::Merge { blocks }),
        3 => Just(Step::Finish),
        1 => Just(Step::Abandon),
        4 => (0_usize..20).prop_map(|to| Step::Shrink { to }),
        1 => Just(Step::Reopen),
    ];
    leaf.prop_recursive(1, 2, 1, |leaf| {
        prop_oneof![
            9 => leaf.clone(),
            2 => (0_usize..70, leaf).prop_map(|(number, between)| Step::Slow { number, between: Box::new(between) }),
        ]
    })
}

/// A log whose states are kept twice: all in memory, and with a file.
#[derive(Default)]
struct Twice {
    all: ProducerStates,
    some: ProducerStates,
    file: Vec<u8>,
    merge: Option<(SpillMerge, Vec<u8>)>,
    end: i64,
}

impl Twice {
    fn header(&self, number: usize, sequence: Sequence, timestamp: i64) -> BatchHeader {
        let id = i64::try_from(number).unwrap() * ID_STEP;
        let producer = self.all.known.get(&id).and_then(|known| known.producer.as_ref());
        let (epoch, base_sequence, records) = producer.map_or((0, 17, 1), |producer| {
            let next = producer.last().last_sequence + 1;
            match sequence {
                Sequence::Next => (producer.epoch, next, 2),
                Sequence::Again(back) => {
                    let batch = producer.batches()[back % producer.batches().len()];
                    (producer.epoch, batch.base_sequence, batch.last_sequence - batch.base_sequence + 1)
                }
                Sequence::Gap => (producer.epoch, next + 1, 1),
                Sequence::NewEpoch => (producer.epoch + 1, 0, 1),
                Sequence::OldEpoch => (producer.epoch - 1, next, 1),
            }
        });
        let producer = Some(ProducerFields { id, epoch, base_sequence });
        let mut builder = BatchBuilder::new(BatchFields { producer, ..BatchFields::default() });
        for _ in 0..records {
            builder.push(timestamp, None, None);
        }
        *BatchView::parse(&builder.build()).unwrap().header()
    }

    fn note(&mut self, header: &BatchHeader) {
        let base = self.end;
        self.end += i64::from(header.record_count.get());
        for states in [&mut self.all, &mut self.some] {
            states.note(header, Offset::new(base), Offset::new(self.end));
        }
    }

    fn block(&self, block_index: u32) -> &[u8] {
        self.file.chunks_exact(BLOCK_BYTES).nth(usize::try_from(block_index).unwrap()).unwrap()
    }

    /// The verdict of the states with a file, after as many reads as it takes: never more than one.
    fn verdict(&mut self, header: &BatchHeader) -> Result<Verdict, SequenceError> {
        if let Ok(Verdict::NeedsSpilled(read)) = self.some.check(header) {
            let block = self.block(read.block_index()).to_vec();
            assert!(self.some.restore(&read, &block));
        }
        self.some.check(header)
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Send { number, sequence, timestamp } => {
                let header = self.header(number, sequence, timestamp);
                let verdict = self.all.check(&header);
                assert_eq!(self.verdict(&header), verdict, "producer {}", header.producer_id);
                if verdict == Ok(Verdict::Append) {
                    self.note(&header);
                }
            }
            Step::Replay { number, sequence, timestamp } => {
                let header = self.header(number, sequence, timestamp);
                // Whoever replays a log finds what was judged once.
                if self.all.check(&header) == Ok(Verdict::Append) {
                    self.note(&header);
                }
            }
            Step::Slow { number, between } => {
                let header = self.header(number, Sequence::Next, 0);
                let asked = self.some.check(&header);
                let read = if let Ok(Verdict::NeedsSpilled(read)) = asked { Some(read) } else { None };
                let block = read.as_ref().map(|read| self.block(read.block_index()).to_vec());
                self.step(*between);
                if let (Some(read), Some(block)) = (read, block) {
                    assert!(self.some.restore(&read, &block));
                }
                assert_eq!(self.verdict(&header), self.all.check(&header));
            }
            Step::Expire { before } => {
                self.all.expire(before);
                self.some.expire(before);
            }
            Step::Shrink { to } => self.some.shrink_to(to, Offset::new(i64::MAX)),
            Step::Begin if self.merge.is_none() => {
                self.merge = Some((self.some.begin_spill(PARTITION, Offset::new(self.end)), Vec::new()));
            }
            Step::Begin => {}
            Step::Merge { blocks } => self.merge(blocks),
            Step::Finish => self.finish(),
            Step::Abandon => {
                if self.merge.take().is_some() {
                    self.some.abandon_spill();
                }
            }
            Step::Reopen => self.reopen(),
        }
    }

    fn merge(&mut self, blocks: usize) {
        let Some((mut merge, mut later)) = self.merge.take() else { return };
        for _ in 0..blocks {
            let Some(wanted) = merge.block_wanted() else { break };
            merge.add_block(self.block(wanted)).unwrap();
            later.extend(merge.take_blocks());
        }
        self.merge = Some((merge, later));
    }

    fn finish(&mut self) {
        self.merge(usize::MAX);
        let Some((merge, later)) = self.merge.take() else { return };
        let finished = merge.finish();
        self.file = [finished.first, later, finished.rest].concat();
        self.some.finish_spill(finished.spill);
    }

    /// Writes a file of all that there is, and goes on with that file alone.
    fn reopen(&mut self) {
        self.finish();
        self.step(Step::Begin);
        self.finish();
        assert_eq!(self.file, self.all.encode(PARTITION, Offset::new(self.end)), "a snapshot like any other");
        self.some = ProducerStates::spilled(read_back(&self.file).unwrap());
    }
}

fn read_back(file: &[u8]) -> Option<Spill> {
    let mut builder = SpillBuilder::new(ProducersHeader::decode(file)?, u64::try_from(file.len()).unwrap())?;
    file.chunks_exact(BLOCK_BYTES).try_for_each(|block| builder.add_block(block))?;
    builder.finish()
}

proptest! {
    #[test]
    fn spilled_producers_are_judged_like_all_others(steps in prop::collection::vec(step(), 1..400)) {
        let mut twice = Twice::default();
        for step in steps {
            twice.step(step);
        }
        twice.reopen();
        for number in 0..70 {
            let header = twice.header(number, Sequence::Gap, 0);
            prop_assert_eq!(twice.verdict(&header), twice.all.check(&header));
        }
    }

    #[test]
    fn later_batches_go_on_from_a_spilled_snapshot(older in sends(), newer in sends()) {
        let mut twice = Twice::default();
        for step in older {
            twice.step(step);
        }
        twice.reopen();
        // What is behind the snapshot was read before anybody looked at the snapshot itself.
        let snapshot = std::mem::take(&mut twice.some);
        for step in newer {
            let Step::Send { number, sequence, timestamp } = step else { unreachable!() };
            twice.step(Step::Replay { number, sequence, timestamp });
        }
        twice.some.prepend(snapshot);
        twice.reopen();
    }

    #[test]
    fn the_filter_holds_what_was_put_in(ids in prop::collection::btree_set(0_i64..i64::MAX, 1..200)) {
        let mut filter = Filter::new(u64::try_from(ids.len()).unwrap());
        for id in &ids {
            filter.insert(*id);
        }
        prop_assert!(ids.iter().all(|id| filter.may_hold(*id)));
    }
}

fn sends() -> impl Strategy<Value = Vec<Step>> {
    let send = (0_usize..70, sequence(), 0_i64..1000);
    let send = send.prop_map(|(number, sequence, timestamp)| Step::Send { number, sequence, timestamp });
    prop::collection::vec(send, 0..300)
}

#[test]
fn the_filter_spares_most_reads() {
    let mut filter = Filter::new(10_000);
    for id in 0..10_000 {
        filter.insert(id);
    }
    let wrong = (10_000..20_000).filter(|id| filter.may_hold(*id)).count();
    assert!(wrong < 400, "{wrong} of 10,000 seem to be there");
}

#[test]
fn memory_shrinks_to_what_changed_since() {
    let mut twice = Twice::default();
    for number in 0..1000 {
        twice.step(Step::Send { number, sequence: Sequence::Next, timestamp: 0 });
    }
    let before = twice.some.memory_bytes();
    twice.step(Step::Shrink { to: 0 });
    assert_eq!(twice.some.known_count(), 1000, "nothing is written yet");
    twice.step(Step::Begin);
    twice.step(Step::Send { number: 3, sequence: Sequence::Next, timestamp: 0 });
    twice.step(Step::Finish);
    twice.step(Step::Shrink { to: 10 });
    assert_eq!(twice.some.known_count(), 10);
    assert!(twice.some.known.contains_key(&(3 * ID_STEP)), "only memory knows its last batch");
    assert!(twice.some.memory_bytes() * 20 < before);
}

#[test]
fn a_damaged_block_is_reported() {
    let mut twice = Twice::default();
    for number in 0..100 {
        twice.step(Step::Send { number, sequence: Sequence::Next, timestamp: 0 });
    }
    twice.reopen();
    let header = twice.header(99, Sequence::Next, 0);
    let Ok(Verdict::NeedsSpilled(read)) = twice.some.check(&header) else { panic!("it is in the file") };
    let mut block = twice.block(read.block_index()).to_vec();
    block[BLOCK_BYTES - 1] ^= 1;
    assert!(!twice.some.restore(&read, &block));
    assert!(!twice.some.restore(&read, &block[..100]));
    let mut merge = twice.some.begin_spill(PARTITION, Offset::new(twice.end));
    assert!(merge.add_block(&block).is_none());

    let file = producers::encode(PARTITION, Offset::ZERO, [].into_iter());
    assert!(read_back(&file).is_some(), "an empty file is a file");
    assert!(read_back(&twice.file[..BLOCK_BYTES]).is_none(), "blocks are missing");
    let header = ProducersHeader { producer_count: u64::MAX, ..*twice.some.spill.as_ref().unwrap().header() };
    assert!(SpillBuilder::new(header, 1 << 20).is_none(), "more than the file can hold");
}
