//! Runs one measurement to its end on a shard of the project's own runtime.

use std::sync::mpsc;

use anyhow::Context as _;
use millrace_runtime::glommio::GlommioEnv;
use millrace_runtime::glommio::executor::{Shards, ShardsConfig};
use millrace_runtime::{Env as _, TaskClass, TaskHandle as _, Tasks as _};

/// Starts one shard, runs `work` on it in `class`, and waits for its answer.
pub(super) fn run<T, Work, Ended>(name: &str, class: TaskClass, work: Work) -> anyhow::Result<T>
where
    T: Send + 'static,
    Work: Fn(GlommioEnv) -> Ended + Clone + Send + 'static,
    Ended: Future<Output = anyhow::Result<T>> + 'static,
{
    let (sender, receiver) = mpsc::channel();
    let config = ShardsConfig { name_prefix: name.to_owned(), ..ShardsConfig::default() };
    let shards = Shards::start(&config, move |env| {
        let (sender, work) = (sender.clone(), work.clone());
        async move {
            let outcome = env.tasks().spawn(class, work(env.clone())).join().await;
            // Whoever asked waits until the shard has ended.
            sender.send(outcome).ok();
        }
    });
    shards.context("starting a shard")?.join();
    receiver.recv().context("the shard ended without an answer")?
}
