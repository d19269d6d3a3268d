//! Target `group_record`: bytes as records of `__consumer_offsets`, replayed into a coordinator that is then asked.
//!
//! Each record is the key's length in a byte, the value's in two (65,535 for none), the key, the value. Whatever a
//! coordinator made of them, it can be listed and described, its deadlines pass, and what it stores then can be read.

use millrace_server::config::check::{self, Room};
use millrace_server::config::parse::RawConfig;
use millrace_server::group::coordinator::Coordinator;
use millrace_server::group::records::{Record, Stored};
use millrace_server::group::request::{Fetch, GroupRequest, Question};
use millrace_server::group::{Moment, Now, Settings, Token};
use millrace_server::metadata::Image;

use crate::Reached;

/// So many deadlines pass at most.
const EXPIRIES_MAX: usize = 64;

/// Memory that the groups may take beyond what was stored.
const ROOM_BYTES: usize = 1 << 20;

/// Runs the target.
pub fn run(data: &[u8]) -> Reached {
    let room = Room { core_count: 2, memory_bytes: 1 << 34 };
    let config = check::check(&RawConfig::new(), room).expect("the defaults are legal");
    let image = Image::new();
    let mut now = Now { steady_ms: 0, unix_ms: 1_750_000_000_000 };
    let mut coordinator = Coordinator::new(Settings::new(&config.groups), now);
    let (mut rest, mut reached) = (data, Reached::Refusal);
    while let Some((key, value, behind)) = split(rest) {
        rest = behind;
        if coordinator.replay(key, value).is_ok() {
            reached = Reached::Content;
        }
    }
    coordinator.resume(now);

    let names: Vec<_> = coordinator.list().map(|listed| listed.group).collect();
    let mut stored = Vec::new();
    for (number, group) in (0..).zip(names) {
        for question in [Question::Describe, Question::Fetch(Fetch::default())] {
            let request = GroupRequest { group: group.clone(), question };
            let outcome =
                coordinator.handle(Moment { now, image: &image }, Token { source: 0, number }, request, ROOM_BYTES);
            assert_eq!(outcome.answers.len(), 1, "a question without a reason to wait is answered at once");
            stored.extend(outcome.records);
        }
    }
    for _ in 0..EXPIRIES_MAX {
        let due = coordinator.next_deadline_ms();
        if due > now.steady_ms {
            now = Now { steady_ms: due, unix_ms: now.unix_ms.saturating_add(due - now.steady_ms) };
        }
        stored.extend(coordinator.expire(Moment { now, image: &image }).records);
    }
    for Record { key, value } in &stored {
        assert!(!matches!(Stored::parse(key, value.as_deref()), Err(_) | Ok(Stored::Unknown(_))), "{key:?}");
    }
    reached
}

type Key<'a> = &'a [u8];
type Value<'a> = Option<&'a [u8]>;

/// One record's key and value, and what is behind it.
fn split(data: &[u8]) -> Option<(Key<'_>, Value<'_>, &[u8])> {
    let (lengths, rest) = data.split_first_chunk::<3>()?;
    let (key, rest) = rest.split_at_checked(usize::from(lengths[0]))?;
    let value_bytes = u16::from_le_bytes([lengths[1], lengths[2]]);
    if value_bytes == u16::MAX {
        return Some((key, None, rest));
    }
    let (value, rest) = rest.split_at_checked(usize::from(value_bytes))?;
    Some((key, Some(value), rest))
}
