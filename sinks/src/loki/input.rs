//! The records of a batch as they are encoded: valid requests, and what their headers say.

use afflux_bus::Received;
use afflux_runtime::delivery::{Batch, Encoded, Refused};
use afflux_schemas::otlp::{canonical, validate};
use afflux_schemas::topics::{HEADER_CLUSTER, HEADER_SOURCE_CLUSTER};
use bytes::Bytes;

/// A record that can be encoded.
#[derive(Clone, Debug)]
pub(super) struct Input<'b> {
    /// Which one of the batch it is.
    pub(super) record: usize,
    /// A valid log request in canonical form.
    pub(super) value: Bytes,
    /// Its cluster, where a header says so.
    pub(super) cluster: Option<&'b str>,
    /// Its cluster, where neither that nor a resource says so.
    pub(super) fallback_cluster: Option<&'b str>,
    /// When it was written to the bus, in nanoseconds since the Unix epoch: the time of log records that have none.
    pub(super) time: u64,
    /// Log records in it.
    pub(super) items: u64,
}

/// The records that can be encoded. Those without a value are dropped, those that are no requests refused.
pub(super) fn inputs<'b, R>(batch: &'b Batch, encoded: &mut Encoded<R>) -> Vec<Input<'b>> {
    let mut inputs = Vec::with_capacity(batch.records.len());
    for (i, record) in batch.records.iter().enumerate() {
        match request(record) {
            Some(Ok((value, items))) => inputs.push(Input {
                record: i,
                value,
                cluster: header(record, HEADER_CLUSTER),
                fallback_cluster: header(record, HEADER_SOURCE_CLUSTER),
                time: u64::try_from(record.timestamp_ms).unwrap_or_default().saturating_mul(1_000_000),
                items,
            }),
            Some(Err(error)) => {
                let items = afflux_runtime::dead_letter::items(&record.headers);
                encoded.refused.push(Refused {
                    record: i,
                    value: None,
                    items,
                    reason: "malformed",
                    error: error.to_string(),
                });
            }
            None => encoded.dropped.push(("empty", 1)),
        }
    }
    inputs
}

/// The request that a record holds, and its log records.
fn request(record: &Received) -> Option<Result<(Bytes, u64), validate::Malformed>> {
    let value = record.value.as_ref()?;
    let request = || {
        let checked = validate::logs(value)?;
        let value = if checked.canonical { value.clone() } else { canonical::logs(value)? };
        Ok((value, checked.items))
    };
    Some(request())
}

fn header<'r>(record: &'r Received, name: &str) -> Option<&'r str> {
    std::str::from_utf8(record.headers.get(name)?).ok().filter(|value| !value.is_empty())
}
