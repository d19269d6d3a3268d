//! `cargo dev`: the project's own tasks, one subcommand each.
//!
//! Owns only the dispatch; every task lives in a module of its name.
#![forbid(unsafe_code)]

mod repository;
mod tidy;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo dev", about = "The project's own tasks")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Check the style rules that a machine can hold.
    Tidy(tidy::Arguments),
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().task {
        Task::Tidy(arguments) => tidy::run(&arguments),
    }
}
