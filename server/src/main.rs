//! The `millrace` command: parse, build, run.
//!
//! The only place of the broker that knows the command line and prints errors for people. Exit codes: 0 stopped cleanly,
//! 2 configuration refused, 3 data directory in use, 4 the machine does not give what is needed (also when `doctor` finds
//! that), 130 stopped at once.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use millrace_server::config::{Config, RawConfig, check};
use millrace_server::metadata::topic_config;
use millrace_server::{doctor, machine, run};

/// Record buffers are allocated and freed all the time. The system's allocator gives such sizes back to the kernel at once,
/// and most of the broker's time went into faulting them in again.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A log broker for Linux that any Kafka client can use.
#[derive(Debug, Parser)]
#[command(name = "millrace", version)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// TOML file with configuration keys.
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// Data directory; short for --set log.dirs=DIR.
    #[arg(long, value_name = "DIR", global = true)]
    data: Option<String>,
    /// Address to accept clients on; short for --set listeners=HOST:PORT.
    #[arg(long, value_name = "HOST:PORT", global = true)]
    listen: Option<String>,
    /// Sets one configuration key; wins over the file. See describe-config.
    #[arg(long, value_name = "KEY=VALUE", global = true)]
    set: Vec<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Checks the configuration and prints the effective values.
    CheckConfig,
    /// Says what keeps a broker with this configuration from starting here, or will hurt it. Changes nothing.
    Doctor,
    /// Prints the reference of all configuration keys, in Markdown.
    DescribeConfig,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match arguments.command {
        Some(Command::DescribeConfig) => print(&topic_config::describe()),
        Some(Command::CheckConfig) => match read_config(&arguments) {
            Ok(config) => print(&format!("ok\n{}", config.describe())),
            Err(code) => return code,
        },
        Some(Command::Doctor) => match read_config(&arguments) {
            Ok(config) => return examine(&config),
            Err(code) => return code,
        },
        None => match read_config(&arguments) {
            Ok(config) => return serve(config),
            Err(code) => return code,
        },
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("millrace: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Gathers and checks the configuration. All errors are printed, one a line.
fn read_config(arguments: &Arguments) -> Result<Config, ExitCode> {
    let mut raw = RawConfig::new();
    if let Some(path) = &arguments.config {
        raw.read_file(path);
    }
    if let Some(directory) = &arguments.data {
        raw.add_option("--data", "log.dirs", directory);
    }
    if let Some(address) = &arguments.listen {
        raw.add_option("--listen", "listeners", address);
    }
    for assignment in &arguments.set {
        raw.add_assignment(assignment);
    }
    check::check(&raw, machine::read_room()).map_err(|errors| {
        for error in errors {
            eprintln!("millrace: {error}");
        }
        ExitCode::from(run::EXIT_CONFIG)
    })
}

fn examine(config: &Config) -> ExitCode {
    machine::raise_limits();
    let findings = doctor::examine(config);
    if let Err(error) = print(&doctor::describe(&findings)) {
        eprintln!("millrace: {error:#}");
        return ExitCode::FAILURE;
    }
    if doctor::may_start(&findings) { ExitCode::SUCCESS } else { ExitCode::from(run::EXIT_ENVIRONMENT) }
}

fn serve(config: Config) -> ExitCode {
    match run::run(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("millrace: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

fn print(text: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    std::io::stdout().write_all(text.as_bytes()).context("cannot write to standard output")
}
