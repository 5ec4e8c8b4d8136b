//! Listening, connections and their end.

mod activity;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, sleep_until};

use activity::{Activity, Patient};

use super::error::OtlpError;
use super::ingest::Ingest;
use super::{grpc, http};

/// Largest read buffer of an HTTP/1 connection, and thereby the largest head of a request.
const HTTP1_BUFFER: usize = 128 * 1024;
/// Most header fields of an HTTP/1 request.
const HTTP1_HEADERS: usize = 100;
/// Largest head of an HTTP/2 request.
const HTTP2_HEAD: u32 = 16 * 1024;
/// Requests that one HTTP/2 connection may have open.
const HTTP2_STREAMS: u32 = 256;
/// Bytes that one HTTP/2 connection may send ahead of their being read.
const HTTP2_WINDOW: u32 = 1024 * 1024;
/// How long a connection may take to close once it was told to.
const FAREWELL: Duration = Duration::from_secs(1);
/// How long accepting pauses when the system has no more descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// What is spoken on a listener.
#[derive(Clone, Copy, Debug)]
pub(super) enum Protocol {
    Grpc,
    Http,
}

impl Protocol {
    /// The configuration key of its address.
    pub(super) const fn key(self) -> &'static str {
        match self {
            Self::Grpc => "producers.otlp.grpc.listen",
            Self::Http => "producers.otlp.http.listen",
        }
    }
}

/// Takes the address.
pub(super) async fn bind(protocol: Protocol, address: SocketAddr) -> Result<TcpListener, OtlpError> {
    let listen = |source| OtlpError::Listen { key: protocol.key(), address, source };
    TcpListener::bind(address).await.map_err(listen)
}

/// Accepts connections until told to stop, and lets go of the address.
pub(super) async fn accept(listener: TcpListener, protocol: Protocol, ingest: Arc<Ingest>) {
    let places = Arc::new(Semaphore::new(ingest.limits.connections.min(Semaphore::MAX_PERMITS)));
    let next = async || {
        let place = Arc::clone(&places).acquire_owned().await;
        (listener.accept().await, place)
    };
    loop {
        let (accepted, place) = tokio::select! {
            () = ingest.stop.cancelled() => return,
            next = next() => next,
        };
        match accepted {
            Ok((stream, _)) => {
                let connection = serve(stream, protocol, Arc::clone(&ingest));
                ingest.tasks.spawn(async move {
                    connection.await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, key = protocol.key(), "cannot accept a connection");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Serves one connection to its end.
async fn serve(stream: TcpStream, protocol: Protocol, ingest: Arc<Ingest>) {
    // Answers are small and awaited: they must not wait for more bytes. A refusal shows at the first read.
    let _ = stream.set_nodelay(true);
    let activity = Arc::new(Activity::new());
    let service = service_fn({
        let (ingest, activity) = (Arc::clone(&ingest), Arc::clone(&activity));
        move |request: hyper::Request<Incoming>| {
            let ingest = Arc::clone(&ingest);
            let request_open = activity.begin(request.version());
            async move {
                let response = match protocol {
                    Protocol::Grpc => grpc::handle(ingest, request).await,
                    Protocol::Http => http::handle(ingest, request).await,
                };
                drop(request_open);
                Ok::<_, Infallible>(response)
            }
        }
    });
    let builder = builder(protocol, &ingest);
    let stream = Patient::new(stream, Arc::clone(&activity), ingest.limits.header_timeout.0);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let idle_timeout = ingest.limits.idle_timeout.0;
    let mut closing = false;
    let mut deadline = activity.start() + ingest.limits.header_timeout.0;
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "connection ended");
                }
                return;
            }
            () = ingest.abandon.cancelled() => return,
            () = ingest.stop.cancelled(), if !closing => {}
            () = sleep_until(deadline) => {
                let patience = if closing { FAREWELL } else { idle_timeout };
                if let Some(later) = activity.quiet_at(patience).filter(|at| *at > Instant::now()) {
                    deadline = later;
                    continue;
                }
                if closing {
                    return;
                }
            }
        }
        closing = true;
        connection.as_mut().graceful_shutdown();
        deadline = Instant::now() + FAREWELL;
    }
}

fn builder(protocol: Protocol, ingest: &Arc<Ingest>) -> Builder<Tracked> {
    let mut builder = Builder::new(Tracked(Arc::clone(ingest)));
    // Hyper's own timeout of 30 s counts the time between two requests as well: `Patient` stands in for it.
    builder.http1().header_read_timeout(None).max_buf_size(HTTP1_BUFFER).max_headers(HTTP1_HEADERS);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(HTTP2_HEAD)
        .max_concurrent_streams(HTTP2_STREAMS)
        .initial_stream_window_size(HTTP2_WINDOW)
        .initial_connection_window_size(HTTP2_WINDOW);
    match protocol {
        Protocol::Grpc => builder.http2_only(),
        Protocol::Http => builder,
    }
}

/// Runs the streams of HTTP/2 connections as tasks of the component.
#[derive(Clone)]
struct Tracked(Arc<Ingest>);

impl<F> Executor<F> for Tracked
where
    F: Future + Send + 'static,
{
    fn execute(&self, future: F) {
        let abandon = self.0.abandon.clone();
        self.0.tasks.spawn(async move {
            tokio::select! {
                _ = future => {}
                () = abandon.cancelled() => {}
            }
        });
    }
}
