use std::collections::BTreeMap;

use afflux_bus::{Generation, Headers, Received};
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
use crate::work::{Opened, Through, Waiting};

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

/// The step with what waits before it, a partition that is assigned to it, and what came out.
struct Run {
    step: Alone,
    waiting: Option<Waiting>,
    from: PartitionId,
    stream_time_ms: i64,
}

/// The step alone in its chain.
struct Alone {
    chain: Chain,
    out: Vec<Envelope>,
    /// What came out of repeats, which the stage throws away.
    repeated: Vec<Envelope>,
    /// Behind the last record that has gone through and is no repeat.
    settled: Option<u64>,
}

impl Through for Alone {
    fn foresee(&mut self, opened: &Opened) {
        opened.envelopes.iter().for_each(|envelope| self.chain.foresee(envelope, &opened.at()));
    }

    fn process(&mut self, mut opened: Opened, early: bool) {
        let envelopes = std::mem::take(&mut opened.envelopes);
        let outs = if opened.repeat { &mut self.repeated } else { &mut self.out };
        for envelope in envelopes {
            self.chain.let_go(envelope, &opened.at(), early, &mut |out| outs.push(out));
        }
        if !opened.repeat {
            self.settled = Some(opened.offset + 1);
        }
    }
}

impl Run {
    fn new(config: &SampleConfig) -> Self {
        let mut chain = Chain::new(vec![Box::new(Sample::new(config).unwrap())]);
        let from = PartitionId::new("t", 0);
        chain.assigned(&from);
        let waiting = chain.ahead().map(Waiting::new);
        let step = Alone { chain, out: Vec::new(), repeated: Vec::new(), settled: None };
        Self { step, waiting, from, stream_time_ms: i64::MIN }
    }

    fn pass(&mut self, envelope: Envelope) {
        self.pass_at(vec![envelope], false);
    }

    /// Passes the parts of one record.
    fn pass_at(&mut self, envelopes: Vec<Envelope>, repeat: bool) {
        let Envelope { timestamp_ms, route: Route { offset, .. }, .. } = envelopes[0];
        self.stream_time_ms = self.stream_time_ms.max(timestamp_ms);
        let from = self.from.clone();
        let (value, headers) = (None, Headers::new());
        let record = Received { from, generation: Generation(1), offset, timestamp_ms, key: None, value, headers };
        let opened = Opened::new(&record, 0, (timestamp_ms, self.stream_time_ms), repeat);
        let opened = Opened { bytes: 0, envelopes, ..opened };
        match &mut self.waiting {
            Some(waiting) => waiting.arrive(opened, &mut self.step),
            None => self.step.process(opened, false),
        }
    }

    /// Passes records, numbered from 0, and then one without spans that makes all of them due.
    fn all(mut self, records: &[(i64, &[Given])]) -> Self {
        for (offset, (time, spans)) in (0..).zip(records) {
            self.pass(envelope(offset, *time, request(spans)));
        }
        let end = self.stream_time_ms.saturating_add(100_000);
        self.pass(envelope(1000, end, Bytes::new()));
        self
    }

    fn tally(&mut self) -> Tally {
        self.step.chain.close(&mut Derived::new("m".into(), 1, usize::MAX)).remove(0).1
    }

    /// Names of the spans that came out since, by envelope, and a mark where one says a threshold.
    fn names(&mut self) -> Vec<String> {
        let show = |span: Span| if span.trace_state.is_empty() { span.name } else { format!("{}~", span.name) };
        let out = self.step.out.drain(..).map(|envelope| {
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
    assert_eq!(run.step.chain.horizon(), Duration::ZERO);
    assert_eq!(run.step.out[0].value.as_ptr(), value.as_ptr());
    assert_eq!(run.tally(), Tally { items: 2, ..Tally::default() });
}

#[test]
fn other_signals_pass() {
    for yaml in ["probability: {ratio: 0}", "tail: {policies: [{error: {}}]}"] {
        let mut run = Run::new(&config(yaml));
        let logs = Envelope { signal: Signal::Logs, ..envelope(1, 10, Bytes::new()) };
        run.pass(logs.clone());
        run = run.all(&[]);
        assert_eq!(run.step.out[0], logs, "{yaml}");
    }
}
