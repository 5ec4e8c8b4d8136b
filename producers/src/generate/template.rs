//! Spans and log records encoded once, with holes for what differs each time.
//!
//! Every hole has a fixed width, so lengths never change and producing an item is a copy and a few patches.

use super::facts::{Facts, Placed, Word};
use super::wire;

/// What goes into the bytes when an item is produced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hole {
    TraceId,
    SpanId,
    ParentId,
    Start,
    End,
    /// Inside the span: at three quarters of its time.
    Event,
    /// Just after the event, as a log pipeline sees it.
    Observed,
    LinkTrace(usize),
    LinkSpan(usize),
    Word(Word),
    /// The total of the cart, a double.
    Price,
    Number(Number),
}

/// An integer whose varint always has the same length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Number {
    /// 1 to 100, one byte.
    Rows,
    /// 16 KiB to 512 KiB, three bytes.
    Size,
    /// 2^21 to 2^27, four bytes.
    Offset,
    /// 32768 to 61439, three bytes: an ephemeral port.
    Port,
}

impl Number {
    const fn width(self) -> usize {
        match self {
            Self::Rows => 1,
            Self::Size | Self::Port => 3,
            Self::Offset => 4,
        }
    }

    const fn draw(self, span: &Placed) -> u64 {
        let random = span.number(self as u64) >> 32;
        match self {
            Self::Rows => 1 + random % 100,
            Self::Size => (16 << 10) + random % (496 << 10),
            Self::Offset => (1 << 21) + random % ((1 << 27) - (1 << 21)),
            Self::Port => 32_768 + random % 28_672,
        }
    }
}

/// A message in the making.
#[derive(Clone, Debug, Default)]
pub(super) struct Draft {
    bytes: Vec<u8>,
    holes: Vec<(usize, Hole)>,
}

impl Draft {
    pub(super) fn number(&mut self, field: u32, value: u64) {
        wire::number(&mut self.bytes, field, value);
    }

    pub(super) fn fixed32(&mut self, field: u32, value: u32) {
        wire::fixed32(&mut self.bytes, field, value);
    }

    pub(super) fn double(&mut self, field: u32, value: f64) {
        wire::fixed64_tag(&mut self.bytes, field);
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    /// An eight-byte field: a time or the price.
    pub(super) fn fixed64_hole(&mut self, field: u32, hole: Hole) {
        wire::fixed64_tag(&mut self.bytes, field);
        self.hole(hole, 8);
    }

    /// A trace or span id.
    pub(super) fn id_hole(&mut self, field: u32, hole: Hole) {
        let width = if matches!(hole, Hole::TraceId | Hole::LinkTrace(_)) { 16 } else { 8 };
        wire::length(&mut self.bytes, field, width);
        self.hole(hole, width);
    }

    pub(super) fn number_hole(&mut self, field: u32, number: Number) {
        wire::varint(&mut self.bytes, u64::from(field << 3));
        self.hole(Hole::Number(number), number.width());
    }

    /// A text in which the placeholders of [`Word::ALL`] are holes.
    pub(super) fn text(&mut self, field: u32, text: &str) {
        let mut content = Self::default();
        let mut rest = text;
        while let Some(brace) = rest.find('{') {
            let (before, from) = rest.split_at(brace);
            content.bytes.extend_from_slice(before.as_bytes());
            match Word::ALL.iter().find(|(name, _)| from.starts_with(name)) {
                Some((name, word)) => {
                    content.hole(Hole::Word(*word), word.width());
                    rest = &from[name.len()..];
                }
                None => {
                    content.bytes.push(b'{');
                    rest = &from[1..];
                }
            }
        }
        content.bytes.extend_from_slice(rest.as_bytes());
        self.nested(field, content);
    }

    pub(super) fn nested(&mut self, field: u32, inner: Self) {
        wire::length(&mut self.bytes, field, inner.bytes.len());
        let at = self.bytes.len();
        self.bytes.extend_from_slice(&inner.bytes);
        self.holes.extend(inner.holes.into_iter().map(|(offset, hole)| (at + offset, hole)));
    }

    /// The finished message as an element of a repeated field.
    pub(super) fn finish(self, field: u32) -> Template {
        let mut whole = Self::default();
        whole.nested(field, self);
        Template { bytes: whole.bytes.into(), holes: whole.holes.into() }
    }

    /// The bytes of a message without holes.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        debug_assert!(self.holes.is_empty(), "{:?}", self.holes);
        self.bytes
    }

    fn hole(&mut self, hole: Hole, width: usize) {
        self.holes.push((self.bytes.len(), hole));
        self.bytes.resize(self.bytes.len() + width, 0);
    }
}

/// A finished message with its holes.
#[derive(Clone, Debug)]
pub(super) struct Template {
    bytes: Box<[u8]>,
    holes: Box<[(usize, Hole)]>,
}

impl Template {
    /// Appends the message for that span. `peer` is the address of the pod at the other end.
    pub(super) fn write(&self, out: &mut Vec<u8>, facts: &Facts, span: &Placed, peer: &[u8]) {
        let at = out.len();
        out.extend_from_slice(&self.bytes);
        let item = &mut out[at..];
        for (offset, hole) in &self.holes {
            let mut put = |bytes: &[u8]| item[*offset..*offset + bytes.len()].copy_from_slice(bytes);
            let time = |since: u64| (facts.epoch + since).to_le_bytes();
            let event = span.start + (span.end - span.start) / 4 * 3;
            match *hole {
                Hole::TraceId => put(&facts.trace_id),
                Hole::SpanId => put(&span.id.to_be_bytes()),
                Hole::ParentId => put(&span.parent.to_be_bytes()),
                Hole::Start => put(&time(span.start)),
                Hole::End => put(&time(span.end)),
                Hole::Event => put(&time(event)),
                Hole::Observed => put(&time(event + 1_000 + (span.number(100) & 0xfffff))),
                Hole::LinkTrace(i) => put(&facts.batch.get(i).map_or(facts.trace_id, |link| link.trace_id)),
                Hole::LinkSpan(i) => put(&facts.batch.get(i).map_or(span.parent, |link| link.span_id).to_be_bytes()),
                Hole::Word(Word::Peer) => put(peer),
                Hole::Word(word) => put(facts.word(word)),
                Hole::Price => put(&facts.price.to_le_bytes()),
                Hole::Number(number) => put_varint(&mut item[*offset..], number.draw(span)),
            }
        }
    }
}

fn put_varint(out: &mut [u8], mut value: u64) {
    let mut at = 0;
    while value >= 0x80 {
        out[at] = value as u8 | 0x80;
        value >>= 7;
        at += 1;
    }
    out[at] = value as u8;
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPAN: Placed = Placed { node: 0, id: 7, parent: 0, start: 0, end: 4, failed: false };

    #[test]
    fn numbers_keep_the_length_that_their_hole_has() {
        for number in [Number::Rows, Number::Size, Number::Offset, Number::Port] {
            for id in 0..10_000 {
                let value = number.draw(&Placed { id, ..SPAN });
                assert_eq!(wire::varint_len(value), number.width(), "{number:?} drew {value}");
            }
        }
    }

    #[test]
    fn words_fill_their_placeholders_and_other_braces_stay() {
        let mut draft = Draft::default();
        draft.text(1, "{user} at {peer}: {\"id\": {unknown}}");
        let template = draft.finish(1);
        let mut out = Vec::new();
        template.write(&mut out, &Facts::new([1; 16], Vec::new()), &SPAN, b"10.42.1.100");
        let text =
            String::from_utf8(wire::each(wire::each(&out, 1).next().unwrap(), 1).next().unwrap().to_vec()).unwrap();
        assert!(text.starts_with('u') && text.ends_with(" at 10.42.1.100: {\"id\": {unknown}}"), "{text}");
        assert_eq!(Facts::new([1; 16], Vec::new()).word(Word::User), &text.as_bytes()[..7]);
    }

    #[test]
    fn every_word_is_as_long_as_its_hole() {
        for (name, word) in Word::ALL {
            if word != Word::Peer {
                assert_eq!(Facts::new([9; 16], Vec::new()).word(word).len(), word.width(), "{name}");
            }
        }
    }
}
