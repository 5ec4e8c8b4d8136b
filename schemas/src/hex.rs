//! Trace and span ids as lower-case hex text, without allocating.

use std::fmt;
use std::ops::Deref;

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Text of `N` lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hex<const N: usize>([u8; N]);

/// A trace id: 32 digits.
#[inline]
pub fn trace_id(id: &[u8; 16]) -> Hex<32> {
    Hex(digits(id))
}

/// A span id: 16 digits.
#[inline]
pub fn span_id(id: &[u8; 8]) -> Hex<16> {
    Hex(digits(id))
}

/// Appends bytes of any number, two digits each.
pub fn push(text: &mut String, bytes: &[u8]) {
    text.reserve(2 * bytes.len());
    for &byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
}

/// Reads `2 * N` hex digits of either case; `None` for anything else.
pub fn decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let digit = |digit: u8| char::from(digit).to_digit(16);
        *byte = (digit(pair[0])? << 4 | digit(pair[1])?) as u8;
    }
    Some(bytes)
}

/// Writes each nibble of `id` as a digit; `N` is twice the number of bytes.
#[inline]
fn digits<const N: usize>(id: &[u8]) -> [u8; N] {
    let mut text = [0; N];
    for (pair, &byte) in text.chunks_exact_mut(2).zip(id) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
    text
}

impl<const N: usize> Hex<N> {
    /// The digits.
    #[inline]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The digits as ASCII.
    #[inline]
    pub const fn as_bytes(&self) -> &[u8; N] {
        &self.0
    }
}

impl<const N: usize> Deref for Hex<N> {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl<const N: usize> fmt::Display for Hex<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

impl<const N: usize> fmt::Debug for Hex<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_read_back_as_they_were_written() {
        let id: [u8; 16] = std::array::from_fn(|i| (i * 17) as u8);
        assert_eq!(&*trace_id(&id), "00112233445566778899aabbccddeeff");
        assert_eq!(decode(&trace_id(&id)), Some(id));
        assert_eq!(decode("00112233445566778899AABBCCDDEEFF"), Some(id));
        assert_eq!(span_id(&[0, 1, 0x7f, 0x80, 0xff, 0xa5, 9, 10]).to_string(), "00017f80ffa5090a");
        let mut text = String::from("id=");
        push(&mut text, &[0xde, 0xad]);
        assert_eq!(text, "id=dead");
    }

    #[test]
    fn text_of_another_length_or_alphabet_is_refused() {
        assert_eq!(decode::<8>("0011"), None);
        assert_eq!(decode::<2>("00g1"), None);
        assert_eq!(decode::<2>("+1+1"), None);
        assert_eq!(decode::<2>("é1é"), None);
    }
}
