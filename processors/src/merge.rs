//! From envelopes to output records: neighbours of one destination are joined by copying bytes.

mod origin;

use std::collections::HashMap;
use std::sync::Arc;

use afflux_bus::{Headers, PartitionId, Record};
use afflux_runtime::Signal;
use afflux_schemas::otlp::split;
use afflux_schemas::topics::{HEADER_CLUSTER, HEADER_ITEMS, HEADER_ORIGIN, HEADER_SOURCE, Topics};
use bytes::{Bytes, BytesMut};

use self::origin::Origins;
use crate::chain::{Envelope, Route};

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
    /// Partition of the other Kafka cluster that they were copied from.
    origin: Option<Bytes>,
    headers: Vec<(Arc<str>, Bytes)>,
}

/// An output record in the making.
struct Open {
    values: Vec<Bytes>,
    bytes: usize,
    parts: Vec<Part>,
    origins: Origins,
}

/// What one envelope has given to an output record: its share of the value, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    bytes: usize,
    items: u64,
    timestamp_ms: i64,
    /// Offset of the input record.
    pub(crate) offset: u64,
    /// Offset of that record in the other Kafka cluster that it was copied from.
    origin: Option<u64>,
    /// How often the input record had been tried before.
    pub(crate) attempts: u32,
}

/// An output record, and what it was made of.
#[derive(Clone, Debug)]
pub struct Output {
    /// What is written.
    pub record: Record,
    source: PartitionId,
    origin: Option<Bytes>,
    parts: Vec<Part>,
}

impl Output {
    fn new(mut record: Record, source: PartitionId, origin: Option<Bytes>, parts: Vec<Part>) -> Self {
        let items: u64 = parts.iter().map(|part| part.items).sum();
        // Parts that a step kept for later may come behind younger ones.
        let offsets = parts.iter().map(|part| part.offset);
        let offsets = (offsets.clone().min().unwrap_or_default(), offsets.max().unwrap_or_default());
        record.timestamp_ms = parts.iter().map(|part| part.timestamp_ms).max().unwrap_or(record.timestamp_ms);
        record.headers.set(HEADER_ITEMS, items.to_string());
        record.headers.set(HEADER_SOURCE, format!("{source}/{}-{}", offsets.0, offsets.1));
        if let Some(partition) = &origin {
            let offsets = parts.iter().filter_map(|part| part.origin);
            record.headers.set(HEADER_ORIGIN, origin::header(partition, offsets));
        }
        Self { record, source, origin, parts }
    }

    /// The first input record of which it holds something, and its partition.
    pub(crate) fn origin(&self) -> Option<(&PartitionId, Part)> {
        Some((&self.source, *self.parts.first()?))
    }

    /// Smaller outputs that hold the same: what each envelope gave or, of a single one, its items in two halves.
    /// `None` for a single item.
    pub(crate) fn split(&self) -> Option<Vec<Self>> {
        let value = self.record.value.clone().unwrap_or_default();
        let smaller = |value: Bytes, part: Part| {
            let record = Record { value: Some(value), ..self.record.clone() };
            Self::new(record, self.source.clone(), self.origin.clone(), vec![part])
        };
        if let [part] = self.parts[..] {
            let halves = split::at_item(&value, part.items / 2);
            let half = |half: split::Part| {
                let part = Part { bytes: half.value.len(), items: half.items, ..part };
                smaller(half.value, part)
            };
            return (halves.len() > 1).then(|| halves.into_iter().map(half).collect());
        }
        let mut at = 0;
        let part = |part: &Part| {
            let share = value.slice(at..at + part.bytes);
            at += part.bytes;
            smaller(share, *part)
        };
        Some(self.parts.iter().map(part).collect())
    }
}

/// Where records go.
#[derive(Clone, Debug)]
pub struct OutputTopics {
    /// Spans.
    pub spans: Arc<str>,
    /// Log records.
    pub logs: Arc<str>,
    /// Kubernetes events.
    pub events: Arc<str>,
}

impl OutputTopics {
    /// Ours.
    pub fn of(topics: &Topics) -> Self {
        Self { spans: topics.spans().into(), logs: topics.logs().into(), events: topics.events().into() }
    }
}

/// Joins envelopes into records.
///
/// Within a source partition, what enters first leaves first. Each record names in [`HEADER_SOURCE`] the
/// input offsets that it was made of, and in [`HEADER_ORIGIN`] those in the Kafka cluster that they were copied from:
/// as ranges that rise. Records of several partitions there, and the second copy of one, do not join.
pub struct Merger {
    topics: OutputTopics,
    /// Bytes up to which envelopes are joined.
    target: usize,
    open: HashMap<Lane, Open>,
    done: Vec<Output>,
}

impl Merger {
    /// A merger that writes to those topics, on a bus that takes records of so many bytes.
    pub fn new(topics: OutputTopics, max_record_bytes: usize) -> Self {
        // Half of it leaves room for headers.
        Self { topics, target: TARGET_BYTES.min(max_record_bytes / 2), open: HashMap::new(), done: Vec::new() }
    }

    /// Adds an envelope that was made of a record of `source`.
    pub fn push(&mut self, mut envelope: Envelope, source: &PartitionId) {
        let Route { offset, attempts, partition } = envelope.route;
        let (origin, origin_offset) = origin::take(&mut envelope.headers).unzip();
        let lane = Lane {
            signal: envelope.signal,
            partition,
            source: source.clone(),
            cluster: envelope.cluster,
            origin,
            headers: envelope.headers.0,
        };
        let size = envelope.value.len();
        let target = self.target;
        let joins = |open: &mut Open| open.bytes + size <= target && open.origins.add(origin_offset, offset);
        if self.open.get_mut(&lane).is_some_and(|open| !joins(open))
            && let Some(full) = self.open.remove(&lane)
        {
            self.done.push(self.output(lane.clone(), full));
        }
        let open = self.open.entry(lane).or_insert_with(|| {
            let mut origins = Origins::default();
            origins.add(origin_offset, offset);
            Open { values: Vec::new(), bytes: 0, parts: Vec::new(), origins }
        });
        open.values.push(envelope.value);
        open.bytes += size;
        let (items, timestamp_ms) = (envelope.items, envelope.timestamp_ms);
        open.parts.push(Part { bytes: size, items, timestamp_ms, offset, origin: origin_offset, attempts });
    }

    /// Takes every record, closing those in the making.
    ///
    /// The order is by source partition and first offset, so that the same input gives the same output.
    pub fn take(&mut self) -> Vec<Output> {
        let mut open: Vec<_> = std::mem::take(&mut self.open).into_iter().collect();
        let first = |open: &Open| open.parts.first().map(|part| part.offset);
        // A record of others may have been split by partition.
        open.sort_by(|(a, x), (b, y)| {
            let order = |lane: &Lane| (lane.cluster.clone(), lane.partition);
            (&a.source, first(x)).cmp(&(&b.source, first(y))).then_with(|| order(a).cmp(&order(b)))
        });
        for (lane, content) in open {
            let output = self.output(lane, content);
            self.done.push(output);
        }
        std::mem::take(&mut self.done)
    }

    fn output(&self, lane: Lane, mut open: Open) -> Output {
        let topic = match lane.signal {
            Signal::Spans => self.topics.spans.clone(),
            Signal::Logs => self.topics.logs.clone(),
            Signal::Events => self.topics.events.clone(),
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
        let to = PartitionId { topic, partition: lane.partition };
        let record = Record { to, key: None, value: Some(value), timestamp_ms: 0, headers };
        Output::new(record, lane.source, lane.origin, open.parts)
    }
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
            route: Route::default(),
        }
    }

    fn at(envelope: Envelope, offset: u64, partition: u32) -> Envelope {
        Envelope { route: Route { offset, attempts: 0, partition }, ..envelope }
    }

    fn header(record: &Record, name: &str) -> String {
        String::from_utf8(record.headers.get(name).unwrap().to_vec()).unwrap()
    }

    #[test]
    fn neighbours_of_one_cluster_and_partition_share_a_record_that_names_its_offsets() {
        let mut merger = Merger::new(OutputTopics::of(&Topics::default()), usize::MAX);
        let source = PartitionId::new("in", 3);
        merger.push(at(envelope("a", b"one", 1), 10, 3), &source);
        merger.push(at(envelope("b", b"two", 2), 11, 3), &source);
        merger.push(at(envelope("a", b"three", 3), 12, 3), &source);
        let records: Vec<_> = merger.take().into_iter().map(|output| output.record).collect();
        assert_eq!(records.len(), 2);
        assert_eq!(records[0].value.as_deref(), Some(&b"onethree"[..]));
        assert_eq!(header(&records[0], HEADER_SOURCE), "in/3/10-12");
        assert_eq!(header(&records[0], HEADER_ITEMS), "4");
        assert_eq!(header(&records[0], HEADER_CLUSTER), "a");
        assert_eq!(records[0].timestamp_ms, 3);
        assert_eq!(header(&records[1], HEADER_SOURCE), "in/3/11-11");
        assert!(merger.take().is_empty());
    }

    fn copied(origin: &str) -> Envelope {
        let mut envelope = envelope("a", b"x", 1);
        envelope.headers.push(HEADER_ORIGIN, origin.to_owned());
        envelope
    }

    #[test]
    fn copied_records_join_by_partition_of_origin_and_the_second_copy_of_one_stands_alone() {
        let mut merger = Merger::new(OutputTopics::of(&Topics::default()), usize::MAX);
        let source = PartitionId::new("in", 0);
        // Another envelope of the same record joins; offset 11 was copied again, at 15, and 12 behind it.
        let origins = [(0, 10), (1, 11), (1, 11), (3, 14), (5, 11), (6, 12)];
        for (offset, origin) in origins {
            merger.push(at(copied(&format!("east:in/0/{origin}")), offset, 0), &source);
        }
        merger.push(at(copied("west:in/0/1"), 2, 0), &source);
        merger.push(at(copied("east:in/4/2"), 4, 0), &source);
        let records: Vec<_> = merger.take().into_iter().map(|output| output.record).collect();
        let told: Vec<_> = records.iter().map(|r| (header(r, HEADER_ORIGIN), header(r, HEADER_SOURCE))).collect();
        let expected = [
            ("east:in/0/10-11,14-14", "in/0/0-3"),
            ("west:in/0/1-1", "in/0/2-2"),
            ("east:in/4/2-2", "in/0/4-4"),
            ("east:in/0/11-12", "in/0/5-6"),
        ];
        assert_eq!(told, expected.map(|(origin, source)| (origin.to_owned(), source.to_owned())));
    }

    #[test]
    fn parts_of_an_output_keep_their_origins() {
        let mut merger = Merger::new(OutputTopics::of(&Topics::default()), usize::MAX);
        let source = PartitionId::new("in", 0);
        (0..3).for_each(|n| merger.push(at(copied(&format!("east:in/0/{}", n + 7)), n, 0), &source));
        let parts = merger.take()[0].split().unwrap();
        let origins: Vec<_> = parts.iter().map(|part| header(&part.record, HEADER_ORIGIN)).collect();
        assert_eq!(origins, ["east:in/0/7-7", "east:in/0/8-8", "east:in/0/9-9"]);
    }

    #[test]
    fn a_record_is_closed_before_it_outgrows_the_target() {
        let mut merger = Merger::new(OutputTopics::of(&Topics::default()), usize::MAX);
        let source = PartitionId::new("in", 0);
        let big = Bytes::from(vec![0; TARGET_BYTES / 2 + 1]);
        for offset in 0..3 {
            merger.push(at(Envelope { value: big.clone(), ..envelope("a", b"", 1) }, offset, 0), &source);
        }
        let records: Vec<_> = merger.take().into_iter().map(|output| output.record).collect();
        let sources: Vec<_> = records.iter().map(|r| header(r, HEADER_SOURCE)).collect();
        assert_eq!(sources, ["in/0/0-0", "in/0/1-1", "in/0/2-2"]);

        let mut narrow = Merger::new(OutputTopics::of(&Topics::default()), 100);
        let some = Bytes::from(vec![0; 30]);
        (0..2).for_each(|offset| {
            narrow.push(at(Envelope { value: some.clone(), ..envelope("a", b"", 1) }, offset, 0), &source)
        });
        assert_eq!(narrow.take().len(), 2, "on a bus of small records");
    }
}
