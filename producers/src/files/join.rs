//! From lines of a file to entries of a log: parts are joined to lines, and lines to events of several.

use std::sync::Arc;
use std::time::{Duration, Instant};

use regex::bytes::Regex;

use super::encode::Constants;
use super::format::{Iostream, Part};

/// Which lines belong together.
#[derive(Clone, Debug)]
pub(super) enum Multiline {
    /// A line that matches begins an event; others go on with it.
    Start(Regex),
    /// A line that matches goes on with the event before.
    Continuation(Regex),
}

impl Multiline {
    fn begins(&self, line: &[u8]) -> bool {
        match self {
            Self::Start(pattern) => pattern.is_match(line),
            Self::Continuation(pattern) => !pattern.is_match(line),
        }
    }
}

/// How entries are made.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    pub(super) multiline: Option<Multiline>,
    /// Bytes of an entry at most; what is longer becomes several.
    pub(super) most: usize,
    /// How long the rest of an event is waited for.
    pub(super) patience: Duration,
}

/// One entry of a log.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry<'a> {
    /// Where it begins in its file.
    pub(super) offset: u64,
    /// Of the file that it begins in, where that is one before.
    pub(super) origin: Option<&'a Constants>,
    /// Nanoseconds since the Unix epoch, where the runtime says so.
    pub(super) time: Option<u64>,
    pub(super) iostream: Option<Iostream>,
    pub(super) body: &'a [u8],
    /// Whether it is a piece of something too long.
    pub(super) cut: bool,
}

/// What takes entries.
pub(super) trait Emit {
    fn entry(&mut self, entry: Entry<'_>);
}

impl<F: FnMut(Entry<'_>)> Emit for F {
    fn entry(&mut self, entry: Entry<'_>) {
        self(entry);
    }
}

/// Joins what one file holds. Streams of a container come interleaved; each is joined by itself.
#[derive(Debug, Default)]
pub(super) struct Joiner {
    /// None, stdout, stderr.
    streams: [Stream; 3],
}

#[derive(Debug, Default)]
struct Stream {
    /// Parts of a line that is not whole yet.
    line: Pending,
    /// Lines of an event that may go on.
    event: Pending,
}

/// What waits for more.
#[derive(Debug, Default)]
struct Pending {
    body: Vec<u8>,
    /// Where it begins, while there is something.
    start: Option<u64>,
    /// Where the line begins that it begins in; in the file that is read, even where it begins in one before.
    held: u64,
    /// Of the file that it begins in, where that is one before.
    origin: Option<Arc<Constants>>,
    time: Option<u64>,
    since: Option<Instant>,
    cut: bool,
}

impl Pending {
    fn begin(&mut self, place: Place, time: Option<u64>, now: Instant) {
        self.body.clear();
        (self.start, self.held, self.origin) = (Some(place.offset), place.held, place.origin);
        (self.time, self.since, self.cut) = (time, Some(now), false);
    }

    /// Appends text of the line at `offset`, and gives out what is too long in pieces.
    ///
    /// Where a piece begins depends on what stands from there on only, so that whoever begins to read there cuts alike.
    fn push(&mut self, text: &[u8], offset: u64, iostream: Option<Iostream>, most: usize, out: &mut impl Emit) {
        let (mut at, mut start) = (0, self.start.unwrap_or(offset));
        if !self.body.is_empty() && self.body.len() + text.len() > most {
            let origin = self.origin.take();
            let (time, origin) = (self.time, origin.as_deref());
            out.entry(Entry { offset: start, origin, time, iostream, body: &self.body, cut: true });
            self.body.clear();
            (start, self.held, self.cut) = (offset, offset, true);
        }
        while text.len() - at > most {
            let body = &text[at..at + most];
            out.entry(Entry { offset: start, origin: None, time: self.time, iostream, body, cut: true });
            at += most;
            // Within the line, if not where the text stands in it.
            (start, self.cut) = (offset + at as u64, true);
        }
        self.start = Some(start);
        self.body.extend_from_slice(&text[at..]);
    }

    fn flush(&mut self, iostream: Option<Iostream>, out: &mut impl Emit) {
        if let Some(offset) = self.start.take() {
            let (time, body, cut) = (self.time, &self.body[..], self.cut);
            // Nothing may be left of what was given out in pieces.
            if !body.is_empty() || !cut {
                out.entry(Entry { offset, origin: self.origin.as_deref(), time, iostream, body, cut });
            }
            self.origin = None;
            self.body.clear();
            self.since = None;
            // One long line is no reason to hold as much for good.
            if self.body.capacity() > KEPT {
                self.body = Vec::new();
            }
        }
    }
}

/// Where a line begins.
struct Place {
    offset: u64,
    held: u64,
    origin: Option<Arc<Constants>>,
}

impl Place {
    /// In the file that is read.
    fn of(offset: u64) -> Self {
        Self { offset, held: offset, origin: None }
    }
}

/// Bytes of a buffer that is kept for the next event.
const KEPT: usize = 16 * 1024;

impl Joiner {
    /// Takes in a line without its wrapping, which stands at `offset` of the file.
    #[inline]
    pub(super) fn push(&mut self, part: Part<'_>, offset: u64, now: Instant, rules: &Rules, out: &mut impl Emit) {
        let stream = &mut self.streams[place(part.iostream)];
        if !part.partial && stream.line.start.is_none() {
            return stream.event.line(part, Place::of(offset), now, rules, out);
        }
        if stream.line.start.is_none() {
            stream.line.begin(Place::of(offset), part.time, now);
        }
        // What is too long for a line is too long for an event.
        if stream.line.body.len() + part.content.len() > rules.most {
            stream.event.flush(part.iostream, out);
        }
        stream.line.push(part.content, offset, part.iostream, rules.most, out);
        if part.partial {
            return;
        }
        let Stream { line, event } = stream;
        if line.cut {
            return line.flush(part.iostream, out);
        }
        let Some(start) = line.start.take() else { return };
        line.since = None;
        let place = Place { offset: start, held: line.held, origin: line.origin.take() };
        let whole = Part { time: line.time, content: &line.body, ..part };
        event.line(whole, place, now, rules, out);
        line.body.clear();
        if line.body.capacity() > KEPT {
            line.body = Vec::new();
        }
    }

    /// Where what is not given out yet begins: the file is to be read again from there.
    pub(super) fn held_from(&self) -> Option<u64> {
        self.pending().filter_map(|pending| pending.start.map(|_| pending.held)).min()
    }

    /// Takes out what waits, to go on at the beginning of the file that follows; `None` where nothing does.
    ///
    /// It is known by the file that it begins in, whose attributes are `of`.
    pub(super) fn carry(&mut self, of: &Arc<Constants>) -> Option<Self> {
        self.held_from()?;
        let mut carried = std::mem::take(self);
        for stream in &mut carried.streams {
            for pending in [&mut stream.line, &mut stream.event] {
                pending.held = 0;
                if pending.start.is_some() {
                    pending.origin.get_or_insert_with(|| Arc::clone(of));
                }
            }
        }
        Some(carried)
    }

    /// Whether something that was carried over waits for more.
    pub(super) fn holds_carried(&self) -> bool {
        self.pending().any(|pending| pending.start.is_some() && pending.origin.is_some())
    }

    /// When the next of what waits has waited long enough.
    pub(super) fn due(&self, rules: &Rules) -> Option<Instant> {
        self.pending().filter_map(|pending| pending.since).min().map(|since| since + rules.patience)
    }

    /// Gives out what has waited long enough, or all with `None`.
    pub(super) fn flush(&mut self, before: Option<Instant>, rules: &Rules, out: &mut impl Emit) {
        let due = |pending: &Pending| {
            pending.since.is_some_and(|since| before.is_none_or(|now| since + rules.patience <= now))
        };
        for (stream, iostream) in self.streams.iter_mut().zip(ALL) {
            if due(&stream.line) || due(&stream.event) {
                stream.event.flush(iostream, out);
            }
            if due(&stream.line) {
                stream.line.flush(iostream, out);
            }
        }
    }

    /// Bytes that are held.
    pub(super) fn bytes(&self) -> usize {
        self.pending().map(|pending| pending.body.len()).sum()
    }

    fn pending(&self) -> impl Iterator<Item = &Pending> {
        self.streams.iter().flat_map(|stream| [&stream.line, &stream.event])
    }
}

impl Pending {
    /// Takes in a whole line.
    #[inline]
    fn line(&mut self, line: Part<'_>, place: Place, now: Instant, rules: &Rules, out: &mut impl Emit) {
        let Part { time, iostream, content, .. } = line;
        let offset = place.held;
        let Some(multiline) = &rules.multiline else {
            if content.len() <= rules.most {
                let (offset, origin) = (place.offset, place.origin.as_deref());
                return out.entry(Entry { offset, origin, time, iostream, body: content, cut: false });
            }
            self.begin(place, time, now);
            self.push(content, offset, iostream, rules.most, out);
            return self.flush(iostream, out);
        };
        if self.start.is_some() && !multiline.begins(content) {
            self.push(b"\n", offset, iostream, rules.most, out);
        } else {
            self.flush(iostream, out);
            self.begin(place, time, now);
        }
        self.push(content, offset, iostream, rules.most, out);
        self.since = Some(now);
    }
}

const ALL: [Option<Iostream>; 3] = [None, Some(Iostream::Stdout), Some(Iostream::Stderr)];

#[inline]
fn place(iostream: Option<Iostream>) -> usize {
    match iostream {
        None => 0,
        Some(Iostream::Stdout) => 1,
        Some(Iostream::Stderr) => 2,
    }
}

#[cfg(test)]
mod tests;
