//! Requests as bytes, by a codec that other people generated (the crate `kafka-protocol`), to any broker.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{ApiKey, RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable as _, Encodable as _, Request, StrBytes};

/// Past this a broker does not answer.
const LIMIT: Duration = Duration::from_mins(1);

/// What the client calls itself.
pub const CLIENT_ID: &str = "judge";

/// A connection to a broker, for one request at a time.
pub struct Connection {
    stream: TcpStream,
    correlation_id: i32,
}

impl Connection {
    /// Connects to `host:port`.
    #[track_caller]
    pub fn open(address: &str) -> Connection {
        let stream = TcpStream::connect(address).expect("the broker accepts connections");
        stream.set_read_timeout(Some(LIMIT)).expect("a socket takes a limit");
        stream.set_nodelay(true).expect("a socket takes this option");
        Connection { stream, correlation_id: 0 }
    }

    /// Sends a request and waits for its answer. `None` when the broker closed the connection instead.
    #[track_caller]
    pub fn ask<R: Request>(&mut self, version: i16, request: &R) -> Option<R::Response> {
        self.send(version, request);
        self.receive::<R>(version)
    }

    /// Sends a request. That the broker has closed the connection shows when the answer is received.
    #[track_caller]
    pub fn send<R: Request>(&mut self, version: i16, request: &R) {
        let key = ApiKey::try_from(R::KEY).expect("the codec knows its own keys");
        self.correlation_id += 1;
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(self.correlation_id)
            .with_client_id(Some(StrBytes::from_static_str(CLIENT_ID)));
        let mut frame = BytesMut::new();
        header.encode(&mut frame, key.request_header_version(version)).expect("a header can be encoded");
        let encoded = request.encode(&mut frame, version);
        encoded.unwrap_or_else(|error| panic!("{key:?} version {version}: {error}"));
        let length = i32::try_from(frame.len()).expect("requests of a test are short");
        let _closed = self.stream.write_all(&[&length.to_be_bytes()[..], &frame].concat());
    }

    /// Waits for the answer to the last request. `None` when the broker closed the connection instead.
    #[track_caller]
    pub fn receive<R: Request>(&mut self, version: i16) -> Option<R::Response> {
        let key = ApiKey::try_from(R::KEY).expect("the codec knows its own keys");
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).ok()?;
        let length = usize::try_from(i32::from_be_bytes(length)).expect("a length is not negative");
        let mut answer = vec![0; length];
        self.stream.read_exact(&mut answer).expect("an answer that began goes on");
        let mut answer = Bytes::from(answer);
        let header = ResponseHeader::decode(&mut answer, key.response_header_version(version));
        let header = header.expect("an answer starts with its header");
        assert_eq!(header.correlation_id, self.correlation_id, "answers come in the order of the requests");
        let response = R::Response::decode(&mut answer, version).expect("the other codec reads the answer");
        assert!(answer.is_empty(), "{key:?} version {version}: {} bytes too many", answer.len());
        Some(response)
    }
}
