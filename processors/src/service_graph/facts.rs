//! What is read of resources and spans.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use afflux_schemas::otlp::common::{Attributes, ResourceView, ValueView};
use afflux_schemas::otlp::trace::SpanView;

use super::config::{GraphConfig, MAX_ATTRIBUTES};
use super::edge::{Side, SpanKind};

/// Tells which spans take part: true for those that do.
pub type Filter = Arc<dyn Fn(&SpanView<'_>, ResourceView<'_>) -> bool + Send + Sync>;

/// Bytes of a name or a dimension's value that are kept.
const TEXT_BYTES: usize = 2048;

/// Attributes that name a database's server, in this order; the port belongs to the address before it.
const SERVERS: [&str; 4] = ["peer.service", "server.address", "network.peer.address", "network.peer.port"];

/// Room for every attribute that is looked up.
const ROOM: usize = MAX_ATTRIBUTES + SERVERS.len();

/// `STATUS_CODE_ERROR`.
const ERROR: i32 = 2;

/// Raw values of the attributes that are looked up, by position in [`Rules::names`].
type Found<'a> = [Option<&'a [u8]>; ROOM];

/// Which attributes are looked up and how halves meet: the configuration, made ready.
///
/// Attributes beyond [`MAX_ATTRIBUTES`], which a valid configuration does not have, are not looked up.
pub struct Rules {
    pub(super) wait_ms: i64,
    pub(super) slot_ms: i64,
    pub(super) max_per_slot: u64,
    pub(super) prefix_dimensions: bool,
    pub(super) virtual_nodes: bool,
    pub(super) messaging_latency: bool,
    filter: Option<Filter>,
    names: Vec<Box<[u8]>>,
    dimensions: Vec<usize>,
    peers: Vec<usize>,
    databases: Vec<usize>,
    servers: [usize; 4],
}

/// What all spans of a resource share.
pub struct ResourceFacts<'a> {
    view: ResourceView<'a>,
    /// Cluster of the spans.
    pub(super) cluster: &'a str,
    /// Name of the service; never empty.
    pub(super) service: Cow<'a, str>,
    found: Found<'a>,
}

/// What is read of a span that is half of a request.
pub(super) struct SpanFacts<'a> {
    pub(super) dimensions: Vec<Option<Cow<'a, str>>>,
    /// What the peer attributes name.
    pub(super) peer: Option<Cow<'a, str>>,
    /// Name of the database that a client's span is a request to.
    pub(super) database: Option<Cow<'a, str>>,
    pub(super) failed: bool,
}

/// Under what the halves of a request meet: trace id, and the client's span id; zeros for the server of a root span.
pub(super) type Key = [u8; 24];

impl Rules {
    /// Makes a configuration ready. Without a filter every span takes part.
    pub fn new(config: &GraphConfig, filter: Option<Filter>) -> Self {
        let mut names = Vec::new();
        let servers = SERVERS.map(|name| place(&mut names, name));
        let mut places = |list: &[String]| list.iter().map(|name| place(&mut names, name)).collect();
        let (dimensions, peers) = (places(&config.dimensions), places(&config.peer_attributes));
        let databases = places(&config.database_name_attributes);
        let wait_ms = i64::try_from(config.wait.0.as_millis()).unwrap_or(i64::MAX).clamp(1, i64::MAX / 4);
        Self {
            wait_ms,
            slot_ms: (wait_ms + 7) / 8,
            max_per_slot: config.max_items.div_ceil(8),
            prefix_dimensions: config.prefix_dimensions,
            virtual_nodes: config.virtual_nodes,
            messaging_latency: config.messaging_latency,
            filter,
            names,
            dimensions,
            peers,
            databases,
            servers,
        }
    }

    /// How far back what is emitted may depend on records: the horizon of a [`Replay`](crate::window::Replay).
    pub fn horizon(&self) -> Duration {
        Duration::from_millis((2 * self.wait_ms + self.slot_ms).unsigned_abs())
    }

    /// Reads what the spans of a resource share. None without a service's name: such spans are left out.
    pub fn resource<'a>(&self, view: ResourceView<'a>, cluster: &'a str) -> Option<ResourceFacts<'a>> {
        let mut names = view.attributes().filter(|attribute| attribute.key_bytes() == b"service.name");
        let service = text(names.next()?.value_raw()?)?;
        Some(ResourceFacts { view, cluster, service, found: self.find(view.attributes()) })
    }

    pub(super) fn accepts(&self, resource: &ResourceFacts<'_>, span: &SpanView<'_>) -> bool {
        self.filter.as_ref().is_none_or(|filter| filter(span, resource.view))
    }

    /// Reads a span's attributes and status.
    pub(super) fn span<'a>(&self, resource: &ResourceFacts<'a>, span: &SpanView<'a>, side: Side) -> SpanFacts<'a> {
        let found = self.find(span.attributes());
        let either = |at: usize| value(&resource.found, at).or_else(|| value(&found, at));
        let name = self.databases.iter().find_map(|&at| either(at)).filter(|_| side == Side::Client);
        SpanFacts {
            dimensions: self.dimensions.iter().map(|&at| either(at)).collect(),
            peer: self.peers.iter().find_map(|&at| value(&found, at)),
            database: name.map(|name| self.database(name, either)),
            failed: span.status().code() == ERROR,
        }
    }

    /// What a database is called.
    fn database<'a>(&self, name: Cow<'a, str>, either: impl Fn(usize) -> Option<Cow<'a, str>>) -> Cow<'a, str> {
        let [service, address, peer, port] = self.servers;
        if let Some(server) = either(service).or_else(|| either(address)) {
            return server;
        }
        match (either(peer), either(port)) {
            (Some(peer), Some(port)) => format!("{peer}:{port}").into(),
            (Some(peer), None) => peer,
            (None, _) => name,
        }
    }

    /// Of repeated attributes the first counts.
    fn find<'a>(&self, attributes: Attributes<'a>) -> Found<'a> {
        let mut found = [None; ROOM];
        for attribute in attributes {
            let at = self.names.iter().position(|name| **name == *attribute.key_bytes());
            if let Some(slot) = at.and_then(|at| found.get_mut(at)) {
                *slot = slot.or(attribute.value_raw());
            }
        }
        found
    }
}

/// Where a name stands in the list, at its end if it was not there.
fn place(names: &mut Vec<Box<[u8]>>, name: &str) -> usize {
    names.iter().position(|known| **known == *name.as_bytes()).unwrap_or_else(|| {
        names.push(name.as_bytes().into());
        names.len() - 1
    })
}

fn value<'a>(found: &Found<'a>, at: usize) -> Option<Cow<'a, str>> {
    found.get(at).copied().flatten().and_then(text)
}

/// A value as text, cut to [`TEXT_BYTES`]. None where it is empty.
fn text(raw: &[u8]) -> Option<Cow<'_, str>> {
    let text = match ValueView::new(raw) {
        ValueView::Str(text) => Cow::Borrowed(&text[..text.floor_char_boundary(TEXT_BYTES)]),
        other => {
            let mut text = String::new();
            other.write_text(&mut text);
            text.truncate(text.floor_char_boundary(TEXT_BYTES));
            text.into()
        }
    };
    (!text.is_empty()).then_some(text)
}

/// The key that a span is paired by. None where its ids are no ids.
pub(super) fn key(span: &SpanView<'_>, kind: SpanKind) -> Option<Key> {
    let mut key = [0; 24];
    let (trace, id) = key.split_at_mut(16);
    trace.copy_from_slice(id_of(span.trace_id(), 16)?);
    match kind.side() {
        Side::Client => id.copy_from_slice(id_of(span.span_id(), 8)?),
        // Zeros are what some senders write where there is no parent.
        Side::Server if span.parent_span_id().iter().all(|byte| *byte == 0) => {}
        Side::Server => id.copy_from_slice(id_of(span.parent_span_id(), 8)?),
    }
    Some(key)
}

fn id_of(id: &[u8], length: usize) -> Option<&[u8]> {
    (id.len() == length && id.iter().any(|byte| *byte != 0)).then_some(id)
}
