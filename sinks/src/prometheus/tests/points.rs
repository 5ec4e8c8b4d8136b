//! Tables: points in, series out.

use std::fmt::Write as _;

use afflux_runtime::delivery::Backend as _;

use super::super::expand::STALE;
use super::super::{Protocol, ProtocolConfig};
use super::wire::{Flat, Histogram, read};
use super::*;

/// A series on a line, as a person writes it: `name{label="value"} value@time`, with exemplars behind `#`.
fn line(flat: &Flat) -> String {
    let name = |(name, value): &(String, String)| (name == "__name__").then(|| value.clone());
    let mut text = flat.labels.iter().find_map(name).unwrap();
    let labels = flat.labels.iter().filter(|(name, _)| name != "__name__" && name != "cluster");
    let labels: Vec<String> = labels.map(|(name, value)| format!("{name}={value}")).collect();
    let _ = write!(text, "{{{}}}", labels.join(","));
    for (bits, at, start) in &flat.samples {
        let value = if *bits == STALE { "stale".to_owned() } else { f64::from_bits(*bits).to_string() };
        let _ = write!(text, " {value}@{at}");
        if *start != 0 {
            let _ = write!(text, " since {start}");
        }
    }
    for (labels, value, at) in &flat.exemplars {
        let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let _ = write!(text, " # {{{}}} {value}@{at}", labels.join(","));
    }
    text
}

/// The series of each request, in both versions; those of 2.0 are the first.
fn lines(values: &[Bytes]) -> [Vec<Vec<String>>; 2] {
    [(ProtocolConfig::Auto, Protocol::V2), (ProtocolConfig::V1, Protocol::V1)].map(|(config, protocol)| {
        let sink = sink(PrometheusConfig { protocol: config, ..PrometheusConfig::default() });
        let encoded = sink.encode(&batch(values.iter().cloned().map(Some)));
        assert_eq!(encoded.refused, []);
        assert!(encoded.requests.iter().all(|request| request.protocol() == protocol));
        encoded.requests.iter().map(|request| read(request).series.iter().map(line).collect()).collect()
    })
}

/// Without since when samples count, which 1.0 does not say.
fn without_starts(lines: &[&str]) -> Vec<String> {
    lines.iter().map(|line| line.replace(" since 1000", "")).collect()
}

fn check(value: Bytes, expected: &[&str]) {
    let [new, old] = lines(&[value]);
    assert_eq!(new, [expected]);
    assert_eq!(old, [without_starts(expected)]);
}

#[test]
fn a_counter_is_one_series_with_its_time_and_since_when_it_counts() {
    let metric = ("traces_spanmetrics_calls_total", "", SUM);
    let value = Some(Value::Count(42));
    let record = series(metric, &[("service", "cart")], &[point(1000, 16_000, value, &[EXEMPLAR])]);
    let exemplar = "# {span_id=cdcdcdcdcdcdcdcd,trace_id=abababababababababababababababab} 0.003@7";
    check(record, &[&format!("traces_spanmetrics_calls_total{{service=cart}} 42@16000 since 1000 {exemplar}")]);
}

#[test]
fn a_gauge_says_nothing_of_a_start() {
    let record = series(
        ("traces_target_info", "", Kind::Gauge),
        &[("job", "a/b")],
        &[point(1000, 2000, Some(Value::Number(1.0)), &[])],
    );
    check(record, &["traces_target_info{job=a/b} 1@2000"]);
}

#[test]
fn a_classic_histogram_is_buckets_that_add_up_a_sum_and_a_count() {
    let counts = [1, 0, 300];
    let value = Value::Histogram { sum: 1.5, bounds: &[0.002, 1.0], counts: &counts };
    let high = Exemplar { value: 7.0, time_unix_nano: 0, span_id: [1; 8], trace_id: [2; 16] };
    let nobody = Exemplar { trace_id: [0; 16], ..EXEMPLAR };
    let exemplars =
        [high, Exemplar { value: 1.0, ..EXEMPLAR }, Exemplar { time_unix_nano: 5 * MS, ..EXEMPLAR }, nobody];
    let record =
        series(("latency", "s", CLASSIC), &[("a", "b"), ("z", "y")], &[point(1000, 9000, Some(value), &exemplars)]);
    let (trace, span) = ("ab".repeat(16), "cd".repeat(8));
    let middle = format!("# {{span_id={span},trace_id={trace}}} 0.003@5 # {{span_id={span},trace_id={trace}}} 1@7");
    let last = format!("# {{span_id={},trace_id={}}} 7@9000", "01".repeat(8), "02".repeat(16));
    check(
        record,
        &[
            "latency_seconds_bucket{a=b,le=0.002,z=y} 1@9000 since 1000",
            &format!("latency_seconds_bucket{{a=b,le=1,z=y}} 1@9000 since 1000 {middle}"),
            &format!("latency_seconds_bucket{{a=b,le=+Inf,z=y}} 301@9000 since 1000 {last}"),
            "latency_seconds_sum{a=b,z=y} 1.5@9000 since 1000",
            "latency_seconds_count{a=b,z=y} 301@9000 since 1000",
        ],
    );
}

#[test]
fn zeros_go_before_values_in_a_request_of_their_own() {
    let two =
        |at, count| [point(at, at, Some(Value::Count(0)), &[]), point(at, at + 14, Some(Value::Count(count)), &[])];
    let histogram = |counts| Some(Value::Histogram { sum: 0.0, bounds: &[1.0], counts });
    let records = [
        series(("a_total", "", SUM), &[], &two(1000, 3)),
        series(("b_total", "", SUM), &[], &two(1000, 3)[1..]),
        // Nothing counted is no beginning.
        series(("c_total", "", SUM), &[], &[point(1000, 1015, Some(Value::Count(0)), &[])]),
        series(
            ("d", "", CLASSIC),
            &[],
            &[point(1000, 1000, histogram(&[0, 0]), &[]), point(1000, 1014, histogram(&[1, 0]), &[])],
        ),
    ];
    let zeros =
        ["a_total{} 0@1000", "d_bucket{le=1} 0@1000", "d_bucket{le=+Inf} 0@1000", "d_sum{} 0@1000", "d_count{} 0@1000"];
    let values = [
        "a_total{} 3@1014 since 1000",
        "b_total{} 3@1014 since 1000",
        "c_total{} 0@1015 since 1000",
        "d_bucket{le=1} 1@1014 since 1000",
        "d_bucket{le=+Inf} 1@1014 since 1000",
        "d_sum{} 0@1014 since 1000",
        "d_count{} 1@1014 since 1000",
    ];
    let [new, old] = lines(&records);
    assert_eq!(new, [&zeros[..], &values[..]]);
    assert_eq!(old, [without_starts(&zeros), without_starts(&values)]);
}

#[test]
fn a_series_that_ends_ends_in_all_that_it_is() {
    let end = [point(1000, 9000, None, &[])];
    check(series(("a_total", "", SUM), &[("a", "b")], &end), &["a_total{a=b} stale@9000"]);
    // Where an older version has written the end, without bounds, the last one is certain.
    let unknown = ["h_bucket{le=+Inf} stale@9000", "h_sum{} stale@9000", "h_count{} stale@9000"];
    check(series(("h", "", CLASSIC), &[], &end), &unknown);
    let ended = Point { ended_bounds: &[1.0, 2.0], ..point(1000, 9000, None, &[]) };
    let all = [
        "h_bucket{le=1} stale@9000",
        "h_bucket{le=2} stale@9000",
        "h_bucket{le=+Inf} stale@9000",
        "h_sum{} stale@9000",
        "h_count{} stale@9000",
    ];
    check(series(("h", "", CLASSIC), &[], &[ended]), &all);
}

#[test]
fn an_exponential_histogram_is_one_native_histogram() {
    let value = Value::Exponential { sum: 2.5, scale: 3, zero_count: 4, offset: -2, counts: &[5, 0, 0, 6, 0, 0, 0, 9] };
    let record = series(
        ("latency", "", NATIVE),
        &[],
        &[point(1000, 9000, Some(value), &[EXEMPLAR]), point(1000, 10_000, None, &[])],
    );
    for config in [ProtocolConfig::V2, ProtocolConfig::V1] {
        let sink = sink(PrometheusConfig { protocol: config, ..PrometheusConfig::default() });
        let encoded = sink.encode(&batch([Some(record.clone())]));
        let [value, end] = &read(&encoded.requests[0]).series[..] else { panic!("{encoded:?}") };
        assert!(line(value).starts_with("latency{} # {span_id="), "{}", line(value));
        let Histogram { count, sum, schema, zero_count, timestamp, start, .. } = value.histograms[0].clone();
        assert_eq!((count, sum, schema, zero_count, timestamp), (24, 2.5, 3, 4, 9000));
        assert_eq!(start, if config == ProtocolConfig::V2 { 1000 } else { 0 });
        let spans: Vec<_> = value.histograms[0].spans.iter().map(|span| (span.offset, span.length)).collect();
        assert_eq!(spans, [(-1, 4), (3, 1)], "two empty buckets are cheaper than a span, three are not");
        assert_eq!(value.histograms[0].buckets(), [(-1, 5), (2, 6), (6, 9)].into());
        assert_eq!((end.histograms[0].sum.to_bits(), end.histograms[0].timestamp), (STALE, 10_000));
    }
}

#[test]
fn what_cannot_be_sent_is_refused_with_its_reason_and_the_rest_goes() {
    let good = series(("a_total", "", SUM), &[], &[point(1000, 2000, Some(Value::Count(1)), &[])]);
    let delta = series(("a", "", Kind::Sum(Temporality::Delta)), &[], &[point(1000, 2000, Some(Value::Count(1)), &[])]);
    let coarse = Value::Exponential { sum: 1.0, scale: -5, zero_count: 0, offset: 0, counts: &[1] };
    let coarse = series(("h", "", NATIVE), &[], &[point(1000, 2000, Some(coarse), &[])]);
    let half = good.slice(..good.len() - 1);
    // What comes before the fault goes to the dead letters with the rest, and not to the server.
    let later = Bytes::from([&good[..], &half].concat());
    let sink = sink(PrometheusConfig::default());
    let values =
        [Some(delta), None, Some(good.clone()), Some(half), Some(later), Some(Bytes::new()), Some(coarse), Some(good)];
    let encoded = sink.encode(&batch(values));
    let refused: Vec<_> = encoded.refused.iter().map(|refused| (refused.record, refused.reason)).collect();
    assert_eq!(
        refused,
        [(0, "not_cumulative"), (3, "malformed"), (4, "malformed"), (5, "unsupported"), (6, "too_coarse")]
    );
    assert_eq!(read(&encoded.requests[0]).series.len(), 2);
    assert_eq!(sink.encode(&batch([None])).requests.len(), 0, "a tombstone has nothing to send");
}

#[test]
fn metadata_says_type_help_and_unit() {
    let value = Some(Value::Histogram { sum: 0.5, bounds: &[1.0], counts: &[0, 1] });
    let records = [
        series(("traces.span.metrics.duration", "ms", CLASSIC), &[], &[point(1000, 2000, value, &[])]),
        series(("traces_spanmetrics_calls_total", "", SUM), &[], &[point(1000, 2000, Some(Value::Count(1)), &[])]),
    ];
    for protocol in [ProtocolConfig::V1, ProtocolConfig::V2] {
        let sink = sink(PrometheusConfig { protocol, ..PrometheusConfig::default() });
        let encoded = sink.encode(&batch(records.iter().cloned().map(Some)));
        let metadata = read(&encoded.requests[0]).metadata;
        let expected = [
            ("traces_span_metrics_duration_milliseconds", 3, "Durations of spans.", "milliseconds"),
            ("traces_spanmetrics_calls_total", 1, "Spans.", ""),
        ];
        let expected =
            expected.map(|(name, kind, help, unit)| (name.to_owned(), (kind, help.to_owned(), unit.to_owned())));
        assert_eq!(metadata, expected.into());
    }
}

#[test]
fn requests_are_closed_behind_the_record_that_fills_them_and_records_divided_by_series() {
    let record = |n: u64| {
        Some(series(
            ("a_total", "", SUM),
            &[("n", &n.to_string())],
            &[point(1000, 1000, Some(Value::Count(0)), &[]), point(1000, 2000, Some(Value::Count(1)), &[])],
        ))
    };
    let small = sink(PrometheusConfig { max_samples_per_send: 40, ..PrometheusConfig::default() });
    let whole = batch((0..100).map(record));
    let samples: Vec<_> =
        small.encode(&whole).requests.iter().map(|request| (request.zeros, request.samples())).collect();
    assert_eq!(samples, [(true, 40), (true, 40), (true, 20), (false, 40), (false, 40), (false, 20)]);
    assert_eq!(small.divide(whole).len(), 1, "few records stay together");
    let many = batch((0..1000).map(record));
    let keys = |batch: &Batch| batch.records.iter().map(|record| record.key.clone().unwrap()).collect::<Vec<_>>();
    let parts: Vec<_> = small.divide(many.clone()).iter().map(keys).collect();
    assert_eq!((parts.len(), parts.iter().map(Vec::len).sum::<usize>()), (4, 1000));
    assert!(parts.iter().all(|part| part.len() > 150), "about equal");
    assert_eq!(parts, small.divide(many).iter().map(keys).collect::<Vec<_>>(), "the same each time");
}
