//! What reading brings: requests, and how far each file is read when the bus has them.

use super::encode::{Constants, Encoder, Request};
use super::join::{Emit, Entry};
use super::origin::Origin;
use super::positions::Position;
use super::rate::Meter;
use super::timestamp;

/// What was read of one path in one turn.
#[derive(Debug, Default)]
pub(super) struct Output {
    pub(super) requests: Vec<Request>,
    /// Positions that hold once the bus has all requests.
    pub(super) positions: Vec<Position>,
}

/// What was done to entries, since it was last asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Bytes of files that were read.
    pub(super) bytes: u64,
    /// Pieces of what was too long.
    pub(super) cut: u64,
    /// Lines without the wrapping that their file's first line had.
    pub(super) unwrapped: u64,
    /// Files that were truncated or written anew in place.
    pub(super) rewritten: u64,
    /// Entries left out for a rate limit.
    pub(super) limited: u64,
    /// Turns put off for a rate limit.
    pub(super) waited: u64,
}

/// Writes the entries of one file.
pub(super) struct Writer<'a> {
    pub(super) encoder: &'a mut Encoder,
    pub(super) output: &'a mut Output,
    pub(super) tally: &'a mut Tally,
    pub(super) origin: &'a Origin,
    pub(super) meter: Meter<'a>,
    /// Bytes of a request at most, but for one entry that is larger.
    pub(super) request_bytes: usize,
    /// Nanoseconds since the Unix epoch.
    pub(super) now: u64,
}

impl Writer<'_> {
    /// Takes entries that carry those attributes.
    pub(super) fn of<'w>(&'w mut self, constants: &'w Constants) -> impl Emit + 'w {
        move |entry: Entry<'_>| self.entry(constants, entry)
    }

    #[inline]
    fn entry(&mut self, constants: &Constants, mut entry: Entry<'_>) {
        let constants = entry.origin.unwrap_or(constants);
        if !self.meter.lets_pass() {
            self.tally.limited += 1;
            return;
        }
        self.tally.cut += u64::from(entry.cut);
        // Of a line that no runtime has stamped, its own time is better than when it was seen: it stays the same.
        entry.time = entry.time.or_else(|| {
            let text = entry.body.strip_prefix(b"[").unwrap_or(entry.body);
            timestamp::leading(text).map(|(time, _)| time)
        });
        if self.encoder.len() > 0 && self.encoder.len() + entry.body.len() + Encoder::OVERHEAD > self.request_bytes {
            self.finish();
        }
        self.encoder.push(&self.origin.resource, constants, &entry, self.now);
    }

    /// Ends the request that is being written.
    pub(super) fn finish(&mut self) {
        self.output.requests.extend(self.encoder.finish(&self.origin.resource));
    }
}
