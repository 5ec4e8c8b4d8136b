//! Which output partition the parts of a record go to.

use std::sync::Arc;

use afflux_bus::Received;
use afflux_runtime::Signal;
use afflux_schemas::otlp::concat;
use afflux_schemas::otlp::split::{self, InvalidId};
use afflux_schemas::topics::{HEADER_CLUSTER, HEADER_ITEMS, HEADER_ORIGIN, mirror_source};
use bytes::Bytes;

use super::{Leftover, Refused, Source};

/// The parts of one record.
pub(super) struct Placed<'r> {
    /// Partition, request, items and cluster.
    pub(super) parts: Vec<(u32, Bytes, u64, Arc<str>)>,
    signal: Signal,
    partitions: u32,
    /// Partition of what is not split.
    kept: u32,
    /// Whether items are split by what they are.
    split: bool,
    /// Whether items with invalid ids are refused.
    strict: bool,
    /// What log streams are told apart by besides their resource; as in our receivers.
    stream: &'r str,
    refused: Vec<Bytes>,
    refused_items: u64,
    reason: Option<InvalidId>,
}

impl<'r> Placed<'r> {
    pub(super) fn new(record: &'r Received, source: &Source, partitions: u32) -> Self {
        let stream = record.headers.get(HEADER_CLUSTER).and_then(|name| std::str::from_utf8(name).ok());
        Self {
            parts: Vec::new(),
            signal: source.signal,
            partitions,
            kept: record.from.partition % partitions,
            // Our receivers say how many items there are; who does not is someone else. What comes from another Kafka
            // cluster may lie there in one partition of more or fewer.
            split: source.foreign
                || record.headers.get(HEADER_ITEMS).is_none()
                || record.headers.get(HEADER_ORIGIN).is_some()
                || mirror_source(&record.from.topic, &source.topic).is_some(),
            strict: source.foreign,
            stream: stream.unwrap_or_default(),
            refused: Vec::new(),
            refused_items: 0,
            reason: None,
        }
    }

    /// Adds a canonical request of one cluster.
    pub(super) fn add(&mut self, value: Bytes, items: u64, cluster: &Arc<str>) {
        if !self.split {
            self.parts.push((self.kept, value, items, cluster.clone()));
            return;
        }
        let split = match self.signal {
            Signal::Spans => split::traces_keeping(&value, self.partitions),
            Signal::Logs | Signal::Events => split::logs_keeping(&value, self.partitions, self.stream),
        };
        for part in split.parts {
            if part.partition < self.partitions {
                self.parts.push((part.partition, part.value, part.items, cluster.clone()));
            } else if self.strict {
                self.refused.push(part.value);
                self.refused_items += part.items;
                self.reason = self.reason.or(split.reason);
            } else {
                self.parts.push((self.kept, part.value, part.items, cluster.clone()));
            }
        }
    }

    /// The items with invalid ids.
    pub(super) fn leftover(&self, source: &Source) -> Option<Leftover> {
        let refused = Refused::Ids { signal: source.signal.as_str(), items: self.refused_items, reason: self.reason? };
        Some(Leftover { value: concat(self.refused.iter().map(|value| &value[..])), refused })
    }
}
