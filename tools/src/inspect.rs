//! `millctl inspect`: reads files of a data directory, shows what they hold, and says what is damaged.
//!
//! Uses the engine's own decoders, and its own idea of which rounds of a journal count. Changes nothing. What a broker
//! writes at the same time may look like damage.

mod checkpoint;
mod directory;
mod journal;
mod segment;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use comfy_table::{CellAlignment, Table, presets};

#[derive(clap::Subcommand)]
pub(crate) enum Arguments {
    /// A shard's journal: its rounds and what they hold.
    Journal {
        /// `journal-NNN` in the data directory.
        file: PathBuf,
    },
    /// A shard's checkpoint: how far each log is durable in its segment.
    Checkpoint {
        /// `checkpoint-NNN` in the data directory.
        file: PathBuf,
    },
    /// A segment: its batches.
    Segment {
        /// A `.log` file in a partition's directory.
        file: PathBuf,
    },
    /// A whole data directory: every log, put together as recovery would do it.
    Directory {
        /// The data directory.
        directory: PathBuf,
    },
}

/// What was found.
#[derive(Debug, Default)]
struct Inspection {
    /// For reading.
    text: String,
    /// One line for each thing that is not as it must be.
    damage: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let inspection = match arguments {
        Arguments::Journal { file } => journal::inspect(&read(file)?),
        Arguments::Checkpoint { file } => checkpoint::inspect(&read(file)?),
        Arguments::Segment { file } => segment::inspect(file, &read(file)?),
        Arguments::Directory { directory } => directory::inspect(directory)?,
    };
    print(&inspection.text)?;
    for line in &inspection.damage {
        eprintln!("damaged: {line}");
    }
    Ok(if inspection.damage.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Prints to the standard output. Whoever reads only the first lines of it has seen enough, and that is no error.
fn print(text: &str) -> anyhow::Result<()> {
    match writeln!(std::io::stdout(), "{text}") {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error).context("printing"),
        _ => Ok(()),
    }
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("reading {}", path.display()))
}

/// An empty table; every column but the first `text_columns` holds numbers.
fn table(header: &[&str], text_columns: usize) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN).set_header(header);
    for column in table.column_iter_mut().skip(text_columns) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
