//! Structured metadata: pairs of a name and a text.
//!
//! What an entry says itself comes first: ids, severity and so on, its attributes, then its scope's and its resource's.
//! In that order names are given, where several want the same one, and in that order what is too much is left out.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;

use afflux_schemas::hex;
use afflux_schemas::otlp::common::ValueView;
use afflux_schemas::wire::{len_field_size, put_len_field, put_len_header};

use super::config::LimitsConfig;
use super::names::{NameId, Names, with_suffix};

/// Number of the field of pairs in an entry.
const PAIRS: u32 = 3;
/// Name of the pair that says how many were left out.
const LEFT_OUT: &str = "afflux_left_out";
/// Bytes of that pair at most.
const LEFT_OUT_BYTES: usize = LEFT_OUT.len() + 20;

/// A value, not yet text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value<'a> {
    Text(&'a [u8]),
    /// Bytes that are shown as hex digits.
    Hex(&'a [u8]),
    Number(u64),
    /// An `AnyValue` message.
    Any(&'a [u8]),
}

/// A pair in the making.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pair<'a> {
    pub(super) name: NameId,
    pub(super) value: Value<'a>,
}

impl<'a> Value<'a> {
    /// Of an `AnyValue` message, unless it is empty.
    #[inline]
    pub(super) fn of(raw: Option<&'a [u8]>) -> Option<Self> {
        let raw = raw?;
        match plain(raw) {
            Some([]) => None,
            Some(text) => Some(Self::Text(text)),
            None => match ValueView::new(raw) {
                ValueView::Empty | ValueView::StrIndex(_) | ValueView::Str("") | ValueView::Bytes([]) => None,
                ValueView::Str(text) => Some(Self::Text(text.as_bytes())),
                _ => Some(Self::Any(raw)),
            },
        }
    }

    /// As text, which may be written to `scratch`.
    #[inline]
    pub(super) fn text<'s>(&'s self, scratch: &'s mut String) -> &'s [u8] {
        match self {
            Self::Text(text) => text,
            other => {
                scratch.clear();
                match other {
                    Self::Hex(bytes) => hex::push(scratch, bytes),
                    // Writing to a string cannot fail.
                    Self::Number(number) => drop(write!(scratch, "{number}")),
                    Self::Any(raw) => ValueView::new(raw).write_text(scratch),
                    Self::Text(_) => {}
                }
                scratch.as_bytes()
            }
        }
    }
}

/// The text of an `AnyValue` message that holds nothing but a text of less than 128 bytes.
#[inline]
pub(super) fn plain(raw: &[u8]) -> Option<&[u8]> {
    match raw {
        [0x0a, len @ ..0x80, text @ ..] if text.len() == usize::from(*len) => Some(text),
        _ => None,
    }
}

/// Appends a pair, given its name as a field.
#[inline]
pub(super) fn put_pair(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    let length = name.len() + len_field_size(2, value.len());
    out.reserve(length + 8);
    put_len_header(out, PAIRS, length);
    out.extend_from_slice(name);
    put_len_field(out, 2, value);
}

/// What entries of a scope have in common.
#[derive(Debug)]
pub(super) struct Shared {
    /// Names that the pairs would like to have, and values; scope before resource.
    pub(super) wanted: Vec<(NameId, Box<str>)>,
    /// Names that they have where the entry itself wants none of them.
    pub(super) names: Vec<NameId>,
    /// With those, as fields of an entry.
    pub(super) encoded: Vec<u8>,
    /// Bytes of names and values.
    pub(super) bytes: usize,
}

impl Shared {
    pub(super) fn new(names: &mut Names<'_>, wanted: Vec<(NameId, Box<str>)>) -> Self {
        let given = distinct(names, wanted.iter().map(|(name, _)| *name));
        let (mut encoded, mut bytes) = (Vec::new(), 0);
        for (name, (_, value)) in given.iter().zip(&wanted) {
            let name = names.name(*name);
            put_pair(&mut encoded, &name.field, value.as_bytes());
            bytes += name.text.len() + value.len();
        }
        Self { wanted, names: given, encoded, bytes }
    }
}

/// Gives each pair a name of its own: of several that want one, the first gets it, the next ones get it with `_2`, `_3`
/// and so on, of which those that are taken are passed over.
pub(super) fn distinct(names: &mut Names<'_>, wanted: impl Iterator<Item = NameId>) -> Vec<NameId> {
    let mut taken = HashSet::new();
    let mut last = HashMap::<NameId, u32>::new();
    let mut give = |wanted: NameId| {
        if taken.insert(wanted) {
            return wanted;
        }
        let number = last.entry(wanted).or_insert(1);
        loop {
            *number += 1;
            let text = with_suffix(&names.name(wanted).text, &number.to_string());
            let name = names.of_text(&text);
            if taken.insert(name) {
                return name;
            }
        }
    };
    wanted.map(&mut give).collect()
}

/// Appends pairs, in the order in which they count, within the limits; how many are left out.
///
/// One that does not fit is left out, and those behind it go on.
pub(super) fn put_within(
    out: &mut Vec<u8>,
    names: &mut Names<'_>,
    pairs: &[(NameId, Vec<u8>)],
    limits: &LimitsConfig,
) -> usize {
    let given = distinct(names, pairs.iter().map(|(name, _)| *name));
    let (mut bytes, mut count) = limits.metadata();
    let size = |names: &mut Names<'_>, i: usize| names.name(given[i]).text.len() + pairs[i].1.len();
    let total: usize = (0..pairs.len()).map(|i| size(names, i)).sum();
    let fits = pairs.len() <= count && total <= bytes;
    if !fits {
        (count, bytes) = (count.saturating_sub(1), bytes.saturating_sub(LEFT_OUT_BYTES));
    }
    let mut left_out = 0;
    for (i, (_, value)) in pairs.iter().enumerate() {
        let size = size(names, i);
        if count == 0 || size > bytes {
            left_out += 1;
            continue;
        }
        (count, bytes) = (count - 1, bytes - size);
        put_pair(out, &names.name(given[i]).field, value);
    }
    if left_out > 0 && limits.metadata().0 >= LEFT_OUT_BYTES {
        let name = names.of_text(LEFT_OUT);
        put_pair(out, &names.name(name).field, left_out.to_string().as_bytes());
    }
    left_out
}
