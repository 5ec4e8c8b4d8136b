//! Writing protobuf fields.

use afflux_schemas::wire::{
    put_fixed32_field, put_fixed64_field, put_len_header, put_varint, put_varint_field, varint_len,
};

/// Writes a varint field, unless it is to be skipped as a default.
pub(super) fn varint_field(out: &mut Vec<u8>, number: u32, value: u64, skip: bool) {
    if !skip {
        put_varint_field(out, number, value);
    }
}

/// Writes a fixed64 or double field, unless it is to be skipped as a default.
pub(super) fn fixed64_field(out: &mut Vec<u8>, number: u32, value: u64, skip: bool) {
    if !skip {
        put_fixed64_field(out, number, value);
    }
}

/// Writes a fixed32 field, unless it is to be skipped as a default.
pub(super) fn fixed32_field(out: &mut Vec<u8>, number: u32, value: u32, skip: bool) {
    if !skip {
        put_fixed32_field(out, number, value);
    }
}

/// Writes a message field whose content `fill` appends.
///
/// The length is known only afterwards: one byte is left for it, and content of 128 bytes or more is moved up.
pub(in crate::otlp) fn message_field<E>(
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
