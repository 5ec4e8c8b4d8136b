use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::metrics::v1::{metric, number_data_point};
use prost::Message;

use super::*;

const EXEMPLAR: Exemplar = Exemplar { time_unix_nano: 7, value: 0.25, trace_id: [1; 16], span_id: [2; 8] };

fn values() -> [(Kind, Value<'static>); 6] {
    let histogram = Value::Histogram { sum: 1.5, bounds: &[0.002, 0.004], counts: &[1, 0, 300] };
    let exponential = Value::Exponential { sum: 2.5, scale: -3, zero_count: 4, offset: -17, counts: &[5, 0, 600] };
    [
        (Kind::Gauge, Value::Number(-0.5)),
        (Kind::Sum(Temporality::Delta), Value::Count(u64::MAX >> 1)),
        (Kind::Histogram(Temporality::Delta), histogram.clone()),
        (Kind::Histogram(Temporality::Cumulative), histogram),
        (Kind::Exponential(Temporality::Delta), exponential.clone()),
        (Kind::Exponential(Temporality::Cumulative), exponential),
    ]
}

fn point(value: Option<Value<'static>>) -> Point<'static> {
    let exemplars = if value.is_some() { &[EXEMPLAR][..] } else { &[] };
    Point { start_time_unix_nano: 5, time_unix_nano: 9, value, exemplars, ended_bounds: &[] }
}

#[test]
fn what_is_written_is_read_back_with_the_end_of_each_series() {
    let labels = Labels::new([("service", "cart"), ("span_name", "")]);
    for (kind, value) in values() {
        let mut draft = Draft::new("m", "s", kind);
        draft.add(&labels, &point(Some(value.clone())));
        draft.add(&labels, &point(None));
        let bytes = request(b"\x10\x01", "scope", &[Draft::new("left out", "", kind), draft]);
        let mut seen = Vec::new();
        read(&bytes, |series, point| {
            assert_eq!((series.resource, series.scope, series.metric), (&b"\x10\x01"[..], "scope", "m"));
            assert_eq!((series.unit, series.kind, series.labels), ("s", kind, &labels));
            let exemplars: Vec<_> = point.exemplars.to_vec();
            seen.push((point.start_time_unix_nano, point.time_unix_nano, format!("{:?}", point.value), exemplars));
        })
        .unwrap();
        let expected = [(5, 9, format!("{:?}", Some(value)), vec![EXEMPLAR]), (5, 9, "None".to_owned(), vec![])];
        assert_eq!(seen, expected, "{kind:?}");
    }
    assert_eq!(labels.pairs().collect::<Vec<_>>(), [("service", "cart"), ("span_name", "")]);
}

#[test]
fn others_read_what_is_written() {
    let labels = Labels::new([("service", "cart")]);
    let drafts = values().map(|(kind, value)| {
        let mut draft = Draft::new("m", "", kind);
        draft.add(&labels, &point(Some(value)));
        draft
    });
    let bytes = request(&[], "scope", &drafts);
    let decoded = ExportMetricsServiceRequest::decode(&bytes[..]).unwrap();
    assert_eq!(decoded.encode_to_vec().len(), bytes.len(), "nothing is lost");
    let metrics = &decoded.resource_metrics[0].scope_metrics[0].metrics;
    let data: Vec<_> = metrics.iter().map(|metric| metric.data.clone().unwrap()).collect();
    let metric::Data::Sum(sum) = &data[1] else { panic!("{data:?}") };
    assert!(sum.is_monotonic && sum.aggregation_temporality == 1);
    assert_eq!(sum.data_points[0].value, Some(number_data_point::Value::AsInt(i64::MAX)));
    assert_eq!(sum.data_points[0].attributes[0].key, "service");
    assert_eq!(sum.data_points[0].exemplars[0].trace_id, [1; 16]);
    let metric::Data::Histogram(histogram) = &data[3] else { panic!("{data:?}") };
    let buckets = &histogram.data_points[0];
    assert_eq!((histogram.aggregation_temporality, buckets.count, buckets.sum), (2, 301, Some(1.5)));
    assert_eq!((&buckets.bucket_counts[..], &buckets.explicit_bounds[..]), (&[1, 0, 300][..], &[0.002, 0.004][..]));
    let metric::Data::ExponentialHistogram(exponential) = &data[4] else { panic!("{data:?}") };
    let buckets = &exponential.data_points[0];
    assert_eq!((buckets.count, buckets.scale, buckets.zero_count), (609, -3, 4));
    let positive = buckets.positive.clone().unwrap();
    assert_eq!((positive.offset, positive.bucket_counts), (-17, vec![5, 0, 600]));
}

#[test]
fn cut_off_bytes_are_an_error_and_never_a_panic() {
    let mut draft = Draft::new("m", "", Kind::Histogram(Temporality::Delta));
    draft.add(&Labels::new([("a", "b")]), &point(Some(values()[2].1.clone())));
    let bytes = request(b"\x10\x01", "scope", &[draft]);
    let whole = (0..bytes.len()).filter(|&end| read(&bytes[..end], |_, _| {}).is_ok()).collect::<Vec<_>>();
    assert_eq!(whole, [0], "only the empty request is one");
    for at in 0..bytes.len() {
        let mut broken = bytes.clone();
        broken[at] ^= 0x55;
        let _ = read(&broken, |_, _| {});
    }
}
