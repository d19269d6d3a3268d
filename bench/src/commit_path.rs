//! `millbench commit-path`: what it costs to make a round of appends durable, for each way of doing it.
//!
//! docs/decisions/001-commit-path.md rests on these numbers. Everything runs through `Env` on the project's own runtime,
//! on one shard, with the journal's real encoding, so the numbers hold what the engine would pay.
//!
//! - [`workload`]: which rounds there are and how large; pure.
//! - [`driver`]: lays the files out and runs rounds; [`micro`] measures single operations.
//! - [`measure`]: times rounds of all variants in turn, so that a disturbance hits all of them.
//! - [`report`]: the tables and the JSON.

mod driver;
mod measure;
mod micro;
mod report;
mod workload;

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use millrace_runtime::glommio::executor::{Shards, ShardsConfig};
use millrace_runtime::{Disk, Env, TaskClass, TaskHandle, Tasks};

use report::{Machine, Report};
use workload::Cell;

use crate::report::print_with_json;

#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Arguments {
    /// A directory on the device to measure. A folder is made in it and removed at the end.
    #[arg(long, default_value = ".")]
    dir: PathBuf,
    /// How many files take part in a round. Each file is one descriptor.
    #[arg(long, value_delimiter = ',', default_value = "1,10,100,1000,10000")]
    files: Vec<usize>,
    /// How many bytes each file gets in a round.
    #[arg(long, value_delimiter = ',', default_value = "1024,4096,65536")]
    piece_bytes: Vec<usize>,
    /// How long each combination of the two is measured, all variants together. Small ones end earlier.
    #[arg(long, default_value_t = 20.0)]
    seconds_per_cell: f64,
    /// Leave out the table of single operations.
    #[arg(long)]
    rounds_only: bool,
    /// Write the numbers as JSON to this file; `-` is the standard output, and the tables go to the standard error.
    #[arg(long)]
    json: Option<PathBuf>,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let cells = cells(arguments)?;
    crate::descriptors::make_room_for(cells.iter().map(|cell| cell.file_count).max().unwrap_or(0))?;
    let directory = arguments.dir.join(format!("millbench-commit-path-{}", std::process::id()));
    std::fs::create_dir_all(&directory).with_context(|| format!("making {}", directory.display()))?;
    let outcome = run_on_a_shard(arguments, &directory, cells);
    // The measurement's error says more than that of a removal that follows it.
    let removal = std::fs::remove_dir_all(&directory).with_context(|| format!("removing {}", directory.display()));
    let report = outcome?;
    removal?;
    print_with_json(&report.tables(), arguments.json.as_deref(), &report)
}

fn cells(arguments: &Arguments) -> anyhow::Result<Vec<Cell>> {
    let budget = Duration::try_from_secs_f64(arguments.seconds_per_cell).context("--seconds-per-cell")?;
    ensure!(arguments.files.iter().all(|count| *count > 0), "--files: a round has at least one file");
    ensure!(
        arguments.piece_bytes.iter().all(|bytes| (1..=workload::PIECE_BYTES_MAX).contains(bytes)),
        "--piece-bytes: 1 to {}",
        workload::PIECE_BYTES_MAX
    );
    let mut cells = Vec::new();
    for &piece_bytes in &arguments.piece_bytes {
        for &file_count in &arguments.files {
            cells.push(Cell { file_count, piece_bytes, budget });
        }
    }
    Ok(cells)
}

fn run_on_a_shard(arguments: &Arguments, directory: &Path, cells: Vec<Cell>) -> anyhow::Result<Report> {
    let (sender, receiver) = mpsc::channel();
    let (directory, with_micro) = (directory.to_owned(), !arguments.rounds_only);
    let budget = cells.first().map(|cell| cell.budget).context("nothing to measure")?;
    let config = ShardsConfig { name_prefix: "millbench".to_owned(), ..ShardsConfig::default() };
    let shards = Shards::start(&config, move |env| {
        let (sender, cells, directory) = (sender.clone(), cells.clone(), directory.clone());
        async move {
            let measuring = measure_all(env.clone(), directory, cells, with_micro.then_some(budget));
            // Where the engine runs its rounds.
            let report = env.tasks().spawn(TaskClass::Flush, measuring).join().await;
            sender.send(report).ok();
        }
    });
    shards.context("starting a shard")?.join();
    receiver.recv().context("the shard ended without a report")?
}

async fn measure_all<E: Env>(
    env: E,
    directory: PathBuf,
    cells: Vec<Cell>,
    micro_budget: Option<Duration>,
) -> anyhow::Result<Report> {
    let scope = env.disk().flush_scope(&directory).await?;
    let mut report = Report::new(Machine::look(scope));
    if let Some(budget) = micro_budget {
        eprintln!("single operations");
        report.single = micro::measure(&env, &directory, budget).await.context("single operations")?;
        report.write_zeroes = micro::write_zeroes(&directory).context("FALLOC_FL_WRITE_ZEROES")?;
    }
    for cell in cells {
        eprintln!("{} files, {} bytes each", cell.file_count, cell.piece_bytes);
        let rows = measure::cell(&env, &directory, &cell).await;
        report.rounds.extend(rows.with_context(|| format!("{cell:?}"))?);
    }
    report.machine.look_again();
    Ok(report)
}
