//! Halves of requests, and the edges that they make.

use std::sync::Arc;

use afflux_schemas::otlp::trace::SpanView;

use super::edge::{Connection, Edge, Side, SpanKind};
use super::facts::{Key, ResourceFacts, Rules, SpanFacts};
use super::names::Names;

/// A half that has just come.
pub(super) struct Arrival<'a> {
    pub(super) key: Key,
    pub(super) kind: SpanKind,
    pub(super) resource: &'a ResourceFacts<'a>,
    pub(super) span: &'a SpanView<'a>,
    pub(super) weight: u64,
    /// Timestamp of its record.
    pub(super) time_ms: i64,
}

/// One side of a request.
pub(super) struct Half {
    pub(super) kind: SpanKind,
    pub(super) time_ms: i64,
    /// The other side came, and the filter rejected it.
    pub(super) shunned: bool,
    service: Arc<str>,
    cluster: Arc<str>,
    pub(super) peer: Option<Arc<str>>,
    dimensions: Box<[Option<Arc<str>>]>,
    failed: bool,
    start: u64,
    end: u64,
    weight: u64,
}

/// An end of an edge.
pub(super) enum End<'a> {
    Span(&'a Half),
    Named(Arc<str>),
}

impl Half {
    /// Of an arrival; it knows no peer yet.
    pub(super) fn new(names: &mut Names, half: &Arrival<'_>, facts: &SpanFacts<'_>) -> Self {
        Self {
            kind: half.kind,
            time_ms: half.time_ms,
            shunned: false,
            service: names.get(&half.resource.service),
            cluster: names.get(half.resource.cluster),
            peer: None,
            dimensions: facts.dimensions.iter().map(|value| value.as_deref().map(|value| names.get(value))).collect(),
            failed: facts.failed,
            start: half.span.start_time_unix_nano(),
            end: half.span.end_time_unix_nano(),
            weight: half.weight,
        }
    }

    const fn nanos(&self) -> u64 {
        self.end.saturating_sub(self.start)
    }

    /// The edge from or to the other end.
    pub(super) fn with(&self, other: End<'_>, connection: Connection, key: Key, rules: &Rules) -> Edge {
        let virtual_node = (connection == Connection::VirtualNode).then(|| self.kind.side().other());
        let (client, server) = match self.kind.side() {
            Side::Client => (End::Span(self), other),
            Side::Server => (other, End::Span(self)),
        };
        let (from, to) = (client.span(), server.span());
        let server_nanos = if connection == Connection::Database { from } else { to }.map(Self::nanos);
        let messaging_nanos = from.zip(to).map(|(from, to)| to.start.saturating_sub(from.end));
        let measured = rules.messaging_latency && connection == Connection::MessagingSystem;
        let mut trace_id = [0; 16];
        trace_id.copy_from_slice(&key[..16]);
        Edge {
            client_cluster: from.map(|half| Arc::clone(&half.cluster)),
            server_cluster: to.map(|half| Arc::clone(&half.cluster)),
            connection,
            virtual_node,
            failed: from.is_some_and(|half| half.failed) || to.is_some_and(|half| half.failed),
            server_nanos,
            client_nanos: from.map(Self::nanos),
            messaging_nanos: messaging_nanos.filter(|nanos| measured && *nanos > 0),
            dimensions: dimensions(from, to, rules.prefix_dimensions),
            time_unix_nano: to.or(from).map_or(0, |half| half.end),
            trace_id,
            weight: from.map_or(0, |half| half.weight).max(to.map_or(0, |half| half.weight)),
            client: client.name(),
            server: server.name(),
        }
    }
}

impl<'a> End<'a> {
    const fn span(&self) -> Option<&'a Half> {
        match self {
            Self::Span(half) => Some(half),
            Self::Named(_) => None,
        }
    }

    fn name(self) -> Arc<str> {
        match self {
            Self::Span(half) => Arc::clone(&half.service),
            Self::Named(name) => name,
        }
    }
}

/// Values of an edge's labels, from those of its spans.
fn dimensions(client: Option<&Half>, server: Option<&Half>, prefixed: bool) -> Box<[Option<Arc<str>>]> {
    let count = client.or(server).map_or(0, |half| half.dimensions.len());
    let value = |half: Option<&Half>, at: usize| half.and_then(|half| half.dimensions.get(at).cloned().flatten());
    if prefixed {
        (0..count).flat_map(|at| [value(client, at), value(server, at)]).collect()
    } else {
        (0..count).map(|at| value(server, at).or_else(|| value(client, at))).collect()
    }
}
