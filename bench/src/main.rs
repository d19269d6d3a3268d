//! `millbench`: measures what a log broker's design depends on, and loads a running broker.
//!
//! Owns only the dispatch. A client program: it knows the wire protocol and the runtime, and holds no part of the broker.
#![forbid(unsafe_code)]

mod check;
mod client;
mod commit_path;
mod compare;
mod cpu;
mod descriptors;
mod drive;
mod limits;
mod measured;
mod numbers;
mod options;
mod report;
#[cfg_attr(not(test), expect(dead_code, reason = "only tests ask without a signal"))]
mod stop;
mod tasks;
mod workload;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use tasks::LoadTask;

/// The broker's. Rounds of several MB are laid out in fresh memory, and what that costs is the allocator's doing.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
#[command(name = "millbench", version, about = "Measures Millrace, and any broker that speaks Kafka's protocol")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Compare the ways to make a round of appends durable on the device of a directory.
    CommitPath(commit_path::Arguments),
    /// Measure the machine's own floors: loopback, an echo server, direct writes, flushes.
    Limits(limits::Arguments),
    /// Run the same loads against Millrace and another broker in turn, and set the results side by side.
    Compare(compare::Arguments),
    #[command(flatten)]
    Load(Box<LoadTask>),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().task {
        Task::CommitPath(arguments) => commit_path::run(&arguments),
        Task::Limits(arguments) => limits::run(&arguments),
        Task::Compare(arguments) => compare::run(&arguments),
        Task::Load(task) => task.run(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("millbench: {error:#}");
            ExitCode::FAILURE
        }
    }
}
