//! How fast log records become push requests for Loki: one core, records in memory, nothing sent.

#![allow(clippy::print_stdout)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use afflux_bus::{Generation, Headers, PartitionId, Received};
use afflux_runtime::delivery::{Backend as _, Batch, Kind};
use afflux_schemas::topics::{HEADER_CLUSTER, HEADER_ITEMS};
use afflux_sinks::loki::{Loki, LokiConfig};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message as _;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Nanoseconds since the Unix epoch at which the corpus begins.
const START: u64 = 1_760_000_000_000_000_000;
/// Log records of a bus record, and bus records of a batch.
const EACH: usize = 512;
const RECORDS: usize = 8;
const BATCHES: usize = 16;

fn text(key: &str, value: impl Into<String>) -> KeyValue {
    let value = Some(AnyValue { value: Some(Value::StringValue(value.into())) });
    KeyValue { key: key.into(), value, ..KeyValue::default() }
}

/// A seeded number (SplitMix64).
fn random(seed: u64) -> u64 {
    let mut z = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn resource(service: u64, pod: u64) -> Resource {
    let name = format!("service-{service:02}");
    let pod = format!("{name}-6d4cf56db6-{pod:05x}");
    let attributes = vec![
        text("service.name", &name),
        text("service.version", "1.4.2"),
        text("k8s.cluster.name", "eu-1"),
        text("k8s.namespace.name", "shop"),
        text("k8s.pod.name", &pod),
        text("k8s.pod.uid", "0c1f7a6e-8b1d-4e1f-9a55-4b8f0f4f2a11"),
        text("k8s.container.name", "main"),
        text("k8s.node.name", "node-07"),
        text("k8s.deployment.name", &name),
    ];
    Resource { attributes, ..Resource::default() }
}

/// A log record as an application writes it: a line of some 110 bytes, two attributes, of a span in every other case.
fn log(seed: u64, time: u64) -> LogRecord {
    let (a, b) = (random(seed), random(seed ^ 1 << 63));
    let in_span = a.is_multiple_of(2);
    let number = [9, 9, 9, 9, 5, 9, 13, 17][(b % 8) as usize];
    let line = format!(
        "handled request method=GET path=/api/v1/orders/{} status=200 duration_ms={} bytes={} user={:08x}",
        a % 100_000,
        b % 900,
        a % 65_536,
        b >> 32
    );
    LogRecord {
        time_unix_nano: time,
        observed_time_unix_nano: time + 1_000_000,
        severity_number: number,
        severity_text: ["DEBUG", "INFO", "WARN", "ERROR"][(number as usize - 5) / 4].into(),
        body: Some(AnyValue { value: Some(Value::StringValue(line)) }),
        attributes: vec![text("logger.name", "http.server"), text("code.function.name", "handle_request")],
        trace_id: if in_span { [a.to_be_bytes(), b.to_be_bytes()].concat() } else { Vec::new() },
        span_id: if in_span { b.to_be_bytes().to_vec() } else { Vec::new() },
        ..LogRecord::default()
    }
}

fn received(offset: u64) -> Received {
    let first = START + offset * 1_000_000_000;
    let logs = (0..EACH as u64).map(|i| log(offset << 16 | i, first + i * 1_000_000)).collect();
    let scope = Some(InstrumentationScope { name: "app".into(), ..InstrumentationScope::default() });
    let scope_logs = vec![ScopeLogs { scope, log_records: logs, ..ScopeLogs::default() }];
    let resource = Some(resource(offset % 12, offset % 5));
    let resource_logs = vec![ResourceLogs { resource, scope_logs, ..ResourceLogs::default() }];
    let mut headers = Headers::new();
    headers.set(HEADER_CLUSTER, "eu-1");
    headers.set(HEADER_ITEMS, EACH.to_string());
    Received {
        from: PartitionId::new("afflux.logs", 0),
        generation: Generation(1),
        offset,
        timestamp_ms: (first / 1_000_000) as i64,
        key: None,
        value: Some(ExportLogsServiceRequest { resource_logs }.encode_to_vec().into()),
        headers,
    }
}

fn encode(criterion: &mut Criterion) {
    let batch = |n: usize| Batch {
        kind: Kind::Logs,
        tenant: None,
        replay: false,
        records: (n * RECORDS..(n + 1) * RECORDS).map(|offset| received(offset as u64)).collect(),
    };
    let batches: Vec<Batch> = (0..BATCHES).map(batch).collect();
    let config = LokiConfig { url: Some("http://127.0.0.1:1".into()), ..LokiConfig::default() };
    let loki = Loki::new(&config, Vec::new()).expect("a valid configuration").with_clock(|| START + 60_000_000_000);
    let logs = BATCHES * RECORDS * EACH;
    let input: usize = batches.iter().map(Batch::bytes).sum();
    let all = || batches.iter().map(|batch| loki.encode(black_box(batch))).collect::<Vec<_>>();
    let requests: Vec<_> = all().into_iter().flat_map(|encoded| encoded.requests).collect();
    assert_eq!(requests.iter().map(|request| request.entries).sum::<u64>(), logs as u64);
    let output: usize = requests.iter().map(|request| request.body.len()).sum();
    let plain = |body: &[u8]| snap::raw::decompress_len(body).unwrap_or_default();
    let push: usize = requests.iter().map(|request| plain(&request.body)).sum();
    let each = |bytes: usize| bytes as f64 / logs as f64;
    println!(
        "loki/encode: {:.0} B/log of OTLP, {:.0} B/log of protobuf for Loki, {:.0} B/log in snappy",
        each(input),
        each(push),
        each(output)
    );
    let mut group = criterion.benchmark_group("loki");
    group.sample_size(10).measurement_time(Duration::from_secs(8)).throughput(Throughput::Elements(logs as u64));
    group.bench_function("encode logs", |bencher| bencher.iter(all));
    group.finish();
    // By the time that the processor worked, which others on the machine do not change.
    let (began, before) = (Instant::now(), cpu_seconds());
    let mut turns = 0;
    while began.elapsed() < Duration::from_secs(4) {
        let _ = black_box(all());
        turns += 1;
    }
    println!("loki/encode: {:.2} M logs per CPU-second", (turns * logs) as f64 / (cpu_seconds() - before) / 1e6);
}

/// User and system time of this process, on Linux.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_ascii_whitespace().collect();
    let ticks = |field: usize| fields.get(field).and_then(|ticks| ticks.parse::<f64>().ok()).unwrap_or_default();
    (ticks(11) + ticks(12)) / 100.0
}

criterion_group!(benches, encode);
criterion_main!(benches);
