//! One client's connection on the shard that serves it.
//!
//! Two tasks: one receives and fills the inbox, one serves and sends. The receiving task stops at
//! [`limits::PIPELINE_COUNT_MAX`] requests, so a client that does not read its answers is not read from either.
//!
//! # Order
//!
//! Requests take effect in the order in which they came, and answers leave in that order. Only a run of consecutive Produce
//! requests overlaps: each takes its place in the owners' lines before the next one starts, and their answers wait for each
//! other. Any other request starts when all before it are answered; a Fetch that waits for records holds what follows.
//!
//! Everything that was received together is served together, and its answers leave in one send.
//!
//! # Muting
//!
//! An answer may tell its client to send nothing for a while (KIP-219). It leaves at once; after it the connection is mute:
//! nothing more is received and nothing that was received is started until the time is over. Clients that do not keep to
//! what they were told are held up all the same. A broker that stops mutes nobody.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{Either, select};
use millrace_protocol::api_key::ApiKey;
use millrace_protocol::frame::{LENGTH_BYTES, encode_unsupported_api_versions};
use millrace_protocol::header::{HeadError, RequestHead};
use millrace_protocol::wire::{DecodeError, EncodeError, Reader};
use millrace_runtime::local::Event;
use millrace_runtime::{Clock, Connection, Env, Moment, Net, TaskClass};
use thiserror::Error;

use super::client::Client;
use super::frame::{FrameReader, ReceiveEnd, Request};
use super::mute::Mute;
use super::outgoing::Outgoing;
use super::produces;
use super::progress::Progress;
use crate::fetch_session::ConnectionNumber;
use crate::handlers::{self, Context, produce};
use crate::shard::mailbox::message::{Accepted, Message};
use crate::shard::placement::ShardIndex;
use crate::shard::router::ShardGone;
use crate::shard::{Shard, Stage, limits};

/// The connections of one shard.
pub struct Connections<E: Env> {
    live: RefCell<BTreeMap<ConnectionNumber, Rc<Live<E>>>>,
    number_next: Cell<u64>,
    changed: Event,
}

impl<E: Env> Default for Connections<E> {
    fn default() -> Self {
        Self { live: RefCell::default(), number_next: Cell::new(0), changed: Event::default() }
    }
}

impl<E: Env> Connections<E> {
    /// Each of them.
    pub(super) fn all(&self) -> Vec<Rc<Live<E>>> {
        self.live.borrow().values().cloned().collect()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.live.borrow().len()
    }

    /// Completes when there are none.
    pub async fn closed(&self) {
        loop {
            let version = self.changed.version();
            if self.live.borrow().is_empty() {
                return;
            }
            self.changed.changed(version).await;
        }
    }
}

/// One connection.
pub(super) struct Live<E: Env> {
    pub(super) socket: <E::Net as Net>::Connection,
    client: Client,
    inbox: RefCell<VecDeque<Request>>,
    /// Notified when the inbox changes, either way, and at the end of receiving.
    changed: Event,
    pub(super) progress: Progress,
    mute: Mute,
    pub(super) is_serving: Cell<bool>,
    /// Whether it is closed for what its client sent.
    is_refused: Cell<bool>,
}

/// Takes over a connection that was accepted for this shard.
pub fn adopt<E: Env>(shard: &Shard<E>, accepted: Accepted<E>) {
    let listener_index = accepted.listener_index;
    let socket = match shard.env().net().adopt(accepted.socket) {
        Ok(socket) => socket,
        Err(error) => {
            tracing::warn!(%error, "an accepted connection could not be taken over");
            return report_closed(shard);
        }
    };
    let connections = shard.connections();
    let number = ConnectionNumber(connections.number_next.get());
    connections.number_next.set(number.0 + 1);
    let client = Client::new(number, listener_index, socket.peer_address());
    let progress = Progress::new(shard.env().clock().now());
    let live = Live {
        socket,
        client,
        inbox: RefCell::default(),
        changed: Event::default(),
        progress,
        mute: Mute::default(),
        is_serving: Cell::new(false),
        is_refused: Cell::new(false),
    };
    let live = Rc::new(live);
    shard.counters().accepted.add(1);
    connections.live.borrow_mut().insert(number, Rc::clone(&live));

    let (own, receiving) = (shard.clone(), Rc::clone(&live));
    shard.tasks().spawn("connection receiver", TaskClass::Network, async move {
        receive_all(&own, &receiving).await;
    });
    let own = shard.clone();
    shard.tasks().spawn("connection", TaskClass::Network, async move {
        run(&own, &live).await;
        own.fetch_sessions().borrow_mut().close_connection(number);
        own.connections().live.borrow_mut().remove(&number);
        own.connections().changed.notify();
        report_closed(&own);
    });
}

fn report_closed<E: Env>(shard: &Shard<E>) {
    match shard.acceptor() {
        Some(acceptor) => acceptor.closed(shard.index()),
        None => shard.mailbox().send(ShardIndex::FIRST, Message::ConnectionClosed),
    }
}

/// Fills the inbox until the client ends or breaks a rule.
async fn receive_all<E: Env>(shard: &Shard<E>, live: &Rc<Live<E>>) {
    let request_bytes_max = shard.broker().config.net.request_bytes_max;
    let request_bytes_max = usize::try_from(request_bytes_max).expect("32 bits fit usize");
    let mut reader = FrameReader::new(shard.env(), &live.socket, shard.request_budget(), request_bytes_max);
    let end = loop {
        let version = live.changed.version();
        if live.inbox.borrow().len() >= limits::PIPELINE_COUNT_MAX || live.mute.is_on() {
            live.changed.changed(version).await;
            continue;
        }
        let take_in = |request: Request| {
            shard.counters().received_bytes.add_bytes(LENGTH_BYTES + request.frame.len());
            live.inbox.borrow_mut().push_back(request);
        };
        let received = reader.receive(&live.progress, take_in).await;
        live.changed.notify();
        if let Err(end) = received {
            break end;
        }
        if shard.stage() >= Stage::Draining {
            break ReceiveEnd::Closed;
        }
    };
    live.progress.end_body();
    let peer = live.socket.peer_address();
    match end {
        ReceiveEnd::Closed => tracing::debug!(%peer, "connection closed by the client"),
        ReceiveEnd::Truncated | ReceiveEnd::Io(_) => tracing::debug!(%peer, %end, "connection lost"),
        ReceiveEnd::Length(_) | ReceiveEnd::Budget(_) => {
            live.is_refused.set(true);
            shard.counters().refused.add(1);
            tracing::warn!(%peer, %end, "connection closed");
        }
    }
    live.client.end();
    live.changed.notify();
}

/// Serves until there is nothing more to serve, and closes.
async fn run<E: Env>(shard: &Shard<E>, live: &Rc<Live<E>>) {
    if let Err(close) = serve(shard, live).await {
        let peer = live.socket.peer_address();
        match close {
            Close::Io(_) | Close::ShardGone(_) => tracing::debug!(%peer, %close, "connection lost"),
            _ => {
                live.is_refused.set(true);
                shard.counters().refused.add(1);
                tracing::warn!(%peer, %close, "connection closed");
            }
        }
    }
    if live.is_refused.get() {
        linger(shard, live).await;
    }
    live.socket.shutdown();
    live.mute.lift();
    // The receiving task sees the end of the socket; what it still hands over is dropped with the inbox.
    loop {
        live.inbox.borrow_mut().clear();
        // It may be waiting for room in the inbox.
        live.changed.notify();
        let version = live.changed.version();
        if live.client.has_ended() {
            return;
        }
        live.changed.changed(version).await;
    }
}

/// Throws away what the client still sends, until it has seen the answers and closes, or for a while.
async fn linger<E: Env>(shard: &Shard<E>, live: &Rc<Live<E>>) {
    let thrown_away = async {
        live.mute.lift();
        while !live.client.has_ended() {
            live.inbox.borrow_mut().clear();
            live.changed.notify();
            let version = live.changed.version();
            if !live.client.has_ended() {
                live.changed.changed(version).await;
            }
        }
        // The receiving task ends with a request whose length makes no sense; what is behind it is unread.
        let mut scratch = vec![0; 4096];
        while let Ok(1..) = live.socket.receive(&mut scratch).await {}
    };
    let over = std::pin::pin!(shard.env().clock().sleep(LINGER_MAX));
    let draining = std::pin::pin!(shard.reached(Stage::Draining));
    select(std::pin::pin!(thrown_away), select(over, draining)).await;
}

/// Serves requests in order. One that breaks the protocol is the last, and the answers to those before it are sent first.
async fn serve<E: Env>(shard: &Shard<E>, live: &Rc<Live<E>>) -> Result<(), Close> {
    let mut outgoing = Outgoing::default();
    let mut under_way: VecDeque<UnderWay> = VecDeque::new();
    let mut refused = None;
    loop {
        let version = live.changed.version();
        live.mute.extend(shard.env().clock().now(), outgoing.take_throttle());
        // What comes while these are started has to wait: answers that are ready are sent first.
        let received_count = live.inbox.borrow().len();
        for _ in 0..received_count {
            if refused.is_some() {
                break;
            }
            let Some(request) = take_request(live) else { break };
            live.is_serving.set(true);
            refused = start(shard, live, request, &mut outgoing, &mut under_way).await.err();
            live.mute.extend(shard.env().clock().now(), outgoing.take_throttle());
        }

        // What is finished leaves together.
        while let Some(finished) = under_way.front_mut().and_then(FutureExt::now_or_never) {
            under_way.pop_front();
            refused = refused.or(produces::finish(shard, finished, &mut outgoing, &mut under_way));
        }
        if outgoing.bytes() > 0 {
            send(shard, live, &mut outgoing).await?;
            continue;
        }
        if let Some(front) = under_way.front_mut() {
            let received = std::pin::pin!(live.changed.changed(version));
            if let Either::Left((finished, _)) = select(front, received).await {
                under_way.pop_front();
                refused = refused.or(produces::finish(shard, finished, &mut outgoing, &mut under_way));
            }
            continue;
        }
        if let Some(close) = refused {
            return Err(close);
        }
        if live.mute.is_on() {
            sit_out(shard, live).await;
            continue;
        }
        live.is_serving.set(false);
        live.progress.received_at.set(shard.env().clock().now());
        if live.client.has_ended() || shard.stage() >= Stage::Draining {
            return Ok(());
        }
        let received = std::pin::pin!(live.changed.changed(version));
        select(received, std::pin::pin!(shard.reached(Stage::Draining))).await;
    }
}

/// A Produce whose batches are on their way. It resolves when it can be answered.
type UnderWay = Pin<Box<dyn Future<Output = Result<produce::Finished, Close>>>>;

/// Starts a Produce, behind those that are under way; serves any other request, once those are answered.
async fn start<E: Env>(
    shard: &Shard<E>,
    live: &Rc<Live<E>>,
    request: Request,
    outgoing: &mut Outgoing<E>,
    under_way: &mut VecDeque<UnderWay>,
) -> Result<(), Close> {
    let head = decode_head::<E>(&request);
    if let Ok(Head::Served(head)) = head
        && head.api_key == ApiKey::Produce
    {
        let context = context(shard, live, head, &request);
        let started = produces::start(&context, &request, outgoing, under_way).await?;
        under_way.push_back(Box::pin(started.finish(request)));
        if under_way.len() == limits::PIPELINE_COUNT_MAX
            && let Some(produce) = under_way.pop_front()
        {
            return produces::finish(shard, produce.await, outgoing, under_way).map_or(Ok(()), Err);
        }
        return Ok(());
    }
    if let Some(close) = produces::finish_all(shard, outgoing, under_way).await {
        return Err(close);
    }
    serve_one(shard, live, head, &request, outgoing).await
}

/// Serves one request that is not a Produce. All before it are answered.
async fn serve_one<E: Env>(
    shard: &Shard<E>,
    live: &Rc<Live<E>>,
    head: Result<Head<'_>, Close>,
    request: &Request,
    outgoing: &mut Outgoing<E>,
) -> Result<(), Close> {
    let head = match head? {
        Head::Served(head) => head,
        Head::UnsupportedApiVersions { correlation_id } => {
            encode_unsupported_api_versions(outgoing.writer(), correlation_id)?;
            note_answer(shard, ApiKey::ApiVersions, request.received_at, 1);
            return Ok(());
        }
    };
    if handlers::may_park(head.api_key) || outgoing.bytes() >= limits::SEND_BYTES_MAX {
        send(shard, live, outgoing).await?;
    }
    let context = context(shard, live, head, request);
    let (answer_start, error_count) = (outgoing.writer().position(), outgoing.writer().error_count());
    let mut served = handlers::serve(&context, outgoing).await;
    let (budget, frame_bytes) = (shard.decoding_budget(), request.frame.len());
    while request.decoding.is_too_little(&served, budget, frame_bytes) {
        request.decoding.widen(budget).await;
        served = handlers::serve(&context, outgoing).await;
    }
    if served.is_err() {
        outgoing.rewind(answer_start);
    } else {
        let error_count = outgoing.writer().error_count() - error_count;
        note_answer(shard, head.api_key, request.received_at, error_count);
    }
    served
}

fn context<'a, E: Env>(
    shard: &'a Shard<E>,
    live: &'a Live<E>,
    head: RequestHead<'a>,
    request: &'a Request,
) -> Context<'a, E> {
    Context { shard, client: &live.client, head, frame: &request.frame, decoding: &request.decoding }
}

/// Counts a request whose answer is ready to be sent.
pub(super) fn note_answer<E: Env>(shard: &Shard<E>, api: ApiKey, received_at: Moment, error_count: u64) {
    let time = shard.env().clock().now() - received_at;
    shard.counters().note_request(api, time, error_count);
}

/// The next request that may be started now.
fn take_request<E: Env>(live: &Live<E>) -> Option<Request> {
    if live.mute.is_on() {
        return None;
    }
    let request = live.inbox.borrow_mut().pop_front()?;
    if live.inbox.borrow().len() + 1 == limits::PIPELINE_COUNT_MAX {
        // There is room again.
        live.changed.notify();
    }
    Some(request)
}

/// Waits until the connection's mute is over, or the broker stops.
async fn sit_out<E: Env>(shard: &Shard<E>, live: &Live<E>) {
    let (over, draining) = (live.mute.over(shard.env().clock()), shard.reached(Stage::Draining));
    select(std::pin::pin!(over), std::pin::pin!(draining)).await;
    live.mute.lift();
    // The receiving task goes on.
    live.changed.notify();
}

/// Sends what is finished, under the eyes of the sweep.
async fn send<E: Env>(shard: &Shard<E>, live: &Live<E>, outgoing: &mut Outgoing<E>) -> io::Result<()> {
    live.progress.begin_sending(shard.env().clock().now(), outgoing.has_records());
    let note_sent = |bytes| {
        shard.counters().sent_bytes.add_bytes(bytes);
        live.progress.note_sent(shard.env().clock().now(), bytes);
    };
    let sent = outgoing.send(&live.socket, note_sent).await;
    live.progress.end_sending();
    sent
}

/// What a request's header says.
#[derive(Clone, Copy)]
enum Head<'a> {
    Served(RequestHead<'a>),
    /// The one error that is answered (KIP-511): the client reads from it which version to ask with.
    UnsupportedApiVersions {
        correlation_id: i32,
    },
}

fn decode_head<E: Env>(request: &Request) -> Result<Head<'_>, Close> {
    match RequestHead::decode(&mut Reader::new(&request.frame)) {
        Ok(head) if handlers::is_served::<E>(head.api_key, head.version) => Ok(Head::Served(head)),
        Ok(RequestHead { api_key, version, .. }) => Err(Close::NotServed { api_key: api_key.name(), version }),
        Err(HeadError::UnsupportedApiVersions { correlation_id, .. }) => {
            Ok(Head::UnsupportedApiVersions { correlation_id })
        }
        Err(error) => Err(Close::Head(error)),
    }
}

/// Why a connection is closed from this side.
#[derive(Debug, Error)]
pub enum Close {
    /// A header that names nothing known.
    #[error("{0}")]
    Head(HeadError),
    /// An API or a version that is known but not advertised.
    #[error("{api_key} version {version} is not served")]
    NotServed {
        /// The API's name.
        api_key: &'static str,
        /// The version asked for.
        version: i16,
    },
    /// A malformed request.
    #[error("malformed request: {0}")]
    Decode(#[from] DecodeError),
    /// An answer that its version cannot carry: a bug, but one that costs one connection only.
    #[error("the answer cannot be encoded: {0}")]
    Encode(#[from] EncodeError),
    /// A Produce request without acknowledgement failed: closing is the only way to tell.
    #[error("a produce request with acks=0 failed: {0}")]
    Unacknowledged(&'static str),
    /// The socket failed.
    #[error("sending failed: {0}")]
    Io(#[from] io::Error),
    /// The broker is stopping.
    #[error("{0}")]
    ShardGone(#[from] ShardGone),
}

/// How long what a client still sends is thrown away after it has broken the protocol, so that the answers to what it sent
/// before reach it: a connection that is closed with unread bytes is reset, and a reset overtakes answers.
const LINGER_MAX: Duration = Duration::from_secs(1);
