//! Traces in, series out.

use std::collections::BTreeMap;
use std::time::Duration;

use afflux_bus::{Headers, PartitionId, Record};
use afflux_runtime::Signal;
use afflux_runtime::config::Period;
use afflux_schemas::otlp::metrics::read;
use afflux_schemas::topics::HEADER_TENANT;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use prost::Message;

use super::config::{DimensionMapping, Histograms, IntrinsicDimensions, Naming};
use super::*;
use crate::chain::{Chain, Route};

mod invalid;
mod limits;
mod rules;

const SECOND: u64 = 1_000_000_000;
/// The end of spans, unless they say otherwise; a border of time buckets.
const END: u64 = 1_767_225_600 * SECOND;

fn attribute(key: &str, value: Any) -> KeyValue {
    KeyValue { key: key.into(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

fn text(key: &str, value: &str) -> KeyValue {
    attribute(key, Any::StringValue(value.into()))
}

/// A server span that took so many milliseconds.
fn span(name: &str, millis: u64) -> Span {
    Span {
        trace_id: vec![1; 16],
        span_id: vec![2; 8],
        name: name.into(),
        kind: 2,
        start_time_unix_nano: END - millis * 1_000_000,
        end_time_unix_nano: END,
        ..Span::default()
    }
}

fn of(resource: &[KeyValue], spans: Vec<Span>) -> ResourceSpans {
    ResourceSpans {
        resource: Some(Resource { attributes: resource.to_vec(), ..Resource::default() }),
        scope_spans: vec![ScopeSpans { spans, ..ScopeSpans::default() }],
        ..ResourceSpans::default()
    }
}

fn cart(spans: Vec<Span>) -> ResourceSpans {
    of(&[text("service.name", "cart")], spans)
}

fn envelope(resource_spans: Vec<ResourceSpans>) -> Envelope {
    let items = resource_spans.iter().flat_map(|r| &r.scope_spans).map(|s| s.spans.len() as u64).sum();
    Envelope {
        signal: Signal::Spans,
        value: ExportTraceServiceRequest { resource_spans }.encode_to_vec().into(),
        items,
        cluster: "eu".into(),
        timestamp_ms: (END / 1_000_000) as i64,
        headers: Headers::new(),
        route: Route::default(),
    }
}

fn process(chain: &mut Chain, envelope: Envelope, repeat: bool) -> usize {
    let from = PartitionId::new("in", 0);
    let at = At { from: &from, offset: 0, timestamp_ms: 0, stream_time_ms: 0, repeat, counted: false };
    let mut out = 0;
    chain.process(envelope, &at, &mut |_| out += 1);
    out
}

fn close(chain: &mut Chain) -> Vec<Record> {
    let mut derived = Derived::new("metrics".into(), 4, usize::MAX);
    chain.close(&mut derived);
    derived.take(7, "in/0/0-0")
}

/// Values by series, as `name{label="value",…} @time`, the time in seconds after [`END`].
fn told(records: &[Record]) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for record in records {
        read(record.value.as_deref().unwrap(), |series, point| {
            let labels: Vec<_> = series.labels.pairs().map(|(name, value)| format!("{name}={value}")).collect();
            let time = point.time_unix_nano as i64 - END as i64;
            let value = match &point.value {
                Some(Value::Count(count)) => count.to_string(),
                Some(Value::Number(number)) => number.to_string(),
                Some(Value::Histogram { sum, counts, .. }) => format!("{counts:?} {sum:.3}"),
                Some(Value::Exponential { sum, counts, zero_count, .. }) => {
                    format!("{zero_count}+{} {sum:.3}", counts.iter().sum::<u64>())
                }
                None => "none".into(),
            };
            let key = format!("{}{{{}}} @{}", series.metric, labels.join(","), time / SECOND as i64);
            assert_eq!(all.insert(key, value), None, "one point for each series and time");
        })
        .unwrap();
    }
    all
}

fn run(config: SpanMetricsConfig, resource_spans: Vec<ResourceSpans>) -> BTreeMap<String, String> {
    let mut chain = Chain::new(vec![Box::new(SpanMetrics::new(config).unwrap())]);
    assert_eq!(process(&mut chain, envelope(resource_spans), false), 1, "the envelope goes on");
    told(&close(&mut chain))
}

/// Only calls, so that a case has one line for each series.
fn calls() -> SpanMetricsConfig {
    SpanMetricsConfig { latency: false, size: false, ..SpanMetricsConfig::default() }
}

const CALLS: &str = "traces_spanmetrics_calls_total";

#[track_caller]
fn assert_told(told: &BTreeMap<String, String>, expected: &[(&str, &str)]) {
    let expected: BTreeMap<String, String> =
        expected.iter().map(|(series, value)| ((*series).to_owned(), (*value).to_owned())).collect();
    assert_eq!(*told, expected);
}

#[test]
fn all_metrics_of_one_span_have_its_labels_and_its_time() {
    let bytes = span("GET /", 5).encoded_len();
    let labels = "{service=cart,span_name=GET /,span_kind=SPAN_KIND_SERVER,status_code=STATUS_CODE_UNSET} @15";
    let expected = [
        (format!("traces_spanmetrics_calls_total{labels}"), "1".to_owned()),
        (format!("traces_spanmetrics_size_total{labels}"), bytes.to_string()),
        (
            format!("traces_spanmetrics_latency{labels}"),
            "[0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0] 0.005".to_owned(),
        ),
    ];
    assert_eq!(run(SpanMetricsConfig::default(), vec![cart(vec![span("GET /", 5)])]), expected.into());
}

#[test]
fn repeats_count_nothing_and_a_commit_begins_anew() {
    let mut chain = Chain::new(vec![Box::new(SpanMetrics::new(calls()).unwrap())]);
    for _ in 0..2 {
        process(&mut chain, envelope(vec![cart(vec![span("a", 1), span("a", 2)])]), false);
        process(&mut chain, envelope(vec![cart(vec![span("a", 1)])]), true);
        let told = told(&close(&mut chain));
        assert_eq!(told.values().collect::<Vec<_>>(), ["2"], "{told:?}");
    }
    assert!(close(&mut chain).is_empty());
}

#[test]
fn clusters_and_tenants_have_series_of_their_own_and_records_say_whose_they_are() {
    let mut chain = Chain::new(vec![Box::new(SpanMetrics::new(calls()).unwrap())]);
    for (cluster, tenant) in [("eu", ""), ("us", ""), ("eu", "a"), ("eu", "a")] {
        let mut envelope = envelope(vec![cart(vec![span("a", 1)])]);
        envelope.cluster = cluster.into();
        envelope.headers.push(HEADER_TENANT, tenant);
        process(&mut chain, envelope, false);
    }
    let header = |record: &Record, name| {
        let value = record.headers.get(name).map(|value| String::from_utf8(value.to_vec()).unwrap());
        value.unwrap_or_default()
    };
    let mut seen: Vec<_> = close(&mut chain)
        .iter()
        .map(|record| {
            let count = told(std::slice::from_ref(record)).into_values().collect::<String>();
            let source = header(record, afflux_schemas::topics::HEADER_SOURCE);
            assert_eq!((source.as_str(), record.timestamp_ms, record.key.is_none()), ("in/0/0-0", 7, true));
            assert_eq!(header(record, afflux_schemas::topics::HEADER_ITEMS), "1");
            (header(record, afflux_schemas::topics::HEADER_CLUSTER), header(record, HEADER_TENANT), count)
        })
        .collect();
    seen.sort();
    let expected = [("eu", "", "1"), ("eu", "a", "2"), ("us", "", "1")];
    assert_eq!(seen, expected.map(|(cluster, tenant, count)| (cluster.into(), tenant.into(), count.into())));
}

#[test]
fn each_bucket_has_one_exemplar_that_lies_in_it() {
    let mut chain = Chain::new(vec![Box::new(SpanMetrics::new(SpanMetricsConfig::default()).unwrap())]);
    let spans = (0..40_u8).map(|n| Span { span_id: vec![n + 1; 8], ..span("a", u64::from(n % 2) * 100) });
    process(&mut chain, envelope(vec![cart(spans.collect())]), false);
    let mut values = Vec::new();
    for record in close(&mut chain) {
        read(record.value.as_deref().unwrap(), |series, point| {
            assert!(point.exemplars.is_empty() || series.metric == "traces_spanmetrics_latency");
            for exemplar in point.exemplars {
                assert_eq!((exemplar.trace_id, exemplar.time_unix_nano), ([1; 16], END));
                let even = exemplar.span_id[0] % 2 == 1;
                values.push((exemplar.value, even));
            }
        })
        .unwrap();
    }
    values.sort_by(|a, b| a.0.total_cmp(&b.0));
    assert_eq!(values, [(0.0, true), (0.1, false)]);
}

#[test]
fn what_is_forgotten_when_there_is_too_much_is_found_again() {
    let mut config = calls();
    config.cardinality.idle = Period(Duration::from_secs(30));
    let mut chain = Chain::new(vec![Box::new(SpanMetrics::new(config).unwrap())]);
    for round in 0..5 {
        let mut envelope = envelope(vec![cart(vec![span("a", 1), span("b", 1)])]);
        envelope.timestamp_ms += round * 11_000;
        process(&mut chain, envelope, false);
        assert_eq!(told(&close(&mut chain)).into_values().collect::<Vec<_>>(), ["1", "1"], "round {round}");
    }
}

#[test]
fn more_spans_than_a_batch_count_once_each_where_they_belong_in_every_transaction() {
    let services = ["cart", "ad", "mail"];
    let spans = (0..41 + BATCH as u64).map(|n| {
        let end_time_unix_nano = END + n % 2 * 15 * SECOND;
        Span { end_time_unix_nano, ..span(&format!("/item/{}/{}", ["a", "b", "c"][n as usize % 3], 1000 + n), 5) }
    });
    let spans: Vec<Span> = spans.collect();
    let mut expected: BTreeMap<String, u64> = BTreeMap::new();
    for service in services {
        for (n, span) in spans.iter().enumerate() {
            let name = span.name.rsplit_once('/').unwrap().0;
            let kind_and_status = "span_kind=SPAN_KIND_SERVER,status_code=STATUS_CODE_UNSET";
            let labels = format!("service={service},span_name={name}/{{id}},{kind_and_status}");
            *expected.entry(format!("{CALLS}{{{labels}}} @{}", 15 + n % 2 * 15)).or_default() += 1;
        }
    }
    let expected: BTreeMap<String, String> = expected.into_iter().map(|(key, n)| (key, n.to_string())).collect();
    let request = || services.map(|name| of(&[text("service.name", name)], spans.clone())).to_vec();
    let mut chain = Chain::new(vec![Box::new(SpanMetrics::new(calls()).unwrap())]);
    for _ in 0..3 {
        process(&mut chain, envelope(request()), false);
        assert_eq!(told(&close(&mut chain)), expected);
    }
}
