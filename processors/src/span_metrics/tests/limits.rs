//! Bounds on series, and what they leave right.

use super::*;

fn limited(max_series: u64, max_values: u64) -> Chain {
    let mut config = calls();
    config.intrinsic_dimensions.span_kind = false;
    config.intrinsic_dimensions.status_code = false;
    config.cardinality.max_series = max_series;
    config.cardinality.max_values_per_label = max_values;
    config.cardinality.fold_names = true;
    Chain::new(vec![Box::new(SpanMetrics::new(config).unwrap())])
}

fn of_cluster(cluster: &str, second: i64, names: &[&str]) -> Envelope {
    let mut envelope = envelope(vec![cart(names.iter().map(|name| span(name, 1)).collect())]);
    envelope.cluster = cluster.into();
    envelope.timestamp_ms += second * 1000;
    envelope
}

/// Series without the metric's name, and counts, of what has come since the last commit.
fn counted(chain: &mut Chain) -> Vec<(String, String)> {
    let told = told(&close(chain));
    let plain = |series: &str| series.replace(CALLS, "").replace(" @15", "").replace("service=cart,", "");
    told.into_iter().map(|(series, count)| (plain(&series), count)).collect()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(series, count)| ((*series).to_owned(), (*count).to_owned())).collect()
}

#[test]
fn what_a_limit_makes_of_a_name_in_one_cluster_is_nothing_to_another() {
    let mut chain = limited(0, 2);
    process(&mut chain, of_cluster("full", 0, &["a", "b", "c", "d"]), false);
    let expected = [("{span_name=__cardinality_overflow__}", "2"), ("{span_name=a}", "1"), ("{span_name=b}", "1")];
    assert_eq!(counted(&mut chain), pairs(&expected));
    for _ in 0..2 {
        process(&mut chain, of_cluster("free", 0, &["c", "d"]), false);
        assert_eq!(counted(&mut chain), pairs(&[("{span_name=c}", "1"), ("{span_name=d}", "1")]));
    }
}

#[test]
fn label_sets_beyond_the_limit_count_in_one_series_and_totals_are_right() {
    let mut chain = limited(2, 0);
    let names: Vec<&str> = (0..50).map(|n| ["one", "two", "three", "four"][n % 4]).collect();
    process(&mut chain, of_cluster("eu", 0, &names), false);
    let expected = [("{metric_overflow=true}", "24"), ("{span_name=one}", "13"), ("{span_name=two}", "13")];
    assert_eq!(counted(&mut chain), pairs(&expected));
    process(&mut chain, of_cluster("eu", 0, &["one", "three", "four"]), false);
    let tallies = chain.close(&mut Derived::new("metrics".into(), 4, usize::MAX));
    assert_eq!(tallies[0].1.outcomes["overflow"], 2);
}

#[test]
fn series_in_use_stay_however_long_nothing_new_comes_and_idle_ones_make_room() {
    let mut chain = limited(2, 0);
    process(&mut chain, of_cluster("eu", 0, &["busy", "idle"]), false);
    counted(&mut chain);
    // An hour of the same, and then something new.
    for second in (0..3600).step_by(60) {
        process(&mut chain, of_cluster("eu", second, &["busy"]), false);
        assert_eq!(counted(&mut chain), pairs(&[("{span_name=busy}", "1")]));
    }
    process(&mut chain, of_cluster("eu", 3600, &["new", "newer", "busy"]), false);
    let expected = [("{metric_overflow=true}", "1"), ("{span_name=busy}", "1"), ("{span_name=new}", "1")];
    assert_eq!(counted(&mut chain), pairs(&expected));
}

#[test]
fn names_with_ids_fold_to_one_series_and_the_report_says_so() {
    let mut chain = limited(0, 0);
    let names: Vec<String> = (0..300).map(|n| format!("GET /users/{}", 1000 + n)).collect();
    for _ in 0..2 {
        process(&mut chain, of_cluster("eu", 0, &names.iter().map(String::as_str).collect::<Vec<_>>()), false);
        assert_eq!(counted(&mut chain), pairs(&[("{span_name=GET /users/{id}}", "300")]));
    }
    let report = chain.reports().next().unwrap().1;
    let folded = &report["tenants"][0]["folded"][0];
    assert_eq!(folded["template"], "GET /users/{id}");
    assert!((270..330).contains(&folded["names"].as_u64().unwrap()), "{folded}");
}
