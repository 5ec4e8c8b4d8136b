//! HTTP: routes, headers, the gateway, faults.

use std::io::Read as _;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::extract::{DefaultBodyLimit, Extension, State as Shared};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use flate2::read::{GzDecoder, ZlibDecoder};
use http::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use http::{StatusCode, Uri};

use super::push::{self, Push};
use super::rules::Refusal;
use super::store::Sent;
use super::{Access, Fault, State, lock, otlp};
use crate::tempo::serve::Connection;

/// The tenant of requests where there is no authentication.
const NOBODY: &str = "fake";
/// Longest name of a shard.
const SHARD_BYTES: usize = 128;

const NATIVE: &str = "/loki/api/v1/push";
const OTLP: &str = "/otlp/v1/logs";

/// All that is served.
pub(super) fn router(state: &Arc<State>) -> axum::Router {
    axum::Router::new()
        .route("/ready", get(async || "ready\n"))
        .route(NATIVE, post(take))
        .route(OTLP, post(take))
        .fallback(async || (StatusCode::NOT_FOUND, "404 page not found\n"))
        // The limit is ours.
        .layer(DefaultBodyLimit::disable())
        .with_state(Arc::clone(state))
}

async fn take(
    Shared(state): Shared<Arc<State>>,
    Extension(connection): Extension<Connection>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let admitted = admitted(&state, &headers);
    let fault = admitted.is_ok().then(|| lock(&state.faults).next()).flatten();
    let result = match fault {
        Some(Fault::Unavailable | Fault::ServerError | Fault::RateLimited(_) | Fault::Reset) => Ok(Vec::new()),
        _ => admitted.and_then(|()| work(&state, &headers, &body, uri.path() == OTLP)),
    };
    let word = match (fault, &result) {
        (Some(fault), _) => fault.word(),
        (None, Ok(_)) => "stored",
        (None, Err(refusal)) => refusal.reason,
    };
    state.note(headers, word);
    let reset = match fault {
        None => match result {
            Err(refusal) => return text(refusal.status, &refusal.words),
            Ok(ids) => {
                let mut store = lock(&state.store);
                if !connection.is_cut() {
                    store.acknowledge(ids);
                }
                return text(204, "");
            }
        },
        Some(Fault::Unavailable) => return text(503, "at capacity"),
        Some(Fault::ServerError) => return text(500, "something broke"),
        Some(Fault::RateLimited(after)) => {
            let mut answer = text(429, "ingestion rate limit exceeded by the script");
            answer.headers_mut().extend(after.map(|after| (RETRY_AFTER, after.as_secs().into())));
            return answer;
        }
        Some(Fault::Reset | Fault::StoreAndReset) => true,
        Some(Fault::StoreAndClose) => false,
        Some(Fault::StoreAndHang) => return std::future::pending().await,
    };
    connection.end(reset);
    std::future::pending().await
}

fn text(status: u16, words: &str) -> Response {
    let words = if words.is_empty() { String::new() } else { format!("{words}\n") };
    (StatusCode::from_u16(status).unwrap_or_default(), words).into_response()
}

/// The gateway.
fn admitted(state: &State, headers: &HeaderMap) -> Result<(), Refusal> {
    let authorization = header(headers, AUTHORIZATION.as_str());
    let known = match &*lock(&state.access) {
        Access::Anybody => true,
        Access::Authorization(wanted) => authorization == Some(wanted),
        Access::Issued(issued) => authorization.is_some_and(|value| issued.admits(value)),
        Access::Nobody => return Err(Refusal::new(403, "forbidden", "not for you")),
    };
    known.then_some(()).ok_or_else(|| Refusal::new(401, "unauthenticated", "who are you?"))
}

fn work(state: &State, headers: &HeaderMap, body: &[u8], is_otlp: bool) -> Result<Vec<String>, Refusal> {
    let auth = state.options.auth;
    let tenant = match header(headers, "x-scope-orgid").filter(|_| auth) {
        Some(tenant) if !tenant.is_empty() => tenant,
        _ if auth => return Err(Refusal::new(401, "no_tenant", "no org id")),
        _ => NOBODY,
    };
    let shard = header(headers, "x-loki-backfill-shard").unwrap_or_default();
    if shard.len() > SHARD_BYTES {
        return Err(Refusal::new(400, "bad_shard", "the backfill shard is too long"));
    }
    let limit = state.options.limits.max_body_bytes;
    if body.len() > limit {
        return Err(Refusal::new(413, "too_large", "request body too large"));
    }
    let push = decode(headers, body, is_otlp, limit).map_err(|words| Refusal::new(400, "unreadable", words))?;
    let now = state.options.now.unwrap_or_else(present);
    let blocked = lock(&state.blocked).clone();
    lock(&state.store).push(&state.options, &Sent { tenant, shard, now, blocked: blocked.as_deref() }, push)
}

fn present() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}

fn decode(headers: &HeaderMap, body: &[u8], is_otlp: bool, limit: usize) -> Result<Push, String> {
    let kind = header(headers, CONTENT_TYPE.as_str()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    let encoding = header(headers, CONTENT_ENCODING.as_str()).unwrap_or_default();
    let mut plain = Vec::new();
    let unpacked = match encoding {
        "gzip" => GzDecoder::new(body).take(limit as u64).read_to_end(&mut plain).map(|_| &plain[..]),
        "deflate" => ZlibDecoder::new(body).take(limit as u64).read_to_end(&mut plain).map(|_| &plain[..]),
        "" | "snappy" => Ok(body),
        other => return Err(format!("Content-Encoding {other:?} not supported")),
    };
    let body = unpacked.map_err(|error| error.to_string())?;
    match (is_otlp, kind) {
        (true, "application/x-protobuf") => otlp::decode(body),
        (false, "application/x-protobuf") => {
            let plain = snap::raw::Decoder::new().decompress_vec(body).map_err(|error| error.to_string())?;
            push::decode(&plain)
        }
        (false, "application/json") => push::decode_json(body),
        (_, other) => Err(format!("content type {other:?} is not supported")),
    }
}

fn header<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}
