//! Millrace beside Apache Kafka: the same Java clients, the same machine, one broker after the other, in one run.
//!
//! Kafka has its defaults, under which it flushes nothing; Millrace has its own, under which an acknowledged record is on
//! the device. Both are started anew for each session, and sessions alternate. Modules in reading order: `session` does to
//! one broker what is to be measured, `load` runs Kafka's performance programs, `process` asks the kernel what the broker
//! took, `report` is the table.

mod load;
mod process;
mod report;
mod session;

use clap::Parser;
use millrace_compat::Broker;
use millrace_compat::apache::Apache;
use millrace_compat::process::Running;

use crate::session::Session;

/// What is measured, and how long.
#[derive(Parser)]
struct Arguments {
    /// How often each broker has its turn.
    #[arg(long, default_value_t = 2)]
    pairs: usize,
    /// A tenth of the records: says that it works, and little of how fast.
    #[arg(long)]
    quick: bool,
    /// What cargo gives to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

/// A broker that can be measured.
trait Peer {
    /// `host:port` for a client.
    fn address(&self) -> &str;
    /// The process, while it runs.
    fn process(&self) -> &Running;
    /// Ends in order and starts again on the same directory.
    fn restart(&mut self);
}

impl Peer for Broker {
    fn address(&self) -> &str {
        self.address()
    }

    fn process(&self) -> &Running {
        self.process()
    }

    fn restart(&mut self) {
        assert!(self.stop().success(), "a stop in order");
        self.start_again();
    }
}

impl Peer for Apache {
    fn address(&self) -> &str {
        self.address()
    }

    fn process(&self) -> &Running {
        self.process()
    }

    fn restart(&mut self) {
        self.stop();
        self.start_again();
    }
}

fn main() {
    let Arguments { pairs, quick, bench: _ } = Arguments::parse();
    let session = Session { share: if quick { 10 } else { 1 } };
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for pair in 1..=pairs {
        eprintln!("pair {pair} of {pairs}: Millrace");
        ours.push(session.run(Broker::start_as_usual));
        eprintln!("pair {pair} of {pairs}: Apache Kafka");
        theirs.push(session.run(Apache::start_as_usual));
    }
    println!("{}", report::table(&ours, &theirs));
}
