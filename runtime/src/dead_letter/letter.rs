//! A dead letter as operators see it.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use afflux_bus::{Headers, PartitionId, Received, Record};
use afflux_schemas::topics::{HEADER_ATTEMPTS, HEADER_CLUSTER, HEADER_REPLAY_TO, HEADER_SOURCE_CLUSTER};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{
    HEADER_COMPONENT, HEADER_DEAD_ATTEMPTS, HEADER_ERROR, HEADER_OFFSET, HEADER_PARTITION, HEADER_REASON,
    HEADER_RESOLUTION, HEADER_RESOLVES, HEADER_TIME, HEADER_TIMESTAMP, HEADER_TOPIC, HEADER_VALUE_BYTES, number,
    original,
};

/// Where a dead letter lies on the dead-letter topic: `PARTITION:OFFSET`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LetterId {
    /// Partition of the dead-letter topic.
    pub partition: u32,
    /// Offset in it.
    pub offset: u64,
}

impl fmt::Display for LetterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.partition, self.offset)
    }
}

impl FromStr for LetterId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.split_once(':').and_then(|(partition, offset)| {
            Some(Self { partition: partition.parse().ok()?, offset: offset.parse().ok()? })
        });
        parsed.ok_or_else(|| format!("`{text}` is no id of a dead letter; write PARTITION:OFFSET, such as 0:42"))
    }
}

impl Serialize for LetterId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for LetterId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// What became of a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Nothing yet.
    Open,
    /// It went back to its topic.
    Replayed,
    /// Nobody wants it any more.
    Dropped,
}

impl State {
    /// As in headers and on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Replayed => "replayed",
            Self::Dropped => "dropped",
        }
    }
}

/// What is known of a dead letter without its value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Letter {
    /// Where it lies.
    pub id: LetterId,
    /// What became of it.
    pub state: State,
    /// When it was refused, in milliseconds since the Unix epoch; `None` of letters that do not say.
    pub time_ms: Option<i64>,
    /// The component that refused it.
    pub component: String,
    /// Why, as one fixed word.
    pub reason: String,
    /// Why, in full.
    pub error: String,
    /// How often the component has tried.
    pub attempts: u32,
    /// Topic that it was read from.
    pub topic: String,
    /// Partition that it was read from.
    pub partition: u32,
    /// Offset that it was read at.
    pub offset: u64,
    /// Cluster that its header names.
    pub cluster: Option<String>,
    /// Time of the record itself, in milliseconds since the Unix epoch.
    pub timestamp_ms: i64,
    /// Bytes of the value; of one that was left out as well.
    pub bytes: u64,
    /// Whether the value was too large to be kept, so that it is only where it was read, if there.
    pub left_out: bool,
}

impl Letter {
    /// Reads the headers; `None` where the record is no dead letter.
    pub fn of(record: &Received) -> Option<Self> {
        let headers = &record.headers;
        if headers.get(HEADER_RESOLVES).is_some() {
            return None;
        }
        let text = |name| headers.get(name).map(|value| String::from_utf8_lossy(value).into_owned());
        let left_out = number(headers, HEADER_VALUE_BYTES);
        let kept = record.value.as_ref().map_or(0, Bytes::len) as u64;
        Some(Self {
            id: LetterId { partition: record.from.partition, offset: record.offset },
            state: State::Open,
            time_ms: number(headers, HEADER_TIME),
            component: text(HEADER_COMPONENT)?,
            reason: text(HEADER_REASON).unwrap_or_default(),
            error: text(HEADER_ERROR).unwrap_or_default(),
            attempts: number(headers, HEADER_DEAD_ATTEMPTS).unwrap_or(1),
            topic: text(HEADER_TOPIC)?,
            partition: number(headers, HEADER_PARTITION)?,
            offset: number(headers, HEADER_OFFSET)?,
            cluster: [HEADER_CLUSTER, HEADER_SOURCE_CLUSTER]
                .into_iter()
                .find_map(|name| text(name).filter(|name| !name.is_empty())),
            timestamp_ms: number(headers, HEADER_TIMESTAMP).unwrap_or(record.timestamp_ms),
            bytes: left_out.unwrap_or(kept),
            left_out: left_out.is_some(),
        })
    }

    /// The original record, bound for a partition of its topic and for the component that refused it.
    pub(super) fn replayed(&self, original_record: Received, partition: u32) -> Record {
        let mut headers = original(&original_record.headers);
        headers.push(HEADER_REPLAY_TO, self.component.clone());
        headers.push(HEADER_ATTEMPTS, self.attempts.to_string());
        Record {
            to: PartitionId::new(self.topic.as_str(), partition),
            key: original_record.key,
            value: original_record.value,
            timestamp_ms: self.timestamp_ms,
            headers,
        }
    }
}

/// The record that says what became of a dead letter.
pub(super) fn resolution(topic: &Arc<str>, id: LetterId, state: State, time_ms: i64) -> Record {
    let mut headers = Headers::new();
    headers.push(HEADER_RESOLVES, id.to_string());
    headers.push(HEADER_RESOLUTION, state.as_str());
    headers.push(HEADER_TIME, time_ms.to_string());
    Record {
        to: PartitionId { topic: Arc::clone(topic), partition: id.partition },
        key: None,
        // Not a tombstone.
        value: Some(Bytes::new()),
        timestamp_ms: time_ms,
        headers,
    }
}

/// Which dead letter a record resolves, and how.
pub(super) fn resolved(record: &Received) -> Option<(LetterId, State)> {
    let text = |name| std::str::from_utf8(record.headers.get(name)?).ok();
    let state = match text(HEADER_RESOLUTION)? {
        "dropped" => State::Dropped,
        // One of a later version has settled it somehow.
        _ => State::Replayed,
    };
    Some((text(HEADER_RESOLVES)?.parse().ok()?, state))
}

/// A dead letter with everything that it holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    /// What its headers say.
    pub letter: Letter,
    /// The key, in hexadecimal digits.
    pub key: Option<String>,
    /// All headers, in order, values in hexadecimal digits.
    pub headers: Vec<(String, String)>,
    /// The value, in hexadecimal digits; `None` is a tombstone.
    pub value: Option<String>,
}

impl Shown {
    pub(super) fn new(letter: Letter, record: &Received) -> Self {
        Self {
            letter,
            key: record.key.as_deref().map(hex),
            headers: record.headers.0.iter().map(|(name, value)| (name.to_string(), hex(value))).collect(),
            value: record.value.as_deref().map(hex),
        }
    }

    /// The bytes of one of the texts; `None` where it is no hexadecimal number.
    pub fn bytes(hex: &str) -> Option<Vec<u8>> {
        let digit = |byte: u8| (byte as char).to_digit(16);
        let byte = |pair: &[u8]| Some((digit(pair[0])? << 4 | digit(*pair.get(1)?)?) as u8);
        hex.as_bytes().chunks(2).map(byte).collect()
    }
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = |byte: &u8| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]];
    bytes.iter().flat_map(digits).map(char::from).collect()
}
