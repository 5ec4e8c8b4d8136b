//! The few shapes of protobuf that telemetry needs, written straight into bytes.

/// Appends a base-128 number.
pub(super) fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Bytes that [`varint`] takes for that value.
pub(super) const fn varint_len(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

/// Appends a number field.
pub(super) fn number(out: &mut Vec<u8>, field: u32, value: u64) {
    varint(out, u64::from(field << 3));
    varint(out, value);
}

/// Appends the tag of an eight-byte field; the value follows.
pub(super) fn fixed64_tag(out: &mut Vec<u8>, field: u32) {
    varint(out, u64::from(field << 3 | 1));
}

/// Appends a four-byte field.
pub(super) fn fixed32(out: &mut Vec<u8>, field: u32, value: u32) {
    varint(out, u64::from(field << 3 | 5));
    out.extend_from_slice(&value.to_le_bytes());
}

/// Appends tag and length of a field of that many bytes; the bytes follow.
pub(super) fn length(out: &mut Vec<u8>, field: u32, bytes: usize) {
    varint(out, u64::from(field << 3 | 2));
    varint(out, bytes as u64);
}

/// Appends a field of bytes: text, or an encoded message.
pub(super) fn bytes(out: &mut Vec<u8>, field: u32, value: &[u8]) {
    length(out, field, value.len());
    out.extend_from_slice(value);
}

/// Size of a field of that many bytes with its tag (one byte: fields 1 to 15) and length.
pub(super) const fn size(bytes: usize) -> usize {
    1 + varint_len(bytes as u64) + bytes
}

/// Contents of every length-delimited field with that number. Stops at the first byte that makes no sense.
///
/// For reading back what this module wrote, not for what strangers send.
pub(super) fn each(message: &[u8], wanted: u64) -> impl Iterator<Item = &[u8]> {
    let mut rest = message;
    std::iter::from_fn(move || {
        while !rest.is_empty() {
            let tag = take_varint(&mut rest)?;
            let content = match tag & 7 {
                0 => {
                    take_varint(&mut rest)?;
                    continue;
                }
                1 => rest.split_off(..8)?,
                2 => {
                    let length = usize::try_from(take_varint(&mut rest)?).ok()?;
                    rest.split_off(..length)?
                }
                5 => rest.split_off(..4)?,
                _ => return None,
            };
            if tag >> 3 == wanted && tag & 7 == 2 {
                return Some(content);
            }
        }
        None
    })
}

fn take_varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = *rest.split_off_first()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_back_and_take_the_bytes_that_were_announced() {
        for value in [0, 1, 127, 128, 16_383, 16_384, u64::from(u32::MAX), u64::MAX] {
            let mut out = Vec::new();
            varint(&mut out, value);
            assert_eq!(out.len(), varint_len(value), "{value}");
            assert_eq!(take_varint(&mut out.as_slice()), Some(value));
        }
    }

    #[test]
    fn fields_are_found_among_others() {
        let mut out = Vec::new();
        number(&mut out, 1, 300);
        bytes(&mut out, 2, b"a");
        fixed32(&mut out, 8, 1);
        bytes(&mut out, 2, b"bc");
        assert_eq!(each(&out, 2).collect::<Vec<_>>(), [b"a".as_slice(), b"bc"]);
        assert_eq!(each(&out[..out.len() - 1], 2).count(), 1, "a truncated field is not returned");
    }
}
