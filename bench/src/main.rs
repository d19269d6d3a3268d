//! `millbench`: measures what a log broker's design depends on, and loads a running broker.
//!
//! Owns only the dispatch. A client program: it knows the wire protocol and the runtime, and holds no part of the broker.
#![forbid(unsafe_code)]

mod commit_path;
mod cpu;
mod load;
#[cfg_attr(not(test), expect(dead_code, reason = "what fills it is written next"))]
mod measured;
mod numbers;
#[expect(dead_code, reason = "its callers are written next")]
mod report;
#[cfg_attr(not(test), expect(dead_code, reason = "its callers are written next"))]
mod stop;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

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
    /// Send record batches to a broker as fast as it acknowledges them.
    Produce(load::produce::Arguments),
    /// Read a topic from its start to where it ends now.
    Consume(load::consume::Arguments),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().task {
        Task::CommitPath(arguments) => commit_path::run(&arguments),
        Task::Produce(arguments) => load::produce::run(&arguments),
        Task::Consume(arguments) => load::consume::run(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("millbench: {error:#}");
            ExitCode::FAILURE
        }
    }
}
