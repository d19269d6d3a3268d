//! kcat, the command-line client over librdkafka.

use std::process::Command;

use crate::process::{self, Finished, Running};

/// Calls kcat for one broker.
pub struct Kcat<'a> {
    address: &'a str,
}

impl<'a> Kcat<'a> {
    /// For the broker at `address`.
    pub fn new(address: &'a str) -> Kcat<'a> {
        Kcat { address }
    }

    /// Runs kcat with `arguments` and `input` on its stdin.
    #[track_caller]
    pub fn run(&self, arguments: &[&str], input: impl Into<Vec<u8>>) -> Finished {
        process::run(&mut self.command(arguments), input)
    }

    /// Starts kcat with `arguments`, for a consumer that does not end by itself.
    pub fn start(&self, arguments: &[&str]) -> Running {
        Running::start(&mut self.command(arguments), Vec::new())
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("kcat");
        // -q leaves notes about the end of partitions out; errors stay.
        command.args(["-b", self.address, "-q"]).args(arguments);
        command
    }

    /// Publishes each line of `input` to `topic` with acks=all unless `arguments` say otherwise.
    #[track_caller]
    pub fn produce(&self, topic: &str, arguments: &[&str], input: impl Into<Vec<u8>>) {
        // -E: the first record that cannot be delivered ends kcat with an error.
        let fixed = ["-P", "-E", "-t", topic, "-X", "acks=all"];
        self.run(&[&fixed[..], arguments].concat(), input).output();
    }

    /// Everything in `topic` from its beginning to its present end, each record written by kcat's `format`.
    #[track_caller]
    pub fn read_all(&self, topic: &str, format: &str) -> Vec<u8> {
        self.run(&["-C", "-t", topic, "-o", "beginning", "-e", "-f", format], "").output()
    }
}

/// Lines of output as text, without their line feeds.
#[track_caller]
pub fn lines_of(output: &[u8]) -> Vec<&str> {
    std::str::from_utf8(output).expect("what the tests publish is text").lines().collect()
}
