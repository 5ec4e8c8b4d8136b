//! The entries of a request that an answer is about, and where in its batch they are.

use std::collections::BTreeMap;
use std::sync::Arc;

use afflux_runtime::delivery::{Batch, Encoded, Kind, Named, Refused};
use afflux_schemas::wire::{Field, Fields, LEN, Reader, key};
use hashbrown::HashMap;

use super::config::LokiConfig;
use super::encode::Encoder;
use super::input::inputs;
use super::limits::Window;
use super::pick::pick;
use super::policy::Policy;
use super::request::LokiRequest;
use super::said::{self, Mark};
use super::stream_name::name;
use crate::buffers;

/// Structured metadata whose bytes Loki does not count.
const NOT_COUNTED: &[u8] = b"detected_level";
/// Why entries are sent again of which Loki says nothing.
const UNSURE: &str = "unsure";
/// Why entries are encoded anew that were made into requests and not sent.
const REST: &str = "rest";
const NANOS: u64 = 1_000_000_000;

/// A stream as it was sent.
#[derive(Debug, Default)]
struct Stream<'r> {
    labels: &'r [u8],
    name: Box<str>,
    entries: Vec<Entry<'r>>,
    /// Whether Loki says anything of its entries, and so has looked at them.
    is_told_of: bool,
}

/// What can be said about an entry.
#[derive(Clone, Copy, Debug, Default)]
struct Entry<'r> {
    raw: &'r [u8],
    /// Nanoseconds since the Unix epoch.
    time: u64,
    /// Bytes.
    line: usize,
    metadata_bytes: usize,
    metadata_pairs: usize,
    /// Whether it has been named.
    named: bool,
}

/// What becomes of the entries of a request that was answered with 400; all others are stored.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct NotStored {
    pub(super) refused: Vec<Named>,
    /// Those of whose streams nothing is said. Where a policy blocks them, Loki leaves that out for what is wrong with others;
    /// so they are sent again, most often while Loki knows them.
    pub(super) unsure: Vec<Named>,
}

/// What was not stored; `None` where Loki's words do not say.
///
/// Loki answers with them once it has stored all that is valid, where it has checked each entry by itself.
pub(super) fn not_stored(request: &LokiRequest, answer: &str) -> Option<NotStored> {
    let said = said::read(answer)?;
    let plain = snap::raw::Decoder::new().decompress_vec(&request.body).ok()?;
    let mut streams = streams(&plain)?;
    let mut not_stored = NotStored::default();
    for said in &said {
        let mut of_name = streams.iter_mut().filter(|stream| stream.name == said.stream);
        let (Some(stream), None) = (of_name.next(), of_name.next()) else { return None };
        stream.is_told_of = true;
        let (before, error) = (not_stored.refused.len(), Arc::<str>::from(said.words));
        for entry in stream.entries.iter_mut().filter(|entry| !entry.named && entry.has(said.mark)) {
            entry.named = true;
            let id = id(stream.labels, entry.raw);
            not_stored.refused.push(Named { id, reason: said.reason, error: Arc::clone(&error) });
        }
        let count = not_stored.refused.len() - before;
        if count == 0 || (said.mark != Mark::All && count != said.count) {
            return None;
        }
    }
    let error: Arc<str> = "sent with others that were refused".into();
    for stream in streams.iter().filter(|stream| !stream.is_told_of) {
        let unsure =
            |entry: &Entry<'_>| Named { id: id(stream.labels, entry.raw), reason: UNSURE, error: Arc::clone(&error) };
        not_stored.unsure.extend(stream.entries.iter().map(unsure));
    }
    Some(not_stored)
}

/// All entries of requests; `None` where one cannot be read.
pub(super) fn named(requests: &[LokiRequest]) -> Option<Vec<Named>> {
    let error: Arc<str> = "sent with others, of which some could not be stored".into();
    let mut all = Vec::new();
    for request in requests {
        let plain = snap::raw::Decoder::new().decompress_vec(&request.body).ok()?;
        for stream in streams(&plain)? {
            let named =
                |entry: &Entry<'_>| Named { id: id(stream.labels, entry.raw), reason: REST, error: Arc::clone(&error) };
            all.extend(stream.entries.iter().map(named));
        }
    }
    Some(all)
}

/// The stream of a request that holds one only.
pub(super) fn only_stream(request: &LokiRequest) -> Option<Box<str>> {
    let plain = snap::raw::Decoder::new().decompress_vec(&request.body).ok()?;
    match <[Stream<'_>; 1]>::try_from(streams(&plain)?) {
        Ok([stream]) => Some(stream.name),
        Err(_) => None,
    }
}

/// Where entries that were named are in their batch; `None` where one is not found.
pub(super) fn locate(policy: &Policy, config: &LokiConfig, batch: &Batch, items: &[Named]) -> Option<Vec<Refused>> {
    let inputs = inputs(batch, &mut Encoded::<LokiRequest>::default());
    let mut encoder = Encoder::new(policy, config, &inputs, batch, 0);
    encoder.window = Window::ANY;
    // What is there twice has one id.
    let wanted: HashMap<&[u8], usize> = items.iter().enumerate().map(|(at, item)| (&item.id[..], at)).collect();
    let mut found = vec![false; items.len()];
    let (mut id, mut all) = (Vec::new(), Vec::new());
    for input in &inputs {
        let first = encoder.entries.len();
        encoder.record(input, batch.kind == Kind::Events);
        // Of each reason, one of those that are named and the positions of all.
        let mut by_reason = BTreeMap::<&'static str, (&Named, Vec<u64>)>::new();
        for (position, entry) in (0..).zip(&encoder.entries[first..]) {
            put_id(&mut id, encoder.streams.all[entry.stream as usize].labels.as_bytes());
            id.extend_from_slice(&encoder.buffer[entry.start..entry.start + entry.len]);
            id.extend_from_slice(entry.shared.map_or(&[], |shared| &encoder.shared[shared as usize].encoded));
            let Some(&at) = wanted.get(&id[..]) else { continue };
            found[at] = true;
            by_reason.entry(items[at].reason).or_insert_with(|| (&items[at], Vec::new())).1.push(position);
        }
        all.extend(by_reason.into_values().map(|(named, positions)| Refused {
            record: input.record,
            value: ((positions.len() as u64) < input.items).then(|| pick(&input.value, &positions)),
            items: positions.len() as u64,
            reason: named.reason,
            error: named.error.to_string(),
        }));
    }
    buffers::give(encoder.buffer);
    wanted.into_values().all(|at| found[at]).then_some(all)
}

fn id(labels: &[u8], raw: &[u8]) -> Vec<u8> {
    let mut id = Vec::with_capacity(labels.len() + 1 + raw.len());
    put_id(&mut id, labels);
    id.extend_from_slice(raw);
    id
}

/// The beginning of what an entry is found by, before its bytes.
fn put_id(id: &mut Vec<u8>, labels: &[u8]) {
    id.clear();
    id.extend_from_slice(labels);
    id.push(0);
}

fn children<'r>(message: &'r [u8], number: u32) -> impl Iterator<Item = &'r [u8]> {
    Fields::new(message).filter(move |field| field.key == key(number, LEN)).map(|field: Field<'r>| field.value)
}

/// All that a request holds, as [`super::write`] wrote it.
fn streams(request: &[u8]) -> Option<Vec<Stream<'_>>> {
    let stream = |message| {
        let labels: &[u8] = children(message, 1).next()?;
        let name = name(std::str::from_utf8(labels).ok()?)?;
        Some(Stream { labels, name, entries: children(message, 2).map(Entry::read).collect(), is_told_of: false })
    };
    children(request, 1).map(stream).collect()
}

impl<'r> Entry<'r> {
    fn read(raw: &'r [u8]) -> Self {
        let mut entry = Self { raw, ..Self::default() };
        for time in children(raw, 1) {
            entry.time = varint(time, 1).saturating_mul(NANOS).saturating_add(varint(time, 2));
        }
        for line in children(raw, 2) {
            entry.line = line.len();
        }
        for pair in children(raw, 3) {
            let [name, value] = [1, 2].map(|number| children(pair, number).next().unwrap_or_default());
            entry.metadata_pairs += 1;
            entry.metadata_bytes += if name == NOT_COUNTED { 0 } else { name.len() + value.len() };
        }
        entry
    }

    fn has(&self, mark: Mark) -> bool {
        match mark {
            Mark::All => true,
            Mark::Second(second) => self.time / NANOS == second,
            Mark::Line(bytes) => self.line == bytes,
            Mark::MetadataBytes(bytes) => self.metadata_bytes == bytes,
            Mark::MetadataPairs(pairs) => self.metadata_pairs == pairs,
        }
    }
}

/// A number of a message; 0 where it is not there.
fn varint(message: &[u8], number: u32) -> u64 {
    let mut reader = Reader::new(message);
    while let Ok(found) = reader.key() {
        let Ok(value) = reader.varint() else { break };
        if found == key(number, 0) {
            return value;
        }
    }
    0
}
