//! What it costs to derive metrics and to enrich: spans per CPU-second of one thread, without a bus.
//!
//! Chains work off requests of 512 spans of the generator's corpus, and close at every 8 MiB as the stage does, so that
//! encoding the deltas is in it. Every round decodes the same bytes with prost too; a path's ratio is the median of its
//! rounds' ratios to that. The first round, in which everything comes for the first time, is left out.
//!
//! Arguments: `--rounds N` (7 by default), `--only WORD` (paths whose name has it), `--spans N` (204,800).

// A benchmark reports on its standard output.
#![allow(clippy::print_stdout)]

#[path = "derive/loads.rs"]
mod loads;
#[path = "derive/pods.rs"]
mod pods;

use std::hint::black_box;

use afflux_bus::{Headers, PartitionId, Record};
use afflux_processors::ProcessorsConfig;
use afflux_processors::chain::{At, Chain, Envelope, Route};
use afflux_processors::config::SpanStep;
use afflux_processors::derive::Derived;
use afflux_processors::enrich::Shared;
use afflux_processors::steps::chains;
use afflux_runtime::Signal;
use afflux_schemas::identity::Identity;
use afflux_schemas::otlp::trace::TracesView;
use afflux_schemas::otlp::validate;
use anyhow::{Context as _, Result};
use loads::Load;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message as _;

/// As in the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// As `processors.commit.bytes`.
const COMMIT_BYTES: usize = 8 << 20;
/// Of the metrics topic, as `topics.partitions`.
const PARTITIONS: u32 = 4;
/// Between the rounds in time of records: beyond what the service graph remembers.
const BETWEEN_ROUNDS_MS: i64 = 60_000;
const SERIES: usize = 100_000;

/// A path, and what is measured of it.
struct Case {
    name: &'static str,
    work: Box<dyn FnMut(&Load)>,
    seconds: Vec<f64>,
    ratios: Vec<f64>,
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().collect();
    let value = |name: &str| args.iter().position(|arg| arg == name).and_then(|at| args.get(at + 1));
    let number = |name, default: usize| value(name).map_or(Ok(default), |n| n.parse().context("not a number"));
    let (rounds, spans) = (number("--rounds", 7)?, number("--spans", 204_800)?);
    let only = value("--only").map_or("", String::as_str);
    println!("{:<52}{:>10}{:>10}{:>8}", "path", "best", "median", "ratio");
    let plain = Load::plain(spans);
    println!("{spans} spans of {} bytes", plain.bytes() / spans);
    let views = vec![
        case("scan for the fields of span metrics", |load| load.requests.iter().for_each(|r| _ = black_box(scan(r)))),
        case("validation with UTF-8", |load| {
            load.requests.iter().for_each(|r| _ = black_box(validate::traces(r).is_ok()))
        }),
    ];
    measure(&plain, views, rounds, only);
    measure(&plain, metrics()?, rounds, only);
    let many = plain.with_series(SERIES);
    for load in [&plain, &many] {
        let deltas = Driver::new(chains(&unlimited())?.spans).work(load) / load.spans;
        println!("span metrics: {} series make {deltas} bytes of deltas a span", load.series());
    }
    measure(&many, vec![chain("span_metrics, 100,000 series", &unlimited())?], rounds, only);
    let known = chain("span_metrics, one of 1,000 ids in every name", &of(&[SpanStep::SpanMetrics]))?;
    measure(&plain.with_ids(1000), vec![known], rounds, only);
    measure(&plain.with_ids(u64::MAX), vec![folding()], rounds, only);
    pods::measure(&plain, rounds, only)
}

/// The chains that count.
fn metrics() -> Result<Vec<Case>> {
    use SpanStep::{ServiceGraph, SpanMetrics};
    let more = {
        let mut config = of(&[SpanMetrics]);
        config.span_metrics.dimensions = vec!["service.version".into(), "http.request.method".into()];
        config
    };
    Ok(vec![
        chain("no step", &of(&[]))?,
        chain("span_metrics, four labels", &of(&[SpanMetrics]))?,
        chain("span_metrics, two dimensions more", &more)?,
        chain("service_graph", &of(&[ServiceGraph]))?,
        chain("span_metrics, service_graph", &of(&[SpanMetrics, ServiceGraph]))?,
    ])
}

fn of(steps: &[SpanStep]) -> ProcessorsConfig {
    let mut config = ProcessorsConfig::default();
    config.chain.spans = steps.to_vec();
    config
}

fn unlimited() -> ProcessorsConfig {
    let mut config = of(&[SpanStep::SpanMetrics]);
    let cardinality = &mut config.span_metrics.cardinality;
    (cardinality.fold_names, cardinality.max_series, cardinality.max_values_per_label) = (false, 0, 0);
    config
}

fn case(name: &'static str, work: impl FnMut(&Load) + 'static) -> Case {
    Case { name, work: Box::new(work), seconds: Vec::new(), ratios: Vec::new() }
}

fn chain(name: &'static str, config: &ProcessorsConfig) -> Result<Case> {
    let mut driver = Driver::new(chains(config)?.spans);
    Ok(case(name, move |load| _ = driver.work(load)))
}

/// Every name comes for the first time in every round.
fn folding() -> Case {
    case("span_metrics, a new id in every name", |load| {
        if let Ok(chains) = chains(&of(&[SpanStep::SpanMetrics])) {
            _ = Driver::new(chains.spans).work(load);
        }
    })
}

fn measure(load: &Load, mut cases: Vec<Case>, rounds: usize, only: &str) {
    cases.retain(|case| case.name.contains(only));
    if cases.is_empty() {
        return;
    }
    let mut decoding = case("decode with prost, the same bytes", |_| {});
    for round in 0..=rounds {
        let decode = |request: &bytes::Bytes| drop(black_box(ExportTraceServiceRequest::decode(&request[..])));
        let reference = seconds(|| load.requests.iter().for_each(decode));
        decoding.seconds.push(reference);
        decoding.ratios.push(1.0);
        for case in &mut cases {
            let seconds = seconds(|| (case.work)(load));
            if round > 0 {
                case.seconds.push(seconds);
                case.ratios.push(reference / seconds);
            }
        }
    }
    for Case { name, seconds, ratios, .. } in [decoding].iter_mut().chain(&mut cases) {
        seconds.sort_by(f64::total_cmp);
        ratios.sort_by(f64::total_cmp);
        let per_second = |seconds: f64| load.spans as f64 / seconds / 1e6;
        let (best, median) = (per_second(seconds[0]), per_second(seconds[seconds.len() / 2]));
        println!("{name:<52}{best:>8.2} M{median:>8.2} M{:>8.2}", ratios[ratios.len() / 2]);
    }
}

/// CPU seconds of this thread.
fn seconds(work: impl FnOnce()) -> f64 {
    let before = cpu_nanos();
    work();
    (cpu_nanos() - before) as f64 / 1e9
}

fn cpu_nanos() -> u64 {
    // The kernel brings the count up to date when a thread gives way.
    std::thread::yield_now();
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    stat.split_ascii_whitespace().next().and_then(|nanos| nanos.parse().ok()).unwrap_or_default()
}

/// The fields that span metrics need.
fn scan(bytes: &[u8]) -> u64 {
    let mut sum = 0;
    for block in TracesView::new(bytes).resource_spans() {
        sum += Identity::of(block.resource()).service.map_or(0, str::len) as u64;
        for span in block.scope_spans().flat_map(|scope| scope.spans()) {
            sum += span.end_time_unix_nano().wrapping_sub(span.start_time_unix_nano());
            sum += span.name_bytes().len() as u64 + span.kind() as u64 + span.status().code() as u64;
        }
    }
    sum
}

/// A chain that is driven as the stage does it.
struct Driver {
    chain: Chain,
    derived: Derived,
    from: PartitionId,
    offset: u64,
    now_ms: i64,
}

impl Driver {
    fn new(mut chain: Chain) -> Self {
        let from = PartitionId::new("bench.ingest.spans", 0);
        chain.assigned(&from);
        let now_ms = i64::try_from(loads::START_NANOS / 1_000_000).unwrap_or_default();
        Self { chain, derived: Derived::new("bench.metrics".into(), PARTITIONS, 1 << 20), from, offset: 0, now_ms }
    }

    /// Answers how many bytes of deltas there were.
    fn work(&mut self, load: &Load) -> usize {
        let (mut bytes, mut deltas) = (0, 0);
        for request in &load.requests {
            self.now_ms += loads::MS_PER_REQUEST;
            let (timestamp_ms, headers) = (self.now_ms, Headers::new());
            let (items, cluster, route) = (loads::SPANS_PER_REQUEST as u64, load.cluster.clone(), Route::default());
            let value = request.clone();
            let envelope = Envelope { signal: Signal::Spans, value, items, cluster, timestamp_ms, headers, route };
            let at = At {
                from: &self.from,
                offset: self.offset,
                timestamp_ms,
                stream_time_ms: timestamp_ms,
                repeat: false,
                counted: false,
            };
            self.chain.process(envelope, &at, &mut |out| drop(black_box(out)));
            self.offset += 1;
            bytes += request.len();
            if bytes >= COMMIT_BYTES {
                bytes = 0;
                deltas += self.close();
            }
        }
        deltas += self.close();
        self.now_ms += BETWEEN_ROUNDS_MS;
        deltas
    }

    fn close(&mut self) -> usize {
        black_box(self.chain.close(&mut self.derived));
        let records = black_box(self.derived.take(self.now_ms, "bench.ingest.spans/0/0-1"));
        records.iter().map(Record::size).sum()
    }
}

/// A chain that enriches, and its table.
fn enriching() -> Result<(Chain, Shared)> {
    let mut config = of(&[SpanStep::Enrich]);
    config.enrich.pod_labels = vec!["app.kubernetes.io/*".into()];
    let chains = chains(&config)?;
    Ok((chains.spans, chains.objects.context("a chain with enrichment has a table")?))
}
