use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use afflux_runtime::config::Period;
use afflux_schemas::otlp::common::ResourceView;
use afflux_schemas::otlp::trace::SpanView;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{Span, Status};
use prost::Message;

use super::*;

mod details;
mod replay;
mod rules;

/// Time that halves wait in all tests, and an eighth of it, in milliseconds.
const WAIT: i64 = 80;
const SLOT: i64 = 10;

const SERVER: i32 = 2;
const CLIENT: i32 = 3;
const PRODUCER: i32 = 4;
const CONSUMER: i32 = 5;

/// A span on its way in: when its record was written, and whose it is.
#[derive(Clone, Debug)]
struct Given {
    time_ms: i64,
    resource: Resource,
    span: Span,
    weight: u64,
}

/// A span of trace 1 that lasts from 100 to 200 ns, written at 1000 ms. Parent 0 is none.
fn span(service: &str, kind: i32, id: u8, parent: u8) -> Given {
    let (trace_id, span_id) = (vec![1; 16], vec![id; 8]);
    let parent_span_id = if parent == 0 { Vec::new() } else { vec![parent; 8] };
    let (start_time_unix_nano, end_time_unix_nano) = (100, 200);
    let span =
        Span { trace_id, span_id, parent_span_id, kind, start_time_unix_nano, end_time_unix_nano, ..Span::default() };
    let resource = Resource { attributes: vec![text("service.name", service)], ..Resource::default() };
    Given { time_ms: 1000, resource, span, weight: 1 }
}

impl Given {
    fn at(mut self, time_ms: i64) -> Self {
        self.time_ms = time_ms;
        self
    }

    fn lasting(mut self, start: u64, end: u64) -> Self {
        (self.span.start_time_unix_nano, self.span.end_time_unix_nano) = (start, end);
        self
    }

    fn failed(mut self) -> Self {
        self.span.status = Some(Status { code: 2, ..Status::default() });
        self
    }

    fn with(mut self, key: &str, value: &str) -> Self {
        self.span.attributes.push(text(key, value));
        self
    }

    fn of(mut self, key: &str, value: &str) -> Self {
        self.resource.attributes.push(text(key, value));
        self
    }

    fn change(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

fn text(key: &str, value: &str) -> KeyValue {
    let value = Some(AnyValue { value: Some(Value::StringValue(value.into())) });
    KeyValue { key: key.into(), value, ..KeyValue::default() }
}

fn config() -> GraphConfig {
    GraphConfig { wait: Period(Duration::from_millis(WAIT as u64)), max_items: 800, ..GraphConfig::default() }
}

/// Rejects spans with that attribute.
fn filter() -> Option<Filter> {
    let rejected = |attribute: afflux_schemas::otlp::common::KeyValueView<'_>| attribute.key() == "rejected";
    Some(Arc::new(move |span, resource| !span.attributes().chain(resource.attributes()).any(rejected)))
}

/// Passes spans through one state, stream time being the greatest time so far, and in the end far beyond.
fn outs(config: &GraphConfig, given: &[Given]) -> Vec<Out> {
    let rules = Arc::new(Rules::new(config, filter()));
    let (mut pairs, mut now, mut outs) = (Pairs::new(Arc::clone(&rules)), i64::MIN, Vec::new());
    for one in given {
        now = now.max(one.time_ms);
        pairs.advance(now, &mut |out| outs.push(out));
        pass(&rules, &mut pairs, one, now, &mut |out| outs.push(out));
    }
    pairs.advance(now.saturating_add(WAIT), &mut |out| outs.push(out));
    assert!(pairs.is_empty(), "{} are left", pairs.len());
    outs
}

fn pass(rules: &Rules, pairs: &mut Pairs, given: &Given, now_ms: i64, emit: &mut dyn FnMut(Out)) {
    let (resource, span) = (given.resource.encode_to_vec(), given.span.encode_to_vec());
    if let Some(resource) = rules.resource(ResourceView::new(&resource), "cluster") {
        pairs.span(&resource, &SpanView::new(&span), given.weight, (given.time_ms, now_ms), emit);
    }
}

/// `CLIENT > SERVER CONNECTION`, and what else there is to an edge; or a span's kind and why it makes none.
fn show(out: &Out) -> String {
    let edge = match out {
        Out::Edge(edge) => edge,
        Out::NoEdge { kind, why } => return format!("{} {}", kind.as_str(), why.as_str()),
    };
    let mut shown = format!("{} > {}", edge.client, edge.server);
    let mut add = |part: std::fmt::Arguments<'_>| write!(shown, " {part}").unwrap();
    if edge.connection != Connection::Direct {
        add(format_args!("{}", edge.connection.as_str()));
    }
    if let Some(side) = edge.virtual_node {
        add(format_args!("virtual={}", side.as_str()));
    }
    if edge.failed {
        add(format_args!("failed"));
    }
    for (name, nanos) in [("c", edge.client_nanos), ("s", edge.server_nanos), ("m", edge.messaging_nanos)] {
        if let Some(nanos) = nanos {
            add(format_args!("{name}={nanos}"));
        }
    }
    if !edge.dimensions.is_empty() {
        let dimensions = edge.dimensions.iter().map(|value| value.as_deref().unwrap_or("-"));
        add(format_args!("[{}]", dimensions.collect::<Vec<_>>().join(" ")));
    }
    shown
}

fn shown(config: &GraphConfig, given: &[Given]) -> Vec<String> {
    outs(config, given).iter().map(show).collect()
}
