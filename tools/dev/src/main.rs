//! `cargo dev`: the project's own tasks, one subcommand each.
//!
//! Owns only the dispatch; every task lives in a module of its name.
#![forbid(unsafe_code)]

mod bench_check;
mod beside;
mod ci;
mod clients;
mod codegen;
mod compat;
mod crash;
mod fuzz;
mod pipeline;
mod plant;
mod repository;
mod simulation;
mod test;
mod tidy;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo dev", about = "The project's own tasks")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Compare two commits by the instructions that their microbenchmarks execute.
    BenchCheck(bench_check::Arguments),
    /// Measure Millrace beside a real Apache Kafka.
    BesideKafka(beside::Arguments),
    /// Write the generated part of millrace-protocol from the message schemas.
    Codegen(codegen::Arguments),
    /// Run the foreign clients and rewrite their matrix in docs/COMPATIBILITY.md.
    Compat(compat::Arguments),
    /// Run the whole pipeline, as a build machine does.
    Ci(ci::Arguments),
    /// Kill the broker under load, or fail the power of its disk, over and over.
    Crash(crash::Arguments),
    /// Run the fuzz targets, each for some seconds.
    Fuzz(fuzz::Arguments),
    /// Break the storage engine in one known way at a time, and require that a test notices.
    Plant(plant::Arguments),
    /// Run one seed of the simulation again, twice, and tell what happens in it.
    ReplaySeed(simulation::ReplayArguments),
    /// Run the storage engine under simulated machines that crash, fail and rot.
    Sim(simulation::Arguments),
    /// Run every check and every test, installing what is missing.
    Test(test::Arguments),
    /// Check the style rules that a machine can hold.
    Tidy(tidy::Arguments),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().task {
        Task::BenchCheck(arguments) => bench_check::run(&arguments),
        Task::BesideKafka(arguments) => beside::run(&arguments),
        Task::Ci(arguments) => ci::run(&arguments),
        Task::Codegen(arguments) => codegen::run(&arguments),
        Task::Compat(arguments) => compat::run(&arguments),
        Task::Crash(arguments) => crash::run(&arguments),
        Task::Fuzz(arguments) => fuzz::run(&arguments),
        Task::Plant(arguments) => plant::run(&arguments),
        Task::ReplaySeed(arguments) => simulation::replay(&arguments),
        Task::Sim(arguments) => simulation::run(&arguments),
        Task::Test(arguments) => test::run(&arguments),
        Task::Tidy(arguments) => tidy::run(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Not what `main` prints for an error: a backtrace says nothing about a style rule or a failed test.
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
