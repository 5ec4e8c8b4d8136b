//! One file that is read, from where it was left to its end.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use super::encode::Constants;
use super::format::{Format, Part, plain};
use super::identity::{FileKey, HEAD, Head, MARK, fingerprint, mark, modified_ms, read_at};
use super::join::{Joiner, Rules};
use super::output::Writer;
use super::positions::Position;
use super::stream::Clock;

/// A file that is open, until it has been read to its end and nobody will write to it any more.
#[derive(Debug)]
pub(super) struct Segment {
    file: File,
    pub(super) key: FileKey,
    /// The file that goes into the fingerprint: of a copy, the one that was copied.
    identity: FileKey,
    /// Where the path's file stood when it was found; see [`Position::path`].
    path: PathBuf,
    /// Before it, everything has gone to the joiner.
    read: u64,
    /// The bytes before that: where they have changed, the file was written anew.
    anchor: Vec<u8>,
    head: Head,
    fingerprint: Option<u64>,
    constants: Option<Arc<Constants>>,
    format: Option<Format>,
    joiner: Joiner,
    tail: Tail,
    /// The position that was last given out.
    told: Option<u64>,
    /// When there was more in it for the last time.
    pub(super) grown: Option<Instant>,
    /// Since when it no longer stands at its path.
    pub(super) retired: Option<Instant>,
    /// Since when its successor is read.
    pub(super) handed_over: Option<Instant>,
    /// What waited here goes on in the successor, which will say when it is settled.
    carried_on: bool,
    /// It was written anew, and what it held before may be in a copy that is to be read first.
    pub(super) unlooked: bool,
    /// What waited in the text before that.
    former: Option<Former>,
    /// A copy is read on from where this text was read to.
    taken_over: bool,
    /// Positions of files before, once what waited there is settled here.
    release: Vec<Position>,
}

/// What waited for more in a text that is no longer there.
#[derive(Debug)]
struct Former {
    joiner: Joiner,
    fingerprint: u64,
    constants: Arc<Constants>,
}

/// What follows the last end of a line.
#[derive(Clone, Copy, Debug, Default)]
struct Tail {
    bytes: usize,
    /// Since when it has not grown.
    since: Option<Instant>,
    /// It was given out without its end of line, which may still come.
    taken: bool,
}

/// What a look at a file brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Lines, and there may be more.
    More,
    /// It was read to its end.
    End,
    /// It holds another text now, and is to be read from its beginning.
    Rewritten,
}

/// How a file is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// Whole lines only.
    Lines,
    /// Also what follows the last end of a line: nothing more will come.
    Rest,
}

impl Segment {
    /// A file from its beginning.
    pub(super) fn new(file: File, key: FileKey, path: PathBuf) -> Self {
        Self {
            file,
            key,
            identity: key,
            path,
            read: 0,
            anchor: Vec::new(),
            head: Head::default(),
            fingerprint: None,
            constants: None,
            format: None,
            joiner: Joiner::default(),
            tail: Tail::default(),
            told: None,
            grown: None,
            retired: None,
            handed_over: None,
            carried_on: false,
            unlooked: false,
            former: None,
            taken_over: false,
            release: Vec::new(),
        }
    }

    /// A copy of another file, from its beginning. Its lines carry the fingerprint that they had in the other one.
    pub(super) fn copy(file: File, key: FileKey, of: FileKey, path: PathBuf) -> Self {
        Self { identity: of, ..Self::new(file, key, path) }
    }

    /// A file from a position that was verified, which may be that of the file of which it is a copy.
    pub(super) fn resume(file: File, key: FileKey, position: &Position) -> io::Result<Self> {
        let length = position.offset.min(MARK as u64);
        let mut anchor = vec![0; usize::try_from(length).unwrap_or(MARK)];
        let read = read_at(&file, &mut anchor, position.offset - length)?;
        anchor.truncate(read);
        let (read, head, fingerprint, identity) =
            (position.offset, position.head, Some(position.fingerprint), position.key);
        // Every line is wrapped as the first one is.
        let mut first = [0; HEAD];
        let length = read_at(&file, &mut first, 0)?;
        let format = memchr::memchr(b'\n', &first[..length]).map(|end| Format::of(&first[..end]));
        Ok(Self { read, anchor, head, fingerprint, identity, format, ..Self::new(file, key, position.path.clone()) })
    }

    /// Leaves out what is in the file already. The lines behind carry the fingerprint that they would have had.
    pub(super) fn skip_to_end(&mut self) -> io::Result<()> {
        let length = self.file.metadata()?.len();
        let mut head = [0; HEAD];
        let read = read_at(&self.file, &mut head, 0)?;
        // Behind the last end of a line, so that no half line comes.
        let mut end = length;
        let mut last = [0; HEAD];
        while end > 0 {
            let start = end.saturating_sub(HEAD as u64);
            let read = read_at(&self.file, &mut last[..usize::try_from(end - start).unwrap_or(HEAD)], start)?;
            if let Some(at) = memchr::memrchr(b'\n', &last[..read]) {
                end = start + at as u64 + 1;
                break;
            }
            end = start;
        }
        self.fingerprint = fingerprint(self.identity, &head[..read], false);
        self.read = end;
        self.head = Head::of(&head[..read.min(usize::try_from(end).unwrap_or(read))]);
        let anchor = end.min(MARK as u64);
        self.anchor = vec![0; usize::try_from(anchor).unwrap_or(MARK)];
        let read = read_at(&self.file, &mut self.anchor, end - anchor)?;
        self.anchor.truncate(read);
        Ok(())
    }

    /// Whether it begins as a text of which that is the head.
    pub(super) fn begins(&self, head: &[u8]) -> io::Result<bool> {
        let mut begin = [0; HEAD];
        let read = read_at(&self.file, &mut begin, 0)?;
        Ok(read > 0 && head.starts_with(&begin[..read]))
    }

    /// How far it has been read.
    pub(super) const fn read(&self) -> u64 {
        self.read
    }

    /// Whether there is a line in it.
    pub(super) fn has_begun(&self) -> io::Result<bool> {
        if self.read > 0 {
            return Ok(true);
        }
        let mut head = [0; HEAD];
        let read = read_at(&self.file, &mut head, 0)?;
        // What it begins with is not kept: it may be another text when it is read.
        Ok(fingerprint(self.identity, &head[..read], false).is_some())
    }

    /// Lets the file that follows go on, also with what waits here for more.
    pub(super) fn hand_over(&mut self, next: &mut Self, clock: Clock) -> io::Result<()> {
        self.handed_over = Some(clock.now);
        if next.read > 0 || next.joiner.held_from().is_some() {
            return Ok(());
        }
        let Some(constants) = &self.constants else { return Ok(()) };
        let Some(carried) = self.joiner.carry(constants) else { return Ok(()) };
        next.joiner = carried;
        next.release = std::mem::take(&mut self.release);
        // What was settled before it is known already.
        next.release.extend(self.position(clock.unix_ms())?);
        self.carried_on = true;
        Ok(())
    }

    /// When something that waits here has waited long enough.
    pub(super) fn due(&self, rules: &Rules) -> Option<Instant> {
        let tail = self.tail.since.map(|since| since + rules.patience);
        [self.joiner.due(rules), tail].into_iter().flatten().min()
    }

    /// Bytes that wait for the rest of their line or event.
    pub(super) fn held(&self) -> usize {
        self.joiner.bytes()
    }

    /// Reads once, as much as the buffer holds.
    pub(super) fn step(
        &mut self,
        buffer: &mut [u8],
        look: Look,
        now: Instant,
        rules: &Rules,
        writer: &mut Writer<'_>,
    ) -> io::Result<Step> {
        self.flush_former(rules, writer);
        let back = self.anchor.len();
        let filled = read_at(&self.file, buffer, self.read - back as u64)?;
        if filled < back || buffer[..back] != self.anchor {
            return Ok(Step::Rewritten);
        }
        let data = &buffer[back..filled];
        let rest = match look {
            Look::Rest => true,
            Look::Lines => self.tail_is_due(data.len(), now, rules),
        };
        let mut left = data.len();
        if left > 0 && self.identify(data, rest)? {
            let consumed = self.consume(data, rest, now, rules, writer);
            left -= consumed;
            self.advance(&buffer[..filled], back + consumed)?;
            writer.tally.bytes += consumed as u64;
        }
        if left != self.tail.bytes || data.len() > left {
            self.grown = Some(now);
        }
        if left == 0 {
            (self.tail.bytes, self.tail.since) = (0, None);
        } else if left != self.tail.bytes {
            (self.tail.bytes, self.tail.since) = (left, Some(now));
        }
        Ok(if filled == buffer.len() { Step::More } else { Step::End })
    }

    /// Gives out what has waited long enough, or all.
    pub(super) fn flush(&mut self, before: Option<Instant>, rules: &Rules, writer: &mut Writer<'_>) {
        if self.joiner.held_from().is_none() {
            return;
        }
        // Before its first line, what waits comes from the file before, and carries the attributes of that.
        let constants = self.constants.get_or_insert_with(Arc::default);
        self.joiner.flush(before, rules, &mut writer.of(constants));
    }

    /// Begins anew: the file holds another text. What waited for more in the one before goes out as it is, unless it is
    /// read in a copy, which is looked for first.
    pub(super) fn rewrite(&mut self, rules: &Rules, writer: &mut Writer<'_>) -> io::Result<()> {
        writer.tally.rewritten += 1;
        let former = match (self.fingerprint, self.constants.take()) {
            (Some(fingerprint), Some(constants)) if !self.taken_over => {
                Some(Former { joiner: std::mem::take(&mut self.joiner), fingerprint, constants })
            }
            _ => None,
        };
        let file = self.file.try_clone()?;
        *self = Self {
            retired: self.retired,
            unlooked: self.retired.is_none(),
            former,
            release: std::mem::take(&mut self.release),
            ..Self::new(file, self.key, self.path.clone())
        };
        if !self.unlooked {
            self.flush_former(rules, writer);
        }
        Ok(())
    }

    fn flush_former(&mut self, rules: &Rules, writer: &mut Writer<'_>) {
        if let Some(Former { mut joiner, constants, .. }) = self.former.take() {
            joiner.flush(None, rules, &mut writer.of(&constants));
        }
    }

    /// A copy is read from where that text of this file was read to.
    pub(super) fn take_over(&mut self, key: FileKey, fingerprint: u64) {
        if self.key == key {
            self.taken_over |= self.fingerprint == Some(fingerprint);
            self.former = self.former.take().filter(|former| former.fingerprint != fingerprint);
        }
    }

    /// Positions of files before, when what waited there is settled with what was given out here.
    pub(super) fn released(&mut self) -> Vec<Position> {
        if self.joiner.holds_carried() { Vec::new() } else { std::mem::take(&mut self.release) }
    }

    /// The position up to which everything was given out, where it is another than the last time.
    pub(super) fn position(&mut self, now_ms: u64) -> io::Result<Option<Position>> {
        let offset = self.joiner.held_from().unwrap_or(self.read);
        let Some(fingerprint) = self.fingerprint else { return Ok(None) };
        if offset == 0 || self.carried_on || self.told == Some(offset) {
            return Ok(None);
        }
        let Some(mark) = mark(&self.file, offset)? else { return Ok(None) };
        self.told = Some(offset);
        let head = if offset < self.head.bytes { Head::read(&self.file, offset)? } else { self.head };
        let (path, key, written_ms) = (self.path.clone(), self.key, modified_ms(&self.file.metadata()?).min(now_ms));
        Ok(Some(Position { path, key, fingerprint, head, offset, mark, written_ms, seen_ms: now_ms }))
    }

    /// Sees to it that the fingerprint is known; says whether it is.
    fn identify(&mut self, data: &[u8], rest: bool) -> io::Result<bool> {
        if self.read == 0 {
            // Whatever it began with before, it is this that is read.
            (self.fingerprint, self.constants) = (fingerprint(self.identity, data, rest), None);
        } else if self.fingerprint.is_none() {
            let mut head = [0; HEAD];
            let read = read_at(&self.file, &mut head, 0)?;
            self.fingerprint = fingerprint(self.identity, &head[..read], rest);
        }
        if let (None, Some(fingerprint)) = (&self.constants, self.fingerprint) {
            let name = self.path.file_name().unwrap_or_default().to_string_lossy();
            self.constants = Some(Arc::new(Constants::new(&name, fingerprint)));
        }
        Ok(self.fingerprint.is_some())
    }

    /// Takes the lines out of the bytes at the position; says how many bytes they are.
    fn consume(&mut self, data: &[u8], rest: bool, now: Instant, rules: &Rules, writer: &mut Writer<'_>) -> usize {
        let Some(constants) = &self.constants else { return 0 };
        let (mut start, mut scratch) = (0, Vec::new());
        let mut tally = *writer.tally;
        let mut out = writer.of(constants);
        for end in memchr::memchr_iter(b'\n', data) {
            let (line, at) = (&data[start..end], self.read + start as u64);
            let skipped = self.tail.taken && start == 0 && line.is_empty();
            start = end + 1;
            if skipped {
                continue;
            }
            let format = *self.format.get_or_insert_with(|| Format::of(line));
            let part = format.part(line, &mut scratch).unwrap_or_else(|| {
                tally.unwrapped += 1;
                plain(line)
            });
            self.joiner.push(part, at, now, rules, &mut out);
        }
        // No line is that long: it goes on in pieces.
        while data.len() - start > rules.most {
            let content = &data[start..start + rules.most];
            let part = Part { time: None, iostream: None, partial: true, content };
            self.joiner.push(part, self.read + start as u64, now, rules, &mut out);
            start += rules.most;
        }
        self.tail.taken &= start == 0;
        if rest && start < data.len() {
            let line = &data[start..];
            let format = self.format.unwrap_or(Format::Plain);
            let part = format.part(line, &mut scratch).unwrap_or_else(|| plain(line));
            self.joiner.push(part, self.read + start as u64, now, rules, &mut out);
            start = data.len();
            self.tail.taken = true;
        }
        drop(out);
        writer.tally.unwrapped = tally.unwrapped;
        start
    }

    /// Moves the position behind what was taken; `end` is where that ends in what was read.
    fn advance(&mut self, bytes: &[u8], end: usize) -> io::Result<()> {
        let back = self.anchor.len();
        self.read += (end - back) as u64;
        self.anchor.clear();
        self.anchor.extend_from_slice(&bytes[end.saturating_sub(MARK)..end]);
        if self.head.bytes < (HEAD as u64).min(self.read) {
            self.head = Head::read(&self.file, self.read)?;
        }
        Ok(())
    }

    fn tail_is_due(&self, bytes: usize, now: Instant, rules: &Rules) -> bool {
        bytes > 0 && bytes == self.tail.bytes && self.tail.since.is_some_and(|since| since + rules.patience <= now)
    }
}
