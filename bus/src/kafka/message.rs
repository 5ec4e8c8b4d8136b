//! From librdkafka's messages to records.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};

use crate::record::{Generation, Headers, PartitionId, Received};

/// Room for headers at first.
const HEADER_BYTES: usize = 64;
/// Names of headers that a thread remembers.
const KNOWN_NAMES: usize = 64;

/// A message as the bus delivers it, its generation still to be set.
pub(super) fn received(message: &BorrowedMessage<'_>, topic: Arc<str>) -> Received {
    let (key, value) = (message.key(), message.payload());
    // One copy of all its parts.
    let mut bytes = Vec::with_capacity(key.map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len) + HEADER_BYTES);
    let mut take = |part: Option<&[u8]>| {
        let start = bytes.len();
        bytes.extend_from_slice(part?);
        Some(start..bytes.len())
    };
    let (key, value) = (take(key), take(value));
    let mut headers = Headers::new();
    let mut places = Vec::new();
    if let Some(written) = message.headers() {
        for at in 0..written.count() {
            match catch_unwind(AssertUnwindSafe(|| written.get(at))) {
                Ok(header) => places.push((header_name(header.key), take(header.value))),
                // The client library panics at a name that is no text. It could not be passed on in any way.
                Err(_) => tracing::warn!(
                    topic = &*topic,
                    offset = message.offset(),
                    header = at,
                    "header whose name is no UTF-8 left out"
                ),
            }
        }
    }
    let bytes = Bytes::from(bytes);
    headers
        .0
        .extend(places.into_iter().map(|(name, place)| (name, place.map_or_else(Bytes::new, |at| bytes.slice(at)))));
    Received {
        from: PartitionId { topic, partition: u32::try_from(message.partition()).unwrap_or(0) },
        generation: Generation(0),
        offset: u64::try_from(message.offset()).unwrap_or(0),
        timestamp_ms: message.timestamp().to_millis().unwrap_or(0),
        key: key.map(|at| bytes.slice(at)),
        value: value.map(|at| bytes.slice(at)),
        headers,
    }
}

/// The name of a header. Those of one topic's records are few, and the same again and again.
fn header_name(name: &str) -> Arc<str> {
    thread_local! {
        static KNOWN: RefCell<Vec<Arc<str>>> = const { RefCell::new(Vec::new()) };
    }
    KNOWN.with_borrow_mut(|known| {
        if let Some(known) = known.iter().find(|known| ***known == *name) {
            return Arc::clone(known);
        }
        let name = Arc::from(name);
        if known.len() < KNOWN_NAMES {
            known.push(Arc::clone(&name));
        }
        name
    })
}
