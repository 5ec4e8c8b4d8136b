//! What clients get: export responses and `google.rpc.Status`, as protobuf and JSON.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use afflux_runtime::Signal;
use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsPartialSuccess, ExportLogsServiceResponse};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTracePartialSuccess, ExportTraceServiceResponse};
use prost::Message;
use serde_json::json;

use super::refusal::Refusal;

/// How requests and their answers are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Protobuf,
    Json,
}

impl Format {
    /// As in `Content-Type`.
    pub(super) const fn media_type(self) -> &'static str {
        match self {
            Self::Protobuf => "application/x-protobuf",
            Self::Json => "application/json",
        }
    }
}

/// Items of a request that are not stored and never will be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rejection {
    /// Spans or log records.
    pub(super) items: u64,
    /// The metric's label.
    pub(super) label: &'static str,
    /// What is wrong with the first of them.
    pub(super) reason: String,
}

/// What was stored of a request: all but what was rejected.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Receipt {
    pub(super) rejections: Vec<Rejection>,
}

impl Receipt {
    /// The export response; the partial success is left out where everything was stored.
    pub(super) fn encode(&self, signal: Signal, format: Format) -> Bytes {
        let rejected: u64 = self.rejections.iter().map(|rejection| rejection.items).sum();
        let partial = rejected > 0;
        let rejected = i64::try_from(rejected).unwrap_or(i64::MAX);
        let reasons: Vec<_> = self.rejections.iter().map(|rejection| &*rejection.reason).collect();
        let error_message = reasons.join("; ");
        match (format, signal) {
            (Format::Protobuf, Signal::Spans) => {
                let success = ExportTracePartialSuccess { rejected_spans: rejected, error_message };
                ExportTraceServiceResponse { partial_success: partial.then_some(success) }.encode_to_vec().into()
            }
            (Format::Protobuf, Signal::Logs | Signal::Events) => {
                let success = ExportLogsPartialSuccess { rejected_log_records: rejected, error_message };
                ExportLogsServiceResponse { partial_success: partial.then_some(success) }.encode_to_vec().into()
            }
            (Format::Json, _) if !partial => Bytes::from_static(b"{}"),
            (Format::Json, Signal::Spans) => {
                let success = json!({"rejectedSpans": rejected.to_string(), "errorMessage": error_message});
                json!({ "partialSuccess": success }).to_string().into()
            }
            (Format::Json, Signal::Logs | Signal::Events) => {
                let success = json!({"rejectedLogRecords": rejected.to_string(), "errorMessage": error_message});
                json!({ "partialSuccess": success }).to_string().into()
            }
        }
    }
}

const RETRY_INFO: &str = "type.googleapis.com/google.rpc.RetryInfo";

/// `google.rpc.Status`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Status {
    #[prost(int32, tag = "1")]
    pub(super) code: i32,
    #[prost(string, tag = "2")]
    pub(super) message: String,
    #[prost(message, repeated, tag = "3")]
    pub(super) details: Vec<Any>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Any {
    #[prost(string, tag = "1")]
    pub(super) type_url: String,
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) value: Bytes,
}

/// `google.rpc.RetryInfo`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    pub(super) retry_delay: Option<Delay>,
}

/// `google.protobuf.Duration`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Delay {
    #[prost(int64, tag = "1")]
    pub(super) seconds: i64,
    #[prost(int32, tag = "2")]
    pub(super) nanos: i32,
}

impl From<Duration> for Delay {
    fn from(delay: Duration) -> Self {
        let seconds = i64::try_from(delay.as_secs()).unwrap_or(i64::MAX);
        Self { seconds, nanos: delay.subsec_nanos().cast_signed() }
    }
}

/// The refusal as `google.rpc.Status`.
pub(super) fn status(refusal: &Refusal, format: Format) -> Bytes {
    let verdict = refusal.verdict();
    let (code, message) = (verdict.code as i32, refusal.to_string());
    if format == Format::Json {
        let mut status = json!({"code": code, "message": message});
        if let Some(delay) = verdict.retry {
            status["details"] = json!([{"@type": RETRY_INFO, "retryDelay": format!("{}s", delay.as_secs_f64())}]);
        }
        return status.to_string().into();
    }
    let detail = |delay: Duration| Any {
        type_url: RETRY_INFO.into(),
        value: RetryInfo { retry_delay: Some(delay.into()) }.encode_to_vec().into(),
    };
    Status { code, message, details: verdict.retry.map(detail).into_iter().collect() }.encode_to_vec().into()
}

/// A body of at most one piece, and trailers.
#[derive(Debug, Default)]
pub(super) struct AnswerBody {
    data: Option<Bytes>,
    trailers: Option<HeaderMap>,
}

impl AnswerBody {
    pub(super) fn new(data: Bytes) -> Self {
        Self { data: (!data.is_empty()).then_some(data), trailers: None }
    }

    pub(super) fn with_trailers(data: Bytes, trailers: HeaderMap) -> Self {
        Self { trailers: Some(trailers), ..Self::new(data) }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let data = self.data.take().map(Frame::data);
        Poll::Ready(data.or_else(|| self.trailers.take().map(Frame::trailers)).map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.data.is_none() && self.trailers.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.data.as_ref().map_or(0, Bytes::len) as u64)
    }
}
