//! What is known of the log in memory: topics, offsets, and where the records of each partition lie.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use super::frame::{Item, Part, SEGMENT_HEADER, body_start, take_item};
use crate::record::{Cleanup, TopicSpec};

/// Where one record lies in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) offset: u64,
    /// Position in the segment.
    pub(super) pos: u32,
    /// Bytes as stored.
    pub(super) len: u32,
    /// Of the key; 0 without one.
    pub(super) hash: u64,
}

/// The places of a piece, rising by offset.
#[derive(Clone, Debug)]
pub(super) enum Places {
    /// In memory: the segment is being written.
    Memory(Vec<Place>),
    /// In the index file of the segment: position, number and checksum.
    Disk { at: u64, count: u32, crc: u32 },
}

/// The records of one partition in one segment.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    pub(super) segment: u64,
    pub(super) min: u64,
    pub(super) max: u64,
    /// Bytes as stored.
    pub(super) bytes: u64,
    pub(super) max_timestamp_ms: i64,
    pub(super) places: Places,
}

impl Piece {
    pub(super) fn new(segment: u64) -> Self {
        let places = Places::Memory(Vec::new());
        Self { segment, min: u64::MAX, max: 0, bytes: 0, max_timestamp_ms: i64::MIN, places }
    }

    /// Takes a record in. Answers whether its offset is out of order, as that of a moved record may be.
    pub(super) fn add(&mut self, place: Place, timestamp_ms: i64) -> bool {
        let unsorted = place.offset <= self.max && self.min <= self.max;
        self.min = self.min.min(place.offset);
        self.max = self.max.max(place.offset);
        self.bytes += u64::from(place.len);
        self.max_timestamp_ms = self.max_timestamp_ms.max(timestamp_ms);
        if let Places::Memory(places) = &mut self.places {
            places.push(place);
        }
        unsorted
    }

    /// Puts the places in order.
    pub(super) fn sort(&mut self) {
        if let Places::Memory(places) = &mut self.places {
            places.sort_by_key(|place| place.offset);
            places.dedup_by_key(|place| place.offset);
        }
    }
}

/// The newest record of every key of a compacted partition.
#[derive(Debug, Default)]
pub(super) struct Latest {
    /// By hash of the key. Of two keys with one hash it knows the later record.
    by_hash: HashMap<u64, (u64, u32)>,
    /// Bytes of these records.
    pub(super) bytes: u64,
}

impl Latest {
    pub(super) fn add(&mut self, place: &Place) {
        let known = self.by_hash.entry(place.hash).or_insert((place.offset, 0));
        if known.0 <= place.offset {
            self.bytes = self.bytes + u64::from(place.len) - u64::from(known.1);
            *known = (place.offset, place.len);
        }
    }

    pub(super) fn get(&self, hash: u64) -> Option<u64> {
        self.by_hash.get(&hash).map(|(offset, _)| *offset)
    }

    /// Forgets a tombstone that is dropped.
    pub(super) fn forget(&mut self, place: &Place) {
        if self.get(place.hash) == Some(place.offset) {
            self.by_hash.remove(&place.hash);
            self.bytes -= u64::from(place.len);
        }
    }
}

/// One partition.
#[derive(Debug, Default)]
pub(super) struct Partition {
    pub(super) next: u64,
    /// In the order of their segments.
    pub(super) pieces: VecDeque<Piece>,
    /// For compacted topics.
    pub(super) latest: Option<Latest>,
}

impl Partition {
    /// Offset of the oldest record kept; the next one where there is none.
    pub(super) fn start(&self) -> u64 {
        self.pieces.iter().map(|piece| piece.min).min().unwrap_or(self.next)
    }
}

/// One segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) id: u64,
    /// Bytes written.
    pub(super) len: u64,
    /// Where its first frame, which repeats topics and offsets, ends.
    pub(super) base: u64,
    /// Sequence number of its first frame.
    pub(super) first_seq: u64,
    /// Sequence number that follows its last frame.
    pub(super) next_seq: u64,
}

impl Segment {
    pub(super) fn new(id: u64, first_seq: u64) -> Self {
        Self { id, len: SEGMENT_HEADER, base: SEGMENT_HEADER, first_seq, next_seq: first_seq }
    }

    /// Takes a frame in that ends at `end`.
    pub(super) fn grow(&mut self, end: u64) {
        if self.len == SEGMENT_HEADER {
            self.base = end;
        }
        self.len = end;
        self.next_seq += 1;
    }
}

/// Everything durable, and nothing else.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) topics: Vec<TopicSpec>,
    pub(super) by_name: HashMap<Arc<str>, u32>,
    pub(super) partitions: BTreeMap<Part, Partition>,
    pub(super) committed: HashMap<Arc<str>, BTreeMap<Part, u64>>,
    /// From the oldest to the one being written.
    pub(super) segments: VecDeque<Segment>,
    /// Segments before this one are dropped.
    pub(super) oldest: u64,
    /// Records came below others of their piece, so that it is to be sorted.
    unsorted: bool,
}

impl State {
    /// Takes in the items of a durable frame at `pos` of the last segment; `false` where they do not decode.
    pub(super) fn apply(&mut self, segment: u64, pos: u64, mut body: &[u8]) -> bool {
        let (start, len) = (body_start(pos), body.len());
        while !body.is_empty() {
            let at = len - body.len();
            let Some(item) = take_item(&mut body) else { return false };
            match item {
                Item::Record { part, offset, timestamp_ms, hash } => {
                    let (pos, len) = ((start + at as u64) as u32, (len - at - body.len()) as u32);
                    self.record(segment, part, Place { offset, pos, len, hash }, timestamp_ms);
                }
                Item::Topic { id, spec } if id as usize == self.topics.len() => {
                    self.by_name.insert(Arc::clone(&spec.name), id);
                    self.topics.push(spec);
                }
                Item::Topic { .. } => return false,
                Item::Next { part, next } => self.partition(part).next = next,
                Item::Committed { group, part, next } => {
                    if !self.committed.contains_key(group) {
                        self.committed.insert(group.into(), BTreeMap::new());
                    }
                    self.committed.get_mut(group).map(|offsets| offsets.insert(part, next));
                }
                Item::Oldest(id) => self.oldest = id,
            }
        }
        true
    }

    fn record(&mut self, segment: u64, part: Part, place: Place, timestamp_ms: i64) {
        let partition = self.partition(part);
        partition.next = partition.next.max(place.offset + 1);
        if let Some(latest) = &mut partition.latest {
            latest.add(&place);
        }
        if partition.pieces.back().is_none_or(|piece| piece.segment != segment) {
            partition.pieces.push_back(Piece::new(segment));
        }
        let unsorted = partition.pieces.back_mut().is_some_and(|piece| piece.add(place, timestamp_ms));
        self.unsorted |= unsorted;
    }

    /// Whether every offset has a record until retention takes it, unlike in a compacted topic.
    pub(super) fn is_dense(&self, part: Part) -> bool {
        self.topics.get(part.topic as usize).is_none_or(|topic| topic.cleanup != Cleanup::Compact)
    }

    /// The partition, created where nothing is known of it.
    pub(super) fn partition(&mut self, part: Part) -> &mut Partition {
        let compact = !self.is_dense(part);
        self.partitions
            .entry(part)
            .or_insert_with(|| Partition { latest: compact.then(Latest::default), ..Partition::default() })
    }

    /// Sorts the pieces of the segment being written, where they need it.
    pub(super) fn sort(&mut self, segment: u64) {
        if !std::mem::take(&mut self.unsorted) {
            return;
        }
        for partition in self.partitions.values_mut() {
            if let Some(piece) = partition.pieces.back_mut().filter(|piece| piece.segment == segment) {
                piece.sort();
            }
        }
    }

    /// Begins the next segment; the places of the one before now lie on disk.
    pub(super) fn seal(&mut self, sealed: u64, places: Vec<Places>, next: Segment) {
        let pieces = self.partitions.values_mut().filter_map(|partition| partition.pieces.back_mut());
        for (piece, places) in pieces.filter(|piece| piece.segment == sealed).zip(places) {
            piece.places = places;
        }
        self.segments.push_back(next);
    }

    /// Takes in how far the segment being written has grown.
    pub(super) fn grow(&mut self, active: Segment) {
        if let Some(last) = self.segments.back_mut() {
            *last = active;
        }
        self.sort(active.id);
    }

    /// Bytes of all segments.
    pub(super) fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.len).sum()
    }

    /// Forgets the oldest segment.
    pub(super) fn drop_oldest(&mut self) -> Option<Segment> {
        let segment = self.segments.pop_front()?;
        for partition in self.partitions.values_mut() {
            partition.pieces.pop_front_if(|piece| piece.segment == segment.id);
        }
        Some(segment)
    }

    /// The items with which a new segment starts, so that no older one is needed to know them.
    pub(super) fn snapshot(&self, mut put: impl FnMut(&Item<'_>)) {
        put(&Item::Oldest(self.oldest));
        for (id, spec) in self.topics.iter().enumerate() {
            put(&Item::Topic { id: id as u32, spec: spec.clone() });
        }
        for (part, partition) in &self.partitions {
            put(&Item::Next { part: *part, next: partition.next });
        }
        for (group, offsets) in &self.committed {
            for (part, next) in offsets {
                put(&Item::Committed { group, part: *part, next: *next });
            }
        }
    }

    /// The number of a partition, where it exists.
    pub(super) fn part(&self, topic: &str, partition: u32) -> Option<Part> {
        let topic = *self.by_name.get(topic)?;
        (partition < self.topics.get(topic as usize)?.partitions).then_some(Part { topic, partition })
    }

    /// The group's committed offset.
    pub(super) fn committed(&self, group: &str, part: Part) -> Option<u64> {
        self.committed.get(group)?.get(&part).copied()
    }

    /// First and next offset of a partition.
    pub(super) fn range(&self, part: Part) -> (u64, u64) {
        self.partitions.get(&part).map_or((0, 0), |partition| (partition.start(), partition.next))
    }
}
