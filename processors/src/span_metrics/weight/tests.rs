use opentelemetry_proto::tonic::trace::v1::Span;
use proptest::prelude::*;
use prost::Message;

use super::*;

fn span(trace_state: &str, trace_id: u128, span_id: u64) -> Vec<u8> {
    let span = Span {
        trace_id: trace_id.to_be_bytes().to_vec(),
        span_id: span_id.to_be_bytes().to_vec(),
        trace_state: trace_state.into(),
        ..Span::default()
    };
    span.encode_to_vec()
}

fn weight_of(trace_state: &str, ratio: Option<f64>) -> u64 {
    weight(&SpanView::new(&span(trace_state, 0x0102_0304_0506_0708, 9)), ratio)
}

#[test]
fn probabilities_that_divide_one_give_exact_weights() {
    for (trace_state, expected) in [
        ("ot=th:0", 1),
        ("ot=th:00000000000000", 1),
        ("ot=th:8", 2),
        ("ot=th:80", 2),
        ("ot=th:80000000000000", 2),
        ("ot=th:c", 4),
        ("ot=th:C", 4),
        ("ot=th:e", 8),
        ("ot=th:f", 16),
        ("ot=th:ff", 256),
        ("ot=th:fff8", 8192),
        ("ot=th:ffff", 65_536),
        ("ot=rv:00000000000001;th:c", 4),
        ("ot=th:c;rv:00000000000001", 4),
        ("other=1,ot=th:c,third=th:8", 4),
        (" other=1 , \tot=th:c ", 4),
        ("ot=th:fffff", MAX_WEIGHT),
        ("ot=th:ffffffffffffff", MAX_WEIGHT),
    ] {
        assert_eq!(weight_of(trace_state, None), expected, "{trace_state}");
    }
}

#[test]
fn a_span_with_a_malformed_trace_state_stands_for_itself() {
    for trace_state in [
        "",
        "ot",
        "ot=",
        "ot=th",
        "ot=th:",
        "ot=th: c",
        "ot=th:c ;x:1",
        "ot=th:+c",
        "ot=th:-c",
        "ot=th:0xc",
        "ot=th:cg",
        "ot=th:ççç",
        "ot=th:c00000000000000",
        "ot=tt:c",
        "ot=th=c",
        "OT=th:c",
        "ott=th:c",
        "x@ot=th:c",
        "vendor=th:c",
        "th:c",
        ",,,",
        "ot=;;;",
        "ot=x:1,ot=th:c",
    ] {
        assert_eq!(threshold(trace_state), None, "{trace_state}");
        assert_eq!(weight_of(trace_state, None), 1, "{trace_state}");
    }
}

#[test]
fn thresholds_are_filled_up_at_the_end() {
    for (trace_state, expected) in [
        ("ot=th:0", 0),
        ("ot=th:8", 1 << 55),
        ("ot=th:1", 1 << 52),
        ("ot=th:fd70a3d70a3d71", 0xfd_70a3_d70a_3d71),
        ("a=b,ot=rv:1;th:123,c=d", 0x12_3000_0000_0000),
    ] {
        assert_eq!(threshold(trace_state), Some(expected), "{trace_state}");
    }
}

#[test]
fn ratios_of_attributes_go_before_the_trace_state_where_they_are_probabilities() {
    for (ratio, expected) in [
        (1.0, 1),
        (0.5, 2),
        (0.25, 4),
        (0.125, 8),
        (1e-6, MAX_WEIGHT),
        (1e-9, MAX_WEIGHT),
        (f64::MIN_POSITIVE, MAX_WEIGHT),
        (5e-324, MAX_WEIGHT),
        // Out of bounds: the trace state says 16.
        (0.0, 16),
        (-0.5, 16),
        (1.0001, 16),
        (2.0, 16),
        (f64::NAN, 16),
        (f64::INFINITY, 16),
        (f64::NEG_INFINITY, 16),
    ] {
        assert_eq!(weight_of("ot=th:f", Some(ratio)), expected, "{ratio}");
    }
    assert_eq!(weight_of("", Some(0.0)), 1);
}

/// Mean weight and the share of the greater one over that many ids, counted up as bad senders do.
fn mean(trace_state: &str, ratio: Option<f64>, count: u64) -> (f64, Vec<u64>) {
    let weights: Vec<_> =
        (0..count).map(|id| weight(&SpanView::new(&span(trace_state, u128::from(id / 7), id)), ratio)).collect();
    let mut distinct = weights.clone();
    distinct.sort_unstable();
    distinct.dedup();
    (weights.iter().sum::<u64>() as f64 / count as f64, distinct)
}

#[test]
fn fractions_are_right_in_the_mean_over_a_hundred_thousand_spans() {
    const COUNT: u64 = 100_000;
    for (trace_state, ratio, exact) in [
        // 2⁵⁶ / (2⁵⁶ − T) of 4, 5 and 14 digits.
        ("ot=th:4", None, 4.0 / 3.0),
        ("ot=th:2", None, 8.0 / 7.0),
        ("ot=th:d", None, 16.0 / 3.0),
        ("ot=th:fd70a3d70a3d71", None, 100.0),
        ("", Some(0.3), 10.0 / 3.0),
        ("", Some(0.7), 10.0 / 7.0),
        ("", Some(0.999), 1.0 / 0.999),
        ("", Some(0.08), 12.5),
    ] {
        let (mean, distinct) = mean(trace_state, ratio, COUNT);
        let fraction: f64 = exact % 1.0;
        // Six standard deviations of a coin with that probability.
        let bound = 6.0 * (fraction * (1.0 - fraction) / COUNT as f64).sqrt() + 1e-9;
        assert!((mean - exact).abs() <= bound, "{trace_state} {ratio:?}: {mean} and not {exact} ± {bound}");
        let whole = exact.floor() as u64;
        assert!(distinct.iter().all(|weight| (whole..=whole + 1).contains(weight)), "{trace_state} {distinct:?}");
    }
}

#[test]
fn randomness_is_explicit_or_the_end_of_the_trace_id() {
    let of = |trace_state: &str, trace_id: u128| randomness(&SpanView::new(&span(trace_state, trace_id, 1)));
    assert_eq!(of("", u128::MAX), (1 << 56) - 1);
    assert_eq!(of("", 0xaa00_0000_0000_0001), 1);
    assert_eq!(of("", 0x01_0203_0405_0607), 0x01_0203_0405_0607);
    assert_eq!(of("ot=th:c;rv:1234567890abcd", 7), 0x12_3456_7890_abcd);
    for malformed in ["ot=rv:1", "ot=rv:1234567890abcg", "ot=rv:1234567890abcde", "rv:1234567890abcd", "ot=rv:"] {
        assert_eq!(of(malformed, 7), 7, "{malformed}");
    }
    let short = Span { trace_id: vec![1, 2], ..Span::default() }.encode_to_vec();
    assert_eq!(randomness(&SpanView::new(&short)), 0x0102);
    assert_eq!(randomness(&SpanView::new(&[])), 0);
}

proptest! {
    #[test]
    fn any_span_has_one_weight_within_bounds(
        trace_state in "(ot=)?[a-z=:;, ]{0,4}(th:)?[0-9a-fg]{0,16}[;,]?\\PC{0,4}",
        ids in any::<(u128, u64)>(),
        ratio in prop::option::of(any::<f64>()),
    ) {
        let raw = span(&trace_state, ids.0, ids.1);
        let first = weight(&SpanView::new(&raw), ratio);
        prop_assert!((1..=MAX_WEIGHT).contains(&first));
        prop_assert_eq!(weight(&SpanView::new(&raw.clone()), ratio), first);
        prop_assert!(randomness(&SpanView::new(&raw)) < 1 << 56);
        prop_assert!(threshold(&trace_state).is_none_or(|threshold| threshold < 1 << 56));
    }

    /// The weight is one of the two whole numbers around the exact one.
    #[test]
    fn weights_stand_next_to_the_exact_count(threshold in 0..1_u64 << 56, span_id in any::<u64>()) {
        let found = weight(&SpanView::new(&span(&format!("ot=th:{threshold:014x}"), 1, span_id)), None);
        let (whole, rest) = (ALL / (ALL - threshold), ALL % (ALL - threshold));
        let above = whole + u64::from(rest > 0);
        prop_assert!(found == whole.min(MAX_WEIGHT) || found == above.min(MAX_WEIGHT), "{} for {}", found, whole);
    }
}
