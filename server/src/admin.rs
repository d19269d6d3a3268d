//! How the broker is, over HTTP on a port of its own: metrics for Prometheus, liveness and readiness.
//!
//! One thread that is no shard and tied to no core, with a tokio runtime of its own. It asks shards through bounded channels
//! and waits for them, never they for it, so a scraper that is slow, or a hundred of them, cost a shard nothing:
//!
//! - [`CONNECTION_COUNT_MAX`] connections; more wait in the kernel's queue.
//! - One request for each connection, whose header takes at most [`HEADER_BYTES_MAX`] and [`HEADER_TIME_MAX`].
//! - A connection is over after [`CONNECTION_TIME_MAX`], answered or not.
//! - One report is put together at a time, whoever asks for one.
//!
//! | path | answer |
//! |---|---|
//! | `/metrics` | 200 with everything in docs/METRICS.md, also when a shard does not answer |
//! | `/healthz` | 200 while every shard answers; 503 with the names of those that do not |
//! | `/readyz` | 200 while clients are served on all shards; 503 with the reasons when they are not |
//!
//! [`collect`] asks the shards, [`health`] judges what they say, [`process`] reads what the system knows of the process.

pub mod collect;
pub mod health;
pub mod process;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::sync::Semaphore;

use self::collect::Watched;
use self::health::Verdict;
use crate::metrics::text;

/// The address is ours, and nobody is answered yet.
#[derive(Debug)]
pub struct Bound {
    listener: TcpListener,
    address: SocketAddr,
}

impl Bound {
    /// Takes an address. Port 0 takes a free one.
    pub fn take(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    /// The address, with the port that was taken.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Answers until the process ends, on a thread of its own.
pub fn start(bound: Bound, watched: Watched) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    std::thread::Builder::new().name("admin".to_owned()).spawn(move || {
        if let Err(error) = runtime.block_on(accept_all(bound, watched)) {
            tracing::error!(%error, "metrics and health are not answered any more");
        }
    })?;
    Ok(())
}

async fn accept_all(bound: Bound, watched: Watched) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(bound.listener)?;
    let router = router(Arc::new(watched));
    let places = Arc::new(Semaphore::new(CONNECTION_COUNT_MAX));
    loop {
        let place = Arc::clone(&places).acquire_owned().await.expect("nobody closes the semaphore");
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a connection to the admin listener could not be accepted");
                tokio::time::sleep(PAUSE_AFTER_ERROR).await;
                continue;
            }
        };
        let service = TowerToHyperService::new(router.clone());
        tokio::spawn(async move {
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIME_MAX)
                .max_buf_size(HEADER_BYTES_MAX)
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), service);
            if let Ok(Err(error)) = tokio::time::timeout(CONNECTION_TIME_MAX, connection).await {
                tracing::debug!(%error, "a connection to the admin listener failed");
            }
            drop(place);
        });
    }
}

fn router(watched: Arc<Watched>) -> Router {
    Router::new()
        .route("/metrics", get(show_metrics))
        .route("/healthz", get(show_health))
        .route("/readyz", get(show_readiness))
        .fallback(|| async { (StatusCode::NOT_FOUND, "there are /metrics, /healthz and /readyz\n") })
        .with_state(watched)
}

async fn show_metrics(State(watched): State<Arc<Watched>>) -> Response {
    let report = watched.report().await;
    ([(header::CONTENT_TYPE, text::CONTENT_TYPE)], text::write(report)).into_response()
}

async fn show_health(State(watched): State<Arc<Watched>>) -> Response {
    show(&health::judge_alive(&watched.statuses().await))
}

async fn show_readiness(State(watched): State<Arc<Watched>>) -> Response {
    show(&health::judge_ready(&watched.statuses().await))
}

fn show(verdict: &Verdict) -> Response {
    let status = if verdict.is_good() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let headers = [(header::CONTENT_TYPE, "text/plain; charset=utf-8"), (header::CACHE_CONTROL, "no-store")];
    (status, headers, verdict.to_string()).into_response()
}

/// Connections answered at the same time.
const CONNECTION_COUNT_MAX: usize = 16;
/// Memory for what arrives of one request. The least that hyper takes is 8 KiB.
const HEADER_BYTES_MAX: usize = 16 << 10;
/// How long a request's header may take to arrive.
const HEADER_TIME_MAX: Duration = Duration::from_secs(5);
/// How long a connection may take in all: longer than shards are waited for.
const CONNECTION_TIME_MAX: Duration = Duration::from_secs(15);
const _: () = assert!(CONNECTION_TIME_MAX.as_secs() > 3 * collect::ANSWER_TIME_MAX.as_secs());
/// After an error such as too few descriptors, trying at once only burns the core.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(100);
