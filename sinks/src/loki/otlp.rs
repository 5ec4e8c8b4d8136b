//! Batches as they are, for Loki's OTLP endpoint.
//!
//! Loki chooses labels and applies its limits. Two things are added where they are missing, so that entries are a function
//! of their records: the cluster that a header names, and the time of log records that have none, which Loki would give
//! the present.

use std::collections::BTreeMap;
use std::sync::Arc;

use afflux_runtime::delivery::{Batch, Encoded};
use afflux_schemas::otlp::common::ResourceView;
use afflux_schemas::otlp::logs::{LogRecordView, LogsView};
use afflux_schemas::otlp::rewrite::{Rewrite, rewrite};
use afflux_schemas::wire::{put_fixed64_field, put_len_field, put_len_header};
use bytes::Bytes;

use super::config::LokiConfig;
use super::input::{Input, inputs};
use super::pick::pick;
use super::request::{LokiRequest, shard};

const CLUSTER: &str = "k8s.cluster.name";
/// Number of the field of attributes in a resource.
const ATTRIBUTES: u32 = 1;
/// Number of the field of the time in a log record.
const TIME: u32 = 1;

/// Makes the requests of a batch, at a time in nanoseconds since the Unix epoch, which decides what is sent as a backfill.
pub(super) fn encode(config: &LokiConfig, batch: &Batch, now: u64) -> Encoded<LokiRequest> {
    let mut encoded = Encoded::default();
    let inputs = inputs(batch, &mut encoded);
    let most = config.limits.max_request_size.as_usize();
    // By shard, in whose order they are sent; what is not old comes first.
    let mut shards = BTreeMap::<Option<u64>, Vec<(Bytes, u64)>>::new();
    let nanos = |period: afflux_runtime::config::Period| u64::try_from(period.0.as_nanos()).unwrap_or(u64::MAX);
    let (before, bucket) = (now.saturating_sub(nanos(config.backfill.after)), nanos(config.backfill.bucket).max(1));
    for input in &inputs {
        let value = completed(input);
        if batch.replay && config.backfill.enabled {
            for (shard, items) in by_bucket(&value, before, bucket) {
                shards.entry(shard).or_default().push((pick(&value, &items), items.len() as u64));
            }
        } else {
            shards.entry(None).or_default().push((value, input.items));
        }
    }
    for (number, parts) in shards {
        let name = number.map(|number| shard(number, bucket));
        let mut rest = &parts[..];
        while !rest.is_empty() {
            let (now, later) = rest.split_at(fitting(rest, most));
            encoded.requests.extend(request(now, batch.tenant.clone(), name.clone()));
            rest = later;
        }
    }
    encoded
}

/// How many parts, at least one, make a request of `most` bytes.
fn fitting(parts: &[(Bytes, u64)], most: usize) -> usize {
    let mut bytes = 0;
    let fits = |(part, _): &&(Bytes, u64)| {
        bytes += part.len();
        bytes <= most
    };
    parts.iter().take_while(fits).count().max(1)
}

fn request(parts: &[(Bytes, u64)], tenant: Option<Arc<str>>, shard: Option<String>) -> Option<LokiRequest> {
    let entries = parts.iter().map(|(_, items)| items).sum();
    let body = match parts {
        [(one, _)] => one.clone(),
        parts => afflux_schemas::otlp::concat(parts.iter().map(|(part, _)| &part[..])),
    };
    (entries > 0).then_some(LokiRequest { body, tenant, shard, entries, oldest: None })
}

/// Positions of log records by the bucket of those that are old.
fn by_bucket(value: &[u8], before: u64, bucket: u64) -> BTreeMap<Option<u64>, Vec<u64>> {
    let mut buckets = BTreeMap::<_, Vec<u64>>::new();
    let scopes = LogsView::new(value).resource_logs().flat_map(|block| block.scope_logs());
    for (position, log) in (0..).zip(scopes.flat_map(|scope| scope.log_records())) {
        let time = match log.time_unix_nano() {
            0 => log.observed_time_unix_nano(),
            time => time,
        };
        buckets.entry((time < before).then(|| time / bucket)).or_default().push(position);
    }
    buckets
}

/// The request with what is missing.
fn completed(input: &Input<'_>) -> Bytes {
    let times = LogsView::new(&input.value).resource_logs().flat_map(|block| block.scope_logs());
    let mut times = times.flat_map(|scope| scope.log_records());
    let all_timed = times.all(|log| has_time(&log));
    let cluster = input.cluster.or(input.fallback_cluster);
    if all_timed {
        rewrite(&input.value, &mut Cluster(cluster))
    } else {
        rewrite(&input.value, &mut Completion { cluster, time: input.time })
    }
}

fn has_time(log: &LogRecordView<'_>) -> bool {
    log.time_unix_nano() != 0 || log.observed_time_unix_nano() != 0
}

/// Adds the cluster to resources.
struct Cluster<'c>(Option<&'c str>);

/// And the time to log records.
struct Completion<'c> {
    cluster: Option<&'c str>,
    time: u64,
}

impl Rewrite for Cluster<'_> {
    const ITEMS: bool = false;

    fn resource(&mut self, resource: ResourceView<'_>, out: &mut Vec<u8>) -> bool {
        let Some(cluster) = self.0 else { return false };
        if resource.attributes().any(|attribute| attribute.key_bytes() == CLUSTER.as_bytes()) {
            return false;
        }
        out.extend_from_slice(resource.raw());
        let mut value = Vec::with_capacity(cluster.len() + 4);
        put_len_field(&mut value, 1, cluster.as_bytes());
        let mut attribute = Vec::with_capacity(value.len() + CLUSTER.len() + 8);
        put_len_field(&mut attribute, 1, CLUSTER.as_bytes());
        put_len_field(&mut attribute, 2, &value);
        put_len_header(out, ATTRIBUTES, attribute.len());
        out.extend_from_slice(&attribute);
        true
    }

    fn item(&mut self, _: &[u8], _: &mut Vec<u8>) -> bool {
        false
    }
}

impl Rewrite for Completion<'_> {
    fn resource(&mut self, resource: ResourceView<'_>, out: &mut Vec<u8>) -> bool {
        Cluster(self.cluster).resource(resource, out)
    }

    fn item(&mut self, item: &[u8], out: &mut Vec<u8>) -> bool {
        if has_time(&LogRecordView::new(item)) {
            return false;
        }
        out.extend_from_slice(item);
        put_fixed64_field(out, TIME, self.time);
        true
    }
}
