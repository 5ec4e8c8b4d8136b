//! How the versions of remote write differ on the wire.

use std::convert::Infallible;

use afflux_schemas::wire::{
    len_field_size, put_len_field, put_len_header, put_message_field, put_varint, put_varint_field,
};

use super::names::Family;
use super::request::Protocol;
use super::symbols::Symbols;
use crate::buffers;

/// A version of remote write, with what a request needs besides its series.
pub(super) trait Version: Default {
    const PROTOCOL: Protocol;
    /// Field of the series in a request.
    const SERIES: u32;
    /// Field of native histograms in a series.
    const HISTOGRAM: u32;
    /// Field of exemplars in a series.
    const EXEMPLAR: u32;
    /// Whether samples tell since when they count.
    const STARTS: bool;

    /// Appends a label as it stands among those of a series or exemplar.
    fn label(&mut self, out: &mut Vec<u8>, name: &str, value: &str);

    /// Bytes that labels take in their message, with what stands before them.
    fn labels_len(bytes: usize) -> usize;

    /// Appends what stands before labels of so many bytes.
    fn put_labels_header(out: &mut Vec<u8>, bytes: usize);

    /// Takes note of a family of metrics; gives what stands in each of its series.
    fn metadata(&mut self, family: &Family) -> Vec<u8>;

    /// The request that holds those series.
    fn finish(self, series: Vec<u8>) -> Vec<u8>;
}

/// Remote write 1.0: labels in full, metadata behind all series.
#[derive(Debug, Default)]
pub(super) struct V1 {
    metadata: Vec<u8>,
}

/// Field of labels, in series and exemplars of both versions.
const LABELS: u32 = 1;

impl Version for V1 {
    const PROTOCOL: Protocol = Protocol::V1;
    const SERIES: u32 = 1;
    const HISTOGRAM: u32 = 4;
    const EXEMPLAR: u32 = 3;
    const STARTS: bool = false;

    fn label(&mut self, out: &mut Vec<u8>, name: &str, value: &str) {
        put_len_header(out, LABELS, len_field_size(1, name.len()) + len_field_size(2, value.len()));
        put_len_field(out, 1, name.as_bytes());
        put_len_field(out, 2, value.as_bytes());
    }

    #[inline]
    fn labels_len(bytes: usize) -> usize {
        bytes
    }

    #[inline]
    fn put_labels_header(_: &mut Vec<u8>, _: usize) {}

    fn metadata(&mut self, family: &Family) -> Vec<u8> {
        nested(&mut self.metadata, 3, |out| {
            put_varint_field(out, 1, family.metadata_type);
            put_len_field(out, 2, family.name.as_bytes());
            for (field, text) in [(4, family.help), (5, family.unit)] {
                if !text.is_empty() {
                    put_len_field(out, field, text.as_bytes());
                }
            }
        });
        Vec::new()
    }

    fn finish(self, mut series: Vec<u8>) -> Vec<u8> {
        series.extend_from_slice(&self.metadata);
        series
    }
}

/// Remote write 2.0: texts by their position among symbols, metadata in each series.
#[derive(Debug, Default)]
pub(super) struct V2 {
    symbols: Symbols,
}

impl Version for V2 {
    const PROTOCOL: Protocol = Protocol::V2;
    const SERIES: u32 = 5;
    const HISTOGRAM: u32 = 3;
    const EXEMPLAR: u32 = 4;
    const STARTS: bool = true;

    fn label(&mut self, out: &mut Vec<u8>, name: &str, value: &str) {
        put_varint(out, self.symbols.of(name).into());
        put_varint(out, self.symbols.of(value).into());
    }

    #[inline]
    fn labels_len(bytes: usize) -> usize {
        len_field_size(LABELS, bytes)
    }

    #[inline]
    fn put_labels_header(out: &mut Vec<u8>, bytes: usize) {
        put_len_header(out, LABELS, bytes);
    }

    fn metadata(&mut self, family: &Family) -> Vec<u8> {
        let mut out = Vec::new();
        nested(&mut out, 5, |out| {
            put_varint_field(out, 1, family.metadata_type);
            for (field, text) in [(3, family.help), (4, family.unit)] {
                if !text.is_empty() {
                    put_varint_field(out, field, self.symbols.of(text).into());
                }
            }
        });
        out
    }

    fn finish(self, series: Vec<u8>) -> Vec<u8> {
        // Receivers that read as they go need the symbols first.
        let mut message = buffers::take();
        message.reserve(self.symbols.encoded().len() + series.len());
        message.extend_from_slice(self.symbols.encoded());
        message.extend_from_slice(&series);
        buffers::give(series);
        message
    }
}

/// Appends a message that `fill` writes.
pub(super) fn nested(out: &mut Vec<u8>, field: u32, fill: impl FnOnce(&mut Vec<u8>)) {
    let Ok(()) = put_message_field(out, field, |out| {
        fill(out);
        Ok::<_, Infallible>(())
    });
}
