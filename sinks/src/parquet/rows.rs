//! Rows before they are encoded: where each span or log record lies in the bytes of its bus record.
//!
//! Rows wait in the form in which they arrived. That costs no decoding, lets a row group be sorted before anything
//! is copied, and makes memory exactly what the bus delivered.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use afflux_bus::Received;
use afflux_schemas::identity::Identity;
use afflux_schemas::otlp::logs::LogsView;
use afflux_schemas::otlp::trace::TracesView;
use afflux_schemas::otlp::{canonical, validate};
use afflux_schemas::topics::{HEADER_CLUSTER, HEADER_TENANT};
use bytes::Bytes;

use super::layout::{Hour, Place};
use super::pressure::{Charge, Usage};
use super::table::Table;
use super::times::{log_times, span_times};

/// The bytes of one bus record, and what its rows share.
#[derive(Debug)]
pub(crate) struct Chunk {
    /// A valid request in canonical form.
    bytes: Bytes,
    /// The tenant, empty where the record names none.
    tenant: Box<[u8]>,
    groups: Vec<Group>,
    /// Counts the bytes until no row needs them.
    _charge: Charge,
}

/// What the items of one scope of one resource share; ranges within the chunk's bytes.
#[derive(Clone, Debug)]
struct Group {
    resource: Range<u32>,
    scope: Range<u32>,
    resource_schema_url: Range<u32>,
    scope_schema_url: Range<u32>,
}

/// One span or log record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    /// What rows are sorted by: the event's own time, in nanoseconds.
    time: i64,
    chunk: u32,
    group: u32,
    start: u32,
    len: u32,
}

/// Why a record holds no rows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    /// A tombstone, which no topic of telemetry has.
    #[error("the record has no value")]
    Tombstone,
    /// Not a request of the signal.
    #[error(transparent)]
    Request(#[from] validate::Malformed),
    /// More files for one record than a range could be written in.
    #[error("the record's events lie in more than {MAX_PLACES} hours and clusters")]
    Scattered,
}

impl Malformed {
    /// A fixed word for metrics.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Tombstone => "empty",
            Self::Request(_) => "malformed",
            Self::Scattered => "scattered",
        }
    }
}

/// Bytes from which on a value is kept as the bus gave it, and not copied.
const SHARE_FROM: usize = 64 << 10;
/// Files that one record may go to: six weeks of hours of one cluster.
pub(crate) const MAX_PLACES: usize = 1024;

/// The rows of one record, by the file that they go to.
#[derive(Debug)]
pub(crate) struct Scan {
    /// Where the rows lie.
    pub(crate) chunk: Arc<Chunk>,
    /// At most a handful of places.
    pub(crate) places: Vec<(Place, Vec<Row>)>,
    /// Spans or log records.
    pub(crate) items: u64,
}

/// Validates a record and finds its rows.
///
/// The cluster is the record's header, or the resource attribute `k8s.cluster.name`, or the default. The hour is
/// that of a span's start, or its end where the start is missing; of a log record's time, or when it was observed.
/// An event without any time falls into the first hour of 1970.
pub(crate) fn scan(
    table: Table,
    record: &Received,
    default_cluster: &Arc<str>,
    usage: &Arc<Usage>,
) -> Result<Scan, Malformed> {
    let value = record.value.as_ref().ok_or(Malformed::Tombstone)?;
    let checked = match table {
        Table::Spans => validate::traces(value)?,
        Table::Logs | Table::Events => validate::logs(value)?,
    };
    let bytes = match (checked.canonical, table) {
        // A small value may be a slice of much that was read with it and would stay with it, uncounted.
        (true, _) if value.len() < SHARE_FROM => Bytes::copy_from_slice(value),
        (true, _) => value.clone(),
        (false, Table::Spans) => canonical::traces(value)?,
        (false, Table::Logs | Table::Events) => canonical::logs(value)?,
    };
    let header = |name| record.headers.get(name).and_then(|value| std::str::from_utf8(value).ok());
    let tenant = header(HEADER_TENANT).unwrap_or_default().as_bytes().into();
    let mut scanner = Scanner {
        bytes: &bytes,
        header: header(HEADER_CLUSTER).filter(|name| !name.is_empty()),
        default_cluster,
        groups: Vec::new(),
        places: Vec::new(),
        index: HashMap::new(),
        current: 0,
    };
    match table {
        Table::Spans => scanner.spans(),
        Table::Logs | Table::Events => scanner.logs(),
    }
    let Scanner { groups, places, .. } = scanner;
    if places.len() > MAX_PLACES {
        return Err(Malformed::Scattered);
    }
    let tables = checked.items as usize * size_of::<Row>() + groups.len() * size_of::<Group>();
    let charge = usage.hold(bytes.len() + tables);
    Ok(Scan { chunk: Arc::new(Chunk { bytes, tenant, groups, _charge: charge }), places, items: checked.items })
}

struct Scanner<'a> {
    bytes: &'a [u8],
    header: Option<&'a str>,
    default_cluster: &'a Arc<str>,
    groups: Vec<Group>,
    places: Vec<(Place, Vec<Row>)>,
    /// Where each place stands in `places`.
    index: HashMap<Place, usize>,
    /// Index of the place that took the last row, which mostly takes the next one.
    current: usize,
}

impl<'a> Scanner<'a> {
    fn spans(&mut self) {
        for resource in TracesView::new(self.bytes).resource_spans() {
            let cluster = self.cluster(Identity::of(resource.resource()));
            for scope in resource.scope_spans() {
                let raws = (resource.resource_raw(), scope.scope_raw());
                let mut spans = scope.spans().peekable();
                if spans.peek().is_some() {
                    self.group(raws, resource.schema_url(), scope.schema_url());
                }
                for span in spans {
                    self.row(&cluster, span_times(&span).0, span.raw());
                }
            }
        }
    }

    fn logs(&mut self) {
        for resource in LogsView::new(self.bytes).resource_logs() {
            let cluster = self.cluster(Identity::of(resource.resource()));
            for scope in resource.scope_logs() {
                let raws = (resource.resource_raw(), scope.scope_raw());
                let mut logs = scope.log_records().peekable();
                if logs.peek().is_some() {
                    self.group(raws, resource.schema_url(), scope.schema_url());
                }
                for log in logs {
                    self.row(&cluster, log_times(&log).0, log.raw());
                }
            }
        }
    }

    fn cluster(&self, identity: Identity<'a>) -> Arc<str> {
        match self.header.or(identity.cluster) {
            // Rows of one cluster mostly follow each other, so its name is rarely allocated.
            Some(name) => match self.places.get(self.current) {
                Some((place, _)) if &*place.cluster == name => Arc::clone(&place.cluster),
                _ => name.into(),
            },
            None => Arc::clone(self.default_cluster),
        }
    }

    fn group(&mut self, raws: (Option<&[u8]>, Option<&[u8]>), resource_url: &str, scope_url: &str) {
        self.groups.push(Group {
            resource: self.range(raws.0.unwrap_or_default()),
            scope: self.range(raws.1.unwrap_or_default()),
            resource_schema_url: self.range(resource_url.as_bytes()),
            scope_schema_url: self.range(scope_url.as_bytes()),
        });
    }

    fn row(&mut self, cluster: &Arc<str>, time: i64, raw: &[u8]) {
        let hour = Hour::of(time);
        let is_here = |place: &Place| place.hour == hour && place.cluster == *cluster;
        if !self.places.get(self.current).is_some_and(|(place, _)| is_here(place)) {
            let place = Place { cluster: Arc::clone(cluster), hour };
            self.current = *self.index.entry(place.clone()).or_insert(self.places.len());
            if self.current == self.places.len() {
                self.places.push((place, Vec::new()));
            }
        }
        let range = self.range(raw);
        let group = self.groups.len() as u32 - 1;
        let row = Row { time, chunk: 0, group, start: range.start, len: range.end - range.start };
        self.places[self.current].1.push(row);
    }

    /// Where a part lies. A bus record is far shorter than 4 GiB.
    fn range(&self, part: &[u8]) -> Range<u32> {
        if part.is_empty() {
            return 0..0;
        }
        let start = part.as_ptr().addr() - self.bytes.as_ptr().addr();
        start as u32..(start + part.len()) as u32
    }
}

/// Rows that wait for one row group of one file.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    rows: Vec<Row>,
    chunks: Vec<Arc<Chunk>>,
    bytes: usize,
}

/// A row together with what it shares with its neighbours.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Item<'a> {
    /// The bytes of the span or log record.
    pub(crate) raw: &'a [u8],
    /// Index of the resource and scope, for [`Rows::context`]; equal for rows that share both.
    pub(crate) context: usize,
}

/// What rows share.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Context<'a> {
    /// Bytes of the `Resource`.
    pub(crate) resource: &'a [u8],
    /// Bytes of the `InstrumentationScope`.
    pub(crate) scope: &'a [u8],
    /// Schema URL of the resource.
    pub(crate) resource_schema_url: &'a [u8],
    /// Schema URL of the scope.
    pub(crate) scope_schema_url: &'a [u8],
    /// The tenant; empty where there is none.
    pub(crate) tenant: &'a [u8],
}

impl Rows {
    /// Appends rows of one record.
    pub(crate) fn append(&mut self, chunk: &Arc<Chunk>, rows: Vec<Row>) {
        let index = self.chunks.len() as u32;
        self.chunks.push(Arc::clone(chunk));
        self.bytes += rows.iter().map(|row| row.len as usize).sum::<usize>();
        self.rows.extend(rows.into_iter().map(|row| Row { chunk: index, ..row }));
    }

    /// Number of rows.
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Bytes of the rows' spans or log records.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Sorts by time; rows of the same time stay in the order of the bus.
    pub(crate) fn sort(&mut self) {
        self.rows.sort_by_key(|row| row.time);
    }

    /// The rows in their order, with the number of contexts that they refer to.
    pub(crate) fn items(&self) -> impl ExactSizeIterator<Item = Item<'_>> {
        let bases = self.bases();
        self.rows.iter().map(move |row| {
            let chunk = &self.chunks[row.chunk as usize];
            let raw = &chunk.bytes[row.start as usize..][..row.len as usize];
            Item { raw, context: bases[row.chunk as usize] + row.group as usize }
        })
    }

    /// Everything that rows share, in the order of the index in [`Item::context`].
    pub(crate) fn contexts(&self) -> impl Iterator<Item = Context<'_>> {
        self.chunks.iter().flat_map(|chunk| {
            let part = |range: &Range<u32>| &chunk.bytes[range.start as usize..range.end as usize];
            chunk.groups.iter().map(move |group| Context {
                resource: part(&group.resource),
                scope: part(&group.scope),
                resource_schema_url: part(&group.resource_schema_url),
                scope_schema_url: part(&group.scope_schema_url),
                tenant: &chunk.tenant,
            })
        })
    }

    /// For every chunk, the index of its first context.
    fn bases(&self) -> Vec<usize> {
        let sum = |next: &mut usize, chunk: &Arc<Chunk>| {
            let base = *next;
            *next += chunk.groups.len();
            Some(base)
        };
        self.chunks.iter().scan(0, sum).collect()
    }
}

#[cfg(test)]
mod tests;
