//! Points in, series out; what servers answer.

mod model;
mod points;
mod server;
mod wire;

use std::sync::Arc;

use afflux_bus::{Generation, Headers, PartitionId, Received};
use afflux_runtime::delivery::{Batch, Kind as Topic};
use afflux_schemas::otlp::metrics::{Draft, Exemplar, Kind, Labels, Point, Temporality, Value, request};
use afflux_schemas::topics::Topics;
use afflux_schemas::wire::put_len_field;
use bytes::Bytes;

use super::{PrometheusConfig, PrometheusSink};

pub(super) const SUM: Kind = Kind::Sum(Temporality::Cumulative);
pub(super) const CLASSIC: Kind = Kind::Histogram(Temporality::Cumulative);
pub(super) const NATIVE: Kind = Kind::Exponential(Temporality::Cumulative);
const MS: u64 = 1_000_000;
pub(super) const EXEMPLAR: Exemplar =
    Exemplar { time_unix_nano: 7 * MS, value: 0.003, trace_id: [0xab; 16], span_id: [0xcd; 8] };

fn sink(config: PrometheusConfig) -> PrometheusSink {
    let url = if config.url.is_empty() { "http://127.0.0.1:9".to_owned() } else { config.url.clone() };
    PrometheusSink::new(&PrometheusConfig { url, ..config }, &Topics::new("afflux")).unwrap()
}

/// A sample: since when, when, in milliseconds, and what.
pub(super) fn point<'a>(start: u64, at: u64, value: Option<Value<'a>>, exemplars: &'a [Exemplar]) -> Point<'a> {
    Point { start_time_unix_nano: start * MS, time_unix_nano: at * MS, value, exemplars, ended_bounds: &[] }
}

fn resource(cluster: &str) -> Vec<u8> {
    let mut out = Vec::new();
    Labels::new([("k8s.cluster.name", cluster)]).messages().for_each(|message| put_len_field(&mut out, 1, message));
    out
}

/// The value of a series' record, as it is on the bus.
pub(super) fn series(metric: (&str, &'static str, Kind), labels: &[(&str, &str)], points: &[Point<'_>]) -> Bytes {
    let mut draft = Draft::new(metric.0, metric.1, metric.2);
    let labels = Labels::new(labels.iter().copied());
    points.iter().for_each(|point| draft.add(&labels, point));
    request(&resource("eu-1"), "afflux", &[draft]).into()
}

/// Records of those values, each under a key of its own.
fn batch(values: impl IntoIterator<Item = Option<Bytes>>) -> Batch {
    let topic: Arc<str> = "afflux.series".into();
    let record = |(at, value): (usize, Option<Bytes>)| Received {
        from: PartitionId { topic: topic.clone(), partition: 0 },
        generation: Generation(1),
        offset: at as u64,
        timestamp_ms: 0,
        key: Some(format!("key {at}").into()),
        value,
        headers: Headers::new(),
    };
    let records = values.into_iter().enumerate().map(record).collect();
    Batch { kind: Topic::Series, tenant: None, replay: false, records }
}
