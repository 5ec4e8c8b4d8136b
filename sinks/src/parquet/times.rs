//! Times as the tables hold them: what rows are sorted and filed by is what their columns say.

use afflux_schemas::otlp::logs::LogRecordView;
use afflux_schemas::otlp::trace::SpanView;

/// Nanoseconds since the Unix epoch, from 0 to `i64::MAX`. What does not fit (past the year 2262) counts as missing,
/// which is 0.
pub(crate) fn nanos(time: u64) -> i64 {
    i64::try_from(time).unwrap_or(0)
}

/// Start and end; where one is missing it is taken for the other, and the span for a moment.
pub(crate) fn span_times(span: &SpanView<'_>) -> (i64, i64) {
    match (nanos(span.start_time_unix_nano()), nanos(span.end_time_unix_nano())) {
        (0, end) => (end, end),
        (start, 0) => (start, start),
        both => both,
    }
}

/// When it happened, for want of which when it was observed; and when it was observed, 0 where that is missing.
pub(crate) fn log_times(log: &LogRecordView<'_>) -> (i64, i64) {
    let observed = nanos(log.observed_time_unix_nano());
    match nanos(log.time_unix_nano()) {
        0 => (observed, observed),
        time => (time, observed),
    }
}
