//! HTTP: connections, routes, headers, faults.

use std::io::Read as _;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use flate2::read::{GzDecoder, ZlibDecoder};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::push::{self, Push};
use super::rules::Refusal;
use super::store::Sent;
use super::{Fault, State, otlp};

/// The tenant of requests where there is no authentication.
const NOBODY: &str = "fake";
/// Longest name of a shard.
const SHARD_BYTES: usize = 128;

/// Ends a connection without an answer.
#[derive(Debug)]
struct Reset;

impl std::fmt::Display for Reset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("reset on demand")
    }
}

impl std::error::Error for Reset {}

type Answer = Response<Full<Bytes>>;

/// Serves connections until it is dropped.
pub(super) async fn accept(listener: TcpListener, state: Arc<State>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let state = Arc::clone(&state);
        connections.spawn(async move {
            let service = service_fn(move |request| serve(Arc::clone(&state), request));
            let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            // Resets on demand end here, too.
            let _ended = connection.await;
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(state: Arc<State>, request: Request<Incoming>) -> Result<Answer, Reset> {
    if (request.method(), request.uri().path()) == (&Method::GET, "/ready") {
        return Ok(text(StatusCode::OK, "ready\n"));
    }
    let fault = {
        let mut inner = state.lock();
        inner.requests += 1;
        inner.fault()
    };
    let answer = match fault {
        Some(Fault::ResetBefore) => return Err(Reset),
        Some(Fault::Status(status, retry_after)) => {
            let mut answer = text(StatusCode::from_u16(status).unwrap_or_default(), "on demand\n");
            answer.headers_mut().extend(retry_after.map(|seconds| (RETRY_AFTER, seconds.into())));
            answer
        }
        Some(Fault::LoseAnswer) => {
            handle(&state, request).await;
            return Err(Reset);
        }
        Some(Fault::Delay(time)) => {
            tokio::time::sleep(time).await;
            handle(&state, request).await
        }
        None => handle(&state, request).await,
    };
    *state.lock().statuses.entry(answer.status().as_u16()).or_default() += 1;
    Ok(answer)
}

fn text(status: StatusCode, words: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(words.into()));
    *answer.status_mut() = status;
    answer
}

async fn handle(state: &State, request: Request<Incoming>) -> Answer {
    match work(state, request).await {
        Ok(()) => text(StatusCode::NO_CONTENT, ""),
        Err((status, words)) => text(StatusCode::from_u16(status).unwrap_or_default(), words + "\n"),
    }
}

async fn work(state: &State, request: Request<Incoming>) -> Result<(), (u16, String)> {
    let (parts, body) = request.into_parts();
    let headers = &parts.headers;
    let is_otlp = match (&parts.method, parts.uri.path()) {
        (&Method::POST, "/loki/api/v1/push") => false,
        (&Method::POST, "/otlp/v1/logs") => true,
        _ => return Err((404, "404 page not found".into())),
    };
    let token = state.lock().token.clone();
    if token.is_some_and(|token| header(headers, AUTHORIZATION.as_str()) != Some(&format!("Bearer {token}"))) {
        return Err((401, "unauthorized".into()));
    }
    let tenant = match header(headers, "x-scope-orgid").filter(|_| state.options.auth) {
        Some(tenant) if !tenant.is_empty() => tenant,
        _ if state.options.auth => return Err((401, "no org id".into())),
        _ => NOBODY,
    };
    let shard = header(headers, "x-loki-backfill-shard").unwrap_or_default();
    if shard.len() > SHARD_BYTES {
        return Err((400, "the backfill shard is too long".into()));
    }
    let limit = state.options.limits.max_body_bytes;
    let Ok(body) = Limited::new(body, limit).collect().await else {
        return Err((413, "request body too large".into()));
    };
    let push = decode(headers, &body.to_bytes(), is_otlp, limit)?;
    let now = state.options.now.unwrap_or_else(present);
    let sent = Sent { tenant, shard, now };
    let outcome = state.lock().store.push(&state.options, &sent, push);
    outcome.map_err(|refusal: Refusal| (refusal.status, refusal.words))
}

fn present() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}

fn decode(headers: &HeaderMap, body: &[u8], is_otlp: bool, limit: usize) -> Result<Push, (u16, String)> {
    let bad = |words: String| (400, words);
    let kind = header(headers, CONTENT_TYPE.as_str()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    let encoding = header(headers, CONTENT_ENCODING.as_str()).unwrap_or_default();
    let mut plain = Vec::new();
    let unpacked = match encoding {
        "gzip" => GzDecoder::new(body).take(limit as u64).read_to_end(&mut plain).map(|_| &plain[..]),
        "deflate" => ZlibDecoder::new(body).take(limit as u64).read_to_end(&mut plain).map(|_| &plain[..]),
        "" | "snappy" => Ok(body),
        other => return Err(bad(format!("Content-Encoding {other:?} not supported"))),
    };
    let body = unpacked.map_err(|error| bad(error.to_string()))?;
    match (is_otlp, kind) {
        (true, "application/x-protobuf") => otlp::decode(body).map_err(bad),
        (false, "application/x-protobuf") => {
            let plain = snap::raw::Decoder::new().decompress_vec(body).map_err(|error| bad(error.to_string()))?;
            push::decode(&plain).map_err(bad)
        }
        (false, "application/json") => push::decode_json(body).map_err(bad),
        (_, other) => Err(bad(format!("content type {other:?} is not supported"))),
    }
}

fn header<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}
