//! Attribute values as text, the way the columns of the lake hold them.

use std::fmt::Write;

use super::common::ValueView;

/// Arrays and lists within each other that are written out; no validated request has more.
const DEPTH: u32 = 100;

impl ValueView<'_> {
    /// Appends the value as plain text.
    ///
    /// Strings as they are; integers, doubles (`1.0`, `1e300`, `NaN`, `Infinity`, `-Infinity`) and booleans as
    /// digits and words; bytes as base64; arrays and lists as JSON; no value as nothing.
    pub fn write_text(&self, out: &mut String) {
        match self {
            Self::Empty | Self::StrIndex(_) => {}
            Self::Str(text) => out.push_str(text),
            Self::Double(number) => write_double(out, *number),
            Self::Bytes(bytes) => write_base64(out, bytes),
            other => other.write_json(out),
        }
    }

    /// Appends the value as JSON.
    ///
    /// Bytes are a string of base64, doubles that are no number a string, no value is `null`. Of a repeated key
    /// in a list every occurrence is written.
    pub fn write_json(&self, out: &mut String) {
        write_json(self, out, DEPTH);
    }
}

fn write_json(value: &ValueView<'_>, out: &mut String, depth: u32) {
    match value {
        ValueView::Empty | ValueView::StrIndex(_) => out.push_str("null"),
        ValueView::Str(text) => write_quoted(out, text),
        ValueView::Bool(truth) => out.push_str(if *truth { "true" } else { "false" }),
        ValueView::Int(number) => write_int(out, *number),
        ValueView::Double(number) if number.is_finite() => write_double(out, *number),
        ValueView::Double(number) => {
            out.push('"');
            write_double(out, *number);
            out.push('"');
        }
        ValueView::Bytes(bytes) => {
            out.push('"');
            write_base64(out, bytes);
            out.push('"');
        }
        ValueView::Array(_) | ValueView::KvList(_) if depth == 0 => out.push_str("null"),
        ValueView::Array(values) => {
            out.push('[');
            for (i, value) in values.clone().enumerate() {
                separate(out, i);
                write_json(&value, out, depth - 1);
            }
            out.push(']');
        }
        ValueView::KvList(entries) => {
            out.push('{');
            for (i, entry) in entries.clone().enumerate() {
                separate(out, i);
                write_quoted(out, entry.key());
                out.push(':');
                write_json(&entry.value(), out, depth - 1);
            }
            out.push('}');
        }
    }
}

fn separate(out: &mut String, position: usize) {
    if position > 0 {
        out.push(',');
    }
}

fn write_int(out: &mut String, number: i64) {
    // Writing to a string cannot fail.
    let _ = write!(out, "{number}");
}

fn write_double(out: &mut String, number: f64) {
    let _ = match number {
        f64::INFINITY => out.write_str("Infinity"),
        f64::NEG_INFINITY => out.write_str("-Infinity"),
        // The shortest text that reads back as the same number, which `NaN` is too.
        _ => write!(out, "{number:?}"),
    };
}

fn write_quoted(out: &mut String, text: &str) {
    out.push('"');
    let mut plain = 0;
    for (at, byte) in text.bytes().enumerate() {
        let escape = match byte {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            b'\n' => "\\n",
            b'\r' => "\\r",
            b'\t' => "\\t",
            0..0x20 => "",
            _ => continue,
        };
        out.push_str(&text[plain..at]);
        plain = at + 1;
        if escape.is_empty() {
            let _ = write!(out, "\\u{byte:04x}");
        } else {
            out.push_str(escape);
        }
    }
    out.push_str(&text[plain..]);
    out.push('"');
}

fn write_base64(out: &mut String, bytes: &[u8]) {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    out.reserve(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = group.iter().enumerate().fold(0_u32, |bits, (i, &byte)| bits | u32::from(byte) << (16 - 8 * i));
        for digit in 0..4 {
            let filled = digit <= group.len();
            let index = bits >> (18 - 6 * digit) & 63;
            out.push(if filled { char::from(ALPHABET[index as usize]) } else { '=' });
        }
    }
}
