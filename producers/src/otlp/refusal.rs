//! Why a request is refused, and what its client is told to do about it.

use std::time::Duration;

use afflux_bus::{BusError, ErrorClass};
use afflux_schemas::otlp::validate::Malformed;
use http::{Method, StatusCode};

/// When to come back after meeting a limit of this process: requests in flight are done within seconds.
const SOON: Duration = Duration::from_secs(1);
/// When to come back after the bus failed.
const LATER: Duration = Duration::from_secs(5);

/// Why a request is refused. The text is what the client reads: it names nothing of the inside.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error("the receiver holds as many bytes as it may; retry")]
    Busy,
    #[error("the bus did not acknowledge within {0:?}; retry (the data may have been stored)")]
    AckTimeout(Duration),
    #[error("the bus takes no more for now; retry")]
    BusFull { after: Duration },
    #[error("the bus is unavailable; retry")]
    BusUnavailable,
    #[error("the receiver is stopping; retry")]
    Stopping,
    #[error("the bus refuses the request for good")]
    BusRefused,
    #[error("a record of {size} bytes is over the bus's limit of {limit} bytes; send smaller items")]
    RecordTooLarge { size: usize, limit: usize },
    #[error("the request is over {limit} bytes; send smaller batches")]
    RequestTooLarge { limit: usize },
    #[error("the request is over {limit} bytes after decompression; send smaller batches")]
    DecompressedTooLarge { limit: usize },
    #[error("handling the request takes over {limit} bytes of memory; send smaller batches")]
    WorkTooLarge { limit: usize },
    #[error("the body did not arrive within {0:?}")]
    BodyTimeout(Duration),
    #[error("the body broke off: {0}")]
    BodyBroken(String),
    #[error("malformed {encoding} data: {source}")]
    Compression { encoding: &'static str, source: std::io::Error },
    #[error(transparent)]
    Protobuf(#[from] Malformed),
    #[error("malformed JSON: {0}")]
    Json(#[from] serde_json::Error),
    #[error("the gRPC message announces {announced} bytes, {received} arrived")]
    FrameCut { announced: usize, received: usize },
    #[error("the gRPC message has compression flag {0}; only 0 and, with a grpc-encoding, 1 are valid")]
    FrameFlag(u8),
    #[error("a unary call holds exactly one gRPC message")]
    FrameCount,
    #[error("{TENANT_HEADER} must be 1 to {TENANT_BYTES} visible ASCII characters")]
    Tenant,
    #[error("content type {0} is not supported; send application/x-protobuf or application/json")]
    ContentType(String),
    #[error("compression {0} is not supported; send gzip, zstd or none")]
    ContentEncoding(String),
    #[error("method {0} is not supported; send POST")]
    Method(Method),
    #[error("nothing is served at {0}; send to /v1/traces or /v1/logs")]
    Path(String),
    #[error("method {0} is not served; call TraceService/Export or LogsService/Export")]
    GrpcMethod(String),
    #[error("metrics are not received: span metrics are derived from spans; turn the metrics exporter off")]
    Metrics,
}

/// Header or metadata key that names the tenant.
pub(super) const TENANT_HEADER: &str = "x-scope-orgid";
/// Longest tenant name, as in Loki and Tempo.
pub(super) const TENANT_BYTES: usize = 150;

/// The codes of gRPC that are answered here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Code {
    Cancelled = 1,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    ResourceExhausted = 8,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
}

/// What a refusal is to each protocol and to the operator.
#[derive(Clone, Copy, Debug)]
pub(super) struct Verdict {
    /// The metric's label.
    pub(super) reason: &'static str,
    pub(super) code: Code,
    pub(super) status: StatusCode,
    /// When to send the same again; `None`: never.
    pub(super) retry: Option<Duration>,
}

impl Refusal {
    /// The one table of answers.
    ///
    /// Full and down are both `UNAVAILABLE` and 503: several SDKs drop data on 429 and `RESOURCE_EXHAUSTED`.
    pub(super) fn verdict(&self) -> Verdict {
        use Code::{
            Cancelled, DeadlineExceeded, Internal, InvalidArgument, ResourceExhausted, Unavailable, Unimplemented,
        };
        let (reason, code, status, retry) = match self {
            Self::Busy => ("budget", Unavailable, 503, Some(SOON)),
            Self::AckTimeout(_) => ("ack_timeout", Unavailable, 503, Some(SOON)),
            Self::BusFull { after } => ("bus_full", Unavailable, 503, Some(*after)),
            Self::BusUnavailable => ("bus_unavailable", Unavailable, 503, Some(LATER)),
            Self::Stopping => ("stopping", Unavailable, 503, Some(LATER)),
            Self::BusRefused => ("bus_refused", Internal, 500, None),
            Self::RecordTooLarge { .. }
            | Self::RequestTooLarge { .. }
            | Self::DecompressedTooLarge { .. }
            | Self::WorkTooLarge { .. } => ("too_large", ResourceExhausted, 413, None),
            Self::BodyTimeout(_) => ("body_timeout", DeadlineExceeded, 408, None),
            Self::BodyBroken(_) => ("body_broken", Cancelled, 400, None),
            Self::Compression { .. } => ("compression", InvalidArgument, 400, None),
            Self::Protobuf(_) | Self::Json(_) => ("malformed", InvalidArgument, 400, None),
            Self::FrameCut { .. } => ("malformed", InvalidArgument, 400, None),
            Self::FrameFlag(_) => ("malformed", Internal, 400, None),
            Self::FrameCount => ("malformed", Unimplemented, 400, None),
            Self::Tenant => ("tenant", InvalidArgument, 400, None),
            Self::ContentType(_) => ("content_type", InvalidArgument, 415, None),
            Self::ContentEncoding(_) => ("content_encoding", Unimplemented, 415, None),
            Self::Method(_) => ("method", Unimplemented, 405, None),
            Self::Path(_) | Self::GrpcMethod(_) => ("path", Unimplemented, 404, None),
            Self::Metrics => ("metrics", Unimplemented, 404, None),
        };
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Verdict { reason, code, status, retry }
    }
}

impl From<&BusError> for Refusal {
    /// Data is never given up for a fault on this side: only what the bus will not take whatever happens is
    /// refused for good.
    fn from(error: &BusError) -> Self {
        match error {
            BusError::Full { .. } => Self::BusFull { after: delay(error).unwrap_or(SOON) },
            BusError::TimedOut { after, .. } => Self::AckTimeout(*after),
            BusError::TooLarge { size, limit, .. } => Self::RecordTooLarge { size: *size, limit: *limit },
            BusError::Other { class: ErrorClass::Permanent, .. } => Self::BusRefused,
            _ => Self::BusUnavailable,
        }
    }
}

fn delay(error: &BusError) -> Option<Duration> {
    match error.class() {
        ErrorClass::Transient(after) => after,
        _ => None,
    }
}

/// The beginning of what a client sent, for repeating it to the client.
pub(super) fn excerpt(text: &[u8]) -> String {
    const BYTES: usize = 64;
    text[..text.len().min(BYTES)].escape_ascii().to_string()
}
