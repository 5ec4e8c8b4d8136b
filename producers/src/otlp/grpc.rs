//! OTLP over gRPC: unary calls of two methods, spoken directly over HTTP/2.
//!
//! The message's bytes go to the bus as they came, and its length and compression must meet the budget before
//! anything is allocated; that is why no generated server stands here.

use std::sync::Arc;

use afflux_runtime::Signal;
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bytes::{BufMut, Bytes, BytesMut};
use http::header::{CONTENT_TYPE, EXPECT, HeaderMap};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body::Body;

use super::answer::{AnswerBody, Format, Receipt, status};
use super::body::{Allowance, drain, read};
use super::compression::Encoding;
use super::decode::Shape;
use super::http::tenant_of;
use super::ingest::{Call, Ingest};
use super::memory::Held;
use super::refusal::{Refusal, excerpt};

/// Bytes before a message: the compression flag and the length.
const PREFIX: usize = 5;

const GRPC: &str = "application/grpc";
const ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
const ACCEPT: HeaderName = HeaderName::from_static("grpc-accept-encoding");
const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");

/// Answers one call.
pub(super) async fn handle<B>(ingest: Arc<Ingest>, request: Request<B>) -> Response<AnswerBody>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    let (head, mut body) = request.into_parts();
    match export(&ingest, &head, &mut body).await {
        Ok((receipt, signal)) => stored(&receipt, signal),
        Err(refusal) => {
            ingest.refused(&refusal);
            if !body.is_end_stream() && !head.headers.contains_key(EXPECT) {
                drain(&mut body, ingest.limits.request_bytes.as_usize()).await;
            }
            refused(&refusal)
        }
    }
}

async fn export<B>(ingest: &Arc<Ingest>, head: &Parts, body: &mut B) -> Result<(Receipt, Signal), Refusal>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    if head.method != Method::POST {
        return Err(Refusal::Method(head.method.clone()));
    }
    is_grpc(&head.headers)?;
    let signal = route(head.uri.path())?;
    let encoding = encoding_of(&head.headers)?;
    let _admission = ingest.admit(&head.headers)?;
    let tenant = tenant_of(&head.headers)?;
    let limit = ingest.allowance();
    let allowance = Allowance { framing: PREFIX, ..limit };
    let frame = read(body, allowance, &ingest.memory, |so_far| expected(so_far, limit.bytes)).await?;
    let (body, compressed) = message(frame)?;
    let encoding = if compressed { encoding.ok_or(Refusal::FrameFlag(1))? } else { Encoding::Identity };
    let shape = Shape { signal, format: Format::Protobuf, encoding };
    let receipt = ingest.store(Call { shape, body, tenant }).await?;
    Ok((receipt, signal))
}

fn is_grpc(headers: &HeaderMap) -> Result<(), Refusal> {
    let found = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    match found.strip_prefix(GRPC.as_bytes()) {
        Some(b"" | b"+proto" | [b';', ..]) => Ok(()),
        _ => Err(Refusal::ContentType(excerpt(found))),
    }
}

fn route(path: &str) -> Result<Signal, Refusal> {
    match path {
        "/opentelemetry.proto.collector.trace.v1.TraceService/Export" => Ok(Signal::Spans),
        "/opentelemetry.proto.collector.logs.v1.LogsService/Export" => Ok(Signal::Logs),
        "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export" => Err(Refusal::Metrics),
        other => Err(Refusal::GrpcMethod(excerpt(other.as_bytes()))),
    }
}

/// The encoding of compressed messages; `None` if there may be none.
fn encoding_of(headers: &HeaderMap) -> Result<Option<Encoding>, Refusal> {
    match headers.get(ENCODING).map(HeaderValue::as_bytes) {
        None => Ok(None),
        Some(name) => match Encoding::named(name) {
            Some(Encoding::Identity) => Ok(None),
            Some(encoding) => Ok(Some(encoding)),
            None => Err(Refusal::ContentEncoding(excerpt(name))),
        },
    }
}

/// Bytes of the whole body, judging by what has arrived of it; 0 before the prefix has.
fn expected(so_far: &[u8], limit: usize) -> Result<usize, Refusal> {
    let Some((flag, announced)) = prefix(so_far) else {
        return Ok(0);
    };
    if flag > 1 {
        return Err(Refusal::FrameFlag(flag));
    }
    if announced > limit {
        return Err(Refusal::RequestTooLarge { limit });
    }
    if so_far.len() > PREFIX + announced {
        return Err(Refusal::FrameCount);
    }
    Ok(PREFIX + announced)
}

fn prefix(frame: &[u8]) -> Option<(u8, usize)> {
    let [flag, a, b, c, d] = *frame.first_chunk::<PREFIX>()?;
    Some((flag, usize::try_from(u32::from_be_bytes([a, b, c, d])).ok()?))
}

/// The message of a body that was read to its end, and whether it is compressed.
fn message(frame: Held) -> Result<(Held, bool), Refusal> {
    let received = frame.bytes.len().saturating_sub(PREFIX);
    match prefix(&frame.bytes) {
        None if frame.bytes.is_empty() => Err(Refusal::FrameCount),
        None => Err(Refusal::FrameCut { announced: PREFIX, received: frame.bytes.len() }),
        Some((_, announced)) if announced != received => Err(Refusal::FrameCut { announced, received }),
        Some((flag, _)) => Ok((Held { bytes: frame.bytes.slice(PREFIX..), permit: frame.permit }, flag == 1)),
    }
}

fn stored(receipt: &Receipt, signal: Signal) -> Response<AnswerBody> {
    let message = receipt.encode(signal, Format::Protobuf);
    let mut frame = BytesMut::with_capacity(PREFIX + message.len());
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).unwrap_or_default());
    frame.put(message);
    let mut trailers = HeaderMap::new();
    trailers.insert(STATUS, HeaderValue::from_static("0"));
    let mut response = Response::new(AnswerBody::with_trailers(frame.freeze(), trailers));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(GRPC));
    response
}

/// The refusal as trailers without a message; what is not a gRPC call gets a status of HTTP.
fn refused(refusal: &Refusal) -> Response<AnswerBody> {
    let mut response = Response::new(AnswerBody::default());
    let verdict = refusal.verdict();
    if matches!(refusal, Refusal::ContentType(_) | Refusal::Method(_)) {
        *response.status_mut() = verdict.status;
        if verdict.status == StatusCode::METHOD_NOT_ALLOWED {
            response.headers_mut().insert(http::header::ALLOW, HeaderValue::from_static("POST"));
        }
    }
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(GRPC));
    headers.insert(STATUS, HeaderValue::from(verdict.code as u16));
    if let Ok(message) = HeaderValue::from_str(&percent_encoded(&refusal.to_string())) {
        headers.insert(MESSAGE, message);
    }
    if let Ok(details) = HeaderValue::from_str(&STANDARD_NO_PAD.encode(status(refusal, Format::Protobuf))) {
        headers.insert(DETAILS, details);
    }
    if matches!(refusal, Refusal::ContentEncoding(_)) {
        headers.insert(ACCEPT, HeaderValue::from_static("identity, gzip, zstd"));
    }
    response
}

/// As the gRPC protocol writes status messages in a header.
fn percent_encoded(message: &str) -> String {
    let mut encoded = String::with_capacity(message.len());
    for byte in message.bytes() {
        match byte {
            b' '..=b'$' | b'&'..=b'~' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}
