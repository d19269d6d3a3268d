//! Which chunks to load before somebody asks for them. Pure.
//!
//! A read carries no name of its reader, so readers are told apart by where they are: a read that begins where an earlier
//! one ended goes on from it. From its second read on such a reader gets chunks ahead, twice as many with each step, up
//! to a bound. Reads here and there get none.

use std::ops::Range;

/// Readers that are told apart; past it the one that was silent for longest is taken for gone.
const READERS_MAX: usize = 8;

/// The readers of one log.
#[derive(Debug, Default)]
pub struct ReadAhead {
    /// The reader that moved last comes last.
    readers: Vec<Reader>,
}

#[derive(Clone, Copy, Debug)]
struct Reader {
    segment: u64,
    /// The last chunk that it read from; the next read begins there or in the one behind.
    last: u32,
    /// It has chunks ahead up to here, exclusive.
    ahead_end: u32,
    /// How many chunks it gets ahead; 0 until it has gone on once.
    ahead: u32,
}

impl ReadAhead {
    /// Notes a read of the chunks `read`, not empty, of a segment, and returns those to load now: none or the ones behind,
    /// up to `chunks_max` of them, each at most once for a reader. They may lie past the segment's end.
    pub fn note(&mut self, segment: u64, read: Range<u32>, chunks_max: u32) -> Range<u32> {
        assert!(read.start < read.end, "a read has bytes");
        let last = read.end - 1;
        let goes_on =
            |reader: &Reader| reader.segment == segment && (reader.last..=reader.last + 1).contains(&read.start);
        let Some(found) = self.readers.iter().rposition(goes_on) else {
            if self.readers.len() == READERS_MAX {
                self.readers.remove(0);
            }
            self.readers.push(Reader { segment, last, ahead_end: read.end, ahead: 0 });
            return read.end..read.end;
        };
        let mut reader = self.readers.remove(found);
        let moved = last > reader.last;
        let mut wanted = read.end..read.end;
        if moved {
            reader.last = last;
            reader.ahead_end = reader.ahead_end.max(read.end);
            // Asked for in halves, so that few and large loads are made.
            if reader.ahead_end - read.end <= reader.ahead / 2 {
                reader.ahead = (reader.ahead * 2).clamp(1, chunks_max.max(1));
                let end = read.end.saturating_add(reader.ahead.min(chunks_max));
                wanted = reader.ahead_end.min(end)..end;
                reader.ahead_end = reader.ahead_end.max(end);
            }
        }
        self.readers.push(reader);
        wanted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_reader_that_goes_on_gets_twice_as_much_each_time() {
        let mut ahead = ReadAhead::default();
        let mut asked = Vec::new();
        for chunk in 0..20 {
            asked.extend(ahead.note(1, chunk..chunk + 1, 8));
            if chunk == 0 {
                assert!(asked.is_empty(), "one read says nothing yet");
            }
        }
        assert_eq!(asked[..3], [2, 3, 4]);
        assert!(asked.windows(2).all(|pair| pair[0] + 1 == pair[1]), "each chunk once: {asked:?}");
        assert!(*asked.last().unwrap() >= 19 + 4, "at least half of the bound is ahead");
    }

    #[test]
    fn small_reads_within_a_chunk_go_on_without_asking_for_more() {
        let mut ahead = ReadAhead::default();
        for _ in 0..10 {
            assert!(ahead.note(1, 5..6, 8).is_empty());
        }
        assert_eq!(ahead.note(1, 5..7, 8), 7..8);
        assert!(ahead.note(1, 6..7, 8).is_empty());
    }

    #[test]
    fn readers_in_different_places_do_not_disturb_each_other() {
        let mut ahead = ReadAhead::default();
        let mut asked = [Vec::new(), Vec::new(), Vec::new()];
        for step in 0..10 {
            for (asked, (segment, start)) in asked.iter_mut().zip([(1, 0), (1, 1000), (2, 0)]) {
                asked.extend(ahead.note(segment, start + step..start + step + 1, 4));
            }
        }
        assert_eq!(asked[0], asked[2]);
        assert!(asked[0].len() >= 10);
        assert_eq!(asked[1], asked[0].iter().map(|chunk| chunk + 1000).collect::<Vec<_>>());
    }

    proptest! {
        #[test]
        fn reads_here_and_there_get_nothing(places in prop::collection::vec(0_u32..100_000, 1..100)) {
            let mut ahead = ReadAhead::default();
            for place in places {
                // Three apart at least: never where another one ended.
                prop_assert!(ahead.note(1, place * 3..place * 3 + 1, 16).is_empty());
            }
        }

        /// Whatever is read: never more than the bound, never what was read, and no bound of 0 asks for anything.
        #[test]
        fn the_bound_holds(
            chunks_max in 0_u32..20,
            reads in prop::collection::vec((0_u64..2, prop_oneof![0_u32..30, u32::MAX - 9..u32::MAX - 4], 1_u32..4), 1..200),
        ) {
            let mut ahead = ReadAhead::default();
            for (segment, start, count) in reads {
                let wanted = ahead.note(segment, start..start + count, chunks_max);
                prop_assert!(wanted.start >= start + count);
                prop_assert!(wanted.end - (start + count) <= chunks_max);
            }
        }
    }
}
