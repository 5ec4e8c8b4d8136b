//! The files that stand at one path, one after the other.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::encode::Encoder;
use super::identity::FileKey;
use super::join::Rules;
use super::origin::Origin;
use super::output::{Output, Tally, Writer};
use super::rate::{Bucket, Excess, Meter};
use super::segment::{Look, Segment, Step};

/// How long a file that left its path is still looked at: its writer may not have noticed yet.
pub(super) const LINGER: Duration = Duration::from_secs(5);
/// The same, from when there is something in the file that follows it.
const LINGER_FOLLOWED: Duration = Duration::from_secs(1);

/// Files of one path that are open at a time. Others wait under the names that rotation gave them.
const MOST_OPEN: usize = 64;

/// How often such a file is looked at: its writes are told under a name that nobody knows.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// A path, and what is read of it: files that left it, oldest first, and the one that stands at it.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) origin: Arc<Origin>,
    segments: VecDeque<Segment>,
    rate: Bucket,
    /// Bytes that wait for the rest of their line or event.
    pub(super) held: usize,
}

/// What all streams are read with.
pub(super) struct Desk<'a> {
    pub(super) buffer: &'a mut [u8],
    pub(super) encoder: &'a mut Encoder,
    pub(super) tally: &'a mut Tally,
    pub(super) rules: &'a Rules,
    pub(super) request_bytes: usize,
    /// What all files together may take.
    pub(super) total: &'a mut Bucket,
    pub(super) excess: Excess,
    /// Whether more waits for the rest of its line or event than may: what waits goes out as it is.
    pub(super) crowded: bool,
    pub(super) clock: Clock,
    /// When files were looked for last.
    pub(super) scanned: Instant,
}

/// The moment of a turn.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    pub(super) now: Instant,
    /// Nanoseconds since the Unix epoch.
    pub(super) unix: u64,
}

impl Clock {
    pub(super) fn unix_ms(self) -> u64 {
        self.unix / 1_000_000
    }
}

/// What came of looking at one of the files.
enum Read {
    /// It has come to its end for good.
    Closed,
    /// The file after it may be read.
    Next,
    /// Its writer may go on with it.
    Wait,
}

/// What became of a stream in its turn.
#[derive(Debug, Default)]
pub(super) struct Turn {
    pub(super) output: Output,
    /// There is more to read now.
    pub(super) more: bool,
    /// A file was truncated: what it held before may be in a copy, which is to be looked for.
    pub(super) rewritten: bool,
    /// When it is to have its next turn, whether or not its files change.
    pub(super) due: Option<Instant>,
    /// Files that were read to their end for good, and how long they are.
    pub(super) closed: Vec<(FileKey, u64)>,
    /// Files that cannot be read, and why.
    pub(super) failed: Vec<(FileKey, io::Error)>,
}

impl Stream {
    pub(super) fn new(origin: Arc<Origin>, rate: Bucket) -> Self {
        Self { origin, segments: VecDeque::new(), rate, held: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// Takes a file in. One that has left the path goes before the one that stands there.
    pub(super) fn add(&mut self, segment: Segment) {
        let current = self.segments.iter().position(|other| other.retired.is_none());
        match current {
            Some(at) if segment.retired.is_some() => self.segments.insert(at, segment),
            _ => self.segments.push_back(segment),
        }
    }

    /// Says which file stands at the path now, if any: the others have left it.
    pub(super) fn stands(&mut self, key: Option<FileKey>, now: Instant) {
        for segment in &mut self.segments {
            if Some(segment.key) == key {
                segment.retired = None;
            } else {
                segment.retired.get_or_insert(now);
            }
        }
    }

    /// What its files held before they were written anew has been looked for.
    pub(super) fn looked(&mut self) {
        self.segments.iter_mut().for_each(|segment| segment.unlooked = false);
    }

    /// A copy is read from where that text of a file was read to.
    pub(super) fn take_over(&mut self, key: FileKey, fingerprint: u64) {
        self.segments.iter_mut().for_each(|segment| segment.take_over(key, fingerprint));
    }

    /// Whether it waits until copies have been looked for.
    pub(super) fn is_unlooked(&self) -> bool {
        self.segments.iter().any(|segment| segment.unlooked)
    }

    /// Whether it has as many files open as it may.
    pub(super) fn is_full(&self) -> bool {
        self.segments.len() >= MOST_OPEN
    }

    /// Whether one of its files that left the path begins as a text of which that is the head.
    pub(super) fn begins(&self, head: &[u8]) -> io::Result<bool> {
        let mut retired = self.segments.iter().filter(|segment| segment.retired.is_some());
        retired.try_fold(false, |any, segment| Ok(any || segment.begins(head)?))
    }

    /// The file that stands at the path, as far as is known.
    pub(super) fn current(&self) -> Option<FileKey> {
        self.segments.iter().rev().find(|segment| segment.retired.is_none()).map(|segment| segment.key)
    }

    /// Reads the files in their order, each as much as the buffer holds.
    ///
    /// A file is read once the one before it has been read to its end and its writer has gone on to the next one, which
    /// shows by there being something in it; what was cut off at the end of the old file goes on in the new one.
    pub(super) fn turn(&mut self, desk: &mut Desk<'_>) -> Turn {
        let mut turn = Turn::default();
        self.rate.refill(desk.clock.now);
        desk.total.refill(desk.clock.now);
        let meter = Meter { file: &mut self.rate, total: desk.total, excess: desk.excess };
        if let Some(pause) = meter.pause() {
            desk.tally.waited += 1;
            turn.due = Some(desk.clock.now + pause);
            return turn;
        }
        let mut at = 0;
        while at < self.segments.len() {
            match self.read(at, desk, &mut turn) {
                Ok(Read::Closed) => {
                    self.segments.remove(at);
                }
                Ok(Read::Next) => at += 1,
                Ok(Read::Wait) => break,
                Err(error) => {
                    let failed = self.segments.remove(at);
                    turn.failed.extend(failed.map(|segment| (segment.key, error)));
                }
            }
        }
        self.held = self.segments.iter().map(Segment::held).sum();
        turn
    }

    fn read(&mut self, at: usize, desk: &mut Desk<'_>, turn: &mut Turn) -> io::Result<Read> {
        let Desk { buffer, encoder, tally, rules, request_bytes, total, excess, crowded, clock, scanned } = desk;
        // Looked at before the file is read to its end: what comes into it afterwards is written late.
        let followed = match self.segments.get_mut(at + 1) {
            Some(next) => next.has_begun()?,
            None => false,
        };
        let (origin, output, request_bytes) = (&*self.origin, &mut turn.output, *request_bytes);
        let meter = Meter { file: &mut self.rate, total, excess: *excess };
        let mut writer = Writer { encoder, output, tally, origin, meter, request_bytes, now: clock.unix };
        let Some(segment) = self.segments.get_mut(at) else { return Ok(Read::Wait) };
        if segment.unlooked {
            return Ok(Read::Wait);
        }
        let done = segment.ended(*clock, *scanned, followed);
        let look = if done { Look::Rest } else { Look::Lines };
        let stepped = segment.step(buffer, look, clock.now, rules, &mut writer);
        let rewritten = match stepped {
            Ok(Step::Rewritten) => segment.rewrite(rules, &mut writer),
            Ok(step) => {
                let all = *crowded || done && step == Step::End;
                segment.flush((!all).then_some(clock.now), rules, &mut writer);
                Ok(())
            }
            Err(_) => Ok(()),
        };
        writer.finish();
        let step = stepped?;
        rewritten?;
        turn.more |= step == Step::More;
        turn.rewritten |= step == Step::Rewritten;
        if step == Step::End && !done && followed && segment.retired.is_some() && segment.handed_over.is_none() {
            let position = segment.position(clock.unix_ms())?;
            turn.output.positions.extend(position);
            let mut next = self.segments.remove(at + 1);
            let handed = match (self.segments.get_mut(at), &mut next) {
                (Some(segment), Some(next)) => segment.hand_over(next, *clock),
                _ => Ok(()),
            };
            if let Some(next) = next {
                self.segments.insert(at + 1, next);
            }
            handed?;
        }
        let Some(segment) = self.segments.get_mut(at) else { return Ok(Read::Wait) };
        turn.output.positions.extend(segment.position(clock.unix_ms())?);
        turn.output.positions.extend(segment.released());
        if step == Step::End && done {
            turn.closed.push((segment.key, segment.read()));
            return Ok(Read::Closed);
        }
        let soon = segment.retired.map(|_| clock.now + LOOK_AGAIN);
        turn.due = [turn.due, segment.due(rules), soon].into_iter().flatten().min();
        Ok(if segment.handed_over.is_some() { Read::Next } else { Read::Wait })
    }
}

impl Segment {
    /// Whether it is given up, having left its path. Where nothing follows it, that was looked for since.
    fn ended(&self, clock: Clock, scanned: Instant, followed: bool) -> bool {
        match (self.retired, self.handed_over) {
            (None, _) => false,
            (Some(_), Some(since)) => since.max(self.grown.unwrap_or(since)) + LINGER_FOLLOWED <= clock.now,
            (Some(since), None) => !followed && since.max(self.grown.unwrap_or(since)) + LINGER <= scanned,
        }
    }
}
