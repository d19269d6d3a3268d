//! `millbench connections`: many connections that do next to nothing, how long each takes to open, and what they cost the
//! broker.
//!
//! A connection is open once its first request is answered: a broker that only lets the kernel accept it has done nothing.

use std::cell::RefCell;
use std::io::IoSlice;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use millrace_protocol::frame::encode_request;
use millrace_protocol::messages::api_versions::ApiVersionsRequest;
use millrace_protocol::wire::Writer;
use millrace_runtime::glommio::GlommioEnv;
use millrace_runtime::glommio::clock::GlommioClock;
use millrace_runtime::glommio::connection::GlommioConnection;
use millrace_runtime::glommio::executor::{Shards, ShardsConfig};
use millrace_runtime::{Clock as _, Connection as _, Env, Moment, Net as _, TaskClass, TaskHandle as _, Tasks as _};

use super::Session;
use crate::client::cluster::resolve_address;
use crate::client::control::CLIENT_ID;
use crate::client::frames::{FrameReader, send_all};
use crate::drive::unix_ms;
use crate::measured::{Counts, Measured, ProcessUse, Series};
use crate::numbers::u64_of;
use crate::options::setting;
use crate::workload::quantity::parse_duration;
use crate::{cpu, descriptors};

#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Arguments {
    /// Address of a broker, `HOST:PORT`
    #[arg(long)]
    bootstrap: String,
    /// How many connections
    #[arg(long, default_value_t = 1000)]
    count: usize,
    /// How many may be opening at once, of each thread
    #[arg(long, default_value_t = 64)]
    opening: usize,
    /// Let each ask something small this often; without it, they are idle
    #[arg(long, value_parser = parse_duration)]
    every: Option<Duration>,
    /// Keep them open for so long
    #[arg(long, default_value = "10s", value_parser = parse_duration)]
    duration: Duration,
    /// The broker's process, if it runs on this machine, to report what it takes
    #[arg(long)]
    broker_pid: Option<u32>,
    /// Threads of the client
    #[arg(long, default_value_t = 1)]
    threads: u16,
}

enum Message {
    /// All are open, and this is how long each took.
    Open(Series),
    /// They are closed again, and this is how long their questions took.
    Closed(Series),
    Failed(anyhow::Error),
}

pub(crate) fn run(arguments: &Arguments, session: &Session<'_>) -> anyhow::Result<Measured> {
    ensure!(arguments.threads > 0 && arguments.opening > 0, "--threads and --opening: at least one");
    descriptors::make_room_for(arguments.count)?;
    let address = resolve_address(&arguments.bootstrap)?;
    let (sender, messages) = mpsc::channel();
    let is_over = Arc::new(AtomicBool::new(false));
    let resident_before = arguments.broker_pid.map(cpu::resident_bytes).transpose()?;
    let mut measured = nothing_yet(arguments);
    let config =
        ShardsConfig { shard_count: arguments.threads, name_prefix: "millbench".to_owned(), ..ShardsConfig::default() };
    let (shard_arguments, shard_is_over) = (arguments.clone(), Arc::clone(&is_over));
    let shards = Shards::start(&config, move |env| {
        let (arguments, is_over, messages) = (shard_arguments.clone(), Arc::clone(&shard_is_over), sender.clone());
        async move {
            if let Err(error) = hold(&env, &arguments, address, is_over, &messages).await {
                messages.send(Message::Failed(error)).ok();
            }
        }
    });
    let shards = shards.context("starting a thread per core")?;
    let mut shards_left = arguments.threads;
    while shards_left > 0 && take(&messages, &mut measured, session, &is_over) {
        shards_left -= 1;
    }
    let held = Held::begin(arguments.broker_pid)?;
    while held.since.elapsed() < arguments.duration && measured.findings.is_empty() && !session.stop.is_asked() {
        if let Ok(Message::Failed(error)) = messages.recv_timeout(TICK) {
            measured.findings.push(format!("{error:#}"));
        }
    }
    held.end(&mut measured, arguments, resident_before)?;
    is_over.store(true, Ordering::Relaxed);
    // The channel ends with the last shard.
    while take(&messages, &mut measured, session, &is_over) {}
    shards.join();
    measured.series.retain(|series| series.counts.request_count > 0);
    Ok(measured)
}

fn nothing_yet(arguments: &Arguments) -> Measured {
    let every = arguments.every.map_or_else(|| "idle".to_owned(), |every| format!("{every:?}"));
    Measured {
        task: "connections".to_owned(),
        target: arguments.bootstrap.clone(),
        settings: vec![setting("count", arguments.count.to_string()), setting("every", every)],
        results: Vec::new(),
        start_unix_ms: unix_ms(),
        elapsed: arguments.duration,
        series: vec![Series::new("open"), Series::new("ask")],
        broker: None,
        client: ProcessUse::default(),
        findings: Vec::new(),
    }
}

/// Takes in what the next shard says. False if none is left, or one has failed, which ends the others.
fn take(
    messages: &mpsc::Receiver<Message>,
    measured: &mut Measured,
    session: &Session<'_>,
    is_over: &AtomicBool,
) -> bool {
    let message = loop {
        match messages.recv_timeout(TICK) {
            Ok(message) => break message,
            Err(mpsc::RecvTimeoutError::Disconnected) => return false,
            Err(mpsc::RecvTimeoutError::Timeout) if session.stop.is_asked() => is_over.store(true, Ordering::Relaxed),
            Err(mpsc::RecvTimeoutError::Timeout) => {}
        }
    };
    match message {
        Message::Open(series) => measured.series[0].merge(series),
        Message::Closed(series) => measured.series[1].merge(series),
        Message::Failed(error) => {
            measured.findings.push(format!("{error:#}"));
            is_over.store(true, Ordering::Relaxed);
            return false;
        }
    }
    true
}

/// From when all connections are open.
struct Held {
    since: Stopwatch,
    client_cpu: Duration,
    broker_cpu: Option<Duration>,
}

struct Stopwatch(Moment);

impl Stopwatch {
    fn elapsed(&self) -> Duration {
        GlommioClock::default().now() - self.0
    }
}

impl Held {
    fn begin(broker_pid: Option<u32>) -> anyhow::Result<Self> {
        let broker_cpu = broker_pid.map(cpu::of_process).transpose()?;
        let since = Stopwatch(GlommioClock::default().now());
        Ok(Self { since, client_cpu: cpu::of_this_process(), broker_cpu })
    }

    fn end(&self, measured: &mut Measured, arguments: &Arguments, resident_before: Option<u64>) -> anyhow::Result<()> {
        measured.elapsed = self.since.elapsed();
        measured.client = ProcessUse {
            cpu: cpu::of_this_process().saturating_sub(self.client_cpu),
            resident_bytes_max: cpu::resident_bytes(std::process::id())?,
        };
        let (Some(pid), Some(cpu_before), Some(before)) = (arguments.broker_pid, self.broker_cpu, resident_before)
        else {
            return Ok(());
        };
        let resident_bytes_max = cpu::resident_bytes(pid)?;
        let cpu = cpu::of_process(pid)?.saturating_sub(cpu_before);
        measured.broker = Some(ProcessUse { cpu, resident_bytes_max });
        let grown = resident_bytes_max.saturating_sub(before);
        let each = grown / u64_of(arguments.count).max(1);
        let share = 100.0 * cpu.as_secs_f64() / measured.elapsed.as_secs_f64();
        measured.results.push(setting("broker's memory per connection", format!("{each} bytes")));
        measured.results.push(setting("broker's CPU while they are open", format!("{share:.2} % of a core")));
        Ok(())
    }
}

/// Opens this shard's share, keeps it until the run is over, and lets it ask now and then.
async fn hold(
    env: &GlommioEnv,
    arguments: &Arguments,
    address: std::net::SocketAddr,
    is_over: Arc<AtomicBool>,
    messages: &mpsc::Sender<Message>,
) -> anyhow::Result<()> {
    let start = env.clock().now();
    let (threads, index) = (usize::from(arguments.threads), usize::from(env.shard_index()));
    let share = arguments.count / threads + usize::from(index < arguments.count % threads);
    let state = Rc::new(Opening {
        is_over: Arc::clone(&is_over),
        left: RefCell::new(share),
        open: RefCell::default(),
        series: RefCell::new(Series::new("open")),
    });
    let mut handles = Vec::new();
    for _ in 0..arguments.opening.min(share) {
        let (env_of_task, state) = (env.clone(), Rc::clone(&state));
        handles
            .push(env.tasks().spawn(TaskClass::Network, async move { state.open(&env_of_task, address, start).await }));
    }
    for handle in handles {
        handle.join().await?;
    }
    messages.send(Message::Open(state.series.replace(Series::new("")))).ok();

    let mut open = state.open.take();
    let mut series = Series::new("ask");
    let held = env.clock().now();
    let mut asked_count = 0_u32;
    while !is_over.load(Ordering::Relaxed) {
        let Some(every) = arguments.every.filter(|_| !open.is_empty()) else {
            env.clock().sleep(TICK).await;
            continue;
        };
        let due = held + (every / u32::try_from(open.len())?).saturating_mul(asked_count);
        let now = env.clock().now();
        if due > now {
            env.clock().sleep((due - now).min(TICK)).await;
            continue;
        }
        let place = usize::try_from(asked_count)? % open.len();
        ask(&mut open[place]).await?;
        asked_count += 1;
        let now = env.clock().now();
        series.take(now - held, now - due, Counts { request_count: 1, ..Counts::default() });
    }
    for asking in &open {
        asking.connection.shutdown();
    }
    messages.send(Message::Closed(series)).ok();
    Ok(())
}

/// What the tasks that open connections share.
struct Opening {
    is_over: Arc<AtomicBool>,
    left: RefCell<usize>,
    open: RefCell<Vec<Asking>>,
    series: RefCell<Series>,
}

struct Asking {
    connection: GlommioConnection,
    frames: FrameReader<GlommioConnection>,
}

impl Opening {
    async fn open(&self, env: &GlommioEnv, address: std::net::SocketAddr, start: Moment) -> anyhow::Result<()> {
        loop {
            {
                let mut left = self.left.borrow_mut();
                if *left == 0 || self.is_over.load(Ordering::Relaxed) {
                    return Ok(());
                }
                *left -= 1;
            }
            let began = env.clock().now();
            let connection = env.net().connect(address).await.with_context(|| format!("connecting to {address}"))?;
            let mut asking = Asking { frames: FrameReader::new(connection.clone(), BUFFER_BYTES), connection };
            ask(&mut asking).await?;
            let now = env.clock().now();
            let counts = Counts { request_count: 1, ..Counts::default() };
            self.series.borrow_mut().take(now - start, now - began, counts);
            self.open.borrow_mut().push(asking);
        }
    }
}

async fn ask(asking: &mut Asking) -> anyhow::Result<()> {
    let mut writer = Writer::new();
    encode_request(&mut writer, 0, 1, Some(CLIENT_ID), &ApiVersionsRequest::default())?;
    send_all(&asking.connection, &mut [IoSlice::new(writer.bytes())]).await.context("asking")?;
    let answer = asking.frames.next().await.context("waiting for an answer")?;
    answer.context("the broker closed a connection")?;
    Ok(())
}

const TICK: Duration = Duration::from_millis(20);
const BUFFER_BYTES: usize = 1024;
