//! From a record on an ingest topic to envelopes: validation of foreign records, and identity.

use std::sync::Arc;

use afflux_bus::Received;
use afflux_runtime::Signal;
use afflux_schemas::otlp::{canonical, split, validate};
use afflux_schemas::topics::{HEADER_ATTEMPTS, HEADER_CLUSTER, HEADER_ITEMS, HEADER_REPLAY_TO, HEADER_SOURCE};
use bytes::Bytes;

use crate::chain::Envelope;

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
    /// A tombstone, which has no meaning on these topics.
    #[error("record without a value")]
    Empty,
    /// The cluster header is not UTF-8.
    #[error("header `{HEADER_CLUSTER}` is not UTF-8")]
    Cluster,
}

impl Refused {
    /// A fixed word for metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Malformed { .. } => "malformed",
            Self::Empty => "empty",
            Self::Cluster => "bad_cluster_header",
        }
    }
}

/// Headers that an envelope replaces by what it knows better, and those of a replay, which ends here.
const OWN_HEADERS: [&str; 5] = [HEADER_CLUSTER, HEADER_ITEMS, HEADER_SOURCE, HEADER_REPLAY_TO, HEADER_ATTEMPTS];

/// Makes envelopes of one record, each of one cluster.
///
/// The cluster is what the record's header says; else the resource attribute `k8s.cluster.name`, per
/// resource; else the topic's source prefix (MirrorMaker 2 names a mirrored topic `SOURCE.topic`); else
/// `default_cluster`. Every record is validated, whoever wrote it: it is joined with others by copying bytes, so that
/// one malformed record would spoil its neighbours.
///
/// # Errors
/// [`Refused`] where the record is no valid request: nothing of it is delivered.
pub fn open(
    record: &Received,
    signal: Signal,
    base_topic: &str,
    default_cluster: &Arc<str>,
    mut deliver: impl FnMut(Envelope),
) -> Result<(), Refused> {
    let value = record.value.clone().ok_or(Refused::Empty)?;
    let (value, items) = checked(value, signal)?;
    let mut headers = record.headers.clone();
    headers.0.retain(|(name, _)| !OWN_HEADERS.contains(&&**name));
    let mut envelope = |value, items, cluster| {
        let headers = headers.clone();
        deliver(Envelope { signal, value, items, cluster, timestamp_ms: record.timestamp_ms, headers });
    };
    if let Some(name) = record.headers.get(HEADER_CLUSTER).filter(|name| !name.is_empty()) {
        let cluster = std::str::from_utf8(name).map_err(|_| Refused::Cluster)?;
        envelope(value, items, cluster.into());
        return Ok(());
    }
    let fallback = source_prefix(&record.from.topic, base_topic).map_or_else(|| default_cluster.clone(), Arc::from);
    for group in split::by_cluster(&value) {
        let cluster = group.cluster.map_or_else(|| fallback.clone(), |name| name.as_str().into());
        envelope(group.value, group.items, cluster);
    }
    Ok(())
}

/// The cluster named by a mirrored topic: `SOURCE` of `SOURCE.base`.
fn source_prefix<'t>(topic: &'t str, base: &str) -> Option<&'t str> {
    topic.strip_suffix(base)?.strip_suffix('.').filter(|source| !source.is_empty())
}

fn checked(value: Bytes, signal: Signal) -> Result<(Bytes, u64), Refused> {
    let malformed = |e: validate::Malformed| Refused::Malformed { signal: signal.as_str(), reason: e.to_string() };
    let check = match signal {
        Signal::Spans => validate::traces(&value),
        Signal::Logs => validate::logs(&value),
    }
    .map_err(malformed)?;
    if check.canonical {
        return Ok((value, check.items));
    }
    let value = match signal {
        Signal::Spans => canonical::traces(&value),
        Signal::Logs => canonical::logs(&value),
    }
    .map_err(malformed)?;
    Ok((value, check.items))
}

#[cfg(test)]
mod tests;
