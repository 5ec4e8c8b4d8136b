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
        let ty = message.fields.get(field.key as usize >> 3);
        let written = match (field.key & 7, ty) {
            (LEN, Some(Type::One(inner) | Type::Many(inner))) => {
                length_delimited(field.key, &scramble(inner, field.value, dice), dice)
            }
            (LEN, _) => length_delimited(field.key, field.value, dice),
            _ => field.raw.to_vec(),
        };
        // A singular message that stands twice changes the meaning, which most cases should not.
        if dice.once_in(if matches!(ty, Some(Type::One(_))) { 400 } else { 40 }) {
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

/// Damages bytes in one place.
pub(super) fn damage(bytes: &mut Vec<u8>, dice: &mut Dice) {
    let at = dice.below(bytes.len());
    match dice.below(6) {
        _ if bytes.is_empty() => bytes.push(dice.next() as u8),
        0 | 1 => bytes[at] ^= 1 << dice.below(8),
        2 => bytes[at] = dice.next() as u8,
        3 => bytes.insert(at, dice.next() as u8),
        4 => drop(bytes.remove(at)),
        _ if dice.once_in(4) => bytes.truncate(at),
        _ => {
            let from = dice.below(bytes.len());
            let taken = bytes[from..bytes.len().min(from + dice.below(12))].to_vec();
            bytes.splice(at..at, taken);
        }
    }
}

/// Any fields of a message in any order and number, once in a while of a wrong type.
pub(super) fn soup(message: &Message, dice: &mut Dice, depth: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..dice.below(if depth > 5 { 4 } else { 7 }) {
        if dice.once_in(20) {
            bytes.extend(unknown_field(message.fields.len() as u32, dice, 3));
            continue;
        }
        let field = if dice.once_in(3) { dice.below(message.fields.len()) } else { 1 + dice.below(2) };
        let field = field.min(message.fields.len() - 1);
        let ty = message.fields.get(field).copied().unwrap_or(Type::Unknown);
        let wire_type = if dice.once_in(500) { dice.below(8) as u32 } else { ty.wire_type() };
        if field > 0 || dice.once_in(200) {
            put_padded(&mut bytes, key(field as u32, wire_type).into(), dice);
            put_value(&mut bytes, wire_type, ty, dice, depth);
        }
    }
    bytes
}

fn put_value(bytes: &mut Vec<u8>, wire_type: u32, ty: Type, dice: &mut Dice, depth: u32) {
    match (wire_type, ty) {
        (VARINT, _) => put_padded(bytes, dice.next() >> dice.below(64), dice),
        (FIXED32, _) => bytes.extend((dice.next() as u32).to_le_bytes()),
        (FIXED64, _) => bytes.extend(dice.next().to_le_bytes()),
        (LEN, _) => {
            let value = match ty {
                Type::One(inner) | Type::Many(inner) if depth > 0 => soup(inner, dice, depth - 1),
                Type::Str if dice.once_in(300) => vec![0xc3; dice.below(3)],
                Type::Str => "é".repeat(dice.below(40)).into_bytes(),
                Type::Bytes => vec![dice.next() as u8; [16, 8, 0, 15][dice.below(4)]],
                _ => Vec::new(),
            };
            put_padded(bytes, (value.len() + usize::from(dice.once_in(500))) as u64, dice);
            bytes.extend(value);
        }
        _ => {}
    }
}
