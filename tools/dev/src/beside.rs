//! `cargo dev beside-kafka`: Millrace beside a real Apache Kafka, loaded by the same clients (tests/compat/benches).

use crate::clients;
use crate::pipeline::Pipeline;
use crate::repository;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// How often each broker has its turn.
    #[arg(long, default_value_t = 2)]
    pairs: usize,
    /// A tenth of the records.
    #[arg(long)]
    quick: bool,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let root = repository::root()?;
    clients::install(&root, &repository::target()?)?;
    let mut pipeline = Pipeline::new(root);
    pipeline.cargo(&["build", "--release", "--package", "millrace-server"])?;
    let pairs = arguments.pairs.to_string();
    let mut bench = vec!["bench", "--package", "millrace-compat", "--bench", "beside_kafka", "--", "--pairs", &pairs];
    bench.extend(arguments.quick.then_some("--quick"));
    pipeline.cargo(&bench)
}
