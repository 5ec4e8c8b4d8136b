//! The log's bytes: segments of frames, frames of items. All integers are little-endian.
//!
//! A segment is `MAGIC`, its id (u64) and frames, each starting at a multiple of 8. A frame is the length of its
//! body (u32), a CRC-32C of the segment's id and of everything after the checksum (u32), its sequence number
//! (u64), the sequence number of the first frame of its group (u64), and the body. Frames count through the whole
//! log. A group is what was written and synced at once, so a valid frame proves that every frame before its
//! group had been synced.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};

use crate::record::{Cleanup, Headers, Record, TopicSpec};

/// The last byte is the version.
pub(super) const MAGIC: &[u8; 8] = b"afxlog\0\x01";
/// Bytes before the first frame.
pub(super) const SEGMENT_HEADER: u64 = 16;
/// Bytes before a frame's body.
pub(super) const FRAME_HEADER: usize = 24;
const RECORD_HEADER: usize = 9;
const RECORD_FIXED: usize = 36;
/// Bytes of one body at most; positions in a segment stay within 32 bits.
pub(super) const MAX_BODY: usize = 1 << 30;
const NONE: u32 = u32::MAX;

const RECORD: u8 = 1;
const TOPIC: u8 = 2;
const NEXT: u8 = 3;
const COMMITTED: u8 = 4;
const OLDEST: u8 = 5;

/// A partition by numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Part {
    pub(super) topic: u32,
    pub(super) partition: u32,
}

/// What a body holds.
#[derive(Debug)]
pub(super) enum Item<'a> {
    /// A record, new or moved from a dropped segment.
    Record { part: Part, offset: u64, timestamp_ms: i64, hash: u64 },
    /// A topic was created. Ids count from 0.
    Topic { id: u32, spec: TopicSpec },
    /// The offset that the partition's next record gets.
    Next { part: Part, next: u64 },
    /// A group committed.
    Committed { group: &'a str, part: Part, next: u64 },
    /// Segments before this one are dropped.
    Oldest(u64),
}

/// A record as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) part: Part,
    pub(super) offset: u64,
    pub(super) timestamp_ms: i64,
    pub(super) key: Option<Bytes>,
    pub(super) value: Option<Bytes>,
    pub(super) headers: Headers,
}

impl Stored {
    /// Bytes of key, value and headers.
    pub(super) fn size(&self) -> usize {
        self.key.as_ref().map_or(0, Bytes::len)
            + self.value.as_ref().map_or(0, Bytes::len)
            + self.headers.0.iter().map(|(n, v)| n.len() + v.len()).sum::<usize>()
    }
}

/// Rounds up to where the next frame starts.
pub(super) fn aligned(len: usize) -> usize {
    len.next_multiple_of(8)
}

/// Bytes of a frame with that body.
pub(super) fn frame_len(body: usize) -> usize {
    aligned(FRAME_HEADER + body)
}

/// Starts a segment.
pub(super) fn put_segment_header(out: &mut Vec<u8>, id: u64) {
    out.put_slice(MAGIC);
    out.put_u64_le(id);
}

/// Appends a frame whose body `fill` writes.
pub(super) fn put_frame(out: &mut Vec<u8>, segment: u64, seq: u64, group: u64, fill: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.put_u64_le(0);
    out.put_u64_le(seq);
    out.put_u64_le(group);
    fill(out);
    let body = (out.len() - start - FRAME_HEADER) as u32;
    let crc = frame_crc(segment, &out[start + 8..]);
    out[start..start + 4].copy_from_slice(&body.to_le_bytes());
    out[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
    out.resize(start + frame_len(body as usize), 0);
}

/// The id takes part, so that a frame is valid only in its own segment.
pub(super) fn frame_crc(segment: u64, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&segment.to_le_bytes()), bytes)
}

/// Bytes that [`put_record`] will write.
pub(super) fn record_len(record: &Record) -> usize {
    RECORD_HEADER + RECORD_FIXED + record.size() + 8 * record.headers.0.len()
}

/// Appends a record. It has its own checksum, so that it can be read without the rest of its frame.
pub(super) fn put_record(out: &mut Vec<u8>, part: Part, offset: u64, record: &Record) {
    let start = out.len();
    out.put_u8(RECORD);
    out.put_u64_le(0);
    out.put_u32_le(part.topic);
    out.put_u32_le(part.partition);
    out.put_u64_le(offset);
    out.put_i64_le(record.timestamp_ms);
    out.put_u32_le(record.key.as_ref().map_or(NONE, |k| k.len() as u32));
    out.put_u32_le(record.value.as_ref().map_or(NONE, |v| v.len() as u32));
    out.put_u32_le(record.headers.0.len() as u32);
    out.put_slice(record.key.as_deref().unwrap_or_default());
    out.put_slice(record.value.as_deref().unwrap_or_default());
    for (name, value) in &record.headers.0 {
        out.put_u32_le(name.len() as u32);
        out.put_u32_le(value.len() as u32);
        out.put_slice(name.as_bytes());
        out.put_slice(value);
    }
    let rest = start + RECORD_HEADER;
    let len = (out.len() - rest) as u32;
    let crc = crc32c::crc32c(&out[rest..]);
    out[start + 1..start + 5].copy_from_slice(&len.to_le_bytes());
    out[start + 5..rest].copy_from_slice(&crc.to_le_bytes());
}

/// Appends any other item. Records are written by [`put_record`].
pub(super) fn put_item(out: &mut Vec<u8>, item: &Item<'_>) {
    match item {
        Item::Record { .. } => debug_assert!(false, "records are written by put_record"),
        Item::Topic { id, spec } => {
            let (kind, age, bytes) = match spec.cleanup {
                Cleanup::Delete { max_age, max_bytes } => (0, max_age, max_bytes),
                Cleanup::Compact => (1, None, None),
            };
            out.put_u8(TOPIC);
            out.put_u32_le(*id);
            out.put_u32_le(spec.partitions);
            out.put_u8(kind);
            out.put_u64_le(age.map_or(u64::MAX, |a| u64::try_from(a.as_millis()).unwrap_or(u64::MAX)));
            out.put_u64_le(bytes.unwrap_or(u64::MAX));
            put_str(out, &spec.name);
        }
        Item::Next { part, next } => {
            out.put_u8(NEXT);
            put_part(out, *part);
            out.put_u64_le(*next);
        }
        Item::Committed { group, part, next } => {
            out.put_u8(COMMITTED);
            put_str(out, group);
            put_part(out, *part);
            out.put_u64_le(*next);
        }
        Item::Oldest(segment) => {
            out.put_u8(OLDEST);
            out.put_u64_le(*segment);
        }
    }
}

fn put_str(out: &mut Vec<u8>, text: &str) {
    out.put_u32_le(text.len() as u32);
    out.put_slice(text.as_bytes());
}

fn put_part(out: &mut Vec<u8>, part: Part) {
    out.put_u32_le(part.topic);
    out.put_u32_le(part.partition);
}

/// Takes the next item off a body; `None` where it does not decode.
pub(super) fn take_item<'a>(body: &mut &'a [u8]) -> Option<Item<'a>> {
    match body.try_get_u8().ok()? {
        RECORD => {
            let len = body.try_get_u32_le().ok()? as usize;
            body.try_get_u32_le().ok()?;
            let rest = take(body, len)?;
            let head = RecordHead::decode(rest)?;
            let key = head.key.map(|len| rest.get(RECORD_FIXED..RECORD_FIXED + len));
            let hash = key.map_or(Some(0), |key| Some(hash(key?)))?;
            Some(Item::Record { part: head.part, offset: head.offset, timestamp_ms: head.timestamp_ms, hash })
        }
        TOPIC => {
            let id = body.try_get_u32_le().ok()?;
            let partitions = body.try_get_u32_le().ok()?;
            let kind = body.try_get_u8().ok()?;
            let age = body.try_get_u64_le().ok()?;
            let bytes = body.try_get_u64_le().ok()?;
            let cleanup = match kind {
                0 => Cleanup::Delete {
                    max_age: (age != u64::MAX).then(|| Duration::from_millis(age)),
                    max_bytes: (bytes != u64::MAX).then_some(bytes),
                },
                1 => Cleanup::Compact,
                _ => return None,
            };
            Some(Item::Topic { id, spec: TopicSpec { name: take_str(body)?.into(), partitions, cleanup } })
        }
        NEXT => Some(Item::Next { part: take_part(body)?, next: body.try_get_u64_le().ok()? }),
        COMMITTED => {
            Some(Item::Committed { group: take_str(body)?, part: take_part(body)?, next: body.try_get_u64_le().ok()? })
        }
        OLDEST => Some(Item::Oldest(body.try_get_u64_le().ok()?)),
        _ => None,
    }
}

fn take<'a>(bytes: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(len)?;
    *bytes = rest;
    Some(taken)
}

fn take_str<'a>(bytes: &mut &'a [u8]) -> Option<&'a str> {
    let len = bytes.try_get_u32_le().ok()? as usize;
    std::str::from_utf8(take(bytes, len)?).ok()
}

fn take_part(bytes: &mut &[u8]) -> Option<Part> {
    Some(Part { topic: bytes.try_get_u32_le().ok()?, partition: bytes.try_get_u32_le().ok()? })
}

/// In tests a few bits, so that keys collide.
const HASH_MASK: u64 = if cfg!(test) { 0x300 } else { u64::MAX };

/// FNV-1a. Only narrows the search for a key: whoever relies on equality compares the keys.
pub(super) fn hash(key: &[u8]) -> u64 {
    let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
    key.iter().fold(0xcbf2_9ce4_8422_2325, mix) & HASH_MASK
}

/// The fixed part of a record.
struct RecordHead {
    part: Part,
    offset: u64,
    timestamp_ms: i64,
    key: Option<usize>,
    value: Option<usize>,
    headers: usize,
}

impl RecordHead {
    fn decode(mut bytes: &[u8]) -> Option<Self> {
        let bytes = &mut bytes;
        Some(Self {
            part: take_part(bytes)?,
            offset: bytes.try_get_u64_le().ok()?,
            timestamp_ms: bytes.try_get_i64_le().ok()?,
            key: Some(bytes.try_get_u32_le().ok()?).filter(|len| *len != NONE).map(|len| len as usize),
            value: Some(bytes.try_get_u32_le().ok()?).filter(|len| *len != NONE).map(|len| len as usize),
            headers: bytes.try_get_u32_le().ok()? as usize,
        })
    }
}

/// Header names seen by one reader, so that each is allocated once.
#[derive(Debug, Default)]
pub(super) struct Names(Vec<Arc<str>>);

impl Names {
    fn get(&mut self, name: &[u8]) -> Option<Arc<str>> {
        if let Some(known) = self.0.iter().find(|known| known.as_bytes() == name) {
            return Some(Arc::clone(known));
        }
        let name: Arc<str> = std::str::from_utf8(name).ok()?.into();
        if self.0.len() < 32 {
            self.0.push(Arc::clone(&name));
        }
        Some(name)
    }
}

/// Decodes one record item, whose checksum must fit; key and values share the memory of `bytes`.
pub(super) fn decode_record(bytes: &Bytes, names: &mut Names) -> Option<Stored> {
    let (header, rest) = bytes.split_at_checked(RECORD_HEADER)?;
    let (len, crc) = (&header[1..5], &header[5..9]);
    if header[0] != RECORD || len != (rest.len() as u32).to_le_bytes() || crc != crc32c::crc32c(rest).to_le_bytes() {
        return None;
    }
    let head = RecordHead::decode(rest)?;
    let mut at = RECORD_HEADER + RECORD_FIXED;
    let mut cut = |len: usize| {
        let part = (at + len <= bytes.len()).then(|| bytes.slice(at..at + len))?;
        at += len;
        Some(part)
    };
    let key = head.key.map_or(Some(None), |len| cut(len).map(Some))?;
    let value = head.value.map_or(Some(None), |len| cut(len).map(Some))?;
    let mut headers = Vec::with_capacity(head.headers.min(rest.len() / 8));
    for _ in 0..head.headers {
        let mut lens = cut(8)?;
        let (name, value) = (lens.get_u32_le() as usize, lens.get_u32_le() as usize);
        headers.push((names.get(&cut(name)?)?, cut(value)?));
    }
    let RecordHead { part, offset, timestamp_ms, .. } = head;
    Some(Stored { part, offset, timestamp_ms, key, value, headers: Headers(headers) })
}

/// Where the items of the frame at a position start.
pub(super) fn body_start(pos: u64) -> u64 {
    pos + FRAME_HEADER as u64
}
