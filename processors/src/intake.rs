//! From a record on an ingest topic to envelopes: decoding, validation, identity and partition.

mod place;

use std::sync::Arc;

use afflux_bus::{Headers, Received};
use afflux_runtime::Signal;
use afflux_runtime::dead_letter::{self, now_ms};
use afflux_schemas::encoding::{Encoding, Undecodable};
use afflux_schemas::otlp::split::InvalidId;
use afflux_schemas::otlp::{canonical, split, validate};
use afflux_schemas::topics::{
    HEADER_ATTEMPTS, HEADER_CLUSTER, HEADER_ENCODING, HEADER_ITEMS, HEADER_REPLAY_TO, HEADER_SOURCE,
    HEADER_SOURCE_CLUSTER, mirror_source,
};
use bytes::Bytes;

use crate::chain::{Envelope, Route};
use crate::config::IngestTopic;
use place::Placed;

/// Why a record cannot become an envelope; it goes to the dead letters.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Refused {
    /// The value is not an OTLP export request.
    #[error("not an OTLP {signal} request: {reason}")]
    Malformed {
        /// What it should have held.
        signal: &'static str,
        /// Where decoding failed.
        reason: String,
    },
    /// The value is not of the encoding that is configured for its topic.
    #[error("not {signal} in {encoding}: {reason}")]
    Undecodable {
        /// What it should have held.
        signal: &'static str,
        /// The encoding's name.
        encoding: &'static str,
        /// Where decoding failed.
        reason: String,
    },
    /// Spans or log records without a valid id, of others: no backend would take them.
    #[error("{items} {signal} with an invalid id: {reason}")]
    Ids {
        /// What they are.
        signal: &'static str,
        /// How many they are.
        items: u64,
        /// What is wrong with the first.
        reason: InvalidId,
    },
    /// A tombstone, which has no meaning on these topics.
    #[error("record without a value")]
    Empty,
    /// A header that names a cluster is not UTF-8.
    #[error("header `{0}` is not UTF-8")]
    Cluster(&'static str),
}

impl Refused {
    /// A fixed word for metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Malformed { .. } | Self::Undecodable { .. } => "malformed",
            Self::Ids { .. } => "invalid_ids",
            Self::Empty => "empty",
            Self::Cluster(_) => "bad_cluster_header",
        }
    }
}

/// What of a record is refused while the rest of it is delivered.
#[derive(Debug, PartialEq, Eq)]
pub struct Leftover {
    /// A request of the same signal.
    pub value: Bytes,
    /// Why.
    pub refused: Refused,
}

/// A topic that is read, and what is known about its records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    topic: Arc<str>,
    /// What its records hold.
    pub signal: Signal,
    encoding: Encoding,
    cluster: Option<Arc<str>>,
    /// Whether others write it.
    foreign: bool,
}

impl Source {
    /// One of our ingest topics; also under the name that a mirror gives it, `SOURCE.topic`.
    pub fn own(topic: impl Into<Arc<str>>, signal: Signal) -> Self {
        Self { topic: topic.into(), signal, encoding: Encoding::OtlpProto, cluster: None, foreign: false }
    }

    /// A topic that others write.
    pub fn foreign(config: &IngestTopic) -> Self {
        Self {
            topic: config.topic.as_str().into(),
            signal: config.signal.into(),
            encoding: config.encoding.into(),
            cluster: config.cluster.as_deref().filter(|name| !name.is_empty()).map(Arc::from),
            foreign: true,
        }
    }

    /// Whether records of that topic are meant.
    pub fn is_of(&self, topic: &str) -> bool {
        *topic == *self.topic || (!self.foreign && mirror_source(topic, &self.topic).is_some())
    }
}

/// How far the clocks of those who write records may be ahead of ours, in milliseconds.
const AHEAD_MS: i64 = 60_000;

/// The time of a record, or hardly later than now.
///
/// Of a record from the future nothing is known but that its clock is wrong. Brokers refuse it beyond an hour, and whoever
/// takes its time for the present would wait for hours.
pub(crate) fn not_ahead(timestamp_ms: i64) -> i64 {
    timestamp_ms.min(now_ms().saturating_add(AHEAD_MS))
}

/// Headers that an envelope replaces by what it knows better, and those of a replay, which ends here.
const OWN_HEADERS: [&str; 7] = [
    HEADER_ENCODING,
    HEADER_CLUSTER,
    HEADER_SOURCE_CLUSTER,
    HEADER_ITEMS,
    HEADER_SOURCE,
    HEADER_REPLAY_TO,
    HEADER_ATTEMPTS,
];

/// Makes envelopes of one record, each of one cluster and bound for one of the `partitions`.
///
/// The cluster is what the record's header says; else the resource attribute `k8s.cluster.name`, per
/// resource; else the Kafka cluster that it was copied from; else what is configured for the topic; else the topic's source prefix (MirrorMaker 2 names a mirrored
/// topic `SOURCE.topic`); else `default_cluster`. Every record is validated, whoever wrote it: it is joined with others
/// by copying bytes, so that one malformed record would spoil its neighbours.
///
/// What our receivers wrote keeps its partition. Others spread batches as they like: their spans are split by trace
/// id, their log records by stream, as the receivers do. Items of theirs whose ids no backend would take are refused:
/// alone where the topic's encoding lets them stand alone, else with their record.
///
/// # Errors
/// [`Refused`] where the record is no valid request: nothing of it is delivered.
pub fn open(
    record: &Received,
    source: &Source,
    partitions: u32,
    default_cluster: &Arc<str>,
    mut deliver: impl FnMut(Envelope),
) -> Result<Option<Leftover>, Refused> {
    let value = record.value.clone().ok_or(Refused::Empty)?;
    let (value, items) = checked(decoded(value, source, &record.headers)?, source.signal)?;
    let mut placed = Placed::new(record, source, partitions);
    if let Some(cluster) = named(record, HEADER_CLUSTER)? {
        placed.add(value, items, &cluster);
    } else {
        let prefix = || mirror_source(&record.from.topic, &source.topic).map(Arc::from);
        let known = named(record, HEADER_SOURCE_CLUSTER)?.or_else(|| source.cluster.clone());
        let fallback = known.or_else(prefix).unwrap_or_else(|| default_cluster.clone());
        for group in split::by_cluster(&value) {
            let cluster = group.cluster.map_or_else(|| fallback.clone(), |name| name.as_str().into());
            placed.add(group.value, group.items, &cluster);
        }
    }
    let leftover = placed.leftover(source);
    if source.encoding != Encoding::OtlpProto
        && let Some(Leftover { refused, .. }) = leftover
    {
        return Err(refused);
    }
    let mut headers = record.headers.clone();
    headers.0.retain(|(name, _)| !OWN_HEADERS.contains(&&**name));
    let timestamp_ms = not_ahead(record.timestamp_ms);
    let attempts = dead_letter::attempts(&record.headers);
    for (partition, value, items, cluster) in placed.parts {
        let (signal, headers) = (source.signal, headers.clone());
        let route = Route { offset: record.offset, attempts, partition };
        deliver(Envelope { signal, value, items, cluster, timestamp_ms, headers, route });
    }
    Ok(leftover)
}

/// The cluster that a header names.
fn named(record: &Received, header: &'static str) -> Result<Option<Arc<str>>, Refused> {
    let name = record.headers.get(header).filter(|name| !name.is_empty());
    name.map(|name| std::str::from_utf8(name).map(Arc::from).map_err(|_| Refused::Cluster(header))).transpose()
}

fn decoded(value: Bytes, source: &Source, headers: &Headers) -> Result<Bytes, Refused> {
    // What was too large after it was decoded comes back as it was then.
    if headers.get(HEADER_ENCODING).is_some_and(|encoding| encoding == Encoding::OtlpProto.as_str()) {
        return Ok(value);
    }
    let decoded = match source.signal {
        Signal::Spans => source.encoding.traces(&value),
        Signal::Logs | Signal::Events => source.encoding.logs(&value),
    };
    decoded.map_err(|error: Undecodable| Refused::Undecodable {
        signal: source.signal.as_str(),
        encoding: source.encoding.as_str(),
        reason: error.to_string(),
    })
}

fn checked(value: Bytes, signal: Signal) -> Result<(Bytes, u64), Refused> {
    let malformed = |e: validate::Malformed| Refused::Malformed { signal: signal.as_str(), reason: e.to_string() };
    let check = match signal {
        Signal::Spans => validate::traces(&value),
        Signal::Logs | Signal::Events => validate::logs(&value),
    }
    .map_err(malformed)?;
    if check.canonical {
        return Ok((value, check.items));
    }
    let value = match signal {
        Signal::Spans => canonical::traces(&value),
        Signal::Logs | Signal::Events => canonical::logs(&value),
    }
    .map_err(malformed)?;
    Ok((value, check.items))
}

#[cfg(test)]
mod tests;
