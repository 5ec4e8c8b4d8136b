//! Records in, text out.

use std::time::Duration;

use afflux_bus::{Generation, Headers, PartitionId, Received};
use afflux_runtime::admin::{Exposition as _, TextFormat};
use afflux_runtime::config::Period;
use afflux_runtime::followed::Table as _;
use afflux_schemas::otlp::metrics::{Exemplar, Kind, Value};
use afflux_schemas::topics::{HEADER_TENANT, Topics};
use bytes::Bytes;

use super::{Scrape, ScrapeConfig, Shared};
use crate::prometheus::tests::{CLASSIC, EXEMPLAR, NATIVE, SUM, point, series};

const CALLS: (&str, &str, Kind) = ("traces_spanmetrics_calls_total", "", SUM);
const LATENCY: (&str, &str, Kind) = ("traces.span.metrics.duration", "s", CLASSIC);

fn shared(zero_for: Duration) -> Shared {
    let config = ScrapeConfig { zero_for: Period(zero_for), ..ScrapeConfig::default() };
    Scrape::new(&config, &Topics::default()).unwrap().shared
}

/// A table that has been read to its end, where nothing was.
fn following(zero_for: Duration) -> Shared {
    let shared = shared(zero_for);
    shared.replace(shared.fresh());
    shared
}

fn record(key: &str, value: Option<Bytes>) -> Received {
    Received {
        from: PartitionId::new("afflux.series", 0),
        generation: Generation(1),
        offset: 0,
        timestamp_ms: 0,
        key: Some(key.to_owned().into()),
        value,
        headers: Headers::new(),
    }
}

fn calls(service: &str, count: u64) -> Bytes {
    series(CALLS, &[("service", service)], &[point(1000, 16_000, Some(Value::Count(count)), &[EXEMPLAR])])
}

fn text(shared: &Shared, format: TextFormat) -> String {
    shared.text(format).unwrap().collect()
}

fn open(shared: &Shared) -> String {
    text(shared, TextFormat::OpenMetrics)
}

#[test]
fn all_kinds_are_written_in_both_formats() {
    let shared = following(Duration::ZERO);
    let high = Exemplar { value: 7.0, time_unix_nano: 0, span_id: [1; 8], trace_id: [2; 16] };
    let older = Exemplar { time_unix_nano: 1, trace_id: [3; 16], ..EXEMPLAR };
    let latency = Value::Histogram { sum: 1.5, bounds: &[0.002, 1.0], counts: &[1, 0, 300] };
    let info = Some(Value::Number(1.0));
    shared.update(&[
        record("a", Some(calls("cart", 42))),
        record("b", Some(series(LATENCY, &[], &[point(1000, 16_000, Some(latency), &[older, high, EXEMPLAR])]))),
        record(
            "c",
            Some(series(("traces_target_info", "", Kind::Gauge), &[("job", "a\"\\\nb")], &[point(0, 2, info, &[])])),
        ),
    ]);
    let expected = r##"# TYPE traces_spanmetrics_calls counter
# HELP traces_spanmetrics_calls Spans.
traces_spanmetrics_calls_total{cluster="eu-1",service="cart"} 42 # {trace_id="abababababababababababababababab",span_id="cdcdcdcdcdcdcdcd"} 0.003 0.007
# TYPE traces_span_metrics_duration_seconds histogram
# UNIT traces_span_metrics_duration_seconds seconds
traces_span_metrics_duration_seconds_bucket{cluster="eu-1",le="0.002"} 1
traces_span_metrics_duration_seconds_bucket{cluster="eu-1",le="1.0"} 1 # {trace_id="abababababababababababababababab",span_id="cdcdcdcdcdcdcdcd"} 0.003 0.007
traces_span_metrics_duration_seconds_bucket{cluster="eu-1",le="+Inf"} 301 # {trace_id="02020202020202020202020202020202",span_id="0101010101010101"} 7
traces_span_metrics_duration_seconds_count{cluster="eu-1"} 301
traces_span_metrics_duration_seconds_sum{cluster="eu-1"} 1.5
# TYPE traces_target_info gauge
# HELP traces_target_info Attributes of the resources that spans came from.
traces_target_info{cluster="eu-1",job="a\"\\\nb"} 1
# EOF
"##;
    assert_eq!(open(&shared), expected);
    let without_exemplars = expected.lines().map(|line| line.split_once(" # {").map_or(line, |(sample, _)| sample));
    let plain: String = without_exemplars
        .filter(|line| !line.starts_with("# UNIT") && *line != "# EOF")
        .map(|line| match line.strip_prefix("# ") {
            Some(head) => format!("# {}\n", head.replace("spanmetrics_calls", "spanmetrics_calls_total")),
            None => format!("{}\n", line.replace("le=\"1.0\"", "le=\"1\"")),
        })
        .collect();
    assert_eq!(text(&shared, TextFormat::Plain), plain);
}

#[test]
fn the_last_sample_is_shown_until_the_series_ends() {
    let shared = following(Duration::ZERO);
    let samples = [point(1, 1, Some(Value::Count(0)), &[]), point(1, 15_000, Some(Value::Count(3)), &[])];
    shared.update(&[
        record("a", Some(series(CALLS, &[("service", "cart")], &samples))),
        record("b", Some(calls("shop", 1))),
        record("b", Some(calls("shop", 2))),
        record("c", Some(calls("gone", 9))),
        record("c", Some(series(CALLS, &[("service", "gone")], &[point(1, 30_000, None, &[])]))),
        record("d", Some(calls("forgotten", 9))),
        record("d", None),
    ]);
    let lines = |text: String| -> Vec<String> {
        let samples = text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned);
        samples.map(|line| line.split(" # ").next().unwrap().replace("cluster=\"eu-1\",", "")).collect()
    };
    let name = "traces_spanmetrics_calls_total";
    let expected = [format!("{name}{{service=\"cart\"}} 3"), format!("{name}{{service=\"shop\"}} 2")];
    assert_eq!(lines(open(&shared)), expected);
    // Places are used again.
    shared.update(&[record("e", Some(calls("next", 5)))]);
    assert_eq!(lines(open(&shared)).len(), 3);
    let table = shared.table().unwrap();
    assert_eq!(table.read().unwrap().metric(0).unwrap().series.len(), 3);
}

#[test]
fn a_new_series_shows_zero_at_first_and_one_that_was_there_does_not() {
    let shared = shared(Duration::from_secs(60));
    let mut table = shared.fresh();
    Shared::apply(&mut table, &record("a", Some(calls("old", 7))));
    assert_eq!(shared.text(TextFormat::Plain).err(), Some("the series are still being read"));
    shared.replace(table);
    let latency = Value::Histogram { sum: 1.5, bounds: &[1.0], counts: &[1, 2] };
    shared.update(&[
        record("b", Some(calls("new", 5))),
        record("b", Some(calls("new", 6))),
        record("c", Some(series(LATENCY, &[], &[point(1, 2, Some(latency), &[EXEMPLAR])]))),
    ]);
    let shown = open(&shared);
    assert!(shown.contains("service=\"old\"} 7 # "), "{shown}");
    assert!(shown.contains("service=\"new\"} 0\n"), "{shown}");
    let zeros = shown.lines().filter(|line| line.contains("duration") && line.ends_with("} 0")).count();
    assert_eq!(zeros, 4, "{shown}");
    // Later, its value.
    let shared = following(Duration::from_millis(1));
    shared.update(&[record("b", Some(calls("new", 6)))]);
    std::thread::sleep(Duration::from_millis(2));
    assert!(open(&shared).contains("service=\"new\"} 6 # "));
}

#[test]
fn tenants_are_told_apart_and_native_histograms_are_left_out() {
    let shared = following(Duration::ZERO);
    let mut of_tenant = record("a", Some(calls("cart", 1)));
    of_tenant.headers.push(HEADER_TENANT, Bytes::from_static(b"shop"));
    let native = Value::Exponential { sum: 1.0, scale: 3, zero_count: 0, offset: 0, counts: &[1] };
    let native = series(("latency", "", NATIVE), &[], &[point(1, 2, Some(native), &[])]);
    let malformed = Bytes::from_static(b"\xff");
    shared.update(&[of_tenant, record("b", Some(malformed)), record("c", Some(native))]);
    let shown = text(&shared, TextFormat::Plain);
    assert!(shown.contains("{cluster=\"eu-1\",service=\"cart\",tenant=\"shop\"} 1\n"), "{shown}");
    assert_eq!(shown.lines().filter(|line| !line.starts_with('#')).count(), 1, "{shown}");
}

#[test]
fn a_long_text_is_whole_though_series_come_and_go_meanwhile() {
    let shared = following(Duration::ZERO);
    let records: Vec<_> = (0..5000).map(|n| record(&n.to_string(), Some(calls(&format!("s{n}"), n)))).collect();
    shared.update(&records);
    let mut parts = shared.text(TextFormat::OpenMetrics).unwrap();
    let mut whole = parts.next().unwrap();
    assert!(whole.len() < 70_000);
    shared.update(&[record("0", None), record("4999", None), record("new", Some(calls("new", 1)))]);
    whole.extend(parts);
    let told: std::collections::HashSet<_> = whole.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(told.len(), whole.lines().count() - 3, "each line once");
    for n in 1..4999 {
        let start = format!("traces_spanmetrics_calls_total{{cluster=\"eu-1\",service=\"s{n}\"}} {n} # ");
        assert!(told.iter().any(|line| line.starts_with(&start)), "{start}");
    }
    assert!(whole.ends_with("# EOF\n"));
}

#[test]
fn labels_that_prometheus_does_not_take_are_refused_by_their_keys() {
    let refused = |config: ScrapeConfig| config.validate().unwrap_err().to_string();
    let bad = ScrapeConfig { tenant_label: "le".into(), ..ScrapeConfig::default() };
    assert!(refused(bad).starts_with("sinks.scrape.tenant_label: `le` is no name"));
    let same = ScrapeConfig { tenant_label: "cluster".into(), ..ScrapeConfig::default() };
    assert!(refused(same).starts_with("sinks.scrape.tenant_label: `cluster` is the cluster's"));
    assert_eq!(ScrapeConfig::default().validate(), Ok(()));
}
