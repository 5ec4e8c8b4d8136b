//! How fast series become requests of remote write: one core, records in memory.

#![allow(clippy::print_stdout)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use afflux_bus::{Generation, Headers, PartitionId, Received};
use afflux_runtime::delivery::{Backend as _, Batch, Kind as Topic};
use afflux_schemas::otlp::metrics::{Draft, Exemplar, Kind, Labels, Point, Temporality, Value, request};
use afflux_schemas::topics::Topics;
use afflux_schemas::wire::put_len_field;
use afflux_sinks::prometheus::{PrometheusConfig, PrometheusSink, ProtocolConfig};
use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Sets of labels in a batch, each of three metrics.
const SETS: usize = 1000;
const BOUNDS: [f64; 14] =
    [0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096, 8.192, 16.384];

/// What the metrics of a set of labels have come to, each in a record, as they are on the series topic.
fn records(set: usize, histograms: bool) -> Vec<Bytes> {
    let (service, name) = (format!("service-{}", set % 20), format!("GET /api/v1/things/{}", set / 20));
    let labels = Labels::new([
        ("service", &*service),
        ("span_name", &*name),
        ("span_kind", "SPAN_KIND_SERVER"),
        ("status_code", if set.is_multiple_of(7) { "STATUS_CODE_ERROR" } else { "STATUS_CODE_UNSET" }),
    ]);
    let mut resource = Vec::new();
    Labels::new([("k8s.cluster.name", "eu-1")]).messages().for_each(|message| put_len_field(&mut resource, 1, message));
    let mut counts = [0_u64; 15];
    counts.iter_mut().enumerate().for_each(|(at, count)| *count = ((set + 1) * (at + 3) % 977) as u64);
    let time = 1_780_000_000_000_000_000_u64;
    let mut trace_id = [7; 16];
    trace_id[..8].copy_from_slice(&set.to_le_bytes());
    let exemplars = [Exemplar { time_unix_nano: time, value: 0.01, trace_id, span_id: [1; 8] }];
    let cumulative = Temporality::Cumulative;
    let latency = Value::Histogram { sum: 12.25, bounds: &BOUNDS, counts: &counts };
    let calls = Value::Count(counts.iter().sum());
    let all = [
        ("traces_spanmetrics_calls_total", Kind::Sum(cumulative), calls.clone(), &[][..]),
        ("traces_spanmetrics_latency", Kind::Histogram(cumulative), latency, &exemplars[..]),
        ("traces_spanmetrics_size_total", Kind::Sum(cumulative), calls, &[]),
    ];
    let wanted = all.into_iter().filter(|(_, kind, ..)| histograms || *kind == Kind::Sum(cumulative));
    let record = |(metric, kind, value, exemplars)| {
        let mut draft = Draft::new(metric, "", kind);
        let start_time_unix_nano = time - 3_600_000_000_000;
        draft.add(
            &labels,
            &Point { start_time_unix_nano, time_unix_nano: time, value: Some(value), exemplars, ended_bounds: &[] },
        );
        request(&resource, "afflux", &[draft]).into()
    };
    wanted.map(record).collect()
}

fn batch(histograms: bool) -> Batch {
    let topic: Arc<str> = "afflux.series".into();
    let records = (0..SETS).flat_map(|set| records(set, histograms)).enumerate().map(|(at, value)| Received {
        from: PartitionId { topic: topic.clone(), partition: 0 },
        generation: Generation(1),
        offset: at as u64,
        timestamp_ms: 0,
        key: Some(format!("key {at}").into()),
        value: Some(value),
        headers: Headers::new(),
    });
    Batch { kind: Topic::Series, tenant: None, replay: false, records: records.collect() }
}

fn encode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("prometheus");
    group.sample_size(20).measurement_time(Duration::from_secs(5));
    for (what, histograms) in [("span metrics", true), ("counters", false)] {
        let batch = batch(histograms);
        for (version, protocol) in [("2.0", ProtocolConfig::V2), ("1.0", ProtocolConfig::V1)] {
            let config = PrometheusConfig { url: "http://127.0.0.1:9".into(), protocol, ..PrometheusConfig::default() };
            let sink = PrometheusSink::new(&config, &Topics::new("afflux")).expect("a valid configuration");
            let requests = sink.encode(&batch).requests;
            let samples: u64 = requests.iter().map(|request| request.samples()).sum();
            let bytes: usize = requests.iter().map(|request| request.body().len()).sum();
            println!(
                "prometheus/encode {what} {version}: {samples} samples of {} records, {:.1} B/sample",
                batch.records.len(),
                bytes as f64 / samples as f64
            );
            group.throughput(Throughput::Elements(samples));
            group.bench_function(format!("encode {what} {version}"), |bencher| {
                bencher.iter(|| sink.encode(black_box(&batch)));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, encode);
criterion_main!(benches);
