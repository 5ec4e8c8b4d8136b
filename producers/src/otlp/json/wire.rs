//! Writing protobuf fields.

const VARINT: u32 = 0;
const FIXED64: u32 = 1;
const DELIMITED: u32 = 2;
const FIXED32: u32 = 5;

/// Writes a varint field, unless it is to be skipped as a default.
pub(super) fn varint_field(out: &mut Vec<u8>, number: u32, value: u64, skip: bool) {
    if !skip {
        tag(out, number, VARINT);
        varint(out, value);
    }
}

/// Writes a fixed64 or double field, unless it is to be skipped as a default.
pub(super) fn fixed64_field(out: &mut Vec<u8>, number: u32, value: u64, skip: bool) {
    if !skip {
        tag(out, number, FIXED64);
        out.extend_from_slice(&value.to_le_bytes());
    }
}

/// Writes a fixed32 field, unless it is to be skipped as a default.
pub(super) fn fixed32_field(out: &mut Vec<u8>, number: u32, value: u32, skip: bool) {
    if !skip {
        tag(out, number, FIXED32);
        out.extend_from_slice(&value.to_le_bytes());
    }
}

/// Writes a string or bytes field.
pub(super) fn bytes_field(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    tag(out, number, DELIMITED);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Writes a message field whose content `fill` appends.
///
/// The length is known only afterwards: one byte is left for it, and content of 128 bytes or more is moved up.
pub(super) fn message_field<E>(
    out: &mut Vec<u8>,
    number: u32,
    fill: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    tag(out, number, DELIMITED);
    out.push(0);
    let start = out.len();
    fill(out)?;
    let length = out.len() - start;
    if let Ok(byte @ 0..0x80) = u8::try_from(length) {
        out[start - 1] = byte;
        return Ok(());
    }
    let mut prefix = Vec::with_capacity(10);
    varint(&mut prefix, length as u64);
    let more = prefix.len() - 1;
    out.extend_from_slice(&prefix[..more]);
    out.copy_within(start..start + length, start + more);
    out[start - 1..start + more].copy_from_slice(&prefix);
    Ok(())
}

fn tag(out: &mut Vec<u8>, number: u32, wire_type: u32) {
    varint(out, u64::from(number << 3 | wire_type));
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}
