//! Small requests to a server that does nothing with them, both ends on the project's own runtime, one thread each.
//!
//! 1. The server takes as many connections as it was told, answers each request, and ends when all have closed.
//! 2. The client connects, then asks as fast as it is answered, one request in flight per connection (closed loop).
//! 3. Then it asks at a fixed rate (open loop): every request has an intended time, and its latency counts from there,
//!    so a request that had to wait for its turn is as late as an application would have found it.
//!
//! The server's CPU time is that of its thread, which it tells in the answer to a marked request.

use std::io::{self, IoSlice};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use futures_util::future::try_join_all;
use hdrhistogram::Histogram;
use millrace_runtime::glommio::executor::{Shards, ShardsConfig};
use millrace_runtime::{Clock, Connection, Env, Listener, Moment, Net, TaskClass, TaskHandle, Tasks};

use super::on_shard;
use super::report::EchoRow;
use crate::cpu;
use crate::numbers::{float, histogram, quantile_ms, record, u64_of};

type ConnectionOf<E> = <<E as Env>::Net as Net>::Connection;

/// Measures with `connection_count` connections, half of `duration` in closed loop and half in open loop.
pub(super) fn measure(connection_count: usize, rate: u64, duration: Duration) -> anyhow::Result<EchoRow> {
    let (sender, receiver) = mpsc::channel();
    let config = ShardsConfig { name_prefix: "echo".to_owned(), ..ShardsConfig::default() };
    let server = Shards::start(&config, move |env| {
        let sender = sender.clone();
        async move {
            if let Err(error) = serve(&env, connection_count, &sender).await {
                eprintln!("millbench: the echo server: {error}");
            }
        }
    })
    .context("starting the server's shard")?;
    let address = receiver.recv().context("the server does not listen")?;
    let outcome = on_shard::run("echo-client", TaskClass::Network, move |env| async move {
        ask(env, address, connection_count, rate, duration).await
    });
    if outcome.is_err() {
        // The server may still wait for connections that the client never made; each of these ends at once.
        for _ in 0..connection_count {
            TcpStream::connect(address).ok();
        }
    }
    server.join();
    outcome
}

async fn serve<E: Env>(env: &E, connection_count: usize, address: &mpsc::Sender<SocketAddr>) -> io::Result<()> {
    let listener = env.net().listen(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    // The receiver waits for exactly this.
    address.send(listener.local_address()).ok();
    let mut tasks = Vec::new();
    for _ in 0..connection_count {
        let connection = env.net().adopt(listener.accept().await?)?;
        tasks.push(env.tasks().spawn(TaskClass::Network, async move { answer::<E>(&connection).await }));
    }
    for task in tasks {
        // A connection that breaks is the client's to report.
        task.join().await.ok();
    }
    Ok(())
}

/// Answers requests until the client closes. All that arrived together is answered with one send.
async fn answer<E: Env>(connection: &ConnectionOf<E>) -> io::Result<()> {
    let mut buffer = vec![0; RECEIVE_BYTES];
    let mut answers = Vec::new();
    let mut filled = 0;
    loop {
        let count = connection.receive(&mut buffer[filled..]).await?;
        if count == 0 {
            return Ok(());
        }
        filled += count;
        answers.clear();
        let whole = filled - filled % REQUEST_BYTES;
        for request in buffer[..whole].chunks_exact(REQUEST_BYTES) {
            let start = answers.len();
            answers.resize(start + ANSWER_BYTES, 0);
            if request[0] == MARKED {
                let nanos = u64::try_from(cpu::of_this_thread().as_nanos()).unwrap_or(u64::MAX);
                answers[start..start + 8].copy_from_slice(&nanos.to_be_bytes());
            }
        }
        buffer.copy_within(whole..filled, 0);
        filled -= whole;
        send_all::<E>(connection, &answers).await?;
    }
}

async fn send_all<E: Env>(connection: &ConnectionOf<E>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let count = connection.send_vectored(&[IoSlice::new(bytes)]).await?;
        bytes = &bytes[count..];
    }
    Ok(())
}

async fn ask<E: Env>(
    env: E,
    address: SocketAddr,
    connection_count: usize,
    rate: u64,
    duration: Duration,
) -> anyhow::Result<EchoRow> {
    let mut connections = Vec::new();
    for _ in 0..connection_count {
        connections.push(env.net().connect(address).await.context("connecting")?);
    }
    let closed = ask_all(&env, &connections, duration / 2, None).await.context("closed loop")?;
    let reached = closed.requests_per_second();
    let open_rate = float(rate).min(reached / 2.0);
    let open = ask_all(&env, &connections, duration / 2, Some(open_rate)).await.context("open loop")?;
    ensure!(!closed.latency.is_empty() && !open.latency.is_empty(), "too short: no request was answered");
    Ok(EchoRow {
        connection_count,
        closed_requests_per_second: reached,
        closed_cpu_us_per_request: closed.cpu_us_per_request(),
        open_requests_per_second: open.requests_per_second(),
        open_cpu_us_per_request: open.cpu_us_per_request(),
        p50_ms: quantile_ms(&open.latency, 0.5),
        p99_ms: quantile_ms(&open.latency, 0.99),
        p99_9_ms: quantile_ms(&open.latency, 0.999),
    })
}

/// What one loop achieved.
struct Loop {
    latency: Histogram<u64>,
    elapsed: Duration,
    server_cpu: Duration,
}

impl Loop {
    fn requests_per_second(&self) -> f64 {
        float(self.latency.len()) / self.elapsed.as_secs_f64()
    }

    fn cpu_us_per_request(&self) -> f64 {
        self.server_cpu.as_secs_f64() * 1e6 / float(self.latency.len())
    }
}

/// Asks over all connections at once: at `rate` requests per second in all, or each as soon as it is answered.
async fn ask_all<E: Env>(
    env: &E,
    connections: &[ConnectionOf<E>],
    duration: Duration,
    rate: Option<f64>,
) -> anyhow::Result<Loop> {
    let cpu_before = server_cpu::<E>(&connections[0]).await?;
    let start = env.clock().now();
    let mut tasks = Vec::new();
    for (index, connection) in connections.iter().enumerate() {
        let schedule = rate.map(|rate| Schedule::of(index, connections.len(), rate));
        let (env, connection) = (env.clone(), connection.clone());
        let asking = async move { ask_one(&env, &connection, start, duration, schedule).await };
        tasks.push(asking);
    }
    let handles: Vec<_> = tasks.into_iter().map(|task| env.tasks().spawn(TaskClass::Network, task)).collect();
    let histograms = try_join_all(handles.into_iter().map(TaskHandle::join)).await?;
    let elapsed = env.clock().now() - start;
    let server_cpu = server_cpu::<E>(&connections[0]).await?.saturating_sub(cpu_before);
    let mut latency = histogram();
    for part in histograms {
        latency.add(part).context("all histograms have the same bounds")?;
    }
    Ok(Loop { latency, elapsed, server_cpu })
}

/// When one connection of several is to ask, since the start.
#[derive(Clone, Copy, Debug)]
struct Schedule {
    first: Duration,
    interval: Duration,
}

impl Schedule {
    /// The connections take turns, evenly spread.
    fn of(connection_index: usize, connection_count: usize, rate: f64) -> Self {
        let step = 1.0 / rate;
        Self {
            first: Duration::from_secs_f64(step * float(u64_of(connection_index))),
            interval: Duration::from_secs_f64(step * float(u64_of(connection_count))),
        }
    }
}

async fn ask_one<E: Env>(
    env: &E,
    connection: &ConnectionOf<E>,
    start: Moment,
    duration: Duration,
    schedule: Option<Schedule>,
) -> io::Result<Histogram<u64>> {
    let mut latency = histogram();
    let mut intended = schedule.map_or(Duration::ZERO, |schedule| schedule.first);
    loop {
        let mut since_start = env.clock().now() - start;
        if let Some(schedule) = schedule {
            // Requests that were due in time are sent however late it is by now.
            if intended >= duration {
                return Ok(latency);
            }
            let early = intended.saturating_sub(since_start);
            if !early.is_zero() {
                env.clock().sleep(early).await;
            }
            since_start = intended;
            intended += schedule.interval;
        } else if since_start >= duration {
            return Ok(latency);
        }
        request::<E>(connection, 0).await?;
        record(&mut latency, (env.clock().now() - start).saturating_sub(since_start));
    }
}

/// CPU time of the server's thread so far.
async fn server_cpu<E: Env>(connection: &ConnectionOf<E>) -> io::Result<Duration> {
    let answer = request::<E>(connection, MARKED).await?;
    let (nanos, _) = answer.split_first_chunk().expect("an answer has more than eight bytes");
    Ok(Duration::from_nanos(u64::from_be_bytes(*nanos)))
}

/// One request and its answer.
async fn request<E: Env>(connection: &ConnectionOf<E>, mark: u8) -> io::Result<[u8; ANSWER_BYTES]> {
    let mut request = [0; REQUEST_BYTES];
    request[0] = mark;
    send_all::<E>(connection, &request).await?;
    let mut answer = [0; ANSWER_BYTES];
    let mut filled = 0;
    while filled < ANSWER_BYTES {
        let count = connection.receive(&mut answer[filled..]).await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        filled += count;
    }
    Ok(answer)
}

const REQUEST_BYTES: usize = 1024;
const ANSWER_BYTES: usize = 100;
const _: () = assert!(ANSWER_BYTES >= 8, "an answer has room for a CPU time");
const RECEIVE_BYTES: usize = 16 * REQUEST_BYTES;
/// First byte of a request that asks for the server's CPU time.
const MARKED: u8 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_take_turns_at_the_rate_asked_for() {
        let schedules: Vec<_> = (0..4).map(|index| Schedule::of(index, 4, 1000.0)).collect();
        let firsts: Vec<_> = schedules.iter().map(|schedule| schedule.first.as_millis()).collect();
        assert_eq!(firsts, [0, 1, 2, 3]);
        assert!(schedules.iter().all(|schedule| schedule.interval == Duration::from_millis(4)));
    }
}
