use std::collections::BTreeMap;

use afflux_bus::Headers;
use afflux_runtime::config::load;
use bytes::Bytes;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status, TracesData};
use prost::Message;

use super::*;
use crate::chain::{Chain, Route, Tally};
use crate::derive::Derived;

mod config;
mod probability;
mod replay;
mod select;
mod tail;

/// A span and its service.
type Given = (&'static str, Span);

/// A span of a trace, which lasts 1 ms; the trace's number is its randomness.
fn span(trace: u64, name: &str) -> Given {
    let trace_id = [&[7; 8][..], &trace.to_be_bytes()].concat();
    let span_id = name.bytes().chain([1; 8]).take(8).collect();
    let (start_time_unix_nano, end_time_unix_nano) = (5_000_000, 6_000_000);
    let name = name.into();
    ("shop", Span { trace_id, span_id, name, start_time_unix_nano, end_time_unix_nano, ..Span::default() })
}

fn of(service: &'static str, (_, span): Given) -> Given {
    (service, span)
}

fn with((service, mut span): Given, change: impl FnOnce(&mut Span)) -> Given {
    change(&mut span);
    (service, span)
}

fn failed(given: Given) -> Given {
    with(given, |span| span.status = Some(Status { code: 2, ..Status::default() }))
}

fn child(given: Given) -> Given {
    with(given, |span| span.parent_span_id = vec![9; 8])
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.into(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

fn text(key: &str, value: &str) -> KeyValue {
    attribute(key, Value::StringValue(value.into()))
}

/// A request with a block for each span.
fn request(spans: &[Given]) -> Bytes {
    let block = |(service, span): &Given| {
        let resource = Resource { attributes: vec![text("service.name", service)], ..Resource::default() };
        let scope_spans = vec![ScopeSpans { spans: vec![span.clone()], ..ScopeSpans::default() }];
        ResourceSpans { resource: Some(resource), scope_spans, ..ResourceSpans::default() }
    };
    TracesData { resource_spans: spans.iter().map(block).collect() }.encode_to_vec().into()
}

fn envelope(offset: u64, timestamp_ms: i64, value: Bytes) -> Envelope {
    let items = spans(&value).len() as u64;
    let (signal, cluster) = (Signal::Spans, "c".into());
    let route = Route { offset, attempts: 0, partition: 0 };
    Envelope { signal, value, items, cluster, timestamp_ms, headers: Headers::new(), route }
}

/// The spans of a request.
fn spans(value: &Bytes) -> Vec<Span> {
    let data = TracesData::decode(&value[..]).unwrap();
    let scopes = data.resource_spans.into_iter().flat_map(|block| block.scope_spans);
    scopes.flat_map(|scope| scope.spans).collect()
}

fn config(yaml: &str) -> SampleConfig {
    load("test", yaml, []).unwrap()
}

/// The step, a partition that is assigned to it, and what came out.
struct Run {
    chain: Chain,
    from: PartitionId,
    stream_time_ms: i64,
    out: Vec<Envelope>,
}

impl Run {
    fn new(config: &SampleConfig) -> Self {
        let mut chain = Chain::new(vec![Box::new(Sample::new(config).unwrap())]);
        let from = PartitionId::new("t", 0);
        chain.assigned(&from);
        Self { chain, from, stream_time_ms: i64::MIN, out: Vec::new() }
    }

    fn pass(&mut self, envelope: Envelope) {
        self.pass_at(envelope, false);
    }

    fn pass_at(&mut self, envelope: Envelope, repeat: bool) {
        self.stream_time_ms = self.stream_time_ms.max(envelope.timestamp_ms);
        let (offset, timestamp_ms) = (envelope.route.offset, envelope.timestamp_ms);
        let stream_time_ms = self.stream_time_ms;
        let at = At { from: &self.from, offset, timestamp_ms, stream_time_ms, repeat, counted: false };
        self.chain.process(envelope, &at, &mut |out| self.out.push(out));
    }

    fn tally(&mut self) -> Tally {
        self.chain.close(&mut Derived::new("m".into(), 1, usize::MAX)).remove(0).1
    }

    /// Names of the spans that came out since, by envelope, and a mark where one says a threshold.
    fn names(&mut self) -> Vec<String> {
        let show = |span: Span| if span.trace_state.is_empty() { span.name } else { format!("{}~", span.name) };
        let out = self.out.drain(..).map(|envelope| {
            let shown: Vec<_> = spans(&envelope.value).into_iter().map(show).collect();
            assert_eq!(envelope.items, shown.len() as u64);
            shown.join(" ")
        });
        out.collect()
    }
}

fn counts(pairs: &[(&'static str, u64)]) -> BTreeMap<&'static str, u64> {
    pairs.iter().copied().collect()
}

#[test]
fn without_settings_everything_goes_on_as_it_is() {
    let mut run = Run::new(&SampleConfig::default());
    let value = request(&[span(0, "a"), span(1, "b")]);
    run.pass(envelope(1, 10, value.clone()));
    assert_eq!(run.chain.horizon(), Duration::ZERO);
    assert_eq!(run.out[0].value.as_ptr(), value.as_ptr());
    assert_eq!(run.tally(), Tally { items: 2, ..Tally::default() });
}

#[test]
fn other_signals_pass() {
    for yaml in ["probability: {ratio: 0}", "tail: {policies: [{error: {}}]}"] {
        let mut run = Run::new(&config(yaml));
        let logs = Envelope { signal: Signal::Logs, ..envelope(1, 10, Bytes::new()) };
        run.pass(logs.clone());
        assert_eq!(run.out, [logs], "{yaml}");
    }
}
