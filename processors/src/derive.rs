//! From derived points to records on the metrics topic.
//!
//! A series is a cluster, a tenant, a metric and its labels. All metrics of one set of labels go to one partition, so
//! that each series is read by one [`crate::accumulate`] alone, and whatever a transaction derives for one partition of
//! one cluster and tenant shares a record.

use std::hash::BuildHasher;
use std::sync::Arc;

use afflux_bus::{Headers, PartitionId, Record};
use afflux_schemas::otlp::metrics::{Draft, Kind, Labels, Point, request};
use afflux_schemas::partition::java_partition;
use afflux_schemas::topics::{HEADER_CLUSTER, HEADER_ITEMS, HEADER_SOURCE, HEADER_TENANT};
use bytes::Bytes;
use hashbrown::{DefaultHashBuilder, HashTable};

use crate::chain::Envelope;
use crate::merge::TARGET_BYTES;

/// Name of the instrumentation scope of derived metrics.
pub const SCOPE: &str = "afflux";

/// Buffers that are kept for the next transaction at most: those of some metrics in some partitions. A buffer grows to
/// twice the size of a record at most.
const MOST_SPARE: usize = 16;

/// Whose series they are.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Owner {
    /// Cluster that the telemetry came from.
    pub cluster: Arc<str>,
    /// Tenant, where there is one.
    pub tenant: Option<Bytes>,
}

impl Owner {
    /// Whose telemetry an envelope holds.
    pub fn of(envelope: &Envelope) -> Self {
        let tenant = envelope.headers.get(HEADER_TENANT).filter(|tenant| !tenant.is_empty()).cloned();
        Self { cluster: envelope.cluster.clone(), tenant }
    }

    /// Whom limits of cardinality are for: each tenant; where there is none, each cluster.
    pub fn governed(&self) -> String {
        self.tenant.as_ref().map_or_else(|| self.cluster.to_string(), |t| String::from_utf8_lossy(t).into_owned())
    }
}

/// A metric's name, unit and kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetricName {
    /// As it is written.
    pub name: Arc<str>,
    /// May be empty.
    pub unit: &'static str,
    /// What its points are.
    pub kind: Kind,
}

/// Points derived since the last commit.
pub struct Derived {
    topic: Arc<str>,
    partitions: u32,
    target: usize,
    hasher: DefaultHashBuilder,
    open: HashTable<(Lane, Group)>,
    done: Vec<Record>,
    spare: Vec<Vec<u8>>,
}

impl Derived {
    /// Nothing yet; for a topic of so many partitions (at least 1), on a bus that takes records of so many bytes.
    pub fn new(topic: Arc<str>, partitions: u32, max_record_bytes: usize) -> Self {
        let target = TARGET_BYTES.min(max_record_bytes / 2);
        let (hasher, open) = (DefaultHashBuilder::default(), HashTable::new());
        Self { topic, partitions, target, hasher, open, done: Vec::new(), spare: Vec::new() }
    }

    /// Partition of the series with these labels.
    pub fn partition_of(&self, labels: &Labels) -> u32 {
        hash_of(labels) % self.partitions
    }

    /// Adds a point.
    pub fn add(&mut self, owner: &Owner, metric: &MetricName, labels: &Labels, point: &Point<'_>) {
        self.of(owner, labels, hash_of(labels)).add(metric, point);
    }

    /// Where points of all metrics of those labels are added; `hash` is theirs by [`hash_of`].
    pub fn of<'d>(&'d mut self, owner: &'d Owner, labels: &'d Labels, hash: u32) -> Place<'d> {
        let partition = hash % self.partitions;
        let Self { topic, target, hasher, open, done, spare, .. } = self;
        let hash = |owner: &Owner, partition: u32| hasher.hash_one((owner, partition));
        let same = |(lane, _): &(Lane, Group)| lane.partition == partition && lane.owner == *owner;
        let entry = open.entry(hash(owner, partition), same, |(lane, _)| hash(&lane.owner, lane.partition));
        let fresh = || (Lane { owner: owner.clone(), partition }, Group::default());
        let (_, group) = entry.or_insert_with(fresh).into_mut();
        Place { topic, target: *target, owner, partition, labels, group, done, spare }
    }

    /// Takes the records. `timestamp_ms` is the greatest of the records that they were made of, and `source` names these.
    pub fn take(&mut self, timestamp_ms: i64, source: &str) -> Vec<Record> {
        let mut open: Vec<_> = self.open.drain().collect();
        open.sort_by(|(a, _), (b, _)| a.cmp(b));
        for (Lane { owner, partition }, mut group) in open.into_iter().filter(|(_, group)| group.bytes > 0) {
            self.done.push(group.close(&self.topic, &owner, partition, &mut self.spare));
        }
        for record in &mut self.done {
            record.timestamp_ms = timestamp_ms;
            record.headers.push(HEADER_SOURCE, source.to_owned());
        }
        std::mem::take(&mut self.done)
    }
}

/// By what the partition of labels is chosen: it is the rest of this by the number of partitions, as Java clients of Kafka
/// do it.
pub fn hash_of(labels: &Labels) -> u32 {
    java_partition(labels.as_bytes(), 1 << 31)
}

/// What points must have in common to share a record.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Lane {
    owner: Owner,
    partition: u32,
}

/// Takes points of one set of labels.
pub struct Place<'d> {
    topic: &'d Arc<str>,
    target: usize,
    owner: &'d Owner,
    partition: u32,
    labels: &'d Labels,
    group: &'d mut Group,
    done: &'d mut Vec<Record>,
    spare: &'d mut Vec<Vec<u8>>,
}

impl Place<'_> {
    /// Adds a point.
    pub fn add(&mut self, metric: &MetricName, point: &Point<'_>) {
        let draft = self.group.draft(metric, self.spare);
        let before = draft.bytes();
        draft.add(self.labels, point);
        self.group.bytes += draft.bytes() - before;
        if self.group.bytes >= self.target {
            self.done.push(self.group.close(self.topic, self.owner, self.partition, self.spare));
        }
    }
}

/// The metrics of one owner in one partition.
#[derive(Default)]
struct Group {
    drafts: Vec<(MetricName, Draft)>,
    /// Of their points.
    bytes: usize,
}

impl Group {
    fn draft(&mut self, metric: &MetricName, spare: &mut Vec<Vec<u8>>) -> &mut Draft {
        let same = |(known, _): &(MetricName, Draft)| Arc::ptr_eq(&known.name, &metric.name) || known == metric;
        let at = self.drafts.iter().position(same).unwrap_or_else(|| {
            let buffer = spare.pop().unwrap_or_default();
            self.drafts.push((metric.clone(), Draft::within(&metric.name, metric.unit, metric.kind, buffer)));
            self.drafts.len() - 1
        });
        &mut self.drafts[at].1
    }

    /// The record of what there is, after which there is nothing.
    fn close(&mut self, topic: &Arc<str>, owner: &Owner, partition: u32, spare: &mut Vec<Vec<u8>>) -> Record {
        let record = record(topic, owner, partition, self.drafts.iter().map(|(_, draft)| draft));
        let room = MOST_SPARE.saturating_sub(spare.len());
        spare.extend(self.drafts.drain(..).take(room).map(|(_, draft)| draft.into_buffer()));
        self.bytes = 0;
        record
    }
}

/// Bytes of the `Resource` message of a cluster's series.
pub(crate) fn resource(cluster: &str) -> Vec<u8> {
    let labels = Labels::new([("k8s.cluster.name", cluster)]);
    let mut out = Vec::new();
    labels.messages().for_each(|message| afflux_schemas::wire::put_len_field(&mut out, 1, message));
    out
}

fn record<'d>(
    topic: &Arc<str>,
    owner: &Owner,
    partition: u32,
    drafts: impl Iterator<Item = &'d Draft> + Clone,
) -> Record {
    let items: u64 = drafts.clone().map(Draft::count).sum();
    let value = request(&resource(&owner.cluster), SCOPE, drafts);
    let mut headers = Headers::new();
    headers.push(HEADER_CLUSTER, Bytes::copy_from_slice(owner.cluster.as_bytes()));
    if let Some(tenant) = &owner.tenant {
        headers.push(HEADER_TENANT, tenant.clone());
    }
    headers.push(HEADER_ITEMS, items.to_string());
    let to = PartitionId { topic: topic.clone(), partition };
    Record { to, key: None, value: Some(value.into()), timestamp_ms: 0, headers }
}

#[cfg(test)]
mod tests;
