//! Writing fields.

use super::{FIXED32, FIXED64, LEN, VARINT, key};

/// Bytes that a varint takes.
#[inline]
pub const fn varint_len(value: u64) -> usize {
    (value | 1).ilog2() as usize / 7 + 1
}

/// Bytes that a field of messages, strings or bytes takes with key and length, for a value of that many bytes.
#[inline]
pub const fn len_field_size(field: u32, len: usize) -> usize {
    varint_len(key(field, LEN) as u64) + varint_len(len as u64) + len
}

/// Appends a varint.
#[inline]
pub fn put_varint(buf: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        buf.push(value as u8 | 0x80);
        value >>= 7;
    }
    buf.push(value as u8);
}

/// Appends key and length of a field of messages, strings or bytes; its value is to follow.
#[inline]
pub fn put_len_header(buf: &mut Vec<u8>, field: u32, len: usize) {
    put_varint(buf, key(field, LEN).into());
    put_varint(buf, len as u64);
}

/// Appends a field of messages, strings or bytes.
#[inline]
pub fn put_len_field(buf: &mut Vec<u8>, field: u32, bytes: &[u8]) {
    put_len_header(buf, field, bytes.len());
    buf.extend_from_slice(bytes);
}

/// Appends a field of integers, booleans or enumerations.
#[inline]
pub fn put_varint_field(buf: &mut Vec<u8>, field: u32, value: u64) {
    put_varint(buf, key(field, VARINT).into());
    put_varint(buf, value);
}

/// Appends a fixed64, sfixed64 or double field, given its bits.
#[inline]
pub fn put_fixed64_field(buf: &mut Vec<u8>, field: u32, bits: u64) {
    put_varint(buf, key(field, FIXED64).into());
    buf.extend_from_slice(&bits.to_le_bytes());
}

/// Appends a fixed32, sfixed32 or float field, given its bits.
#[inline]
pub fn put_fixed32_field(buf: &mut Vec<u8>, field: u32, bits: u32) {
    put_varint(buf, key(field, FIXED32).into());
    buf.extend_from_slice(&bits.to_le_bytes());
}
