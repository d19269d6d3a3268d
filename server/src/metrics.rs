//! What the broker counts and how that is shown.
//!
//! # How counts get off the shards
//!
//! A shard counts in plain cells of its own ([`counters`]), and puts a [`report`] together when it is asked: a copy, which
//! crosses to the admin thread as one value. The alternative, atomics that the admin thread reads whenever it likes, costs
//! the hot path more (even relaxed ones, unshared, keep the compiler from merging and reordering), spreads shared state over
//! every module, and still needs a question for everything that is not a counter: who is in which group, how full is the
//! cache. With questions nothing is shared, and a shard that nobody scrapes does nothing at all.
//!
//! What it costs: two additions and one reading of the clock for each request, one addition for each batch and each round,
//! nothing for each record. A report yields between logs, so a scrape of many logs takes turns with everything else.
//!
//! [`families`] is the table of all metrics; docs/METRICS.md and the text both come from it, so neither can have one that
//! the other lacks. [`text`] writes the text. Nothing here knows shards, sockets or clocks.

pub mod counters;
pub mod families;
pub mod report;
pub mod text;
