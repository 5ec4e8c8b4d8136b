//! Configurations that cannot be.

use super::*;

fn error(config: SpanMetricsConfig) -> String {
    SpanMetrics::new(config).err().map(|error| error.to_string()).unwrap_or_default()
}

#[test]
fn a_dimension_that_collides_is_refused_with_its_key_and_the_way_out() {
    let dimensions = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let config = SpanMetricsConfig { dimensions: dimensions(&["http.method", "span.name"]), ..calls() };
    let expected = "`processors.span_metrics.dimensions.1` names `span.name`, whose label `span_name` is there already; \
                    give it another name with `dimension_mappings`, or switch the other one off in `intrinsic_dimensions`";
    assert_eq!(error(config), expected);
    let twice = SpanMetricsConfig { dimensions: dimensions(&["http.method", "http_method"]), ..calls() };
    assert!(error(twice).starts_with("`processors.span_metrics.dimensions.1` names `http_method`"));
    let mapping = DimensionMapping { name: "service".into(), source_labels: dimensions(&["a"]), join: String::new() };
    let mapped = SpanMetricsConfig { dimension_mappings: vec![mapping.clone()], ..calls() };
    assert!(error(mapped).starts_with("`processors.span_metrics.dimension_mappings.0.name` names `service`"));
    let nothing = DimensionMapping { name: "x".into(), source_labels: Vec::new(), ..mapping };
    let nothing = SpanMetricsConfig { dimension_mappings: vec![nothing], ..calls() };
    assert!(error(nothing).starts_with("`processors.span_metrics.dimension_mappings.0.source_labels` is empty"));
    // In the connector's naming the dots stay.
    let connector = SpanMetricsConfig { naming: Naming::Connector, dimensions: dimensions(&["span_name"]), ..calls() };
    assert_eq!(error(connector), "");
}

#[test]
fn bounds_that_do_not_rise_an_interval_without_width_and_nothing_to_derive_are_refused() {
    for (buckets, at) in [(vec![1.0, 1.0], 1), (vec![0.0], 0), (vec![1.0, f64::NAN], 1), (vec![f64::INFINITY], 0)] {
        let error = error(SpanMetricsConfig { buckets, ..calls() });
        assert!(error.starts_with(&format!("`processors.span_metrics.buckets.{at}` is ")), "{error}");
    }
    let interval = Period(Duration::from_millis(999));
    assert!(
        error(SpanMetricsConfig { interval, ..calls() }).starts_with("`processors.span_metrics.interval` is 999ms")
    );
    assert!(error(SpanMetricsConfig { calls: false, ..calls() }).contains("are all off"));
}
