//! Names as Prometheus has them: of metrics, of labels, of bounds.
//!
//! Names that are final already stay as they are. Others get what Prometheus expects: the unit in full, and `_total`
//! behind a counter.

use std::borrow::Cow;
use std::fmt::Write as _;

use afflux_schemas::otlp::metrics::Kind;

/// The metrics of one name, unit and kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Family {
    /// What samples are called; of a classic histogram, what stands before `_bucket`, `_sum` and `_count`.
    pub(super) name: String,
    /// In full, such as `seconds`; may be empty.
    pub(super) unit: &'static str,
    /// What it counts; may be empty.
    pub(super) help: &'static str,
    /// The number of its type in metadata.
    pub(super) metadata_type: u64,
}

impl Family {
    pub(super) fn new(metric: &str, unit: &str, kind: Kind) -> Self {
        let mut name = metric_name(metric).into_owned();
        let unit = unit_word(unit);
        let counter = matches!(kind, Kind::Sum(_));
        if counter && let Some(base) = name.strip_suffix("_total") {
            name.truncate(base.len());
        }
        if !unit.is_empty() && !name.strip_suffix(unit).is_some_and(|base| base.is_empty() || base.ends_with('_')) {
            name = format!("{name}_{unit}");
        }
        if counter {
            name.push_str("_total");
        }
        let metadata_type = match kind {
            Kind::Sum(_) => 1,
            Kind::Gauge => 2,
            Kind::Histogram(_) | Kind::Exponential(_) => 3,
        };
        let help = help(&name);
        Self { name, unit, help, metadata_type }
    }
}

impl Family {
    /// The word for its type.
    pub(super) const fn type_word(&self) -> &'static str {
        match self.metadata_type {
            1 => "counter",
            2 => "gauge",
            _ => "histogram",
        }
    }
}

/// A metric's name: other characters than letters, digits, underscores and colons become underscores.
fn metric_name(name: &str) -> Cow<'_, str> {
    sanitized(name, |c| c.is_ascii_alphanumeric() || matches!(c, '_' | ':'))
}

/// A label's name: other characters than letters, digits and underscores become underscores.
pub(super) fn label_name(name: &str) -> Cow<'_, str> {
    sanitized(name, |c| c.is_ascii_alphanumeric() || c == '_')
}

/// Whether a label may be called so.
pub(super) fn is_label_name(name: &str) -> bool {
    !name.is_empty() && matches!(label_name(name), Cow::Borrowed(_))
}

fn sanitized(name: &str, good: impl Fn(char) -> bool) -> Cow<'_, str> {
    let digit_first = name.starts_with(|c: char| c.is_ascii_digit());
    if !digit_first && name.chars().all(&good) {
        return Cow::Borrowed(name);
    }
    let first = if digit_first { "_" } else { "" };
    Cow::Owned(first.chars().chain(name.chars().map(|c| if good(c) { c } else { '_' })).collect())
}

/// A unit of OpenTelemetry in full; empty where Prometheus has no word for it.
fn unit_word(unit: &str) -> &'static str {
    match unit {
        "s" => "seconds",
        "ms" => "milliseconds",
        "us" => "microseconds",
        "ns" => "nanoseconds",
        "min" => "minutes",
        "h" => "hours",
        "By" => "bytes",
        _ => "",
    }
}

/// What the derived metrics count.
fn help(name: &str) -> &'static str {
    match name {
        "traces_spanmetrics_calls_total" | "traces_span_metrics_calls_total" => "Spans.",
        "traces_spanmetrics_latency" => "Durations of spans in seconds.",
        "traces_span_metrics_duration_milliseconds" => "Durations of spans.",
        "traces_spanmetrics_size_total" | "traces_span_metrics_size_bytes_total" => "Bytes of spans in protobuf.",
        "traces_target_info" => "Attributes of the resources that spans came from.",
        "traces_service_graph_request_total" => "Requests between two services.",
        "traces_service_graph_request_failed_total" => "Requests between two services that failed.",
        "traces_service_graph_request_server_seconds" => "Durations of requests, as the server saw them.",
        "traces_service_graph_request_client_seconds" => "Durations of requests, as the client saw them.",
        "traces_service_graph_request_messaging_system_seconds" => "Time of messages between sender and receiver.",
        "logs_records_total" => "Log records.",
        "k8s_events_total" => "Kubernetes events.",
        _ => "",
    }
}

/// A bound as client libraries of Prometheus write it into `le`: the shortest digits that name the number, with an
/// exponent from a million on and below a ten-thousandth.
pub(super) fn bound(bound: f64) -> String {
    if bound == f64::INFINITY {
        return "+Inf".into();
    }
    let scientific = format!("{bound:e}");
    let Some((digits, exponent)) = scientific.split_once('e') else { return scientific };
    match exponent.parse::<i32>() {
        Ok(exponent) if !(-4..6).contains(&exponent) => {
            let mut text = digits.to_owned();
            let sign = if exponent < 0 { '-' } else { '+' };
            let _ = write!(text, "e{sign}{:02}", exponent.unsigned_abs());
            text
        }
        _ => bound.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use afflux_schemas::otlp::metrics::Temporality::Cumulative;

    use super::*;

    #[test]
    fn names_get_what_they_lack_and_nothing_twice() {
        let (sum, histogram) = (Kind::Sum(Cumulative), Kind::Histogram(Cumulative));
        for (metric, unit, kind, name) in [
            ("traces_spanmetrics_calls_total", "", sum, "traces_spanmetrics_calls_total"),
            ("traces.span.metrics.calls", "", sum, "traces_span_metrics_calls_total"),
            ("traces.span.metrics.size", "By", sum, "traces_span_metrics_size_bytes_total"),
            ("traces_spanmetrics_latency", "", histogram, "traces_spanmetrics_latency"),
            ("traces.span.metrics.duration", "ms", histogram, "traces_span_metrics_duration_milliseconds"),
            ("request_seconds", "s", Kind::Exponential(Cumulative), "request_seconds"),
            ("request_seconds_total", "s", sum, "request_seconds_total"),
            ("kiloseconds", "s", Kind::Gauge, "kiloseconds_seconds"),
            ("seconds", "s", Kind::Gauge, "seconds"),
            ("logs_records_total", "", sum, "logs_records_total"),
            ("9 lives/ä", "{cat}", Kind::Gauge, "_9_lives__"),
            ("job:rate", "", Kind::Gauge, "job:rate"),
        ] {
            assert_eq!(Family::new(metric, unit, kind).name, name, "{metric}");
        }
    }

    #[test]
    fn labels_are_made_of_letters_digits_and_underscores() {
        for (name, label) in [
            ("service", "service"),
            ("service.name", "service_name"),
            ("http/status:code", "http_status_code"),
            ("4xx", "_4xx"),
            ("größe", "gr__e"),
            ("", ""),
        ] {
            assert_eq!(label_name(name), label);
        }
        assert!(is_label_name("_a9") && !is_label_name("9") && !is_label_name("a.b") && !is_label_name(""));
    }

    #[test]
    fn bounds_are_written_as_clients_of_prometheus_write_them() {
        for (value, text) in [
            (0.002, "0.002"),
            (16.384, "16.384"),
            (1.0, "1"),
            (2.5, "2.5"),
            (15_000.0, "15000"),
            (123_456.0, "123456"),
            (1e6, "1e+06"),
            (1_234_567.5, "1.2345675e+06"),
            (1e-4, "0.0001"),
            (0.000_05, "5e-05"),
            (1e100, "1e+100"),
            (0.0, "0"),
            (-2.0, "-2"),
            (f64::INFINITY, "+Inf"),
        ] {
            assert_eq!(bound(value), text);
        }
    }
}
