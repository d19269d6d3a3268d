//! Runs microbenchmarks in two ways: timed by Criterion, or once, for callgrind to count its instructions.
//!
//! A bench program declares each benchmark once, by [`Benchmarks::on_shared_input`] or [`Benchmarks::on_fresh_inputs`]; its
//! command line says what becomes of it:
//!
//! | arguments | what happens |
//! |---|---|
//! | those of Criterion, or none | every benchmark is timed |
//! | `--list-counted` | prints the name, the units of work and the unit of every benchmark, separated by tabs |
//! | `--count NAME` | runs one benchmark inside [`counted_region`], after one run outside of it |
//!
//! `cargo dev bench-check` runs the last one under valgrind, which counts what happens in [`counted_region`] and nothing
//! else: not the making of inputs, and not what only the first run does, such as asking the processor what it can.
//!
//! Must never measure anything itself, and never make the input of a benchmark that is not asked for.
#![forbid(unsafe_code)]

pub mod forgetful;
pub mod inputs;

mod arguments;

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, BenchmarkGroup, Criterion, Throughput, measurement::WallTime};

use arguments::Arguments;

/// The benchmarks of one program, as its command line wants them.
pub struct Benchmarks {
    mode: Mode,
}

enum Mode {
    Time(Box<Criterion>),
    List,
    Count { name: String, found: bool },
}

/// What one run of a benchmark does, for figures per unit.
#[derive(Clone, Copy, Debug)]
pub struct Work {
    /// How many units. Invariant: above 0.
    count: u64,
    unit: &'static str,
}

impl Work {
    /// So many bytes.
    pub fn bytes(count: usize) -> Self {
        Self::of(count, "byte")
    }

    /// So many of something. `unit` is a noun in the singular.
    pub fn of(count: usize, unit: &'static str) -> Self {
        assert!(count > 0, "a benchmark does something");
        Self { count: u64::try_from(count).expect("usize has 64 bits"), unit }
    }

    fn throughput(self) -> Throughput {
        if self.unit == "byte" { Throughput::Bytes(self.count) } else { Throughput::Elements(self.count) }
    }
}

impl Benchmarks {
    /// As the program's arguments say. Runs `declare`, which declares every benchmark of the program.
    ///
    /// # Panics
    /// When the benchmark to count is not declared.
    pub fn run(declare: impl FnOnce(&mut Self)) {
        let mut benchmarks = Self { mode: Mode::new(Arguments::parse(std::env::args().skip(1))) };
        declare(&mut benchmarks);
        match benchmarks.mode {
            Mode::Time(criterion) => criterion.final_summary(),
            Mode::Count { name, found } => assert!(found, "no benchmark is called {name}"),
            Mode::List => {}
        }
    }

    /// Declares a benchmark whose runs leave their input as they found it, or at least no more work for the next one.
    ///
    /// `name` has the form `group/benchmark`; what follows the last slash tells the benchmarks of a group apart.
    pub fn on_shared_input<I, O>(
        &mut self,
        name: &str,
        work: Work,
        input: impl FnOnce() -> I,
        mut routine: impl FnMut(&mut I) -> O,
    ) {
        match &mut self.mode {
            Mode::Time(criterion) => {
                let (mut group, name) = group_of(criterion, name, work);
                let mut input = input();
                group.bench_function(name, |bencher| bencher.iter(|| routine(&mut input)));
                group.finish();
            }
            Mode::List => list(name, work),
            Mode::Count { name: wanted, found } if wanted == name => {
                *found = true;
                let mut input = input();
                black_box(routine(&mut input));
                counted_region(&mut || drop(black_box(routine(&mut input))));
            }
            Mode::Count { .. } => {}
        }
    }

    /// Declares a benchmark whose every run uses up an input of its own. Neither making inputs nor dropping them is
    /// measured.
    ///
    /// `name` as for [`Benchmarks::on_shared_input`].
    pub fn on_fresh_inputs<I, O>(
        &mut self,
        name: &str,
        work: Work,
        mut input: impl FnMut() -> I,
        mut routine: impl FnMut(&mut I) -> O,
    ) {
        match &mut self.mode {
            Mode::Time(criterion) => {
                let (mut group, name) = group_of(criterion, name, work);
                group.bench_function(name, |bencher| {
                    bencher.iter_batched_ref(&mut input, &mut routine, BatchSize::PerIteration);
                });
                group.finish();
            }
            Mode::List => list(name, work),
            Mode::Count { name: wanted, found } if wanted == name => {
                *found = true;
                black_box(routine(&mut input()));
                let mut input = input();
                counted_region(&mut || drop(black_box(routine(&mut input))));
            }
            Mode::Count { .. } => {}
        }
    }

    /// Declares a benchmark that can only be timed, because it needs what valgrind does not have (`io_uring`) or means
    /// nothing as a count (waiting for another thread). `routine` runs as often as it is told and says how long it took.
    ///
    /// `name` as for [`Benchmarks::on_shared_input`].
    pub fn timed_only(&mut self, name: &str, work: Work, mut routine: impl FnMut(u64) -> Duration) {
        if let Mode::Time(criterion) = &mut self.mode {
            let (mut group, name) = group_of(criterion, name, work);
            group.bench_function(name, |bencher| bencher.iter_custom(&mut routine));
            group.finish();
        }
    }
}

impl Mode {
    fn new(arguments: Arguments) -> Self {
        match arguments {
            // Fewer than Criterion's hundred: making an input takes longer than the run, for some.
            Arguments::Time => Self::Time(Box::new(Criterion::default().sample_size(20).configure_from_args())),
            Arguments::List => Self::List,
            Arguments::Count(name) => Self::Count { name, found: false },
        }
    }
}

/// Runs what is counted. Valgrind knows it by its name.
///
/// Never inlined and not generic: it has one symbol in every program. Something is left to do after the call, so that the
/// compiler cannot turn it into a jump, by which the end of this function could not be told from its start.
#[inline(never)]
pub fn counted_region(routine: &mut dyn FnMut()) {
    let kept = black_box(1_u8);
    routine();
    black_box(kept);
}

fn group_of<'c>(criterion: &'c mut Criterion, name: &str, work: Work) -> (BenchmarkGroup<'c, WallTime>, String) {
    let (group, name) = name.rsplit_once('/').expect("a benchmark is called `group/benchmark`");
    let mut group = criterion.benchmark_group(group);
    group.throughput(work.throughput());
    (group, name.to_owned())
}

fn list(name: &str, work: Work) {
    println!("{name}\t{}\t{}", work.count, work.unit);
}
