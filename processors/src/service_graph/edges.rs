//! Edges counted since the last commit, as deltas.

use std::collections::BTreeMap;
use std::sync::Arc;

use afflux_schemas::otlp::metrics::{Exemplar, Kind, Labels, Point, Temporality, Value};
use bytes::Bytes;
use hashbrown::HashMap;

use super::step::BETWEEN;
use super::{Edge, GraphConfig};
use crate::chain::Tally;
use crate::derive::{Derived, MetricName, Owner};
use crate::span_metrics::cardinality::{self, Governor, OVERFLOW_LABEL, Ticket, Verdict};
use crate::span_metrics::sanitized;

/// Labels that every edge may have; those of dimensions come behind them.
const LABELS: [&str; 6] = ["client", "server", "connection_type", "virtual_node", "client_cluster", "server_cluster"];
/// Label sets that are remembered, as they come; beyond them all is forgotten at a commit, and found again.
const MOST_KNOWN: usize = 1 << 18;

/// Durations of the requests of one series.
#[derive(Clone, Debug, Default)]
struct Durations {
    counts: Vec<u64>,
    nanos: u128,
    exemplar: Option<Exemplar>,
}

/// What has been counted of one series in one time bucket.
#[derive(Clone, Debug, Default)]
struct Counted {
    requests: u64,
    failed: u64,
    /// Of the server, the client, and the message between them.
    durations: [Durations; 3],
}

/// A set of labels, within limits.
struct Series {
    owner: Owner,
    labels: Labels,
    ticket: Ticket,
    /// What limits have made of it, as a word for it.
    limited: Option<&'static str>,
}

/// Edges counted since the last commit.
pub(super) struct Edges {
    interval_nanos: u64,
    bounds: Vec<f64>,
    bounds_nanos: Vec<u64>,
    governor: Governor,
    series: Vec<Series>,
    /// Positions of the series that label sets have led to, as they came.
    known: HashMap<(Owner, Labels), usize>,
    now_ms: i64,
    counted: HashMap<(usize, u64), Counted>,
    requests: MetricName,
    failed: MetricName,
    /// Of servers, clients and messages.
    durations: [MetricName; 3],
}

impl Edges {
    pub(super) fn new(config: &GraphConfig) -> Self {
        let metric = |name: &str, kind| {
            let name = Arc::from(format!("traces_service_graph_request_{name}"));
            MetricName { name, unit: "", kind }
        };
        let dimensions = config.dimension_labels();
        let labels = LABELS.map(String::from).into_iter().chain(dimensions.iter().map(|name| sanitized(name)));
        let (sum, histogram) = (Kind::Sum(Temporality::Delta), Kind::Histogram(Temporality::Delta));
        Self {
            interval_nanos: u64::try_from(config.interval.0.as_nanos()).unwrap_or(u64::MAX),
            bounds: config.histogram_buckets.clone(),
            bounds_nanos: config.histogram_buckets.iter().map(|seconds| (seconds * 1e9).round() as u64).collect(),
            governor: Governor::new(config.cardinality.clone(), labels, None),
            series: Vec::new(),
            known: HashMap::new(),
            now_ms: 0,
            counted: HashMap::new(),
            requests: metric("total", sum),
            failed: metric("failed_total", sum),
            durations: ["server_seconds", "client_seconds", "messaging_system_seconds"].map(|n| metric(n, histogram)),
        }
    }

    /// Tells the time of a record that edges may come of.
    pub(super) fn tell_time(&mut self, now_ms: i64) {
        self.now_ms = self.now_ms.max(now_ms);
    }

    pub(super) fn add(&mut self, edge: Edge) {
        let (owner, [client_cluster, server_cluster]) = owner(&edge);
        let values = [
            &*edge.client,
            &*edge.server,
            edge.connection.as_str(),
            edge.virtual_node.map_or("", |side| side.as_str()),
            &*client_cluster,
            &*server_cluster,
        ];
        let dimensions = edge.dimensions.iter().map(|value| value.as_deref().unwrap_or_default());
        let values: Vec<&str> = values.into_iter().chain(dimensions).collect();
        let series = self.series_of(owner, &values);
        let time = edge.time_unix_nano - edge.time_unix_nano % self.interval_nanos;
        let counted = self.counted.entry((series, time)).or_default();
        counted.requests += edge.weight;
        counted.failed += if edge.failed { edge.weight } else { 0 };
        let measured = [edge.server_nanos, edge.client_nanos, edge.messaging_nanos];
        for (durations, nanos) in counted.durations.iter_mut().zip(measured) {
            let Some(nanos) = nanos else { continue };
            durations.counts.resize(self.bounds.len() + 1, 0);
            durations.counts[self.bounds_nanos.partition_point(|&bound| bound < nanos)] += edge.weight;
            durations.nanos += u128::from(nanos) * u128::from(edge.weight);
            durations.exemplar.get_or_insert(Exemplar {
                time_unix_nano: edge.time_unix_nano,
                value: nanos as f64 / 1e9,
                trace_id: edge.trace_id,
                span_id: [0; 8],
            });
        }
    }

    /// Position of the series of these values, by the order of the labels.
    fn series_of(&mut self, owner: Owner, values: &[&str]) -> usize {
        let named = |names: &[String], values: &[(usize, &str)]| {
            let filled = values.iter().filter(|(_, value)| !value.is_empty());
            Labels::new(filled.map(|(at, value)| (names[*at].as_str(), *value)))
        };
        let values: Vec<(usize, &str)> = values.iter().copied().enumerate().collect();
        let raw = (owner, named(self.governor.labels(), &values));
        if let Some(&known) = self.known.get(&raw) {
            return known;
        }
        let mut limited: Vec<(usize, String)> = values.iter().map(|(at, value)| (*at, (*value).to_owned())).collect();
        let verdict = self.governor.admit(&raw.0.governed(), &mut limited, self.now_ms);
        let word = cardinality::limited(&verdict, &limited);
        let limited: Vec<(usize, &str)> = limited.iter().map(|(at, value)| (*at, value.as_str())).collect();
        let labels = match verdict {
            Verdict::Own(_) => named(self.governor.labels(), &limited),
            Verdict::Overflow(_) => Labels::new([OVERFLOW_LABEL]),
        };
        self.series.push(Series { owner: raw.0.clone(), labels, ticket: verdict.ticket(), limited: word });
        self.known.insert(raw, self.series.len() - 1);
        self.series.len() - 1
    }

    /// Hands over what was counted. Several label sets may have become one, and the same input gives the same output.
    pub(super) fn close(&mut self, derived: &mut Derived, tally: &mut Tally) {
        let mut all: BTreeMap<(&Owner, &Labels, u64), Counted> = BTreeMap::new();
        let mut stale = self.known.len() > MOST_KNOWN;
        for ((at, time), counted) in self.counted.drain() {
            let Series { owner, labels, ticket, limited } = &self.series[at];
            if let Some(word) = limited {
                tally.note(word, counted.requests);
            }
            stale |= !self.governor.touch(*ticket, counted.requests, self.now_ms);
            match all.entry((owner, labels, time)) {
                std::collections::btree_map::Entry::Occupied(mut same) => same.get_mut().add(counted),
                std::collections::btree_map::Entry::Vacant(vacant) => drop(vacant.insert(counted)),
            }
        }
        for ((owner, labels, time), counted) in all {
            let time_unix_nano = time.saturating_add(self.interval_nanos);
            let mut add = |metric: &MetricName, value, exemplars: &[Exemplar]| {
                let point = Point {
                    start_time_unix_nano: time,
                    time_unix_nano,
                    value: Some(value),
                    exemplars,
                    ended_bounds: &[],
                };
                derived.add(owner, metric, labels, &point);
            };
            add(&self.requests, Value::Count(counted.requests), &[]);
            if counted.failed > 0 {
                add(&self.failed, Value::Count(counted.failed), &[]);
            }
            for (metric, durations) in self.durations.iter().zip(&counted.durations) {
                if !durations.counts.is_empty() {
                    let (sum, bounds) = (durations.nanos as f64 / 1e9, &self.bounds[..]);
                    let value = Value::Histogram { sum, bounds, counts: &durations.counts };
                    add(metric, value, durations.exemplar.as_slice());
                }
            }
        }
        if !self.governor.expire(self.now_ms).is_empty() || stale {
            self.known.clear();
            self.series.clear();
        }
    }
}

impl Counted {
    fn add(&mut self, other: Self) {
        self.requests += other.requests;
        self.failed += other.failed;
        for (durations, more) in self.durations.iter_mut().zip(other.durations) {
            durations.counts.resize(durations.counts.len().max(more.counts.len()), 0);
            durations.counts.iter_mut().zip(&more.counts).for_each(|(sum, count)| *sum += count);
            durations.nanos += more.nanos;
            durations.exemplar = durations.exemplar.or(more.exemplar);
        }
    }
}

/// Whose series an edge belongs to: the server's, where it is known. The clusters of both sides, where they differ, are
/// labels.
fn owner(edge: &Edge) -> (Owner, [Arc<str>; 2]) {
    let parts = |owner: &Option<Arc<str>>| {
        let (cluster, tenant) = owner.as_deref()?.split_once(BETWEEN)?;
        Some((Arc::<str>::from(cluster), Bytes::copy_from_slice(tenant.as_bytes())))
    };
    let (client, server) = (parts(&edge.client_cluster), parts(&edge.server_cluster));
    let clusters = match (&client, &server) {
        (Some((client, _)), Some((server, _))) if client != server => [Arc::clone(client), Arc::clone(server)],
        _ => [Arc::from(""), Arc::from("")],
    };
    let (cluster, tenant) = server.or(client).unwrap_or_else(|| (Arc::from(""), Bytes::new()));
    (Owner { cluster, tenant: Some(tenant).filter(|tenant| !tenant.is_empty()) }, clusters)
}
