//! The shop's telemetry as a sequence of OTLP export requests.

use bytes::Bytes;

use super::facts::{Facts, Link, Placed};
use super::journeys::BATCH;
use super::plan::{Plan, Planner};
use super::random::{Ids, Random};
use super::services::{CLUSTERS, Layer, Pod, REPLICAS, SCHEMA_URL, Service};
use super::shop::Shop;
use super::template::Template;
use super::wire;

/// How far the corpus's clock moves per span, in nanoseconds, unless the caller says the time.
const NANOS_PER_SPAN: u64 = 100_000;

/// Orders that may wait for the accounting before it takes the eldest [`BATCH`] of them.
const BACKLOG: usize = 3 * BATCH;

/// One request of traces, and one of logs that belong to the same spans.
#[derive(Clone, Debug)]
pub struct Batch {
    /// An encoded `ExportTraceServiceRequest`.
    pub traces: Bytes,
    /// Spans in `traces`.
    pub spans: u64,
    /// An encoded `ExportLogsServiceRequest`; empty when there is no log record.
    pub logs: Bytes,
    /// Log records in `logs`.
    pub log_records: u64,
}

impl Batch {
    /// Trace id and span id of every span, read back from the request.
    pub fn span_ids(&self) -> impl Iterator<Item = ([u8; 16], [u8; 8])> + '_ {
        let scopes = wire::each(&self.traces, 1).flat_map(|resource| wire::each(resource, 2));
        scopes.flat_map(|scope| wire::each(scope, 2)).filter_map(|span| {
            let trace_id = wire::each(span, 1).next()?.try_into().ok()?;
            Some((trace_id, wire::each(span, 2).next()?.try_into().ok()?))
        })
    }
}

/// The telemetry of a shop with a dozen services in two clusters.
///
/// The same seed, start time and calls give the same bytes. Ids depend on the seed alone and never repeat within
/// it. Each request comes from one cluster, grouped by pod and instrumentation as a Collector's batches are; a
/// trace that does not fit goes on in that cluster's next request, children before parents.
#[derive(Debug)]
pub struct Corpus {
    shop: Shop,
    planner: Planner,
    random: Random,
    trace_ids: Ids,
    clusters: Vec<Cluster>,
    /// Unix nanoseconds at which the last trace was complete.
    clock: u64,
    with_logs: bool,
    buffers: Buffers,
}

/// One cluster's pods, and the trace that it is at.
#[derive(Debug)]
struct Cluster {
    pods: Vec<Pod>,
    facts: Facts,
    plan: Plan,
    orders: Vec<Link>,
}

/// What a request holds so far, by pod and layer.
#[derive(Debug)]
struct Buffers {
    spans: Vec<Vec<u8>>,
    records: Vec<Vec<u8>>,
    span_count: u64,
    record_count: u64,
    /// Encoded scopes by service and layer, each as the field that begins a `ScopeSpans` or `ScopeLogs`.
    scopes: Vec<Vec<u8>>,
}

impl Corpus {
    /// A corpus whose first spans end just after that time.
    pub fn new(seed: u64, start_time_unix_nano: u64) -> Self {
        let cluster = |index| Cluster {
            pods: Pod::of_cluster(index, seed),
            facts: Facts::new([0; 16], Vec::new()),
            plan: Plan::default(),
            orders: Vec::new(),
        };
        Self {
            shop: Shop::open(),
            planner: Planner::new(seed),
            random: Random::new(seed, 4),
            trace_ids: Ids::new(seed, 5),
            clusters: (0..CLUSTERS.len()).map(cluster).collect(),
            clock: start_time_unix_nano,
            with_logs: true,
            buffers: Buffers::new(),
        }
    }

    /// The same spans without logs.
    pub fn without_logs(mut self) -> Self {
        self.with_logs = false;
        self
    }

    /// The next request, of exactly that many spans. The clock moves 100 µs per span.
    pub fn next_request(&mut self, max_spans: usize) -> Batch {
        self.request(max_spans, NANOS_PER_SPAN)
    }

    /// The next request, whose traces end between the previous request and `now` (Unix nanoseconds).
    pub fn next_request_at(&mut self, now: u64, max_spans: usize) -> Batch {
        let step = now.saturating_sub(self.clock) / max_spans.max(1) as u64;
        let batch = self.request(max_spans, step);
        self.clock = self.clock.max(now);
        batch
    }

    /// The spans still missing of the traces that the last requests left off in, one request per cluster.
    pub fn finish(&mut self) -> Vec<Batch> {
        let unfinished = (0..self.clusters.len()).filter(|cluster| !self.clusters[*cluster].plan.spans.is_empty());
        unfinished
            .collect::<Vec<_>>()
            .into_iter()
            .map(|cluster| {
                while let Some(span) = self.clusters[cluster].plan.spans.pop() {
                    self.write(cluster, &span);
                }
                self.buffers.assemble(&self.clusters[cluster].pods)
            })
            .collect()
    }

    fn request(&mut self, max_spans: usize, step: u64) -> Batch {
        let cluster = self.random.below(self.clusters.len() as u32) as usize;
        while self.buffers.span_count < max_spans as u64 {
            match self.clusters[cluster].plan.spans.pop() {
                Some(span) => {
                    self.write(cluster, &span);
                    self.clock += step;
                }
                None => self.begin_trace(cluster),
            }
        }
        self.buffers.assemble(&self.clusters[cluster].pods)
    }

    fn begin_trace(&mut self, index: usize) {
        let cluster = &mut self.clusters[index];
        let (root, batch) = if cluster.orders.len() >= BACKLOG {
            (self.shop.settlement, cluster.orders.drain(..BATCH).collect())
        } else {
            let total = self.shop.journeys.last().map_or(1, |(weights, _)| *weights);
            let drawn = self.random.below(total);
            let journey = self.shop.journeys.iter().find(|(weights, _)| drawn < *weights);
            (journey.map_or(0, |(_, root)| *root), Vec::new())
        };
        let mut trace_id = [0; 16];
        trace_id[..8].copy_from_slice(&self.random.next().to_be_bytes());
        trace_id[8..].copy_from_slice(&self.trace_ids.next().to_be_bytes());

        self.planner.plan(&self.shop, root, &mut cluster.plan);
        cluster.facts = Facts::new(trace_id, batch);
        cluster.facts.epoch = self.clock.saturating_sub(cluster.plan.latest);
        let announced = cluster.plan.announced.drain(..);
        cluster.orders.extend(announced.map(|span_id| Link { trace_id, span_id }));
        cluster.plan.latest = 0;
    }

    fn write(&mut self, cluster: usize, span: &Placed) {
        let Cluster { pods, facts, .. } = &self.clusters[cluster];
        let node = &self.shop.nodes[span.node as usize];
        let pod =
            |service: Service| service as usize * REPLICAS + (facts.pods >> (service as usize)) as usize % REPLICAS;
        let at = pod(node.service);
        let peer = node.peer.map_or(&[][..], |peer| &pods[pod(peer)].address);

        let variants = &node.spans[usize::from(span.failed)];
        let spans = &mut self.buffers.spans[at * Layer::COUNT + node.layer as usize];
        variants[facts.variant % variants.len()].write(spans, facts, span, peer);
        self.buffers.span_count += 1;
        if !self.with_logs {
            return;
        }
        let mut log = |template: &Template| {
            template.write(&mut self.buffers.records[at], facts, span, peer);
            self.buffers.record_count += 1;
        };
        if span.failed {
            node.failed_line.iter().for_each(log);
        } else {
            // Drawn from the span's id, so that logs change nothing about the spans.
            let mut random = Random::new(span.id, 6);
            node.lines.iter().filter(|(share, _)| random.chance(*share)).for_each(|(_, line)| log(line));
        }
    }
}

impl Buffers {
    fn new() -> Self {
        let pods = Service::ALL.len() * REPLICAS;
        let layers = [Layer::Http, Layer::Rpc, Layer::Database, Layer::Messaging, Layer::Own];
        let scopes = Service::ALL.iter().flat_map(|service| {
            layers.map(|layer| {
                let (name, version) = service.scope(layer);
                let (mut scope, mut field) = (Vec::new(), Vec::new());
                wire::bytes(&mut scope, 1, name.as_bytes());
                wire::bytes(&mut scope, 2, version.as_bytes());
                wire::bytes(&mut field, 1, &scope);
                field
            })
        });
        Self {
            spans: vec![Vec::new(); pods * Layer::COUNT],
            records: vec![Vec::new(); pods],
            span_count: 0,
            record_count: 0,
            scopes: scopes.collect(),
        }
    }

    /// Takes what was gathered as two requests.
    fn assemble(&mut self, pods: &[Pod]) -> Batch {
        let (spans, records, scopes) = (&self.spans, &self.records, &self.scopes);
        let scope = |pod: usize, layer: usize| scopes[pod / REPLICAS * Layer::COUNT + layer].as_slice();
        let traces = export(pods, |pod| {
            (0..Layer::COUNT).map(move |layer| (scope(pod, layer), spans[pod * Layer::COUNT + layer].as_slice()))
        });
        // A service logs in its own scope.
        let logs = export(pods, |pod| [(scope(pod, Layer::Own as usize), records[pod].as_slice())].into_iter());
        self.spans.iter_mut().chain(&mut self.records).for_each(Vec::clear);
        Batch {
            traces,
            spans: std::mem::take(&mut self.span_count),
            logs,
            log_records: std::mem::take(&mut self.record_count),
        }
    }
}

/// An export request of what each pod has: per scope, its encoded field and the items in it.
///
/// Requests of traces and of logs have the same shape.
fn export<'a, I>(pods: &[Pod], scopes_of: impl Fn(usize) -> I) -> Bytes
where
    I: Iterator<Item = (&'a [u8], &'a [u8])>,
{
    let scope_len = |scope: &[u8], items: &[u8]| scope.len() + items.len() + wire::size(SCHEMA_URL.len());
    let mut request = Vec::new();
    for (index, pod) in pods.iter().enumerate() {
        let filled = || scopes_of(index).filter(|(_, items)| !items.is_empty());
        let content: usize = filled().map(|(scope, items)| wire::size(scope_len(scope, items))).sum();
        if content == 0 {
            continue;
        }
        wire::length(&mut request, 1, wire::size(pod.resource.len()) + content + wire::size(SCHEMA_URL.len()));
        wire::bytes(&mut request, 1, &pod.resource);
        for (scope, items) in filled() {
            wire::length(&mut request, 2, scope_len(scope, items));
            request.extend_from_slice(scope);
            request.extend_from_slice(items);
            wire::bytes(&mut request, 3, SCHEMA_URL.as_bytes());
        }
        wire::bytes(&mut request, 3, SCHEMA_URL.as_bytes());
    }
    request.into()
}

#[cfg(test)]
mod tests;
