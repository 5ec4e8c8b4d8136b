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

/// Appends a message field whose content `fill` appends.
///
/// The length is known only afterwards: one byte is left for it, and content of 128 bytes or more is moved up.
pub fn put_message_field<E>(
    out: &mut Vec<u8>,
    number: u32,
    fill: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    put_len_header(out, number, 0);
    let start = out.len();
    fill(out)?;
    let length = out.len() - start;
    if let Ok(byte @ 0..0x80) = u8::try_from(length) {
        out[start - 1] = byte;
        return Ok(());
    }
    let more = varint_len(length as u64) - 1;
    out.extend_from_slice(&[0; 9][..more]);
    out.copy_within(start..start + length, start + more);
    let mut prefix = Vec::with_capacity(more + 1);
    put_varint(&mut prefix, length as u64);
    out[start - 1..start + more].copy_from_slice(&prefix);
    Ok(())
}
