//! OTLP over HTTP.

use std::sync::Arc;

use afflux_runtime::Signal;
use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, ALLOW, CONTENT_ENCODING, CONTENT_TYPE, EXPECT, HeaderMap, RETRY_AFTER};
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response};
use http_body::Body;

use super::answer::{AnswerBody, Format, Receipt, status};
use super::body::{drain, read};
use super::compression::{ACCEPTED, Encoding};
use super::decode::Shape;
use super::ingest::{Call, Ingest};
use super::refusal::{Refusal, TENANT_BYTES, TENANT_HEADER, excerpt};

/// Answers one request.
pub(super) async fn handle<B>(ingest: Arc<Ingest>, request: Request<B>) -> Response<AnswerBody>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    let (head, mut body) = request.into_parts();
    let format = format_of(&head.headers);
    match export(&ingest, &head, &mut body).await {
        Ok((receipt, shape)) => stored(&receipt, shape),
        Err(refusal) => {
            ingest.refused(&refusal);
            if !body.is_end_stream() && !head.headers.contains_key(EXPECT) {
                drain(&mut body, ingest.limits.request_bytes.as_usize()).await;
            }
            refused(&refusal, format)
        }
    }
}

async fn export<B>(ingest: &Arc<Ingest>, head: &Parts, body: &mut B) -> Result<(Receipt, Shape), Refusal>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    let signal = route(head.uri.path())?;
    if head.method != Method::POST {
        return Err(Refusal::Method(head.method.clone()));
    }
    let shape = Shape {
        signal,
        format: format_of(&head.headers).ok_or_else(|| Refusal::ContentType(shown(&head.headers, CONTENT_TYPE)))?,
        encoding: encoding_of(&head.headers)?,
    };
    let _admission = ingest.admit(&head.headers)?;
    let tenant = tenant_of(&head.headers)?;
    let allowance = ingest.allowance();
    let announced = body.size_hint().exact().map_or(0, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
    if announced > allowance.bytes {
        return Err(Refusal::RequestTooLarge { limit: allowance.bytes });
    }
    let body = read(body, allowance, &ingest.memory, |_| Ok(announced)).await?;
    let receipt = ingest.store(Call { shape, body, tenant }).await?;
    Ok((receipt, shape))
}

fn route(path: &str) -> Result<Signal, Refusal> {
    match path {
        "/v1/traces" => Ok(Signal::Spans),
        "/v1/logs" => Ok(Signal::Logs),
        "/v1/metrics" => Err(Refusal::Metrics),
        other => Err(Refusal::Path(excerpt(other.as_bytes()))),
    }
}

fn format_of(headers: &HeaderMap) -> Option<Format> {
    let value = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    let media_type = value.split(';').next()?.trim();
    [Format::Protobuf, Format::Json].into_iter().find(|format| media_type.eq_ignore_ascii_case(format.media_type()))
}

fn encoding_of(headers: &HeaderMap) -> Result<Encoding, Refusal> {
    match headers.get(CONTENT_ENCODING) {
        None => Ok(Encoding::Identity),
        Some(value) => Encoding::named(value.as_bytes().trim_ascii())
            .ok_or_else(|| Refusal::ContentEncoding(shown(headers, CONTENT_ENCODING))),
    }
}

fn shown(headers: &HeaderMap, name: http::HeaderName) -> String {
    headers.get(name).map_or_else(|| "(none)".into(), |value| excerpt(value.as_bytes()))
}

/// The tenant that the headers name.
pub(super) fn tenant_of(headers: &HeaderMap) -> Result<Option<Bytes>, Refusal> {
    let Some(value) = headers.get(TENANT_HEADER) else {
        return Ok(None);
    };
    let tenant = value.as_bytes();
    let valid = (1..=TENANT_BYTES).contains(&tenant.len()) && tenant.iter().all(u8::is_ascii_graphic);
    if valid { Ok(Some(Bytes::copy_from_slice(tenant))) } else { Err(Refusal::Tenant) }
}

fn stored(receipt: &Receipt, shape: Shape) -> Response<AnswerBody> {
    let mut response = Response::new(AnswerBody::new(receipt.encode(shape.signal, shape.format)));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(shape.format.media_type()));
    response
}

/// The refusal, as text where the request has no format to answer in.
fn refused(refusal: &Refusal, format: Option<Format>) -> Response<AnswerBody> {
    let verdict = refusal.verdict();
    let body = format.map_or_else(|| refusal.to_string().into(), |format| status(refusal, format));
    let mut response = Response::new(AnswerBody::new(body));
    *response.status_mut() = verdict.status;
    let headers = response.headers_mut();
    let media_type = format.map_or("text/plain; charset=utf-8", Format::media_type);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    if let Some(delay) = verdict.retry {
        // Whole seconds, and never less than was meant.
        headers.insert(RETRY_AFTER, HeaderValue::from(delay.as_millis().div_ceil(1000).max(1) as u64));
    }
    match refusal {
        Refusal::Method(_) => {
            headers.insert(ALLOW, HeaderValue::from_static("POST"));
        }
        Refusal::ContentEncoding(_) => {
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(ACCEPTED));
        }
        _ => {}
    }
    response
}
