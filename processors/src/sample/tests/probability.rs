use std::collections::HashSet;
use std::slice::from_ref;

use afflux_schemas::otlp::trace::SpanView;
use afflux_schemas::wire::put_len_field;

use super::*;
use crate::sample::mark;
use crate::sample::probability::{NEVER, threshold};
use crate::span_metrics::weight;

const HALF: u64 = NEVER / 2;

/// Names of spans kept at that ratio.
fn kept(ratio: &str, given: &[Given]) -> Vec<Span> {
    let mut run = Run::new(&config(&format!("probability: {{ratio: {ratio}}}")));
    run.pass(envelope(1, 10, request(given)));
    let kept: Vec<_> = run.step.out.iter().flat_map(|envelope| spans(&envelope.value)).collect();
    let tally = run.tally();
    assert_eq!(tally.dropped.get("sampled_out").copied().unwrap_or(0), (given.len() - kept.len()) as u64);
    assert!(run.step.out.iter().all(|envelope| envelope.items == kept.len() as u64));
    kept
}

#[test]
fn a_ratio_is_the_share_of_thresholds_below_which_nothing_is_kept() {
    let of = |ratio| threshold(ratio, String::new).unwrap();
    assert_eq!([of(1.0), of(0.5), of(0.25), of(0.0)], [0, HALF, HALF + HALF / 2, NEVER]);
    assert_eq!(NEVER - of(0.1), (0.1 * NEVER as f64) as u64);
    assert_eq!(of(1e-6), NEVER - (1e-6 * NEVER as f64).round() as u64);
}

#[test]
fn a_span_is_kept_from_the_threshold_on() {
    let below = span(HALF - 1, "below");
    let (on, above) = (span(HALF, "on"), span(NEVER - 1, "above"));
    let found = kept("0.5", &[below, on, above]);
    let told: Vec<_> = found.iter().map(|span| (&*span.name, &*span.trace_state)).collect();
    assert_eq!(told, [("on", "ot=th:8"), ("above", "ot=th:8")]);
    assert_eq!(kept("0", &[span(NEVER - 1, "a")]), []);
}

#[test]
fn shares_are_right_and_what_a_small_share_keeps_a_greater_one_keeps() {
    // SplitMix64.
    let random = |n: u64| {
        let mut bits = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ bits >> 31
    };
    const ALL: u64 = 100_000;
    let request = |chunk: u64| {
        let spans: Vec<_> = (0..1000).map(|n| span(random(chunk * 1000 + n), "")).collect();
        envelope(chunk, 10, request(&spans))
    };
    let requests: Vec<_> = (0..ALL / 1000).map(request).collect();
    let mut before = HashSet::new();
    for ratio in [0.01, 0.1, 0.5] {
        let mut run = Run::new(&config(&format!("probability: {{ratio: {ratio}}}")));
        for request in &requests {
            run.pass(request.clone());
        }
        let mut weights = 0;
        let mut ids = HashSet::new();
        for envelope in &run.step.out {
            for span in spans(&envelope.value) {
                ids.insert(u64::from_be_bytes(span.trace_id[8..].try_into().unwrap()));
                weights += weight::weight(&SpanView::new(&span.encode_to_vec()), None);
            }
        }
        // Four standard deviations.
        let (expected, off) = (ALL as f64 * ratio, 4.0 * (ALL as f64 * ratio * (1.0 - ratio)).sqrt());
        assert!((ids.len() as f64 - expected).abs() < off, "{ratio}: {}", ids.len());
        assert!((weights as f64 - ALL as f64).abs() < off / ratio + 1.0, "{ratio}: {weights}");
        assert_eq!(run.tally().dropped["sampled_out"] + ids.len() as u64, ALL);
        assert!(before.is_subset(&ids), "{ratio}");
        before = ids;
    }
}

#[test]
fn services_have_ratios_of_their_own() {
    let mut run = Run::new(&config("probability: {ratio: 0.5, services: {cart: 1, health: 0, slow: 0.75}}"));
    let given = |trace| ["shop", "cart", "health", "slow"].map(|service| of(service, span(trace, service)));
    run.pass(envelope(1, 10, request(&given(0))));
    run.pass(envelope(2, 10, request(&given(HALF - 1))));
    run.pass(envelope(3, 10, request(&given(HALF))));
    assert_eq!(run.names(), ["cart", "cart slow~", "shop~ cart slow~"]);
    assert_eq!(run.tally().dropped, counts(&[("sampled_out", 6)]));
}

#[test]
fn the_trace_state_says_the_greater_threshold_and_keeps_what_else_it_said() {
    for (randomness, before, expected) in [
        (HALF, "", Some("ot=th:8")),
        (HALF - 1, "", None),
        (HALF, "a=1,b=2", Some("ot=th:8,a=1,b=2")),
        (HALF, " a=1 ,\tb=2", Some("ot=th:8,a=1,b=2")),
        (HALF, "ot=th:4", Some("ot=th:8")),
        (HALF, "a=1,ot=th:4,b=2", Some("ot=th:8,a=1,b=2")),
        (HALF, "ot=th:0", Some("ot=th:8")),
        // What says as much or more already stays as it is, wherever it stands.
        (HALF, "a=1,ot=th:8", Some("a=1,ot=th:8")),
        (NEVER - 1, "a=1,ot=th:C;x:1", Some("a=1,ot=th:C;x:1")),
        // It was not reached.
        (HALF, "ot=th:c", None),
        // Explicit randomness goes before the id's.
        (0, "ot=rv:80000000000000", Some("ot=th:8;rv:80000000000000")),
        (NEVER - 1, "ot=rv:7fffffffffffff", None),
        (0, "a=1,ot=x:y;rv:ffffffffffffff;th:4", Some("ot=th:8;x:y;rv:ffffffffffffff,a=1")),
        // What cannot be read counts as absent.
        (HALF, "ot=th:xyz", Some("ot=th:8")),
        (HALF, "ot=th:", Some("ot=th:8")),
        (HALF, "ot=th:ccccccccccccccc", Some("ot=th:8")),
        (HALF, "ot=", Some("ot=th:8")),
        (HALF, "ot=rv:f", Some("ot=th:8;rv:f")),
        (HALF, "what,,a=1,=", Some("ot=th:8,a=1,=")),
        (HALF, "ot=th:4,ot=th:c", Some("ot=th:8")),
        (HALF, "ottoman=th:c", Some("ot=th:8,ottoman=th:c")),
    ] {
        let one = with(span(randomness, "a"), |span| span.trace_state = before.into());
        let found = kept("0.5", from_ref(&one));
        let told = found.first().map(|span| &*span.trace_state);
        assert_eq!(told, expected, "{before:?}");
        if let Some(found) = found.first() {
            assert_eq!(*found, Span { trace_state: expected.unwrap().into(), ..one.1 }, "the rest stays");
        }
    }
}

#[test]
fn a_threshold_is_written_without_zeros_at_its_end() {
    for (threshold, expected) in [(1, "00000000000001"), (HALF, "8"), (0xe666, "0000000000e666"), (1 << 52, "1")] {
        assert_eq!(mark::trace_state("", threshold), format!("ot=th:{expected}"));
    }
}

#[test]
fn a_trace_state_keeps_to_thirty_two_entries() {
    let entries = |n: usize| (0..n).map(|n| format!("k{n}=v")).collect::<Vec<_>>().join(",");
    assert_eq!(mark::trace_state(&entries(31), HALF), format!("ot=th:8,{}", entries(31)));
    assert_eq!(mark::trace_state(&entries(32), HALF), format!("ot=th:8,{}", entries(31)));
    assert_eq!(mark::trace_state(&format!("{},ot=rv:1", entries(31)), HALF), format!("ot=th:8;rv:1,{}", entries(31)));
}

#[test]
fn what_encloses_spans_and_fields_that_are_unknown_stay() {
    let resource = Resource { attributes: vec![text("k", &"v".repeat(300))], ..Resource::default() };
    let spans = [span(HALF, "a"), span(0, "b"), span(HALF, &"c".repeat(200))].map(|(_, span)| span);
    let scope =
        |spans: &[Span]| ScopeSpans { spans: spans.to_vec(), schema_url: "scope".into(), ..ScopeSpans::default() };
    let scopes = |scopes: &[ScopeSpans]| ResourceSpans {
        resource: Some(resource.clone()),
        scope_spans: scopes.to_vec(),
        schema_url: "resource".into(),
    };
    let all = scopes(&[scope(&spans[1..2]), scope(&spans), scope(&[])]);
    let lost = scopes(&[scope(&spans[1..2])]);
    let mut value = TracesData { resource_spans: vec![lost.clone(), all, lost] }.encode_to_vec();
    put_len_field(&mut value, 77, b"unknown");
    let mut run = Run::new(&config("probability: {ratio: 0.5}"));
    run.pass(envelope(1, 10, value.into()));
    let mark = |span: &Span| Span { trace_state: "ot=th:8".into(), ..span.clone() };
    let left = scopes(&[scope(&[mark(&spans[0]), mark(&spans[2])])]);
    let mut expected = TracesData { resource_spans: vec![left] }.encode_to_vec();
    put_len_field(&mut expected, 77, b"unknown");
    assert_eq!(run.step.out[0].value, expected);
    assert_eq!(run.step.out[0].items, 2);
}

#[test]
fn a_span_without_a_trace_id_is_kept_and_marked_with_nothing() {
    for trace_id in [vec![], vec![0; 16], vec![1; 8]] {
        let one = with(span(0, "a"), |span| span.trace_id = trace_id.clone());
        assert_eq!(kept("0.5", from_ref(&one)), [one.1], "{trace_id:?}");
    }
}

#[test]
fn repeats_are_sampled_too_for_those_that_follow_and_counted_once() {
    let mut run = Run::new(&config("probability: {ratio: 0.5}"));
    let value = request(&[span(0, "a"), span(HALF, "b")]);
    for repeat in [true, false] {
        run.pass_at(vec![envelope(1, 10, value.clone())], repeat);
    }
    assert_eq!(run.step.repeated, run.step.out);
    assert_eq!(run.names(), ["b~"]);
    assert_eq!(run.tally().dropped, counts(&[("sampled_out", 1)]));
}
