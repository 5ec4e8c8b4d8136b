//! What is posted to Loki.

use std::sync::Arc;

use bytes::Bytes;

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LokiRequest {
    /// The body: protobuf, of Loki's own push API in snappy.
    pub body: Bytes,
    /// Whose entries they are.
    pub tenant: Option<Arc<str>>,
    /// Of a backfill, which shard it belongs to.
    pub shard: Option<String>,
    /// Entries in it.
    pub entries: u64,
    /// Time of the oldest of them, nanoseconds since the Unix epoch, where none of them was late when it was made.
    pub oldest: Option<u64>,
}

/// The shard of a time, given the bucket that it lies in: the bucket's beginning in seconds since the Unix epoch.
///
/// The same whoever sends it and whenever, so that Loki knows an entry that is backfilled again.
pub(super) fn shard(bucket: u64, bucket_nanos: u64) -> String {
    format!("afflux-{}", bucket * (bucket_nanos / 1_000_000_000))
}
