//! The index of a sealed segment: which records of which partitions lie where.
//!
//! It only saves a scan: it is written without a sync, and where it is missing or bad it is built anew. Layout,
//! integers little-endian: `MAGIC`, the segment's id, length, base, first and next sequence number (u64 each),
//! number of pieces (u32), a CRC-32C of everything so far and of the table (u32), the table with 56 bytes a
//! piece, the places with 24 bytes each.

use std::collections::BTreeMap;
use std::io;

use bytes::{Buf, BufMut};

use super::files::{Dir, File};
use super::frame::{Item, Part, body_start, take_item};
use super::scan::scan;
use super::state::{Piece, Place, Places, Segment};
use crate::error::BusError;

const MAGIC: &[u8; 8] = b"afxidx\0\x01";
const HEADER: usize = 56;
const ROW: usize = 56;
const PLACE: usize = 24;

/// The pieces of one segment.
pub(super) type Pieces = BTreeMap<Part, Piece>;

/// Name of a segment's file.
pub(super) fn segment_name(id: u64) -> String {
    format!("{id:020}.log")
}

/// Name of a segment's index.
pub(super) fn index_name(id: u64) -> String {
    format!("{id:020}.idx")
}

/// An operating system's error at a file.
pub(super) fn io_error(dir: &dyn Dir, name: &str) -> impl FnOnce(io::Error) -> BusError {
    let path = dir.path(name);
    move |source| BusError::Io { path, source }
}

/// Damage at a position of a segment.
pub(super) fn damaged(dir: &dyn Dir, segment: u64, position: u64, reason: &str) -> BusError {
    BusError::Damaged { file: dir.path(&segment_name(segment)), position, reason: reason.to_owned() }
}

/// Writes the index of a sealed segment, and answers where the places of each piece then lie.
///
/// A failure is only logged, as the reader builds the index anew.
pub(super) fn write(dir: &dyn Dir, segment: &Segment, pieces: &[(Part, &Piece)]) -> Vec<Places> {
    let mut table = Vec::with_capacity(pieces.len() * ROW);
    let mut places = Vec::new();
    let mut answers = Vec::new();
    let start = (HEADER + pieces.len() * ROW) as u64;
    for (part, piece) in pieces {
        let from = places.len();
        let list = if let Places::Memory(list) = &piece.places { list.as_slice() } else { &[] };
        for place in list {
            places.put_u64_le(place.offset);
            places.put_u32_le(place.pos);
            places.put_u32_le(place.len);
            places.put_u64_le(place.hash);
        }
        let (at, count, crc) = (start + from as u64, list.len() as u32, crc32c::crc32c(&places[from..]));
        table.put_u32_le(part.topic);
        table.put_u32_le(part.partition);
        table.put_u64_le(piece.min);
        table.put_u64_le(piece.max);
        table.put_u64_le(piece.bytes);
        table.put_i64_le(piece.max_timestamp_ms);
        table.put_u64_le(at);
        table.put_u32_le(count);
        table.put_u32_le(crc);
        answers.push(Places::Disk { at, count, crc });
    }
    let mut out = Vec::with_capacity(HEADER + table.len() + places.len());
    out.put_slice(MAGIC);
    for number in [segment.id, segment.len, segment.base, segment.first_seq, segment.next_seq] {
        out.put_u64_le(number);
    }
    out.put_u32_le(pieces.len() as u32);
    out.put_u32_le(crc32c::crc32c_append(crc32c::crc32c(&out), &table));
    out.append(&mut table);
    out.append(&mut places);
    if let Err(error) = dir.create(&index_name(segment.id)).and_then(|file| file.write(0, &out)) {
        tracing::warn!(segment = segment.id, %error, "index not written");
    }
    answers
}

/// Reads the table of an index; `None` where it is missing or bad.
pub(super) fn read(dir: &dyn Dir, id: u64) -> io::Result<Option<(Segment, Pieces)>> {
    let file = match dir.open(&index_name(id)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let bytes = file.read(0, 64 * 1024)?;
    Ok(decode_table(&*file, bytes, id)?.filter(|(segment, _)| segment.id == id))
}

fn decode_table(file: &dyn File, mut bytes: Vec<u8>, id: u64) -> io::Result<Option<(Segment, Pieces)>> {
    if bytes.len() < HEADER || !bytes.starts_with(MAGIC) {
        return Ok(None);
    }
    let mut header = &bytes[MAGIC.len()..HEADER];
    let [id_read, len, base, first_seq, next_seq] = std::array::from_fn(|_| header.get_u64_le());
    let (count, crc) = (header.get_u32_le() as usize, header.get_u32_le());
    let end = HEADER + count * ROW;
    if end > bytes.len() && (end as u64) <= file.len()? {
        bytes = file.read(0, end)?;
    }
    let fits = |bytes: &[u8]| {
        crc32c::crc32c_append(crc32c::crc32c(&bytes[..HEADER - 4]), &bytes[HEADER..end]) == crc && id == id_read
    };
    if end > bytes.len() || !fits(&bytes) {
        return Ok(None);
    }
    let mut table = &bytes[HEADER..end];
    let mut pieces = Pieces::new();
    while !table.is_empty() {
        let part = Part { topic: table.get_u32_le(), partition: table.get_u32_le() };
        let (min, max, bytes) = (table.get_u64_le(), table.get_u64_le(), table.get_u64_le());
        let max_timestamp_ms = table.get_i64_le();
        let places = Places::Disk { at: table.get_u64_le(), count: table.get_u32_le(), crc: table.get_u32_le() };
        pieces.insert(part, Piece { segment: id, min, max, bytes, max_timestamp_ms, places });
    }
    Ok(Some((Segment { id, len, base, first_seq, next_seq }, pieces)))
}

/// Reads the places of one piece; `None` where they are missing or bad.
pub(super) fn read_places(dir: &dyn Dir, id: u64, at: u64, count: u32, crc: u32) -> io::Result<Option<Vec<Place>>> {
    let file = match dir.open(&index_name(id)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let bytes = file.read(at, count as usize * PLACE)?;
    if bytes.len() != count as usize * PLACE || crc32c::crc32c(&bytes) != crc {
        return Ok(None);
    }
    let place =
        |mut b: &[u8]| Place { offset: b.get_u64_le(), pos: b.get_u32_le(), len: b.get_u32_le(), hash: b.get_u64_le() };
    Ok(Some(bytes.chunks_exact(PLACE).map(place).collect()))
}

/// Builds the pieces of a sealed segment by a scan, and writes the index anew.
pub(super) fn rebuild(dir: &dyn Dir, id: u64) -> Result<(Segment, Pieces), BusError> {
    let mut pieces = Pieces::new();
    let scan = scan(dir, id, |pos, body| collect(&mut pieces, id, pos, body))?;
    if let Some(reason) = scan.stop {
        return Err(damaged(dir, id, scan.segment.len, reason));
    }
    pieces.values_mut().for_each(Piece::sort);
    let list: Vec<(Part, &Piece)> = pieces.iter().map(|(part, piece)| (*part, piece)).collect();
    write(dir, &scan.segment, &list);
    Ok((scan.segment, pieces))
}

/// The places of one piece, by a scan of its segment.
pub(super) fn rebuild_places(dir: &dyn Dir, id: u64, part: Part) -> Result<Vec<Place>, BusError> {
    let (_, mut pieces) = rebuild(dir, id)?;
    match pieces.remove(&part).map(|piece| piece.places) {
        Some(Places::Memory(places)) => Ok(places),
        _ => Err(damaged(dir, id, 0, "records that were known to be there are gone")),
    }
}

/// Notes where the records of a frame lie.
pub(super) fn collect(pieces: &mut Pieces, id: u64, pos: u64, mut body: &[u8]) -> bool {
    let (start, len) = (body_start(pos), body.len());
    while !body.is_empty() {
        let at = len - body.len();
        match take_item(&mut body) {
            Some(Item::Record { part, offset, timestamp_ms, hash }) => {
                let (pos, len) = ((start + at as u64) as u32, (len - at - body.len()) as u32);
                let piece = pieces.entry(part).or_insert_with(|| Piece::new(id));
                piece.add(Place { offset, pos, len, hash }, timestamp_ms);
            }
            Some(_) => {}
            None => return false,
        }
    }
    true
}
