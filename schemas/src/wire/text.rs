//! Telling text from other bytes.

/// Whether bytes are UTF-8. Most text is short and ASCII, for which this beats looking at code points.
#[inline]
pub(crate) fn is_text(bytes: &[u8]) -> bool {
    is_short_ascii(bytes) || simdutf8::basic::from_utf8(bytes).is_ok()
}

/// Bytes as text; empty where they are not UTF-8, which no validated input has.
#[inline]
pub fn text(bytes: &[u8]) -> &str {
    simdutf8::basic::from_utf8(bytes).unwrap_or_default()
}

/// Whether bytes are ASCII and at most 64.
#[inline]
fn is_short_ascii(bytes: &[u8]) -> bool {
    const HIGH: u64 = 0x8080_8080_8080_8080;
    if let (Some(last), ..=64) = (bytes.last_chunk::<8>(), bytes.len()) {
        // The last eight bytes overlap those before them where the length is odd.
        let words = bytes.as_chunks::<8>().0.iter();
        return words.fold(u64::from_le_bytes(*last), |all, word| all | u64::from_le_bytes(*word)) & HIGH == 0;
    }
    bytes.len() < 8 && bytes.iter().fold(0, |all, byte| all | byte) < 0x80
}
