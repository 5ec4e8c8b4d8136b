//! Writing fields, unless they hold a default.

use crate::wire::{put_fixed32_field, put_fixed64_field, put_varint_field};

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
