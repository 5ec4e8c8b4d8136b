//! OTLP as protobuf over HTTP.

use std::time::Duration;

use afflux_runtime::Signal;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use super::answer::{Answer, innermost};
use super::target::Target;
use super::{CONNECT_TIMEOUT, TIMEOUT};

/// Most bytes of an answer that are read.
const MAX_ANSWER: usize = 64 << 10;

/// Connections kept for reuse.
#[derive(Clone, Debug)]
pub(super) struct Client {
    http: hyper_util::client::legacy::Client<HttpConnector, Full<Bytes>>,
    target: Target,
}

impl Client {
    pub(super) fn new(target: Target) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        connector.set_nodelay(true);
        let http = hyper_util::client::legacy::Client::builder(TokioExecutor::new()).build(connector);
        Self { http, target }
    }

    pub(super) async fn export(&self, signal: Signal, body: Bytes) -> Answer {
        match tokio::time::timeout(TIMEOUT, self.attempt(signal, body)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(reason)) => Answer::Retry { after: None, reason },
            Err(_) => Answer::Retry { after: None, reason: format!("no answer within {TIMEOUT:?}") },
        }
    }

    async fn attempt(&self, signal: Signal, body: Bytes) -> Result<Answer, String> {
        let path = match signal {
            Signal::Spans => "/v1/traces",
            Signal::Logs | Signal::Events => "/v1/logs",
        };
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.target.join(path).map_err(|error| error.to_string())?;
        let headers = request.headers_mut();
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("afflux-generate/", env!("CARGO_PKG_VERSION"))));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        headers.extend(self.target.headers().clone());
        let response = self.http.request(request).await.map_err(|error| innermost(&error))?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, MAX_ANSWER).collect().await.map_err(|error| error.to_string())?.to_bytes();
        Ok(if head.status.is_success() { Answer::accepted(signal, &body) } else { judge(head.status, &head.headers) })
    }
}

/// Which statuses may be sent again is fixed by the specification of OTLP.
fn judge(status: StatusCode, headers: &HeaderMap) -> Answer {
    let reason = status.to_string();
    match status {
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => {
            // The other form, a date, is left to the usual back-off.
            let seconds = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
            Answer::Retry { after: seconds.map(Duration::from_secs), reason }
        }
        _ => Answer::Refused { reason },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_otlp_calls_retryable_is_retried() {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, "3".parse().unwrap());
        for status in [429, 502, 503, 504] {
            let answer = judge(StatusCode::from_u16(status).unwrap(), &headers);
            assert!(
                matches!(&answer, Answer::Retry { after, .. } if *after == Some(Duration::from_secs(3))),
                "{answer:?}"
            );
        }
        for status in [400, 401, 404, 413, 415, 500] {
            let answer = judge(StatusCode::from_u16(status).unwrap(), &headers);
            assert!(matches!(answer, Answer::Refused { .. }), "{answer:?}");
        }
    }
}
