//! Going through a segment frame by frame: at opening, and where an index is missing.

use std::io;

use bytes::Buf;

use super::files::{Dir, File};
use super::frame::{FRAME_HEADER, MAGIC, MAX_BODY, SEGMENT_HEADER, frame_crc, frame_len, put_segment_header};
use super::index::{damaged, io_error, segment_name};
use super::state::Segment;
use crate::error::BusError;

/// Where a scan of a segment stopped.
pub(super) struct Scan {
    pub(super) segment: Segment,
    /// Start of the last group of which a frame is valid; what lies before it was synced for certain.
    pub(super) group: u64,
    /// What is wrong after the last valid frame; `None` where nothing was ever written there.
    pub(super) stop: Option<&'static str>,
}

/// Goes through the frames of a segment up to the first that is none, handing position and body to `each`, which
/// answers whether the body makes sense.
pub(super) fn scan(dir: &dyn Dir, id: u64, mut each: impl FnMut(u64, &[u8]) -> bool) -> Result<Scan, BusError> {
    let name = segment_name(id);
    let failed = || io_error(dir, &name);
    let file = dir.open(&name).map_err(failed())?;
    let mut window = Window::new(&*file).map_err(failed())?;
    let mut scan = Scan { segment: Segment::new(id, 0), group: 0, stop: None };
    match window.start(id).map_err(failed())? {
        Start::Segment => {}
        Start::OtherVersion(version) => {
            let reason = format!("written in format {version}, of which this version knows nothing");
            return Err(damaged(dir, id, 0, &reason));
        }
        Start::Unfinished => {
            scan.stop = Some("not a segment of the log");
            return Ok(scan);
        }
    }
    loop {
        let (pos, expected) = (scan.segment.len, scan.segment.next_seq);
        let Some(header) = window.header(pos).map_err(failed())? else { return Ok(scan) };
        let Some(body) = window.body(id, pos, header).map_err(failed())? else {
            scan.stop = Some("length or checksum of the frame does not match");
            return Ok(scan);
        };
        let first = pos == SEGMENT_HEADER;
        if !first && header.seq != expected {
            scan.stop = Some("frame out of sequence");
            return Ok(scan);
        }
        if !each(pos, body) {
            return Err(damaged(dir, id, pos, "valid frame with items of an unknown kind"));
        }
        if first {
            scan.segment = Segment::new(id, header.seq);
        }
        if header.seq == header.group {
            scan.group = if first { 0 } else { pos };
        }
        scan.segment.grow(pos + frame_len(header.body) as u64);
    }
}

/// Whether a valid frame of a later group lies beyond the end of a scan: then what the scan stopped at had been
/// synced, and is damaged rather than torn.
pub(super) fn synced_beyond(dir: &dyn Dir, scan: &Scan) -> Result<bool, BusError> {
    let name = segment_name(scan.segment.id);
    let failed = || io_error(dir, &name);
    let file = dir.open(&name).map_err(failed())?;
    let len = file.len().map_err(failed())?;
    let mut window = Window::new(&*file).map_err(failed())?;
    let expected = scan.segment.next_seq;
    // To the very end: a lost page reads as zeros, and what follows it may be valid.
    for pos in (scan.segment.len..len).step_by(8) {
        if let Some(header) = window.header(pos).map_err(failed())?
            && (expected + 1..=header.seq).contains(&header.group)
            && window.body(scan.segment.id, pos, header).map_err(failed())?.is_some()
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Reads a file forward through a buffer.
struct Window<'a> {
    file: &'a dyn File,
    end: u64,
    buffer: Vec<u8>,
    start: u64,
}

/// The header of what may be a frame.
#[derive(Clone, Copy, Debug)]
struct Header {
    body: usize,
    crc: u32,
    /// Sequence number of the frame.
    seq: u64,
    /// Sequence number of the first frame of its group.
    group: u64,
}

/// How a segment's file starts.
enum Start {
    /// As it should.
    Segment,
    /// As another version of this program writes it.
    OtherVersion(u8),
    /// As it may after a crash at its creation, or by damage.
    Unfinished,
}

impl<'a> Window<'a> {
    const STEP: usize = 1 << 20;

    fn new(file: &'a dyn File) -> io::Result<Self> {
        Ok(Self { file, end: file.len()?, buffer: Vec::new(), start: 0 })
    }

    /// The bytes at a position; fewer where the file ends.
    fn get(&mut self, pos: u64, len: usize) -> io::Result<&[u8]> {
        let left = self.end.saturating_sub(pos) as usize;
        let len = len.min(left);
        if pos < self.start || pos + len as u64 > self.start + self.buffer.len() as u64 {
            self.buffer = self.file.read(pos, len.max(Self::STEP.min(left)))?;
            self.start = pos;
        }
        let from = (pos - self.start) as usize;
        Ok(&self.buffer[from.min(self.buffer.len())..self.buffer.len().min(from + len)])
    }

    /// How the file starts.
    fn start(&mut self, id: u64) -> io::Result<Start> {
        let mut header = Vec::new();
        put_segment_header(&mut header, id);
        let found = self.get(0, header.len())?;
        Ok(match found.get(MAGIC.len() - 1) {
            Some(_) if found == header => Start::Segment,
            Some(version) if found.starts_with(&MAGIC[..7]) && ![0, MAGIC[7]].contains(version) => {
                Start::OtherVersion(*version)
            }
            _ => Start::Unfinished,
        })
    }

    /// The header at a position; `None` where nothing was ever written there.
    fn header(&mut self, pos: u64) -> io::Result<Option<Header>> {
        let mut bytes = self.get(pos, FRAME_HEADER)?;
        if bytes.len() < FRAME_HEADER || bytes.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let (body, crc) = (bytes.get_u32_le() as usize, bytes.get_u32_le());
        Ok(Some(Header { body, crc, seq: bytes.get_u64_le(), group: bytes.get_u64_le() }))
    }

    /// The body that belongs to a header, where length and checksum fit.
    fn body(&mut self, segment: u64, pos: u64, header: Header) -> io::Result<Option<&[u8]>> {
        let len = FRAME_HEADER + header.body;
        if header.body > MAX_BODY || pos + len as u64 > self.end {
            return Ok(None);
        }
        let frame = self.get(pos, len)?;
        Ok((frame.len() == len && frame_crc(segment, &frame[8..]) == header.crc).then(|| &frame[FRAME_HEADER..]))
    }
}
