//! Bytes that are not Kafka's protocol: the connection ends, the broker lives and serves the next client.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use millrace_compat::{Broker, Kcat};

/// Sends `bytes` and waits until the broker has closed the connection.
#[track_caller]
fn send_until_closed(broker: &Broker, bytes: &[u8]) {
    let mut stream = connect(broker);
    // The broker may close before it has taken all of it.
    drop(stream.write_all(bytes));
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        Err(error) => panic!("the connection stays open after {} bytes of rubbish: {error}", bytes.len()),
    }
}

fn connect(broker: &Broker) -> TcpStream {
    let stream = TcpStream::connect(broker.address()).expect("the broker accepts");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("the limit is not zero");
    stream
}

#[track_caller]
fn assert_serves(broker: &Broker, value: &str) {
    broker.assert_runs();
    let kcat = Kcat::new(broker.address());
    kcat.produce(value, &[], format!("{value}\n"));
    assert_eq!(kcat.read_all(value, "%s\n"), format!("{value}\n").as_bytes());
}

/// A request frame: length, api key, api version, correlation id, no client id, then `body`.
fn request(api: i16, version: i16, body: &[u8]) -> Vec<u8> {
    let header =
        [&api.to_be_bytes()[..], &version.to_be_bytes(), &7_i32.to_be_bytes(), &(-1_i16).to_be_bytes()].concat();
    let length = i32::try_from(header.len() + body.len()).expect("a request of some bytes");
    [&length.to_be_bytes()[..], &header, body].concat()
}

#[test]
fn lengths_that_cannot_be_end_the_connection() {
    let broker = Broker::start();
    for length in [i32::MAX, i32::MIN, -1, 0, 104_857_601] {
        send_until_closed(&broker, &length.to_be_bytes());
    }
    assert_serves(&broker, "after-lengths");
}

#[test]
fn random_bytes_end_the_connection() {
    let broker = Broker::start();
    // xorshift with a fixed seed: the same rubbish every time. The first byte has its top bit set: a negative length.
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    for _ in 0..50 {
        let mut bytes = vec![0xFF];
        for _ in 0..128 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            bytes.extend_from_slice(&state.to_le_bytes());
        }
        send_until_closed(&broker, &bytes);
    }
    assert_serves(&broker, "after-random-bytes");
}

#[test]
fn other_protocols_end_the_connection() {
    let broker = Broker::start();
    // "GET " and a TLS hello, read as lengths, are beyond any limit.
    send_until_closed(&broker, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    send_until_closed(&broker, &[0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xFC, 0x03, 0x03]);
    assert_serves(&broker, "after-other-protocols");
}

#[test]
fn bodies_that_do_not_decode_end_the_connection() {
    let broker = Broker::start();
    for api in [0, 1, 2, 3] {
        // Counts and lengths of two thousand million in a body of some bytes.
        send_until_closed(&broker, &request(api, 4, &[0x7F; 40]));
        send_until_closed(&broker, &request(api, 4, &[]));
    }
    send_until_closed(&broker, &request(9999, 0, &[]));
    send_until_closed(&broker, &request(3, 999, &[]));
    assert_serves(&broker, "after-bodies");
}

#[test]
fn half_a_frame_and_a_close_cost_nothing() {
    let broker = Broker::start();
    for sent in [1, 3, 4, 5, 10, 20] {
        let mut stream = connect(&broker);
        stream.write_all(&request(3, 4, &[0; 30])[..sent]).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        // A reset is as good an end as a close.
        drop(stream.read_to_end(&mut answer));
        assert_eq!(answer, b"", "half a request is not answered");
    }
    assert_serves(&broker, "after-halves");
}
