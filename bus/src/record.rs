//! What travels over a bus: records out, records in, and the topics that hold them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

/// Header names and values of one record, in the order in which they were written.
///
/// Names may repeat; [`Headers::get`] answers with the last one, as Kafka clients do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(pub Vec<(Arc<str>, Bytes)>);

impl Headers {
    /// No headers.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// The last value of that name.
    pub fn get(&self, name: &str) -> Option<&Bytes> {
        self.0.iter().rev().find(|(n, _)| &**n == name).map(|(_, value)| value)
    }

    /// Appends a header, keeping those of the same name.
    pub fn push(&mut self, name: impl Into<Arc<str>>, value: impl Into<Bytes>) {
        self.0.push((name.into(), value.into()));
    }

    /// Replaces every header of that name by one value.
    pub fn set(&mut self, name: &str, value: impl Into<Bytes>) {
        self.0.retain(|(n, _)| &**n != name);
        self.push(name, value);
    }
}

/// A topic and one of its partitions.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PartitionId {
    /// Full topic name, prefix included.
    pub topic: Arc<str>,
    /// Partition number, from 0.
    pub partition: u32,
}

impl PartitionId {
    /// A partition of a topic.
    pub fn new(topic: impl Into<Arc<str>>, partition: u32) -> Self {
        Self { topic: topic.into(), partition }
    }
}

impl fmt::Display for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

/// Counts the assignments of a consumer. An offset settled under an older generation is ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Generation(pub u64);

/// A record to publish.
///
/// The partition is always the writer's choice: one record holds many items, and a writer splits its items
/// by partition before it builds records (see `afflux_schemas::partition`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Where it goes.
    pub to: PartitionId,
    /// Identity within a compacted topic; otherwise informative.
    pub key: Option<Bytes>,
    /// The payload; `None` is a tombstone, which deletes the key from a compacted topic.
    pub value: Option<Bytes>,
    /// Milliseconds since the Unix epoch.
    pub timestamp_ms: i64,
    /// Small facts that readers need without decoding the value.
    pub headers: Headers,
}

impl Record {
    /// Bytes of key, value and headers: what limits and budgets count.
    pub fn size(&self) -> usize {
        self.key.as_ref().map_or(0, Bytes::len)
            + self.value.as_ref().map_or(0, Bytes::len)
            + self.headers.0.iter().map(|(n, v)| n.len() + v.len()).sum::<usize>()
    }
}

/// A record as a consumer sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// Where it was read.
    pub from: PartitionId,
    /// The assignment under which it was read.
    pub generation: Generation,
    /// Position in the partition. Offsets rise but may have gaps.
    pub offset: u64,
    /// Milliseconds since the Unix epoch.
    pub timestamp_ms: i64,
    /// The key as written.
    pub key: Option<Bytes>,
    /// The value as written; `None` is a tombstone.
    pub value: Option<Bytes>,
    /// The headers as written.
    pub headers: Headers,
}

impl Received {
    /// Bytes of key, value and headers: what limits and budgets count.
    pub fn size(&self) -> usize {
        self.key.as_ref().map_or(0, Bytes::len)
            + self.value.as_ref().map_or(0, Bytes::len)
            + self.headers.0.iter().map(|(n, v)| n.len() + v.len()).sum::<usize>()
    }
}

/// How a topic forgets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cleanup {
    /// Records go by age or size, whichever limit is passed first; `None` is no limit.
    Delete {
        /// Oldest record kept.
        max_age: Option<Duration>,
        /// Bytes kept per partition.
        max_bytes: Option<u64>,
    },
    /// The last value of every key stays.
    Compact,
}

/// A topic as it should exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicSpec {
    /// Full name, prefix included.
    pub name: Arc<str>,
    /// Number of partitions, at least 1.
    pub partitions: u32,
    /// How it forgets.
    pub cleanup: Cleanup,
}
