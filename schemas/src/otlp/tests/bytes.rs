//! Bytes that encoders do not write: rearranged, padded, mixed with unknown fields, damaged.

use crate::otlp::validate::{Message, Type};
use crate::wire::{END_GROUP, FIXED32, FIXED64, Fields, LEN, START_GROUP, VARINT, key, put_varint};

/// A small seeded generator, so that a failing case shrinks with its seed at hand (SplitMix64).
pub(super) struct Dice(pub(super) u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    pub(super) fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    /// True once in `n` times.
    fn once_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

/// Writes a message again, with fields out of order, unknown ones in between, occurrences repeated and integers
/// padded, at every level. Still valid, though not always of the same meaning.
pub(super) fn scramble(message: &Message, bytes: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut fields: Vec<Vec<u8>> = Vec::new();
    for field in Fields::new(bytes) {
        let written = match (field.key & 7, message.fields.get(field.key as usize >> 3)) {
            (LEN, Some(Type::One(inner) | Type::Many(inner))) => {
                length_delimited(field.key, &scramble(inner, field.value, dice), dice)
            }
            (LEN, _) => length_delimited(field.key, field.value, dice),
            _ => field.raw.to_vec(),
        };
        if dice.once_in(40) {
            fields.push(written.clone());
        }
        fields.push(written);
    }
    if dice.once_in(3) {
        for i in (1..fields.len()).rev() {
            fields.swap(i, dice.below(i + 1));
        }
    }
    while dice.once_in(5) {
        let at = dice.below(fields.len() + 1);
        fields.insert(at, unknown_field(message.fields.len() as u32, dice, 3));
    }
    fields.concat()
}

fn length_delimited(key: u32, value: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut field = Vec::with_capacity(value.len() + 4);
    put_padded(&mut field, key.into(), dice);
    put_padded(&mut field, value.len() as u64, dice);
    field.extend_from_slice(value);
    field
}

/// Appends a varint, now and then with zeros that it does not need.
fn put_padded(buf: &mut Vec<u8>, value: u64, dice: &mut Dice) {
    put_varint(buf, value);
    // Ten bytes is the limit.
    if value < 1 << 42
        && dice.once_in(12)
        && let Some(last) = buf.last_mut()
    {
        *last |= 0x80;
        buf.extend(std::iter::repeat_n(0x80, dice.below(3)));
        buf.push(0);
    }
}

/// A field of a number not below `from`.
fn unknown_field(from: u32, dice: &mut Dice, depth: u32) -> Vec<u8> {
    let field = if dice.once_in(4) { (1 << 29) - 1 - dice.below(3) } else { from as usize + dice.below(40) } as u32;
    let mut bytes = Vec::new();
    match dice.below(if depth > 0 { 5 } else { 4 }) {
        0 => {
            put_padded(&mut bytes, key(field, VARINT).into(), dice);
            put_padded(&mut bytes, dice.next() >> dice.below(64), dice);
        }
        1 => {
            put_varint(&mut bytes, key(field, FIXED32).into());
            bytes.extend([1, 2, 3, 4]);
        }
        2 => {
            put_varint(&mut bytes, key(field, FIXED64).into());
            bytes.extend([1, 2, 3, 4, 5, 6, 7, 8]);
        }
        3 => return length_delimited(key(field, LEN), &vec![0xff; dice.below(20)], dice),
        _ => {
            put_varint(&mut bytes, key(field, START_GROUP).into());
            for _ in 0..dice.below(3) {
                bytes.extend(unknown_field(1, dice, depth - 1));
            }
            put_varint(&mut bytes, key(field, END_GROUP).into());
        }
    }
    bytes
}

/// Damages bytes in up to three places.
pub(super) fn damage(bytes: &mut Vec<u8>, dice: &mut Dice) {
    for _ in 0..=dice.below(3) {
        let at = dice.below(bytes.len());
        match dice.below(6) {
            _ if bytes.is_empty() => bytes.push(dice.next() as u8),
            0 => bytes[at] ^= 1 << dice.below(8),
            1 => bytes[at] = dice.next() as u8,
            2 => bytes.insert(at, dice.next() as u8),
            3 => drop(bytes.remove(at)),
            4 => bytes.truncate(at),
            _ => {
                let from = dice.below(bytes.len());
                let taken = bytes[from..bytes.len().min(from + dice.below(12))].to_vec();
                bytes.splice(at..at, taken);
            }
        }
    }
}

/// Fields of small numbers, of any wire type and mostly well formed, within each other.
pub(super) fn soup(dice: &mut Dice, depth: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..dice.below(6) {
        let field = if dice.once_in(3) { dice.below(19) } else { 1 + dice.below(3) } as u32;
        let wire_type = if dice.once_in(4) { dice.below(8) as u32 } else { LEN };
        put_varint(&mut bytes, key(field, wire_type).into());
        match wire_type {
            VARINT => put_padded(&mut bytes, dice.next() >> dice.below(64), dice),
            FIXED32 => bytes.extend([9, 8, 7, 6]),
            FIXED64 => bytes.extend([9, 8, 7, 6, 5, 4, 3, 2]),
            LEN if depth > 0 => {
                let inner = soup(dice, depth - 1);
                put_padded(&mut bytes, (inner.len() + usize::from(dice.once_in(200))) as u64, dice);
                bytes.extend(inner);
            }
            LEN => bytes.push(0),
            START_GROUP => {
                bytes.extend(soup(dice, 0));
                put_varint(&mut bytes, key(field, END_GROUP).into());
            }
            _ => {}
        }
    }
    bytes
}
