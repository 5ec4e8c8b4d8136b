//! Dead letters: what can never be delivered, kept with its reason (D7).
//!
//! A dead letter is the refused record with headers that tell where it came from and why it was refused. What becomes
//! of it later, a *resolution*, is another record behind it in the same partition. [`DeadLetters`] is the
//! operator's side.

mod desk;
mod letter;
mod replay;
mod select;

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use afflux_bus::{Headers, PartitionId, Received, Record};
use afflux_schemas::topics::{
    HEADER_ATTEMPTS, HEADER_CLUSTER, HEADER_ENCODING, HEADER_ITEMS, HEADER_ORIGIN, HEADER_REPLAY_TO, HEADER_SOURCE,
    HEADER_SOURCE_CLUSTER, HEADER_TENANT,
};
use bytes::Bytes;

pub use desk::{DeadLetters, DeskError, Entry, Summary};
pub use letter::{Letter, LetterId, Shown, State};
pub use replay::Act;
pub use select::Selection;

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

/// Time of the refused record, in milliseconds since the Unix epoch. The dead letter's own is that of the refusal, so
/// that retention keeps one of an old record as long as any.
pub const HEADER_TIMESTAMP: &str = "afflux-dead-letter-timestamp";
/// When it was refused, in milliseconds since the Unix epoch.
pub const HEADER_TIME: &str = "afflux-dead-letter-time";
/// How often the component has tried: 1, and one more with every replay.
pub const HEADER_DEAD_ATTEMPTS: &str = "afflux-dead-letter-attempts";

/// On a record of the dead-letter topic that is no dead letter but says what became of one: its `PARTITION:OFFSET`.
pub const HEADER_RESOLVES: &str = "afflux-dead-letter-resolves";
/// What became of it: a *resolution*.
pub const HEADER_RESOLUTION: &str = "afflux-dead-letter-resolution";

/// Bytes of a value that is left out because the dead letter would be too large for the bus.
pub const HEADER_VALUE_BYTES: &str = "afflux-dead-letter-value-bytes";

/// What the names of a dead letter's own headers begin with.
const OWN: &str = "afflux-dead-letter-";
/// Headers that a shortened dead letter keeps.
const KEPT: [&str; 16] = [
    HEADER_ENCODING,
    HEADER_DEAD_ATTEMPTS,
    HEADER_CLUSTER,
    HEADER_TENANT,
    HEADER_ITEMS,
    HEADER_SOURCE,
    HEADER_SOURCE_CLUSTER,
    HEADER_ORIGIN,
    HEADER_TOPIC,
    HEADER_PARTITION,
    HEADER_OFFSET,
    HEADER_COMPONENT,
    HEADER_REASON,
    HEADER_ERROR,
    HEADER_TIME,
    HEADER_TIMESTAMP,
];
/// Bytes of a header's value that it keeps at most.
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
    // Once each, and no more than that: strangers may call theirs like ours, as often as they like.
    let kept = KEPT.iter().filter_map(|name| {
        let value = letter.headers.get(name)?;
        Some((Arc::from(*name), value.slice(..value.len().min(SHORT))))
    });
    letter.headers = Headers(kept.collect());
    letter.headers.push(HEADER_VALUE_BYTES, bytes.to_string());
    true
}

/// The partition that a dead letter names as its source.
pub fn source(headers: &Headers) -> Option<PartitionId> {
    let text = |name| std::str::from_utf8(headers.get(name)?).ok();
    Some(PartitionId::new(text(HEADER_TOPIC)?, text(HEADER_PARTITION)?.parse().ok()?))
}

/// Why a component refuses a record.
#[derive(Clone, Copy, Debug)]
pub struct Refusal<'a> {
    /// Name of the component.
    pub component: &'a str,
    /// One fixed word.
    pub reason: &'a str,
    /// In full.
    pub error: &'a str,
    /// When, in milliseconds since the Unix epoch.
    pub time_ms: i64,
}

/// The dead letter of a record: its original bytes, key, headers and time, plus where it came from and why.
///
/// `topic` is the full name of the dead-letter topic, which has `partitions` partitions.
pub fn dead_letter(record: &Received, topic: Arc<str>, partitions: u32, refusal: Refusal<'_>) -> Record {
    let attempts = attempts(&record.headers).saturating_add(1);
    let mut headers = original(&record.headers);
    headers.push(HEADER_TOPIC, Bytes::copy_from_slice(record.from.topic.as_bytes()));
    headers.push(HEADER_PARTITION, record.from.partition.to_string());
    headers.push(HEADER_OFFSET, record.offset.to_string());
    headers.push(HEADER_COMPONENT, refusal.component.to_owned());
    headers.push(HEADER_REASON, refusal.reason.to_owned());
    headers.push(HEADER_ERROR, refusal.error.to_owned());
    headers.push(HEADER_TIMESTAMP, record.timestamp_ms.to_string());
    headers.push(HEADER_TIME, refusal.time_ms.to_string());
    headers.push(HEADER_DEAD_ATTEMPTS, attempts.to_string());
    Record {
        to: PartitionId { topic, partition: record.from.partition % partitions },
        key: record.key.clone(),
        value: record.value.clone(),
        timestamp_ms: refusal.time_ms,
        headers,
    }
}

/// How often a component has already tried a record with these headers.
pub fn attempts(headers: &Headers) -> u32 {
    number(headers, HEADER_ATTEMPTS).unwrap_or(0)
}

/// Whether a record is a replay for another component than this one, which settles it without effect.
pub fn is_for_another(headers: &Headers, component: &str) -> bool {
    headers.get(HEADER_REPLAY_TO).is_some_and(|to| to != component)
}

/// Spans or log records of a record that is not decoded, as far as its header says.
pub fn items(headers: &Headers) -> u64 {
    number(headers, HEADER_ITEMS).unwrap_or(1)
}

/// Headers as they were before a record became a dead letter or a replay. What says that it is of one was the former
/// one's, or a stranger's.
fn original(headers: &Headers) -> Headers {
    let ours = |name: &str| name.starts_with(OWN) || [HEADER_REPLAY_TO, HEADER_ATTEMPTS].contains(&name);
    Headers(headers.0.iter().filter(|(name, _)| !ours(name)).cloned().collect())
}

/// A header of decimal digits.
fn number<T: std::str::FromStr>(headers: &Headers, name: &str) -> Option<T> {
    std::str::from_utf8(headers.get(name)?).ok()?.parse().ok()
}

/// Milliseconds since the Unix epoch.
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
