//! Metrics and health of a whole `millrace` process, over HTTP as a scraper asks for them.
#![expect(clippy::unwrap_used, reason = "a test's helper functions may fail the test")]
#![expect(clippy::float_cmp, reason = "samples of counters are whole numbers")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use millrace_protocol::batch::{BatchBuilder, BatchFields};
use millrace_protocol::frame::encode_request;
use millrace_protocol::messages::fetch::{FetchPartition, FetchRequest, FetchTopic};
use millrace_protocol::messages::metadata::{MetadataRequest, MetadataRequestTopic};
use millrace_protocol::messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use millrace_protocol::wire::{Request, Writer};
use rustix::process::{Pid, Signal};

/// A broker of two shards; killed when dropped.
struct Broker {
    process: Child,
    out: BufReader<ChildStdout>,
    admin: SocketAddr,
    clients: SocketAddr,
}

impl Drop for Broker {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn command(directory: &Path, settings: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_millrace"));
    command.args(["--listen", "127.0.0.1:0", "--data"]).arg(directory);
    let common = ["millrace.memory.bytes=256MiB", "millrace.shards=2", "millrace.pin.cores=false"];
    command.args(common.iter().chain(settings).flat_map(|setting| ["--set", setting]));
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

impl Broker {
    /// Starts a broker and waits until clients may connect.
    fn start(directory: &Path) -> Self {
        let mut process = command(directory, &[]).spawn().unwrap();
        let mut out = BufReader::new(process.stdout.take().unwrap());
        let find = |out: &mut BufReader<ChildStdout>, prefix: &str, end: char| loop {
            let mut line = String::new();
            assert!(out.read_line(&mut line).unwrap() > 0, "the broker ended before it said {prefix:?}");
            if let Some((_, rest)) = line.split_once(prefix) {
                break rest.split(end).next().unwrap().parse().unwrap();
            }
        };
        let admin = find(&mut out, "http://", '/');
        let clients = find(&mut out, "ready: ", ' ');
        Self { process, out, admin, clients }
    }

    /// Asks for `path` and gives status, headers and body.
    fn ask(&self, path: &str) -> Option<(u16, String, String)> {
        ask_raw(self.admin, &format!("GET {path} HTTP/1.1\r\nHost: broker\r\n\r\n"))
    }

    fn metrics(&self) -> Metrics {
        let (status, head, body) = self.ask("/metrics").unwrap();
        assert_eq!(status, 200);
        assert!(head.contains("application/openmetrics-text; version=1.0.0; charset=utf-8"), "{head}");
        assert!(body.ends_with("# EOF\n"));
        Metrics(body)
    }
}

/// Sends a request as it is; `None` when nothing comes back.
fn ask_raw(address: SocketAddr, request: &str) -> Option<(u16, String, String)> {
    let mut stream = TcpStream::connect(address).ok()?;
    // A broker that has had enough may close before it has read everything.
    let _ = stream.write_all(request.as_bytes());
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, head.to_owned(), body.to_owned()))
}

struct Metrics(String);

impl Metrics {
    /// The sum of all samples of a metric whose line has `label` in it.
    fn sum(&self, name: &str, label: &str) -> f64 {
        let samples = self.0.lines().filter(|line| line.split(['{', ' ']).next() == Some(name) && line.contains(label));
        samples.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
    }
}

/// A client that sends frames and takes answers without looking into them.
struct Client(TcpStream);

impl Client {
    fn send<'r, R: Request<'r>>(&mut self, version: i16, request: &R, count: usize) {
        let mut writer = Writer::new();
        for _ in 0..count {
            encode_request(&mut writer, version, 0, Some("test"), request).unwrap();
        }
        self.0.write_all(writer.bytes()).unwrap();
    }

    fn receive(&mut self) -> Vec<u8> {
        let mut length = [0; 4];
        self.0.read_exact(&mut length).unwrap();
        let mut answer = vec![0; usize::try_from(i32::from_be_bytes(length)).unwrap()];
        self.0.read_exact(&mut answer).unwrap();
        answer
    }

    fn make_topic(&mut self) {
        let topics = Some(vec![MetadataRequestTopic { name: Some("weather"), ..MetadataRequestTopic::default() }]);
        let request = MetadataRequest { topics, allow_auto_topic_creation: true, ..MetadataRequest::default() };
        self.send(9, &request, 1);
        self.receive();
    }

    fn produce(&mut self, partition: i32, values: &[&[u8]]) {
        let mut batch = BatchBuilder::new(BatchFields::default());
        for value in values {
            batch.push(0, None, Some(value));
        }
        let batch = batch.build();
        let data = PartitionProduceData { index: partition, records: Some(&batch) };
        let topic = TopicProduceData { name: "weather", partition_data: vec![data], ..TopicProduceData::default() };
        let request = ProduceRequest { acks: -1, topic_data: vec![topic], ..ProduceRequest::default() };
        self.send(9, &request, 1);
        self.receive();
    }

    fn fetch(&mut self, count: usize) {
        let partition = FetchPartition { partition_max_bytes: 1 << 20, ..FetchPartition::default() };
        let topics = vec![FetchTopic { topic: "weather", partitions: vec![partition], ..FetchTopic::default() }];
        self.send(4, &FetchRequest { max_bytes: 1 << 20, topics, ..FetchRequest::default() }, count);
    }
}

#[test]
fn metrics_follow_what_clients_do() {
    let directory = tempfile::tempdir().unwrap();
    let broker = Broker::start(directory.path());
    let before = broker.metrics();
    assert_eq!(before.sum("millrace_requests_total", "api=\"Produce\""), 0.0);
    assert_eq!(before.sum("millrace_shards_silent", ""), 0.0);
    assert!(
        before.sum("millrace_disk_reserve_bytes", "") > 0.0 && before.sum("millrace_process_resident_bytes", "") > 0.0
    );

    let mut client = Client(TcpStream::connect(broker.clients).unwrap());
    client.make_topic();
    client.produce(0, &[b"rain", b"sun", b"fog"]);
    client.produce(7, &[b"there is no such partition"]);
    client.fetch(1);
    let fetched = client.receive();
    assert!(fetched.windows(4).any(|window| window == b"rain"));

    let after = broker.metrics();
    for (name, label, expected) in [
        ("millrace_requests_total", "api=\"Produce\"", 2.0),
        ("millrace_request_errors_total", "api=\"Produce\"", 1.0),
        ("millrace_request_latency_seconds_count", "api=\"Fetch\"", 1.0),
        ("millrace_request_latency_seconds_bucket", "le=\"+Inf\",api=\"Fetch\"", 1.0),
        ("millrace_topic_appended_records_total", "topic=\"weather\"", 3.0),
        ("millrace_topic_appended_batches_total", "topic=\"weather\"", 1.0),
        ("millrace_connections", "", 1.0),
        ("millrace_connections_refused_total", "", 0.0),
        ("millrace_logs_offline", "", 0.0),
    ] {
        assert_eq!(after.sum(name, label), expected, "{name} {label}\n{}", after.0);
    }
    for name in [
        "millrace_received_bytes_total",
        "millrace_sent_bytes_total",
        "millrace_appended_bytes_total",
        "millrace_round_latency_seconds_count",
        "millrace_flush_latency_seconds_count",
        "millrace_shard_cpu_seconds_total",
        "millrace_uptime_seconds",
    ] {
        assert!(after.sum(name, "") > before.sum(name, ""), "{name} moves\n{}", after.0);
    }
    assert!(after.sum("millrace_topic_read_bytes_total", "topic=\"weather\"") > 0.0);
}

#[test]
fn a_broker_is_ready_until_it_stops() {
    let directory = tempfile::tempdir().unwrap();
    let mut broker = Broker::start(directory.path());
    let ask = |broker: &Broker, path: &str| broker.ask(path).map(|(status, _, body)| (status, body));
    assert_eq!(ask(&broker, "/healthz"), Some((200, "alive\n".to_owned())));
    assert_eq!(ask(&broker, "/readyz"), Some((200, "ready\n".to_owned())));

    // Far more answers than the sockets hold: the stop waits a while for a client that does not take them.
    let mut client = Client(TcpStream::connect(broker.clients).unwrap());
    client.make_topic();
    client.produce(0, &[&vec![7; 900_000]]);
    client.fetch(20);
    let mut first = [0; 4];
    client.0.read_exact(&mut first).unwrap();

    let pid = Pid::from_raw(i32::try_from(broker.process.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, Signal::TERM).unwrap();
    let stopping = loop {
        match ask(&broker, "/readyz").expect("the broker waits for its client") {
            (200, _) => {}
            other => break other,
        }
    };
    assert_eq!(stopping, (503, "not ready\nthe broker is stopping\n".to_owned()));
    assert_eq!(ask(&broker, "/healthz"), Some((200, "alive\n".to_owned())), "who stops is alive");
    drop(client);
    assert_eq!(broker.process.wait().unwrap().code(), Some(0));
    let mut rest = String::new();
    broker.out.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "", "nothing is said after the ready line");
}

#[test]
fn what_is_no_question_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let broker = Broker::start(directory.path());
    let status = |request: &str| ask_raw(broker.admin, request).map(|(status, _, _)| status);
    assert_eq!(broker.ask("/").map(|(status, _, _)| status), Some(404));
    assert_eq!(status("POST /metrics HTTP/1.1\r\nHost: broker\r\nContent-Length: 0\r\n\r\n"), Some(405));
    assert_eq!(status("nonsense\r\n\r\n"), Some(400));
    let long = "x".repeat(64 << 10);
    let refused = status(&format!("GET /metrics HTTP/1.1\r\nHost: broker\r\nX: {long}\r\n\r\n"));
    assert!(matches!(refused, None | Some(431)), "{refused:?}");
    // Whoever sends nothing holds a place, but not all of them.
    let _silent: Vec<_> = (0..8).map(|_| TcpStream::connect(broker.admin).unwrap()).collect();
    assert_eq!(broker.ask("/healthz").map(|(status, _, _)| status), Some(200));
}

#[test]
fn a_taken_port_stops_the_start_and_none_asks_for_no_port() {
    let directory = tempfile::tempdir().unwrap();
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let setting = format!("admin.listener={}", holder.local_addr().unwrap());
    let output = command(directory.path(), &[&setting]).output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(4), "{error}");
    assert!(error.contains("Set admin.listener to another address, or to none"), "{error}");

    let mut process = command(directory.path(), &["admin.listener=none"]).spawn().unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let banner: Vec<String> =
        lines.by_ref().map(Result::unwrap).take_while(|line| !line.starts_with("ready")).collect();
    assert!(banner.iter().any(|line| line.contains("nobody can ask how it is")), "{banner:?}");
    process.kill().unwrap();
    process.wait().unwrap();
}
