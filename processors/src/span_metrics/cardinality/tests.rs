use super::sketch::Sketch;
use super::*;

mod model;

const MINUTE: i64 = 60_000;

fn config(max_series: u64, max_values_per_label: u64) -> CardinalityConfig {
    CardinalityConfig { max_series, max_values_per_label, ..CardinalityConfig::default() }
}

fn governor(config: CardinalityConfig) -> Governor {
    Governor::new(config, ["service", "span_name", "route"], Some(1))
}

fn set(values: &[&str]) -> Vec<(usize, String)> {
    values.iter().map(|value| (*value).to_owned()).enumerate().collect()
}

/// Admits a label set and counts an item; the verdict, and what the labels have become.
fn one(governor: &mut Governor, values: &[&str], now_ms: i64) -> (Verdict, Vec<String>) {
    let mut labels = set(values);
    let verdict = governor.admit("t", &mut labels, now_ms);
    assert!(governor.touch(verdict.ticket(), 1, now_ms));
    (verdict, labels.into_iter().map(|(_, value)| value).collect())
}

fn tenant(governor: &Governor) -> TenantReport {
    let mut tenants = governor.report().tenants;
    assert_eq!(tenants.len(), 1);
    tenants.remove(0)
}

#[test]
fn label_sets_that_become_the_same_are_one_series() {
    let mut governor = governor(config(10, 10));
    let (first, labels) = one(&mut governor, &["shop", "GET /users/1", ""], 0);
    assert_eq!(labels, ["shop", "GET /users/{id}", ""]);
    let (second, _) = one(&mut governor, &["shop", "GET /users/2"], 0);
    let (other, _) = one(&mut governor, &["shop", "GET /users"], 0);
    assert_eq!(first, second, "an empty value is none");
    assert_ne!(first.ticket().series(), other.ticket().series());
    let report = tenant(&governor);
    assert_eq!((report.series, report.items), (2, 3));
    let folded = FoldedName { template: "GET /users/{id}".into(), names: 2, example: "GET /users/1".into() };
    assert_eq!(report.folded, [folded]);
    assert_eq!(report.labels.iter().map(|label| label.values).collect::<Vec<_>>(), [1, 2, 0]);
}

#[test]
fn values_beyond_the_limit_of_a_label_become_one() {
    let mut governor = governor(config(0, 2));
    for (route, expected) in [("a", "a"), ("b", "b"), ("c", OVERFLOW_VALUE), ("d", OVERFLOW_VALUE), ("a", "a")] {
        let (verdict, labels) = one(&mut governor, &["shop", "GET", route], 0);
        assert_eq!(labels, ["shop", "GET", expected]);
        assert!(matches!(verdict, Verdict::Own(_)));
    }
    let report = tenant(&governor);
    assert_eq!((report.series, report.overflow_sets), (3, 0));
    let route = LabelReport { label: "route".into(), values: 2, max_values: 2, capped_values: 2 };
    assert_eq!(report.labels[2], route);
}

#[test]
fn label_sets_beyond_the_limit_of_a_tenant_count_in_one_series() {
    let mut governor = governor(config(2, 0));
    let kept = ["a", "b"].map(|route| one(&mut governor, &["shop", "GET", route], 0).0);
    let over = ["c", "d", "c"].map(|route| one(&mut governor, &["shop", "GET", route], 0).0);
    assert!(kept.iter().all(|verdict| matches!(verdict, Verdict::Own(_))));
    assert!(over.iter().all(|verdict| matches!(verdict, Verdict::Overflow(_)) && *verdict == over[0]));
    assert!(governor.touch(over[0].ticket(), 7, 0));
    let report = tenant(&governor);
    assert_eq!((report.series, report.max_series), (2, 2));
    assert_eq!((report.items, report.overflow_sets, report.overflow_items), (12, 2, 10));
    assert_eq!(report.labels[2].values, 2, "what is beyond takes no room");
    let mut labels = set(&["shop", "GET", "c"]);
    assert!(matches!(governor.admit("other", &mut labels, 0), Verdict::Own(_)), "each tenant has its own limit");
}

#[test]
fn what_is_idle_is_forgotten_and_makes_room() {
    let mut governor = governor(config(1, 1));
    let (first, _) = one(&mut governor, &["a"], 0);
    let (over, _) = one(&mut governor, &["b"], 0);
    assert!(matches!(over, Verdict::Overflow(_)));
    assert_eq!(governor.expire(0), []);
    assert!(governor.touch(over.ticket(), 1, 10 * MINUTE));
    assert_eq!(governor.expire(15 * MINUTE), [], "just as long as it may be");
    assert!(governor.touch(over.ticket(), 1, 15 * MINUTE), "held back as long as there is no room");
    assert_eq!(governor.expire(16 * MINUTE - 1), [], "looked at once a minute");
    assert_eq!(governor.expire(16 * MINUTE), [first.ticket().series()]);
    assert!(!governor.touch(first.ticket(), 1, 16 * MINUTE), "forgotten");
    assert!(!governor.touch(over.ticket(), 1, 16 * MINUTE), "there is room");
    let (again, labels) = one(&mut governor, &["b"], 16 * MINUTE);
    assert!(matches!(again, Verdict::Own(_)));
    assert_eq!(labels, ["b"]);
    assert_ne!(again.ticket().series(), first.ticket().series(), "no name is used twice");
    assert_eq!(tenant(&governor).items, 5);
    assert_eq!(governor.expire(100 * MINUTE).len(), 2);
    assert_eq!(governor.report(), Report::default(), "a tenant without series is forgotten");
}

#[test]
fn series_that_are_touched_stay_and_time_does_not_run_back() {
    let mut governor = governor(config(0, 0));
    let (verdict, _) = one(&mut governor, &["a"], 0);
    for minute in 0..60 {
        assert!(governor.touch(verdict.ticket(), 1, minute * MINUTE));
        assert_eq!(governor.expire(minute * MINUTE), []);
    }
    assert!(governor.touch(verdict.ticket(), 1, 0));
    assert_eq!(governor.expire(74 * MINUTE), []);
    assert_eq!(governor.expire(75 * MINUTE).len(), 1);
    let never = CardinalityConfig { idle: Period(Duration::ZERO), ..config(0, 0) };
    let mut governor = self::governor(never);
    one(&mut governor, &["a"], 0);
    assert_eq!(governor.expire(0), []);
    assert_eq!(governor.expire(i64::MAX), []);
}

#[test]
fn a_dry_run_changes_nothing_and_tells_what_would_be() {
    let mut governor = governor(CardinalityConfig { dry_run: true, max_label_value_length: 4, ..config(2, 2) });
    let mut series = Vec::new();
    for route in ["a", "b", "c", "too long"] {
        let (verdict, labels) = one(&mut governor, &["shop", "GET /users/1", route], 0);
        assert_eq!(labels, ["shop", "GET /users/1", route]);
        assert!(matches!(verdict, Verdict::Own(_)));
        series.push(verdict.ticket());
    }
    let report = tenant(&governor);
    assert!(governor.report().dry_run);
    assert_eq!((report.series, report.limited_series), (4, 2));
    // Both have the same labels: `__cardinality_overflow__` stands for either route.
    assert_eq!((report.overflow_sets, report.overflow_items, report.items), (1, 2, 4));
    assert_eq!(report.labels[2].capped_values, 2);
    assert_eq!(report.folded[0].example, "GET /users/1");
    assert_eq!(governor.expire(0), []);
    let expected: Vec<_> = series.iter().map(Ticket::series).collect();
    assert_eq!(governor.expire(16 * MINUTE), expected);
    assert!(series.iter().all(|ticket| !governor.touch(*ticket, 1, 16 * MINUTE)));
}

#[test]
fn names_and_values_are_cut_at_the_boundary_of_a_character() {
    let limits = CardinalityConfig { max_label_name_length: 3, max_label_value_length: 5, ..config(0, 0) };
    let mut governor = Governor::new(limits, ["service", "é", "ééé"], None);
    assert_eq!(governor.labels(), ["ser", "é", "é"]);
    let (_, labels) = one(&mut governor, &["123456", "12345", "1234é"], 0);
    assert_eq!(labels, ["12345", "12345", "1234"]);
    let unlimited = CardinalityConfig { max_label_name_length: 0, max_label_value_length: 0, ..config(0, 0) };
    let mut governor = Governor::new(unlimited, ["service"], None);
    let long = "x".repeat(10_000);
    assert_eq!(one(&mut governor, &[&long], 0).1, [long]);
}

#[test]
fn names_stay_where_folding_is_off() {
    let mut governor = governor(CardinalityConfig { fold_names: false, ..config(0, 0) });
    assert_eq!(one(&mut governor, &["shop", "GET /users/1"], 0).1, ["shop", "GET /users/1"]);
    assert_eq!(tenant(&governor).folded, []);
}

#[test]
fn the_templates_that_stand_for_most_names_are_reported() {
    let mut governor = governor(config(1, 1));
    for (kind, count) in [("a", 3), ("b", 50), ("c", 1), ("d", 7), ("e", 2), ("f", 4)] {
        (0..count).for_each(|id| drop(one(&mut governor, &["shop", &format!("{kind} {id}")], 0)));
    }
    let found: Vec<_> = tenant(&governor).folded.into_iter().map(|folded| (folded.template, folded.names)).collect();
    let expected = [("b {id}", 50), ("d {id}", 7), ("f {id}", 4), ("a {id}", 3), ("e {id}", 2)];
    assert!(found.iter().zip(&expected).all(|(found, expected)| found.0 == expected.0), "{found:?}");
    assert!(found.iter().zip(&expected).all(|(found, expected)| found.1.abs_diff(expected.1) <= 2), "{found:?}");
}

#[test]
fn templates_beyond_what_is_remembered_are_not_reported() {
    let mut governor = governor(config(0, 0));
    for id in 0..2_000 {
        let letters: String = format!("{id:04}").bytes().map(|digit| char::from(digit + 49)).collect();
        one(&mut governor, &["shop", &format!("{letters} 1")], 0);
    }
    let report = tenant(&governor);
    assert_eq!((report.series, report.folded.len()), (2_000, 5));
}

#[test]
fn reports_and_configuration_come_back_as_they_were_written() {
    let mut governor = governor(config(2, 1));
    for name in ["GET /1", "GET /2", "x", "y"] {
        one(&mut governor, &["shop", name, name], 0);
    }
    let report = governor.report();
    let text = serde_json::to_string(&report).unwrap();
    assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
    let config = CardinalityConfig::default();
    let text = serde_json::to_value(&config).unwrap();
    assert_eq!(text["idle"], "15m");
    assert_eq!(serde_json::from_value::<CardinalityConfig>(text).unwrap(), config);
    assert!(serde_json::from_str::<CardinalityConfig>(r#"{"max_serie": 1}"#).is_err());
}

#[test]
fn estimates_are_within_some_percent() {
    for count in [0, 1, 2, 10, 100, 1_000, 2_560, 10_000, 1_000_000_u64] {
        let mut sketch = Sketch::default();
        for id in 0..2 * count {
            // SplitMix64, each twice.
            let mut bits = (id / 2).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            sketch.insert(bits ^ bits >> 31);
        }
        // Three standard deviations.
        assert!(sketch.estimate().abs_diff(count) <= count / 10, "{} for {count}", sketch.estimate());
    }
}
