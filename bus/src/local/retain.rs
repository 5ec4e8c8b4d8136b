//! Retention, by one rule: the oldest segment is dropped once whatever is still wanted in it has been appended
//! again at the tail.
//!
//! Topics and offsets are appended again whenever a segment begins. So there remain records: of topics that keep
//! longer, and the last value per key of compacted topics. They keep their offsets.

use std::collections::HashMap;

use bytes::BufMut;

use super::frame::{self, Item, Part};
use super::log::Log;
use super::read::Store;
use super::state::{Partition, Piece, Place, State};
use crate::error::BusError;
use crate::record::{Cleanup, TopicSpec};

/// How long a tombstone stays, so that readers see it: as long as in Kafka unless configured there.
const TOMBSTONE_MS: i64 = 24 * 3600 * 1000;
/// Bytes moved and records looked at in one step, so that retention never holds up appends for long.
const STEP_BYTES: usize = 4 << 20;
const STEP_RECORDS: usize = 4096;

/// The oldest segment on its way out.
#[derive(Debug)]
pub(super) struct Moving {
    segment: u64,
    /// Records that may be wanted, by position from the last to the first.
    rest: Vec<(Part, Place)>,
    /// Tombstones that have served their time; forgotten with the segment and not before, lest the values that they
    /// delete, should moving begin anew, pass for the last ones.
    gone: Vec<(Part, Place)>,
    expiries: HashMap<Part, Expiry>,
}

/// Up to where a partition's records have expired.
#[derive(Clone, Copy, Debug)]
struct Expiry {
    /// Older timestamps are.
    timestamp_ms: i64,
    /// Lower offsets are.
    offset: u64,
}

impl Expiry {
    fn of(topic: &TopicSpec, partition: &Partition, now_ms: i64) -> Self {
        let mut expiry = Self { timestamp_ms: i64::MIN, offset: 0 };
        if let Cleanup::Delete { max_age, max_bytes } = topic.cleanup {
            if let Some(age) = max_age {
                expiry.timestamp_ms =
                    now_ms.saturating_sub_unsigned(u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
            }
            if let Some(max) = max_bytes {
                expiry.offset = floor(partition, max);
            }
        }
        expiry
    }

    fn keeps(&self, piece: &Piece) -> bool {
        piece.max_timestamp_ms >= self.timestamp_ms && piece.max >= self.offset
    }
}

/// The offset from which on the partition has at least `max_bytes`; 0 where it has less.
///
/// By whole pieces, as Kafka counts whole segments. Pieces that overlap may hold the same records, moved before a
/// crash, so only one of them counts.
fn floor(partition: &Partition, max_bytes: u64) -> u64 {
    let mut pieces: Vec<_> = partition.pieces.iter().map(|piece| (piece.min, piece.max, piece.bytes)).collect();
    pieces.sort_unstable_by(|a, b| b.cmp(a));
    let (mut floor, mut kept) = (u64::MAX, 0);
    for (min, max, bytes) in pieces {
        if max < floor {
            (floor, kept) = (min, kept + bytes);
        }
        if kept >= max_bytes {
            return floor;
        }
    }
    0
}

/// What the log holds and what of it is wanted, in bytes.
#[derive(Debug, Default)]
struct Tally {
    sealed: u64,
    sealed_wanted: u64,
    oldest_wanted: u64,
    active_records: u64,
    active_wanted: u64,
}

impl Tally {
    fn of(state: &State, now_ms: i64) -> Self {
        let mut tally = Self::default();
        let ends = (state.segments.front().map(|s| s.id), state.segments.back().map(|s| s.id));
        let (Some(oldest), Some(active)) = ends else { return tally };
        for segment in state.segments.iter().filter(|segment| segment.id != active) {
            tally.sealed += segment.len;
            tally.sealed_wanted += segment.base;
        }
        for (part, partition) in &state.partitions {
            let Some(topic) = state.topics.get(part.topic as usize) else { continue };
            let expiry = Expiry::of(topic, partition, now_ms);
            let mut sealed = 0;
            for piece in &partition.pieces {
                let wanted = if expiry.keeps(piece) { piece.bytes } else { 0 };
                if piece.segment == active {
                    tally.active_records += piece.bytes;
                    tally.active_wanted += wanted;
                } else {
                    sealed += wanted;
                }
                if piece.segment == oldest {
                    tally.oldest_wanted += wanted;
                }
            }
            tally.sealed_wanted += partition.latest.as_ref().map_or(sealed, |latest| latest.bytes.min(sealed));
        }
        tally
    }

    /// Whether the oldest segment should go: at once where nothing in it is wanted; otherwise as soon as half of
    /// the log is not, so that moving costs at most one byte written per byte freed.
    fn is_due(&self, segment_bytes: u64, pressed: bool) -> bool {
        let garbage = self.sealed.saturating_sub(self.sealed_wanted);
        self.sealed > 0
            && (self.oldest_wanted == 0
                || garbage >= self.sealed_wanted.max(segment_bytes)
                || (pressed && garbage >= segment_bytes))
    }
}

impl Log {
    /// Does one bounded step of retention. Answers whether there is more to do at once.
    ///
    /// Damage in what is to be moved is an error each time: the segment stays.
    pub(super) fn maintain(&mut self, now_ms: i64) -> Result<bool, BusError> {
        if self.is_poisoned() {
            return Ok(false);
        }
        if let Some(moving) = self.moving.take() {
            return self.move_on(moving, now_ms);
        }
        let (tally, bytes) = {
            let state = self.store.state();
            (Tally::of(&state, now_ms), state.bytes())
        };
        if tally.active_records > 0 && tally.active_wanted == 0 {
            self.roll()?;
            return Ok(true);
        }
        let pressed = self.limits.max_bytes.is_some_and(|max| bytes + 2 * self.limits.segment_bytes > max);
        if !tally.is_due(self.limits.segment_bytes, pressed) {
            return Ok(false);
        }
        let moving = plan(&self.store, now_ms)?;
        self.move_on(moving, now_ms)
    }

    /// Moves some of what is wanted; after the last, drops the segment.
    fn move_on(&mut self, mut moving: Moving, now_ms: i64) -> Result<bool, BusError> {
        if self.active.segment.len >= self.active.segment.base + self.limits.segment_bytes {
            self.roll()?;
        }
        let mut bytes = Vec::new();
        for _ in 0..STEP_RECORDS {
            let Some((part, place)) = moving.rest.pop() else { break };
            match wanted(&self.store, &moving, part, &place, now_ms)? {
                Verdict::Move(raw) => bytes.put_slice(&raw),
                Verdict::Forget => moving.gone.push((part, place)),
                Verdict::Leave => {}
            }
            if bytes.len() >= STEP_BYTES.min(self.limits.segment_bytes as usize / 4) {
                break;
            }
        }
        let last = moving.rest.is_empty();
        if last || !bytes.is_empty() {
            self.allocate(frame::frame_len(bytes.len() + 16) as u64, 0)?;
            self.append_items(|out| {
                out.append(&mut bytes);
                if last {
                    frame::put_item(out, &Item::Oldest(moving.segment + 1));
                }
            })?;
        }
        if last {
            let mut state = self.store.state_mut();
            for (part, place) in &moving.gone {
                if let Some(latest) = &mut state.partition(*part).latest {
                    latest.forget(place);
                }
            }
            state.drop_oldest();
            drop(state);
            self.remove(moving.segment);
            self.store.forget(moving.segment);
        } else {
            self.moving = Some(moving);
        }
        Ok(true)
    }
}

/// Lists the records of the oldest segment that may be wanted.
fn plan(store: &Store, now_ms: i64) -> Result<Moving, BusError> {
    let (mut pieces, mut expiries) = (Vec::new(), HashMap::new());
    let segment = {
        let state = store.state();
        let segment = state.segments.front().map_or(0, |segment| segment.id);
        for (part, partition) in &state.partitions {
            let Some(topic) = state.topics.get(part.topic as usize) else { continue };
            let expiry = Expiry::of(topic, partition, now_ms);
            let piece = partition.pieces.front().filter(|piece| piece.segment == segment && expiry.keeps(piece));
            pieces.extend(piece.map(|piece| (*part, piece.places.clone())));
            expiries.insert(*part, expiry);
        }
        segment
    };
    let mut rest = Vec::new();
    for (part, places) in pieces {
        rest.extend(store.places(part, segment, &places)?.iter().map(|place| (part, *place)));
    }
    rest.sort_unstable_by_key(|(_, place)| std::cmp::Reverse(place.pos));
    Ok(Moving { segment, rest, gone: Vec::new(), expiries })
}

/// What becomes of a record whose segment goes.
enum Verdict {
    /// It is appended again, byte for byte.
    Move(bytes::Bytes),
    /// It is a tombstone that has served its time.
    Forget,
    /// It is not wanted, or lies elsewhere already.
    Leave,
}

fn wanted(store: &Store, moving: &Moving, part: Part, place: &Place, now_ms: i64) -> Result<Verdict, BusError> {
    let (raw, record) = store.raw(part, moving.segment, place)?;
    let expired = |expiry: &Expiry| record.timestamp_ms < expiry.timestamp_ms || record.offset < expiry.offset;
    if moving.expiries.get(&part).is_none_or(expired) {
        return Ok(Verdict::Leave);
    }
    let (others, latest) = {
        let state = store.state();
        let Some(partition) = state.partitions.get(&part) else { return Ok(Verdict::Leave) };
        let covers =
            |piece: &&Piece| piece.segment > moving.segment && piece.min <= place.offset && piece.max >= place.offset;
        let others = partition.pieces.iter().filter(covers).map(|piece| (piece.segment, piece.places.clone()));
        (others.collect::<Vec<_>>(), partition.latest.as_ref().map(|latest| latest.get(place.hash)))
    };
    // Moved before, by an attempt that a crash or a full disk cut short.
    for (segment, places) in others {
        let places = store.places(part, segment, &places)?;
        if places.binary_search_by_key(&place.offset, |place| place.offset).is_ok() {
            return Ok(Verdict::Leave);
        }
    }
    match latest {
        Some(Some(newer)) if newer > place.offset => {
            // Equal hashes only suggest equal keys.
            let same = store.at(part, newer)?.is_some_and(|newer| newer.key == record.key);
            Ok(if same { Verdict::Leave } else { Verdict::Move(raw) })
        }
        Some(_) if record.value.is_none() && record.timestamp_ms < now_ms.saturating_sub(TOMBSTONE_MS) => {
            Ok(Verdict::Forget)
        }
        _ => Ok(Verdict::Move(raw)),
    }
}
