//! The journeys compiled: every operation with its finished templates, in one flat list.

use super::attributes::{Attribute, Value, any_value, attribute};
use super::journeys::{Journey, ORDERS, journeys, settlement};
use super::operation::{Kind, Operation, Severity};
use super::random::Share;
use super::services::{Layer, Service};
use super::template::{Draft, Hole, Template};

/// Browsers of the people who visit.
const AGENTS: [&str; 5] = [
    "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/138.0.0.0 Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 Version/18.5 Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Safari/605.1.15",
    "ShopApp/7.3.1 (Android 15; Pixel 9)",
];

/// An operation ready to be run many times.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) service: Service,
    /// Whose pod's address goes into the span.
    pub(super) peer: Option<Service>,
    pub(super) layer: Layer,
    /// Nanoseconds.
    pub(super) median: u64,
    pub(super) tailed: bool,
    pub(super) failure: Share,
    pub(super) recovers: bool,
    pub(super) at_once: bool,
    pub(super) share: Share,
    pub(super) repeats: u32,
    pub(super) calls: Vec<u32>,
    pub(super) consumers: Vec<u32>,
    /// Its messages are also taken in batches by the accounting.
    pub(super) announces: bool,
    /// Variants of the span when it succeeded, then when it failed.
    pub(super) spans: [Vec<Template>; 2],
    pub(super) lines: Vec<(Share, Template)>,
    pub(super) failed_line: Option<Template>,
}

/// All operations, and where each kind of trace begins.
#[derive(Debug)]
pub(super) struct Shop {
    pub(super) nodes: Vec<Node>,
    /// Weights added up, and the root.
    pub(super) journeys: Vec<(u32, u32)>,
    pub(super) settlement: u32,
}

impl Shop {
    pub(super) fn open() -> Self {
        let mut shop = Self { nodes: Vec::new(), journeys: Vec::new(), settlement: 0 };
        let mut total = 0;
        for journey in journeys() {
            total += journey.weight;
            let root = shop.compile(&journey, &journey.root, None);
            shop.journeys.push((total, root));
        }
        let batch = settlement();
        shop.settlement = shop.compile(&batch, &batch.root, None);
        shop
    }

    fn compile(&mut self, journey: &Journey, operation: &Operation, caller: Option<Service>) -> u32 {
        let service = operation.service.or(caller).unwrap_or(Service::Frontend);
        let root = caller.is_none();
        let calls = operation.calls.iter().map(|call| self.compile(journey, call, Some(service))).collect();
        let consumers = operation.consumers.iter().map(|next| self.compile(journey, next, Some(service))).collect();
        let spans = [false, true].map(|failed| {
            let agents = if mentions_agent(operation) { &AGENTS[..] } else { &AGENTS[..1] };
            agents.iter().map(|agent| span(journey, operation, service, root, failed, agent)).collect()
        });
        let lines = operation.lines.iter();
        let works = matches!(operation.kind, Kind::Server | Kind::Consumer);
        self.nodes.push(Node {
            service,
            peer: operation.peer.or(caller),
            layer: operation.layer,
            median: operation.micros * 1_000,
            tailed: operation.tailed,
            failure: operation.failure.as_ref().map_or(Share::NEVER, |failure| Share::of(failure.probability)),
            recovers: operation.recovers,
            at_once: operation.at_once,
            share: Share::of(operation.share),
            repeats: operation.repeats,
            calls,
            consumers,
            announces: operation.kind == Kind::Producer && operation.name.ends_with(ORDERS),
            spans,
            lines: lines.map(|line| (Share::of(line.share), record(line.severity, &line.body, &[]))).collect(),
            failed_line: works.then(|| {
                let (exception, message) = what_failed(operation, service);
                record(
                    Severity::Error,
                    &format!("{} failed: {message}", operation.name),
                    &raised(exception, message, service),
                )
            }),
        });
        (self.nodes.len() - 1) as u32
    }
}

fn mentions_agent(operation: &Operation) -> bool {
    operation.attributes.iter().any(|(_, value)| matches!(value, Value::Text(text) if text == "{agent}"))
}

fn what_failed(operation: &Operation, service: Service) -> (&'static str, &'static str) {
    match &operation.failure {
        Some(failure) => (failure.exception, failure.message),
        None => (service.upstream_exception(), "a call to another service failed"),
    }
}

/// Attributes of an exception.
fn raised(exception: &'static str, message: &'static str, service: Service) -> [Attribute; 3] {
    let name = service.name();
    let frames = (0..5).map(|i| format!("\n    at {name}.handle{i} (/app/src/{name}/step{i}.src:{})", 40 + 17 * i));
    let stack = format!("{exception}: {message}{}", frames.collect::<String>());
    [
        ("exception.type", exception.into()),
        ("exception.message", message.into()),
        ("exception.stacktrace", stack.into()),
    ]
}

/// The span of an operation, as an element of `ScopeSpans.spans`.
fn span(journey: &Journey, operation: &Operation, service: Service, root: bool, failed: bool, agent: &str) -> Template {
    let mut span = Draft::default();
    span.id_hole(1, Hole::TraceId);
    span.id_hole(2, Hole::SpanId);
    if !journey.trace_state.is_empty() {
        span.text(3, journey.trace_state);
    }
    if !root {
        span.id_hole(4, Hole::ParentId);
    }
    span.text(5, &operation.name);
    span.number(6, operation.kind as u64);
    span.fixed64_hole(7, Hole::Start);
    span.fixed64_hole(8, Hole::End);

    let replaced = |key: &str| failed && operation.when_failed.iter().any(|(other, _)| *other == key);
    let kept = operation.attributes.iter().filter(|(key, _)| !replaced(key));
    for (key, value) in kept.chain(operation.when_failed.iter().filter(|_| failed)) {
        match value {
            Value::Text(text) if text == "{agent}" => attribute(&mut span, 9, key, &agent.into()),
            _ => attribute(&mut span, 9, key, value),
        }
    }
    // A caller only sees that the call failed; who works, or failed by itself, saw an exception.
    let saw_exception = operation.failure.is_some() || !matches!(operation.kind, Kind::Client | Kind::Producer);
    let (exception, message) = what_failed(operation, service);
    if failed && saw_exception {
        let mut event = Draft::default();
        event.fixed64_hole(1, Hole::Event);
        event.text(2, "exception");
        raised(exception, message, service).iter().for_each(|(key, value)| attribute(&mut event, 3, key, value));
        span.nested(11, event);
    }
    links(&mut span, operation, root);
    if failed {
        let mut status = Draft::default();
        status.text(2, message);
        status.number(3, 2);
        span.nested(15, status);
    }
    let called_from_elsewhere = !root && matches!(operation.kind, Kind::Server | Kind::Consumer);
    span.fixed32(16, flags(called_from_elsewhere));
    span.finish(2)
}

/// Links of a consumer: to the sender of its message, or of each message of its batch.
fn links(span: &mut Draft, operation: &Operation, root: bool) {
    let messages = match operation.kind {
        Kind::Consumer if root => operation.batch,
        Kind::Consumer => 1,
        _ => 0,
    };
    for i in 0..messages {
        let mut link = Draft::default();
        link.id_hole(1, Hole::LinkTrace(i));
        link.id_hole(2, Hole::LinkSpan(i));
        attribute(&mut link, 4, "messaging.batch.index", &(i as i64).into());
        link.fixed32(6, flags(true));
        span.nested(13, link);
    }
}

/// Sampled, and whether the parent was in another process (the W3C flags, then two bits of OTLP).
const fn flags(remote: bool) -> u32 {
    if remote { 0x301 } else { 0x101 }
}

/// A log record, as an element of `ScopeLogs.log_records`.
fn record(severity: Severity, body: &str, attributes: &[Attribute]) -> Template {
    let mut record = Draft::default();
    record.fixed64_hole(1, Hole::Event);
    record.number(2, severity as u64);
    record.text(
        3,
        match severity {
            Severity::Debug => "DEBUG",
            Severity::Info => "INFO",
            Severity::Warn => "WARN",
            Severity::Error => "ERROR",
        },
    );
    let mut any = Draft::default();
    any_value(&mut any, &body.into());
    record.nested(5, any);
    attribute(&mut record, 6, "thread.name", &"worker-7".into());
    attribute(&mut record, 6, "app.session.id", &"{session}".into());
    attributes.iter().for_each(|(key, value)| attribute(&mut record, 6, key, value));
    record.fixed32(8, 1);
    record.id_hole(9, Hole::TraceId);
    record.id_hole(10, Hole::SpanId);
    record.fixed64_hole(11, Hole::Observed);
    record.finish(2)
}
