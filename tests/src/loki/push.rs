//! Push requests as Loki decodes them.

use std::collections::BTreeMap;

use prost::Message;

/// What a request holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Push {
    pub(super) streams: Vec<PushStream>,
}

/// Entries of a stream.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct PushStream {
    /// The labels, or what is wrong with them.
    pub(super) labels: Result<Vec<(String, String)>, String>,
    pub(super) entries: Vec<PushEntry>,
}

/// An entry.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct PushEntry {
    /// Nanoseconds since the Unix epoch.
    pub(super) time: i64,
    pub(super) line: String,
    pub(super) metadata: Vec<(String, String)>,
}

#[derive(Clone, PartialEq, Message)]
struct Request {
    #[prost(message, repeated, tag = "1")]
    streams: Vec<Stream>,
}

#[derive(Clone, PartialEq, Message)]
struct Stream {
    #[prost(string, tag = "1")]
    labels: String,
    #[prost(message, repeated, tag = "2")]
    entries: Vec<Entry>,
}

#[derive(Clone, PartialEq, Message)]
struct Entry {
    #[prost(message, optional, tag = "1")]
    time: Option<Time>,
    #[prost(string, tag = "2")]
    line: String,
    #[prost(message, repeated, tag = "3")]
    metadata: Vec<Pair>,
}

#[derive(Clone, PartialEq, Message)]
struct Time {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

#[derive(Clone, PartialEq, Message)]
struct Pair {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

/// A request in protobuf.
pub(super) fn decode(bytes: &[u8]) -> Result<Push, String> {
    let request = Request::decode(bytes).map_err(|error| error.to_string())?;
    let entry = |entry: Entry| {
        let time = entry.time.unwrap_or_default();
        PushEntry {
            time: time.seconds.saturating_mul(1_000_000_000).saturating_add(time.nanos.into()),
            line: entry.line,
            metadata: entry.metadata.into_iter().map(|pair| (pair.name, pair.value)).collect(),
        }
    };
    let stream = |stream: Stream| PushStream {
        labels: super::selector::parse(&stream.labels),
        entries: stream.entries.into_iter().map(entry).collect(),
    };
    Ok(Push { streams: request.streams.into_iter().map(stream).collect() })
}

/// A request in JSON.
pub(super) fn decode_json(bytes: &[u8]) -> Result<Push, String> {
    let request: serde_json::Value = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let streams = request["streams"].as_array().ok_or("no streams")?;
    let pairs = |value: &serde_json::Value| -> Result<BTreeMap<String, String>, String> {
        serde_json::from_value(value.clone()).map_err(|error| error.to_string())
    };
    let entry = |value: &serde_json::Value| {
        let time = value[0].as_str().and_then(|time| time.parse().ok()).ok_or("a timestamp is no text of digits")?;
        let line = value[1].as_str().ok_or("a line is no text")?.to_owned();
        let metadata = value.get(2).map(pairs).transpose()?.unwrap_or_default().into_iter().collect();
        Ok(PushEntry { time, line, metadata })
    };
    let stream = |stream: &serde_json::Value| {
        let entries = stream["values"].as_array().ok_or("no values")?.iter().map(entry);
        let labels = pairs(&stream["stream"])?.into_iter().collect();
        Ok(PushStream { labels: Ok(labels), entries: entries.collect::<Result<_, String>>()? })
    };
    Ok(Push { streams: streams.iter().map(stream).collect::<Result<_, String>>()? })
}
