use afflux_schemas::otlp::metrics::{Draft, Exemplar, Kind, Labels, Point, Temporality, Value, read};

use super::state::Write;
use super::*;

mod bus;

const SUM: Kind = Kind::Sum(Temporality::Delta);

fn config() -> AccumulateConfig {
    AccumulateConfig::default()
}

fn state() -> State {
    State::new(Periods::of(&config()))
}

/// A request with one point of a metric that is named after its kind.
fn delta(kind: Kind, service: &str, value: Value<'_>) -> Vec<u8> {
    let exemplars = [Exemplar { time_unix_nano: 1, value: 0.5, trace_id: [7; 16], span_id: [7; 8] }];
    let mut draft = Draft::new(&format!("{kind:?}"), "", kind);
    let point = Point {
        start_time_unix_nano: 0,
        time_unix_nano: 1,
        value: Some(value),
        exemplars: &exemplars,
        ended_bounds: &[],
    };
    draft.add(&Labels::new([("service", service)]), &point);
    afflux_schemas::otlp::metrics::request(&[], "test", &[draft])
}

fn count(service: &str, count: u64) -> Vec<u8> {
    delta(SUM, service, Value::Count(count))
}

fn add(state: &mut State, time_s: i64, value: &[u8]) {
    state.deltas(("eu", ""), value, time_s * 1000).unwrap();
}

/// What is written, as `service time value` in order, times in milliseconds; a tombstone as `gone`.
fn told(writes: &[Write]) -> Vec<String> {
    let mut all = Vec::new();
    for (key, value) in writes {
        let Some(value) = value else {
            all.push("gone".to_owned());
            continue;
        };
        assert!(Identity::read(key).is_some());
        read(value, |series, point| {
            let service = series.labels.pairs().map(|(_, value)| value.to_owned()).collect::<String>();
            let value = match &point.value {
                Some(Value::Count(count)) => count.to_string(),
                Some(Value::Number(number)) => number.to_string(),
                Some(Value::Histogram { sum, counts, .. }) => format!("{counts:?} {sum}"),
                Some(Value::Exponential { sum, scale, zero_count, counts, .. }) => {
                    format!("{scale} {zero_count} {} {sum}", counts.iter().sum::<u64>())
                }
                None => "end".into(),
            };
            all.push(format!("{service} {} {value}", point.time_unix_nano / 1_000_000));
        })
        .unwrap();
    }
    all.sort();
    all
}

#[test]
fn a_series_begins_with_zero_and_has_one_sample_for_each_interval_in_which_it_changes() {
    let mut state = state();
    assert!(!state.ends(1_000_000_000), "nothing is due");
    add(&mut state, 100, &count("a", 2));
    add(&mut state, 104, &count("a", 3));
    add(&mut state, 101, &count("b", 1));
    assert!(!state.ends(104_999) && state.ends(105_000));
    assert_eq!(told(&state.sample()), ["a 105000 5", "a 90001 0", "b 105000 1", "b 90001 0"]);
    add(&mut state, 119, &count("a", 1));
    assert_eq!(told(&state.sample()), ["a 120000 6"]);
    add(&mut state, 150, &count("b", 1));
    assert_eq!(told(&state.sample()), ["b 165000 2"]);
}

#[test]
fn samples_of_a_series_never_share_a_time_nor_go_back() {
    let mut state = state();
    add(&mut state, 100, &count("a", 1));
    assert!(state.ends(105_000));
    assert_eq!(told(&state.sample()).len(), 2);
    // More of the interval that the wall clock has ended.
    add(&mut state, 101, &count("a", 1));
    assert!(!state.ends(119_999) && state.ends(120_000));
    assert_eq!(told(&state.sample()), ["a 120000 2"]);
}

#[test]
fn every_kind_adds_up_and_a_number_takes_the_place_of_the_one_before() {
    let mut state = state();
    let histogram = |counts| Value::Histogram { sum: 1.5, bounds: &[0.1], counts };
    let native = |scale, offset| Value::Exponential { sum: 2.0, scale, zero_count: 1, offset, counts: &[3] };
    let (classic, exponential) = (Kind::Histogram(Temporality::Delta), Kind::Exponential(Temporality::Delta));
    for (kind, value) in [
        (Kind::Gauge, Value::Number(4.0)),
        (Kind::Gauge, Value::Number(3.0)),
        (classic, histogram(&[1, 2])),
        (classic, histogram(&[10, 20])),
        (exponential, native(3, 8)),
        (exponential, native(2, 5)),
    ] {
        add(&mut state, 100, &delta(kind, &format!("{kind:?}")[..1], value));
    }
    let expected = ["E 105000 2 2 6 4", "E 90001 3 0 0 0", "G 105000 3", "H 105000 [11, 22] 3", "H 90001 [0, 0] 0"];
    assert_eq!(told(&state.sample()), expected);
}

#[test]
fn what_is_cumulative_already_or_malformed_adds_nothing() {
    let mut state = state();
    let cumulative = delta(Kind::Sum(Temporality::Cumulative), "a", Value::Count(5));
    add(&mut state, 100, &cumulative);
    let mut broken = count("a", 5);
    broken.extend_from_slice(&count("b", 5));
    broken.pop();
    assert!(state.deltas(("eu", ""), &broken, 100_000).is_err());
    assert_eq!(state.len(), 0);
}

#[test]
fn a_histogram_whose_bounds_change_begins_again_behind_its_last_sample() {
    let mut state = state();
    let classic = Kind::Histogram(Temporality::Delta);
    add(&mut state, 100, &delta(classic, "a", Value::Histogram { sum: 1.0, bounds: &[0.1], counts: &[1, 2] }));
    state.sample();
    add(&mut state, 106, &delta(classic, "a", Value::Histogram { sum: 1.0, bounds: &[0.2], counts: &[0, 1] }));
    assert_eq!(told(&state.sample()), ["a 105001 [0, 0] 0", "a 120000 [0, 1] 1"]);
    assert_eq!(state.resets, 1);
}

#[test]
fn clusters_tenants_and_metrics_are_told_apart() {
    let mut state = state();
    for owner in [("eu", ""), ("us", ""), ("eu", "t")] {
        state.deltas(owner, &count("a", 1), 100_000).unwrap();
    }
    assert_eq!(state.len(), 3);
    let writes = state.sample();
    let mut owners: Vec<_> =
        writes.iter().map(|(key, _)| Identity::read(key).unwrap()).map(|i| (i.cluster, i.tenant)).collect();
    owners.sort_unstable();
    assert_eq!(owners, [("eu", ""), ("eu", "t"), ("us", "")]);
}

#[test]
fn exemplars_come_with_the_next_sample_one_for_each_bucket() {
    let mut state = state();
    let classic = Kind::Histogram(Temporality::Delta);
    for _ in 0..3 {
        add(&mut state, 100, &delta(classic, "a", Value::Histogram { sum: 1.0, bounds: &[0.1], counts: &[1, 2] }));
    }
    for expected in [1, 0] {
        let mut found = 0;
        for (_, value) in state.sample() {
            read(&value.unwrap(), |_, point| found += point.exemplars.len()).unwrap();
        }
        assert_eq!(found, expected);
        let none = Draft::new("none", "", SUM);
        assert_eq!(none.count(), 0);
        let quiet = Point {
            start_time_unix_nano: 0,
            time_unix_nano: 1,
            value: Some(Value::Histogram { sum: 1.0, bounds: &[0.1], counts: &[1, 2] }),
            exemplars: &[],
            ended_bounds: &[],
        };
        let mut draft = Draft::new(&format!("{classic:?}"), "", classic);
        draft.add(&Labels::new([("service", "a")]), &quiet);
        add(&mut state, 106, &afflux_schemas::otlp::metrics::request(&[], "test", &[draft]));
    }
}

#[test]
fn a_silent_series_is_repeated_then_ended_and_may_come_again() {
    let mut state = state();
    add(&mut state, 0, &count("quiet", 7));
    let mut seen = Vec::new();
    for time in (0..1200).step_by(15) {
        if state.ends(time * 1000) {
            seen.extend(told(&state.sample()).into_iter().filter(|line| !line.starts_with("busy")));
        }
        add(&mut state, time, &count("busy", 1));
    }
    let samples: Vec<i64> =
        seen.iter().filter_map(|line| line.strip_prefix("quiet ")?.strip_suffix(" 7")?.parse().ok()).collect();
    assert!(samples.windows(2).all(|pair| pair[1] - pair[0] <= 180_000), "never long without: {samples:?}");
    assert!(samples.len() < 12, "not with every interval: {samples:?}");
    let end: Vec<_> = seen.iter().filter(|line| line.ends_with("end") || *line == "gone").collect();
    assert_eq!(end.len(), 2, "{seen:?}");
    let ended: i64 =
        end.iter().find_map(|line| line.strip_prefix("quiet ")?.strip_suffix(" end")?.parse().ok()).unwrap();
    assert!((900_000..1_000_000).contains(&ended) && ended > *samples.last().unwrap(), "{ended} {samples:?}");
    add(&mut state, 1200, &count("quiet", 1));
    assert_eq!(told(&state.sample())[1..], ["quiet 1200001 0", "quiet 1215000 1"]);
}

#[test]
fn what_has_been_silent_for_long_ends_by_the_clock_and_begins_again_with_zero() {
    let mut state = state();
    add(&mut state, 100, &count("a", 1));
    add(&mut state, 100, &count("b", 1));
    state.sample();
    assert_eq!(told(&state.end_all(2_000_007)), ["a 1994999 end", "b 1994999 end", "gone", "gone"]);
    assert_eq!(state.len(), 0);
    add(&mut state, 2_001, &count("a", 4));
    assert_eq!(told(&state.sample()), ["a 1995001 0", "a 2010000 4"]);
}

#[test]
fn the_end_of_a_histogram_says_its_bounds() {
    let mut state = state();
    let histogram = Value::Histogram { sum: 0.5, bounds: &[0.1, 0.2], counts: &[1, 2, 0] };
    add(&mut state, 100, &delta(Kind::Histogram(Temporality::Delta), "h", histogram));
    state.sample();
    let (_, end) = state.end_all(2_000_000).remove(0);
    let mut seen = Vec::new();
    read(&end.unwrap(), |_, point| seen.push((point.value.is_none(), point.ended_bounds.to_vec()))).unwrap();
    assert_eq!(seen, [(true, vec![0.1, 0.2])]);
}

#[test]
fn a_state_that_was_read_back_goes_on_as_the_one_that_was_written() {
    let (mut one, mut log) = (state(), Vec::new());
    let native = Value::Exponential { sum: 2.0, scale: 3, zero_count: 1, offset: 8, counts: &[3, 0, 4] };
    let inputs = |state: &mut State, time| {
        add(state, time, &count("a", 2));
        add(state, time, &delta(Kind::Gauge, "g", Value::Number(time as f64)));
        add(state, time, &delta(Kind::Exponential(Temporality::Delta), "e", native.clone()));
        let histogram = Value::Histogram { sum: 0.5, bounds: &[0.1], counts: &[1, 2] };
        add(state, time, &delta(Kind::Histogram(Temporality::Delta), "h", histogram));
    };
    for round in 0..20 {
        inputs(&mut one, 100 + round * 10);
        if round % 3 == 2 {
            log.extend(one.sample());
            let mut other = state();
            for (key, value) in &log {
                other.restore(key, value.as_ref()).unwrap();
            }
            assert_eq!(other.len(), one.len());
            let (mut a, mut b) = (one, other);
            inputs(&mut a, 107 + round * 10);
            inputs(&mut b, 107 + round * 10);
            let (mut written, mut again) = (a.sample(), b.sample());
            written.sort();
            again.sort();
            assert_eq!(written, again);
            log.extend(written);
            one = b;
        }
    }
}
