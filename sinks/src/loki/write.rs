//! Sorted entries as push requests.

use std::sync::Arc;

use afflux_schemas::wire::{len_field_size, put_len_field, put_len_header};
use bytes::Bytes;

use super::encode::Encoder;
use super::request::{LokiRequest, shard};
use super::streams::Entry;
use crate::buffers::{self, Snappy};

/// Numbers of fields: streams in a request, labels and entries in a stream.
const STREAMS: u32 = 1;
const LABELS: u32 = 1;
const ENTRIES: u32 = 2;

/// Requests that hold all entries: streams by their labels, and in each its entries by time. Where one would be larger
/// than the limit, the rest goes into the next.
///
/// What comes late goes into requests of one stream each: of what is too far behind, Loki tells for certain only where it is in
/// the last stream of a request, and no release knows backfills yet, in which nothing can be behind.
pub(super) fn requests(mut encoder: Encoder<'_>, tenant: Option<Arc<str>>) -> Vec<LokiRequest> {
    let ranks = encoder.streams.ranks();
    let mut entries = std::mem::take(&mut encoder.entries);
    let order = |entry: &Entry| (entry.bucket, entry.late, ranks[entry.stream as usize], entry.time);
    if !entries.is_sorted_by_key(order) {
        entries.sort_by_key(order);
    }
    let most = encoder.config.limits.max_request_size.as_usize();
    let writer = Writer { encoder: &encoder };
    let mut requests = Vec::new();
    let mut rest = &entries[..];
    while let Some(first) = rest.first() {
        let (now, later) = rest.split_at(writer.fitting(rest, most));
        requests.push(LokiRequest {
            body: writer.body(now),
            tenant: tenant.clone(),
            shard: first.bucket.map(|number| shard(number, encoder.bucket)),
            entries: now.len() as u64,
            oldest: now.iter().filter(|entry| entry.bucket.is_none() && !entry.late).map(|entry| entry.time).min(),
        });
        rest = later;
    }
    buffers::give(encoder.buffer);
    requests
}

struct Writer<'e, 'a> {
    encoder: &'e Encoder<'a>,
}

impl Writer<'_, '_> {
    /// Bytes of an entry.
    fn size(&self, entry: &Entry) -> usize {
        entry.len + entry.shared.map_or(0, |shared| self.encoder.shared[shared as usize].encoded.len())
    }

    /// How many entries, at least one, a request of `most` bytes holds that may be sent together.
    fn fitting(&self, entries: &[Entry], most: usize) -> usize {
        let first = &entries[0];
        let most_streams = match self.encoder.config.limits.max_streams_per_request as usize {
            _ if first.late || first.bucket.is_some() => 1,
            0 => usize::MAX,
            most => most,
        };
        let (mut bytes, mut stream, mut streams) = (0, None, 0);
        for (i, entry) in entries.iter().enumerate() {
            if stream != Some(entry.stream) {
                stream = Some(entry.stream);
                streams += 1;
                // With the headers of a stream and of its field.
                bytes += self.encoder.streams.all[entry.stream as usize].labels.len() + 16;
            }
            bytes += len_field_size(ENTRIES, self.size(entry));
            let goes_alone = entry.bucket != first.bucket || entry.late != first.late;
            if i > 0 && (bytes > most || streams > most_streams || goes_alone) {
                return i;
            }
        }
        entries.len()
    }

    fn body(&self, entries: &[Entry]) -> Bytes {
        let mut body = Snappy::new();
        for entries in entries.chunk_by(|a, b| a.stream == b.stream) {
            self.stream(&mut body, entries);
        }
        body.finish()
    }

    fn stream(&self, body: &mut Snappy, entries: &[Entry]) {
        let encoder = self.encoder;
        let labels = encoder.streams.all[entries[0].stream as usize].labels.as_bytes();
        let inner: usize = entries.iter().map(|entry| len_field_size(ENTRIES, self.size(entry))).sum();
        put_len_header(body.plain(), STREAMS, len_field_size(LABELS, labels.len()) + inner);
        put_len_field(body.plain(), LABELS, labels);
        for entry in entries {
            let plain = body.plain();
            put_len_header(plain, ENTRIES, self.size(entry));
            plain.extend_from_slice(&encoder.buffer[entry.start..entry.start + entry.len]);
            if let Some(shared) = entry.shared {
                plain.extend_from_slice(&encoder.shared[shared as usize].encoded);
            }
            body.work();
        }
    }
}
