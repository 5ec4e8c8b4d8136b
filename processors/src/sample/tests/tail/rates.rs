//! Rates, and what is rare.

use super::*;

#[test]
fn of_each_second_so_many_traces_with_the_greatest_randomness_are_kept() {
    let run = run("{rate: {traces_per_second: 2}}").all(&[
        (1000, &[span(5, "5"), span(1, "1")]),
        (1500, &[span(9, "9"), span(5, "5")]),
        (1999, &[span(3, "3")]),
        (2000, &[span(1 << 60, "zero"), span(4, "4"), span(3, "3")]),
        (7000, &[span(1, "1")]),
    ]);
    let mut run = run;
    // Trace 3 belongs to the second in which it began, and takes a place in the next one all the same.
    assert_eq!(run.names(), ["5", "9 5", "4", "1"]);
    let tally = run.tally();
    assert_eq!(tally.outcomes, counts(&[("kept_by_rate", 5)]));
    assert_eq!(tally.dropped, counts(&[("sampled_out", 4)]));
}

#[test]
fn what_stands_beside_a_rate_says_who_takes_a_place() {
    let records: [(i64, &[Given]); 4] = [
        (1000, &[span(9, "9"), failed(span(5, "5"))]),
        (1100, &[span(3, "3")]),
        (1200, &[failed(span(7, "7"))]),
        (1990, &[failed(span(3, "3e"))]),
    ];
    for (policies, expected) in [
        ("{rate: {traces_per_second: 1}}", &["9"][..]),
        ("{and: [{rate: {traces_per_second: 1}}, {error: {}}]}", &["7"]),
        ("{and: [{error: {}}, {rate: {traces_per_second: 2}}]}", &["5", "7"]),
        ("{and: [{error: {}}, {rate: {traces_per_second: 3}}]}", &["5", "3", "7", "3e"]),
        ("{and: [{error: {}}, {or: [{and: [{rate: {traces_per_second: 1}}]}, {probability: {ratio: 0}}]}]}", &["7"]),
        ("{and: [{not: {error: {}}}, {rate: {traces_per_second: 2}}]}", &["9"]),
        ("{or: [{error: {}}, {rate: {traces_per_second: 1}}]}", &["9 5", "3", "7", "3e"]),
        // Both rank by randomness: what the share keeps takes the places first.
        ("{and: [{probability: {ratio: 1}}, {rate: {traces_per_second: 1}}]}", &["9"]),
        ("{and: [{error: {}}, {probability: {ratio: 0}}, {rate: {traces_per_second: 1}}]}", &[]),
    ] {
        assert_eq!(run(policies).all(&records).names(), expected, "{policies}");
    }
}

#[test]
fn several_rates_choose_on_their_own() {
    let error_or_slow = "{and: [{error: {}}, {rate: {traces_per_second: 1}}]}, \
                         {and: [{latency: {threshold: 1s}}, {rate: {traces_per_second: 1}}]}";
    let slow = |given| with(given, |span| span.end_time_unix_nano += 1_000_000_000);
    let spans = [failed(span(1, "1")), failed(span(2, "2")), slow(span(3, "3")), slow(span(4, "4")), span(5, "5")];
    assert_eq!(run(error_or_slow).all(&[(10, &spans)]).names(), ["2 4"]);
}

#[test]
fn a_name_that_few_traces_have_keeps_them() {
    let rare =
        |by: &str| Run::new(&config(&format!("tail: {{decision_wait: 1s, keep_rare: {{fewer_than: 3, by: {by}}}}}")));
    let records: [(i64, &[Given]); 4] = [
        (10, &[span(1, "GET"), span(2, "GET"), child(span(1, "query"))]),
        // Three traces have it, one of them twice.
        (20, &[span(3, "GET"), span(1, "GET")]),
        // Another service, and two traces.
        (30, &[of("cart", span(4, "GET")), child(span(5, "query")), of("cart", span(6, "GET"))]),
        // As seen from the second, the first is out of the window.
        (1029, &[span(7, "GET")]),
    ];
    assert_eq!(rare("root").all(&records).names(), ["GET GET", "GET"]);
    assert_eq!(rare("span").all(&records).names(), ["GET query", "GET", "GET query GET", "GET"]);
    let mut run = rare("span").all(&records);
    assert_eq!(run.tally().outcomes, counts(&[("kept_by_rare", 7)]));
}

#[test]
fn names_that_differ_in_ids_are_one_and_none_is_rare_for_its_id() {
    let mut run = Run::new(&config("tail: {decision_wait: 1s, keep_rare: {fewer_than: 3}}"));
    let records: [(i64, &[Given]); 2] = [
        (10, &[span(1, "GET /users/17"), span(2, "GET /users/4711"), span(3, "GET /users/99")]),
        (20, &[span(4, "GET /")]),
    ];
    run = run.all(&records);
    assert_eq!(run.names(), ["GET /"]);
}
