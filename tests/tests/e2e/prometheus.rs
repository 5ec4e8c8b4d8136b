//! Remote write against a real Prometheus: what it holds is what the records say, and stays so when they come again.

mod kafka;
mod kills;
mod scrape;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use afflux_bus::{Generation, Headers, PartitionId, Received};
use afflux_runtime::delivery::{Answer, Backend as _, Batch, Kind as Topic};
use afflux_schemas::otlp::metrics::{Draft, Exemplar, Kind, Labels, Point, Temporality, Value, request};
use afflux_schemas::topics::Topics;
use afflux_schemas::wire::put_len_field;
use afflux_sinks::prometheus::{PrometheusConfig, PrometheusSink, ProtocolConfig};
use afflux_tests::prometheus::{self, Prometheus, Raw};
use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;

const MS: u64 = 1_000_000;
const INTERVAL: u64 = 15_000;
const SUM: Kind = Kind::Sum(Temporality::Cumulative);
const CLASSIC: Kind = Kind::Histogram(Temporality::Cumulative);
const NATIVE: Kind = Kind::Exponential(Temporality::Cumulative);

/// Of the classic histogram.
const BOUNDS: &[f64] = &[0.002, 1.0];

/// A sample of a series: since when and when it is, in milliseconds, and what.
struct Sample<'a>(u64, u64, Option<Value<'a>>, &'a [Exemplar]);

/// The value of a series' record, as `accumulate` writes it.
fn record(metric: &str, kind: Kind, labels: &[(&str, &str)], samples: &[Sample<'_>]) -> Bytes {
    let mut resource = Vec::new();
    Labels::new([("k8s.cluster.name", "eu-1")]).messages().for_each(|message| put_len_field(&mut resource, 1, message));
    let mut draft = Draft::new(metric, "", kind);
    for Sample(start, at, value, exemplars) in samples {
        let (start_time_unix_nano, time_unix_nano) = (start * MS, at * MS);
        let ended_bounds: &[f64] = if value.is_none() && kind == CLASSIC { BOUNDS } else { &[] };
        let point = Point { start_time_unix_nano, time_unix_nano, value: value.clone(), exemplars, ended_bounds };
        draft.add(&Labels::new(labels.iter().copied()), &point);
    }
    request(&resource, "afflux", &[draft]).into()
}

fn batch(values: impl IntoIterator<Item = Bytes>) -> Batch {
    let topic: Arc<str> = "afflux.series".into();
    let record = |(at, value): (usize, Bytes)| Received {
        from: PartitionId { topic: topic.clone(), partition: 0 },
        generation: Generation(1),
        offset: at as u64,
        timestamp_ms: 0,
        key: Some(format!("key {at}").into()),
        value: Some(value),
        headers: Headers::new(),
    };
    let records = values.into_iter().enumerate().map(record).collect();
    Batch { kind: Topic::Series, tenant: None, replay: false, records }
}

/// What became of a batch: how often each reason was given.
type Outcome = BTreeMap<&'static str, u64>;

/// Hands a batch over as the chain of sinks does: one request after another, halved where one is refused.
async fn deliver(sink: &PrometheusSink, batch: Batch) -> anyhow::Result<Outcome> {
    let (mut left, mut outcome) = (sink.divide(batch), Outcome::new());
    'batches: while let Some(batch) = left.pop() {
        let encoded = sink.encode(&batch);
        ensure!(encoded.refused.is_empty(), "{:?}", encoded.refused);
        for request in &encoded.requests {
            match sink.attempt(request, 0).await {
                Answer::Stored => {}
                Answer::Known { reason } => *outcome.entry(reason).or_default() += 1,
                Answer::Refused { reason, .. } => {
                    match batch.split() {
                        Some(halves) => left.extend(halves.into_iter().rev()),
                        None => *outcome.entry(reason).or_default() += 1,
                    }
                    continue 'batches;
                }
                other => bail!("{other:?}"),
            }
        }
    }
    Ok(outcome)
}

fn sink(prometheus: &Prometheus, protocol: ProtocolConfig) -> anyhow::Result<PrometheusSink> {
    let config = PrometheusConfig { url: prometheus.write_url(), protocol, ..PrometheusConfig::default() };
    Ok(PrometheusSink::new(&config, &Topics::new("afflux"))?)
}

/// The end of an interval that is over, in milliseconds.
fn recent() -> anyhow::Result<u64> {
    let now = u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?;
    Ok((now / INTERVAL - 8) * INTERVAL)
}

fn find<'r>(raw: &'r BTreeMap<prometheus::Labels, Raw>, name: &str, more: &[(&str, &str)]) -> anyhow::Result<&'r Raw> {
    let has = |labels: &prometheus::Labels, name: &str, value: &str| labels.get(name).is_some_and(|v| v == value);
    let same = |labels: &&prometheus::Labels| {
        has(labels, "__name__", name) && more.iter().all(|(name, value)| has(labels, name, value))
    };
    let (labels, found) =
        raw.iter().find(|(labels, _)| same(labels)).with_context(|| format!("{name} {more:?}: {raw:?}"))?;
    ensure!(has(labels, "cluster", "eu-1"), "{labels:?}");
    Ok(found)
}

const EXEMPLAR: Exemplar = Exemplar { time_unix_nano: 0, value: 0.003, trace_id: [0xab; 16], span_id: [0xcd; 8] };
const TRACE: &str = "abababababababababababababababab";
const ODD: &str = "GET \"/\\ä\n☃";

/// Series of every kind, which begin in the interval that ends at `at` or go on in it.
fn every_kind(at: u64, n: u64, begins: bool) -> Vec<Bytes> {
    let start = at - INTERVAL * n + 1;
    let zero = |value| begins.then_some(Sample(start, start, Some(value), &[]));
    let with = |zero: Option<Sample<'static>>, value, exemplars| {
        zero.into_iter().chain([Sample(start, at, Some(value), exemplars)]).collect::<Vec<_>>()
    };
    let bounds = BOUNDS;
    let counts: [&[u64]; 3] = [&[0, 0, 0], &[2, 1, 1], &[4, 1, 3]];
    let histogram = |n: u64| Value::Histogram { sum: n as f64 * 2.5, bounds, counts: counts[n as usize] };
    let native = |n: u64| {
        let counts: [&[u64]; 3] = [&[], &[2, 0, 0, 0, 1], &[2, 1, 0, 0, 3]];
        Value::Exponential { sum: n as f64, scale: 3, zero_count: n, offset: -1, counts: counts[n as usize] }
    };
    const EXEMPLARS: &[Exemplar] = &[EXEMPLAR];
    vec![
        record(
            "calls_total",
            SUM,
            &[("service", "cart"), ("span_name", ODD)],
            &with(zero(Value::Count(0)), Value::Count(n * 3), EXEMPLARS),
        ),
        record("latency", CLASSIC, &[("service", "cart")], &with(zero(histogram(0)), histogram(n), EXEMPLARS)),
        record("latency", NATIVE, &[("service", "cart")], &with(zero(native(0)), native(n), EXEMPLARS)),
        record("target_info", Kind::Gauge, &[("job", "cart")], &[Sample(start, at, Some(Value::Number(1.0)), &[])]),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn samples_are_stored_as_they_stand_and_come_again_without_effect() -> anyhow::Result<()> {
    let Some(program) = prometheus::program()? else { return Ok(()) };
    for protocol in [ProtocolConfig::V1, ProtocolConfig::Auto] {
        let mut server = Prometheus::start(program).await?;
        let (at, version) = (recent()?, server.version().await?);
        eprintln!("prometheus {version:?}, {protocol:?}");
        let (first, second) = (batch(every_kind(at, 1, true)), batch(every_kind(at + INTERVAL, 2, false)));
        let known = Outcome::from([("already_stored", 3)]);
        let one = sink(&server, protocol)?;
        ensure!(deliver(&one, first.clone()).await? == Outcome::new());
        // What comes again after a kill: zeros are refused, since they are older, and values are accepted.
        ensure!(deliver(&sink(&server, protocol)?, first).await? == known);
        ensure!(deliver(&one, second.clone()).await? == Outcome::new());
        let before = server.raw("{cluster=\"eu-1\"}").await?;
        server.kill_and_start_again().await?;
        ensure!(deliver(&sink(&server, protocol)?, second).await? == Outcome::new());
        // Native histograms that are there already are counted, too, though not refused.
        let refused = server.metric("prometheus_tsdb_out_of_order_samples_total", "type=\"float\"").await?;
        ensure!(refused == 0.0, "{refused} samples are out of order");
        let raw = server.raw("{cluster=\"eu-1\"}").await?;
        ensure!(raw == before, "{before:?} became {raw:?}");
        check(&server, &raw, i64::try_from(at)?).await?;
    }
    Ok(())
}

/// Whether all is there of two intervals of [`every_kind`], the first of which ends at `at`.
async fn check(server: &Prometheus, raw: &BTreeMap<prometheus::Labels, Raw>, at: i64) -> anyhow::Result<()> {
    let interval = i64::try_from(INTERVAL)?;
    let numbers = |zero: bool, values: [f64; 2]| {
        let zero = zero.then_some((at - interval + 1, 0.0));
        zero.into_iter().chain([(at, values[0]), (at + interval, values[1])]).collect::<Vec<_>>()
    };
    let cart = ("service", "cart");
    for (name, more, zero, values) in [
        ("calls_total", &[cart, ("span_name", ODD)][..], true, [3.0, 6.0]),
        ("latency_bucket", &[cart, ("le", "0.002")], true, [2.0, 4.0]),
        ("latency_bucket", &[cart, ("le", "1")], true, [3.0, 5.0]),
        ("latency_bucket", &[cart, ("le", "+Inf")], true, [4.0, 8.0]),
        ("latency_count", &[cart], true, [4.0, 8.0]),
        ("latency_sum", &[cart], true, [2.5, 5.0]),
        ("target_info", &[("job", "cart")], false, [1.0, 1.0]),
    ] {
        let found = find(raw, name, more)?;
        ensure!(found.samples == numbers(zero, values), "{name} {more:?}: {found:?}");
    }
    let native = &find(raw, "latency", &[cart])?.histograms;
    let told: Vec<_> = native.iter().map(|(time, native)| (*time, native.count, native.sum)).collect();
    ensure!(told == [(at - interval + 1, 0.0, 0.0), (at, 4.0, 1.0), (at + interval, 8.0, 2.0)], "{told:?}");
    let step = 0.125_f64.exp2();
    // The first is that of zero.
    let buckets = &native[2].1.buckets[1..];
    let expected = [(step.powi(-1), 1.0, 2.0), (1.0, step, 1.0), (step.powi(3), step.powi(4), 3.0)];
    let near = |a: f64, b: f64| (a - b).abs() < 1e-9;
    let same = |(a, b): (&(f64, f64, f64), &(f64, f64, f64))| near(a.0, b.0) && near(a.1, b.1) && near(a.2, b.2);
    ensure!(buckets.len() == expected.len() && buckets.iter().zip(&expected).all(same), "{buckets:?}");
    // Exemplars are found by the series that they are of, and lead to traces.
    for (selector, le) in [("calls_total", None), ("latency_bucket", Some("1")), ("latency{service=\"cart\"}", None)] {
        let exemplars = server.exemplars(selector).await?;
        ensure!(!exemplars.is_empty(), "{selector} has no exemplars");
        for exemplar in exemplars {
            ensure!(exemplar.labels.get("trace_id").is_some_and(|id| id == TRACE), "{exemplar:?}");
            ensure!(exemplar.labels.get("span_id").is_some_and(|id| id == "cdcdcdcdcdcdcdcd"), "{exemplar:?}");
            ensure!(exemplar.series.get("le").map(String::as_str) == le && exemplar.value == 0.003, "{exemplar:?}");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_sample_that_does_not_fit_costs_no_other() -> anyhow::Result<()> {
    let Some(program) = prometheus::program()? else { return Ok(()) };
    let server = Prometheus::start(program).await?;
    let (sink, at) = (sink(&server, ProtocolConfig::Auto)?, recent()?);
    let one = |n: u64, at: u64, count: u64| {
        let value = Some(Value::Count(count));
        record("calls_total", SUM, &[("n", &n.to_string())], &[Sample(at - 60_000, at, value, &[])])
    };
    ensure!(deliver(&sink, batch((0..20).map(|n| one(n, at, n + 1)))).await? == Outcome::new());
    // Another value at the same time, and a time before.
    let odd = (0..20).map(|n| match n {
        7 => one(7, at, 1000),
        13 => one(13, at - 1, 1000),
        n => one(n, at + INTERVAL, n + 2),
    });
    let known = Outcome::from([("duplicate_sample", 1), ("out_of_order", 1)]);
    let outcome = deliver(&sink, batch(odd)).await?;
    ensure!(outcome == known, "{outcome:?}");
    let raw = server.raw("calls_total").await?;
    ensure!(raw.len() == 20, "{raw:?}");
    for n in 0..20_u32 {
        let values: Vec<f64> =
            find(&raw, "calls_total", &[("n", &n.to_string())])?.samples.iter().map(|s| s.1).collect();
        let first = f64::from(n) + 1.0;
        let expected = if n == 7 || n == 13 { vec![first] } else { vec![first, first + 1.0] };
        ensure!(values == expected, "{n}: {values:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_series_that_ends_is_gone_at_once() -> anyhow::Result<()> {
    let Some(program) = prometheus::program()? else { return Ok(()) };
    let server = Prometheus::start(program).await?;
    let (sink, at) = (sink(&server, ProtocolConfig::Auto)?, recent()?);
    ensure!(deliver(&sink, batch(every_kind(at, 1, true))).await? == Outcome::new());
    let end = at + INTERVAL - 1;
    let ends = [
        record("calls_total", SUM, &[("service", "cart"), ("span_name", ODD)], &[Sample(at, end, None, &[])]),
        record("latency", CLASSIC, &[("service", "cart")], &[Sample(at, end, None, &[])]),
        record("latency", NATIVE, &[("service", "cart")], &[Sample(at, end, None, &[])]),
    ];
    ensure!(deliver(&sink, batch(ends)).await? == Outcome::new());
    let seconds = |ms: u64| ms as f64 / 1000.0;
    let seen = "count({cluster=\"eu-1\"})";
    let before = server.query_at(seen, seconds(end - 1)).await?;
    ensure!(before.first().is_some_and(|(_, count)| *count == 8.0), "{before:?}");
    let behind = server.query_at("{cluster=\"eu-1\"}", seconds(end)).await?;
    let names: Vec<_> = behind.iter().map(|(labels, _)| &labels["__name__"]).collect();
    ensure!(names == ["target_info"], "{names:?}");
    // Who comes again begins anew, behind its end.
    ensure!(deliver(&sink, batch(every_kind(at + 4 * INTERVAL, 1, true))).await? == Outcome::new());
    let again = server.query_at(seen, seconds(at + 4 * INTERVAL)).await?;
    ensure!(again.first().is_some_and(|(_, count)| *count == 8.0), "{again:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_native_histograms_holds_them_up_and_says_why() -> anyhow::Result<()> {
    let Some(program) = prometheus::program()? else { return Ok(()) };
    let server = Prometheus::start_with(program, &[]).await?;
    if server.version().await? >= (3, 8) {
        eprintln!("SKIPPED, this Prometheus always has native histograms");
        return Ok(());
    }
    let sink = sink(&server, ProtocolConfig::Auto)?;
    let mut records = every_kind(recent()?, 1, false);
    let native = sink.encode(&batch([records.remove(2)])).requests.remove(0);
    let answer = sink.attempt(&native, 0).await;
    ensure!(matches!(&answer, Answer::Blocked { reason: "native_histograms_off", .. }), "{answer:?}");
    // Exemplars that it has no room for cost no samples.
    ensure!(deliver(&sink, batch(records)).await? == Outcome::new());
    ensure!(server.raw("{cluster=\"eu-1\"}").await?.len() == 7);
    Ok(())
}
