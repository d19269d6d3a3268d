//! Bytes through loopback connections: one thread and one blocking socket at either end of each.
//!
//! The CPU time of each thread is counted on its own. The kernel does most of the receiving side's TCP work on the
//! sender's time, because loopback hands packets over within the sender's system call; so it is for a broker too.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};

use super::report::LoopbackRow;
use crate::cpu;
use crate::numbers::{float, seconds_per_gb, u64_of};

/// Sends for `duration` over `connection_count` connections at once.
pub(super) fn measure(connection_count: usize, duration: Duration) -> anyhow::Result<LoopbackRow> {
    let pairs =
        (0..connection_count).map(|_| connected_pair()).collect::<io::Result<Vec<_>>>().context("connecting")?;
    let start = now();
    let (mut sent, mut received) = (Side::default(), Side::default());
    std::thread::scope(|scope| {
        let threads: Vec<_> = pairs
            .into_iter()
            .map(|(near, far)| (scope.spawn(move || send(near, start, duration)), scope.spawn(move || receive(far))))
            .collect();
        for (sender, receiver) in threads {
            sent.add(&sender.join().map_err(|_| anyhow!("a sender panicked"))?.context("sending")?);
            received.add(&receiver.join().map_err(|_| anyhow!("a receiver panicked"))?.context("receiving")?);
        }
        anyhow::Ok(())
    })?;
    let elapsed = start.elapsed();
    anyhow::ensure!(sent.bytes == received.bytes, "{} bytes sent, {} received", sent.bytes, received.bytes);
    Ok(LoopbackRow {
        connection_count,
        bytes_per_second: float(received.bytes) / elapsed.as_secs_f64(),
        sender_cpu_seconds_per_gb: seconds_per_gb(sent.cpu, sent.bytes),
        receiver_cpu_seconds_per_gb: seconds_per_gb(received.cpu, received.bytes),
    })
}

/// What the threads of one side did.
#[derive(Default)]
struct Side {
    bytes: u64,
    cpu: Duration,
}

impl Side {
    fn add(&mut self, other: &Self) {
        self.bytes += other.bytes;
        self.cpu += other.cpu;
    }
}

fn connected_pair() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let near = TcpStream::connect(listener.local_addr()?)?;
    let (far, _) = listener.accept()?;
    near.set_nodelay(true)?;
    Ok((near, far))
}

fn send(mut stream: TcpStream, start: Instant, duration: Duration) -> io::Result<Side> {
    let buffer = vec![7; SEND_BYTES];
    let cpu_before = cpu::of_this_thread();
    let mut bytes = 0;
    loop {
        stream.write_all(&buffer)?;
        bytes += u64_of(SEND_BYTES);
        if start.elapsed() >= duration {
            break;
        }
    }
    stream.shutdown(Shutdown::Write)?;
    Ok(Side { bytes, cpu: cpu::of_this_thread().saturating_sub(cpu_before) })
}

fn receive(mut stream: TcpStream) -> io::Result<Side> {
    let mut buffer = vec![0; SEND_BYTES];
    let cpu_before = cpu::of_this_thread();
    let mut bytes = 0;
    loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        bytes += u64_of(count);
    }
    Ok(Side { bytes, cpu: cpu::of_this_thread().saturating_sub(cpu_before) })
}

#[expect(clippy::disallowed_methods, reason = "a client program outside the simulator")]
fn now() -> Instant {
    Instant::now()
}

/// A batch of the size that the broker's figures are given for.
const SEND_BYTES: usize = 256 * 1024;
