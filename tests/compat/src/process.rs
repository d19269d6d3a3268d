//! Child processes that cannot be lost and cannot hang a test.
//!
//! Invariants: a [`Running`] is killed and reaped when it is dropped, and every wait has a limit. A wait is a poll of the
//! child's process descriptor or a receive from the thread that reads its output; no loop looks at a clock.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, Signal};

/// How long a client may take for anything a test asks of it. Far beyond what it needs: past it the test has failed.
pub const CLIENT_LIMIT: Duration = Duration::from_mins(2);

/// What a finished child left.
#[derive(Debug)]
pub struct Finished {
    /// The command line, for messages.
    pub command: String,
    /// How it ended.
    pub status: ExitStatus,
    /// Everything it wrote to stdout that [`Running::next_line`] had not taken.
    pub stdout: Vec<u8>,
    /// Everything it wrote to stderr.
    pub stderr: String,
}

impl Finished {
    /// The output of a child that succeeded; panics, with its stderr, for one that did not.
    #[track_caller]
    pub fn output(self) -> Vec<u8> {
        assert!(self.status.success(), "{}: {}\n{}", self.command, self.status, self.stderr);
        self.stdout
    }

    /// [`Self::output`] as text.
    #[track_caller]
    pub fn text(self) -> String {
        String::from_utf8(self.output()).expect("this client writes UTF-8")
    }
}

/// A child at work.
pub struct Running {
    command: String,
    child: Child,
    /// Lines of stdout with their line feeds; closed at its end.
    lines: Receiver<Vec<u8>>,
    /// Where its stderr goes: a file, so that no thread and no pipe can hold it back.
    stderr: PathBuf,
    _stderr_folder: tempfile::TempDir,
    /// Feeds stdin. A child that ends early closes the pipe, which ends the thread.
    writer: Option<JoinHandle<()>>,
    /// Kept open for a child that runs until its stdin ends.
    stdin: Option<ChildStdin>,
    reaped: Option<ExitStatus>,
}

impl Running {
    /// Starts `command` with `input` on its stdin.
    pub fn start(command: &mut Command, input: Vec<u8>) -> Running {
        let mut running = Running::start_open(command);
        let mut stdin = running.stdin.take().expect("it was just opened");
        running.writer = Some(spawn("stdin", move || {
            // An error is the child's early end, which its exit status tells better.
            drop(stdin.write_all(&input));
        }));
        running
    }

    /// Starts `command` with a stdin that has nothing and stays open until [`Self::close_stdin`].
    pub fn start_open(command: &mut Command) -> Running {
        let described = format!("{command:?}");
        let folder = tempfile::tempdir().expect("the machine has a temporary directory");
        let stderr = folder.path().join("stderr");
        let stderr_file = File::create(&stderr).expect("a fresh directory takes a file");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(stderr_file);
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{described}: {error}"));
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().expect("stdout is piped");
        let (sender, lines) = mpsc::channel();
        // Not joined: it ends with the pipe, which a stray grandchild could hold open.
        spawn("stdout", move || {
            let mut reader = BufReader::new(stdout);
            let mut line = Vec::new();
            while reader.read_until(b'\n', &mut line).is_ok_and(|bytes| bytes > 0) {
                // Whoever stopped listening must not stop the child: the pipe is read to its end.
                drop(sender.send(std::mem::take(&mut line)));
            }
        });
        let command = described;
        Running { command, child, lines, stderr, _stderr_folder: folder, writer: None, stdin, reaped: None }
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Ends stdin, which tells a child that waits for it to end.
    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// The next line of stdout without its line feed, if one comes within `limit`; panics at the end of stdout.
    #[track_caller]
    pub fn poll_line(&mut self, limit: Duration) -> Option<String> {
        match self.lines.recv_timeout(limit) {
            Ok(line) => Some(text_of(&line)),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => panic!("{}: ended\n{}", self.command, self.stderr()),
        }
    }

    /// The next line of stdout without its line feed; panics if none comes within `limit`, or none ever.
    #[track_caller]
    pub fn next_line(&mut self, limit: Duration) -> String {
        let line = self.poll_line(limit);
        line.unwrap_or_else(|| panic!("{}: no line within {limit:?}\n{}", self.command, self.stderr()))
    }

    /// Everything on stderr so far.
    pub fn stderr(&self) -> String {
        let mut bytes = Vec::new();
        let read = File::open(&self.stderr).and_then(|mut file| file.read_to_end(&mut bytes));
        read.map_or_else(|error| error.to_string(), |_| String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Sends a signal; the child may be past caring.
    pub fn signal(&self, signal: Signal) {
        if self.reaped.is_none() {
            let _ = rustix::process::kill_process(Pid::from_child(&self.child), signal);
        }
    }

    /// Waits for the end; panics, the child killed, if it does not come within `limit`.
    #[track_caller]
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        if let Some(status) = self.reaped {
            return status;
        }
        if !self.ends_within(limit) {
            self.kill();
            panic!("{}: still running after {limit:?}\n{}", self.command, self.stderr());
        }
        self.reap()
    }

    /// Waits for the end, but no longer than `limit`; says whether it came.
    pub fn ends_within(&self, limit: Duration) -> bool {
        let process = Pid::from_child(&self.child);
        let descriptor = rustix::process::pidfd_open(process, PidfdFlags::empty()).expect("an unreaped child exists");
        let limit_spec = Timespec::try_from(limit).expect("limits are minutes");
        let mut interest = [PollFd::new(&descriptor, PollFlags::IN)];
        let ready = loop {
            match rustix::event::poll(&mut interest, Some(&limit_spec)) {
                Err(rustix::io::Errno::INTR) => {}
                polled => break polled.expect("polling one descriptor needs nothing that can run out"),
            }
        };
        ready != 0
    }

    /// Waits for the end and takes what the child left.
    #[track_caller]
    pub fn finish(mut self, limit: Duration) -> Finished {
        let status = self.wait(limit);
        if let Some(writer) = self.writer.take() {
            writer.join().expect("the writer does not panic");
        }
        let mut stdout = Vec::new();
        loop {
            match self.lines.recv_timeout(limit) {
                Ok(line) => stdout.extend_from_slice(&line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("{}: ended, but its stdout did not", self.command),
            }
        }
        Finished { command: self.command.clone(), status, stdout, stderr: self.stderr() }
    }

    /// Kills with SIGKILL and reaps.
    pub fn kill(&mut self) -> ExitStatus {
        self.signal(Signal::KILL);
        self.reap()
    }

    fn reap(&mut self) -> ExitStatus {
        let status = self.child.wait().expect("a child can be waited for once");
        self.reaped = Some(status);
        status
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.reaped.is_none() {
            self.kill();
        }
    }
}

/// Runs `command` with `input` on its stdin to its end.
#[track_caller]
pub fn run(command: &mut Command, input: impl Into<Vec<u8>>) -> Finished {
    Running::start(command, input.into()).finish(CLIENT_LIMIT)
}

fn text_of(line: &[u8]) -> String {
    String::from_utf8_lossy(line.strip_suffix(b"\n").unwrap_or(line)).into_owned()
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    thread::Builder::new().name(name.to_owned()).spawn(body).expect("a test may start a few threads")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn input_and_both_outputs_arrive() {
        let finished = run(&mut shell("cat; echo oops >&2; exit 3"), "a\nb");
        assert_eq!(finished.stdout, b"a\nb");
        assert_eq!(finished.stderr, "oops\n");
        assert_eq!(finished.status.code(), Some(3));
    }

    #[test]
    fn lines_come_one_by_one_and_the_rest_at_the_end() {
        let mut running = Running::start(&mut shell("echo one; echo two; echo three"), Vec::new());
        assert_eq!(running.next_line(CLIENT_LIMIT), "one");
        assert_eq!(running.finish(CLIENT_LIMIT).text(), "two\nthree\n");
    }

    #[test]
    fn an_open_stdin_ends_when_it_is_closed() {
        let mut running = Running::start_open(&mut shell("echo ready; cat; echo over"));
        assert_eq!(running.next_line(CLIENT_LIMIT), "ready");
        assert_eq!(running.poll_line(Duration::ZERO), None);
        running.close_stdin();
        assert_eq!(running.finish(CLIENT_LIMIT).text(), "over\n");
    }

    #[test]
    #[should_panic(expected = "still running after")]
    fn a_child_past_its_limit_is_killed() {
        Running::start(&mut shell("exec tail -f /dev/null"), Vec::new()).wait(Duration::ZERO);
    }

    #[test]
    fn a_dropped_child_is_gone() {
        let running = Running::start(&mut Command::new("yes"), Vec::new());
        let pid = Pid::from_raw(i32::try_from(running.id()).unwrap()).unwrap();
        drop(running);
        assert!(rustix::process::test_kill_process(pid).is_err());
    }
}
