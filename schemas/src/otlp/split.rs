//! Splitting a request by partition or by cluster, as bytes.
//!
//! Items are copied as they stand; what encloses them (resource, scope, schema URLs, fields unknown here) is
//! repeated for every part that needs it. Resources and scopes without items are left out. Requests must have
//! passed [`super::validate`]: what follows a malformed byte is left out silently.

mod clusters;
mod scatter;
#[cfg(test)]
mod tests;

use bytes::Bytes;
pub use clusters::{ClusterPart, by_cluster};
use scatter::{Place, scatter};

use super::logs::LogRecordView;
use super::trace::SpanView;
use crate::partition::{stream_partition, trace_partition};

/// The share of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Partition number, from 0.
    pub partition: u32,
    /// A request of the same signal.
    pub value: Bytes,
    /// Spans or log records in it, at least 1.
    pub items: u64,
}

/// A request split by partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Split {
    /// At most one part for each partition, by rising number.
    pub parts: Vec<Part>,
    /// Items left out because of their ids.
    pub rejected: u64,
    /// What is wrong with the first of them.
    pub reason: Option<InvalidId>,
}

impl Split {
    /// Items in all parts.
    pub fn items(&self) -> u64 {
        self.parts.iter().map(|part| part.items).sum()
    }
}

/// An id that no backend would take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidId {
    /// Another number of bytes than the specification says.
    #[error("{field} has {len} bytes instead of {expected}")]
    Length {
        /// Name of the field.
        field: &'static str,
        /// Bytes found.
        len: usize,
        /// Bytes of a valid id.
        expected: usize,
    },
    /// Nothing but zeros.
    #[error("{field} is all zeros")]
    Zero {
        /// Name of the field.
        field: &'static str,
    },
}

/// Splits a trace request among `partitions` (at least 1) by [`trace_partition`].
///
/// Spans with a trace id other than 16 bytes, a span id other than 8 bytes, either of zeros only, or a parent id
/// of neither 0 nor 8 bytes are rejected. Where all spans go to one partition the part shares the request's bytes.
pub fn traces(request: &Bytes, partitions: u32) -> Split {
    traces_by(request, partitions, |trace_id| trace_partition(trace_id, partitions))
}

/// As [`traces`], with another choice of the partition, which must be below `partitions`.
pub fn traces_by(request: &Bytes, partitions: u32, partition_of: impl Fn(&[u8; 16]) -> u32) -> Split {
    scatter(request, partitions, ByTrace { partition_of, last: ([0; 16], 0) })
}

/// Splits a log request among `partitions` (at least 1) by [`stream_partition`]: resources move as a whole.
///
/// Log records with a trace id of neither 0 nor 16 bytes or a span id of neither 0 nor 8 bytes are rejected. Where
/// all records go to one partition the part shares the request's bytes.
pub fn logs(request: &Bytes, partitions: u32, cluster: &str) -> Split {
    scatter(request, partitions, ByStream { partitions, cluster, partition: 0 })
}

/// As [`traces`], with the rejected spans in a last part, whose partition is numbered `partitions`.
pub fn traces_keeping(request: &Bytes, partitions: u32) -> Split {
    let partition_of = |trace_id: &[u8; 16]| trace_partition(trace_id, partitions);
    keeping(request, partitions, ByTrace { partition_of, last: ([0; 16], 0) })
}

/// As [`logs`], with the rejected records in a last part, whose partition is numbered `partitions`.
pub fn logs_keeping(request: &Bytes, partitions: u32, cluster: &str) -> Split {
    keeping(request, partitions, ByStream { partitions, cluster, partition: 0 })
}

fn keeping(request: &Bytes, partitions: u32, inner: impl Place) -> Split {
    let mut place = Keeping { inner, last: partitions, reason: None };
    let mut split = scatter(request, partitions + 1, &mut place);
    split.rejected = split.parts.last().filter(|part| part.partition == partitions).map_or(0, |part| part.items);
    split.reason = place.reason;
    split
}

/// Gives what another one rejects a place of its own.
struct Keeping<P> {
    inner: P,
    last: u32,
    reason: Option<InvalidId>,
}

impl<P: Place> Place for &mut Keeping<P> {
    fn resource(&mut self, raw: &[u8]) {
        self.inner.resource(raw);
    }

    #[inline]
    fn item(&mut self, raw: &[u8]) -> Result<u32, InvalidId> {
        Ok(self.inner.item(raw).unwrap_or_else(|reason| {
            self.reason.get_or_insert(reason);
            self.last
        }))
    }
}

/// Splits a request of either signal into its first `first` items (at least 1) and the others.
///
/// One part, which shares the request's bytes, where there are no others.
pub fn at_item(request: &Bytes, first: u64) -> Vec<Part> {
    scatter(request, 2, ByCount { left: first.max(1) }).parts
}

struct ByCount {
    /// Items that still go to the first part.
    left: u64,
}

impl Place for ByCount {
    fn resource(&mut self, _raw: &[u8]) {}

    fn item(&mut self, _raw: &[u8]) -> Result<u32, InvalidId> {
        let partition = u32::from(self.left == 0);
        self.left = self.left.saturating_sub(1);
        Ok(partition)
    }
}

struct ByTrace<F> {
    partition_of: F,
    /// The trace id seen last and its partition: spans of a trace tend to stand together.
    last: ([u8; 16], u32),
}

impl<F: Fn(&[u8; 16]) -> u32> Place for ByTrace<F> {
    fn resource(&mut self, _raw: &[u8]) {}

    #[inline]
    fn item(&mut self, raw: &[u8]) -> Result<u32, InvalidId> {
        let span = SpanView::new(raw);
        let trace_id = exact::<16>("trace_id", span.trace_id())?;
        exact::<8>("span_id", span.span_id())?;
        absent_or::<8>("parent_span_id", span.parent_span_id())?;
        if *trace_id != self.last.0 {
            self.last = (*trace_id, (self.partition_of)(trace_id));
        }
        Ok(self.last.1)
    }
}

struct ByStream<'a> {
    partitions: u32,
    cluster: &'a str,
    partition: u32,
}

impl Place for ByStream<'_> {
    fn resource(&mut self, raw: &[u8]) {
        self.partition = stream_partition(self.cluster, raw, self.partitions);
    }

    #[inline]
    fn item(&mut self, raw: &[u8]) -> Result<u32, InvalidId> {
        let record = LogRecordView::new(raw);
        absent_or::<16>("trace_id", record.trace_id())?;
        absent_or::<8>("span_id", record.span_id())?;
        Ok(self.partition)
    }
}

#[inline]
fn exact<'a, const N: usize>(field: &'static str, id: &'a [u8]) -> Result<&'a [u8; N], InvalidId> {
    match <&[u8; N]>::try_from(id) {
        Ok(id) if id[0] == 0 && id.iter().all(|&byte| byte == 0) => Err(InvalidId::Zero { field }),
        Ok(id) => Ok(id),
        Err(_) => Err(InvalidId::Length { field, len: id.len(), expected: N }),
    }
}

#[inline]
fn absent_or<const N: usize>(field: &'static str, id: &[u8]) -> Result<(), InvalidId> {
    if id.is_empty() || id.len() == N { Ok(()) } else { Err(InvalidId::Length { field, len: id.len(), expected: N }) }
}
