//! Dead letters: what can never be delivered, kept with its reason (D7).

use std::sync::Arc;

use afflux_bus::{Headers, PartitionId, Received, Record};
use bytes::Bytes;

/// Topic that the record was read from.
pub const HEADER_TOPIC: &str = "afflux-dead-letter-topic";
/// Partition that the record was read from, in decimal digits.
pub const HEADER_PARTITION: &str = "afflux-dead-letter-partition";
/// Offset of the record, in decimal digits.
pub const HEADER_OFFSET: &str = "afflux-dead-letter-offset";
/// The component that refused it.
pub const HEADER_COMPONENT: &str = "afflux-dead-letter-component";
/// Why, as one fixed word.
pub const HEADER_REASON: &str = "afflux-dead-letter-reason";
/// Why, in full.
pub const HEADER_ERROR: &str = "afflux-dead-letter-error";

/// Bytes of a value that is left out because the dead letter would be too large for the bus.
pub const HEADER_VALUE_BYTES: &str = "afflux-dead-letter-value-bytes";

/// What the names of a dead letter's own headers begin with.
const OWN: &str = "afflux-dead-letter-";
/// What the names of all headers of ours begin with.
const OURS: &str = "afflux-";
/// Bytes of a header's value that a shortened dead letter keeps at most.
const SHORT: usize = 1024;

/// Leaves the value and whatever is foreign or long in the headers of a dead letter out, so that even one of a record as large as the bus
/// allows fits: the position that it names is where the record lies. Says whether there was anything to leave out.
pub fn shorten(letter: &mut Record) -> bool {
    if letter.headers.get(HEADER_VALUE_BYTES).is_some() {
        return false;
    }
    let bytes = letter.value.as_ref().map_or(0, Bytes::len);
    letter.key = None;
    // Not a tombstone.
    letter.value = Some(Bytes::new());
    letter.headers.0.retain(|(name, value)| name.starts_with(OURS) && name.len() + value.len() <= SHORT);
    letter.headers.push(HEADER_VALUE_BYTES, bytes.to_string());
    true
}

/// The partition that a dead letter names as its source.
pub fn source(headers: &Headers) -> Option<PartitionId> {
    let text = |name| std::str::from_utf8(headers.get(name)?).ok();
    Some(PartitionId::new(text(HEADER_TOPIC)?, text(HEADER_PARTITION)?.parse().ok()?))
}

/// The dead letter of a record: its original bytes, key, headers and time, plus where it came from and why.
///
/// `topic` is the full name of the dead-letter topic, which has `partitions` partitions.
pub fn dead_letter(
    record: &Received,
    topic: Arc<str>,
    partitions: u32,
    component: &'static str,
    reason: &'static str,
    error: &str,
) -> Record {
    let mut headers = record.headers.clone();
    // What says that it is of a dead letter was this one's before, or a stranger's.
    headers.0.retain(|(name, _)| !name.starts_with(OWN));
    headers.push(HEADER_TOPIC, Bytes::copy_from_slice(record.from.topic.as_bytes()));
    headers.push(HEADER_PARTITION, record.from.partition.to_string());
    headers.push(HEADER_OFFSET, record.offset.to_string());
    headers.push(HEADER_COMPONENT, component);
    headers.push(HEADER_REASON, reason);
    headers.push(HEADER_ERROR, error.to_owned());
    Record {
        to: PartitionId { topic, partition: record.from.partition % partitions },
        key: record.key.clone(),
        value: record.value.clone(),
        timestamp_ms: record.timestamp_ms,
        headers,
    }
}
