//! From envelopes to output records: neighbours of one destination are joined by copying bytes.

use std::collections::HashMap;
use std::sync::Arc;

use afflux_bus::{Headers, PartitionId, Record};
use afflux_runtime::Signal;
use afflux_schemas::topics::{HEADER_CLUSTER, HEADER_ITEMS, HEADER_SOURCE};
use bytes::{Bytes, BytesMut};

use crate::chain::Envelope;

/// Bytes up to which envelopes are joined: large enough that the cost per record vanishes, and below
/// Kafka's default limit of 1 MB per record.
pub const TARGET_BYTES: usize = 512 * 1024;

/// What envelopes must have in common to share a record.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Lane {
    signal: Signal,
    partition: u32,
    source: PartitionId,
    cluster: Arc<str>,
    headers: Vec<(Arc<str>, Bytes)>,
}

/// An output record in the making.
struct Open {
    values: Vec<Bytes>,
    bytes: usize,
    items: u64,
    timestamp_ms: i64,
    first: u64,
    last: u64,
}

/// Joins envelopes into records.
///
/// Within a source partition, what enters first leaves first. Each record names in [`HEADER_SOURCE`] the
/// input offsets that it was made of.
pub struct Merger {
    spans: Arc<str>,
    logs: Arc<str>,
    /// Bytes up to which envelopes are joined.
    target: usize,
    open: HashMap<Lane, Open>,
    done: Vec<Record>,
}

impl Merger {
    /// A merger that writes to those topics, on a bus that takes records of so many bytes.
    pub fn new(spans: Arc<str>, logs: Arc<str>, max_record_bytes: usize) -> Self {
        // Half of it leaves room for headers.
        Self { spans, logs, target: TARGET_BYTES.min(max_record_bytes / 2), open: HashMap::new(), done: Vec::new() }
    }

    /// Adds an envelope made of the record at `offset` of `source`, bound for an output partition.
    pub fn push(&mut self, envelope: Envelope, source: &PartitionId, offset: u64, partition: u32) {
        let lane = Lane {
            signal: envelope.signal,
            partition,
            source: source.clone(),
            cluster: envelope.cluster,
            headers: envelope.headers.0,
        };
        let size = envelope.value.len();
        if self.open.get(&lane).is_some_and(|open| open.bytes + size > self.target)
            && let Some(full) = self.open.remove(&lane)
        {
            self.done.push(self.record(lane.clone(), full));
        }
        let open = self.open.entry(lane).or_insert_with(|| Open {
            values: Vec::new(),
            bytes: 0,
            items: 0,
            timestamp_ms: envelope.timestamp_ms,
            first: offset,
            last: offset,
        });
        open.values.push(envelope.value);
        open.bytes += size;
        open.items += envelope.items;
        open.timestamp_ms = open.timestamp_ms.max(envelope.timestamp_ms);
        open.last = offset;
    }

    /// Takes every record, closing those in the making.
    ///
    /// The order is by source partition and first offset, so that the same input gives the same output.
    pub fn take(&mut self) -> Vec<Record> {
        let mut open: Vec<_> = std::mem::take(&mut self.open).into_iter().collect();
        // A record of others may have been split by partition.
        open.sort_by(|(a, x), (b, y)| {
            let order = |lane: &Lane| (lane.cluster.clone(), lane.partition);
            (&a.source, x.first).cmp(&(&b.source, y.first)).then_with(|| order(a).cmp(&order(b)))
        });
        for (lane, content) in open {
            let record = self.record(lane, content);
            self.done.push(record);
        }
        std::mem::take(&mut self.done)
    }

    fn record(&self, lane: Lane, mut open: Open) -> Record {
        let topic = match lane.signal {
            Signal::Spans => self.spans.clone(),
            Signal::Logs => self.logs.clone(),
        };
        let value = match open.values.len() {
            1 => open.values.swap_remove(0),
            _ => {
                let mut joined = BytesMut::with_capacity(open.bytes);
                open.values.iter().for_each(|v| joined.extend_from_slice(v));
                joined.freeze()
            }
        };
        let mut headers = Headers(lane.headers);
        headers.push(HEADER_CLUSTER, Bytes::copy_from_slice(lane.cluster.as_bytes()));
        headers.push(HEADER_ITEMS, open.items.to_string());
        headers.push(HEADER_SOURCE, format!("{}/{}-{}", lane.source, open.first, open.last));
        Record {
            to: PartitionId { topic, partition: lane.partition },
            key: None,
            value: Some(value),
            timestamp_ms: open.timestamp_ms,
            headers,
        }
    }
}

/// The partition and first offset that [`HEADER_SOURCE`] names.
pub(crate) fn source(headers: &Headers) -> Option<(PartitionId, u64)> {
    let text = std::str::from_utf8(headers.get(HEADER_SOURCE)?).ok()?;
    let (partition, offsets) = text.rsplit_once('/')?;
    let (topic, partition) = partition.rsplit_once('/')?;
    let (first, _) = offsets.split_once('-')?;
    Some((PartitionId::new(topic, partition.parse().ok()?), first.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envelope(cluster: &str, value: &'static [u8], items: u64) -> Envelope {
        Envelope {
            signal: Signal::Spans,
            value: Bytes::from_static(value),
            items,
            cluster: cluster.into(),
            timestamp_ms: i64::try_from(items).unwrap(),
            headers: Headers::new(),
        }
    }

    fn header(record: &Record, name: &str) -> String {
        String::from_utf8(record.headers.get(name).unwrap().to_vec()).unwrap()
    }

    #[test]
    fn neighbours_of_one_cluster_and_partition_share_a_record_that_names_its_offsets() {
        let mut merger = Merger::new("spans".into(), "logs".into(), usize::MAX);
        let source = PartitionId::new("in", 3);
        merger.push(envelope("a", b"one", 1), &source, 10, 3);
        merger.push(envelope("b", b"two", 2), &source, 11, 3);
        merger.push(envelope("a", b"three", 3), &source, 12, 3);
        let records = merger.take();
        assert_eq!(records.len(), 2);
        assert_eq!(records[0].value.as_deref(), Some(&b"onethree"[..]));
        assert_eq!(header(&records[0], HEADER_SOURCE), "in/3/10-12");
        assert_eq!(super::source(&records[0].headers), Some((source, 10)));
        assert_eq!(header(&records[0], HEADER_ITEMS), "4");
        assert_eq!(header(&records[0], HEADER_CLUSTER), "a");
        assert_eq!(records[0].timestamp_ms, 3);
        assert_eq!(header(&records[1], HEADER_SOURCE), "in/3/11-11");
        assert!(merger.take().is_empty());
    }

    #[test]
    fn a_record_is_closed_before_it_outgrows_the_target() {
        let mut merger = Merger::new("spans".into(), "logs".into(), usize::MAX);
        let source = PartitionId::new("in", 0);
        let big = Bytes::from(vec![0; TARGET_BYTES / 2 + 1]);
        for offset in 0..3 {
            merger.push(Envelope { value: big.clone(), ..envelope("a", b"", 1) }, &source, offset, 0);
        }
        let records = merger.take();
        let sources: Vec<_> = records.iter().map(|r| header(r, HEADER_SOURCE)).collect();
        assert_eq!(sources, ["in/0/0-0", "in/0/1-1", "in/0/2-2"]);

        let mut narrow = Merger::new("spans".into(), "logs".into(), 100);
        let some = Bytes::from(vec![0; 30]);
        (0..2).for_each(|offset| {
            narrow.push(Envelope { value: some.clone(), ..envelope("a", b"", 1) }, &source, offset, 0)
        });
        assert_eq!(narrow.take().len(), 2, "on a bus of small records");
    }
}
