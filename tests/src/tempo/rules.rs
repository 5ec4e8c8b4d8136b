//! What Tempo makes of a request.

use std::time::{Duration, Instant};

use http::HeaderMap;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use prost::Message as _;
use tonic::Code;

use super::{Access, Arrival, Fault, State, lock};

/// Tenant of all where none has to be named.
const SINGLE_TENANT: &str = "single-tenant";

/// What a request comes to.
pub(super) enum Outcome {
    /// An answer.
    Answer(Result<ExportTraceServiceResponse, Refusal>),
    /// The connection is reset.
    Reset,
    /// The connection is closed.
    Close,
    /// Nothing.
    Hang,
}

/// An error in gRPC's terms, from which follows what is said over HTTP.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) code: Code,
    pub(super) message: String,
    pub(super) retry_after: Option<Duration>,
    word: &'static str,
}

impl Refusal {
    fn new(word: &'static str, code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), retry_after: None, word }
    }
}

/// Bytes that a tenant may send at the moment.
#[derive(Debug)]
pub(super) struct Bucket {
    left: f64,
    at: Instant,
}

impl State {
    /// Deals with a request that has been read.
    pub(super) fn export(&self, headers: &HeaderMap, request: ExportTraceServiceRequest) -> Outcome {
        let admitted = self.admitted(headers);
        let fault = if admitted.is_ok() { lock(&self.faults).next() } else { None };
        let (outcome, word) = match fault {
            Some(fault @ Fault::Unavailable) => failed(fault, Code::Unavailable, "try again", None),
            Some(fault @ Fault::ServerError) => failed(fault, Code::Internal, "something broke", None),
            Some(fault @ Fault::RateLimited(after)) => {
                failed(fault, Code::ResourceExhausted, "RATE_LIMITED: by the script", after)
            }
            Some(Fault::Reset) => (Outcome::Reset, Fault::Reset.word()),
            other => match admitted.and_then(|()| self.store(headers, request)) {
                Err(refusal) => {
                    let word = refusal.word;
                    (Outcome::Answer(Err(refusal)), word)
                }
                Ok(()) => stored(other, *lock(&self.rejects)),
            },
        };
        lock(&self.arrivals).push(Arrival { at: Instant::now(), headers: headers.clone(), outcome: word });
        outcome
    }

    /// The gateway.
    fn admitted(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let authorization = headers.get(http::header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let known = match &*lock(&self.access) {
            Access::Anybody => true,
            Access::Authorization(wanted) => authorization == Some(wanted),
            Access::Issued(issued) => authorization.is_some_and(|value| issued.admits(value)),
            Access::Nobody => {
                return Err(Refusal::new("forbidden", Code::PermissionDenied, "not for you"));
            }
        };
        known.then_some(()).ok_or_else(|| Refusal::new("unauthenticated", Code::Unauthenticated, "who are you?"))
    }

    fn store(&self, headers: &HeaderMap, request: ExportTraceServiceRequest) -> Result<(), Refusal> {
        let (bytes, most) = (request.encoded_len(), self.settings.max_message_bytes);
        if bytes > most {
            let message = format!("grpc: received message larger than max ({bytes} vs. {most})");
            return Err(Refusal::new("too_large", Code::ResourceExhausted, message));
        }
        let tenant = self.tenant(headers)?;
        self.within_rate(&tenant, bytes)?;
        let scopes = request.resource_spans.iter().flat_map(|resource| &resource.scope_spans);
        for span in scopes.flat_map(|scope| &scope.spans) {
            let invalid = |message: String| Refusal::new("invalid", Code::InvalidArgument, message);
            for (id, bytes, name, rule) in [
                (&span.trace_id, 16, "TraceID", "trace ids must be 128 bit"),
                (&span.span_id, 8, "SpanID", "span ids must be 64 bit and not all zero"),
            ] {
                if !id.is_empty() && id.len() != bytes {
                    // The request cannot even be read.
                    let message = format!("grpc: error unmarshalling request: unmarshal: invalid {name} length");
                    return Err(Refusal::new("unreadable", Code::Internal, message));
                }
                // One of zeros only is read as none.
                if id.iter().all(|byte| *byte == 0) {
                    return Err(invalid(format!("{rule}, received 0 bits")));
                }
            }
            if self.settings.refuses.is_some_and(|refuses| refuses(span)) {
                return Err(invalid("a span of this request is not wanted".into()));
            }
        }
        lock(&self.store).write(&tenant, request, self.settings.max_attribute_bytes);
        Ok(())
    }

    fn tenant(&self, headers: &HeaderMap) -> Result<String, Refusal> {
        if !self.settings.multitenant {
            return Ok(SINGLE_TENANT.into());
        }
        let tenant = headers.get("x-scope-orgid").and_then(|value| value.to_str().ok()).unwrap_or_default();
        if tenant.is_empty() {
            // No gRPC status of its own, so the receiver takes it for something that passes.
            return Err(Refusal::new("no_tenant", Code::Unavailable, "no org id"));
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || "!-_.*'()".contains(c);
        if tenant.contains('|') {
            return Err(Refusal::new("bad_tenant", Code::InvalidArgument, "multiple org IDs present"));
        }
        if let Some(wrong) = tenant.chars().find(|c| !allowed(*c)) {
            let message = format!("tenant ID '{tenant}' contains unsupported character '{wrong}'");
            return Err(Refusal::new("bad_tenant", Code::InvalidArgument, message));
        }
        Ok(tenant.into())
    }

    fn within_rate(&self, tenant: &str, bytes: usize) -> Result<(), Refusal> {
        let Some((rate, burst)) = self.settings.rate else { return Ok(()) };
        let mut buckets = lock(&self.buckets);
        let now = Instant::now();
        let bucket = buckets.entry(tenant.into()).or_insert(Bucket { left: burst as f64, at: now });
        let more = (now - bucket.at).as_secs_f64() * rate as f64;
        *bucket = Bucket { left: (bucket.left + more).min(burst as f64), at: now };
        if bucket.left >= bytes as f64 {
            bucket.left -= bytes as f64;
            return Ok(());
        }
        let limits = format!("(local: {rate} bytes/s, global: 0 bytes/s, burst: {burst} bytes)");
        let (word, message) = if bytes > rate && bytes > burst {
            let what = format!("batch size ({bytes} bytes) exceeds ingestion limit {limits}");
            ("over_burst", format!("RATE_LIMITED: {what} while adding {bytes} bytes for user {tenant}."))
        } else {
            let what = format!("ingestion rate limit {limits} exceeded");
            ("over_rate", format!("RATE_LIMITED: {what} while adding {bytes} bytes for user {tenant}."))
        };
        let refusal = Refusal::new(word, Code::ResourceExhausted, message);
        Err(Refusal { retry_after: self.settings.retry_after, ..refusal })
    }
}

fn failed(fault: Fault, code: Code, message: &str, retry_after: Option<Duration>) -> (Outcome, &'static str) {
    let refusal = Refusal { retry_after, ..Refusal::new(fault.word(), code, message) };
    (Outcome::Answer(Err(refusal)), fault.word())
}

fn stored(fault: Option<Fault>, rejects: Option<i64>) -> (Outcome, &'static str) {
    let word = fault.map_or(if rejects.is_some() { "partial" } else { "stored" }, Fault::word);
    let error_message = "rejected by the script".into();
    let partial_success = rejects.map(|rejected_spans| ExportTracePartialSuccess { rejected_spans, error_message });
    let outcome = match fault {
        Some(Fault::StoreAndReset) => Outcome::Reset,
        Some(Fault::StoreAndClose) => Outcome::Close,
        Some(Fault::StoreAndHang) => Outcome::Hang,
        _ => Outcome::Answer(Ok(ExportTraceServiceResponse { partial_success })),
    };
    (outcome, word)
}
