//! What a receiver said to a request, in one vocabulary for both transports.

use std::error::Error;
use std::time::Duration;

use afflux_runtime::Signal;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceResponse;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;

/// The verdict on one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Taken, but for so many items.
    Accepted { rejected: u64, message: String },
    /// Not taken for now, or no answer came; to be sent again after that time.
    Retry { after: Option<Duration>, reason: String },
    /// Refused for good.
    Refused { reason: String },
}

impl Answer {
    /// Reads the body of a success. A body that makes no sense counts as a full success, as the specification of
    /// OTLP has it for an unset partial success.
    pub(super) fn accepted(signal: Signal, body: &[u8]) -> Self {
        let (rejected, message) = match signal {
            Signal::Spans => ExportTraceServiceResponse::decode(body)
                .ok()
                .and_then(|response| response.partial_success)
                .map_or_else(Default::default, |partial| (partial.rejected_spans, partial.error_message)),
            Signal::Logs | Signal::Events => ExportLogsServiceResponse::decode(body)
                .ok()
                .and_then(|response| response.partial_success)
                .map_or_else(Default::default, |partial| (partial.rejected_log_records, partial.error_message)),
        };
        Self::Accepted { rejected: u64::try_from(rejected).unwrap_or(0), message }
    }
}

/// The cause at the end of the chain, which is the one that says something.
pub(super) fn innermost(error: &dyn Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
