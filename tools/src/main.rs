//! `millctl`: the operator's command line.
//!
//! Owns only the dispatch. Exit codes: 0 when all is well, 1 when something is damaged or could not be done.
#![forbid(unsafe_code)]

mod inspect;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "millctl", version, about = "Looks after Millrace brokers and their data")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Show what files of a data directory hold, and check every checksum. The broker must not be running.
    #[command(subcommand)]
    Inspect(inspect::Arguments),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().task {
        Task::Inspect(arguments) => inspect::run(&arguments),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("millctl: {error:#}");
            ExitCode::FAILURE
        }
    }
}
